"""The files of the set in force, kept for workers that are started again while the files on the disk are broken.

Each worker writes to a place of its own in shared memory, so that nobody waits for another who may be stopped. What
counts is the set whose reading began last: where that one is not whole, there is none, for an older one may open a door
that the newer one shut.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from typing import Final

from authz.policy.files import PolicyFile
from authz.shared_memory import HEAD_BYTES, Dated, Place, Shared

MAX_BYTES: Final = 64 * 1024 * 1024  # of a set; whoever has more of them starts again when they are mended
_START: Final = 1 << 40  # bytes; behind the keys of however many issuers
_SLOT_BYTES: Final = MAX_BYTES + HEAD_BYTES


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
        """Keep what this worker has in force, and when it began to read it (monotonic seconds)."""
        self._ours.write(Dated(marshal.dumps([(file.name, file.data) for file in files]), began))

    def newest(self) -> tuple[PolicyFile, ...] | None:
        """Give the files that a worker read last and has, or had, in force; None: they are not known."""
        kept = max(self._places, key=lambda place: place.began).read()
        if kept is None:
            return None
        return tuple(PolicyFile(*file) for file in marshal.loads(kept.document))  # noqa: S302 - only our workers write it
