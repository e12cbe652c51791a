"""A garbage collector that hardly shows: while policies load, and while tokens are remembered.

Between two loads, what outlives a full look is put out of the collector's sight for good: it is mostly remembered
tokens, which hold no cycle, and to look at 20,000 of them took 35 ms, again for every 5,000 new ones.

While policies load, the collector looks at what is new in small portions, each only once: else it would look at half a
million objects again and again, for whole tenths of a second at a time. What outlives its first look is put out of its
sight: a policy set holds no cycle that it could find; cycles that anything else leaves behind meanwhile are found at
that look. What was in use just then and is a cycle later, such as a scraper's connection, would stay for good: now and
then everything is looked at again. (Tried and dropped: reading the YAML in another process, as taking over its pickled
values costs as much as reading the text, in pieces that cannot be interrupted.)
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from authz.breath import breathe
from authz.policy.parser import PolicySet

PORTION: Final = 1500  # new objects; looking at them takes a tenth of a millisecond
LOADS: Final = 50  # between two looks at everything; each left some hundred bytes
MOST_OBJECTS: Final = 300_000  # that are looked at again, which takes some 30 ms
THRESHOLDS: Final = (700, 10, 3)  # Python's own, but for more full looks, each of them at less


def look_once() -> None:
    """Let no full look see what outlived an earlier one. For the whole process, once."""
    gc.set_threshold(*THRESHOLDS)
    gc.callbacks.append(_put_away_the_old)


def _put_away_the_old(phase: str, info: Mapping[str, int]) -> None:
    if phase == "stop" and info["generation"] == len(THRESHOLDS) - 1:
        gc.freeze()


class _Quiet:
    """The collector's settings, which are the whole process's: the last of several loads restores them."""

    loads = 0
    threshold = gc.get_threshold()
    since_all = 0  # loads since everything was looked at


@contextmanager
def quietly() -> Iterator[None]:
    """Load policies without the collector's long looks. Loads may overlap, on one thread."""
    if not _Quiet.loads:
        # Of requests before this; it finds little, for what is frozen it does not look at. A full look also throws away
        # what Python keeps for new objects, which takes 2 ms after a load: only where some object is that old.
        gc.collect(2 if gc.get_count()[2] else 1)
        _Quiet.threshold = gc.get_threshold()
        gc.callbacks.append(_put_away)
        gc.set_threshold(PORTION)
    _Quiet.loads += 1
    try:
        yield
    finally:
        _Quiet.loads -= 1
        gc.collect(0)
        if not _Quiet.loads:
            gc.callbacks.remove(_put_away)
            gc.set_threshold(*_Quiet.threshold)
            _look_at_all_again()


def _look_at_all_again() -> None:
    _Quiet.since_all += 1
    if _Quiet.since_all >= LOADS and gc.get_freeze_count() <= MOST_OBJECTS:
        _Quiet.since_all = 0
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def _put_away(phase: str, _info: Mapping[str, int]) -> None:
    """Put what outlived a collection out of the collector's sight."""
    if phase == "stop":
        gc.freeze()


def let_go(sets: list[PolicySet]) -> None:
    """Free the sets, which nobody else may hold but requests that are just being decided. Empties the list.

    Freed at once, a set of 10,000 routes, or a route of as many users, would hold the event loop for 50 ms.
    """
    routes = [route for policies in sets for route in policies.routes.routes]
    sets.clear()
    while routes:
        route = routes.pop()
        criteria = [one for block in (*route.policy.allow, *route.policy.deny) for one in block.criteria]
        del route
        while criteria:
            criteria.pop()
            breathe()
        breathe()
