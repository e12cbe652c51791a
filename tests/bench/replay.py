"""A second generator, for mixes: h2load knows one message, this one sends a different message every time.

It writes HTTP/2 frames that are all but ready before the run and reads of an answer only what it must; the report says
what it costs a request. What it measures is compared with a floor measured by itself, never with h2load's. An answer
counts when it holds a message; a gRPC error holds none.

HPACK (RFC 7541) needs no library here: the first request of a connection enters its headers into the table, every later
one names them by number.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from tests.bench.load import CHECK, CONNECTIONS, GRPC, IN_FLIGHT, LONGEST_RUN, LoadError

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_FIRST_WINDOW: Final = 65_535  # what a peer may send before it is granted more, RFC 9113 section 6.9.2
_LARGEST_WINDOW: Final = 2**31 - 1
_FIRST_DYNAMIC: Final = 62  # the newest entry of HPACK's table; the 61 before are fixed


class Replayed(NamedTuple):
    """What a run came to."""

    answers: int
    denied: int
    seconds: float
    own_cpu: float  # seconds of processor time that the generator itself took

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


def replay(port: int, messages: Iterable[bytes]) -> Replayed:
    """Send every message once, as soon as there is room for it. Raises LoadError when one is not answered."""
    prepared = iter(list(messages))  # making them is not what is measured
    with selectors.DefaultSelector() as ready:
        connections = [_Connection(port, prepared) for _ in range(CONNECTIONS)]
        started, own = time.perf_counter(), time.process_time()
        try:
            for connection in connections:
                connection.fill()
                ready.register(connection.socket, selectors.EVENT_READ, connection)
            while any(connection.in_flight for connection in connections):
                if time.perf_counter() > started + LONGEST_RUN:
                    raise LoadError(f"not all answers after {LONGEST_RUN} s")
                for key, _ in ready.select(timeout=1.0):
                    key.data.read()
                    key.data.fill()
            seconds, own = time.perf_counter() - started, time.process_time() - own
        finally:
            for connection in connections:
                connection.socket.close()
    return Replayed(sum(one.answers for one in connections), sum(one.denied for one in connections), seconds, own)


def ask_once(port: int, message: bytes) -> bytes:
    """Send one message and give the answer's, without gRPC's five bytes. Raises LoadError or OSError."""
    connection = _Connection(port, iter([message]))
    try:
        connection.fill()
        while connection.in_flight:
            connection.read()
        return connection.last[5:]
    finally:
        connection.socket.close()


class _Connection:
    """One HTTP/2 connection: what is in flight, how much more may be sent, what has come back."""

    def __init__(self, port: int, messages: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.in_flight = self.answers = self.denied = 0
        self.last = b""
        self._messages = messages
        self._waiting: bytes | None = None  # a message for which the window was too small
        self._first_block, self._block = _header_blocks(port)
        self._stream = -1
        self._window = _FIRST_WINDOW
        self._received = bytearray()
        self._told: set[int] = set()  # streams whose message has come
        grant = struct.pack(">I", _LARGEST_WINDOW - _FIRST_WINDOW)
        self.socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_WINDOW, 0, 0, grant))

    def fill(self) -> None:
        """Send until enough is in flight, the window is used up or there is nothing more."""
        frames = []
        while self.in_flight < IN_FLIGHT and (message := self._next()) is not None:
            self._stream += 2
            frames += [
                _frame(_HEADERS, _END_HEADERS, self._stream, self._first_block or self._block),
                _frame(_DATA, _END_STREAM, self._stream, message),
            ]
            self._first_block = b""
            self.in_flight += 1
        if frames:
            self.socket.sendall(b"".join(frames))

    def _next(self) -> bytes | None:
        message = self._waiting or next(self._messages, None)
        self._waiting = None
        if message is not None and len(message) > self._window:
            self._waiting, message = message, None
        self._window -= len(message or b"")
        return message

    def read(self) -> None:
        """Take what has come."""
        data = self.socket.recv(262_144)
        if not data:
            raise LoadError("the server closed the connection")
        received = self._received
        received += data
        at = 0
        while len(received) - at >= 9:
            length = int.from_bytes(received[at : at + 3])
            end = at + 9 + length
            if len(received) < end:
                break
            stream = int.from_bytes(received[at + 5 : at + 9])
            self._frame(received[at + 3], received[at + 4], stream, received[at + 9 : end])
            at = end
        del received[:at]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytearray) -> None:
        if kind == _DATA and payload:
            if stream not in self._told:
                self._told.add(stream)
                self.denied += _is_denial(payload)
                self.last = bytes(payload)
        elif kind == _HEADERS and flags & _END_STREAM:
            if stream not in self._told:
                raise LoadError("a call ended without a message: a gRPC error")
            self._told.discard(stream)
            self.in_flight -= 1
            self.answers += 1
        elif kind == _WINDOW and not stream:
            self._window += int.from_bytes(payload)
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self.socket.sendall(_frame(kind, _ACK, 0, bytes(payload) if kind == _PING else b""))
        elif kind in (_RESET, _GOAWAY):
            raise LoadError("the server refused a call")


def _is_denial(answer: bytearray) -> bool:
    """Tell by the first field of a CheckResponse, `status {code: …}`: an allow has no code."""
    return len(answer) > 7 and answer[5] == 0x0A and answer[6] > 0 and answer[7] == 0x08


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _header_blocks(port: int) -> tuple[bytes, bytes]:
    """Give the headers of a connection's first request and those of all others."""
    headers = {":path": CHECK, ":authority": f"127.0.0.1:{port}", **GRPC}
    fixed = bytes((0x80 | 3, 0x80 | 6))  # :method POST and :scheme http, entries of the fixed table
    literal = b"".join(b"\x40" + _text(name) + _text(value) for name, value in headers.items())
    numbers = bytes(0x80 | (_FIRST_DYNAMIC + place) for place in reversed(range(len(headers))))
    return fixed + literal, fixed + numbers


def _text(text: str) -> bytes:
    assert len(text) < 127  # one byte of length
    return bytes((len(text),)) + text.encode()
