"""Somebody opens connections until the service has no file descriptor left (CVE-2023-4785)."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from authz.pb import external_auth_pb2 as pb
from authz.transport.server import max_connections
from tests.support.check_request import check_request
from tests.support.running_service import CHECK, PATIENCE, RunningService
from tests.support.user_pool import FakeUserPool

POLICY = "- {from: https://app.example.com, allow_any_authenticated_user: true}\n"
SHUT = "- {from: https://app.example.com, allowed_users: [nobody]}\n"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with RunningService(tmp_path, POLICY, pools=[FakeUserPool(clock=time.time)]) as running:
        yield running
        assert running.stop() == 0


def descriptors(service: RunningService) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def test_without_descriptors_it_goes_on_and_comes_back(service: RunningService) -> None:
    good = check_request(token=FakeUserPool(clock=time.time).token())
    assert service.check(good).verdict == (200, 0, "user-ok")
    before = descriptors(service)
    limit = before + 20
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    host, _, port = service.target.rpartition(":")
    with ExitStack() as open_connections:
        for _ in range(60):
            open_connections.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE))
        deadline = time.monotonic() + PATIENCE
        while descriptors(service) < limit - 1:
            assert time.monotonic() < deadline, "the connections have not arrived"
            time.sleep(0.02)
        assert service.check(good).verdict == (200, 0, "user-ok"), "who was connected is answered"
    deadline = time.monotonic() + PATIENCE
    while descriptors(service) > before + 5:
        assert time.monotonic() < deadline, "the connections have not gone"
        time.sleep(0.02)
    with service.connect() as channel:
        answer = channel.unary_unary(CHECK)(good.SerializeToString(), timeout=PATIENCE)
    assert pb.CheckResponse.FromString(answer).status.code == 0, "and new connections are taken again"


def test_whoever_only_connects_does_not_keep_a_new_policy_out(tmp_path: Path) -> None:
    pool = FakeUserPool(clock=time.time)
    good = check_request(token=pool.token())
    with RunningService(tmp_path, POLICY, pools=[pool], max_files=128) as service, ExitStack() as open_connections:
        assert service.check(good).verdict == (200, 0, "user-ok")
        host, _, port = service.target.rpartition(":")
        for _ in range(200):
            connection = open_connections.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE))
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        service.write_policies(SHUT)
        deadline = time.monotonic() + PATIENCE
        while service.check(good).verdict != (403, 7, "user-unauthorized"):
            assert time.monotonic() < deadline, "the policy is not in force"
            time.sleep(0.05)


@pytest.mark.parametrize(("files", "connections"), [(128, 64), (1024, 512), (resource.RLIM_INFINITY, 4096)])
def test_at_most_half_of_the_files_are_connections(
    monkeypatch: pytest.MonkeyPatch, files: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert max_connections() == connections
