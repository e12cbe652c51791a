"""How often long work stands aside for whoever waits.

breaths(lambda: parse(…))    so many times, in the whole of the job
"""

from __future__ import annotations

from collections.abc import Callable

from authz.breath import LongWork


class OutOfBreath(LongWork):
    """Work that stands aside at every breath."""

    def turn_has_ended(self) -> bool:
        return True


def breaths(job: Callable[[], object]) -> int:
    """Count how often the job breathes."""
    job()  # once where coverage and `make mutants` see which lines it runs: they do not look into greenlets
    work, counted = OutOfBreath(job), -1
    while not work.dead:
        work.switch()
        counted += 1
    return counted
