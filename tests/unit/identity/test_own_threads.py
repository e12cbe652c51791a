"""Work that hangs: whose place it takes, and who waits for it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from authz.identity.own_threads import OneAtATime, in_own_thread

MORE_THAN_ARE_SHARED = 40  # asyncio.to_thread has 32 threads at most
SHORT = 0.05  # seconds
PATIENCE = 5.0  # seconds


class Hanging:
    """Work that hangs until it is told to end, and then says how often it was begun."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.begun = 0

    def __call__(self) -> int:
        self.begun += 1
        self.released.wait()
        return self.begun


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.released.set()


async def given_up(threads: OneAtATime, source: str, work: Hanging) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(threads.run(source, work), SHORT)


def test_work_that_hangs_takes_no_place_that_others_need_and_holds_up_no_end(hanging: Hanging) -> None:
    async def scenario() -> str:
        threads = OneAtATime()
        await asyncio.gather(*(given_up(threads, f"source {n}", hanging) for n in range(MORE_THAN_ARE_SHARED)))
        assert hanging.begun == MORE_THAN_ARE_SHARED
        said = await asyncio.wait_for(asyncio.to_thread(str, "others' work"), PATIENCE)
        threads.close()
        return said

    began = time.monotonic()
    assert asyncio.run(scenario()) == "others' work"
    assert time.monotonic() - began < PATIENCE


async def test_no_second_work_is_begun_on_a_source_that_hangs(hanging: Hanging) -> None:
    threads = OneAtATime()
    for _ in range(5):
        await given_up(threads, "a", hanging)
    assert hanging.begun == 1
    assert await threads.run("b", lambda: "another source") == "another source"


async def test_what_waited_does_its_own_work_once_the_source_hangs_no_more(hanging: Hanging) -> None:
    threads = OneAtATime()
    await given_up(threads, "a", hanging)
    waiting = [asyncio.create_task(threads.run("a", hanging)) for _ in range(3)]
    await asyncio.sleep(SHORT)
    assert hanging.begun == 1
    hanging.released.set()
    assert await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE) == [2, 3, 4]


async def test_an_error_is_the_callers_and_not_the_next_ones() -> None:
    def fails() -> None:
        raise OSError("the disk is gone")

    threads = OneAtATime()
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            await threads.run("a", fails)
    assert await threads.run("a", lambda: "good") == "good"
    with pytest.raises(SystemExit):
        await in_own_thread(sys.exit)


def test_what_ends_after_the_loop_did_troubles_nobody(hanging: Hanging, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        threads = OneAtATime()
        await given_up(threads, "a", hanging)
        threads.close()

    asyncio.run(scenario())
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "authz-keys")
    hanging.released.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert caplog.records == []
