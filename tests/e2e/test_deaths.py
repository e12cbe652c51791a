"""Workers are restarted and stopped behind a real Envoy: the short version of row 8 of the torture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import messages
from tests.bench.servers import Service
from tests.torture import deaths
from tests.torture.deaths import Clients, Envoy, Family

POOL = messages.new_pool()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Family, Envoy]]:
    folder = tmp_path_factory.mktemp("deaths")
    with (
        Service(folder / "service", POOL, workers=2) as service,
        deaths.envoy_before(folder / "envoy", service, POOL) as envoy,
    ):
        yield Family(service), envoy


def test_rolling_restarts_fail_no_check(running: tuple[Family, Envoy]) -> None:
    family, envoy = running
    with Clients(envoy.port, messages.reader(POOL), rate=50) as clients:
        deaths.restart_rolling(family, envoy, 2)
    assert set(clients.statuses()) == {200}


def test_others_serve_while_one_is_stopped_and_it_is_replaced(running: tuple[Family, Envoy]) -> None:
    family, envoy = running
    with Clients(envoy.port, messages.reader(POOL), rate=50) as clients:
        time.sleep(0.2)
        _, later, _ = deaths.stop_a_worker(family, clients, envoy)
    assert set(later) == {200}
    assert family.lines("a worker does not answer and is ended")


def test_a_killed_worker_takes_only_its_own_calls_with_it(tmp_path: Path) -> None:
    message = messages.message(messages.reader(POOL))
    killed = deaths.Killed()
    with Service(tmp_path / "service", POOL, workers=2) as service:
        deaths.kill_workers(Family(service), message, killed)
    assert [figure for figure in deaths.kill_figures(killed) if not figure.held] == []
