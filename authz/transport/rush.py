"""In a rush, calls that come close together are decided together, step by step, and answered so.

Between two calls that come alone, gRPC does more work than we do, so each finds the processor's caches cold; and every
event wakes a thread of gRPC's and then ours. Together they cost each less, by up to a fifth (`make bench`). While calls
come faster than a quiet process would see them, the first waits for the next ones: until there are enough, or none has
come for a few rounds of the event loop, and never longer than a call takes to go through gRPC. Alone, nobody waits.

One visit's code is more than a processor keeps at hand, too: a step is quicker right after the same step of another
call. So all of a group are read, then all are verified, and so on; `step()` stands where one step ends.

A rush is told by the mean time between calls alone. To measure what a call costs here, and to begin only near what the
machine can do, was tried: many calls of a busy machine were missed, and to wait from fewer calls on costs no more than
the noise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

# The mean time between calls that is a rush: 1,430 a second, of the 2,000 that a slow machine of two cores can do.
GAP_SECONDS: Final = 0.0007
LONGEST_GAP_SECONDS: Final = 0.01  # a longer one counts no more, so that a rush after a pause is soon seen
WEIGHT: Final = 1 / 16  # of the newest gap in the mean
ENOUGH: Final = 16  # calls: twice as many gain nothing more, and make the first wait longer
ROUNDS: Final = 15  # of the event loop; a call needs half a dozen to come in
LONGEST_WAIT_SECONDS: Final = 0.002  # where the rounds are slow, because others have the processor


class Rush:
    """Notices a rush, and lets its calls go in groups."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never go back."""
        self._clock = clock
        self._last = float("-inf")
        self._gap = LONGEST_GAP_SECONDS
        self._waiting: list[asyncio.Future[None]] = []
        self._rounds_left = 0
        self._ends = 0.0

    def arrived(self, now: float) -> asyncio.Future[None] | None:
        """Note a call that came at `now`, by the clock. Gives what it has to wait for, or None."""
        self._gap += (min(now - self._last, LONGEST_GAP_SECONDS) - self._gap) * WEIGHT
        self._last = now
        if not self._is_on():
            return None
        loop = asyncio.get_running_loop()
        turn = loop.create_future()  # each its own: a caller that gives up must not take the others with it
        if not self._waiting:
            self._ends = now + LONGEST_WAIT_SECONDS
            loop.call_soon(self._round, loop)
        self._waiting.append(turn)
        self._rounds_left = ROUNDS
        return turn

    async def step(self) -> None:
        """In a rush, let the others take the step that this call has just taken. Otherwise, go on."""
        if self._is_on():
            await asyncio.sleep(0)

    def _is_on(self) -> bool:
        return self._gap <= GAP_SECONDS

    def _has_time(self) -> bool:
        self._rounds_left -= 1
        return self._rounds_left > 0 and len(self._waiting) < ENOUGH and self._clock() < self._ends

    def _round(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(Exception):  # whatever fails, nobody is left waiting
            if self._has_time():
                loop.call_soon(self._round, loop)
                return
        group, self._waiting = self._waiting, []
        for turn in group:
            if not turn.done():
                turn.set_result(None)
