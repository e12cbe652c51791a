"""Long work on the event loop, in turns so short that the requests beside it hardly notice.

Loading 10,000 routes takes a second. In a thread it would fight with the requests for the interpreter's one lock,
which a request takes half a dozen times. So it works where they are decided, and every 200 µs it stands aside: for
everything else on the loop, calls first of all, and for whoever else waits for this processor, or the kernel would take
it away for milliseconds. (`make bench` measures the p99 of checks meanwhile.)

A greenlet lets work stand aside in the midst of nested loops, and these say no more than `breathe()` (breath.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import perf_counter
from typing import ClassVar, Final, TypeVar

from authz.breath import LongWork

TURN_SECONDS: Final = 0.0002  # a call takes about as long
LONGEST_TURN_SECONDS: Final = 0.001
SHARE: Final = 0.25  # of the time it stood aside, work may take: however busy others are, it comes to its end

T = TypeVar("T")

_yield_processor: Final[Callable[[], None]] = getattr(os, "sched_yield", lambda: None)  # macOS has none


class _Work(LongWork):
    under_way: ClassVar = 0  # how many there are
    turn_ends = 0.0  # as perf_counter tells time

    def turn_has_ended(self) -> bool:
        return perf_counter() >= self.turn_ends


def is_under_way() -> bool:
    """Tell whether long work waits for its next turn, so that nobody should wait for what may not come."""
    return _Work.under_way > 0


async def in_turns(job: Callable[[], T]) -> T:
    """Do the job on this event loop and give its result; raises what it raises. It must call `breathe` often.

    When this is cancelled, the job ends with GreenletExit where it breathes.
    """
    work = _Work(job)
    turn = TURN_SECONDS
    _Work.under_way += 1
    try:
        while True:
            work.turn_ends = perf_counter() + turn
            result: T = work.switch()
            if work.dead:
                return result
            aside = perf_counter()
            _yield_processor()
            await asyncio.sleep(0)
            turn = min(max(TURN_SECONDS, SHARE * (perf_counter() - aside)), LONGEST_TURN_SECONDS)
    finally:
        _Work.under_way -= 1
        work.throw()  # nothing, where it has ended
