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
from tests.support.check_request import check_request
from tests.support.running_service import CHECK, PATIENCE, RunningService
from tests.support.user_pool import FakeUserPool

POLICY = "- {from: https://app.example.com, allow_any_authenticated_user: true}\n"


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
