"""Processes may die: workers and their supervisor are killed, stopped and restarted, and others decide meanwhile.

A real Envoy with envoy/api.yaml asks two workers; the one change to the sample is what it tells its reader to do, an
endpoint for each worker. Its clients ask without a break, and every answer but 200 has failed. The service is asked
directly too, where it matters what becomes of a single call.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, Self

from authz.supervisor import HUNG_SECONDS, PROBE_SECONDS
from tests.bench import messages, servers, through_envoy
from tests.bench.load import LoadError
from tests.bench.servers import Service, outer_code
from tests.support.ports import free_ports
from tests.support.user_pool import FakeUserPool
from tests.torture.asking import Asking, percentile
from tests.torture.figures import Figure, Stand, at_most, none_of

RATE: Final = 500
BROKEN: Final = "broken: ["
BACK_SECONDS: Final = 1.0
ORPHAN_SECONDS: Final = 1.0
PATIENCE: Final = 30.0


class Family:
    """A service of two workers: who lives, and since when."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def pids(self) -> Mapping[int, int]:
        """Give the process id of each worker that was started last."""
        return dict(enumerate(self.service.worker_pids()))

    def lines(self, message: str) -> list[dict[str, Any]]:
        wanted = json.dumps(message)
        lines = self.service.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if wanted in line]

    @property
    def supervisor(self) -> int:
        """The process that started the workers."""
        return int(Path(f"/proc/{self.pids()[0]}/stat").read_text().rpartition(")")[2].split()[1])

    def answers(self, worker: int, message: bytes) -> bool:
        """Tell whether the worker allows the message."""
        return servers.allows(self.service.ports[worker], message)


class Clients:
    """Clients of Envoy: a few connections that are kept, each asking at its share of the rate in turn."""

    COUNT: Final = 8

    def __init__(self, port: int, token: str, rate: float) -> None:
        self.answers: list[tuple[float, float, int]] = []  # when due, seconds, status; 0: no answer
        self._port = port
        self._token = token
        self._pause = self.COUNT / rate
        self._ended = False
        self._pool = ThreadPoolExecutor(self.COUNT)

    def __enter__(self) -> Self:
        self._running = [self._pool.submit(self._ask_all, number / self.COUNT) for number in range(self.COUNT)]
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        for running in self._running:
            running.result()
        self._pool.shutdown()

    def _ask_all(self, offset: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        due = time.perf_counter() + offset * self._pause
        while not self._ended:
            due += self._pause
            time.sleep(max(0.0, due - time.perf_counter()))
            self.answers.append((due, *self._ask(connection, due)))
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, due: float) -> tuple[float, int]:
        headers = {"host": messages.HOST, "authorization": f"Bearer {self._token}"}
        try:
            connection.request("GET", messages.path(10), headers=headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
            status = 0
        return time.perf_counter() - due, status

    def statuses(self, since: float = 0.0, until: float = float("inf")) -> Counter[int]:
        """Count the answers to what was due between."""
        return Counter(status for due, _, status in self.answers if since <= due < until)

    def p99(self) -> float:
        return 1000 * percentile([seconds for _, seconds, _ in self.answers], 0.99)


def two_endpoints(configuration: Mapping[str, Any], ports: Sequence[int]) -> Mapping[str, Any]:
    """Give the configuration with an endpoint for each worker."""
    changed = deepcopy(dict(configuration))
    (cluster,) = (one for one in changed["static_resources"]["clusters"] if one["name"] == "authz")
    places = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    first = places[0]
    places.clear()
    for port in ports:
        place = deepcopy(first)
        place["endpoint"]["address"]["socket_address"]["port_value"] = port
        places.append(place)
    return changed


class Envoy:
    """A real Envoy before the two workers."""

    def __init__(self, port: int, admin: int) -> None:
        self.port = port
        self.admin = admin

    def healthy(self) -> int:
        """Count the workers that it would ask now."""
        text = self._get("/clusters?format=json")
        if not text:
            return 0
        clusters = {one["name"]: one.get("host_statuses", []) for one in json.loads(text)["cluster_statuses"]}
        states = [one["health_status"] for one in clusters.get("authz", [])]
        return sum(state.get("eds_health_status") == "HEALTHY" and len(state) == 1 for state in states)

    def counters(self) -> Mapping[str, int]:
        """Give what it counted about the service's cluster and the filter."""
        lines = self._get("/stats?filter=ext_authz|cluster.authz").splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    def _get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()


@contextmanager
def envoy_before(folder: Path, service: Service, pool: FakeUserPool) -> Iterator[Envoy]:
    """Start it, and wait until it asks both."""
    port = free_ports(2)
    sample = through_envoy.configuration("authz", port=port, admin=port + 1, service=service.port, pool=pool)
    with servers.envoy(folder, two_endpoints(sample, service.ports)) as server:
        envoy = Envoy(port, port + 1)
        server.wait_until(lambda: envoy.healthy() == 2)
        yield envoy


def until(done: Callable[[], bool], seconds: float = PATIENCE, poll: float = 0.01) -> float:
    """Wait for it, and give the seconds that it took. Raises LoadError when it takes too long."""
    started = time.monotonic()
    while not done():
        if time.monotonic() > started + seconds:
            raise LoadError(f"not within {seconds:.0f} s")
        time.sleep(poll)
    return time.monotonic() - started


# --- kill -9 of a worker


class Killed:
    """What became of a worker's calls when it was killed under load, and of it."""

    def __init__(self) -> None:
        self.answered = 0
        self.lost = 0  # in flight when it was killed, or asked before another one listened
        self.lost_elsewhere = 0  # of the other worker
        self.wrong = 0
        self.lost_later = 0  # after it was back
        self.back_seconds: list[float] = []


def kill_workers(family: Family, message: bytes, killed: Killed) -> None:
    """Kill each worker once while both are asked directly. A second time soon after, the next one may start later."""
    for victim in (0, 1):
        _kill_once(family, message, victim, killed)
        until(family.service.is_ready)


def _kill_once(family: Family, message: bytes, victim: int, killed: Killed) -> None:
    ports = family.service.ports
    question = lambda: ("", message)  # noqa: E731
    with (
        Asking(ports[victim], rate=RATE / 2, next_question=question) as of_victim,
        Asking(ports[1 - victim], rate=RATE / 2, next_question=question) as of_other,
    ):
        time.sleep(0.5)
        died = time.perf_counter()
        os.kill(family.pids()[victim], signal.SIGKILL)
        until(lambda: not family.answers(victim, message), 1.0, poll=0.001)
        until(lambda: family.answers(victim, message), poll=0.005)
        back = time.perf_counter()
        time.sleep(0.5)
    killed.back_seconds.append(back - died)
    killed.lost += of_victim.failed
    killed.lost_elsewhere += of_other.failed
    for answer in (*of_victim.answers, *of_other.answers):
        killed.answered += answer.message is not None
        killed.wrong += answer.message is not None and outer_code(answer.message) != 0
    killed.lost_later += sum(answer.message is None and answer.due > back for answer in of_victim.answers)


# --- kill -9 of the supervisor


def orphans_after_kill(family: Family) -> int:
    """Kill the supervisor, and count who is left of its workers after a second."""
    workers, ports = list(family.pids().values()), family.service.ports
    os.kill(family.supervisor, signal.SIGKILL)
    with suppress(LoadError):
        until(lambda: not any(map(lives, workers)) and not any(map(listens, ports)), ORPHAN_SECONDS)
    return sum(map(lives, workers)) + sum(map(listens, ports))


def lives(pid: int) -> bool:
    """Tell whether the process runs: one that has ended and waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def listens(port: int) -> bool:
    """Tell whether somebody does on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- SIGSTOP of a worker


def stop_a_worker(family: Family, clients: Clients, envoy: Envoy) -> tuple[Counter[int], Counter[int], float]:
    """Stop a worker: answers until Envoy had noticed, answers afterwards, and seconds until another worker serves."""
    hung = family.pids()[1]
    began = time.perf_counter()
    os.kill(hung, signal.SIGSTOP)
    until(lambda: envoy.healthy() == 1, 10)
    noticed = time.perf_counter()
    until(lambda: family.pids()[1] != hung, HUNG_SECONDS + 2 * PROBE_SECONDS + 5, poll=0.05)
    until(lambda: envoy.healthy() == 2)
    back = time.perf_counter()
    time.sleep(1.0)
    return clients.statuses(began, noticed), clients.statuses(noticed), back - began


# --- rolling restarts


def restart_rolling(family: Family, envoy: Envoy, times: int) -> list[float]:
    """End one worker after the other as an operator does: the next one when Envoy asks both again."""
    took = []
    for number in range(times):
        worker = number % 2
        ended = family.pids()[worker]
        os.kill(ended, signal.SIGTERM)
        seconds = until(lambda ended=ended, worker=worker: family.pids()[worker] != ended, poll=0.05)
        took.append(seconds + until(lambda: envoy.healthy() == 2, poll=0.05))
    return took


def torture(stand: Stand) -> Iterator[Figure]:
    """About seven minutes, most of them the restarts: each drains, starts and waits for Envoy's health check."""
    pool = messages.new_pool()
    token = messages.reader(pool)
    message = messages.message(token)
    killed, orphans, families = Killed(), 0, stand.count(5)
    for number in range(families):
        with Service(stand.folder / f"killed-{number}", pool, workers=2) as service:
            family = Family(service)
            if number % 2:
                service.policy_file.write_text(BROKEN)
            kill_workers(family, message, killed)
            orphans += orphans_after_kill(family)
    yield from kill_figures(killed)
    yield at_most(
        "a killed worker is back, also where policies are broken, the slowest",
        max(killed.back_seconds),
        BACK_SECONDS,
        "s",
    )
    yield none_of("orphans a second after kill -9 of the supervisor", orphans, 2 * families)
    with (
        Service(stand.folder / "restarted", pool, workers=2) as service,
        envoy_before(stand.folder / "envoy", service, pool) as envoy,
    ):
        family = Family(service)
        yield from stop_figures(family, envoy, token)
        yield from restart_figures(stand, family, envoy, token, max(4, stand.count(100)))


def kill_figures(killed: Killed) -> Iterator[Figure]:
    """What holds however busy the machine is."""
    times = len(killed.back_seconds)
    yield none_of(f"calls of the other worker lost in {times} × kill -9 of one", killed.lost_elsewhere, killed.answered)
    yield none_of("calls lost after the killed worker was back", killed.lost_later, killed.answered)
    yield none_of("wrong answers around a kill -9", killed.wrong, killed.answered)


def stop_figures(family: Family, envoy: Envoy, token: str) -> Iterator[Figure]:
    """SIGSTOP of a worker under load through Envoy."""
    with Clients(envoy.port, token, RATE) as clients:
        time.sleep(1.0)
        unnoticed, later, back = stop_a_worker(family, clients, envoy)
    asked = unnoticed.total()
    yield Figure(
        "checks failed before Envoy notices a stopped worker",
        f"{asked - unnoticed[200]:,} of {asked:,}",
        "told",
        held=True,
    )
    yield none_of("checks failed after Envoy had noticed", later.total() - later[200], later.total())
    yield at_most("a stopped worker is replaced and asked again", back, HUNG_SECONDS + 2 * PROBE_SECONDS + 5, "s")


def restart_figures(stand: Stand, family: Family, envoy: Envoy, token: str, times: int) -> Iterator[Figure]:
    """Rolling restarts under load through Envoy."""
    before = envoy.counters()
    with Clients(envoy.port, token, RATE) as clients:
        time.sleep(1.0)
        took = restart_rolling(family, envoy, times)
        time.sleep(1.0)
    statuses = clients.statuses()
    retried = envoy.counters().get("cluster.authz.upstream_rq_retry", 0) - before.get(
        "cluster.authz.upstream_rq_retry", 0
    )
    stand.tell(f"    a restart took {sum(took) / times:.1f} s; {retried} calls retried; p99 {clients.p99():.1f} ms")
    failed = statuses.total() - statuses[200]
    yield none_of(f"checks failed in {times} rolling restarts at {RATE}/s behind Envoy", failed, statuses.total())
