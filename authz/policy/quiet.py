"""Loading policies beside running requests, so that these hardly notice.

10,000 routes take most of a second of Python's one interpreter lock, and by default a thread that wants the lock waits
5 ms for it; a request wants it several times. So while policies load, turns are short, and the garbage collector rests:
it would look at half a million new objects again and again, for whole tenths of a second at a time, and a policy set
holds no cycle that it could find. What is loaded is put out of its sight for good. The set that was replaced is let go
route by route, because freed at once it holds the lock for 50 ms. (Tried and dropped: reading the YAML in another
process. Taking over its pickled values costs as much as reading the text, in pieces that cannot be interrupted.)
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from authz.policy.parser import PolicySet

TURN_SECONDS: Final = 0.0001  # a decision takes about as long

_one_at_a_time: Final = threading.Lock()  # the settings are the whole process's: two must not restore each other's


@contextmanager
def quietly() -> Iterator[None]:
    """Load policies in this thread without holding up the others. Not for the event loop: it may wait."""
    with _short_turns():
        gc.collect()  # or the garbage of requests is kept for good with the rest: half a megabyte a reload
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            gc.enable()


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
