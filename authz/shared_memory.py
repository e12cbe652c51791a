"""Memory of the supervisor and its workers alone (memfd_create(2)), which outlives each worker.

It holds documents that one process writes and others read: whole or not at all, because a document carries its digest.
Times are seconds on the monotonic clock, which is one for all processes of a machine.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from contextlib import suppress
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct("<32sdQ")  # the digest of all that follows, when it began, the document's length
_DIGEST_BYTES: Final = 32

HEAD_BYTES: Final = _HEAD.size
"""What a place needs beside its document."""


class Shared(NamedTuple):
    """The memory, as one of the workers sees it."""

    descriptor: int
    worker: int  # its index
    workers: int  # how many there are


class Dated(NamedTuple):
    """A document, and the monotonic seconds at which somebody began to get it."""

    document: bytes
    began: float


def shared_memory() -> int:
    """Give the descriptor of such memory, to be passed on to workers. Raises OSError."""
    if hasattr(os, "memfd_create"):  # on Linux
        return os.memfd_create("authz-shared")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Place:
    """Where one document lies. What nobody wrote to takes no memory."""

    def __init__(self, descriptor: int, start: int, max_bytes: int) -> None:
        """`start`: bytes from the beginning of the memory; `max_bytes`: of a document."""
        self._descriptor = descriptor
        self._start = start
        self._max_bytes = max_bytes

    @property
    def began(self) -> float:
        """When the document began that is or was to be here, whole or not; minus infinity: there was none yet."""
        head = self._head()
        return (_HEAD.unpack(head)[1] if head else 0) or float("-inf")

    def read(self) -> Dated | None:
        """Give the document; None where there is none, or not a whole one: somebody may just be writing it."""
        head = self._head()
        if not head:
            return None
        digest, began, length = _HEAD.unpack(head)
        if not 0 < length <= self._max_bytes:
            return None
        document = read_at(self._descriptor, length, self._start + _HEAD.size)
        whole = hashlib.sha256(head[_DIGEST_BYTES:] + document).digest() == digest
        return Dated(document, began) if whole else None

    def write(self, dated: Dated) -> None:
        """Put it in the place of what is there; what is too large, or finds no memory, leaves nothing but its time."""
        document, began = dated
        write_at(self._descriptor, _HEAD.pack(b"", began, 0), self._start)
        if len(document) <= self._max_bytes:
            rest = _HEAD.pack(b"", began, len(document))[_DIGEST_BYTES:] + document
            write_at(self._descriptor, hashlib.sha256(rest).digest() + rest, self._start)

    def _head(self) -> bytes:
        head = read_at(self._descriptor, _HEAD.size, self._start)
        return head if len(head) == _HEAD.size else b""


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """Read so many bytes there, or as many as there are."""
    try:
        return os.pread(descriptor, length, offset)
    except OSError:
        return b""


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write them there, where there is memory for it."""
    with suppress(OSError):  # no memory left: then each worker knows what it found itself
        os.pwrite(descriptor, data, offset)
