"""Asks a service at a fixed pace, whatever it answers, and reads every answer.

    with Asking(port, rate=1000, next_question=questions.__next__) as asking:
        ...
    asking.answers

An open loop in a thread of its own: a question leaves when it is due, and its time counts from then on, so that a slow
answer delays no question and hides no wait. A connection that is closed or refuses a call fails what was in flight, and
the next question opens another.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

from tests.bench import replay
from tests.bench.load import LoadError
from tests.bench.replay import _frame as frame
from tests.bench.replay import _header_blocks as header_blocks

PATIENCE_SECONDS: Final = 10.0  # for what is in flight at the end
MOST_IN_FLIGHT: Final = 250  # below what a connection may carry; more is refused, and counted as failed

Question = tuple[str, bytes]
"""What the asker calls it, and the message for a DATA frame."""


class Answer(NamedTuple):
    """What became of a question."""

    name: str  # of the question
    due: float  # time.perf_counter()
    seconds: float
    message: bytes | None  # a CheckResponse; None: it failed


class Asking:
    """Asks one port. `heard` is told each answer in the asking thread; without it they are kept in `answers`."""

    def __init__(
        self,
        port: int,
        *,
        rate: float,
        next_question: Callable[[], Question],
        heard: Callable[[Answer], None] | None = None,
    ) -> None:
        self.answers: list[Answer] = []
        self.failed = 0
        self._port = port
        self._rate = rate
        self._next_question = next_question
        self._heard = heard or self.answers.append
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asking")
        self._broke: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._broke is not None:
            raise self._broke

    def _run(self) -> None:
        try:
            self._ask_all()
        except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
            self._broke = error

    def _ask_all(self) -> None:
        line: _Line | None = None
        due = time.perf_counter()
        while not self._stop.is_set():
            due += 1 / self._rate
            while (left := due - time.perf_counter()) > 0:
                line = self._read(line, left)
            line = self._read(self._ask(line, due), 0.0)  # whoever is late with asking must not stop listening
        until = time.perf_counter() + PATIENCE_SECONDS
        while line is not None and line.open and time.perf_counter() < until:
            line = self._read(line, 0.1)
        if line is not None:
            self._close(line)

    def _ask(self, line: _Line | None, due: float) -> _Line | None:
        name, message = self._next_question()
        try:
            line = line or _Line(self._port, self._tell)
            line.ask(name, due, message)
        except (OSError, LoadError):
            self._tell(name, due, None)
            return None if line is None else self._close(line)
        return line

    def _read(self, line: _Line | None, seconds: float) -> _Line | None:
        if line is None:
            time.sleep(max(0.0, seconds))
            return None
        try:
            line.read(seconds)
        except (OSError, LoadError):
            return self._close(line)
        return line

    def _close(self, line: _Line) -> None:
        line.socket.close()
        line.ready.close()
        for name, due in line.open.values():
            self._tell(name, due, None)

    def _tell(self, name: str, due: float, message: bytes | None) -> None:
        self.failed += message is None
        self._heard(Answer(name, due, time.perf_counter() - due, message))


class _Line:
    """One HTTP/2 connection. Raises LoadError or OSError when it is of no use any more."""

    def __init__(self, port: int, tell: Callable[[str, float, bytes | None], None]) -> None:
        self.open: dict[int, tuple[str, float]] = {}
        self._tell = tell
        self._messages: dict[int, bytes] = {}
        self._stream = -1
        self._window = replay._FIRST_WINDOW
        self._received = bytearray()
        self._first_block, self._block = header_blocks(port)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ready = selectors.DefaultSelector()
        self.ready.register(self.socket, selectors.EVENT_READ)
        grant = struct.pack(">I", replay._LARGEST_WINDOW - replay._FIRST_WINDOW)
        settings = frame(replay._SETTINGS, 0, 0, b"")
        self.socket.sendall(replay._PREFACE + settings + frame(replay._WINDOW, 0, 0, grant))

    def ask(self, name: str, due: float, message: bytes) -> None:
        if len(self.open) >= MOST_IN_FLIGHT or len(message) > self._window:
            raise LoadError("too much in flight")
        self._stream += 2
        self.open[self._stream] = (name, due)
        self._window -= len(message)
        headers = frame(replay._HEADERS, replay._END_HEADERS, self._stream, self._first_block or self._block)
        self._first_block = b""
        self.socket.sendall(headers + frame(replay._DATA, replay._END_STREAM, self._stream, message))

    def read(self, seconds: float) -> None:
        """Take what comes within the time."""
        if not self.ready.select(max(0.0, seconds)):
            return
        data = self.socket.recv(262_144)
        if not data:
            raise LoadError("the server closed the connection")
        received = self._received
        received += data
        at = 0
        while len(received) - at >= 9:
            end = at + 9 + int.from_bytes(received[at : at + 3])
            if len(received) < end:
                break
            stream = int.from_bytes(received[at + 5 : at + 9])
            self._frame(received[at + 3], received[at + 4], stream, bytes(received[at + 9 : end]))
            at = end
        del received[:at]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == replay._DATA:
            self._messages[stream] = self._messages.get(stream, b"") + payload
        if (kind in (replay._DATA, replay._HEADERS) and flags & replay._END_STREAM) or kind == replay._RESET:
            message = self._messages.pop(stream, b"")
            if stream in self.open:
                self._tell(*self.open.pop(stream), message[5:] if message and kind != replay._RESET else None)
        elif kind == replay._WINDOW and not stream:
            self._window += int.from_bytes(payload)
        elif kind in (replay._SETTINGS, replay._PING) and not flags & replay._ACK:
            self.socket.sendall(frame(kind, replay._ACK, 0, payload if kind == replay._PING else b""))
        elif kind == replay._GOAWAY:
            raise LoadError("the server is going away")


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value that so large a share of them is not above; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def resident_mb(pid: int) -> float:
    """Memory that is this process's alone, in MB of 2**20 bytes; what it shares with others is not its growth."""
    fields = _rollup(pid)
    return (fields["Private_Clean"] + fields["Private_Dirty"]) / 1024


def _rollup(pid: int) -> dict[str, int]:
    with suppress(OSError), Path(f"/proc/{pid}/smaps_rollup").open(encoding="ascii") as lines:
        next(lines)
        return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    raise LoadError(f"no process {pid} any more")
