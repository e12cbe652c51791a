"""The files of the set in force, kept for workers that are started again while the files on the disk are broken.

Each worker writes to a place of its own in shared memory, so that nobody waits for another who may be stopped: what it
has in force, and when it began to read just that from the disk, the last time that it found it there. What counts is
the set that was found last, by whichever worker. Where that one is not whole, there is none, for an older one may open
a door that the newer one shut.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from typing import Final, NamedTuple

from authz.policy.files import PolicyFile
from authz.shared_memory import HEAD_BYTES, Dated, Place, Shared

MAX_BYTES: Final = 16 * 1024 * 1024  # of a set, of which each worker keeps its own; a larger one is not kept
_START: Final = 1 << 40  # bytes; behind the keys of however many issuers
_SLOT_BYTES: Final = MAX_BYTES + HEAD_BYTES


class Kept(NamedTuple):
    """A set, and the monotonic seconds at which the last reading of just these files began."""

    files: tuple[PolicyFile, ...]
    began: float


class SharedFiles:
    """The sets of one kind, of all workers."""

    def __init__(self, shared: Shared, kind: int) -> None:
        """`kind`: 0, 1 or more; it tells the settings apart whose files are kept."""
        start = _START + kind * shared.workers * _SLOT_BYTES
        self._places = [
            Place(shared.descriptor, start + worker * _SLOT_BYTES, MAX_BYTES) for worker in range(shared.workers)
        ]
        self._ours = self._places[shared.worker]

    def keep(self, files: Sequence[PolicyFile], began: float) -> None:
        """Keep what this worker has in force, and when it last began to read just that (monotonic seconds)."""
        self._ours.write(Dated(marshal.dumps([(file.name, file.data) for file in files]), began))

    def newest(self) -> Kept | None:
        """Give the set that was found last on the disk and came into force; None: it is not known."""
        newest = max(self._places, key=lambda place: place.began).read()
        if newest is None:
            return None
        try:
            files = tuple(PolicyFile(*file) for file in marshal.loads(newest.document))  # noqa: S302 - ours alone write it
        except (EOFError, ValueError, TypeError):  # of another version, put in our place under a supervisor that runs
            return None
        return Kept(files, newest.began)
