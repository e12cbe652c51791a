"""Forked processes: one gives a value back, many give a fate each."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Any, Final, Never, TypeVar

Job = TypeVar("Job")


class Fate(IntEnum):
    """What a mutant's process ends with."""

    SURVIVED = 0
    KILLED = 1
    AFRESH = 2  # not told yet: it must be there from the import on
    DEFECT = 3  # ours


PERSON: Final = os.fdopen(os.dup(2), "w")  # still told when all else is silent


def tell(text: str) -> None:
    """Say how far it is, beside the table."""
    print(text, file=PERSON, flush=True)


def silence() -> None:
    """Let nothing of what the tests print be seen."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def forked(work: Callable[[Callable[[Any], Never]], object]) -> Any:
    """Give the value that the work hands to its argument, which ends the process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)

        def deliver(value: Any) -> Never:
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(value, pipe)
            os._exit(0)

        _never_return(lambda: work(deliver))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0 or not answer:
        raise RuntimeError(f"the process ended with {os.waitstatus_to_exitcode(status)} and told nothing")
    return pickle.loads(answer)


def each(jobs: Iterable[Job], work: Callable[[Job], Fate], processes: int) -> Iterator[tuple[Job, Fate]]:
    """Do the work in forked processes, so many at a time; give each job's fate as its process ends."""
    running: dict[int, Job] = {}
    for job in jobs:
        if len(running) == processes:
            yield _ended(running)
        child = os.fork()
        if child == 0:
            _never_return(lambda job=job: os._exit(work(job)))
        running[child] = job
    while running:
        yield _ended(running)


def one(work: Callable[[], Fate]) -> Fate:
    ((_, fate),) = each([None], lambda _: work(), 1)
    return fate


def _ended(running: dict[int, Job]) -> tuple[Job, Fate]:
    child, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    job = running.pop(child)
    fate = Fate.KILLED if code < 0 else Fate(code)  # a signal: it hung, or took too much memory, or crashed
    if fate is Fate.DEFECT:
        raise RuntimeError(f"the machinery failed at {job}")
    return job, fate


def _never_return(work: Callable[[], object]) -> Never:
    try:
        work()
    except BaseException:  # noqa: BLE001 - nothing of the parent may run twice
        tell(traceback.format_exc())
    finally:
        os._exit(Fate.DEFECT)
