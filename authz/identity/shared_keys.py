"""What the workers of one service know together about an issuer's keys, so that its endpoint sees them as one process.

That is the newest key document that any of them fetched, and when an unknown kid last made one of them fetch. Both
stand in shared memory (`shared_memory.py`): a worker that is started again while the endpoint is away has keys at once.

Whose turn it is to fetch holds a lock, which the kernel takes back from a process that ends. Nobody waits for it
without end, because a process may be stopped.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from authz.identity.fetch import MAX_DOCUMENT_BYTES
from authz.shared_memory import Dated, Place, read_at, write_at

_TURN: Final = struct.Struct("<d")  # when it began
_SLOT_BYTES: Final = 2 * MAX_DOCUMENT_BYTES  # an issuer's
_POLL_SECONDS: Final = 0.02


class SharedKeys:
    """The part of one issuer, which has the same index in all workers."""

    def __init__(self, descriptor: int, index: int) -> None:
        self._descriptor = descriptor
        self._index = index
        self._start = index * _SLOT_BYTES
        self._document = Place(descriptor, self._start + _TURN.size, MAX_DOCUMENT_BYTES)

    @asynccontextmanager
    async def turn(self, seconds: float) -> AsyncIterator[bool]:
        """Wait at most so long until it is our turn to fetch for an unknown kid, and tell whether it is."""
        ours = self._lock()
        for _ in range(int(seconds / _POLL_SECONDS)):
            if ours:
                break
            await asyncio.sleep(_POLL_SECONDS)
            ours = self._lock()
        try:
            yield ours
        finally:
            if ours:
                self._unlock()

    @property
    def last_turn(self) -> float:
        """When an unknown kid last made a worker fetch; minus infinity: never."""
        data = read_at(self._descriptor, _TURN.size, self._start)
        return (_TURN.unpack(data)[0] if len(data) == _TURN.size else 0) or float("-inf")

    @last_turn.setter
    def last_turn(self, now: float) -> None:
        write_at(self._descriptor, _TURN.pack(now), self._start)

    @property
    def newest(self) -> Dated | None:
        """The newest document, and when its fetch began; None where there is none, or somebody is just writing it."""
        return self._document.read()

    @newest.setter
    def newest(self, fetched: Dated) -> None:
        self._document.write(fetched)

    def _lock(self) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._index)
        except OSError:
            return False
        return True

    def _unlock(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._index)
