"""A Decision to Envoy's answer: the whole table of interface.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.identity.credentials import TokenPlace
from authz.model import (
    Allow,
    Decision,
    Deny,
    Guidance,
    Principal,
    Reason,
    RouteName,
    Source,
    http_status,
)
from authz.pb import external_auth_pb2 as pb
from authz.policy.remembered import Remembered
from authz.settings.templates import Template
from authz.transport.answer_heads import GRPC_CODE, Stamp, _allowed_head, _head
from authz.transport.check_request import to_request
from authz.transport.check_response import MAX_KEPT_DENIALS, Answers, AnswerSettings, StandingDenial
from authz.transport.pages import Page, denial_page
from tests.support.check_request import http_message
from tests.support.policies import CLIENT, SUBJECT, policy_set, principal, request

STAMP = Stamp("d-1", "rev-1")
ROUTE = RouteName("orders", Source("a.yaml", 3, 3))
HEADERS = (
    ("x-auth-subject", ("sub",)),
    ("x-auth-username", ("cognito:username", "username")),
    ("x-auth-groups", ("cognito:groups",)),
    ("x-auth-email", ("email",)),
)
BEARER = TokenPlace("header", "authorization")
OTHER = TokenPlace("header", "x-other-token")
COOKIE = TokenPlace("cookie", "BearerToken")
MARKS = "!#$%&'*+.^_`|~"  # what a name may hold beside letters, digits and hyphens (RFC 9110 section 5.6.2)


def answers(**settings_: Any) -> Answers:
    return Answers(AnswerSettings(**{"identity_headers": HEADERS, **settings_}))


# --- Denials ---------------------------------------------------------------------------------------------------------

# interface.md, "Answers"
STATUS = {
    Reason.USER_UNAUTHENTICATED: (401, 16),
    **{reason: (401, 16) for reason in Reason if reason.startswith("token-") and not reason.startswith("token-use-")},
    Reason.TOKEN_USE_REFUSED: (401, 16),
    Reason.ROUTE_NOT_FOUND: (404, 7),
    Reason.REQUEST_MALFORMED: (400, 3),
    Reason.KEYS_UNAVAILABLE: (503, 14),
    Reason.POLICY_UNAVAILABLE: (503, 14),
    Reason.OVERLOADED: (503, 14),
    Reason.PROXY_REFUSED: (503, 14),
    Reason.INTERNAL_ERROR: (503, 14),
}
ERRORS = {
    400: "bad request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not found",
    503: "service unavailable",
}


def denied(
    reason: Reason, header: Mapping[str, str] | None = None, host: str = "app.example.com", **settings_: Any
) -> pb.CheckResponse:
    asked = request(header)
    return answers(**settings_).answer(asked, Deny(reason, (), ROUTE), STAMP, host).response


def headers_of(response: pb.CheckResponse) -> dict[str, str]:
    options = response.denied_response.headers or response.ok_response.headers
    assert not any(option.HasField("append") for option in options)
    names = [option.header.key for option in options]
    assert len(set(names)) == len(names)
    return {option.header.key: option.header.value for option in options}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_status_and_its_code(reason: Reason) -> None:
    status, code = STATUS.get(reason, (403, 7))
    response = denied(reason, {"x-request-id": "r-1"})
    assert (response.denied_response.status.code, response.status.code) == (status, code)
    assert response.status.code != 0
    assert response.WhichOneof("http_response") == "denied_response"
    assert json.loads(response.denied_response.body) == {"error": ERRORS[status], "request_id": "r-1"}


def test_no_status_has_the_code_of_an_allow() -> None:
    assert 0 not in GRPC_CODE.values()
    assert {http_status(reason) for reason in Reason} == set(GRPC_CODE)


def test_who_is_nobody_is_told_how_to_sign_in() -> None:
    found = headers_of(denied(Reason.USER_UNAUTHENTICATED))
    assert found["www-authenticate"] == 'Bearer realm="app.example.com"'


@pytest.mark.parametrize("reason", [reason for reason in Reason if STATUS.get(reason) == (401, 16)][1:])
def test_who_has_a_bad_token_is_told_that_and_not_why(reason: Reason) -> None:
    response = denied(reason)
    assert headers_of(response)["www-authenticate"] == 'Bearer realm="app.example.com", error="invalid_token"'
    assert reason.value not in str(response.denied_response)


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if STATUS.get(reason) != (401, 16) and reason != Reason.SCOPE_UNAUTHORIZED]
)
def test_nobody_else_is_asked_to_sign_in(reason: Reason) -> None:
    assert "www-authenticate" not in headers_of(denied(reason))


def test_who_lacks_a_scope_is_told_that_and_not_which() -> None:
    deny = Deny(Reason.SCOPE_UNAUTHORIZED, (), ROUTE._replace(scopes=("orders/delete",)))
    response = answers().answer(request(), deny, STAMP, "app.example.com").response
    assert headers_of(response)["www-authenticate"] == 'Bearer realm="app.example.com", error="insufficient_scope"'
    assert "orders/delete" not in str(response)


# RFC 6750 section 3.1: the scope that the request needs may go with `insufficient_scope`.
@pytest.mark.parametrize(
    ("scopes", "challenge"),
    [
        ((), 'Bearer realm="app.example.com", error="insufficient_scope"'),
        (("a",), 'Bearer realm="app.example.com", error="insufficient_scope", scope="a"'),
        (("a", "api/b"), 'Bearer realm="app.example.com", error="insufficient_scope", scope="a api/b"'),
        (("a" * 1024,), f'Bearer realm="app.example.com", error="insufficient_scope", scope="{"a" * 1024}"'),
        (("a" * 1025,), 'Bearer realm="app.example.com", error="insufficient_scope"'),
    ],
    ids=["none named", "one", "two", "the longest", "too long to name"],
)
@pytest.mark.parametrize("others", [(), (Reason.GROUPS_UNAUTHORIZED,)], ids=["alone", "among others"])
def test_who_is_told_reasons_is_told_which_scopes_would_do(
    scopes: tuple[str, ...], challenge: str, others: tuple[Reason, ...]
) -> None:
    reasons = (*others, Reason.SCOPE_UNAUTHORIZED)
    deny = Deny(reasons[0], reasons[1:], ROUTE._replace(scopes=scopes))
    response = answers(show_error_details=True).answer(request(), deny, STAMP, "app.example.com").response
    assert headers_of(response)["www-authenticate"] == challenge
    assert (response.denied_response.status.code, response.status.code) == (403, 7)


def test_a_lacking_scope_is_no_matter_before_signing_in() -> None:
    deny = Deny(Reason.USER_UNAUTHENTICATED, (Reason.SCOPE_UNAUTHORIZED,), ROUTE._replace(scopes=("a",)))
    response = answers().answer(request(), deny, STAMP, "app.example.com").response
    assert headers_of(response)["www-authenticate"] == 'Bearer realm="app.example.com"'


def test_a_lacking_scope_without_a_route_names_none() -> None:
    response = answers(show_error_details=True).answer(request(), Deny(Reason.SCOPE_UNAUTHORIZED), STAMP, "h").response
    assert headers_of(response)["www-authenticate"] == 'Bearer realm="h", error="insufficient_scope"'


# --- Redirects of browsers -------------------------------------------------------------------------------------------

BROWSER = {"accept": "text/html,*/*;q=0.8"}
GLOBAL = ((401, "https://app.example.com/sign-in?to={url}"), (403, "/no"))


def test_a_browser_is_redirected_and_the_decision_stays() -> None:
    response = denied(Reason.USER_UNAUTHENTICATED, BROWSER, denied_redirect=GLOBAL)
    assert (response.denied_response.status.code, response.status.code, response.denied_response.body) == (302, 16, "")
    assert headers_of(response) == {
        "location": "https://app.example.com/sign-in?to=https%3A%2F%2Fapp.example.com%2F",
        "cache-control": "no-store",
        "vary": "accept",
    }
    assert response.dynamic_metadata["reason"] == "user-unauthenticated"
    assert response.dynamic_metadata["decision"] == "deny"


def test_a_route_redirects_elsewhere_and_leaves_other_statuses_alone() -> None:
    route = ROUTE._replace(denied_redirect=((403, "/ask-for-access"),))
    builder = answers(denied_redirect=GLOBAL)
    forbidden = builder.answer(request(BROWSER), Deny(Reason.REJECT, (), route), STAMP).response
    anonymous = builder.answer(request(BROWSER), Deny(Reason.USER_UNAUTHENTICATED, (), route), STAMP).response
    assert (forbidden.status.code, headers_of(forbidden)["location"]) == (7, "/ask-for-access")
    assert headers_of(anonymous)["location"].startswith("https://app.example.com/sign-in?to=")


def test_who_is_no_browser_reads_the_refusal() -> None:
    response = denied(Reason.USER_UNAUTHENTICATED, denied_redirect=GLOBAL)
    assert response.denied_response.status.code == 401
    assert "location" not in headers_of(response)


# --- Pages of the operator and texts of the author -------------------------------------------------------------------


@pytest.mark.parametrize("shows", [False, True])
def test_the_texts_of_the_author_are_told_with_the_reason(shows: bool) -> None:
    deny = Deny(Reason.GROUPS_UNAUTHORIZED, (), ROUTE, guidance=Guidance("Staff only.", "Ask Ann."))
    response = answers(show_error_details=shows).answer(request(), deny, STAMP).response
    body = json.loads(response.denied_response.body)
    told = {"reason": "groups-unauthorized", "explanation": "Staff only.", "remediation": "Ask Ann."}
    assert body == {"error": "forbidden", "request_id": "", **(told if shows else {})}


def test_templates_take_the_place_of_our_pages() -> None:
    pages = {"403.html": Template("html", ("<p>", " ", "</p>"), ("host", "request_id"))}
    header = {**BROWSER, "x-request-id": "<r>"}
    response = denied(Reason.REJECT, header, denied_pages=pages)
    assert response.denied_response.body == "<p>app.example.com &lt;r&gt;</p>"
    assert headers_of(response)["content-security-policy"].startswith("default-src 'none'; ")


ODD = st.text(alphabet=st.characters(codec="utf-8"), max_size=40)


@given(
    reason=st.sampled_from(list(Reason)), host=ODD, path=ODD, accept=ODD, request_id=ODD, scheme=ODD, html=st.booleans()
)
def test_no_response_header_ever_holds_a_control_character(
    reason: Reason, host: str, path: str, accept: str, request_id: str, scheme: str, html: bool
) -> None:
    header = {"accept": "text/html" if html else accept, "x-request-id": request_id, "host": host}
    asked = request(header, host=host, path=path, scheme=scheme)
    route = ROUTE._replace(denied_redirect=GLOBAL, scopes=("a",))
    response = answers(show_error_details=True).answer(asked, Deny(reason, (), route), STAMP).response
    for option in response.denied_response.headers:
        assert re.fullmatch("[!-~][ -~]*", option.header.value), option


def test_a_denial_is_not_kept_not_sniffed_and_depends_on_accept() -> None:
    assert headers_of(denied(Reason.CLAIM_UNAUTHORIZED)) == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "vary": "accept",
    }


def test_who_prefers_html_gets_a_page_without_scripts() -> None:
    response = denied(Reason.CLAIM_UNAUTHORIZED, {"accept": "text/html,*/*;q=0.8", "x-request-id": "r<1>&"})
    found = headers_of(response)
    assert found["content-type"] == "text/html; charset=utf-8"
    assert found["content-security-policy"].startswith("default-src 'none'; ")
    body = response.denied_response.body
    assert "403 Forbidden" in body
    assert "r&lt;1&gt;&amp;" in body
    assert "<script" not in body
    assert "r<1>" not in body


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc-web"])
def test_a_grpc_client_gets_a_short_text(kind: str) -> None:
    response = denied(Reason.CLAIM_UNAUTHORIZED, {"content-type": kind, "accept": "text/html"})
    assert response.denied_response.body == "forbidden"
    assert headers_of(response)["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("header", [{}, {"accept": "text/html"}, {"content-type": "application/grpc"}], ids=str)
def test_the_reason_is_told_where_the_route_or_the_configuration_says_so(header: dict[str, str]) -> None:
    shows = ROUTE._replace(show_error_details=True)
    by_route = answers().answer(request(header), Deny(Reason.CLAIM_UNAUTHORIZED, (), shows), STAMP).response
    by_configuration = denied(Reason.CLAIM_UNAUTHORIZED, header, show_error_details=True)
    silent = denied(Reason.CLAIM_UNAUTHORIZED, header)
    assert "claim-unauthorized" in by_route.denied_response.body
    assert "claim-unauthorized" in by_configuration.denied_response.body
    assert "claim-unauthorized" not in silent.denied_response.body


def test_a_denial_without_a_route_hides_the_reason() -> None:
    response = answers().answer(request(), Deny(Reason.ROUTE_NOT_FOUND), STAMP).response
    assert "route-not-found" not in response.denied_response.body
    assert response.dynamic_metadata["route"] == ""


# --- Allows ----------------------------------------------------------------------------------------------------------


def allowed(
    caller: Principal | None,
    header: Mapping[str, str] | None = None,
    route: RouteName = ROUTE,
    **settings_: Any,
) -> tuple[dict[str, str], list[str], tuple[str, ...]]:
    """Give what is set, what is removed, and what is omitted."""
    decision = Allow(route, (Reason.ACCEPT,), caller)
    answer = answers(**settings_).answer(request(header), decision, STAMP)
    assert answer.response.status.code == 0
    assert answer.response.WhichOneof("http_response") == "ok_response"
    to_set, to_remove = headers_of(answer.response), [*answer.response.ok_response.headers_to_remove]
    assert not set(to_set) & set(to_remove)
    assert len(set(to_remove)) == len(to_remove)
    return to_set, to_remove, answer.headers_omitted


ALICE = principal(groups=["admins", "a,b"], email="alice@example.com")
NAMES = [name for name, _ in HEADERS]


def test_identity_headers_are_set_or_removed() -> None:
    to_set, to_remove, omitted = allowed(ALICE)
    assert to_set == {
        "x-auth-subject": SUBJECT,
        "x-auth-groups": "admins,a%2Cb",
        "x-auth-email": "alice@example.com",
    }
    assert to_remove == ["x-auth-username"]
    assert omitted == ()


def test_for_nobody_every_identity_header_is_removed() -> None:
    assert allowed(None) == ({}, NAMES, ())


@pytest.mark.parametrize(
    ("by_route", "by_configuration", "passes"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_a_route_says_whether_identity_headers_are_passed_else_the_configuration(
    by_route: bool | None, by_configuration: bool, passes: bool
) -> None:
    route = ROUTE._replace(pass_identity_headers=by_route)
    to_set, to_remove, _ = allowed(ALICE, route=route, pass_identity_headers=by_configuration)
    assert bool(to_set) is passes
    assert (to_remove == NAMES) is not passes


def test_without_identity_headers_an_allow_is_still_no_empty_answer() -> None:
    assert allowed(ALICE, identity_headers=()) == ({}, [], ())


def test_an_address_that_does_not_count_is_not_sent() -> None:
    unverified = principal(email="alice@example.com", verified=False)
    to_set, to_remove, omitted = allowed(unverified)
    assert "x-auth-email" not in to_set
    assert "x-auth-email" in to_remove
    assert omitted == ("x-auth-email",)


@pytest.mark.parametrize(
    "name",
    [
        *("x_auth_subject", "x-auth_subject", "x_auth-subject", "x.auth.subject", "x-auth.subject", "x_auth.subject"),
        *(f"x{mark}auth{mark}subject" for mark in MARKS), *(f"x-auth{mark}subject" for mark in MARKS),
        "x+auth~subject", "x!auth|subject",
    ],
)  # fmt: skip
def test_headers_that_an_upstream_reads_as_ours_are_removed(name: str) -> None:
    for caller in (ALICE, None):
        to_set, to_remove, _ = allowed(caller, {name: "root", "x_other": "kept", "x-auth": "kept", "xauth": "kept"})
        assert name in to_remove
        assert not {"x_other", "x-auth", "xauth", "x-auth-subject"} & set(to_remove) - (
            {*NAMES} if caller is None else set()
        )
        assert name not in to_set


def test_pseudo_headers_are_nobodys_twins() -> None:
    pseudo = {":path": "/", ":method": "GET", ":authority": "a", "x_other": "kept"}
    for headers in ((("-path", ("sub",)),), (("_path", ("sub",)),)):
        to_set, to_remove, _ = allowed(ALICE, pseudo, identity_headers=headers)
        assert (list(to_set.values()), to_remove) == ([SUBJECT], [])


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "joined"])
def test_pseudo_headers_are_no_reason_to_make_an_answer_anew(raw: bool) -> None:
    pairs = {":path": "/a_b.c+d", ":method": "GET", ":authority": "app.example.com", "x-a1": "1_2"}
    entries = [pb.HeaderValue(key=name, raw_value=value.encode()) for name, value in pairs.items()]
    sent = {"header_map": pb.HeaderMap(headers=entries)} if raw else {"headers": pairs}
    kept, memory = answers(), remembered()
    kept.again(to_request(http_message(**sent)), memory, STAMP)
    assert memory.answer is not None


def test_the_twin_of_a_name_with_an_underscore_is_removed_too() -> None:
    headers = (("x_user", ("sub",)),)
    to_set, to_remove, _ = allowed(ALICE, {"x-user": "root", "x_user": "root"}, identity_headers=headers)
    assert to_set == {"x_user": SUBJECT}
    assert to_remove == ["x-user"]


# --- Hidden credentials ----------------------------------------------------------------------------------------------


def test_credentials_pass_unless_they_are_hidden() -> None:
    header = {"authorization": "Bearer x", "cookie": "BearerToken=x; a=1"}
    to_set, to_remove, _ = allowed(ALICE, header, tokens=(BEARER, COOKIE))
    assert "cookie" not in to_set
    assert not {"authorization", "cookie"} & set(to_remove)


@pytest.mark.parametrize(
    ("cookie", "remaining"),
    [
        ("BearerToken=x; a=1; b=2", "a=1; b=2"),
        ("a=1; BearerToken=x", "a=1"),
        ("a=1; BearerToken=x; b=2; BearerToken=y", "a=1; b=2"),
        ("BearerToken=x", ""),
        ("a=1; b=2", None),
        ("bearertoken=x", None),
        (None, None),
    ],
)
def test_hidden_credentials_leave_the_other_cookies(cookie: str | None, remaining: str | None) -> None:
    header = {} if cookie is None else {"cookie": cookie}
    to_set, to_remove, _ = allowed(None, header, tokens=(BEARER, OTHER, COOKIE), hide_credentials=True)
    assert {"authorization", "x-other-token"} < set(to_remove)
    assert to_set.get("cookie", "") == (remaining or "")
    assert ("cookie" in to_remove) is (remaining == "")


KNOWN = Allow(ROUTE, (Reason.USER_OK,))


@pytest.mark.parametrize("name", ["café", "Kateřina", "日本", "\N{KELVIN SIGN}", "\x85", "\N{BOM}"])
def test_cookies_in_utf_8_stay_as_they_are_in_both_encodings(name: str) -> None:
    cookie = f"{name}={name}; BearerToken=x; {name}"
    raw = pb.HeaderMap(headers=[pb.HeaderValue(key="cookie", raw_value=cookie.encode())])
    for message in (http_message(header_map=raw), http_message(headers={"cookie": cookie})):
        asked = to_request(message)
        response = answers(tokens=(COOKIE,), hide_credentials=True).answer(asked, KNOWN, STAMP).response
        assert headers_of(response)["cookie"].encode() == f"{name}={name}; {name}".encode()


@given(st.binary(max_size=30))
def test_any_bytes_of_a_cookie_can_be_written_back(value: bytes) -> None:
    """A text of protobuf is UTF-8; lone bytes are read as Latin-1, and none of them ends or begins a cookie."""
    value = value.translate(None, delete=b";,=\t ")
    raw = pb.HeaderMap(headers=[pb.HeaderValue(key="cookie", raw_value=b"BearerToken=x; a=" + value)])
    asked = to_request(http_message(header_map=raw))
    response = answers(tokens=(COOKIE,), hide_credentials=True).answer(asked, KNOWN, STAMP).response
    written = headers_of(pb.CheckResponse.FromString(response.SerializeToString()))["cookie"].removeprefix("a=")
    assert value in (written.encode(), written.encode("latin-1", "replace"))


def test_without_token_cookies_no_cookie_is_touched() -> None:
    to_set, to_remove, _ = allowed(None, {"cookie": "BearerToken=x"}, tokens=(BEARER,), hide_credentials=True)
    assert "cookie" not in to_set
    assert to_remove == [*NAMES, "authorization"]


def test_an_identity_header_in_the_place_of_a_token_wins() -> None:
    """Envoy removes after it sets: a name in both lists would lose its identity."""
    headers = (("authorization", ("sub",)), ("cookie", ("sub",)))
    to_set, to_remove, _ = allowed(
        ALICE,
        {"authorization": "Bearer x", "cookie": "BearerToken=x; a=1"},
        identity_headers=headers,
        tokens=(BEARER, COOKIE),
        hide_credentials=True,
    )
    assert to_set == {"authorization": SUBJECT, "cookie": SUBJECT}
    assert to_remove == []


# --- Metadata --------------------------------------------------------------------------------------------------------


def test_every_answer_says_about_itself_what_it_is() -> None:
    allow = answers().answer(request(), Allow(ROUTE, (Reason.USER_OK, Reason.CLAIM_OK), ALICE), STAMP).response
    assert dict(allow.dynamic_metadata.items()) == {
        "decision_id": "d-1",
        "decision": "allow",
        "reason": "user-ok",
        "route": "orders",
        "policy_revision": "rev-1",
        "subject": SUBJECT,
        "client_id": CLIENT,
    }
    deny = answers().answer(request(), Deny(Reason.TOKEN_EXPIRED), STAMP).response
    assert dict(deny.dynamic_metadata.items()) == {
        "decision_id": "d-1",
        "decision": "deny",
        "reason": "token-expired",
        "route": "",
        "policy_revision": "rev-1",
    }


def test_a_denials_detail_reaches_nobody() -> None:
    response = answers().answer(request(), Deny(Reason.TOKEN_EXPIRED, (), ROUTE, None, "canary"), STAMP).response
    assert "canary" not in str(response)


@pytest.mark.parametrize("name", ["ann", "bob"])
@pytest.mark.parametrize("reason", [Reason.USER_OK, Reason.GROUPS_OK])
def test_an_answer_holds_nothing_of_another_that_is_like_it(name: str, reason: Reason) -> None:
    who = principal(claims={"sub": name, "username": name}, subject=name)
    first = answers().answer(request(), Allow(ROUTE, (reason,), who), STAMP).response
    as_made = first.SerializeToString(deterministic=True)
    first.status.code = 7
    first.ok_response.headers[0].header.value = "root"
    first.dynamic_metadata.fields["reason"].string_value = "nothing"
    answers().answer(request(), Allow(ROUTE, (reason,)), STAMP)  # an anonymous caller: other headers are set
    again = answers().answer(request(), Allow(ROUTE, (reason,), who), STAMP).response
    assert again.SerializeToString(deterministic=True) == as_made
    assert again.dynamic_metadata.fields["reason"].string_value == reason.value
    assert headers_of(again)["x-auth-subject"] == name


def test_reloads_leave_nothing_behind() -> None:
    denied_by_route = Deny(Reason.REJECT, (), ROUTE)
    answers().answer(request(), denied_by_route, Stamp("d-1", "rev-0"))
    kept = _head.cache_info().currsize
    for number in range(1, 9):
        response = answers().answer(request(), denied_by_route, Stamp("d-1", f"rev-{number}")).response
        assert response.dynamic_metadata["policy_revision"] == f"rev-{number}"
    assert _head.cache_info().currsize == kept


def test_names_that_a_request_chose_are_removed_and_not_kept() -> None:
    _allowed_head.cache_clear()
    for name in ("x_auth_subject", "x_auth-subject", "x-auth_subject", "x.auth.subject", "x+auth+subject"):
        asked = request({name: "root"})
        response = answers().answer(asked, Allow(ROUTE, (Reason.USER_OK,), principal()), STAMP).response
        assert name in response.ok_response.headers_to_remove
    assert _allowed_head.cache_info().currsize == 1


def test_headers_worked_out_once_are_never_another_principals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authz.transport.check_response.MAX_KNOWN_PRINCIPALS", 2)
    builder = answers()
    for number in range(9):  # more than are remembered; who is let go may leave his address to another
        name = f"user-{number}"
        who = principal(claims={"sub": name}, subject=name)
        for _ in range(2):
            answer = builder.answer(request(), Allow(ROUTE, (Reason.USER_OK,), who), STAMP)
            assert headers_of(answer.response)["x-auth-subject"] == name
        assert len(builder._known) <= 2


def test_headers_are_worked_out_once_for_a_principal_that_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    worked_out = []
    monkeypatch.setattr(
        "authz.transport.check_response.header_value", lambda who, *_: worked_out.append(who.subject) or "x"
    )
    monkeypatch.setattr("authz.transport.check_response.MAX_KNOWN_PRINCIPALS", 2)
    builder = answers()
    ann, bob = principal(subject="ann"), principal(subject="bob")
    for who in (ann, bob, ann, bob):
        builder.answer(request(), Allow(ROUTE, (Reason.USER_OK,), who), STAMP)
    assert worked_out == ["ann"] * len(HEADERS) + ["bob"] * len(HEADERS)


def test_an_address_used_again_brings_no_headers_of_another() -> None:
    builder = answers()
    ann, bob = principal(claims={"sub": "ann"}, subject="ann"), principal(claims={"sub": "bob"}, subject="bob")
    builder.answer(request(), Allow(ROUTE, (Reason.USER_OK,), ann), STAMP)
    builder._known[id(bob)] = builder._known[id(ann)]  # as if ann's address had become bob's
    response = builder.answer(request(), Allow(ROUTE, (Reason.USER_OK,), bob), STAMP).response
    assert headers_of(response)["x-auth-subject"] == "bob"


@pytest.mark.parametrize(("length", "fits"), [(8192, True), (8193, False)])
def test_a_header_has_at_most_8_kib_unless_the_configuration_says_otherwise(length: int, fits: bool) -> None:
    to_set, to_remove, omitted = allowed(principal({"username": "x" * length}))
    assert ("x-auth-username" in to_set) is fits
    assert ("x-auth-username" in to_remove) is not fits
    assert (omitted == ("x-auth-username",)) is not fits


# --- Answers that come again


LASTING = Allow(ROUTE, (Reason.GROUPS_OK,), principal({"username": "alice"}, groups=["a,b", "c"]))


def remembered(allow: Allow = LASTING) -> Remembered:
    """Give a fresh memory of an allow."""
    one = policy_set("- {from: 'https://app.example.com', allow_any_authenticated_user: true}").routes.routes[0]
    return Remembered(one, allow.principal, allow)


def test_a_kept_answer_says_the_same_as_one_made_anew() -> None:
    kept, memory = answers(), remembered()
    asked = request()
    for number in range(3):
        stamp = Stamp(f"0123456789abcdef-{number:x}", "rev-1")
        data, omitted = kept.again(asked, memory, stamp)
        anew = answers().answer(asked, LASTING, stamp)
        assert pb.CheckResponse.FromString(data) == anew.response
        assert omitted == anew.headers_omitted


DENIAL = Deny(Reason.GROUPS_UNAUTHORIZED, (), ROUTE, LASTING.principal, guidance=Guidance("Ask <us>", "Write to us"))
IDS = st.one_of(
    st.uuids().map(str),
    st.text("0123456789abcdef-", max_size=20),
    st.text("aZ9!\"\\<>&'-/:\x7fé ", max_size=20),
    st.just("x" * 129),
)
FORMS = st.sampled_from([
    {}, {"accept": "text/html"}, {"accept": "text/plain"}, {"content-type": "application/grpc"},
    {"accept": "text/html", "sec-fetch-mode": "cors"},
])  # fmt: skip
REDIRECT = {"denied_redirect": ((403, "https://sign-in.example.com/?to={url}"),)}
TEMPLATE = {"denied_pages": {"403.html": Template("html", ("<p>", "</p><p>", "</p>"), ("request_id", "request_id"))}}


def denial(deny: Deny = DENIAL) -> Remembered:
    """Give a fresh memory of a denial."""
    one = policy_set("- {from: 'https://app.example.com', policy: {allow: {and: [{groups: a}]}}}").routes.routes[0]
    return Remembered(one, deny.principal, deny)


@given(
    st.sampled_from([{}, REDIRECT, TEMPLATE, {"show_error_details": True}]),
    st.lists(st.tuples(IDS, FORMS, st.sampled_from(["app.example.com", "b.example.com"])), min_size=1, max_size=6),
)
def test_a_denial_that_comes_again_is_answered_to_each_request(
    settings: Mapping[str, Any], asking: list[tuple[str, dict[str, str], str]]
) -> None:
    kept = answers(**settings)
    memories = [denial(), denial(DENIAL._replace(reason=Reason.NO_RULE))]
    for request_id, form, host in asking:
        asked = request({**form, "x-request-id": request_id})
        for memory in memories:
            data, omitted = kept.again(asked, memory, STAMP, host)
            anew = answers(**settings).answer(asked, memory.decision, STAMP, host)
            assert (pb.CheckResponse.FromString(data), omitted) == anew


@pytest.mark.parametrize("form", [{}, {"accept": "text/html"}, {"accept": "text/plain"}])
@pytest.mark.parametrize(("length", "times"), [(15, 5), (16, 1), (36, 1)])
def test_a_kept_denial_names_the_request_that_it_answers_and_is_written_once(
    form: dict[str, str], length: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def count(*given: Any) -> Page:
        written.append(given)
        return denial_page(*given)

    monkeypatch.setattr("authz.transport.check_response.denial_page", count)
    kept, memory = answers(), denial()
    for number in range(5):
        request_id = "8c74b6aa".ljust(length - 1, "0") + str(number)
        data, _ = kept.again(request({**form, "x-request-id": request_id}), memory, STAMP, "app.example.com")
        body = pb.CheckResponse.FromString(data).denied_response.body
        assert body.count(request_id) == 1
        assert body.count("8c74b6aa") == 1
    assert len(written) == times


@pytest.mark.parametrize("length", [0, 1, 15])
def test_a_short_request_id_is_not_cut_out_of_other_words(length: int) -> None:
    kept, memory = answers(), denial()
    for letter in "ea":
        asked = request({"x-request-id": length * letter})
        data, _ = kept.again(asked, memory, STAMP)
        assert pb.CheckResponse.FromString(data) == answers().answer(asked, DENIAL, STAMP).response


def test_a_denial_under_another_policy_names_that_one() -> None:
    kept, memory = answers(), denial()
    for revision in ("rev-1", "rev-2"):
        data, _ = kept.again(request({"x-request-id": "x" * 36}), memory, Stamp("d-1", revision))
        said = pb.CheckResponse.FromString(data).dynamic_metadata.fields["policy_revision"]
        assert said.string_value == revision


def test_what_strangers_ask_for_does_not_fill_the_memory() -> None:
    kept, memory = answers(), denial()
    for number in range(MAX_KEPT_DENIALS + 2):
        kept.again(request({"x-request-id": "x" * 36}), memory, STAMP, f"{number}.example.com")
    assert len(kept._kept) == 2


def test_the_longest_decision_id_fits_its_lengths() -> None:
    stamp = Stamp("f" * 16 + "-" + "f" * 16, "rev-1")
    data, _ = answers().again(request(), remembered(), stamp)
    assert pb.CheckResponse.FromString(data).dynamic_metadata.fields["decision_id"].string_value == stamp.decision_id


@pytest.mark.parametrize(
    "name", ["x_auth_subject", "x.auth.subject", "x-auth_groups", *(f"x-auth{mark}groups" for mark in MARKS)]
)
def test_a_kept_answer_still_removes_what_an_upstream_reads_as_ours(name: str) -> None:
    kept, memory = answers(), remembered()
    kept.again(request(), memory, STAMP)
    data, _ = kept.again(request({name: "root"}), memory, STAMP)
    assert name in pb.CheckResponse.FromString(data).ok_response.headers_to_remove
    again, _ = kept.again(request(), memory, STAMP)
    assert name not in pb.CheckResponse.FromString(again).ok_response.headers_to_remove


@pytest.mark.parametrize("own", ["x_auth_subject", "x.auth.subject", "x+auth+subject", "x-auth~subject"])
def test_an_identity_header_of_more_than_hyphens_is_never_taken_from_a_kept_answer(own: str) -> None:
    kept, memory = answers(identity_headers=((own, ("sub",)),)), remembered()
    kept.again(request(), memory, STAMP)
    data, _ = kept.again(request({"x-auth-subject": "root"}), memory, STAMP)
    assert "x-auth-subject" in pb.CheckResponse.FromString(data).ok_response.headers_to_remove


def test_hidden_credentials_are_looked_for_in_every_request() -> None:
    kept, memory = answers(hide_credentials=True, tokens=(COOKIE,)), remembered()
    kept.again(request(), memory, STAMP)
    data, _ = kept.again(request({"cookie": "BearerToken=x; a=1"}), memory, STAMP)
    assert {option.header.key: option.header.value for option in pb.CheckResponse.FromString(data).ok_response.headers}[
        "cookie"
    ] == "a=1"


@pytest.mark.parametrize("decision", [LASTING, Deny(Reason.NO_RULE)], ids=["allow", "deny"])
def test_what_is_not_said_to_come_again_is_made_anew(decision: Decision) -> None:
    builder = answers()
    data, omitted = builder.serialized(request(), decision, STAMP)
    assert (pb.CheckResponse.FromString(data), omitted) == builder.answer(request(), decision, STAMP)


def test_a_denial_written_beforehand_takes_the_id_of_the_decision() -> None:
    standing = StandingDenial(answers(), Deny(Reason.INTERNAL_ERROR))
    response = pb.CheckResponse.FromString(standing.with_id("0123456789abcdef-1"))
    assert (response.status.code, response.denied_response.status.code) == (14, 503)
    assert response.dynamic_metadata["decision_id"] == "0123456789abcdef-1"
