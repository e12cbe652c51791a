"""What `make torture` finds: figures beside their limits, one promise a row of the README's table.

A part of the torture is a module with `def torture(stand: Stand) -> Iterator[Figure]`. It yields a figure as soon as it
has one. A figure that could not be measured here says why and is not kept: silence never counts as a promise kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured thing."""

    what: str  # "good tokens refused while the endpoint is away for 24 hours"
    measured: str  # "0 of 8,640"
    limit: str  # "0"
    held: bool


@dataclass(frozen=True)
class Stand:
    """What a part gets: a folder of its own in memory, how much to do, and somebody to tell."""

    folder: Path
    share: float  # of the full amount of work, 1.0 in `make torture`; times stay, counts shrink
    tell: Callable[[str], None]

    def count(self, full: int) -> int:
        """Give the share of a full count, at least one."""
        return max(1, round(full * self.share))


def at_most(what: str, measured: float, limit: float, unit: str = "") -> Figure:
    """A number that must not be above its limit."""
    return Figure(what, _number(measured, unit), f"≤ {_number(limit, unit)}", measured <= limit)


def at_least(what: str, measured: float, limit: float, unit: str = "") -> Figure:
    """A number that must not be below its limit."""
    return Figure(what, _number(measured, unit), f"≥ {_number(limit, unit)}", measured >= limit)


def none_of(what: str, bad: int, of: int) -> Figure:
    """Something that must never have happened, in so many tries. No try at all proves nothing."""
    return Figure(what, f"{bad:,} of {of:,}", "0", bad == 0 and of > 0)


def _number(value: float, unit: str) -> str:
    text = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".rstrip()
