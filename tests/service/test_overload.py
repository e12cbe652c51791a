"""Too much at a time: what is not decided is refused with `overloaded` or by gRPC, and never allowed by omission."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml

from authz.transport.admission import QUEUE_OPTIONS
from authz.transport.server import MAX_CONCURRENT_STREAMS
from tests.bench import load, messages
from tests.support.check_request import check_request
from tests.support.jwks_server import Answer, JwksServer
from tests.support.running_service import REPOSITORY, RunningService
from tests.support.user_pool import FakeUserPool
from tests.torture import overload, strangers
from tests.torture.wire import Calls, ask_steadily

POLICIES = "- {from: 'https://app.example.com', path: /public, allow_public_unauthenticated_access: true}\n"


@pytest.fixture
def pool() -> FakeUserPool:
    return FakeUserPool(clock=time.time)


def port_of(service: RunningService) -> int:
    return int(service.target.rpartition(":")[2])


def test_calls_without_time_left_are_overloaded_and_counted(tmp_path: Path, pool: FakeUserPool) -> None:
    message = messages.prefixed(check_request(path="/public").SerializeToString())
    with RunningService(tmp_path, POLICIES, pools=[pool]) as service:
        calls = Calls()
        for _ in range(20):  # on a busy machine the deadline is over before the answer comes, and gRPC says so
            calls += ask_steadily(port_of(service), [message], rate=100, seconds=0.1, deadline="4m")
            if calls.overloaded:
                break
        assert calls.overloaded > 0
        assert calls.denied == calls.overloaded
        assert calls.allowed == 0
        counted = service.metrics()['authz_decisions_total{decision="deny",reason="overloaded",route=""}']
        assert counted >= calls.overloaded
        line = service.wait_for(
            lambda: next((one for one in service.log_lines() if one.get("reasons") == ["overloaded"]), None),
            "a line of an overloaded call",
        )
        assert line["level"] == "warning"
        assert service.check(check_request(path="/public")).code == 0


def test_a_burst_is_answered_or_refused_by_grpc(tmp_path: Path, pool: FakeUserPool) -> None:
    message = messages.prefixed(check_request(path="/public").SerializeToString())
    with RunningService(tmp_path, POLICIES, pools=[pool]) as service:
        calls = ask_steadily(port_of(service), [message], rate=100_000, seconds=0.01, connections=8)
        assert calls.allowed + calls.refused == calls.sent == 1_000
        assert calls.allowed > 0
        assert service.check(check_request(path="/public")).code == 0


@pytest.mark.parametrize("sample", ["api.yaml", "browser.yaml"])
def test_envoy_refuses_before_the_queue_is_full(sample: str) -> None:
    """What gRPC refuses could be a health check as well, and Envoy would take the process for dead."""
    config = yaml.safe_load((REPOSITORY / "envoy" / sample).read_text(encoding="utf-8"))
    (cluster,) = (one for one in config["static_resources"]["clusters"] if one["name"] == "authz")
    (thresholds,) = cluster["circuit_breakers"]["thresholds"]
    assert dict(QUEUE_OPTIONS)["grpc.server.max_pending_requests"] > MAX_CONCURRENT_STREAMS
    assert thresholds["max_requests"] < dict(QUEUE_OPTIONS)["grpc.server.max_pending_requests"]


@pytest.mark.skipif(
    not load.is_installed() and os.environ.get("CI") != "true",  # in CI it fails
    reason=f"NOT TESTED: no h2load to flood with. Install it: {load.INSTALL}",
)
def test_through_envoy_what_is_too_much_answers_503(tmp_path: Path) -> None:
    found = overload.overloaded(tmp_path, seconds=0.5)
    assert found.statuses[200] > 0
    assert set(found.statuses) == {200, 503}
    assert [figure for figure in overload.counted(found) if not figure.held] == []


def test_unknown_kids_neither_refuse_friends_nor_cause_fetches(tmp_path: Path) -> None:
    pool = messages.new_pool()
    policies = messages.policies(10)
    with (
        JwksServer(Answer(pool.jwks())) as endpoint,
        RunningService(tmp_path, policies, pools=[pool], jwks_uri=endpoint.uri) as service,
    ):
        endpoint.answer = Answer(pool.jwks(), delay=0.3)
        friend = [messages.message(messages.reader(pool))]
        crowd = strangers.meet([port_of(service)], pool, endpoint, friend=friend, rate=200, seconds=1.0)
        assert [figure for figure in strangers.counted(crowd, 1.0) if not figure.held] == []
        assert crowd.fetches == 1
        assert crowd.strangers.denied == crowd.strangers.sent == 200
        assert service.metrics()['authz_tokens_total{result="token-key-unknown"}'] == 200
