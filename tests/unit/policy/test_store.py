from __future__ import annotations

import asyncio
import os
import socket
import time
import weakref
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authz.errors import LoadError, Problem
from authz.model import Source
from authz.policy import files as files_module
from authz.policy import store as store_module
from authz.policy.files import (
    FileState,
    Listing,
    PolicyFile,
    PolicySource,
    changed_around,
    changed_within,
    cut_off,
    is_policy_file,
    read_files,
)
from authz.policy.shared_files import SharedFiles
from authz.policy.store import PolicyStore, Settling, file_events, stale_mount_message
from authz.shared_memory import Shared, shared_memory

SETTLE = timedelta(milliseconds=150)
AT_ONCE = timedelta(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "orders.yaml").write_bytes(b"orders\n")
    return folder


def names(path: Path) -> list[str]:
    return [file.name for file in read_files(path).files]


def problems_of(path: Path) -> list[str]:
    with pytest.raises(LoadError) as caught:
        read_files(path)
    return [str(problem) for problem in caught.value.problems]


class TestWhichFiles:
    @pytest.mark.parametrize("name", ["a.yaml", "a.yml", "test.yaml", "a_test.b.yaml", "a_test.yml", "a b.yml"])
    def test_belongs_to_the_set(self, name: str) -> None:
        assert is_policy_file(name)

    @pytest.mark.parametrize(
        "name", ["a_test.yaml", ".a.yaml", ".yaml", "a.yaml~", "a.json", "yaml", "a.YAML", "a.yaml.bak"]
    )
    def test_does_not_belong_to_the_set(self, name: str) -> None:
        assert not is_policy_file(name)

    @pytest.mark.parametrize(("setting", "names"), [
        ("policies", ["a.YAML", "a.Yml"]),
        ("revocations", ["a.YAML", "a.Yml", "a.json"]),
    ])  # fmt: skip
    def test_what_only_seems_to_belong_to_it_is_a_problem(self, folder: Path, setting: str, names: list[str]) -> None:
        for name in ("good.yaml", "README.md", "notes.yaml~", ".hidden.YAML", *names):
            (folder / name).write_text("[]\n")
        with pytest.raises(LoadError) as caught:
            read_files(folder, setting)
        assert [str(problem) for problem in caught.value.problems] == [
            f"{folder.name}/{name}:1:1: is not read, because its name does not end in `.yaml` or `.yml`: "
            "rename or remove it"
            for name in names
        ]

    def test_tests_are_the_policies_alone(self, folder: Path) -> None:
        for file in folder.iterdir():
            file.unlink()
        for name in ("a.yaml", "a_test.yaml"):
            (folder / name).write_text("[]\n")
        assert [file.name for file in read_files(folder).files] == [f"{folder.name}/a.yaml"]
        names = [file.name for file in read_files(folder, "revocations").files]
        assert names == [f"{folder.name}/{name}" for name in ("a.yaml", "a_test.yaml")]

    def test_a_folder_is_read_below_in_order_of_relative_paths(self, folder: Path) -> None:
        for name in (
            "b/z.yml",
            "b/a.yaml",
            "b.yaml",
            "b/c/d.yaml",
            ".git/x.yaml",
            "b/.x/y.yaml",
            "a_test.yaml",
            "n.md",
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x\n")
        assert names(folder) == [
            "policies/b.yaml",
            "policies/b/a.yaml",
            "policies/b/c/d.yaml",
            "policies/b/z.yml",
            "policies/orders.yaml",
        ]

    def test_a_single_file_may_have_any_name(self, folder: Path) -> None:
        (folder / ".rules_test.txt").write_bytes(b"x\n")
        assert read_files(folder / ".rules_test.txt").files == (PolicyFile(".rules_test.txt", b"x\n"),)

    def test_linked_files_and_folders_are_followed_and_a_loop_ends(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared" / "users.yaml").write_bytes(b"users\n")
        (folder / "again").symlink_to(tmp_path / "shared")
        (folder / "linked.yaml").symlink_to("orders.yaml")
        (folder / "loop").symlink_to(folder)
        (folder / "once-more").symlink_to(tmp_path / "shared")
        assert names(folder) == ["policies/again/users.yaml", "policies/linked.yaml", "policies/orders.yaml"]

    def test_a_name_that_is_no_text_is_shown_escaped(self, folder: Path) -> None:
        (folder / os.fsdecode(b"a\n\xff.yaml")).write_bytes(b"x\n")
        assert names(folder)[0] == "policies/a\\n\\udcff.yaml"

    def test_the_signature_tells_every_version_apart(self, folder: Path) -> None:
        before = read_files(folder).signature
        assert before == read_files(folder).signature
        os.utime(folder / "orders.yaml", ns=(0, before[0].modified_ns))  # only the change time tells
        assert before != read_files(folder).signature


class TestWhatIsWrong:
    def test_a_missing_path(self, tmp_path: Path) -> None:
        missing = tmp_path / "none" / "policies"
        problem = f"{missing}:1:1: no such file or folder: create it, or correct"
        assert problems_of(missing) == [f"{problem} its path"]
        assert [str(one) for one in PolicySource(missing).look().problems] == [f"{problem} `policies`"]

    def test_a_path_through_a_file(self, folder: Path) -> None:
        assert "cannot be read (Not a directory)" in problems_of(folder / "orders.yaml" / "x")[0]

    def test_a_folder_without_a_policy(self, folder: Path) -> None:
        (folder / "orders.yaml").rename(folder / "orders_test.yaml")
        assert "no policy file in this folder: add a *.yaml" in problems_of(folder)[0]
        assert "(*_test.yaml and names that start with a dot do not count)" in problems_of(folder)[0]
        (folder / "orders_test.yaml").unlink()
        with pytest.raises(LoadError, match=r"\(names that start with a dot do not count\)"):
            read_files(folder, "revocations")

    def test_every_problem_at_once(self, folder: Path) -> None:
        (folder / "a.yaml").symlink_to("nothing")
        (folder / "b").symlink_to("nothing")
        with socket.socket(socket.AF_UNIX) as unix, (folder / "d.yaml").open("wb") as large:
            unix.bind(str(folder / "c.yaml"))
            large.truncate(files_module.MAX_FILE_BYTES + 1)
        unreadable = "cannot be read (No such file or directory): let the service's user read it, or remove it"
        assert problems_of(folder) == [
            f"policies/a.yaml:1:1: {unreadable}",
            f"policies/b:1:1: {unreadable}",
            "policies/c.yaml:1:1: not a regular file: put a file or a link to a file there",
            "policies/d.yaml:1:1: larger than 16 MiB: split it into several files",
        ]

    def test_a_folder_below_that_cannot_be_listed(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "b").mkdir()
        scandir = os.scandir

        def refuse(path: Path) -> object:
            if path.name == "b":
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)  # root, who runs the tests in a container, may list everything
        assert "policies/b/:1:1: cannot be read (Permission denied)" in problems_of(folder)[0]

    def test_a_file_that_goes_or_grows_while_it_is_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "users.yaml").write_bytes(b"users\n")
        source = PolicySource(folder)
        listing = source.look()
        (folder / "orders.yaml").unlink()
        monkeypatch.setattr(files_module, "MAX_FILE_BYTES", 5)
        with pytest.raises(LoadError) as caught:
            source.read(listing)
        gone, grown = map(str, caught.value.problems)
        assert gone.startswith("policies/orders.yaml:1:1: cannot be read (No such file or directory)")
        assert grown.startswith("policies/users.yaml:1:1: larger than")

    @pytest.mark.parametrize(("limit", "what"), [("MAX_FILES", "policy files"), ("MAX_FOLDERS", "folders")])
    def test_too_many(self, folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, what: str) -> None:
        for number in range(3):
            (folder / str(number)).mkdir()
            (folder / str(number) / "a.yaml").write_bytes(b"x\n")
        monkeypatch.setattr(files_module, limit, 2)
        assert problems_of(folder) == [f"{folder}:1:1: more than 2 {what}: is `policies` the right path?"]


class TestReadingUnmoved:
    def test_what_keeps_still_is_read(self, folder: Path) -> None:
        source = PolicySource(folder)
        assert source.read_unmoved(source.look()) == (PolicyFile("policies/orders.yaml", b"orders\n"),)

    def test_what_moved_since_it_was_listed_is_not_taken(self, folder: Path) -> None:
        source = PolicySource(folder)
        listing = source.look()
        (folder / "orders.yaml").write_bytes(b"more orders\n")
        assert source.read_unmoved(listing) is None

    def test_what_vanished_since_it_was_listed_is_no_error_yet(self, folder: Path) -> None:
        source = PolicySource(folder)
        listing = source.look()
        (folder / "orders.yaml").unlink()
        assert source.read_unmoved(listing) is None

    @pytest.mark.timeout(10)  # what opens the pipe to read it waits for a writer, who never comes
    def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(self, folder: Path) -> None:
        source = PolicySource(folder)
        listing = source.look()
        (folder / "orders.yaml").unlink()
        os.mkfifo(folder / "orders.yaml")
        assert source.read_unmoved(listing) is None

    def test_a_problem_that_stays_is_an_error(self, folder: Path) -> None:
        (folder / "orders.yaml").unlink()
        source = PolicySource(folder)
        with pytest.raises(LoadError, match="no policy file"):
            source.read_unmoved(source.look())


def listing(changed_ns: int = 0, modified_ns: int = 0, links: int = 1) -> Listing:
    return Listing((FileState("a.yaml", Path("a.yaml"), 1, 2, 3, modified_ns, changed_ns, links),), (), ())


class TestSettling:
    def test_a_change_must_keep_still_for_the_whole_time(self) -> None:
        settling = Settling(SETTLE)
        assert settling.wait(listing(1), now=10.0) == pytest.approx(0.15)
        assert settling.wait(listing(1), now=10.1) == pytest.approx(0.05)
        assert settling.wait(listing(1), now=10.25) == 0

    def test_another_change_starts_the_time_anew(self) -> None:
        settling = Settling(SETTLE)
        settling.wait(listing(1), now=10.0)
        assert settling.wait(listing(2), now=10.14) == pytest.approx(0.15)
        assert settling.wait(listing(2), now=10.16) == pytest.approx(0.13)

    def test_what_was_judged_is_left_alone_until_it_changes(self) -> None:
        settling = Settling(SETTLE)
        settling.wait(listing(1), now=10.0)
        settling.judged(listing(1))
        assert settling.wait(listing(1), now=20.0) is None
        assert settling.wait(listing(2), now=20.1) == pytest.approx(0.15)

    def test_asked_again_reads_at_once_what_kept_still_long_enough(self) -> None:
        settling = Settling(SETTLE)
        settling.wait(listing(1), now=10.0)
        settling.judged(listing(1))
        settling.ask_again()
        assert settling.wait(listing(1), now=20.0) == 0

    @pytest.mark.parametrize(
        ("changed_ns", "modified_ns", "young"),
        [
            pytest.param(850_000_000, 0, False, id="as old as the span"),
            pytest.param(850_000_001, 0, True, id="changed within the span"),
            pytest.param(0, 900_000_000, True, id="modified within the span"),
            pytest.param(2_000_000_000, 0, True, id="from the future"),
        ],
    )
    def test_the_age_of_the_youngest_file(self, changed_ns: int, modified_ns: int, young: bool) -> None:
        assert changed_within(listing(changed_ns, modified_ns), SETTLE, now_ns=1_000_000_000) is young

    @pytest.mark.parametrize(
        ("changed_ns", "modified_ns", "near"),
        [
            pytest.param(850_000_000, 0, False, id="as far as the span"),
            pytest.param(850_000_001, 0, True, id="just before"),
            pytest.param(0, 1_149_999_999, True, id="just after, by another clock"),
            pytest.param(1_150_000_000, 0, False, id="long after"),
        ],
    )
    def test_a_time_that_the_next_change_could_have_too(self, changed_ns: int, modified_ns: int, near: bool) -> None:
        assert changed_around(listing(changed_ns, modified_ns), SETTLE, now_ns=1_000_000_000) is near


class TestCutOff:
    IN_FORCE = (PolicyFile("a.yaml", b"one: 1\r\ntwo: 2\r\n"), PolicyFile("b.yaml", b"x"))

    @pytest.mark.parametrize(
        ("data", "line"),
        [
            pytest.param(b"o", 1, id="in the first line"),
            pytest.param(b"one: 1\r", 1, id="between the two characters of a line's end"),
            pytest.param(b"one: 1\r\ntwo: 2", 2, id="before the last line's end"),
        ],
    )
    def test_the_beginning_of_the_version_in_force_is_refused(self, data: bytes, line: int) -> None:
        (problem,) = cut_off([PolicyFile("a.yaml", data)], self.IN_FORCE)
        assert problem.source == Source("a.yaml", line, 1)
        assert problem.message.startswith("looks cut off: it is the beginning of the version in force")

    @pytest.mark.parametrize(
        "file",
        [
            pytest.param(PolicyFile("a.yaml", b"one: 1\r\n"), id="whole lines may have been removed"),
            pytest.param(PolicyFile("a.yaml", b""), id="the parser judges an empty file"),
            pytest.param(PolicyFile("a.yaml", b"one: 2"), id="another content"),
            pytest.param(PolicyFile("b.yaml", b"x"), id="the same content, without a last line's end"),
            pytest.param(PolicyFile("c.yaml", b"one"), id="a new file"),
        ],
    )
    def test_anything_else_passes(self, file: PolicyFile) -> None:
        assert cut_off([file], self.IN_FORCE) == []


class Told:
    """Hears what the store tells, and may be unable to write it down."""

    def __init__(self, failing: bool = False) -> None:
        self.all: list[tuple[str, Any]] = []
        self._failing = failing

    def reloaded(self, policies: bytes) -> None:
        self._note("reloaded", policies)

    def taken_over(self, policies: bytes, found_at: float) -> None:
        self._note("taken over", (policies, found_at))

    def refused(self, error: LoadError) -> None:
        self._note("refused", str(error))

    def mended(self, policies: bytes) -> None:
        self._note("mended", policies)

    def stale_mount(self, path: Path) -> None:
        self._note("stale", path)

    def _note(self, what: str, detail: object) -> None:
        self.all.append((what, detail))
        if self._failing:
            raise BrokenPipeError


def join(files: Sequence[PolicyFile]) -> bytes:
    content = b"".join(data for _, data in files)
    if b"bug" in content:
        raise KeyError("something secret")
    if b"broken" in content:
        raise LoadError([Problem(Source(files[0].name, 1, 1), "broken")])
    return content


def store_of(path: Path, told: Told, **more: object) -> PolicyStore[bytes]:
    options = {"settle": AT_ONCE, "poll": timedelta(milliseconds=5), "events": None, **more}
    return PolicyStore(path, compile=join, observe=told, **options)


async def watch_while(store: PolicyStore[bytes], told: Told, count: int) -> None:
    """Watch until the observer was told `count` things."""
    watching = asyncio.create_task(store.watch())
    async with asyncio.timeout(2):
        while len(told.all) < count and not watching.done():  # noqa: ASYNC110 - the observer is not asynchronous
            await asyncio.sleep(0.001)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_a_save_that_no_time_tells_apart_from_the_one_before_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    store = store_of(folder, told)
    store.load()
    frozen = store._source.look()  # a file system whose clock does not tick between two saves of the same size
    monkeypatch.setattr(PolicySource, "look", lambda _: frozen)
    (folder / "orders.yaml").write_text("sredro\n")
    await watch_while(store, told, 1)
    assert store.current == b"sredro\n"


async def test_a_file_that_comes_and_goes_at_once_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = PolicySource.look

    def aged(source: PolicySource) -> Listing:
        found = look(source)
        old = (state._replace(changed_ns=0, modified_ns=0) for state in found.files if state.path.name == "orders.yaml")
        return found._replace(files=(*old, *(state for state in found.files if state.path.name != "orders.yaml")))

    monkeypatch.setattr(PolicySource, "look", aged)
    told = Told()
    store = store_of(folder, told)
    store.load()
    (folder / "payroll.yaml").write_text("payroll\n")
    await watch_while(store, told, 1)
    assert store.current == b"orders\npayroll\n"
    (folder / "payroll.yaml").unlink()
    await watch_while(store, told, 2)
    assert store.current == b"orders\n"


class TestFirstLoad:
    def test_gives_the_set_and_puts_it_in_force(self, folder: Path) -> None:
        told = Told()
        store = store_of(folder, told)
        assert store.current is None
        assert store.load() == b"orders\n"
        assert store.current == b"orders\n"
        assert told.all == []

    def test_raises_every_problem_and_puts_nothing_in_force(self, folder: Path) -> None:
        (folder / "orders.yaml").write_bytes(b"broken\n")
        store = store_of(folder, Told())
        with pytest.raises(LoadError, match=r"policies/orders\.yaml:1:1: broken"):
            store.load()
        assert store.current is None

    def test_an_unforeseen_failure_is_a_refusal_that_quotes_nothing(self, folder: Path) -> None:
        (folder / "orders.yaml").write_bytes(b"bug\n")
        with pytest.raises(LoadError, match=r"internal error \(KeyError\) while loading `policies`") as caught:
            store_of(folder, Told()).load()
        assert "secret" not in str(caught.value)

    def test_waits_for_a_file_that_was_just_written(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def finish(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 1:
                (folder / "orders.yaml").write_bytes(b"orders and the rest\n")

        slept: list[float] = []
        monkeypatch.setattr(store_module.time, "sleep", finish)
        assert store_of(folder, Told(), settle=timedelta(hours=1)).load() == b"orders and the rest\n"
        assert slept == [3600.0, 3600.0]

    def test_gives_up_on_files_that_keep_changing(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store_module.time, "sleep", lambda _: append(folder / "orders.yaml"))
        with pytest.raises(LoadError, match="the files keep changing"):
            store_of(folder, Told(), settle=timedelta(hours=1)).load()


class TestBesideOtherWorkers:
    """Three workers, of whom the last one starts only when something has become of the files."""

    @pytest.fixture(autouse=True)
    def workers(self, folder: Path, memory: int) -> None:
        self.file = folder / "orders.yaml"
        self.told = Told()
        self.shared = [SharedFiles(Shared(memory, worker, 3), 0) for worker in range(3)]
        self.first, self.second, self.last = (store_of(folder, self.told, shared=shared) for shared in self.shared)
        self.first.load()
        self.second.load()

    async def reload(self, data: bytes, *stores: PolicyStore[bytes]) -> None:
        """Write the file, and let these workers notice."""
        self.file.write_bytes(data)
        for store in stores:
            await watch_while(store, self.told, len(self.told.all) + 1)

    @pytest.mark.parametrize("data", [b"broken\n", b"bug\n", b"ord", None], ids=["broken", "bug", "cut off", "gone"])
    async def test_whoever_starts_while_the_files_are_broken_has_what_the_others_have(self, data: bytes | None) -> None:
        self.file.unlink() if data is None else self.file.write_bytes(data)
        before = time.time()
        assert self.last.load() == b"orders\n"
        assert (self.last.current, self.told.all) == (b"orders\n", [])
        assert self.last.error is not None
        self.last.tell_of_loaded()
        (what, (current, found_at)), (then, why) = self.told.all
        assert (what, current, then, why) == ("taken over", b"orders\n", "refused", str(self.last.error))
        assert before - 1 < found_at < before
        watching = asyncio.create_task(self.last.watch())
        await asyncio.sleep(0.1)
        watching.cancel()
        assert (len(self.told.all), self.last.current) == (2, b"orders\n")

    async def test_files_that_load_are_told_as_ever(self) -> None:
        await self.reload(b"others\n")
        assert self.last.load() == b"others\n"
        self.last.tell_of_loaded()
        assert self.told.all == [("reloaded", b"others\n")]

    async def test_it_follows_the_files_again_once_they_are_mended(self) -> None:
        self.file.write_bytes(b"broken\n")
        self.last.load()
        await self.reload(b"others\n", self.last)
        assert (self.last.current, self.last.error) == (b"others\n", None)
        assert self.told.all == [("reloaded", b"others\n")]

    async def test_it_tells_when_the_files_are_again_what_it_took_over(self) -> None:
        self.file.write_bytes(b"broken\n")
        self.last.load()
        await self.reload(b"orders\n", self.last)
        assert (self.last.error, self.told.all) == (None, [("mended", b"orders\n")])

    async def test_what_one_has_reloaded_counts_though_another_one_did_not_yet(self) -> None:
        await self.reload(b"others\n", self.first)
        self.file.write_bytes(b"broken\n")
        assert self.second.current == b"orders\n"
        assert self.last.load() == b"others\n"

    async def test_what_was_refused_is_nothing_to_take_over(self) -> None:
        await self.reload(b"broken\n", self.first)
        assert self.last.load() == b"orders\n"

    async def test_what_was_rolled_back_is_not_what_counts_though_one_died_with_it(self) -> None:
        await self.reload(b"others\n", self.first)
        self.file.write_bytes(b"orders\n")
        watching = asyncio.create_task(self.second.watch())  # it never saw the others
        async with asyncio.timeout(2):
            while self.shared[0].newest().files[0].data != b"orders\n":  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.001)
        watching.cancel()
        self.file.write_bytes(b"broken\n")
        assert self.last.load() == b"orders\n"

    async def test_a_set_counts_from_when_it_was_read_not_from_when_it_was_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first one reads a set, and takes long to judge it; meanwhile the second one reads and takes another."""

        def slowly(files: Sequence[PolicyFile]) -> bytes:
            others.append(list(files))
            newer = [PolicyFile(files[0].name, b"newest\n")]
            self.shared[1].keep(newer, time.monotonic())
            return join(files)

        others: list[object] = []
        monkeypatch.setattr(self.first, "_compile", slowly)
        await self.reload(b"others\n", self.first)
        assert others
        self.file.write_bytes(b"broken\n")
        assert self.last.load() == b"newest\n"

    def test_so_it_does_at_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def slowly(files: Sequence[PolicyFile]) -> bytes:
            self.shared[1].keep([PolicyFile(files[0].name, b"newest\n")], time.monotonic())
            return join(files)

        monkeypatch.setattr(self.last, "_compile", slowly)
        assert self.last.load() == b"orders\n"
        newest = self.shared[0].newest()
        assert newest is not None
        assert newest.files[0].data == b"newest\n"

    def test_a_start_that_waits_for_a_writer_counts_from_the_reading_that_succeeded(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def move(_seconds: float) -> None:
            if self.file.read_bytes() == b"orders\n":
                self.shared[1].keep([PolicyFile("orders.yaml", b"between\n")], time.monotonic())
                self.file.write_bytes(b"others\n")

        monkeypatch.setattr(store_module.time, "sleep", move)
        late = store_of(folder, self.told, shared=self.shared[2], settle=timedelta(hours=1))
        assert late.load() == b"others\n"
        newest = self.shared[0].newest()
        assert newest is not None
        assert newest.files[0].data == b"others\n"

    def test_what_came_while_the_files_were_read_is_what_is_taken_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def slowly(files: Sequence[PolicyFile]) -> bytes:
            if b"broken" in files[0].data:
                self.shared[1].keep([PolicyFile(files[0].name, b"newest\n")], time.monotonic())
            return join(files)

        self.file.write_bytes(b"broken\n")
        monkeypatch.setattr(self.last, "_compile", slowly)
        assert self.last.load() == b"newest\n"

    def test_where_the_others_have_what_this_one_refuses_the_files_are_to_blame(self) -> None:
        self.shared[0].keep([PolicyFile("elsewhere.yaml", b"broken\n")], time.monotonic())
        self.file.write_bytes(b"broken\n")
        with pytest.raises(LoadError, match=r"policies/orders\.yaml:1:1: broken"):
            self.last.load()
        assert self.last.current is None

    def test_when_nobody_had_loaded_yet_the_files_are_to_blame(self, folder: Path) -> None:
        memory = shared_memory()
        self.file.write_bytes(b"broken\n")
        with pytest.raises(LoadError, match="broken"):
            store_of(folder, Told(), shared=SharedFiles(Shared(memory, 0, 1), 0)).load()
        os.close(memory)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


class TestWatching:
    async def test_tells_of_a_mount_that_was_dead_already_at_the_start(self, folder: Path) -> None:
        """Once it watches: at the first load there is no log yet."""
        with (folder / "orders.yaml").open("rb") as mount:
            (folder / "orders.yaml").unlink()
            path = Path(f"/proc/self/fd/{mount.fileno()}")
            told = Told()
            store = store_of(path, told)
            assert store.load() == b"orders\n"
            assert told.all == []
            await watch_while(store, told, 1)
        assert told.all == [("stale", path)]
        assert stale_mount_message(path) == (
            f"{path} was replaced outside; this mount still shows the deleted file: mount the folder instead"
        )

    async def test_without_a_first_load_the_files_come_into_force(self, folder: Path) -> None:
        told = Told()
        store = store_of(folder, told)
        await watch_while(store, told, 1)
        assert store.current == b"orders\n"
        assert told.all == [("reloaded", b"orders\n")]

    async def test_neither_a_bug_nor_a_broken_log_ends_it(self, folder: Path) -> None:
        told = Told(failing=True)
        store = store_of(folder, told)
        store.load()
        for count, content in enumerate([b"bug\n", b"broken\n", b"good\n"], start=1):
            (folder / "orders.yaml").write_bytes(content)
            await watch_while(store, told, count)
        assert [what for what, _ in told.all] == ["refused", "refused", "reloaded"]
        assert "internal error (KeyError)" in str(told.all[0][1])
        assert store.current == b"good\n"

    async def test_a_look_that_fails_in_a_way_nobody_foresaw_is_refused_once(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = Told()
        store = store_of(folder, told)
        store.load()
        looks = iter([RuntimeError, RuntimeError])
        look = PolicySource.look

        def fail_twice(source: PolicySource) -> Listing:
            for error in looks:
                raise error
            return look(source)

        monkeypatch.setattr(PolicySource, "look", fail_twice)
        (folder / "orders.yaml").write_bytes(b"new\n")
        await watch_while(store, told, 2)
        assert [what for what, _ in told.all] == ["refused", "reloaded"]

    async def test_asked_while_the_files_move_the_refusal_is_still_told_anew(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = Told()
        store = store_of(folder, told)
        (folder / "orders.yaml").write_bytes(b"broken\n")
        await watch_while(store, told, 1)
        read_unmoved = PolicySource.read_unmoved
        touched: list[bool] = []

        def touch_and_read(source: PolicySource, listing: Listing) -> tuple[PolicyFile, ...] | None:
            if not touched:
                touched.append(True)
                os.utime(folder / "orders.yaml", ns=(0, 0))
            return read_unmoved(source, listing)

        monkeypatch.setattr(PolicySource, "read_unmoved", touch_and_read)
        store.reload_now()
        await watch_while(store, told, 2)
        assert [what for what, _ in told.all] == ["refused", "refused"]

    async def test_what_moved_while_it_was_read_settles_again(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = Told()
        store = store_of(folder, told)
        read_unmoved = PolicySource.read_unmoved
        moves = iter([b"first\n", b"second\n"])

        def move_and_read(source: PolicySource, listing: Listing) -> tuple[PolicyFile, ...] | None:
            for content in moves:
                (folder / "orders.yaml").write_bytes(content)
                break
            return read_unmoved(source, listing)

        monkeypatch.setattr(PolicySource, "read_unmoved", move_and_read)
        await watch_while(store, told, 1)
        assert told.all == [("reloaded", b"second\n")]

    async def test_a_long_settling_waits_no_longer_than_a_poll_between_looks(self, folder: Path) -> None:
        told = Told()
        store = store_of(folder, told, settle=timedelta(milliseconds=30))
        await watch_while(store, told, 1)
        assert told.all == [("reloaded", b"orders\n")]

    async def test_the_same_broken_content_under_a_new_signature_is_told_once(self, folder: Path) -> None:
        told = Told()
        store = store_of(folder, told)
        (folder / "orders.yaml").write_bytes(b"broken\n")
        await watch_while(store, told, 1)
        os.utime(folder / "orders.yaml", ns=(0, 0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.watch(), timeout=0.05)  # ten polls
        (folder / "orders.yaml").write_bytes(b"good\n")
        await watch_while(store, told, 2)
        assert [what for what, _ in told.all] == ["refused", "reloaded"]

    async def test_going_back_to_the_set_in_force_is_told(self, folder: Path) -> None:
        told = Told()
        store = store_of(folder, told)
        loaded = store.load()
        for count, content in enumerate([b"broken\n", loaded], start=1):
            (folder / "orders.yaml").write_bytes(content)
            await watch_while(store, told, count)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.watch(), timeout=0.05)  # ten polls
        assert [what for what, _ in told.all] == ["refused", "mended"]
        assert store.error is None

    async def test_what_was_read_of_a_refused_set_is_not_kept(self, folder: Path) -> None:
        class Document:
            pass

        read: list[weakref.ref[Document]] = []

        def refuse(files: Sequence[PolicyFile]) -> bytes:
            document = Document()
            read.append(weakref.ref(document))
            raise LoadError([Problem(Source(files[0].name, 1, 1), "broken")])

        told = Told()
        store = PolicyStore(
            folder, compile=refuse, observe=told, settle=AT_ONCE, poll=timedelta(milliseconds=5), events=None
        )
        await watch_while(store, told, 1)
        assert store.error is not None
        assert [document() for document in read] == [None]


class TestFileEvents:
    async def test_only_what_concerns_the_set_wakes(self, folder: Path) -> None:
        events = file_events(folder, [folder.parent, folder], timedelta(milliseconds=50))
        try:
            assert not await anext(events)
            (folder.parent / "foreign").write_bytes(b"x")
            assert not await anext(events)
            (folder / "orders.yaml").write_bytes(b"new\n")
            assert await anext(events)
        finally:
            await events.aclose()
