"""What the workers of one service know together about an issuer's keys, so that its endpoint sees them as one process.

That is the newest key document that any of them fetched, and when an unknown kid last made one of them fetch. Both
stand in memory of the supervisor and its workers alone (memfd_create(2)), which outlives each worker: one that is
started again while the endpoint is away has keys at once.

Whose turn it is to fetch holds a lock, which the kernel takes back from a process that ends. Nobody waits for it
without end, because a process may be stopped. A document carries its digest, so that half of one is none. Times are
seconds on the monotonic clock, which is one for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

from authz.identity.fetch import MAX_DOCUMENT_BYTES

_TURN: Final = struct.Struct("<d")  # when it began
_HEAD: Final = struct.Struct("<32sdI")  # the digest of all that follows, when the fetch began, the document's length
_DIGEST_BYTES: Final = 32
_SLOT_BYTES: Final = 2 * MAX_DOCUMENT_BYTES  # an issuer's; what nobody writes to takes no memory
_POLL_SECONDS: Final = 0.02


class FetchedDocument(NamedTuple):
    """A key document, and the monotonic seconds at which its fetch began."""

    document: bytes
    began: float


def shared_memory() -> int:
    """Give the descriptor of memory for SharedKeys, to be passed on to workers. Raises OSError."""
    if hasattr(os, "memfd_create"):  # on Linux
        return os.memfd_create("authz-keys")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedKeys:
    """The part of one issuer, which has the same index in all workers."""

    def __init__(self, descriptor: int, index: int) -> None:
        self._descriptor = descriptor
        self._index = index
        self._start = index * _SLOT_BYTES

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
        data = self._read(_TURN.size, 0)
        return (_TURN.unpack(data)[0] if len(data) == _TURN.size else 0) or float("-inf")

    @last_turn.setter
    def last_turn(self, now: float) -> None:
        self._write(_TURN.pack(now), 0)

    @property
    def newest(self) -> FetchedDocument | None:
        """The newest document; None where there is none, or somebody is just writing it."""
        head = self._read(_HEAD.size, _TURN.size)
        if len(head) < _HEAD.size:
            return None
        digest, began, length = _HEAD.unpack(head)
        if not 0 < length <= MAX_DOCUMENT_BYTES:
            return None
        document = self._read(length, _TURN.size + _HEAD.size)
        whole = hashlib.sha256(head[_DIGEST_BYTES:] + document).digest() == digest
        return FetchedDocument(document, began) if whole else None

    @newest.setter
    def newest(self, fetched: FetchedDocument) -> None:
        head = _HEAD.pack(b"", fetched.began, len(fetched.document))[_DIGEST_BYTES:]
        self._write(hashlib.sha256(head + fetched.document).digest() + head + fetched.document, _TURN.size)

    def _read(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, self._start + offset)
        except OSError:
            return b""

    def _write(self, data: bytes, offset: int) -> None:
        with suppress(OSError):  # no memory left: then each worker knows what it fetched itself
            os.pwrite(self._descriptor, data, self._start + offset)

    def _lock(self) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._index)
        except OSError:
            return False
        return True

    def _unlock(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._index)
