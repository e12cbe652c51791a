"""The first second of `authz serve`: signals before there is a loop, and descriptors that somebody closed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.ports import free_ports
from tests.support.running_service import PATIENCE, child_environment, configuration
from tests.support.user_pool import FakeUserPool

POLICY = "- {from: 'https://app.example.com', allow_public_unauthenticated_access: true}\n"


@pytest.fixture
def port() -> int:
    return free_ports()


@pytest.fixture
def config(tmp_path: Path, port: int) -> Path:
    pool = FakeUserPool(clock=time.time)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "app.yaml").write_text(POLICY)
    path = tmp_path / "authz.yaml"
    path.write_text(json.dumps(configuration(tmp_path, [pool], settings={"listen": f"127.0.0.1:{port}"})))
    return path


@contextmanager
def serving(config: Path, redirections: str = "", **more: Any) -> Iterator[subprocess.Popen[str]]:
    """Start the service; whatever became of it, it is gone at the end."""
    command = ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-m", "authz", "serve", "-c", str(config)]
    process = subprocess.Popen(command, env=child_environment(), text=True, **more)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_ready(port: int) -> None:
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                answer = health.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True)
            except grpc.RpcError:
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            time.sleep(0.02)
    pytest.fail("it did not become ready")


def wait_for_signal_set(pid: int, which: str, number: signal.Signals) -> None:
    """Wait until the process ignores (`SigIgn`) or catches (`SigCgt`) the signal."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        status = Path(f"/proc/{pid}/status").read_text()
        mask = int(next(line for line in status.splitlines() if line.startswith(which)).split()[1], 16)
        if mask & (1 << (number - 1)):
            return
        time.sleep(0.001)
    pytest.fail(f"{which} never held {number.name}")


def test_a_reload_asked_for_during_the_start_ends_nothing(config: Path, port: int) -> None:
    with serving(config, stdout=subprocess.DEVNULL) as process:
        wait_for_signal_set(process.pid, "SigIgn", signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        wait_until_ready(port)
        process.terminate()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("milliseconds", [0, 5, 10, 20, 40, 80])
def test_an_end_asked_for_during_the_start_comes_at_once(config: Path, milliseconds: int) -> None:
    """Wherever it finds the start: importing, within an `open`, in a finaliser."""
    with serving(config, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_for_signal_set(process.pid, "SigCgt", signal.SIGTERM)
        time.sleep(milliseconds / 1000)
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert "Exception" not in output  # "ignored in", or a traceback's last line
        assert "Traceback" not in output


@pytest.mark.parametrize("redirections", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_no_obstacle(config: Path, port: int, redirections: str) -> None:
    with serving(config, redirections, stdout=subprocess.DEVNULL) as process:
        wait_until_ready(port)
        process.terminate()
        assert process.wait(PATIENCE) == 0
