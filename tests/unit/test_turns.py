from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from greenlet import GreenletExit

from authz.breath import breathe
from authz.turns import LONGEST_TURN_SECONDS, TURN_SECONDS, in_turns


def busy(seconds: float) -> str:
    """Work that breathes often; it counts its own time alone."""
    done = 0.0
    while done < seconds:
        start = time.perf_counter()
        while time.perf_counter() < start + TURN_SECONDS / 5:
            pass
        done += time.perf_counter() - start
        breathe()
    return "done"


async def test_others_run_while_it_works() -> None:
    work = asyncio.create_task(in_turns(lambda: busy(0.05)))
    rounds = 0
    while not work.done():
        rounds += 1
        await asyncio.sleep(0)
    assert work.result() == "done"
    assert rounds > 25  # a turn takes 200 µs, and a millisecond where others are busy


async def test_a_job_may_be_done_within_its_first_turn() -> None:
    assert await in_turns(lambda: 7) == 7


async def test_what_it_raises_arrives() -> None:
    def fail() -> None:
        busy(0.001)
        raise KeyError("missing")

    with pytest.raises(KeyError, match="missing"):
        await in_turns(fail)


async def test_two_jobs_take_turns() -> None:
    order: list[str] = []

    def job(name: str) -> None:
        for _ in range(100):  # no turn is long enough for a tenth of it, even where others keep the processor busy
            busy(LONGEST_TURN_SECONDS / 5)
            order.append(name)

    await asyncio.gather(in_turns(lambda: job("a")), in_turns(lambda: job("b")))
    assert order != sorted(order)


async def test_however_busy_others_are_it_comes_to_its_end() -> None:
    rounds = 0

    async def hog() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            time.sleep(LONGEST_TURN_SECONDS * 4)  # noqa: ASYNC251 - it shall hold the loop
            await asyncio.sleep(0)

    other = asyncio.create_task(hog())
    await in_turns(lambda: busy(0.02))
    other.cancel()
    # With turns of 200 µs it would be 100.
    assert rounds < 60


@contextmanager
def closing(what: list[str]) -> Iterator[None]:
    try:
        yield
    finally:
        what.append("closed")


async def test_a_cancelled_job_ends_where_it_breathes() -> None:
    seen: list[str] = []

    def job() -> None:
        with closing(seen):
            try:
                busy(60)
            except GreenletExit:
                seen.append("told")
                raise

    work = asyncio.create_task(in_turns(job))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert seen == ["told", "closed"]


async def test_breathing_elsewhere_is_nothing() -> None:
    """On the loop, in a thread, and in a thread beside a job."""
    breathe()

    def elsewhere() -> None:
        for _ in range(1000):
            breathe()
        ended.append(True)

    ended: list[bool] = []
    thread = threading.Thread(target=elsewhere)
    work = asyncio.create_task(in_turns(lambda: busy(0.01)))
    await asyncio.sleep(0)
    thread.start()
    await work
    thread.join()
    assert ended == [True]
