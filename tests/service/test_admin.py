"""The admin port, asked by a real HTTP client on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from pathlib import Path

import aiohttp
import pytest

from authz.metrics import Metrics
from authz.model import Deny, Reason
from authz.settings import Listen
from authz.transport import admin
from authz.transport.admin import AdminServer, OwnPages, start_admin


class Stand:
    """A running admin port whose readiness the test sets."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.metrics = Metrics(version="1.2.3", wall=lambda: 0.0)
        self.server: AdminServer
        self.client: aiohttp.ClientSession

    async def get(self, path: str, method: str = "GET") -> tuple[int, str, aiohttp.ClientResponse]:
        async with self.client.request(method, f"http://127.0.0.1:{self.server.port}{path}") as response:
            return response.status, await response.text(), response


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    stand = Stand()
    pages = OwnPages(lambda: stand.missing, stand.metrics)
    stand.server = await start_admin(Listen("127.0.0.1", 0), pages)
    async with aiohttp.ClientSession() as stand.client:
        yield stand
    await stand.server.close()


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
async def test_alive_while_the_loop_turns_ready_or_not(stand: Stand, path: str) -> None:
    stand.missing = ["no policies"]
    status, text, _ = await stand.get(path)
    assert (status, text) == (200, "ok\n")


async def test_ready_when_nothing_is_missing(stand: Stand) -> None:
    status, text, response = await stand.get("/readyz")
    assert (status, text) == (200, "ready\n")
    assert response.content_type == "text/plain"
    assert response.headers["Cache-Control"] == "no-store"


async def test_not_ready_names_everything_that_is_missing(stand: Stand) -> None:
    stand.missing = ["no keys for eu-west-1_Abc", "no policies", "draining"]
    status, text, _ = await stand.get("/readyz")
    assert (status, text) == (503, "no keys for eu-west-1_Abc\nno policies\ndraining\n")
    stand.missing = []
    assert (await stand.get("/readyz"))[0] == 200


async def test_metrics_are_what_prometheus_reads(stand: Stand) -> None:
    stand.metrics.decided(Deny(Reason.NO_RULE), 0.001)
    status, text, response = await stand.get("/metrics")
    assert status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'authz_decisions_total{decision="deny",reason="no-rule",route=""} 1.0\n' in text


async def test_a_scrape_stops_no_other_answer(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    rendering, go_on = threading.Event(), threading.Event()

    def slow() -> tuple[bytes, str]:
        rendering.set()
        assert go_on.wait(10)
        return b"", "text/plain"

    monkeypatch.setattr(stand.metrics, "render", slow)
    scrape = asyncio.create_task(stand.get("/metrics"))
    await asyncio.to_thread(rendering.wait, 10)
    assert (await stand.get("/livez"))[0] == 200
    go_on.set()
    assert (await scrape)[0] == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_head_is_answered_without_a_body(stand: Stand, path: str) -> None:
    status, text, _ = await stand.get(path, "HEAD")
    assert (status, text) == (200, "")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/", 404, id="the root holds nothing"),
        pytest.param("GET", "/livez/", 404, id="a trailing slash is another path"),
        pytest.param("GET", "/metrics/../readyz2", 404, id="an unknown path"),
        pytest.param("POST", "/readyz", 405, id="nothing is posted here"),
        pytest.param("DELETE", "/metrics", 405, id="nothing is deleted here"),
    ],
)
async def test_everything_else_is_refused(stand: Stand, method: str, path: str, status: int) -> None:
    assert (await stand.get(path, method))[0] == status


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/unknown"])
async def test_no_answer_names_versions_of_its_software(stand: Stand, path: str) -> None:
    _, _, response = await stand.get(path)
    assert "Server" not in response.headers


async def test_readiness_that_breaks_is_not_ready(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand, "missing", 7)  # no list at all
    status, text, _ = await stand.get("/readyz")
    assert status == 500
    assert "TypeError" not in text
    assert (await stand.get("/livez"))[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16\x03\x01\x02\x00", id="a TLS handshake"),
        pytest.param(b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n", id="a long path"),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n", id="a long header"),
        pytest.param(b"\x00\r\n\r\n", id="no HTTP at all"),
    ],
)
async def test_rubbish_closes_its_own_connection_alone(stand: Stand, data: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.server.port)
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    assert b"200" not in answer.partition(b"\r\n")[0]
    writer.close()
    await writer.wait_closed()
    assert (await stand.get("/livez"))[0] == 200


async def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    for _ in range(2):  # a socket left behind by a former run is no obstacle
        server = await start_admin(Listen(path=path), OwnPages(list, Metrics(version="1", wall=lambda: 0.0)))
        assert server.port == 0
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as client,
            client.get("http://authz/readyz") as response,
        ):
            assert response.status == 200
        await server.close()


async def test_a_port_that_is_taken_is_an_os_error(stand: Stand) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await start_admin(Listen("127.0.0.1", stand.server.port), OwnPages(list, stand.metrics))


async def test_an_address_that_cannot_be_is_told_with_its_setting(tmp_path: Path) -> None:
    pages = OwnPages(list, Metrics(version="1", wall=lambda: 0.0))
    path = str(tmp_path / "missing" / "admin.sock")
    with pytest.raises(OSError, match=f"^admin: cannot listen on unix:{path}: No such file or directory$"):
        await start_admin(Listen(path=path), pages)


async def test_a_socket_that_another_answers_on_is_not_taken_over(tmp_path: Path) -> None:
    pages = OwnPages(list, Metrics(version="1", wall=lambda: 0.0))
    address = Listen(path=str(tmp_path / "admin.sock"))
    first = await start_admin(address, pages)
    with pytest.raises(OSError, match="another process listens on"):
        await start_admin(address, pages)
    await first.close()


async def test_whoever_only_connects_takes_no_more_than_a_share_of_the_files(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "MAX_CONNECTIONS", 2)
    loop, address = asyncio.get_running_loop(), ("127.0.0.1", stand.server.port)
    with ExitStack() as sockets:

        async def connected() -> socket.socket:
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            await loop.sock_connect(client, address)
            return client

        first, second, third = [await connected() for _ in range(3)]
        with suppress(ConnectionResetError):
            assert await loop.sock_recv(third, 1) == b"", "the third is hung up on"
        first.close()
        await asyncio.sleep(0.1)  # until the server has noticed
        for client in (second, await connected()):
            await loop.sock_sendall(client, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await loop.sock_recv(client, 1024)).startswith(b"HTTP/1.1 200 ")


async def test_after_closing_nobody_listens(stand: Stand) -> None:
    port = stand.server.port
    await stand.server.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
