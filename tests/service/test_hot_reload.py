"""Changed policy files come into force: real files, real time, the ways in which people and tools really save."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from authz.errors import LoadError, Problem
from authz.model import Source
from authz.policy.files import PolicyFile
from authz.policy.store import Events, PolicyStore, file_events

IN_FORCE_WITHIN = 1.0  # seconds after the save: what issue 2 promises
BOUND = 2.0  # seconds that any wait may take
SETTLE = timedelta(milliseconds=150)


class Observed:
    """Hears what the store tells and keeps it."""

    def __init__(self) -> None:
        self.reloads: list[bytes] = []
        self.refusals: list[str] = []
        self.mends: list[bytes] = []
        self.stale: list[Path] = []

    def reloaded(self, policies: bytes) -> None:
        self.reloads.append(policies)

    def refused(self, error: LoadError) -> None:
        self.refusals.append(str(error))

    def mended(self, policies: bytes) -> None:
        self.mends.append(policies)

    def stale_mount(self, path: Path) -> None:
        self.stale.append(path)


def join(files: Sequence[PolicyFile]) -> bytes:
    """Stand in for the parser: the set is its bytes; a file that holds `broken` does not load."""
    problems = [Problem(Source(name, 1, 1), "broken") for name, data in files if b"broken" in data]
    if problems:
        raise LoadError(problems)
    return b"".join(data for _, data in files)


class Stand:
    """A store that is being watched, and what it told."""

    def __init__(self, path: Path, events: Events | None) -> None:
        self.told = Observed()
        self.store = PolicyStore(path, compile=join, observe=self.told, events=events)

    async def until(self, holds: Callable[[], bool], within: float = IN_FORCE_WITHIN) -> None:
        """Wait for it, and say how long it took if that was too long."""
        start = time.monotonic()
        while not holds():
            assert time.monotonic() - start < BOUND, (self.store.current, vars(self.told))
            await asyncio.sleep(0.01)
        assert time.monotonic() - start <= within

    async def in_force(self, content: bytes, within: float = IN_FORCE_WITHIN) -> None:
        await self.until(lambda: self.store.current == content, within)


@asynccontextmanager
async def watched(path: Path, events: Events | None = file_events) -> AsyncIterator[Stand]:
    stand = Stand(path, events)
    stand.store.load()
    watching = asyncio.create_task(stand.store.watch())
    await asyncio.sleep(0.05)  # let the watcher start; nothing depends on it
    try:
        yield stand
        assert not watching.done()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def events_that_fail(*_: object) -> AsyncGenerator[bool, None]:
    raise OSError("no watches left")
    yield True


WITH_AND_WITHOUT_EVENTS = pytest.mark.parametrize(
    "events",
    [
        pytest.param(file_events, id="with file events"),
        pytest.param(None, id="polling alone"),
    ],
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    save(folder / "orders.yaml", b"old\n")
    return folder


def save(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def save_by_rename(path: Path, content: bytes) -> None:
    beside = path.with_name(".new")
    beside.write_bytes(content)
    beside.rename(path)


def move(path: Path, target: Path) -> None:
    path.rename(target)


def replace_folder(folder: Path, content: bytes) -> None:
    (folder / "orders.yaml").unlink()
    folder.rmdir()
    folder.mkdir()
    save(folder / "orders.yaml", content)


class TestSaving:
    @WITH_AND_WITHOUT_EVENTS
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda folder: save(folder / "orders.yaml", b"new\n"), id="saved in place"),
            pytest.param(lambda folder: save_by_rename(folder / "orders.yaml", b"new\n"), id="written and renamed"),
            pytest.param(lambda folder: replace_folder(folder, b"new\n"), id="folder deleted and created again"),
        ],
    )
    async def test_a_saved_file_is_in_force_within_a_second(
        self, folder: Path, change: Callable[[Path], None], events: Events | None
    ) -> None:
        async with watched(folder, events) as stand:
            change(folder)
            await stand.in_force(b"new\n")
            assert stand.told.reloads == [b"new\n"]
            assert stand.told.refusals == []

    @WITH_AND_WITHOUT_EVENTS
    async def test_a_config_map_swap_is_in_force_within_a_second(self, tmp_path: Path, events: Events | None) -> None:
        folder = tmp_path / "policies"
        for day, content in (("..2026_01", b"old\n"), ("..2026_02", b"new\n"), ("..2026_03", b"newer\n")):
            (folder / day).mkdir(parents=True)
            save(folder / day / "orders.yaml", content)
        (folder / "..data").symlink_to("..2026_01")
        (folder / "orders.yaml").symlink_to("..data/orders.yaml")
        async with watched(folder, events) as stand:
            for day, content in (("..2026_02", b"new\n"), ("..2026_03", b"newer\n")):
                (folder / "..data_tmp").symlink_to(day)
                (folder / "..data_tmp").rename(folder / "..data")
                await stand.in_force(content)
            assert stand.told.refusals == []

    @WITH_AND_WITHOUT_EVENTS
    async def test_a_single_file_is_followed_through_every_rename(self, folder: Path, events: Events | None) -> None:
        async with watched(folder / "orders.yaml", events) as stand:
            for content in (b"one\n", b"two\n"):  # a watched file is lost at its first swap
                save_by_rename(folder / "orders.yaml", content)
                await stand.in_force(content)

    async def test_a_watcher_that_raises_leaves_the_poll(self, folder: Path) -> None:
        async with watched(folder, events_that_fail) as stand:
            save(folder / "orders.yaml", b"new\n")
            await stand.in_force(b"new\n")

    async def test_files_come_go_and_nest(self, folder: Path) -> None:
        async with watched(folder) as stand:
            (folder / "team").mkdir()
            save(folder / "team" / "a.yml", b"a\n")
            await stand.in_force(b"old\na\n")
            save(folder / "team" / "a.yml", b"b\n")
            (folder / "orders.yaml").unlink()
            await stand.in_force(b"b\n")

    async def test_a_replaced_folder_is_followed_by_events_again(self, folder: Path) -> None:
        async with watched(folder) as stand:
            replace_folder(folder, b"new\n")
            await stand.in_force(b"new\n")
            save(folder / "orders.yaml", b"newer\n")
            await stand.in_force(b"newer\n")


class TestWriting:
    async def test_a_slow_writer_never_puts_a_part_in_force(self, folder: Path) -> None:
        pieces = [b"piece %d\n" % number for number in range(12)]
        gaps: list[float] = []

        def write_slowly() -> None:
            with (folder / "orders.yaml").open("wb", buffering=0) as file:
                last = time.monotonic()
                for piece in pieces:
                    file.write(piece)
                    gaps.append(time.monotonic() - last)
                    last = time.monotonic()
                    time.sleep(0.05)

        async with watched(folder) as stand:
            writer = threading.Thread(target=write_slowly)
            writer.start()
            await stand.in_force(b"".join(pieces), within=BOUND)
            writer.join()
            if max(gaps) < SETTLE.total_seconds():  # else this machine paused the writer for longer than we promise
                assert stand.told.reloads == [b"".join(pieces)]
            assert stand.told.refusals == []

    async def test_one_file_still_being_written_holds_back_the_whole_set(self, folder: Path) -> None:
        gaps: list[float] = []
        async with watched(folder) as stand:
            save(folder / "orders.yaml", b"new\n")
            last = time.monotonic()
            for number in range(8):
                save(folder / "users.yaml", b"users %d\n" % number)
                gaps.append(time.monotonic() - last)
                last = time.monotonic()
                await asyncio.sleep(0.05)
            await stand.in_force(b"new\nusers 7\n")
            if max(gaps) < SETTLE.total_seconds():
                assert stand.told.reloads == [b"new\nusers 7\n"]

    async def test_a_burst_of_saves_ends_with_the_last(self, folder: Path) -> None:
        async with watched(folder) as stand:
            for number in range(50):
                save_by_rename(folder / "orders.yaml", b"save %d\n" % number)
            await stand.in_force(b"save 49\n")
            assert len(stand.told.reloads) < 5

    async def test_a_write_that_stopped_in_a_line_is_refused_until_it_is_finished(self, folder: Path) -> None:
        save(folder / "orders.yaml", b"allow: a\nbut_not: b\n")
        async with watched(folder) as stand:
            save(folder / "orders.yaml", b"allow: a\nbut_")
            await stand.until(lambda: bool(stand.told.refusals))
            assert stand.told.refusals[0].startswith("policies/orders.yaml:2:1: looks cut off")
            assert stand.store.current == b"allow: a\nbut_not: b\n"
            save(folder / "orders.yaml", b"allow: a\nbut_not: c\n")
            await stand.in_force(b"allow: a\nbut_not: c\n")


class TestRefusing:
    async def test_a_broken_save_keeps_the_last_good_set_until_a_good_one(self, folder: Path) -> None:
        async with watched(folder) as stand:
            save(folder / "orders.yaml", b"broken\n")
            await stand.until(lambda: bool(stand.told.refusals))
            assert stand.store.current == b"old\n"
            os.utime(folder / "orders.yaml")  # another signature, the same bad content
            await asyncio.sleep(0.6)
            assert stand.told.refusals == ["policies/orders.yaml:1:1: broken"]
            assert stand.store.error is not None
            save(folder / "orders.yaml", b"good\n")
            await stand.in_force(b"good\n")
            assert stand.store.error is None

    async def test_a_reverted_save_ends_the_error_without_a_reload(self, folder: Path) -> None:
        async with watched(folder) as stand:
            for times in (1, 2):  # the second time it is news again
                save(folder / "orders.yaml", b"broken\n")
                await stand.until(lambda times=times: len(stand.told.refusals) == times)
                save(folder / "orders.yaml", b"old\n")
                await stand.until(lambda: stand.store.error is None)
            assert (stand.told.reloads, stand.told.mends) == ([], [b"old\n", b"old\n"])

    async def test_a_folder_moved_away_is_told_once_and_welcome_back_unchanged(self, folder: Path) -> None:
        async with watched(folder) as stand:
            move(folder, folder.with_name("away"))
            await stand.until(lambda: bool(stand.told.refusals))
            await asyncio.sleep(0.4)
            assert stand.store.current == b"old\n"
            move(folder.with_name("away"), folder)
            await stand.until(lambda: stand.store.error is None)
            assert len(stand.told.refusals) == 1
            assert "no such file or folder" in stand.told.refusals[0]
            assert (stand.told.reloads, stand.told.mends) == ([], [b"old\n"])

    async def test_an_unchanged_content_is_no_reload(self, folder: Path) -> None:
        async with watched(folder) as stand:
            save_by_rename(folder / "orders.yaml", b"old\n")
            await asyncio.sleep(0.6)
            assert (stand.told.reloads, stand.told.refusals) == ([], [])


class TestAsking:
    async def test_reload_now_sees_what_the_signature_hides_and_reports_anew(self, folder: Path) -> None:
        async with watched(folder) as stand:
            stand.store.reload_now()
            await asyncio.sleep(0.1)
            assert stand.told.reloads == []
            save(folder / "orders.yaml", b"broken\n")
            await stand.until(lambda: len(stand.told.refusals) == 1)
            stand.store.reload_now()
            await stand.until(lambda: len(stand.told.refusals) == 2)
            save(folder / "orders.yaml", b"new\n")
            stand.store.reload_now()
            await stand.in_force(b"new\n")


class TestStaleMount:
    async def test_a_file_that_only_a_mount_still_shows_is_told_once(self, tmp_path: Path) -> None:
        path = tmp_path / "orders.yaml"
        save(path, b"old\n")
        with path.open("rb") as mount:  # a descriptor's path shows the deleted file, as a bind mount does
            async with watched(Path(f"/proc/self/fd/{mount.fileno()}")) as stand:
                save_by_rename(path, b"new\n")
                await stand.until(lambda: bool(stand.told.stale))
                await asyncio.sleep(0.4)
                assert stand.told.stale == [Path(f"/proc/self/fd/{mount.fileno()}")]
                assert stand.store.current == b"old\n"
                assert (stand.told.reloads, stand.told.refusals) == ([], [])


class TestCancelling:
    async def test_cancelled_means_cancelled(self, folder: Path) -> None:
        store = PolicyStore(folder, compile=join, observe=Observed())
        watching = asyncio.create_task(store.watch())
        await asyncio.sleep(0.1)
        watching.cancel()
        start = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await watching
        assert time.monotonic() - start < IN_FORCE_WITHIN
