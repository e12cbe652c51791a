"""Lines on their way out: queued, and written by a thread of their own, so that nobody ever waits for a reader.

A blocked or broken output costs lines, which are counted, never a decision. A line is one physical line.

The thread also makes the text of a line, of several in a row: that takes a third of what one takes amid the work on a
decision, and no decision waits for it.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol

_BATCH_LINES: Final = 16  # their texts take some 0.1 ms, for which the thread may hold the interpreter's lock
_BATCH_BYTES: Final = 1024 * 1024
_PAUSE_SECONDS: Final = 0.01  # lets lines gather: one thread switch for many

log: Final = logging.getLogger("authz")


class Line(Protocol):
    """What becomes a line: a text, or something whose text is made when it is written."""

    def __str__(self) -> str:
        """Make the text. Called by the writer's thread; what it raises costs the line."""

    def __len__(self) -> int:
        """Give the characters that it holds, roughly: they bound the queue."""


class LineWriter:
    """Writes lines to a file descriptor from one background thread, fed by a queue that is bounded in lines and bytes.

    `on_drop` is told how many lines were lost, from whichever thread lost them, and must neither block nor raise.
    """

    def __init__(
        self,
        descriptor: int = 1,
        *,
        max_lines: int = 10_000,
        max_bytes: int = 16 * 1024 * 1024,
        on_drop: Callable[[int], None] | None = None,
    ) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._on_drop = on_drop
        self._lines: deque[Line] = deque()
        self._size = 0
        # Held for moments, never across a system call. Reentrant, because a finalizer that logs may run while its own
        # thread is inside.
        self._changed = threading.Condition(threading.RLock())
        self._closing = threading.Event()
        self._cut_line = False
        self._thread = threading.Thread(target=self._run, name="authz-log", daemon=True)
        self._thread.start()

    def write(self, line: Line) -> None:
        """Queue the line, or drop and count it when the queue is full or closed. Never blocks."""
        size = len(line) + 1
        with self._changed:
            fits = (
                len(self._lines) < self._max_lines
                and self._size + size <= self._max_bytes
                and not self._closing.is_set()
            )
            if fits:
                self._lines.append(line)
                self._size += size
                self._changed.notify()
        if not fits:
            self._drop(1)

    def close(self, timeout: float) -> None:
        """Write what is queued, for at most `timeout` seconds. Later lines are dropped."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._next_batch():
            if data := list(self._encoded(batch)):
                self._write_batch(data)
            if not self._lines:
                self._closing.wait(_PAUSE_SECONDS)

    def _next_batch(self) -> list[Line]:
        """Wait for lines and take some; none means that the queue is closed and empty."""
        batch: list[Line] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closing.is_set())
            while self._lines and len(batch) < _BATCH_LINES and size < _BATCH_BYTES:
                batch.append(self._lines.popleft())
                size += len(batch[-1]) + 1
            self._size -= size
        return batch

    def _encoded(self, batch: Sequence[Line]) -> Iterator[bytes]:
        for line in batch:
            try:
                yield str(line).replace("\n", "\\n").encode("utf-8", "backslashreplace") + b"\n"
            except Exception:  # a defect: it must not pass in silence, and nothing may end this thread
                self._drop(1)
                with suppress(Exception):
                    log.exception("internal error: a line of the log could not be made")

    def _write_batch(self, batch: Sequence[bytes]) -> None:
        # After a write that broke off inside a line, the next line must not be glued to the torn one.
        start = b"\n" if self._cut_line else b""
        data = memoryview(start + b"".join(batch))
        written = 0
        try:
            while written < len(data):
                written += self._write_some(data[written:])
        except OSError:  # a closed reader, a full disk: these lines are lost, the next are tried again
            done = bytes(data[:written])
            self._drop(len(batch) - max(0, done.count(b"\n") - len(start)))
            self._cut_line = not done.endswith(b"\n") if done else self._cut_line
        else:
            self._cut_line = False

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # somebody who shares our stdout made it non-blocking
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll(1000)
            return 0

    def _drop(self, count: int) -> None:
        with self._changed:
            self.dropped += count
        if self._on_drop is not None:
            self._on_drop(count)
