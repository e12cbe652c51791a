"""Overload through a real Envoy: three times more than it can do, in an open loop, and what comes back.

`h2load` asks, over HTTP/2 on some connections, and keeps to its schedule whether or not earlier answers came. What it
can do is measured before: the best of closed loops with several numbers in flight and of a short flood. Envoy is set up
as the sample api.yaml has it, with one thread. The service has a core of the machine that Envoy and h2load do not use,
or the flood would take away what is flooded; busy neighbours take part of that away, or two cores could not send
three times its maximum.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from authz.demo import tether
from tests.bench import load, messages, through_envoy
from tests.bench.load import Sample, Target
from tests.bench.servers import Service, envoy
from tests.support.check_request import HOST
from tests.support.ports import free_ports
from tests.torture import cores
from tests.torture.figures import Figure, Stand, at_least, at_most, none_of
from tests.torture.wire import at

TIMES: Final = 3  # more than it can do
AIMED: Final = 3.4  # times; h2load falls behind its schedule by up to a tenth
NEIGHBOURS: Final = 3  # which are busy, on the core of the service
SECONDS: Final = 20.0
ADMITTED_MS: Final = 50.0
RECOVERED: Final = 2.0  # seconds after the overload until all is as before
CONNECTIONS: Final = 40
STREAMS: Final = 100  # a connection, as many as the sample allows
CLOSED: Final = (8, 16, 30)  # in flight on each of two connections, tried for the maximum
LEAST: Final = 500  # requests a second that any machine can do


class Overload(NamedTuple):
    """What was found."""

    best: float  # good answers a second, at most
    calm: Sequence[Sample]  # at half of that, before
    flood: Sequence[Sample]
    after: Sequence[Sample]  # at half of that, from the flood's end on
    asked: int  # how many the flood was to be

    @property
    def statuses(self) -> Counter[int]:
        """How often each status came during the flood."""
        return Counter(sample.status for sample in self.flood)


def overloaded(folder: Path, *, seconds: float) -> Overload:
    """Start the service and Envoy, and give them too much for so long."""
    if not load.is_installed():
        raise load.LoadError(f"there is no h2load on this machine. Install it: {load.INSTALL}")
    pool = messages.new_pool()
    own, others = cores.apart()
    with ExitStack() as running:
        with cores.on(own):
            for _ in range(NEIGHBOURS):
                running.enter_context(_busy_neighbour())
            service = running.enter_context(Service(folder / "service", pool))
        port, admin = free_ports(), free_ports()
        config = through_envoy.configuration("authz", port=port, admin=admin, service=service.port, pool=pool)
        with cores.on(others), envoy(folder / "envoy", config) as server:
            target = _target(port, messages.reader(pool))
            server.wait_until(lambda: _answers(target))
            best = max(_closely(target, in_flight, min(2.0, seconds)) for in_flight in CLOSED)
            best = max(best, _goodput(_flood(target, folder, TIMES * (best or LEAST), min(3.0, seconds))))
            half = int(best / 2)
            calm = load.ask_steadily(target, folder, rate=half, seconds=min(5.0, seconds))
            flood = _flood(target, folder, AIMED * best, seconds)
            after = load.ask_steadily(target, folder, rate=half, seconds=2 * RECOVERED)
    asked = CONNECTIONS * int(int(AIMED * best) * seconds / CONNECTIONS)
    return Overload(best, calm, flood, after, asked)


def _flood(target: Target, folder: Path, rate: float, seconds: float) -> Sequence[Sample]:
    return load.ask_steadily(
        target, folder, rate=int(rate), seconds=seconds, connections=CONNECTIONS, in_flight=STREAMS
    )


def _goodput(flood: Sequence[Sample]) -> float:
    return sum(sample.status == 200 for sample in flood) / _took(flood)


def _took(flood: Sequence[Sample]) -> float:
    """Give the seconds from the first request to the last answer."""
    return max(sample.started + sample.latency for sample in flood) - min(sample.started for sample in flood)


@contextmanager
def _busy_neighbour() -> Iterator[None]:
    tied = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *_BUSY]
    # A session of its own, as the service has one: Linux may share a core between sessions, not processes (autogroup).
    with subprocess.Popen(tied, start_new_session=True) as neighbour:
        try:
            yield
        finally:
            neighbour.kill()


_BUSY: Final = (sys.executable, "-I", "-S", "-c", "while True: pass")


def _closely(target: Target, in_flight: int, seconds: float) -> float:
    """Give the rate of a closed loop; none where some of it was refused, as a busy machine may do."""
    try:
        rate = load.ask([target], 500, in_flight).rate
        return load.ask([target], max(500, int(rate * seconds)), in_flight).rate
    except load.LoadError:
        return 0.0


def torture(stand: Stand) -> Iterator[Figure]:
    """Give the figures of promise 7."""
    found = overloaded(stand.folder, seconds=max(2.0, SECONDS * min(1.0, stand.share)))
    stand.tell(f"  at most {found.best:,.0f} a second; during the flood: {dict(found.statuses)}")
    yield from counted(found)
    yield from timed(found)


def counted(found: Overload) -> Iterator[Figure]:
    """Give the figures that no clock of the machine can spoil."""
    statuses = found.statuses
    others = found.asked - statuses[200] - statuses[503]
    yield none_of("requests neither answered nor refused with 503 under overload", others, found.asked)
    yield at_least("requests refused with 503 under overload", statuses[503], 1)


def timed(found: Overload) -> Iterator[Figure]:
    """Give the figures that need a quiet machine."""
    good = [sample.latency for sample in found.flood if sample.status == 200]
    refused = [sample.latency for sample in found.flood if sample.status == 503]
    starts = [sample.started for sample in found.flood]
    offered = found.asked / (max(starts) - min(starts)) / found.best
    yield at_least("offered, of what it can do", offered, TIMES, "×")
    share = 100 * _goodput(found.flood) / found.best
    yield at_least(f"goodput, of the {found.best:,.0f}/s that it can do", share, 90, "%")
    yield at_most("p99 of the admitted", at(good, 0.99), ADMITTED_MS, "ms")
    yield at_most("p99 of the refused", at(refused, 0.99), ADMITTED_MS, "ms")
    late = _late(found)
    yield none_of("requests refused later than 2 s after it", sum(s.status != 200 for s in late), len(late))
    normal = max(2 * at([sample.latency for sample in found.calm], 0.99), 5.0)
    yield at_most("p99 from 2 s after it, at half of the maximum", at([s.latency for s in late], 0.99), normal, "ms")


def _late(found: Overload) -> Sequence[Sample]:
    begun = min(sample.started for sample in found.after)
    return [sample for sample in found.after if sample.started > begun + RECOVERED]


def _target(port: int, token: str) -> Target:
    fields = {":authority": HOST, "authorization": f"Bearer {token}", **messages.BROWSER}
    return Target(f"http://127.0.0.1:{port}{messages.path(10)}", fields)


def _answers(target: Target) -> bool:
    try:
        load.ask([target], load.CONNECTIONS)
    except load.LoadError:
        return False
    return True
