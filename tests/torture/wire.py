"""Callers that keep to their schedule, and single HTTP/2 frames: what overload and hostile peers are made of.

A caller asks at its rate whether or not earlier calls were answered, and counts a call's time from when it was due: a
slow answer cannot slow the asking down. What a call came to is an answer (allow or deny) or a refusal of gRPC (an error
or a reset); a call without either is lost.
"""

from __future__ import annotations

import gc
import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from multiprocessing import get_context
from typing import Any, Final, NamedTuple, TypeAlias

from tests.bench.load import CHECK, GRPC

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
_LARGEST_WINDOW: Final = 2**31 - 1
_FIRST_WINDOW: Final = 65_535
_PATIENCE: Final = 3.0  # seconds for the last answers
_HEAD: Final = struct.Struct(">HBBBI")  # of a frame: its length in three bytes, kind, flags, stream
_GLANCE: Final = 0.05  # seconds; who has asked all looks so often whether it is time to give up


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Give one frame of RFC 9113 section 4.1."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def headers(port: int, path: str = CHECK, **more: str) -> bytes:
    """Give a header block that leaves nothing in HPACK's table, so that it can be sent on any stream."""
    named = {":path": path, ":authority": f"127.0.0.1:{port}", **GRPC, **more}
    literal = b"".join(b"\x00" + _text(name) + _text(value) for name, value in named.items())
    return bytes((0x80 | 3, 0x80 | 6)) + literal


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    rest, length = len(data) - 127, b"\x7f"  # RFC 7541 section 5.1: seven bits, then seven bits a byte
    while rest >= 128:
        length += bytes((rest % 128 | 128,))
        rest //= 128
    return length + bytes((rest,)) + data


def greeted(port: int) -> socket.socket:
    """Connect and say what a client of HTTP/2 says first."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    grant = struct.pack(">I", _LARGEST_WINDOW - _FIRST_WINDOW)
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(WINDOW, 0, 0, grant))
    return connection


@dataclass
class Calls:
    """What a caller's calls came to. `ends` has, for each answered call, when it was due and how long it took."""

    sent: int = 0
    allowed: int = 0
    denied: int = 0
    refused: int = 0
    lost: int = 0
    overloaded: int = 0  # of the denied
    ends: list[tuple[float, float]] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)  # seconds until a call was refused

    def at(self, share: float) -> float:
        """Give the latency below which that share of the answers lies, in ms."""
        return at([seconds for _, seconds in self.ends], share)

    def __add__(self, other: Calls) -> Calls:
        """Take two callers' calls together."""
        return Calls(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def at(seconds: Sequence[float], share: float) -> float:
    """Give the value below which that share lies, in ms; infinite for none."""
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


class Asker:
    """One connection that asks."""

    def __init__(self, port: int, deadline: str = "") -> None:
        self.socket = greeted(port)
        self.calls = Calls()
        self.closed = False
        self._block = headers(port, **({"grpc-timeout": deadline} if deadline else {}))
        self._begun = len(self._block).to_bytes(3) + bytes((HEADERS, END_HEADERS))
        self._stream = -1
        self._unsent = bytearray()
        self._due: dict[int, float] = {}
        self._told: set[int] = set()
        self._window = _FIRST_WINDOW
        self._received = bytearray()

    @property
    def in_flight(self) -> int:
        return len(self._due)

    def ask(self, message: bytes, due: float) -> bool:
        """Make a call that was due then, to be sent, unless the window is used up."""
        if self.closed or len(message) > self._window:
            return False
        self._stream += 2
        self._window -= len(message)
        self._due[self._stream] = due
        self.calls.sent += 1
        stream = self._stream.to_bytes(4)
        self._unsent += b"".join((self._begun, stream, self._block))
        self._unsent += b"".join((len(message).to_bytes(3), bytes((DATA, END_STREAM)), stream, message))
        return True

    def send(self) -> None:
        """Send the calls that were made."""
        if self._unsent and not self.closed:
            with self._as_lost():
                self.socket.sendall(self._unsent)
            self._unsent.clear()

    def read(self) -> None:
        """Take what has come."""
        with self._as_lost(), suppress(BlockingIOError):
            data = self.socket.recv(262_144)
            if not data:
                raise ConnectionError
            self._take(data)

    def look(self) -> None:
        """Take what has come, if something has."""
        if not self.closed:
            waits = self.socket.gettimeout()
            self.socket.settimeout(0.0)
            self.read()
            if not self.closed:
                self.socket.settimeout(waits)

    @contextmanager
    def _as_lost(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.give_up()

    def give_up(self) -> None:
        """Count what is not answered as lost."""
        self.calls.lost += len(self._due)
        self._due.clear()
        self.closed = True
        self.socket.close()

    def _take(self, data: bytes) -> None:
        received = self._received
        received += data
        at, size, now = 0, len(received), time.perf_counter()
        while size - at >= _HEAD.size:  # some tens of thousands of times a second, beside those who are measured
            high, low, kind, flags, stream = _HEAD.unpack_from(received, at)
            end = at + _HEAD.size + (high << 8 | low)
            if size < end:
                break
            self._frame(kind, flags, stream, at + _HEAD.size, end, now)
            at = end
        del received[:at]

    def _frame(self, kind: int, flags: int, stream: int, at: int, end: int, now: float) -> None:
        received, calls = self._received, self.calls
        if kind == DATA and end > at and stream not in self._told:
            self._told.add(stream)
            denied = end - at > 7 and received[at + 5] == 0x0A and received[at + 6] > 0 and received[at + 7] == 0x08
            calls.denied += denied
            calls.overloaded += denied and received.find(b"overloaded", at, end) >= 0
            calls.allowed += not denied
        elif kind == RESET or (kind == HEADERS and flags & END_STREAM):
            self._ended(stream, now)
        elif kind == WINDOW and not stream:
            self._window += int.from_bytes(received[at:end])
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self.socket.sendall(frame(kind, ACK, 0, bytes(received[at:end]) if kind == PING else b""))

    def _ended(self, stream: int, now: float) -> None:
        due = self._due.pop(stream, None)
        if due is None:
            return
        if stream in self._told:
            self._told.discard(stream)
            self.calls.ends.append((due, now - due))
        else:
            self.calls.refused += 1
            self.calls.refusals.append(now - due)


@contextmanager
def uncollected() -> Iterator[None]:
    """Let Python's collector rest: its pauses, of 10 ms and more, would be measured as slow answers."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Crowd(NamedTuple):
    """Who asks together: `rate` times a second, over so many connections; ports and messages come round again.

    Who asks several times at once looks for answers only as it asks again: how long those took is not what is measured,
    and to wake up for each would take the time that others' answers are measured in.
    """

    messages: Sequence[bytes]
    rate: float
    connections: int = 1
    at_once: int = 1

    @property
    def is_measured(self) -> bool:
        return self.at_once == 1


Ports: TypeAlias = int | Sequence[int]


def _each(ports: Ports) -> Sequence[int]:
    return [ports] if isinstance(ports, int) else ports


def ask_steadily(
    ports: Ports, messages: Sequence[bytes], *, rate: float, seconds: float, connections: int = 1, deadline: str = ""
) -> Calls:
    """Ask `rate` times a second; messages come round again."""
    (calls,) = ask_beside(ports, [Crowd(messages, rate, connections)], seconds=seconds, deadline=deadline)
    return calls


@uncollected()
def ask_beside(ports: Ports, crowds: Sequence[Crowd], *, seconds: float, deadline: str = "") -> list[Calls]:
    """Let several crowds ask at a time, each at its rate. From one thread: they do not wait for each other's core."""
    schedules = [_Schedule(_each(ports), crowd, seconds, deadline) for crowd in crowds]
    # Exact to the microsecond; epoll's waiting is to the millisecond, which would be measured as slow answers.
    with selectors.SelectSelector() as ready:
        for asker in (asker for schedule in schedules if schedule.is_measured for asker in schedule.askers):
            ready.register(asker.socket, selectors.EVENT_READ, asker)
        started = time.perf_counter()
        until = started + seconds + _PATIENCE
        while not all(schedule.is_over for schedule in schedules) and (now := time.perf_counter()) < until:
            due = [schedule.ask(started, now) for schedule in schedules]
            for key, _ in ready.select(max(0.0, min(due) - time.perf_counter())):
                if not key.data.closed:
                    key.data.read()
                if key.data.closed:
                    with suppress(KeyError, ValueError):
                        ready.unregister(key.fileobj)
    return [schedule.end() for schedule in schedules]


class _Schedule:
    """What a crowd has asked, and what is due."""

    def __init__(self, ports: Sequence[int], crowd: Crowd, seconds: float, deadline: str) -> None:
        self.askers = [Asker(port, deadline) for port in islice(cycle(ports), crowd.connections)]
        self.is_measured = crowd.is_measured
        self._at_once, self._seconds_between = crowd.at_once, crowd.at_once / crowd.rate
        self._times, self._total_times = 0, max(1, int(crowd.rate * seconds / crowd.at_once))
        self._turn, self._supply = cycle(self.askers), cycle(crowd.messages)
        self._skipped = 0

    @property
    def is_over(self) -> bool:
        """Whether all is asked and answered, or nobody is there to ask."""
        is_asked = self._times == self._total_times and not any(asker.in_flight for asker in self.askers)
        return is_asked or all(asker.closed for asker in self.askers)

    def ask(self, started: float, now: float) -> float:
        """Ask what is due, and tell when to come again."""
        is_asked = self._times == self._total_times
        if not self.is_measured and (is_asked or self._due(started) <= now):
            for asker in self.askers:
                asker.look()
        while self._times < self._total_times and (due := self._due(started)) <= now:
            for asker, message in islice(zip(self._turn, self._supply, strict=True), self._at_once):
                self._skipped += not asker.ask(message, due)
            self._times += 1
        for asker in self.askers:
            asker.send()
        return self._due(started) if self._times < self._total_times else now + _GLANCE

    def _due(self, started: float) -> float:
        return started + self._times * self._seconds_between

    def end(self) -> Calls:
        for asker in self.askers:
            asker.give_up()
        return sum((asker.calls for asker in self.askers), Calls(lost=self._skipped))


@uncollected()
def ask_closely(ports: Ports, messages: Sequence[bytes], *, seconds: float, in_flight: int = 64) -> float:
    """Ask as fast as it answers, so many in flight; gives the answers a second."""
    askers = [Asker(port) for port in islice(cycle(_each(ports)), 2)]
    supply = cycle(messages)
    started = time.perf_counter()
    with selectors.DefaultSelector() as ready:
        for asker in askers:
            ready.register(asker.socket, selectors.EVENT_READ, asker)
        while (now := time.perf_counter()) < started + seconds and not any(asker.closed for asker in askers):
            for asker in askers:
                while asker.in_flight < in_flight // 2 and asker.ask(next(supply), now):
                    asker.send()
            for key, _ in ready.select(0.1):
                key.data.read()
    answers = sum(len(asker.calls.ends) for asker in askers)
    for asker in askers:
        asker.give_up()
    return answers / (time.perf_counter() - started)


@contextmanager
def beside(work: Callable[..., Any], *arguments: Any) -> Iterator[Future[Any]]:
    """Do something in another process meanwhile: a busy neighbour must not be measured as slow answers."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        process.submit(time.time).result()  # it is there
        yield process.submit(work, *arguments)


def fates(calls: Calls) -> Counter[str]:
    """Give what became of the calls, for telling."""
    return Counter(
        allowed=calls.allowed, denied=calls.denied, refused=calls.refused, lost=calls.lost, overloaded=calls.overloaded
    )
