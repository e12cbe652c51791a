"""Loading policies beside running requests, so that these hardly notice.

10,000 routes take most of a second of Python's one interpreter lock, and by default a thread that wants the lock waits
5 ms for it; a request wants it several times. So while policies load, turns are short, and the garbage collector looks
at what is new in small portions, each only once: else it would look at half a million objects again and again, for
whole tenths of a second at a time. What outlives its first look is put out of its sight for good: a policy set holds no
cycle that it could find; what requests leave behind meanwhile is found at that look, as gRPC makes a cycle for each.
The set that was replaced is let go route by route, because freed at once it holds the lock for 50 ms. (Tried and
dropped: no collector at all while loading, which kept the requests' garbage for good, some kilobytes at each load; and
reading the YAML in another process, as taking over its pickled values costs as much as reading the text, in pieces that
cannot be interrupted.)
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from authz.policy.parser import PolicySet

TURN_SECONDS: Final = 0.0001  # a decision takes about as long
PORTION: Final = 5000  # new objects; looking at them takes a fifth of a millisecond

_one_at_a_time: Final = threading.Lock()  # the settings are the whole process's: two must not restore each other's


@contextmanager
def quietly() -> Iterator[None]:
    """Load policies in this thread without holding up the others. Not for the event loop: it may wait."""
    with _short_turns():
        gc.collect()  # of requests before this; it finds little, for what is frozen it does not look at
        before = gc.get_threshold()
        gc.callbacks.append(_put_away)
        gc.set_threshold(PORTION)
        try:
            yield
        finally:
            gc.collect(0)
            gc.callbacks.remove(_put_away)
            gc.set_threshold(*before)


def _put_away(phase: str, _info: Mapping[str, int]) -> None:
    """Put what outlived a collection out of the collector's sight."""
    if phase == "stop":
        gc.freeze()


def let_go(sets: list[PolicySet]) -> None:
    """Free the sets, which nobody else may hold but requests that are just being decided. Empties the list."""
    with _short_turns():
        routes = [route for policies in sets for route in policies.routes.routes]
        sets.clear()
        while routes:
            routes.pop()


@contextmanager
def _short_turns() -> Iterator[None]:
    with _one_at_a_time:
        before = sys.getswitchinterval()
        sys.setswitchinterval(TURN_SECONDS)
        try:
            yield
        finally:
            sys.setswitchinterval(before)
