"""Which cores of the machine a process may use: what asks must not take away what is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def apart() -> tuple[set[int], set[int]]:
    """Give one core for the service, and the others, which are the same one where there is no other."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


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
