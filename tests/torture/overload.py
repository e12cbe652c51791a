"""Overload through a real Envoy: three times more than it can do, in an open loop, and what comes back.

Clients speak HTTP/1.1 on many connections. A request counts from when it was due; when no connection is free it waits,
and that wait counts too. The maximum is measured before, in a closed loop. Envoy is set up as envoy/api.yaml has it.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench import messages, through_envoy
from tests.bench.servers import Service, envoy, free_ports
from tests.support.check_request import HOST
from tests.torture.figures import Figure, Stand, at_least, at_most, none_of
from tests.torture.wire import at

TIMES: Final = 3  # more than it can do
SECONDS: Final = 20.0
ADMITTED_MS: Final = 50.0
RECOVERED: Final = 2.0  # seconds after the overload until all is as before
CONNECTIONS: Final = 400
_PATIENCE: Final = 5.0
_AT_ONCE: Final = 16  # requests sent before it is looked whether answers have come


class Sample(NamedTuple):
    """One request."""

    due: float
    seconds: float
    status: int  # 0: lost


class Clients:
    """Connections to Envoy that ask the same thing again and again."""

    def __init__(self, port: int, request: bytes, connections: int) -> None:
        self._request = request
        self._ready = selectors.DefaultSelector()
        self._port = port
        self._free: deque[socket.socket] = deque()
        self._due: dict[socket.socket, float] = {}
        self._got: dict[socket.socket, bytes] = {}
        self.samples: list[Sample] = []
        for _ in range(connections):
            self._connect()

    def _connect(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ready.register(connection, selectors.EVENT_READ)
        self._free.append(connection)

    def close(self) -> None:
        """Hang up."""
        for key in list(self._ready.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._ready.close()

    def closely(self, seconds: float, in_flight: int) -> float:
        """Ask as fast as it answers; gives the good answers a second."""
        begun, started = len(self.samples), time.perf_counter()
        while (now := time.perf_counter()) < started + seconds:
            while len(self._due) < in_flight:
                self._ask(now)
            self._read(0.1)
        self._finish()
        return sum(sample.status == 200 for sample in self.samples[begun:]) / (time.perf_counter() - started)

    def steadily(self, rate: float, seconds: float) -> list[Sample]:
        """Ask at a rate, whatever comes back."""
        begun, started, asked, total = len(self.samples), time.perf_counter(), 0, max(1, int(rate * seconds))
        while asked < total and time.perf_counter() < started + seconds + _PATIENCE:
            for _ in range(min(len(self._free), total - asked, _AT_ONCE)):
                if (due := started + asked / rate) > time.perf_counter():
                    break
                self._ask(due)
                asked += 1
            self._read(max(0.0, started + asked / rate - time.perf_counter()) if self._free else 0.1)
        lost = [Sample(started + late / rate, _PATIENCE, 0) for late in range(asked, total)]
        self._finish()
        return [*self.samples[begun:], *lost]

    def _finish(self) -> None:
        until = time.perf_counter() + _PATIENCE
        while self._due and time.perf_counter() < until:
            self._read(0.1)
        for connection in list(self._due):
            self._ended(connection, 0)

    def _ask(self, due: float) -> None:
        connection = self._free.popleft()
        self._due[connection] = due
        self._got[connection] = b""
        try:
            connection.sendall(self._request)
        except OSError:
            self._ended(connection, 0)

    def _read(self, pause: float) -> None:
        for key, _ in self._ready.select(pause):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            try:
                data = connection.recv(65_536)
            except OSError:
                data = b""
            if not data:
                self._ended(connection, 0)
                continue
            self._got[connection] = got = self._got.get(connection, b"") + data
            if _is_whole(got):
                self._ended(connection, int(got[9:12]))

    def _ended(self, connection: socket.socket, status: int) -> None:
        due = self._due.pop(connection, None)
        if due is not None:
            self.samples.append(Sample(due, time.perf_counter() - due, status))
        if status:
            self._free.append(connection)
            return
        self._ready.unregister(connection)
        if connection in self._free:
            self._free.remove(connection)
        connection.close()
        self._connect()


def _is_whole(got: bytes) -> bool:
    head, end, body = got.partition(b"\r\n\r\n")
    if not end:
        return False
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length or 0)


class Overload(NamedTuple):
    """What was found."""

    best: float  # good answers a second, closed loop
    calm: list[Sample]  # at half of that, before
    flood: list[Sample]
    after: list[Sample]  # at half of that, from the flood's end on
    seconds: float

    @property
    def statuses(self) -> Counter[int]:
        """How often each status came during the flood."""
        return Counter(sample.status for sample in self.flood)


def overloaded(folder: Path, *, seconds: float, connections: int = CONNECTIONS) -> Overload:
    """Start the service and Envoy, and give them too much for so long."""
    pool = messages.new_pool()
    with Service(folder / "service", pool) as service:
        port, admin = free_ports(1), free_ports(1)
        config = through_envoy.configuration("authz", port=port, admin=admin, service=service.port, pool=pool)
        with envoy(folder / "envoy", config) as server:
            server.wait_until(lambda: _answers(port))
            clients = Clients(port, _request(messages.reader(pool)), connections)
            try:
                clients.closely(min(2.0, seconds), 32)
                best = clients.closely(min(5.0, seconds), 32)
                calm = clients.steadily(best / 2, min(5.0, seconds))
                flood = clients.steadily(best * TIMES, seconds)
                after = clients.steadily(best / 2, 2 * RECOVERED)
            finally:
                clients.close()
    return Overload(best, calm, flood, after, seconds)


def torture(stand: Stand) -> Iterator[Figure]:
    """Give the figures of promise 7."""
    found = overloaded(stand.folder, seconds=max(2.0, SECONDS * min(1.0, stand.share)))
    stand.tell(f"  at most {found.best:,.0f} a second; during the flood: {dict(found.statuses)}")
    yield from counted(found)
    yield from timed(found)


def counted(found: Overload) -> Iterator[Figure]:
    """Give the figures that no clock of the machine can spoil."""
    statuses = found.statuses
    asked = sum(statuses.values())
    others = asked - statuses[200] - statuses[503]
    yield none_of("requests neither answered nor refused with 503 under overload", others, asked)
    yield at_least("requests refused with 503 under overload", statuses[503], 1)
    late = [sample for sample in found.after if sample.due > found.after[0].due + RECOVERED]
    yield none_of("requests refused later than 2 s after it", sum(s.status != 200 for s in late), len(late))


def timed(found: Overload) -> Iterator[Figure]:
    """Give the figures that need a quiet machine."""
    good = [sample.seconds for sample in found.flood if sample.status == 200]
    refused = [sample.seconds for sample in found.flood if sample.status == 503]
    share = 100 * len(good) / found.seconds / found.best
    yield at_least(
        f"goodput at {TIMES} × {found.best:,.0f}/s, the maximum measured in a closed loop", share, 90, "% of it"
    )
    yield at_most("p99 of the admitted", at(good, 0.99), ADMITTED_MS, "ms")
    yield at_most("p99 of the refused", at(refused, 0.99), ADMITTED_MS, "ms")
    late = [sample.seconds for sample in found.after if sample.due > found.after[0].due + RECOVERED]
    normal = max(2 * at([sample.seconds for sample in found.calm], 0.99), 5.0)
    yield at_most("p99 from 2 s after it, at half of the maximum", at(late, 0.99), normal, "ms")


def _request(token: str) -> bytes:
    fields = {"host": HOST, "authorization": f"Bearer {token}", **messages.BROWSER}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {messages.path(10)} HTTP/1.1\r\n{lines}\r\n".encode()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
