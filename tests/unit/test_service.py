"""What the wiring itself decides."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from authz.lines import LineWriter
from authz.metrics import Metrics
from authz.pb import external_auth_pb2 as pb
from authz.service import Service
from authz.settings import Listen, load_settings
from authz.transport.server import Server
from authz.transport.sockets import refuse_a_taken_socket, why_not
from tests.support.check_request import check_request
from tests.support.running_service import reply_of
from tests.support.user_pool import FakeUserPool
from tests.support.whole_service import whole_service


def test_a_socket_that_somebody_answers_on_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "authz.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(OSError, match="another process listens"):
            refuse_a_taken_socket(Listen(path=path))


def test_nor_do_we_wait_for_somebody_who_listens_and_accepts_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "authz.sock")
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(path)
        other.listen(0)
        waiting.connect(path)
        with pytest.raises(OSError, match="another process listens"):
            refuse_a_taken_socket(Listen(path=path))


def test_a_socket_file_left_behind_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "authz.sock")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(path)
    refuse_a_taken_socket(Listen(path=path))


def test_a_tcp_address_needs_no_look() -> None:
    refuse_a_taken_socket(Listen("127.0.0.1", 9191))


def service_of(pool: FakeUserPool, tmp_path: Path, *, pools: int = 1, workers: int = 1) -> Service:
    """Build a service whose keys are in a file; nothing is loaded."""
    (tmp_path / "keys.json").write_bytes(pool.jwks())
    (tmp_path / "app.yaml").write_text("- from: https://a.example.com\n", encoding="utf-8")
    (tmp_path / "authz.yaml").write_text(
        f"policies: app.yaml\nlisten: 127.0.0.1:0\nworkers: {workers}\ncognito:\n"
        + "".join(
            f"  - user_pool: {pool.pool_id}{number or ''}\n    clients: any\n    token_use: access\n"
            f"    jwks_uri: {(tmp_path / 'keys.json').as_uri()}\n"
            for number in range(pools)
        ),
        encoding="utf-8",
    )
    settings = load_settings(tmp_path / "authz.yaml", environ={}, overrides={})
    nowhere = os.open(os.devnull, os.O_WRONLY)
    return Service(settings, writer=LineWriter(nowhere), metrics=Metrics(version="test", wall=time.time))


@pytest.mark.parametrize(("pools", "workers", "each"), [(1, 1, 32), (2, 1, 16), (2, 4, 4), (7, 8, 1)])
def test_all_pools_and_workers_together_let_only_so_many_wait(
    tmp_path: Path, pools: int, workers: int, each: int
) -> None:
    service = service_of(FakeUserPool(clock=time.time), tmp_path, pools=pools, workers=workers)
    assert [issuer.keys._max_waiters for issuer in service._issuers] == [each] * pools


def test_why_an_address_cannot_be_had(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert why_not(Listen("127.0.0.1", taken.getsockname()[1])) == "Address already in use"
    assert why_not(Listen("192.0.2.1", 9191)) == "Cannot assign requested address"
    assert why_not(Listen(path=str(tmp_path / "gone" / "authz.sock"))) == "No such file or directory"
    assert why_not(Listen("", 0)) == "gRPC does not say why"


async def test_without_a_revocation_list_in_force_everybody_is_revoked(tmp_path: Path) -> None:
    pool = FakeUserPool(clock=time.time)
    (tmp_path / "gone.yaml").write_text("[]\n", encoding="utf-8")
    policies = "- {from: 'https://app.example.com', allow_any_authenticated_user: true}\n"
    async with whole_service(tmp_path, policies, pool, {"revocations": "gone.yaml"}) as service:
        assert service.revocations is not None
        asked = check_request(token=pool.token()).SerializeToString()
        refused = pb.CheckResponse.FromString(await service.door.check(asked))
        assert reply_of(refused).verdict == (401, 16, "token-revoked")
        service.revocations.load()
        allowed = pb.CheckResponse.FromString(await service.door.check(asked))
        assert reply_of(allowed).verdict == (200, 0, "user-ok")


async def test_ready_is_not_said_before_health_checks_are_told(tmp_path: Path) -> None:
    pool = FakeUserPool()
    service = service_of(pool, tmp_path)
    assert service.readiness() == [f"no keys for {pool.pool_id}", "no policies"]
    service.policies.load()
    keys = asyncio.create_task(service._issuers[0].keys.run())
    while service._missing():  # noqa: ASYNC110 - the keys come from a task of their own
        await asyncio.sleep(0.01)
    assert service.readiness() == ["not serving yet"]
    server = Server(service.door, Listen("127.0.0.1", 0), None)
    await service._keep_health(server)
    assert service.readiness() == []
    service._issuers[0].keys._stale_at = 0.0
    assert service._missing()
    assert service.readiness() == []  # one pool's lost keys refuse that pool's tokens, not everybody's public pages
    keys.cancel()
    await server.stop(0)


async def test_who_was_told_to_end_before_there_were_keys_never_turns_ready(tmp_path: Path) -> None:
    service = service_of(FakeUserPool(), tmp_path)
    service.policies.load()
    server = Server(service.door, Listen("127.0.0.1", 0), None)
    keeping = asyncio.create_task(service._keep_health(server))
    await service._drain(server)
    keys = asyncio.create_task(service._issuers[0].keys.run())
    while service._missing():  # noqa: ASYNC110 - the keys come from a task of their own
        await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keeping, 0.3)  # three looks
    assert service.readiness() == ["not serving yet", "draining"]
    keys.cancel()
