"""`workers: 2` with real processes: two endpoints, one admin port, one output, and nobody left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from authz.channel import UP, Orders, write_orders
from authz.pb import external_auth_pb2 as pb
from authz.settings import load_settings
from tests.support.check_request import check_request
from tests.support.jwks_server import Answer, JwksServer
from tests.support.ports import CLIENTS, free_ports
from tests.support.running_service import (
    CHECK,
    PATIENCE,
    Reply,
    RunningService,
    child_environment,
    configuration,
    reply_of,
    run_authz,
)
from tests.support.user_pool import ALICE, FakeUserPool

POLICY = """
- {from: 'https://app.example.com', path: /public, allow_public_unauthenticated_access: true}
- {from: 'https://app.example.com', allow_any_authenticated_user: true}
"""
SHUT = "- {from: 'https://app.example.com'}\n"
PUBLIC = check_request(path="/public")
RESTORED = "keys restored from another worker"

IP_LOCAL_PORT_RANGE = 51  # ip(7); `socket` does not know it


@pytest.fixture
def pool() -> FakeUserPool:
    return FakeUserPool(clock=time.time)


class Workers(RunningService):
    """`authz serve` with two workers."""

    def __init__(self, folder: Path, pool: FakeUserPool, *, listen: str | None = None, **more: Any) -> None:
        self.first_port = free_ports(2)
        settings = {"listen": listen or f"127.0.0.1:{self.first_port}", "workers": 2}
        super().__init__(folder, POLICY, pools=[pool], settings={**settings, **more.pop("settings", {})}, **more)

    def __enter__(self) -> Self:
        super().__enter__()
        self.wait_for_line("all workers listen")
        if self._wait:
            self.wait_for_line("^ready", count=2)
        self.channels = [self.channel_to(index) for index in range(2)]
        return self

    def __exit__(self, *_: object) -> None:
        for channel in getattr(self, "channels", []):
            channel.close()
        super().__exit__()

    def channel_to(self, index: int) -> grpc.Channel:
        started = [line for line in self.lines("worker started") if line["worker"] == index]
        # A client of our own each: gRPC shares connections, and their back-off, between equal channels.
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel(started[-1]["listen"], [*options, ("grpc.max_reconnect_backoff_ms", 100)])

    def ask(self, index: int, request: pb.CheckRequest = PUBLIC) -> Reply:
        call = self.channels[index].unary_unary(CHECK)
        answer = call(request.SerializeToString(), timeout=PATIENCE, wait_for_ready=True)
        return reply_of(pb.CheckResponse.FromString(answer))

    def lines(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.log_lines() if line["msg"] == message]

    def pids(self) -> list[int]:
        """Give the process id of each worker that was started last."""
        latest = {line["worker"]: line["pid"] for line in self.lines("worker started")}
        return [latest[index] for index in sorted(latest)]


@pytest.fixture
def workers(tmp_path: Path, pool: FakeUserPool) -> Iterator[Workers]:
    with Workers(tmp_path, pool) as running:
        yield running


SHARED_POOL = FakeUserPool(clock=time.time)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Workers whom no test harms; starting two takes longer than most of what is asked of them."""
    with Workers(tmp_path_factory.mktemp("shared"), SHARED_POOL) as running:
        yield running


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until_nobody_listens(ports: Sequence[int], seconds: float) -> None:
    start = time.monotonic()
    while any(map(is_listening, ports)):
        assert time.monotonic() - start < seconds
        time.sleep(0.02)


def meets_itself(port: int) -> bool:
    """Tell whether a client of this port may be given it as its own, as it is by chance once in tens of thousands."""
    with socket.socket() as client:
        try:
            client.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("=HH", port, port))
        except OSError:
            pytest.skip("NOT TESTED: a kernel before 6.3 cannot be told which local port to give")
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.xdist_group("workers")
class TestTogether:
    def test_two_endpoints_one_admin_port(self, shared: Workers) -> None:
        workers, before = shared, shared.metrics()
        asked = check_request(token=SHARED_POOL.token())
        assert [workers.ask(index, asked).reason for index in (0, 0, 1)] == ["user-ok"] * 3
        assert workers.get("/readyz") == (200, "ready\n")
        assert workers.get("/livez") == (200, "ok\n")
        metrics = workers.metrics()
        for name in ("count", 'bucket{le="+Inf"}'):
            name = f"authz_decision_duration_seconds_{name}"  # noqa: PLW2901
            assert metrics[name] - before[name] == 3
        assert [metrics[f'authz_policy_routes{{worker="{index}"}}'] for index in (0, 1)] == [2, 2]
        states = {"ready": 2, "not-ready": 0, "down": 0}
        assert {state: metrics[f'authz_workers{{state="{state}"}}'] for state in states} == states

    def test_both_reload_to_the_same_revision(self, shared: Workers) -> None:
        workers = shared
        before = workers.ask(0).metadata["policy_revision"]
        assert workers.ask(1).metadata["policy_revision"] == before
        start = time.monotonic()
        workers.write_policies(SHUT)
        for index in (0, 1):
            workers.wait_for(lambda index=index: workers.ask(index).reason == "no-rule", f"the reload of {index}")
        assert time.monotonic() - start < 2  # promised is 1 s; the machine may be busy
        after = {workers.ask(index).metadata["policy_revision"] for index in (0, 1)}
        assert len(after | {before}) == 2
        revisions = [name for name in workers.metrics() if name.startswith("authz_policy_revision_info")]
        (revision,) = after
        assert revisions == [
            f'authz_policy_revision_info{{revision="{revision}",worker="{index}"}}' for index in (0, 1)
        ]
        workers.write_policies(POLICY)
        for index in (0, 1):
            workers.wait_for(lambda index=index: workers.ask(index).reason == "accept", f"the reload of {index}")

    def test_sighup_reaches_both(self, shared: Workers) -> None:
        shared.signal(signal.SIGHUP)
        shared.wait_for_line("reloading policies and keys", count=2)

    def test_lines_of_both_are_whole_under_load(self, shared: Workers) -> None:
        workers = shared
        path = "/" + "x" * 1900
        request = check_request(path=path)
        counts = 150, 4  # a pipe holds some 30 such lines

        def ask_often(index: int) -> None:
            for _ in range(counts[0]):
                workers.ask(index, request)

        threads = [threading.Thread(target=ask_often, args=(index % 2,)) for index in range(counts[1])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        total = counts[0] * counts[1]

        def decided() -> list[str]:  # parses every line
            return [line["decision_id"] for line in workers.lines("decision") if line["path"] == path]

        workers.wait_for(lambda: len(decided()) >= total, "every decision line")
        assert len(set(decided())) == len(decided()) == total
        assert workers.metrics()["authz_log_lines_dropped_total"] == 0

    def test_unix_sockets_are_numbered(self, tmp_path: Path, pool: FakeUserPool) -> None:
        with Workers(tmp_path, pool, listen=f"unix://{tmp_path}/authz.sock") as workers:
            assert [workers.ask(0).reason, workers.ask(1).reason] == ["accept"] * 2
            assert sorted(path.name for path in tmp_path.glob("*.sock")) == ["authz.0.sock", "authz.1.sock"]


class TestNotReady:
    def test_readyz_names_what_each_worker_lacks(self, tmp_path: Path, pool: FakeUserPool) -> None:
        with (
            JwksServer(Answer(status=503)) as endpoint,
            Workers(tmp_path, pool, jwks_uri=endpoint.uri, wait=False) as workers,
        ):
            lacking = "".join(f"worker {index}: no keys for {pool.pool_id}\n" for index in (0, 1))
            assert workers.get("/readyz") == (503, lacking)
            assert workers.metrics()['authz_workers{state="not-ready"}'] == 2

    def test_readyz_names_the_worker_that_hangs(self, workers: Workers) -> None:
        hanging = workers.pids()[1]
        os.kill(hanging, signal.SIGSTOP)
        try:
            assert workers.get("/readyz") == (503, "worker 1: does not answer\n")
            assert workers.ask(0).reason == "accept"
        finally:
            os.kill(hanging, signal.SIGCONT)


class TestEnds:
    def test_a_killed_worker_is_replaced_and_only_it(self, workers: Workers) -> None:
        for index in (0, 1, 1):
            workers.ask(index)
        assert workers.metrics()["authz_decision_duration_seconds_count"] == 3
        kept, killed = workers.pids()
        workers.config.write_text("broken: [", encoding="utf-8")  # the new one is as the others are, not as this is
        os.kill(killed, signal.SIGKILL)
        workers.wait_for_line("worker started", count=3)
        ended = workers.lines("a worker ended, another one is started")
        assert [(line["worker"], line["exit"]) for line in ended] == [(1, "killed by SIGKILL")]
        started = workers.lines("worker started")[-1]
        assert (datetime.fromisoformat(started["time"]) - datetime.fromisoformat(ended[0]["time"])).total_seconds() <= 1
        assert workers.pids() == [kept, started["pid"]]
        assert workers.ask(1).reason == "accept"
        workers.wait_for_line("^ready", count=3)
        metrics = workers.metrics()
        assert metrics["authz_decision_duration_seconds_count"] == 4  # sums never fall
        assert metrics['authz_worker_restarts_total{worker="1"}'] == 1
        assert metrics['authz_worker_restarts_total{worker="0"}'] == 0

    @pytest.mark.parametrize("host", ["127.0.0.1", ""], ids=["one address", "every address"])
    def test_its_port_is_given_to_no_client_while_it_is_away(
        self, tmp_path: Path, pool: FakeUserPool, host: str
    ) -> None:
        assert meets_itself(free_ports(among=CLIENTS))  # so it is with a port that nobody holds
        port = free_ports(2, among=CLIENTS)
        with Workers(tmp_path, pool, listen=f"{host}:{port}") as workers:
            workers.signal(signal.SIGSTOP)  # so that nobody starts another one meanwhile
            os.kill(workers.pids()[0], signal.SIGKILL)
            workers.wait_for(lambda: not is_listening(port), "its end")
            assert not meets_itself(port)
            workers.signal(signal.SIGCONT)
            workers.wait_for_line("^ready", count=3)
            assert workers.ask(0).reason == "accept"

    def test_one_that_is_told_to_end_is_replaced_at_once_however_often(self, workers: Workers) -> None:
        for restarts in (1, 2, 3):
            ended = workers.pids()[0]
            os.kill(ended, signal.SIGTERM)
            workers.wait_for(lambda ended=ended: workers.pids()[0] != ended, "another worker")
            workers.wait_for_line("^ready", count=2 + restarts)
            assert workers.ask(0).reason == workers.ask(1).reason == "accept"
        told = workers.lines("a worker ended, another one is started")
        seen = [(line["level"], line["exit"], line["after_seconds"]) for line in told]
        assert seen == [("info", "exit code 0", 0)] * 3

    def test_a_killed_supervisor_leaves_nobody_behind(self, workers: Workers) -> None:
        ports = [workers.first_port, workers.first_port + 1]
        assert all(map(is_listening, ports))
        workers.signal(signal.SIGKILL)
        workers.process.wait(PATIENCE)
        until_nobody_listens(ports, seconds=1)

    def test_the_kernel_ends_a_worker_that_can_do_nothing_itself(self, workers: Workers) -> None:
        stopped = workers.pids()[1]
        os.kill(stopped, signal.SIGSTOP)
        workers.signal(signal.SIGKILL)
        workers.process.wait(PATIENCE)
        try:
            until_nobody_listens([workers.first_port + 1], seconds=PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGKILL)

    def test_a_worker_ends_itself_when_nobody_asks_any_more(self, tmp_path: Path, pool: FakeUserPool) -> None:
        """Without the kernel's help: its parent lives on, and has only closed the pair of sockets."""
        (tmp_path / "app.yaml").write_text(POLICY, encoding="utf-8")
        config = configuration(tmp_path, [pool], settings={"policies": "app.yaml", "admin": "off"})
        (tmp_path / "authz.yaml").write_text(json.dumps(config), encoding="utf-8")
        settings = load_settings(tmp_path / "authz.yaml", environ={}, overrides={})
        ours, theirs = socket.socketpair()
        with (
            ours,
            theirs,
            subprocess.Popen(
                [sys.executable, "-m", "authz", "worker"],
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            ) as worker,
        ):
            try:
                assert worker.stdin is not None
                worker.stdin.write(write_orders(Orders(settings, os.getpid(), theirs.fileno(), None)))
                worker.stdin.close()
                theirs.close()
                ours.settimeout(PATIENCE)
                assert ours.recv(64).endswith(UP)
                ours.close()
                assert worker.wait(PATIENCE) == 1
            finally:
                worker.kill()

    def test_a_killed_worker_is_back_soon_although_nobody_reads_our_output(
        self, tmp_path: Path, pool: FakeUserPool
    ) -> None:
        (tmp_path / "app.yaml").write_text(POLICY, encoding="utf-8")
        port = free_ports(2)
        settings = {"listen": f"127.0.0.1:{port}", "workers": 2, "policies": "app.yaml"}
        (tmp_path / "authz.yaml").write_text(json.dumps(configuration(tmp_path, [pool], settings=settings)))
        command = [sys.executable, "-m", "authz", "serve", "--config", str(tmp_path / "authz.yaml")]
        supervisor = subprocess.Popen(command, env=child_environment(), stdout=subprocess.PIPE)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port + 1}", [("grpc.enable_http_proxy", 0)]) as channel:
                check = channel.unary_unary(CHECK)
                data = check_request(path="/" + "x" * 2000).SerializeToString()  # some 30 lines fill a pipe
                for _ in range(300):
                    check(data, timeout=PATIENCE, wait_for_ready=True)
            children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text(encoding="ascii")
            os.kill(int(children.split()[1]), signal.SIGKILL)
            wait_until(lambda: not is_listening(port + 1))
            ended = time.monotonic()
            wait_until(lambda: is_listening(port + 1))
            # A start takes half a second; we waited two for the last lines of who was killed.
            assert time.monotonic() - ended < 2.0
        finally:
            supervisor.kill()
            supervisor.communicate()

    def test_sigterm_drains_all_together(self, workers: Workers) -> None:
        workers.signal(signal.SIGTERM)
        workers.wait_for_line("draining", count=2)
        assert [workers.ask(0).reason, workers.ask(1).reason] == ["accept"] * 2  # Envoy has not noticed yet
        assert workers.process.wait(PATIENCE) == 0
        assert len(workers.lines("stopped")) == 2
        assert workers.lines("a worker ended, another one is started") == []


class TestKeys:
    @pytest.fixture
    def endpoint(self, pool: FakeUserPool) -> Iterator[JwksServer]:
        with JwksServer(Answer(pool.jwks())) as endpoint:
            yield endpoint

    @pytest.fixture
    def workers(self, tmp_path: Path, pool: FakeUserPool, endpoint: JwksServer) -> Iterator[Workers]:
        """Give workers of which each has fetched once."""
        with Workers(tmp_path, pool, jwks_uri=endpoint.uri) as workers:
            workers.wait_for(lambda: self.fetches(workers) == 2, "both fetches")
            yield workers

    @staticmethod
    def fetches(workers: Workers) -> float:
        return sum(value for name, value in workers.metrics().items() if name.startswith("authz_jwks_fetches_total"))

    def test_unknown_kids_at_both_make_one_of_them_fetch(
        self, workers: Workers, pool: FakeUserPool, endpoint: JwksServer
    ) -> None:
        """The second one's strangers come while the first one's fetch is under way."""
        before = len(endpoint.requests)
        endpoint.answer = Answer(pool.jwks(), delay=0.5)
        unknown = check_request(token=pool.token(header={"kid": "made up"})).SerializeToString()
        calls = [
            channel.unary_unary(CHECK).future(unknown, timeout=PATIENCE)
            for channel in workers.channels
            for _ in range(3)
        ]
        answers = [reply_of(pb.CheckResponse.FromString(call.result())) for call in calls]
        assert {answer.reason for answer in answers} == {"token-key-unknown"}
        assert len(endpoint.requests) == before + 1

    def test_a_new_key_that_one_fetched_is_known_to_both(
        self, workers: Workers, pool: FakeUserPool, endpoint: JwksServer
    ) -> None:
        requests, restored = len(endpoint.requests), len(workers.lines(RESTORED))
        pool.rotate()
        endpoint.answer = Answer(pool.jwks())
        asked = check_request(token=pool.token())
        assert [workers.ask(index, asked).reason for index in (1, 0)] == ["user-ok"] * 2
        assert len(endpoint.requests) == requests + 1
        workers.wait_for_line(RESTORED, count=restored + 1)

    def test_one_that_is_started_again_while_the_endpoint_is_away_has_keys(
        self, workers: Workers, pool: FakeUserPool, endpoint: JwksServer
    ) -> None:
        endpoint.stop()
        os.kill(workers.pids()[1], signal.SIGKILL)
        workers.wait_for_line("^ready", count=3)
        assert workers.ask(1, check_request(token=pool.token())).reason == "user-ok"
        endpoint.start()


class TestBrokenFiles:
    """A worker that ends while the files on the disk do not load comes back with what the others have in force."""

    REFUSED = "policies refused"

    @pytest.fixture
    def workers(self, tmp_path: Path, pool: FakeUserPool) -> Iterator[Workers]:
        self.revocations = tmp_path / "revocations.yaml"
        self.revocations.write_text("[]\n", encoding="utf-8")
        with Workers(tmp_path, pool, settings={"revocations": "revocations.yaml"}) as workers:
            yield workers

    def kill(self, workers: Workers, *indexes: int) -> None:
        ready = len(workers.lines("ready"))
        pids = workers.pids()
        for index in indexes:
            os.kill(pids[index], signal.SIGKILL)
        workers.wait_for_line("^ready", count=ready + len(indexes))

    def shut(self, workers: Workers) -> None:
        workers.write_policies(SHUT)
        for index in (0, 1):
            workers.wait_for(lambda index=index: workers.ask(index).reason == "no-rule", f"the reload of {index}")

    def test_one_killed_meanwhile_is_as_the_others_are(self, workers: Workers) -> None:
        self.shut(workers)  # and not as both were at the start
        revision = workers.ask(0).metadata["policy_revision"]
        workers.write_policies("broken: [")
        workers.wait_for_line(self.REFUSED, count=2)
        self.kill(workers, 1)
        taken_over = workers.wait_for_line("policies taken over from another worker")
        assert (taken_over["level"], taken_over["policy_revision"]) == ("warning", revision)
        answer = workers.ask(1)
        assert (answer.reason, answer.metadata["policy_revision"]) == ("no-rule", revision)
        workers.wait_for_line(self.REFUSED, count=3)
        workers.write_policies(POLICY)
        for index in (0, 1):
            workers.wait_for(lambda index=index: workers.ask(index).reason == "accept", f"the reload of {index}")

    def test_so_are_all_when_none_is_left(self, workers: Workers) -> None:
        self.shut(workers)
        workers.write_policies("broken: [")
        workers.wait_for_line(self.REFUSED, count=2)
        self.kill(workers, 0, 1)
        assert [workers.ask(index).reason for index in (0, 1)] == ["no-rule"] * 2

    def test_whoever_is_revoked_stays_so(self, workers: Workers, pool: FakeUserPool) -> None:
        asked = check_request(token=pool.token())
        self.revocations.write_text(f"- {{sub: {ALICE}, reason: stolen}}\n", encoding="utf-8")
        for index in (0, 1):
            workers.wait_for(lambda index=index: workers.ask(index, asked).reason == "token-revoked", "the list")
        self.revocations.write_text("- {sub: [", encoding="utf-8")
        self.kill(workers, 0)
        assert workers.ask(0, asked).reason == "token-revoked"


class TestDoesNotStart:
    def serve(self, folder: Path, pool: FakeUserPool, policies: str = POLICY, **settings: Any) -> Any:
        (folder / "app.yaml").write_text(policies, encoding="utf-8")
        port = free_ports(2)
        written = configuration(
            folder,
            [pool],
            settings={"listen": f"127.0.0.1:{port}", "workers": 2, "policies": "app.yaml", **settings},
        )
        (folder / "authz.yaml").write_text(json.dumps(written), encoding="utf-8")
        return run_authz("serve", "--config", folder / "authz.yaml")

    def test_a_broken_configuration_is_told_once(self, tmp_path: Path, pool: FakeUserPool) -> None:
        ended = self.serve(tmp_path, pool, workers=0)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (3, "", 1)
        assert "workers: found `0`" in ended.stderr

    def test_broken_policies_are_told_once(self, tmp_path: Path, pool: FakeUserPool) -> None:
        ended = self.serve(tmp_path, pool, "- {from: 'https://a.example', allow_pubic: true}\n")
        assert ended.returncode == 3
        assert ended.stderr.count("allow_pubic") == 1
        assert ended.stdout.count("worker started") == 1

    @pytest.mark.parametrize("taken", [0, 1], ids=["the first worker's", "the second worker's"])
    def test_a_taken_port(self, tmp_path: Path, pool: FakeUserPool, taken: int) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            ended = self.serve(tmp_path, pool, listen=f"127.0.0.1:{port - taken}")
        assert ended.returncode == 1
        assert f"cannot start: cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr

    def test_a_taken_admin_port(self, tmp_path: Path, pool: FakeUserPool) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            ended = self.serve(tmp_path, pool, admin=f"127.0.0.1:{other.getsockname()[1]}")
        assert ended.returncode == 1
        assert "cannot start" in ended.stderr

    def test_a_worker_by_hand(self) -> None:
        ended = run_authz("worker")
        assert ended.returncode == 2
        assert "no orders on stdin" in ended.stderr
