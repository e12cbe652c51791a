"""From the first start to the drained end, with the real process: readiness, signals, keys, addresses, verbs."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result

from authz import __version__
from authz.cli import cli
from authz.pb import external_auth_pb2 as pb
from authz.service import DRAIN_SECONDS, tell_of_failure
from tests.support.authority import Authority, client_credentials
from tests.support.check_request import check_request
from tests.support.jwks_server import Answer, JwksServer
from tests.support.ports import free_ports
from tests.support.running_service import (
    CHECK,
    PATIENCE,
    RunningService,
    child_environment,
    configuration,
    reply_of,
    run_authz,
)
from tests.support.user_pool import FakeUserPool, jwk

POLICY = """
- {from: 'https://app.example.com', path: /public, allow_public_unauthenticated_access: true}
- {from: 'https://app.example.com', allow_any_authenticated_user: true}
"""
SHUT = "- {from: 'https://app.example.com'}\n"
NO_ANSWER_YET = Answer(status=503)


@pytest.fixture
def pool() -> FakeUserPool:
    return FakeUserPool(clock=time.time)


def wait_for_reason(service: RunningService, request: pb.CheckRequest, reason: str) -> None:
    service.wait_for(lambda: service.check(request).reason == reason, f"the reason {reason}")


class TestReadiness:
    def test_not_ready_until_there_are_keys(self, tmp_path: Path, pool: FakeUserPool) -> None:
        with (
            JwksServer(NO_ANSWER_YET) as endpoint,
            RunningService(tmp_path, POLICY, pools=[pool], jwks_uri=endpoint.uri, wait=False) as service,
        ):
            service.wait_for_line("fetch failed")
            assert service.get("/readyz") == (503, f"no keys for {pool.pool_id}\n")
            assert service.get("/livez")[0] == 200
            assert [service.health(""), service.health()] == ["NOT_SERVING"] * 2
            asked = check_request(token=pool.token())
            assert service.check(asked).verdict == (503, 14, "keys-unavailable")
            assert service.check(check_request()).verdict == (401, 16, "user-unauthenticated")
            assert service.check(check_request(path="/public")).verdict == (200, 0, "accept")
            endpoint.answer = Answer(pool.jwks())
            service.signal(signal.SIGHUP)
            service.wait_for_line("ready")
            assert service.get("/readyz") == (200, "ready\n")
            assert [service.health(""), service.health()] == ["SERVING"] * 2
            assert service.check(asked).verdict == (200, 0, "user-ok")

    def test_names_every_pool_without_keys(self, tmp_path: Path, pool: FakeUserPool) -> None:
        other = FakeUserPool(pool_id="eu-west-1_OtherPool", clock=time.time)
        with JwksServer(NO_ANSWER_YET) as endpoint:
            settings = configuration(tmp_path, [pool, other])
            settings["cognito"][1]["jwks_uri"] = endpoint.uri
            with RunningService(tmp_path, POLICY, pools=[], settings=settings, wait=False) as service:
                service.wait_for_line("fetch failed")
                assert service.get("/readyz") == (503, "no keys for eu-west-1_OtherPool\n")
                # One pool's missing keys do not refuse the users of another.
                assert service.check(check_request(token=pool.token())).code == 0
                assert service.check(check_request(token=other.token())).reason == "keys-unavailable"


class TestKeys:
    def test_rotation_removal_and_outage(self, tmp_path: Path, pool: FakeUserPool) -> None:
        settings = {"jwks": {"cooldown": "1s"}}
        with (
            JwksServer(Answer(pool.jwks())) as endpoint,
            RunningService(tmp_path, POLICY, pools=[pool], jwks_uri=endpoint.uri, settings=settings) as service,
        ):
            old_key, old = pool.access_key, check_request(token=pool.token())
            assert service.check(old).code == 0
            pool.rotate()
            new = check_request(token=pool.token())

            # Both keys are published: the new one is fetched because somebody uses it.
            endpoint.answer = Answer(pool.jwks(jwk(old_key)))
            wait_for_reason(service, new, "user-ok")
            assert service.check(old).code == 0  # verified anew: the keys are another generation
            assert service.check(old).code == 0  # from memory

            # The old key leaves: what it signed is refused after the next refresh, remembered or not.
            endpoint.answer = Answer(pool.jwks())
            service.signal(signal.SIGHUP)
            wait_for_reason(service, old, "token-key-unknown")
            assert service.check(new).code == 0

            # The endpoint is down: known keys go on deciding, also about tokens never seen before.
            endpoint.stop()
            try:
                service.signal(signal.SIGHUP)
                service.wait_for_line("fetch failed")
                assert service.check(new).code == 0
                assert service.check(check_request(token=pool.token(jti="fresh"))).code == 0
                assert service.check(old).reason == "token-key-unknown"
                assert service.get("/readyz")[0] == 200
            finally:
                endpoint.start()

    def test_unknown_kids_cause_one_fetch_a_cooldown(self, tmp_path: Path, pool: FakeUserPool) -> None:
        with (
            JwksServer(Answer(pool.jwks())) as endpoint,
            RunningService(tmp_path, POLICY, pools=[pool], jwks_uri=endpoint.uri) as service,
        ):
            for number in range(200):
                reply = service.check(check_request(token=pool.token(header={"kid": str(number)})))
                assert reply.reason == "token-key-unknown"
            assert len(endpoint.requests) == 2  # at start, and one

    def test_survive_a_restart_while_the_endpoint_is_down(self, tmp_path: Path, pool: FakeUserPool) -> None:
        settings = {"jwks": {"cache_dir": str(tmp_path / "cache")}}
        (tmp_path / "cache").mkdir()
        with JwksServer(Answer(pool.jwks())) as endpoint:
            uri = endpoint.uri
            for name in ("one", "two"):
                if name == "two":
                    endpoint.answer = NO_ANSWER_YET
                folder = tmp_path / name
                folder.mkdir()
                with RunningService(folder, POLICY, pools=[pool], jwks_uri=uri, settings=settings) as service:
                    assert service.check(check_request(token=pool.token())).code == 0
                    service.wait_for(lambda: list((tmp_path / "cache").iterdir()), "the cache file")
            assert "keys restored" in service.output


class TestReload:
    def test_a_save_is_in_force_within_a_second_and_a_broken_one_never(
        self, tmp_path: Path, pool: FakeUserPool
    ) -> None:
        with RunningService(tmp_path, POLICY, pools=[pool]) as service:
            asked = check_request(path="/public")
            first = service.check(asked)
            start = time.monotonic()
            service.write_policies(SHUT)
            wait_for_reason(service, asked, "no-rule")
            assert time.monotonic() - start < 2  # promised is 1 s; the machine may be busy
            second = service.check(asked)
            assert second.metadata["policy_revision"] != first.metadata["policy_revision"]

            service.write_policies("- {from: 'https://app.example.com', path: /public, allow_pubic: true}\n")
            service.wait_for_line("policies refused")
            problem = service.wait_for_line(r"^policies/app\.yaml:1:\d+: .*allow_pubic")
            assert problem["level"] == "error"
            assert service.check(asked).metadata["policy_revision"] == second.metadata["policy_revision"]
            metrics = service.metrics()
            assert metrics['authz_policy_reloads_total{result="ok"}'] == 2
            assert metrics['authz_policy_reloads_total{result="error"}'] == 1

    def test_sighup_looks_at_policies_and_keys_at_once(self, tmp_path: Path, pool: FakeUserPool) -> None:
        with (
            JwksServer(Answer(pool.jwks())) as endpoint,
            RunningService(tmp_path, POLICY, pools=[pool], jwks_uri=endpoint.uri) as service,
        ):
            service.signal(signal.SIGHUP)
            service.wait_for_line("reloading policies and keys")
            service.wait_for(lambda: len(endpoint.requests) == 2, "the second fetch")
            service.write_policies(SHUT)
            service.signal(signal.SIGHUP)
            wait_for_reason(service, check_request(path="/public"), "no-rule")


class TestBackground:
    async def test_a_watcher_that_fails_is_told_of(self, caplog: pytest.LogCaptureFixture) -> None:
        async def fails() -> None:
            raise ValueError("why")

        for work, told in ((fails(), 1), (asyncio.sleep(0), 0), (asyncio.sleep(60), 0)):
            caplog.clear()
            task = asyncio.create_task(work)
            task.add_done_callback(tell_of_failure)
            await asyncio.wait({task}, timeout=0.01)
            task.cancel()
            await asyncio.wait({task})
            await asyncio.sleep(0)
            assert len(caplog.records) == told


class TestEnd:
    def test_sigterm_says_not_serving_answers_what_is_in_flight_and_exits_0(
        self, tmp_path: Path, pool: FakeUserPool
    ) -> None:
        with (
            JwksServer(Answer(pool.jwks())) as endpoint,
            RunningService(tmp_path, POLICY, pools=[pool], jwks_uri=endpoint.uri) as service,
        ):
            endpoint.answer = Answer(pool.jwks(), delay=1.0)
            slow = check_request(token=pool.token(header={"kid": "unknown"})).SerializeToString()
            in_flight = service.channel.unary_unary(CHECK).future(slow, timeout=10)
            service.wait_for(lambda: len(endpoint.requests) == 2, "the fetch that the call waits for")
            service.signal(signal.SIGTERM)
            service.wait_for(lambda: service.health() == "NOT_SERVING", "NOT_SERVING")
            assert service.health("") == "NOT_SERVING"
            assert service.get("/readyz") == (503, "draining\n")
            # Still answering, for Envoy has to notice first.
            assert service.check(check_request(path="/public")).code == 0
            answer = reply_of(pb.CheckResponse.FromString(in_flight.result(10)))
            assert answer.reason == "token-key-unknown"
            assert service.process.wait(PATIENCE) == 0
            messages = [line["msg"] for line in service.log_lines() if line["msg"] != "decision"]
            assert messages[-2:] == ["draining", "stopped"]
            with pytest.raises(grpc.RpcError) as caught:
                service.check(check_request(), timeout=1)
            assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

    def test_an_interrupt_before_it_is_ready_ends_it_at_once(self, tmp_path: Path, pool: FakeUserPool) -> None:
        with (
            JwksServer(NO_ANSWER_YET) as endpoint,
            RunningService(tmp_path, POLICY, pools=[pool], jwks_uri=endpoint.uri, wait=False) as service,
        ):
            service.signal(signal.SIGINT)
            assert service.process.wait(PATIENCE) == 0
            draining, stopped = (
                dt.datetime.fromisoformat(service.wait_for_line(word)["time"]) for word in ("draining", "stopped")
            )
            assert (stopped - draining).total_seconds() < DRAIN_SECONDS  # nobody was told that we serve
            assert "Traceback" not in service.output

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    def test_more_signals_at_the_end_change_nothing(
        self, tmp_path: Path, pool: FakeUserPool, number: signal.Signals, workers: int
    ) -> None:
        settings = {"listen": f"127.0.0.1:{free_ports(workers)}", "workers": workers}
        with RunningService(tmp_path, POLICY, pools=[pool], settings=settings) as service:
            service.signal(signal.SIGTERM)
            while service.process.poll() is None:
                service.signal(number)
                time.sleep(0.002)
            assert service.process.returncode == 0
            assert "Traceback" not in service.output


class TestBadStart:
    def start(self, folder: Path, settings: Any, policies: str = POLICY) -> subprocess.CompletedProcess[str]:
        (folder / "policies").mkdir(exist_ok=True)
        (folder / "policies" / "app.yaml").write_text(policies, encoding="utf-8")
        (folder / "authz.yaml").write_text(json.dumps(settings), encoding="utf-8")
        return run_authz("serve", "--config", folder / "authz.yaml")

    def test_a_bad_configuration_tells_every_error_and_starts_nothing(self, tmp_path: Path, pool: FakeUserPool) -> None:
        settings = configuration(tmp_path, [pool])
        settings |= {"listen": "nowhere", "lissten": 1, "jwks": {"refresh": 5}}
        settings["cognito"][0] |= {"clients": [], "token_use": "refresh"}
        ended = self.start(tmp_path, settings)
        assert ended.returncode == 3
        lines = ended.stderr.splitlines()
        assert len(lines) == 5
        assert all(re.match(r".*authz\.yaml:\d+:\d+: ", line) for line in lines)
        assert ended.stdout == ""

    def test_bad_policies_tell_every_error_and_start_nothing(self, tmp_path: Path, pool: FakeUserPool) -> None:
        settings = configuration(tmp_path, [pool])
        ended = self.start(tmp_path, settings, "- from: https://a.example\n  allow_pubic: 1\n- {prefix: x}\n")
        assert ended.returncode == 3
        lines = ended.stderr.splitlines()
        assert len(lines) >= 3
        assert all("policies/app.yaml:" in line for line in lines)
        assert "Traceback" not in ended.stderr

    @pytest.mark.parametrize("policies", ["", "[]", "# nothing\n"], ids=["empty", "an empty list", "a comment"])
    def test_no_route_at_all_is_an_error(self, tmp_path: Path, pool: FakeUserPool, policies: str) -> None:
        assert self.start(tmp_path, configuration(tmp_path, [pool]), policies).returncode == 3

    def test_a_missing_folder_is_an_error(self, tmp_path: Path, pool: FakeUserPool) -> None:
        ended = self.start(tmp_path, configuration(tmp_path, [pool], settings={"policies": "elsewhere"}))
        assert ended.returncode == 3
        assert "elsewhere" in ended.stderr

    @pytest.mark.parametrize("key", ["listen", "admin"])
    def test_a_port_in_use_is_said_with_its_address(self, tmp_path: Path, pool: FakeUserPool, key: str) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            ended = self.start(tmp_path, configuration(tmp_path, [pool], settings={key: address}))
        assert ended.returncode == 1
        told = [line for line in ended.stderr.splitlines() if line.startswith("authz: cannot start: ")]
        assert len(told) == 1
        assert address.rpartition(":")[2] in told[0]
        assert "Traceback" not in ended.stderr

    def test_a_second_service_on_our_port_does_not_take_half_of_the_requests(
        self, tmp_path: Path, pool: FakeUserPool
    ) -> None:
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        with RunningService(tmp_path / "one", POLICY, pools=[pool]) as service:
            settings = configuration(tmp_path / "two", [pool], settings={"listen": service.target})
            assert self.start(tmp_path / "two", settings).returncode == 1
            assert service.check(check_request(path="/public")).code == 0

    def test_a_second_service_on_our_socket_does_not_take_all_of_them(self, tmp_path: Path, pool: FakeUserPool) -> None:
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        listen = {"listen": f"unix://{tmp_path}/authz.sock"}
        with RunningService(tmp_path / "one", POLICY, pools=[pool], settings=listen) as service:
            ended = self.start(tmp_path / "two", configuration(tmp_path / "two", [pool], settings=listen))
            told = f"authz: cannot start: another process listens on {tmp_path}/authz.sock"
            assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, told)
            with service.connect() as anew:  # the open connection would be the first one's still
                answer = anew.unary_unary(CHECK)(check_request(path="/public").SerializeToString(), timeout=5)
            assert pb.CheckResponse.FromString(answer).status.code == 0


class TestAddresses:
    def test_a_unix_socket(self, tmp_path: Path, pool: FakeUserPool) -> None:
        settings = {"listen": f"unix://{tmp_path}/authz.sock"}
        with RunningService(tmp_path, POLICY, pools=[pool], settings=settings) as service:
            assert service.check(check_request(token=pool.token())).code == 0
            assert service.health() == "SERVING"
            ended = run_authz("healthcheck", "--address", f"unix://{tmp_path}/authz.sock")
            assert (ended.returncode, ended.stdout) == (0, f"serving: unix://{tmp_path}/authz.sock\n")
            service.process.kill()  # leaves its socket behind
        (tmp_path / "again").mkdir()
        with RunningService(tmp_path / "again", POLICY, pools=[pool], settings=settings) as service:
            assert service.check(check_request(token=pool.token())).code == 0

    def test_without_an_admin_port(self, tmp_path: Path, pool: FakeUserPool) -> None:
        with RunningService(tmp_path, POLICY, pools=[pool], settings={"admin": "off"}) as service:
            assert service.check(check_request(path="/public")).code == 0

    def test_tls(self, tmp_path: Path, pool: FakeUserPool) -> None:
        authority = Authority(tmp_path)
        certificate, key = authority.issue("server")
        settings = {"tls": {"certificate": str(certificate), "key": str(key)}}
        credentials = grpc.ssl_channel_credentials(authority.pem)
        with RunningService(tmp_path, POLICY, pools=[pool], settings=settings, credentials=credentials) as service:
            assert service.check(check_request(token=pool.token())).code == 0
            refused(service, None)
            refused(service, grpc.ssl_channel_credentials(Authority(tmp_path / "other").pem))

    def test_mutual_tls(self, tmp_path: Path, pool: FakeUserPool) -> None:
        authority, stranger = Authority(tmp_path), Authority(tmp_path / "other")
        certificate, key = authority.issue("server")
        settings = {"tls": {"certificate": str(certificate), "key": str(key), "client_ca": str(tmp_path / "ca.pem")}}
        with RunningService(
            tmp_path, POLICY, pools=[pool], settings=settings, credentials=client(authority, authority)
        ) as service:
            assert service.check(check_request(token=pool.token())).code == 0
            refused(service, grpc.ssl_channel_credentials(authority.pem))
            refused(service, client(authority, stranger))

    def test_a_key_of_another_certificate_does_not_start(self, tmp_path: Path, pool: FakeUserPool) -> None:
        authority = Authority(tmp_path)
        certificate, _ = authority.issue("server")
        _, key = authority.issue("other")
        settings = configuration(tmp_path, [pool], settings={"tls": {"certificate": str(certificate), "key": str(key)}})
        ended = TestBadStart().start(tmp_path, settings)
        assert ended.returncode == 3
        assert "tls.key: " in ended.stderr
        assert "the key of another certificate" in ended.stderr
        assert "Traceback" not in ended.stderr


def refused(service: RunningService, credentials: grpc.ChannelCredentials | None) -> None:
    with service.connect(credentials) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(CHECK)(check_request(path="/public").SerializeToString(), timeout=2)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def client(server_authority: Authority, own: Authority) -> grpc.ChannelCredentials:
    return client_credentials(server_authority.pem, own.issue("envoy"))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with RunningService(tmp_path_factory.mktemp("port"), POLICY, pools=[FakeUserPool(clock=time.time)]) as running:
        yield running


@pytest.mark.xdist_group("port")  # one service for all of them
class TestPort:
    """What gRPC itself refuses, and who else may ask."""

    def test_an_oversized_message(self, service: RunningService) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            service.check(check_request(headers={"x": "a" * 1024 * 1024}))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert service.check(check_request(headers={"x": "a" * 200 * 1024}, path="/public")).code == 0

    @pytest.mark.parametrize(
        "method", ["/envoy.service.auth.v3.Authorization/Other", "/envoy.service.auth.v2.Authorization/Check", "/x/y"]
    )
    def test_an_unknown_method(self, service: RunningService, method: str) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            service.channel.unary_unary(method)(b"", timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    def test_many_at_once_are_all_answered(self, service: RunningService) -> None:
        data = check_request(path="/public").SerializeToString()
        calls = [service.channel.unary_unary(CHECK).future(data, timeout=10) for _ in range(200)]
        answers = [reply_of(pb.CheckResponse.FromString(call.result(10))) for call in calls]
        assert {answer.verdict for answer in answers} == {(200, 0, "accept")}

    def test_an_expired_call_leaves_nothing_behind(self, service: RunningService) -> None:
        for _ in range(20):
            call = service.channel.unary_unary(CHECK).future(check_request().SerializeToString(), timeout=5)
            call.cancel()
        assert service.check(check_request(path="/public")).code == 0
        assert "internal error" not in service.output

    def test_the_health_check_of_an_unknown_service(self, service: RunningService) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            service.health("other")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    def test_healthcheck_exits_0(self, service: RunningService) -> None:
        ended = run_authz("healthcheck", "--address", service.target)
        assert (ended.returncode, ended.stdout) == (0, f"serving: {service.target}\n")
        by_environment = run_authz("healthcheck", environ={"AUTHZ_LISTEN": service.target})
        assert by_environment.returncode == 0

    def test_healthcheck_never_asks_a_proxy(self, service: RunningService) -> None:
        proxies = {name: f"http://127.0.0.1:{free_ports()}" for name in ("http_proxy", "https_proxy", "grpc_proxy")}
        assert run_authz("healthcheck", "--address", service.target, environ=proxies).returncode == 0


class TestHealthcheck:
    def test_nobody_there_exits_1(self) -> None:
        address = f"127.0.0.1:{free_ports()}"
        ended = run_authz("healthcheck", "--address", address)
        assert (ended.returncode, ended.stdout) == (1, f"not serving: {address}: UNAVAILABLE\n")

    def test_not_ready_exits_1(self, tmp_path: Path, pool: FakeUserPool) -> None:
        with (
            JwksServer(NO_ANSWER_YET) as endpoint,
            RunningService(tmp_path, POLICY, pools=[pool], jwks_uri=endpoint.uri, wait=False) as service,
        ):
            ended = run_authz("healthcheck", "--address", service.target)
            assert (ended.returncode, ended.stdout) == (1, f"not serving: {service.target}\n")


def invoke(*arguments: str, environ: dict[str, str] | None = None, stdin: str = "") -> Result:
    """Run one verb within this process: most of a verb's time is Python's own start."""
    result = CliRunner().invoke(cli, arguments, env=environ, input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


class TestCommandLine:
    def test_version(self) -> None:
        assert invoke("version").stdout == f"authz {__version__} (envoy.service.auth.v3.Authorization)\n"
        told = json.loads(invoke("version", "--output", "json").stdout)
        assert told == {"version": __version__, "api": "envoy.service.auth.v3.Authorization"}

    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param(["serve", "--nope"], id="unknown option"),
            pytest.param(["serve"], id="no configuration"),
            pytest.param(["frobnicate"], id="unknown verb"),
            pytest.param(["check"], id="nothing to check"),
            pytest.param(["check", "--output", "xml", "."], id="unknown output"),
            pytest.param(["version", "more"], id="an argument too many"),
            pytest.param(["explain", "--url", "https://a/"], id="nothing to explain by"),
            pytest.param(
                ["explain", "--policies", ".", "--url", "https://a/", "--source-ip", "10.0.0.999"], id="no address"
            ),
        ],
    )
    def test_bad_arguments_exit_2(self, arguments: list[str]) -> None:
        ended = invoke(*arguments)
        assert ended.exit_code == 2
        assert ended.stderr.startswith("Usage: ")

    @pytest.fixture
    def stand(self, tmp_path: Path, pool: FakeUserPool, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "policies").mkdir()
        (tmp_path / "policies" / "app.yaml").write_text(POLICY, encoding="utf-8")
        (tmp_path / "authz.yaml").write_text(json.dumps(configuration(tmp_path, [pool])), encoding="utf-8")
        return tmp_path

    def test_check_says_what_is_good(self, stand: Path) -> None:
        for arguments in (["--config", "authz.yaml"], ["policies"], ["policies/app.yaml"]):
            ended = invoke("check", *arguments)
            assert ended.exit_code == 0
            assert re.fullmatch(r"✓ 2 routes, revision [0-9a-f]{16}.*\n", ended.stdout)

    def test_check_says_what_is_bad_with_place(self, stand: Path) -> None:
        (stand / "policies" / "b.yaml").write_text("- {from: https://b.example, prefixx: /}\n", encoding="utf-8")
        ended = invoke("check", "--config", "authz.yaml")
        assert ended.exit_code == 3
        assert re.match(r"policies/b\.yaml:1:\d+: .*`prefixx`.*did you mean `prefix`", ended.stdout)
        assert ended.stdout.endswith("✗ 1 error: nothing would be loaded\n")

    def test_check_in_json(self, stand: Path) -> None:
        good = json.loads(invoke("check", "policies", "--output", "json").stdout)
        assert (good["ok"], good["problems"], good["sets"][0]["routes"]) == (True, [], 2)
        (stand / "policies" / "b.yaml").write_text("- {from: https://b.example, to: x, nope: /}\n", encoding="utf-8")
        ended = invoke("check", "policies", "--output", "json")
        bad = json.loads(ended.stdout)
        assert (ended.exit_code, bad["ok"], bad["sets"]) == (3, False, [])
        [problem] = [problem for problem in bad["problems"] if problem["severity"] == "error"]
        assert (problem["file"], problem["line"]) == ("policies/b.yaml", 1)

    def test_check_lists_the_keys_that_are_envoys(self, stand: Path) -> None:
        (stand / "policies" / "app.yaml").write_text("- {from: https://b.example, to: http://c}\n", encoding="utf-8")
        assert "`to` is Envoy's to do" in invoke("check", "policies").stdout

    def test_check_of_given_policies_does_not_mind_the_environment(self, stand: Path) -> None:
        ended = invoke("check", "policies", environ={"AUTHZ_CONFIG": "elsewhere.yaml"})
        assert ended.exit_code == 0
        ended = invoke("check", environ={"AUTHZ_CONFIG": "authz.yaml"})
        assert ended.exit_code == 0

    def test_check_of_what_is_not_there(self, stand: Path) -> None:
        for arguments in (["nowhere"], ["--config", "nowhere.yaml"]):
            ended = invoke("check", *arguments)
            assert ended.exit_code == 3
            assert ended.stdout.startswith("nowhere")

    def test_explain_reads_a_log_line_and_never_prints_the_token(self, stand: Path, pool: FakeUserPool) -> None:
        token = pool.token()
        line = json.dumps({"host": "app.example.com", "path": "/x", "method": "GET"})
        ended = invoke("explain", "-c", "authz.yaml", "--token", token, stdin=line)
        assert ended.exit_code == 0
        assert "✓ allow: user-ok" in ended.stdout
        assert token not in ended.stdout + ended.stderr
        curl = ["--", "curl", "-sXPOST", "-H", f"Authorization: Bearer {token}", "https://app.example.com/x"]
        ended = invoke("explain", "-c", "authz.yaml", *curl)
        assert "POST https://app.example.com/x" in ended.stdout
        assert token not in ended.stdout + ended.stderr

    def test_explain_with_files_that_do_not_load_exits_3(self, stand: Path) -> None:
        (stand / "policies" / "app.yaml").write_text("- nope\n", encoding="utf-8")
        ended = invoke("explain", "-c", "authz.yaml", "--url", "https://a/")
        assert (ended.exit_code, ended.stderr) == (3, "")

    def test_environment_twins_and_flags(self, tmp_path: Path, pool: FakeUserPool) -> None:
        listen, admin = f"127.0.0.1:{free_ports()}", f"127.0.0.1:{free_ports()}"
        environ = {
            "AUTHZ_LISTEN": listen,
            "AUTHZ_ADMIN": "off",
            "AUTHZ_LOG_DECISIONS": "none",
            "AUTHZ_LOG_LEVEL": "debug",
        }
        settings = {"listen": "127.0.0.1:1", "log": {"decisions": "denied"}}
        with RunningService(
            tmp_path, POLICY, pools=[pool], settings=settings, environ=environ, arguments=["--admin", admin]
        ) as service:
            assert service.listening["listen"] == listen  # the environment before the file
            service.settings["admin"] = admin
            assert service.get("/readyz")[0] == 200  # the flag before the environment
            denied = service.check(check_request())
            assert service.stop() == 0
            assert denied.metadata["decision_id"] not in service.output

    def test_the_configuration_too_can_come_from_the_environment(self, stand: Path) -> None:
        config = {"AUTHZ_CONFIG": str(stand / "authz.yaml"), "AUTHZ_POLICIES": str(stand / "nowhere")}
        ended = invoke("serve", environ=config)
        assert ended.exit_code == 3
        assert "nowhere" in ended.stderr

    def test_log_text_for_people(self, tmp_path: Path, pool: FakeUserPool) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "authz", "serve", "--log-format", "text", "--config", self._config(tmp_path, pool)],
            env=child_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert re.match(r"\S+Z info policies loaded .*routes=2", process.stdout.readline())
        finally:
            process.kill()
            process.communicate()

    def _config(self, folder: Path, pool: FakeUserPool) -> str:
        (folder / "policies").mkdir()
        (folder / "policies" / "app.yaml").write_text(POLICY, encoding="utf-8")
        (folder / "authz.yaml").write_text(json.dumps(configuration(folder, [pool])), encoding="utf-8")
        return str(folder / "authz.yaml")


class TestColour:
    @pytest.fixture
    def policies(self, tmp_path: Path) -> Path:
        (tmp_path / "app.yaml").write_text(POLICY, encoding="utf-8")
        return tmp_path

    @pytest.mark.parametrize("verb", ["check", "explain"])
    def test_on_a_terminal_unless_no_color_says_something(self, policies: Path, verb: str) -> None:
        arguments = {
            "check": ["check", str(policies)],
            "explain": ["explain", "--policies", str(policies), "--url", "https://app.example.com/public"],
        }[verb]
        assert "\x1b[32m" in on_a_terminal(arguments, {"NO_COLOR": ""})  # no-color.org: only when not empty
        assert "\x1b[3" not in on_a_terminal(arguments, {"NO_COLOR": "1"})

    def test_none_in_a_pipe(self, policies: Path) -> None:
        assert "\x1b" not in invoke("check", str(policies)).stdout


def on_a_terminal(arguments: list[str], environ: dict[str, str]) -> str:
    """Run a verb with a terminal as its output, and give what it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "authz", *arguments],
        env=child_environment(TERM="xterm", **environ),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 0.1)[0]:
            continue
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        shown += part
    os.close(ours)
    assert process.wait(PATIENCE) == 0
    return shown.decode()


def test_a_slow_reader_of_our_output_never_holds_up_a_decision(tmp_path: Path, pool: FakeUserPool) -> None:
    """Nobody reads stdout: the pipe fills, and requests are decided all the same."""
    folder = tmp_path
    (folder / "policies").mkdir()
    (folder / "policies" / "app.yaml").write_text(POLICY, encoding="utf-8")
    port = free_ports()
    settings = configuration(folder, [pool], settings={"listen": f"127.0.0.1:{port}"})
    (folder / "authz.yaml").write_text(json.dumps(settings), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "authz", "serve", "--config", str(folder / "authz.yaml")],
        env=child_environment(),
        stdout=subprocess.PIPE,
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
            grpc.channel_ready_future(channel).result(PATIENCE)
            check = channel.unary_unary(CHECK)
            data = check_request(path="/public/" + "x" * 2000).SerializeToString()  # 60 lines fill a pipe
            for _ in range(300):
                assert pb.CheckResponse.FromString(check(data, timeout=5)).status.code == 16
    finally:
        process.kill()
        process.communicate()
