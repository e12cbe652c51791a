"""The answers table of the public interface, through the real gRPC port of the real `authz serve`."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from authz.audit import DecisionLog
from authz.authorizer import Authenticator, Authorizer, Issuer
from authz.identity.claims import ClaimShapes
from authz.identity.jwks import JwksSettings, KeyStore
from authz.identity.verified import VerifiedTokens
from authz.lines import LineWriter
from authz.metrics import Metrics
from authz.model import TOKEN_REASONS
from authz.pb import external_auth_pb2 as pb
from authz.settings import DEFAULT_IDENTITY_HEADERS, DEFAULT_TOKENS
from authz.transport.check_response import Answers, AnswerSettings
from authz.transport.server import Door
from tests.support.check_request import CLIENT_IP, check_request
from tests.support.policies import policy_set
from tests.support.running_service import PATIENCE, Reply, RunningService, reply_of
from tests.support.user_pool import ALICE, DROP, FakeUserPool, rsa_key, sign

pytestmark = pytest.mark.xdist_group("service")  # one service for all of them

POLICY = """
- from: https://app.example.com
  id: public
  prefix: /public
  allow_public_unauthenticated_access: true
- from: https://app.example.com
  id: bare
  prefix: /bare
  allow_any_authenticated_user: true
  pass_identity_headers: false
- from: https://app.example.com
  id: talkative
  prefix: /talkative
  allowed_idp_claims: {cognito:groups: [admins]}
  show_error_details: true
- from: https://app.example.com
  id: preflight
  prefix: /preflight
  cors_allow_preflight: true
  allow_any_authenticated_user: true
- from: https://app.example.com
  id: shut
  prefix: /shut
- from: https://app.example.com
  id: mail
  prefix: /mail
  allowed_users: [alice@example.com]
- from: https://app.example.com
  id: admins
  prefix: /admins
  allowed_idp_claims: {cognito:groups: [admins]}
- from: https://app.example.com
  prefix: /
  allow_any_authenticated_user: true
- from: https://*.wild.example.com
  allow_any_authenticated_user: true
"""
IDENTITY = {"x-auth-subject", "x-auth-username", "x-auth-groups", "x-auth-email"}


@pytest.fixture(scope="module")
def pool() -> FakeUserPool:
    return FakeUserPool(clock=time.time)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, pool: FakeUserPool) -> Iterator[RunningService]:
    settings = {"tokens": [{"header": "authorization"}, {"header": "x-other-token"}, {"cookie": "BearerToken"}]}
    with RunningService(tmp_path_factory.mktemp("service"), POLICY, pools=[pool], settings=settings) as running:
        yield running
        assert running.stop() == 0


class TestTable:
    """One line of the table each: status toward the client, outer code, reason."""

    def test_allowed(self, service: RunningService, pool: FakeUserPool) -> None:
        reply = service.check(check_request(path="/admins", token=pool.token(groups=["admins"])))
        assert reply.verdict == (200, 0, "claim-ok")

    def test_no_credential(self, service: RunningService) -> None:
        reply = service.check(check_request())
        assert reply.verdict == (401, 16, "user-unauthenticated")
        assert reply.headers["www-authenticate"] == 'Bearer realm="app.example.com"'

    def test_a_bad_token(self, service: RunningService, pool: FakeUserPool) -> None:
        reply = service.check(check_request(token=pool.token(exp=1), host="APP.example.com:443"))
        assert reply.verdict == (401, 16, "token-expired")
        assert reply.headers["www-authenticate"] == 'Bearer realm="app.example.com", error="invalid_token"'

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            pytest.param("/admins", "claim-unauthorized", id="a claim"),
            pytest.param("/shut", "no-rule", id="no rule at all"),
            pytest.param("/mail", "user-unauthorized", id="a user"),
        ],
    )
    def test_not_allowed(self, service: RunningService, pool: FakeUserPool, path: str, reason: str) -> None:
        reply = service.check(check_request(path=path, token=pool.token(groups=["devs"])))
        assert reply.verdict == (403, 7, reason)
        assert "www-authenticate" not in reply.headers

    def test_an_unverified_address_does_not_count(self, service: RunningService, pool: FakeUserPool) -> None:
        verified, unverified = (pool.id_token(email_verified=value) for value in (True, False))
        assert service.check(check_request(path="/mail", token=verified)).verdict == (200, 0, "email-ok")
        reply = service.check(check_request(path="/mail", token=unverified))
        assert (reply.status, reply.code) == (403, 7)
        assert "email-unverified" in service.decision(reply)["reasons"]

    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param({"host": "other.example.com"}, id="unknown host"),
            pytest.param({"host": "wild.example.com"}, id="a wildcard wants something before it"),
            pytest.param({"route": "unknown"}, id="unknown id"),
            pytest.param({"route": ""}, id="empty id"),
        ],
    )
    def test_no_route(self, service: RunningService, pool: FakeUserPool, asked: dict[str, str]) -> None:
        reply = service.check(check_request(token=pool.token(), **asked))
        assert reply.verdict == (404, 7, "route-not-found")

    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param({"path": path}, id=f"path {path!r}")
            for path in (
                "", "public", "//", "/public//x", "/public/../admins", "/public/..;/admins", "/public/%2e%2e/admins",
                "/public%2fx", "/public%5cx", "/public\\x", "/public%00", "/public%0a", "/public%3bx", "/public;x=1",
                "/public%252e", "/public%zz", "/public%", "/public#x", "/public x", "/pub\tlic", "/publ\x7fic",
                "/publ\u00efc", "/public%ff", "/public%c0%af", "https://app.example.com/public", "*",
            )
        ] + [
            pytest.param({"path": "/public", "host": host}, id=f"host {host!r}")
            for host in (
                "", "app.example.com,evil.example", "app.example.com evil", "me@app.example.com", "app..example.com",
                "app.example.com:", "app.example.com:0", "app.example.com:99999", "app.example.com/", "[::1", "%61pp",
                "app.example.com\n", "\u0430pp.example.com",
            )
        ] + [
            pytest.param({"path": "/public", "method": method}, id=f"method {method!r}")
            for method in ("", "get", "Get", "GE T", "GET\n", "G\u00c9T")
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("route", [None, "public"], ids=["by path", "named by Envoy"])
    def test_what_cannot_be_judged_safely(
        self, service: RunningService, asked: dict[str, str], route: str | None
    ) -> None:
        assert service.check(check_request(**asked, route=route)).verdict == (400, 3, "request-malformed")

    def test_bytes_that_are_no_message(self, service: RunningService) -> None:
        assert service.check(b"\xff\xff").verdict == (400, 3, "request-malformed")
        assert service.check(b"").verdict == (400, 3, "request-malformed")


class TestTokens:
    """Every reason for a token that is not good, from one good token with one part broken."""

    @pytest.mark.parametrize(
        ("reason", "breaks"),
        [
            ("token-malformed", lambda pool: "hopeless"),
            ("token-malformed", lambda pool: pool.token() + "="),
            ("token-malformed", lambda pool: pool.token(padding="x" * 50_000)),
            ("token-malformed", lambda pool: pool.token(header={"crit": ["exp"]})),
            ("token-malformed", lambda pool: pool.sign(pool.header(), b'{"iss": "a", "iss": "b"}')),
            ("token-expired", lambda pool: pool.token(exp=int(time.time()))),
            ("token-not-yet-valid", lambda pool: pool.token(nbf=int(time.time()) + 60)),
            ("token-not-yet-valid", lambda pool: pool.token(iat=int(time.time()) + 300)),
            ("token-issuer-unknown", lambda pool: pool.token(iss=pool.issuer + "/")),
            ("token-issuer-unknown", lambda pool: pool.token(iss=DROP)),
            ("token-key-unknown", lambda pool: pool.token(key=rsa_key("stranger"))),
            ("token-signature-invalid", lambda pool: pool.token(key=rsa_key("forger"), header={"kid": kid(pool)})),
            ("token-signature-invalid", lambda pool: pool.token().rpartition(".")[0] + ".AAAA"),
            ("token-algorithm-refused", lambda pool: pool.token(header={"alg": "none"})),
            ("token-algorithm-refused", lambda pool: pool.token(header={"alg": "HS256"})),
            ("token-client-refused", lambda pool: pool.token(client_id="stranger")),
            ("token-client-refused", lambda pool: pool.id_token(aud="stranger")),
            ("token-use-refused", lambda pool: pool.token(token_use="refresh")),
            ("token-claim-invalid", lambda pool: pool.token(exp=DROP)),
            ("token-claim-invalid", lambda pool: pool.token(exp="9999999999")),
            ("token-claim-invalid", lambda pool: pool.token(exp=True)),
            ("token-claim-invalid", lambda pool: pool.token(sub="")),
        ],
    )
    def test_answers_401_with_its_reason(
        self, service: RunningService, pool: FakeUserPool, reason: str, breaks: Any
    ) -> None:
        reply = service.check(check_request(token=breaks(pool)))
        assert reply.verdict == (401, 16, reason)
        assert 'error="invalid_token"' in reply.headers["www-authenticate"]
        assert "subject" not in reply.metadata

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({"authorization": ["Bearer a", "Bearer a"]}, id="two Authorization headers"),
            pytest.param({"authorization": "Bearer a,Bearer b"}, id="two, joined by a proxy"),
            pytest.param({"authorization": "Basic eDp5, bearer b"}, id="two schemes in one"),
            pytest.param({"x-other-token": ["a", "b"]}, id="two of another header"),
            pytest.param({"x-other-token": "a,b"}, id="a comma in another header"),
            pytest.param({"cookie": "BearerToken=a; BearerToken=b"}, id="two different cookies"),
            pytest.param({"cookie": ["BearerToken=a", "BearerToken=b"]}, id="two cookie headers"),
        ],
    )
    def test_an_unclear_credential_is_ambiguous(
        self, service: RunningService, headers: dict[str, str | Sequence[str]]
    ) -> None:
        assert service.check(check_request(headers=headers)).verdict == (401, 16, "token-ambiguous")
        assert service.check(check_request(headers=headers, path="/public")).verdict == (200, 0, "accept")

    def test_the_list_above_is_complete(self) -> None:
        [mark] = TestTokens.test_answers_401_with_its_reason.pytestmark  # type: ignore[attr-defined]
        elsewhere = {"token-ambiguous", "token-revoked"}  # below, and in test_revocation.py
        assert {case[0] for case in mark.args[1]} | elsewhere == {str(reason) for reason in TOKEN_REASONS}

    @pytest.mark.parametrize(
        "place",
        [
            pytest.param(lambda token: {"authorization": f"Bearer {token}"}, id="Authorization"),
            pytest.param(lambda token: {"authorization": f"bEARER {token}"}, id="Bearer in any case"),
            pytest.param(lambda token: {"Authorization": f"Bearer {token}"}, id="the header in any case"),
            pytest.param(lambda token: {"x-other-token": token}, id="another header"),
            pytest.param(lambda token: {"cookie": f"a=1; BearerToken={token}; b=2"}, id="a cookie"),
            pytest.param(
                lambda token: {"authorization": "Basic eDp5", "x-other-token": token}, id="the first place with one"
            ),
        ],
    )
    @pytest.mark.parametrize("raw", [True, False], ids=["header_map", "headers"])
    def test_is_found_in_its_place(self, service: RunningService, pool: FakeUserPool, place: Any, raw: bool) -> None:
        reply = service.check(check_request(headers=place(pool.token()), raw=raw))
        assert reply.verdict == (200, 0, "user-ok")
        assert reply.metadata["subject"] == ALICE

    def test_two_lines_are_ambiguous_in_both_encodings(self, service: RunningService, pool: FakeUserPool) -> None:
        good = f"Bearer {pool.token()}"
        for raw in (True, False):
            reply = service.check(check_request(headers={"authorization": [good, good]}, raw=raw))
            assert reply.verdict == (401, 16, "token-ambiguous")

    def test_of_every_kind_pass(self, service: RunningService, pool: FakeUserPool) -> None:
        for token in (pool.token(), pool.id_token(), pool.machine_token(), pool.federated_token()):
            assert service.check(check_request(token=token)).verdict == (200, 0, "user-ok")


class TestRoutes:
    @pytest.mark.parametrize(
        "token",
        [
            pytest.param(lambda pool: None, id="none"),
            pytest.param(lambda pool: "hopeless", id="a bad one"),
            pytest.param(lambda pool: pool.token(exp=1), id="an expired one"),
        ],
    )
    def test_public_ones_pass_without_a_good_token_and_strip_identity(
        self, service: RunningService, pool: FakeUserPool, token: Any
    ) -> None:
        reply = service.check(check_request(path="/public", token=token(pool)))
        assert reply.verdict == (200, 0, "accept")
        assert reply.headers == {}
        assert set(reply.removed) == IDENTITY
        assert "subject" not in reply.metadata

    def test_public_ones_pass_the_identity_of_a_good_token(self, service: RunningService, pool: FakeUserPool) -> None:
        reply = service.check(check_request(path="/public", token=pool.token(groups=["a"])))
        assert reply.headers == {"x-auth-subject": ALICE, "x-auth-username": "alice", "x-auth-groups": "a"}
        assert reply.removed == ("x-auth-email",)

    def test_a_bad_token_keeps_404_and_403(self, service: RunningService) -> None:
        assert service.check(check_request(host="x.example.com", token="bad")).status == 404
        assert service.check(check_request(path="/shut", token="bad")).verdict == (403, 7, "no-rule")

    def test_a_preflight_passes_without_a_token(self, service: RunningService) -> None:
        headers = {"origin": "https://b.example", "access-control-request-method": "PUT"}
        asked = check_request(path="/preflight", method="OPTIONS", headers=headers)
        assert service.check(asked).verdict == (200, 0, "cors-request")
        assert service.check(check_request(path="/preflight", method="OPTIONS")).status == 401

    def test_the_one_that_envoy_names_is_judged(self, service: RunningService) -> None:
        assert service.check(check_request(path="/anything", route="public")).verdict == (200, 0, "accept")
        reply = service.check(check_request(path="/public", route="admins"))
        assert (reply.status, reply.metadata["route"]) == (401, "admins")

    @pytest.mark.parametrize(
        ("asked", "route"),
        [
            pytest.param({"path": "/%70ublic"}, "public", id="an escaped letter"),
            pytest.param({"path": "/public?x=//.."}, "public", id="anything in the query"),
            pytest.param({"host": "App.Example.COM.", "path": "/public"}, "public", id="host in another form"),
            pytest.param({"host": "app.example.com:8443", "path": "/public"}, "public", id="any port"),
            pytest.param({"path": "/PUBLIC"}, "https://app.example.com prefix=/", id="paths have case"),
            pytest.param({"host": "a.b.wild.example.com"}, "https://*.wild.example.com", id="a wildcard"),
        ],
    )
    def test_are_found_by_what_the_upstream_will_see(
        self, service: RunningService, asked: dict[str, str], route: str
    ) -> None:
        assert service.check(check_request(**asked)).metadata["route"] == route


class TestIdentityHeaders:
    def test_are_set_or_removed_never_left(self, service: RunningService, pool: FakeUserPool) -> None:
        for token in (pool.token(), pool.token(groups=["a"]), pool.id_token(), pool.machine_token()):
            reply = service.check(check_request(token=token, headers=dict.fromkeys(IDENTITY, "spoofed")))
            assert reply.code == 0
            assert set(reply.headers) | set(reply.removed) == IDENTITY
            assert set(reply.headers) & set(reply.removed) == set()

    def test_take_the_first_claim_that_is_there(self, service: RunningService, pool: FakeUserPool) -> None:
        for token in (pool.token(), pool.id_token()):
            assert service.check(check_request(token=token)).headers["x-auth-username"] == "alice"

    def test_a_comma_in_a_group_is_not_two_groups(self, service: RunningService, pool: FakeUserPool) -> None:
        reply = service.check(check_request(token=pool.token(groups=["a,admins", "50%"])))
        assert reply.headers["x-auth-groups"] == "a%2Cadmins,50%25"

    @pytest.mark.parametrize("value", ["a\r\nx-auth-groups: admins", "x" * 9000, "\x00"], ids=["CRLF", "long", "NUL"])
    def test_what_cannot_be_a_value_is_left_out_and_said(
        self, service: RunningService, pool: FakeUserPool, value: str
    ) -> None:
        reply = service.check(check_request(token=pool.token(username=value)))
        assert "x-auth-username" in reply.removed
        assert service.decision(reply)["headers_omitted"] == ["x-auth-username"]

    def test_an_unverified_address_is_none(self, service: RunningService, pool: FakeUserPool) -> None:
        assert service.check(check_request(token=pool.id_token())).headers["x-auth-email"] == "alice@example.com"
        assert "x-auth-email" in service.check(check_request(token=pool.id_token(email_verified=False))).removed

    def test_twins_of_other_servers_are_removed(self, service: RunningService) -> None:
        reply = service.check(check_request(path="/public", headers={"X_Auth_Groups": "admins", "x-auth.email": "a"}))
        assert {"x_auth_groups", "x-auth.email"} <= set(reply.removed)

    def test_a_route_can_do_without(self, service: RunningService, pool: FakeUserPool) -> None:
        reply = service.check(check_request(path="/bare", token=pool.token(groups=["a"])))
        assert (reply.headers, set(reply.removed)) == ({}, IDENTITY)


class TestBodies:
    def test_json_by_default_with_the_request_id(self, service: RunningService) -> None:
        reply = service.check(check_request(headers={"x-request-id": "6f1c"}))
        assert json.loads(reply.body) == {"error": "unauthenticated", "request_id": "6f1c"}
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["cache-control"] == "no-store"

    def test_a_request_id_that_is_none_is_not_echoed(self, service: RunningService) -> None:
        reply = service.check(check_request(headers={"x-request-id": '<script>"\x01'}))
        assert json.loads(reply.body)["request_id"] == ""

    def test_html_for_a_browser_escaped(self, service: RunningService) -> None:
        headers = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "x-request-id": "<script>"}
        reply = service.check(check_request(headers=headers))
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert "<script>" not in reply.body
        assert "&lt;script&gt;" in reply.body
        assert "default-src 'none'" in reply.headers["content-security-policy"]

    def test_a_short_text_for_grpc(self, service: RunningService) -> None:
        headers = {"content-type": "application/grpc+proto", "accept": "text/html"}
        reply = service.check(check_request(headers=headers))
        assert (reply.status, reply.body) == (401, "unauthenticated")

    @pytest.mark.parametrize("accept", ["application/json", "text/html", "*/*", ""])
    def test_the_reason_stays_inside_unless_the_route_shows_it(
        self, service: RunningService, pool: FakeUserPool, accept: str
    ) -> None:
        token = pool.token(groups=["devs"])
        quiet, talkative = (
            service.check(check_request(path=path, token=token, headers={"accept": accept}))
            for path in ("/admins", "/talkative")
        )
        assert "claim-unauthorized" not in quiet.body
        assert "claim-unauthorized" in talkative.body


class TestMetadata:
    def test_of_an_allow_is_complete(self, service: RunningService, pool: FakeUserPool) -> None:
        metadata = service.check(check_request(path="/bare", token=pool.token())).metadata
        assert metadata["decision_id"]
        assert {name: metadata[name] for name in metadata if name != "decision_id"} == {
            "decision": "allow",
            "reason": "user-ok",
            "route": "bare",
            "policy_revision": service.wait_for_line("policies loaded")["policy_revision"],
            "subject": ALICE,
            "client_id": pool.client_id,
        }

    def test_of_a_deny_without_a_principal(self, service: RunningService) -> None:
        metadata = service.check(check_request()).metadata
        assert set(metadata) == {"decision_id", "decision", "reason", "route", "policy_revision"}
        assert metadata["decision"] == "deny"


class TestDecisionLog:
    FIELDS = (
        "time", "level", "msg", "decision_id", "request_id", "decision", "reasons", "route", "policy",
        "policy_revision", "method", "host", "path", "source_ip", "subject", "client_id", "token_use", "duration_us",
    )  # fmt: skip

    def test_a_line_of_an_allow(self, service: RunningService, pool: FakeUserPool) -> None:
        asked = check_request(
            path="/admins/x?y=1", token=pool.token(groups=["admins"]), headers={"x-request-id": "6f1c"}
        )
        line = service.decision(service.check(asked))
        assert tuple(line) == self.FIELDS
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        del line["time"], line["decision_id"], line["policy_revision"], line["duration_us"]
        assert line == {
            "level": "info",
            "msg": "decision",
            "request_id": "6f1c",
            "decision": "allow",
            "reasons": ["claim-ok"],
            "route": "admins",
            "policy": "policies/app.yaml:28",
            "method": "GET",
            "host": "app.example.com",
            "path": "/admins/x",
            "source_ip": CLIENT_IP,
            "subject": ALICE,
            "client_id": pool.client_id,
            "token_use": "access",
        }

    @pytest.mark.parametrize(
        ("asked", "why"),
        [
            pytest.param({}, {"found": "nobody signed in"}, id="nobody"),
            pytest.param({"token": "bad"}, {"condition": "a good token"}, id="a bad token"),
            pytest.param({"path": "/shut"}, {"condition": "a rule that allows"}, id="no rule"),
            pytest.param({"host": "x"}, {"condition": "a route for this host and path"}, id="no route"),
            pytest.param({"path": "//"}, {"found": "the path holds an empty segment (`//`)"}, id="a bad path"),
        ],
    )
    def test_a_line_of_a_deny_says_why(
        self, service: RunningService, asked: dict[str, str], why: dict[str, str]
    ) -> None:
        line = service.decision(service.check(check_request(**asked)))
        assert set(line) - {"detail"} == {*self.FIELDS, "why"}
        assert line["why"].items() >= why.items()

    def test_a_deny_shows_no_values(self, service: RunningService, pool: FakeUserPool) -> None:
        line = service.decision(service.check(check_request(path="/admins", token=pool.token(groups=["Admins"]))))
        assert line["why"] == {
            "condition": "claim/cognito:groups: has `admins`",
            "effect": "allow",
            "policy": "policies/app.yaml:31",
            "found": "1 value",
            "hint": "differs by case only",
        }

    def test_a_deny_that_comes_again_names_its_own_request(self, service: RunningService, pool: FakeUserPool) -> None:
        for number in range(3):
            token, request_id = pool.token(header={"kid": f"unknown-{number}"}), f"0b7e4f6c-2a51-4c1e-9d0e-{number:012}"
            reply = service.check(check_request(token=token, headers={"x-request-id": request_id}))
            line = service.decision(reply)
            assert (line["request_id"], line["reasons"]) == (request_id, ["token-key-unknown"])
            assert line["why"] == {"condition": "a good token", "found": "the issuer has no key with the token's kid"}
            assert json.loads(reply.response.denied_response.body)["request_id"] == request_id

    def test_there_is_one_line_a_decision(self, service: RunningService) -> None:
        ids = [service.check(check_request()).metadata["decision_id"] for _ in range(20)]
        service.wait_for(lambda: ids[-1] in service.output, "the last line")
        lines = [line["decision_id"] for line in service.log_lines() if line["msg"] == "decision"]
        assert [lines.count(one) for one in ids] == [1] * 20

    def test_what_a_client_sends_stays_on_its_line(self, service: RunningService) -> None:
        before = len(service.log_lines())
        line = service.decision(
            service.check(check_request(method='GET\n{"msg":"decision"}', host="a\u2028b", path="/\n\r\x00"))
        )
        assert line["decision"] == "deny"
        assert len(service.log_lines()) == before + 1


class TestMetrics:
    def test_a_decision_and_its_token_are_counted(self, service: RunningService, pool: FakeUserPool) -> None:
        token = pool.token(groups=["admins"], jti="counted")
        before = service.metrics()
        for _ in range(3):
            service.check(check_request(path="/admins", token=token))
        service.check(check_request(path="/admins", token="bad"))
        after = service.metrics()

        def rise(name: str) -> float:
            return after[name] - before.get(name, 0)

        assert rise('authz_decisions_total{decision="allow",reason="claim-ok",route="admins"}') == 3
        assert rise('authz_decisions_total{decision="deny",reason="token-malformed",route="admins"}') == 1
        assert rise('authz_tokens_total{result="verified"}') == 1
        assert rise('authz_tokens_total{result="cached"}') == 2
        assert rise('authz_tokens_total{result="token-malformed"}') == 1
        assert rise("authz_decision_duration_seconds_count") == 4
        handled = [name for name in after if name.startswith("grpc_server_handled_total{") and 'code="OK"' in name]
        assert [rise(name) for name in handled] == [4]

    def test_every_promised_name_is_there(self, service: RunningService) -> None:
        names = {re.split(r"[{ ]", name)[0] for name in service.metrics()}
        assert names >= {
            "authz_decisions_total", "authz_decision_duration_seconds_bucket", "authz_tokens_total",
            "authz_jwks_fetches_total", "authz_jwks_last_success_timestamp_seconds", "authz_jwks_keys",
            "authz_policy_reloads_total", "authz_policy_last_success_timestamp_seconds",
            "authz_policy_revision_info", "authz_policy_routes", "authz_build_info", "grpc_server_handled_total",
            "grpc_server_handling_seconds_bucket",
        }  # fmt: skip

    def test_no_request_can_make_a_label(self, service: RunningService) -> None:
        before = set(service.metrics())
        for number in range(30):
            service.check(check_request(host=f"h{number}.example.com", path=f"/p{number}", method=f"M{number}"))
        new = set(service.metrics()) - before
        assert all("h1" not in name and "/p1" not in name and "M1" not in name for name in new)
        assert len(new) <= 1


class TestSecrets:
    CANARY = "c4n4ry-d0-n0t-pr1nt"

    def test_what_is_secret_is_nowhere(self, service: RunningService, pool: FakeUserPool) -> None:
        canary = self.CANARY
        signed = pool.token(groups=[canary], nickname=canary, username=canary, scope=canary)
        bad = [
            f"{canary}.{canary}.{canary}",
            pool.token(iss=canary),
            pool.token(header={"alg": canary}),
            pool.token(header={"kid": canary}),
            pool.token(client_id=canary, exp=canary),
            sign(b'{"alg":"RS256","kid":"' + canary.encode() + b'"}', canary.encode(), rsa_key("forger")),
        ]
        asked = [
            check_request(path="/admins", token=signed),
            check_request(path="/shut", token=signed),
            *(check_request(token=token) for token in bad),
            check_request(path=f"/admins?access_token={canary}"),
            check_request(path=f"//?access_token={canary}"),
            check_request(path=f"/admins#{canary}"),
            check_request(host=f"{canary}:{canary}@app.example.com"),
            check_request(headers={"cookie": f"a={canary}; BearerToken={canary}; BearerToken=2"}),
            check_request(headers={"authorization": f"Basic {canary}", "x-other-token": canary, "accept": canary}),
            check_request(headers={"authorization": [f"Bearer {canary}", canary], "x-request-id": f"{canary} x"}),
            check_request(headers={canary: canary, "user-agent": canary, "referer": canary, "origin": canary}),
        ]
        replies = [service.check(request) for request in asked]
        for reply in replies:
            assert reply.code != 0
            service.decision(reply)
            assert canary not in str(reply.response)
        assert canary not in service.output
        assert canary not in service.get("/metrics")[1]
        assert all(part not in service.output for part in signed.split("."))


class TestOtherSettings:
    """What the one service above was not started with."""

    def test_only_denied_decisions_are_logged_and_values_explained(self, tmp_path: Any, pool: FakeUserPool) -> None:
        settings = {"log": {"decisions": "denied", "explain_values": True}}
        with RunningService(tmp_path, POLICY, pools=[pool], settings=settings) as service:
            allowed = service.check(check_request(path="/public"))
            denied = service.check(check_request(path="/admins", token=pool.token(groups=["Admins"])))
            why = service.decision(denied)["why"]
            assert (why["found"], why["hint"]) == ("`Admins`", "`Admins` differs from `admins` by case only")
            assert allowed.metadata["decision_id"] not in service.output

    def test_no_decision_is_logged_and_credentials_are_hidden(self, tmp_path: Any, pool: FakeUserPool) -> None:
        settings = {
            "log": {"decisions": "none"},
            "hide_credentials": True,
            "tokens": [{"header": "authorization"}, {"cookie": "t"}],
            "identity_headers": {"x-me": ["nickname", "sub"]},
            "client_ip_header": "x-envoy-external-address",
        }
        with RunningService(tmp_path, POLICY, pools=[pool], settings=settings) as service:
            reply = service.check(check_request(token=pool.token(), headers={"cookie": f"a=1; t={pool.token()}"}))
            assert reply.headers == {"x-me": ALICE, "cookie": "a=1"}
            assert reply.removed == ("authorization",)
            service.check(check_request())
            assert service.stop() == 0
            assert '"decision"' not in service.output


class TestCannotKnow:
    """The 503 of the table that a service that started well never gives: in-process, over the same door."""

    async def reply(self, policies: Any, pool: FakeUserPool, *, down: bool = False) -> Reply:
        pool.down = down
        metrics = Metrics(version="0", wall=time.time)
        store = KeyStore(
            issuer=pool.issuer, uri=pool.jwks_uri, settings=JwksSettings(), fetch=pool.fetch, clock=time.monotonic,
            wall=time.time, observe=metrics,
        )  # fmt: skip
        authenticator = Authenticator(
            places=DEFAULT_TOKENS, issuers=[Issuer(pool.trust(), store)],
            verified=VerifiedTokens(max_entries=1, max_bytes=1_000_000), shapes=ClaimShapes(), observe=metrics,
        )  # fmt: skip
        writer = LineWriter(2)
        door = Door(
            authorizer=Authorizer(
                authenticator=authenticator, policies=lambda: policies, allow_path_parameters=False
            ),
            answers=Answers(AnswerSettings(identity_headers=DEFAULT_IDENTITY_HEADERS, tokens=DEFAULT_TOKENS)),
            decisions=DecisionLog(writer, decisions="none"),
            metrics=metrics,
        )  # fmt: skip
        answer = await asyncio.wait_for(door.check(check_request(token=pool.token()).SerializeToString()), PATIENCE)
        writer.close(1)
        return reply_of(pb.CheckResponse.FromString(answer))

    async def test_without_policies(self) -> None:
        reply = await self.reply(None, FakeUserPool(clock=time.time))
        assert reply.verdict == (503, 14, "policy-unavailable")

    async def test_without_keys(self) -> None:
        reply = await self.reply(policy_set(POLICY), FakeUserPool(clock=time.time), down=True)
        assert reply.verdict == (503, 14, "keys-unavailable")
        assert "www-authenticate" not in reply.headers


def kid(pool: FakeUserPool) -> str:
    return next(iter(pool.keys))
