"""The door: whatever breaks behind it, what comes out is an answer, and it denies."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.audit import DecisionLog
from authz.authorizer import Authenticator, Authorizer, Issuer
from authz.identity.claims import ClaimShapes
from authz.identity.credentials import TokenPlace
from authz.identity.verified import VerifiedTokens
from authz.lines import Line
from authz.metrics import Metrics
from authz.model import Reason
from authz.pb import external_auth_pb2 as pb
from authz.settings import DEFAULT_IDENTITY_HEADERS, DEFAULT_TOKENS
from authz.transport.check_response import Answers, AnswerSettings
from authz.transport.server import Door, _options, keep_health, max_connections
from tests.support.check_request import check_request
from tests.support.policies import policy_set
from tests.support.running_service import Reply, reply_of
from tests.support.user_pool import NOW, FakeUserPool
from tests.unit.test_authorizer import Keys

SECRET = "s3cr3t-in-the-message"
POLICIES = """
- {from: 'https://app.example.com', path: /public, allow_public_unauthenticated_access: true}
- {from: 'https://app.example.com', allowed_idp_claims: {cognito:groups: [admins]}}
"""
INTERNAL_ERROR = (503, 14, "internal-error")


class Lines:
    """Plays the LineWriter."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def write(self, line: Line) -> None:
        self.written.append(json.loads(str(line)))


class Broken:
    """Stands in for a collaborator whose named method raises; everything else is the real one's."""

    def __init__(self, real: Any, name: str, error: BaseException) -> None:
        self._real, self._name, self._error = real, name, error

    def __getattr__(self, name: str) -> Any:
        if name != self._name:
            return getattr(self._real, name)
        return self._raise

    def _raise(self, *_: Any, **__: Any) -> Any:
        raise self._error


class Stand:
    """A Door with every collaborator real and in memory, unless one is handed in."""

    def __init__(self, pool: FakeUserPool | None = None, **changes: Any) -> None:
        self.pool = pool or FakeUserPool()
        self.lines = Lines()
        self.metrics = Metrics(version="0", wall=lambda: NOW)
        policies = policy_set(POLICIES)
        authenticator = Authenticator(
            places=(TokenPlace("header", "authorization"),),
            issuers=[Issuer(self.pool.trust(), Keys(self.pool))],  # type: ignore[arg-type]
            verified=VerifiedTokens(max_entries=10, max_bytes=1_000_000),
            shapes=ClaimShapes(),
            observe=self.metrics,
        )
        authorizer = Authorizer(authenticator=authenticator, policies=lambda: policies, allow_path_parameters=False)
        parts: dict[str, Any] = {
            "authorizer": authorizer,
            "answers": Answers(AnswerSettings(identity_headers=DEFAULT_IDENTITY_HEADERS, tokens=DEFAULT_TOKENS)),
            "decisions": DecisionLog(self.lines),  # type: ignore[arg-type]
            "metrics": self.metrics,
            "wall": lambda: NOW,
        }
        for name, change in changes.items():
            parts[name] = change(parts.get(name)) if callable(change) and name not in ("wall", "clock") else change
        self.door = Door(**parts)

    async def check(self, request: pb.CheckRequest | bytes | None = None) -> Reply:
        if request is None:
            request = check_request(token=self.pool.token(groups=["admins"]))
        data = request if isinstance(request, bytes) else request.SerializeToString()
        return reply_of(pb.CheckResponse.FromString(await self.door.check(data)))

    def count(self, name: str) -> float:
        lines = self.metrics.render()[0].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def broken(name: str, error: BaseException | None = None) -> Callable[[Any], Broken]:
    return lambda real: Broken(real, name, error or ValueError(SECRET))


def that_raises(error: BaseException) -> Stand:
    async def raises(*_: Any) -> Any:
        raise error

    stand = Stand()
    stand.door._authorizer.authorize = raises  # type: ignore[method-assign]
    return stand


def fails(error: BaseException | None = None) -> Callable[..., float]:
    def raises(*_: object) -> float:
        raise error or ValueError(SECRET)

    return raises


class TestFailures:
    async def test_nothing_broken_is_allowed(self) -> None:
        stand = Stand()
        assert (await stand.check()).verdict == (200, 0, "claim-ok")
        assert [line["decision"] for line in stand.lines.written] == ["allow"]

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"authorizer": broken("authorize")}, id="the authorizer raises"),
            pytest.param({"metrics": broken("decided")}, id="the count of decisions raises"),
            pytest.param({"decisions": broken("wanted")}, id="the log's question raises"),
            pytest.param({"decisions": broken("record")}, id="the record raises"),
            pytest.param({"wall": fails()}, id="the wall clock raises"),
            pytest.param({"authorizer": broken("authorize", RecursionError(SECRET))}, id="endless recursion"),
            pytest.param({"authorizer": broken("authorize", MemoryError(SECRET))}, id="no memory"),
            pytest.param({"authorizer": broken("authorize", TimeoutError(SECRET))}, id="a timeout of somebody's"),
        ],
    )
    async def test_becomes_a_deny_without_a_word_of_the_message(
        self, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        stand = Stand(**changes)
        with caplog.at_level(logging.ERROR, "authz"):
            reply = await stand.check()
        assert reply.verdict == INTERNAL_ERROR
        assert SECRET not in str(reply)
        assert SECRET not in "".join(record.getMessage() for record in caplog.records)

    async def test_answers_that_cannot_be_built_have_an_answer(self) -> None:
        class Fragile(Answers):
            def _allow(self, *_: object) -> NoReturn:
                raise ValueError(SECRET)

        stand = Stand(answers=lambda _: Fragile(AnswerSettings(identity_headers=())))
        assert (await stand.check()).verdict == INTERNAL_ERROR

    async def test_is_told_with_its_place_and_the_id_of_the_decision(self, caplog: pytest.LogCaptureFixture) -> None:
        stand = Stand(authorizer=broken("authorize"))
        with caplog.at_level(logging.ERROR, "authz"):
            reply = await stand.check()
        [record] = caplog.records
        assert record.message == "internal error: denied with 503"
        assert record.fields["reason"] == "internal-error"  # type: ignore[attr-defined]
        assert record.fields["decision_id"] == reply.metadata["decision_id"] != ""  # type: ignore[attr-defined]
        assert stand.count('authz_decisions_total{decision="deny",reason="internal-error"') == 1

    async def test_a_decision_that_could_not_be_recorded_is_counted_once(self) -> None:
        stand = Stand(decisions=broken("record"))
        await stand.check()
        assert stand.count("authz_decisions_total") == 1
        assert stand.count("grpc_server_handled_total") == 1

    @pytest.mark.parametrize("path", ["/public", "/"], ids=["of an allow", "of a deny"])
    async def test_telling_that_fails_too_changes_nothing(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(SECRET)

        monkeypatch.setattr(logging.getLogger("authz"), "error", refuse)
        stand = Stand(decisions=broken("record"), metrics=broken("decided"))
        assert (await stand.check(check_request(path=path))).verdict == INTERNAL_ERROR

    @pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit()], ids=repr)
    async def test_what_ends_a_call_passes(self, error: BaseException) -> None:
        with pytest.raises(type(error)):
            await that_raises(error).door.check(check_request().SerializeToString())

    @pytest.mark.parametrize(
        "error", [BaseException("a panic, as pyo3's"), SystemExit(), KeyboardInterrupt()], ids=repr
    )
    async def test_what_is_no_exception_is_denied_too(self, error: BaseException) -> None:
        assert (await that_raises(error).check()).verdict == INTERNAL_ERROR

    @pytest.mark.parametrize("readings", [0, 1], ids=["at once", "later"])
    async def test_a_clock_that_fails_does_not_open_the_door(self, readings: int) -> None:
        ticks = iter([1.0] * readings)
        assert (await Stand(clock=lambda: next(ticks)).check()).verdict == INTERNAL_ERROR

    async def test_an_id_that_could_not_be_made_harms_no_later_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stand = Stand()
        with monkeypatch.context() as patch:
            patch.setattr(stand.door, "_numbers", iter(()))
            assert (await stand.check()).verdict == INTERNAL_ERROR
        assert (await stand.check()).verdict == (200, 0, "claim-ok")

    async def test_an_answer_that_takes_no_id_is_given_without_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stand = that_raises(ValueError(SECRET))
        monkeypatch.setattr(stand.door._failure, "with_id", fails())
        reply = await stand.check()
        assert (reply.verdict, reply.metadata["decision_id"]) == (INTERNAL_ERROR, "")


class TestRecords:
    async def test_a_record_is_made_only_where_it_is_wanted(self) -> None:
        lines = Lines()
        stand = Stand(decisions=lambda _: DecisionLog(lines, decisions="denied"))  # type: ignore[arg-type]
        await stand.check()
        await stand.check(check_request())
        assert [line["decision"] for line in lines.written] == ["deny"]

    async def test_a_message_that_is_none_is_a_decision_like_others(self) -> None:
        stand = Stand()
        assert (await stand.check(b"\xff")).verdict == (400, 3, "request-malformed")
        [line] = stand.lines.written
        assert (line["detail"], line["method"], line["path"]) == ("the message is not a CheckRequest", None, None)
        assert line["why"]["found"] == "the message is not a CheckRequest"

    async def test_the_empty_message_is_refused(self) -> None:
        assert (await Stand().check(b"")).verdict == (400, 3, "request-malformed")

    async def test_ids_are_never_used_twice(self) -> None:
        stand = Stand()
        ids = [(await stand.check()).metadata["decision_id"] for _ in range(50)]
        assert len(set(ids)) == 50

    async def test_values_are_explained_only_where_the_configuration_says_so(self) -> None:
        for explains, found in ((False, "1 value"), (True, "`payroll`")):
            stand = Stand(explain_values=explains)
            await stand.check(check_request(token=stand.pool.token(groups=["payroll"])))
            assert stand.lines.written[0]["why"]["found"] == found

    async def test_a_denial_that_comes_again_is_told_again_in_full(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["payroll"])
        for path in ("/admin", "/admin/x"):
            await stand.check(check_request(token=token, path=path))
        first, second = stand.lines.written
        assert (first["path"], second["path"]) == ("/admin", "/admin/x")
        assert first["decision_id"] != second["decision_id"]
        assert first["why"] == second["why"]
        assert first["why"]["found"] == "1 value"

    async def test_each_of_the_refused_is_told_their_own_reason(self) -> None:
        stand = Stand()
        tokens = [stand.pool.token(groups=["payroll"]), stand.pool.token(), None]
        for _ in range(2):
            for token in tokens:
                await stand.check(check_request(token=token))
        told = [(line["reasons"], line["why"]["found"]) for line in stand.lines.written]
        assert told[:3] == told[3:]
        assert len(set(map(str, told))) == 3

    async def test_the_source_address_comes_from_the_configured_header(self) -> None:
        stand = Stand(client_ip_header="x-envoy-external-address")
        await stand.check(check_request(headers={"x-envoy-external-address": "203.0.113.9"}))
        await stand.check(check_request(headers={"x-envoy-external-address": "203.0.113.9, 10.0.0.1"}))
        assert [line["source_ip"] for line in stand.lines.written] == ["203.0.113.9", None]


def test_grpcs_own_limits_are_all_set() -> None:
    """Written out, each with its value: without one gRPC takes a default of its own, or no limit, and says nothing."""
    assert _options() == [
        ("grpc.server.max_pending_requests", 384),
        ("grpc.server.max_pending_requests_hard_limit", 512),
        ("grpc.max_allowed_incoming_connections", max_connections()),
        ("grpc.max_receive_message_length", 256 * 1024),
        ("grpc.max_concurrent_streams", 256),
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]


class TestHealth:
    async def test_turns_to_serving_once_nothing_is_missing(self) -> None:
        missing = iter([["no keys"], ["no keys"], [], ["never asked again"]])
        told: list[bool] = []

        class Server:
            def set_serving(self, serving: bool) -> None:
                told.append(serving)

        await keep_health(Server(), lambda: next(missing), interval_seconds=0)  # type: ignore[arg-type]
        assert told == [True]


# --- any CheckRequest bytes get an answer --------------------------------------------------------------------------

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["/", "/public", "/public/", "//", "/%2e", "app.example.com", "APP.EXAMPLE.COM.:443", "GET"]),
)
names = st.sampled_from(["authorization", "cookie", "Authorization", "x-request-id", "accept", "content-type", "host"])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Give a message with hostile parts, or one whose bytes were damaged."""
    check = pb.CheckRequest()
    http = check.attributes.request.http
    http.method = draw(st.one_of(st.just("GET"), texts))
    http.host = draw(st.one_of(st.just("app.example.com"), texts))
    http.path = draw(st.one_of(st.just("/public"), texts))
    check.attributes.source.address.socket_address.address = draw(texts)
    check.attributes.source.certificate = draw(texts)
    if draw(st.booleans()):
        check.attributes.context_extensions["route"] = draw(texts)
    for name, value in draw(st.lists(st.tuples(names, st.binary(max_size=40)), max_size=4)):
        http.header_map.headers.add(key=name, raw_value=value)
    for name, value in draw(st.lists(st.tuples(names, st.text(max_size=40)), max_size=4)):
        http.headers[name] = value
    data = bytearray(check.SerializeToString())
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3)):
        data[place % len(data)] = byte
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


DOOR = Stand()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.one_of(st.binary(max_size=200), messages()))
def test_any_bytes_get_an_answer_and_only_the_public_route_an_allow(data: bytes) -> None:
    reply = reply_of(pb.CheckResponse.FromString(asyncio.run(DOOR.door.check(data))))
    assert reply.reason != "internal-error"
    if reply.code == 0:
        http = pb.CheckRequest.FromString(data).attributes.request.http
        assert (http.path.partition("?")[0], reply.reason) == ("/public", "accept")
    else:
        assert Reason(reply.reason)
        assert (reply.status, reply.code) in {(400, 3), (401, 16), (404, 7)}
