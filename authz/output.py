"""Standard output of several processes, whose pipes are copied to it by whole lines, so that none is torn."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

_RETRY_SECONDS: Final = 0.1
_CHUNK_BYTES: Final = 64 * 1024


class Output:
    """Standard output, written to by whole lines. A full or broken one makes writers wait, and workers then count."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._turn = threading.Lock()
        self._copying: list[threading.Thread] = []

    def copy_from(self, source: int) -> threading.Thread:
        """Copy the lines of a pipe, in a thread of their own, until its other end is closed."""
        thread = threading.Thread(target=self._copy, args=(source,), name="authz-output", daemon=True)
        thread.start()
        self._copying = [other for other in self._copying if other.is_alive()]
        self._copying.append(thread)
        return thread

    def finish(self, seconds: float) -> None:
        """Wait at most so long until all has been copied from pipes whose other ends are closed."""
        until = time.monotonic() + seconds
        for thread in self._copying:
            thread.join(max(0.0, until - time.monotonic()))

    def _copy(self, source: int) -> None:
        rest = b""
        with os.fdopen(source, "rb", buffering=0) as pipe:
            while chunk := pipe.read(_CHUNK_BYTES):
                lines, newline, rest = (rest + chunk).rpartition(b"\n")
                if newline:
                    self._write(memoryview(lines + newline))
        # What is left is half a line of a process that was killed inside it: nobody could read it.

    def _write(self, data: memoryview) -> None:
        with self._turn:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except OSError:  # somebody made it non-blocking, the disk is full, the reader is away: lines wait
                    time.sleep(_RETRY_SECONDS)
