"""Which cores of the machine a process may use, and what is left of them.

What asks must not take away what is asked. And a virtual machine has neighbours that nobody here sees.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final


def apart() -> tuple[set[int], set[int]]:
    """Give one core for the service, and the others, which are the same one where there is no other."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def standstill(seconds: float = 1.0) -> float:
    """Give the share of the time in which a core did nothing though there was work, of the worse of the first two.

    A neighbour's work, mostly: where it is a hundredth, no p99 can be as on a machine of one's own.
    """
    return max(_gaps(core, seconds) / seconds for core in sorted(os.sched_getaffinity(0))[:2])


def _gaps(core: int, seconds: float) -> float:
    gone = 0.0
    with on({core}):
        last = time.perf_counter()
        ends = last + seconds
        while last < ends:
            now = time.perf_counter()
            if now - last > _GAP_SECONDS:
                gone += now - last
            last = now
    return gone


_GAP_SECONDS: Final = 0.0002  # no interrupt takes that long


def keep(pid: int, cores: set[int]) -> None:
    """Let a process that runs already, all its threads, run on these cores."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Let this thread, and what it starts meanwhile, run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
