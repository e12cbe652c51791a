"""A real Envoy with envoy/api.yaml, a real `authz serve`, the demo's upstream, and a user pool that tests mint for.

One stand serves every test of a worker. Tests that change something change it back, or use a host of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio
import yaml

from authz.demo import files, scenario, stand
from authz.demo.decisions import Decisions, Record
from authz.demo.processes import Processes
from tests.support.ports import named_ports
from tests.support.user_pool import FakeUserPool

SAMPLES = Path(__file__).parents[2] / "envoy"
PORTS = ("envoy_port", "envoy_admin_port", "authz_port", "admin_port", "upstream_port")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def chromium() -> str:
    """Find the browser of this machine. Without one the test is skipped, loudly; in CI it fails."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "NOT TESTED: no Chromium for the browser tests. Install it: apt-get install -y chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Reply(NamedTuple):
    """An HTTP answer as it came."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def received(self) -> Mapping[str, Sequence[str]]:
        """The headers that reached the upstream."""
        return self.json["headers"]


async def send(
    port: int, target: str = "/", *headers: tuple[str, str], host: str | None = None, method: str = "GET"
) -> Reply:
    """Send exactly these bytes: no client library tidies them up."""
    named = [*([("host", host)] if host else []), *headers, ("connection", "close")]
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in named)
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{head}\r\n".encode("latin-1"))
        answer = (await reader.read()).decode("latin-1")
        writer.close()
        await writer.wait_closed()
    top, _, body = answer.partition("\r\n\r\n")
    status, *lines = top.split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return Reply(int(status.split()[1]), {name: value for name, _, value in pairs}, body)


class Stand:
    """What the tests talk to."""

    def __init__(self, folder: Path, processes: Processes, http: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.processes = processes
        self.http = http
        self.ports = named_ports(*PORTS)
        self.policies = files.copy_policies(files.SAMPLES / "policies", folder)
        self.decisions = Decisions(listen=self._heard)
        self.access: list[Record] = []  # Envoy's access log
        self.log: list[Record] = []  # the service's
        self.pool = FakeUserPool(clock=time.time)
        self.other_pool = FakeUserPool(pool_id="eu-west-1_ZyXwVuTsR", clock=time.time)
        self.subjects = {
            "1a1b2c3d-1111-4222-8333-444455556666": "alice",
            "2a1b2c3d-1111-4222-8333-444455556666": "bob",
            "3a1b2c3d-1111-4222-8333-444455556666": "carol",
        }

    def _heard(self, record: Record) -> None:
        self.log.append(record)

    async def start(self) -> None:
        """Start everything."""
        jwks = self.folder / "jwks.json"
        jwks.write_bytes(self.pool.jwks())
        trust = {
            "user_pool": self.pool.pool_id,
            "clients": [self.pool.client_id],
            "token_use": ["access"],
            "jwks_uri": jwks.as_uri(),
        }
        self._config = files.write_service_config(self.folder, ports=self.ports, policies=self.policies, pools=[trust])
        await stand.start_upstream(self.processes, self.http, self.ports)
        await self.start_service()
        config = files.write_envoy_config(self.folder, ports=self.ports)
        await stand.start_envoy(self.processes, self.http, self.ports, config, on_line=self._envoy_wrote)

    def _envoy_wrote(self, line: str) -> None:
        if line.startswith("{"):
            self.access.append(json.loads(line))

    async def start_service(self) -> None:
        """Start `authz serve`, for the first time or again."""
        self.service = await stand.start_service(self.processes, self.http, self.ports, self._config, self.decisions)

    async def kill_service(self) -> None:
        """End `authz serve` without a warning."""
        self.service.signal(signal.SIGKILL)
        await self.processes.end(self.service)

    @asynccontextmanager
    async def another_envoy(self, change: Callable[[Any], None]) -> AsyncIterator[int]:
        """Start a second Envoy whose HTTP connection manager was changed; gives its port."""
        sample = yaml.safe_load((SAMPLES / "api.yaml").read_text())
        change(sample["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"])
        ports = self.ports | named_ports("envoy_port", "envoy_admin_port")
        folder = self.folder / f"envoy-{ports['envoy_port']}"
        folder.mkdir()
        changed = folder / "sample.yaml"
        changed.write_text(json.dumps(sample))
        config = files.write_envoy_config(folder, ports=ports, sample=changed)
        envoy = await stand.start_envoy(self.processes, self.http, ports, config)
        try:
            yield ports["envoy_port"]
        finally:
            await self.processes.end(envoy)

    # Asking

    def client(self, port: int | None = None) -> scenario.Client:
        """Give the demo's client, with tokens of this stand's pool."""
        return scenario.Client(self.http, port or self.ports["envoy_port"], self.decisions, self.tokens())

    def tokens(self) -> Mapping[str, str]:
        """Mint a token for everybody whom the scenario names."""
        pool = self.pool
        subject = {name: sub for sub, name in self.subjects.items()}
        alice = {"sub": subject["alice"], "groups": ["admins"]}
        return {
            "alice": pool.token(**alice),
            "bob": pool.token(sub=subject["bob"], groups=["developers"], username="bob"),
            "carol": pool.token(sub=subject["carol"], username="carol"),
            "alice, expired": pool.token(**alice, now=time.time() - 7200),
            "alice, tampered": scenario.tamper(pool.token(**alice)),
            "alice, another app": pool.token(**alice, client_id="another0app0client0of0the0p"),
            "alice, another pool": self.other_pool.token(**alice),
            "alice's ID token": pool.id_token(**alice),
            "machine": pool.machine_token(scope="orders/read"),
        }

    async def send(self, target: str, *headers: tuple[str, str], host: str | None, **options: Any) -> Reply:
        """Send exactly these bytes to Envoy."""
        return await send(self.ports["envoy_port"], target, *headers, host=host, **options)

    async def reason(self, reply: Reply) -> str:
        """Find out why it was answered so."""
        body = reply.json
        request_id = body["request_id"] if "request_id" in body else body["headers"]["x-request-id"][0]
        record = await self.decisions.of(request_id)
        assert record is not None
        return record["reasons"][0]

    def bearer(self, who: str) -> tuple[str, str]:
        """Give the header with somebody's token."""
        return ("authorization", f"Bearer {self.tokens()[who]}")

    async def until_status(self, status: int, seconds: float, target: str = "/", **options: Any) -> float:
        """Ask until the status comes; gives the seconds it took, and fails after so many."""
        started = time.monotonic()
        while (reply := await self.send(target, **options)).status != status:
            assert time.monotonic() < started + seconds, f"still {reply.status} after {seconds} s"
            await asyncio.sleep(0.02)
        return time.monotonic() - started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def envoy_stand(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stand]:
    folder = tmp_path_factory.mktemp("stand")
    processes = Processes(folder)
    try:
        async with aiohttp.ClientSession() as http:
            one = Stand(folder, processes, http)
            await one.start()
            yield one
    finally:
        await processes.end()
