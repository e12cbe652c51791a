"""The frozen words: what they say about themselves, and that nothing secret is in it."""

from __future__ import annotations

import pytest

from authz.errors import AuthzError, KeysError, LoadError, Problem, RequestError, Severity, TokenError
from authz.model import MAX_CLAIM_SECONDS, Allow, Deny, Principal, Reason, Request, RouteName, Source
from tests.support.policies import principal, request

ROUTE = RouteName("orders", Source("a.yaml", 3, 5))


def test_a_principal_has_no_unverified_address_unless_it_is_said() -> None:
    assert not Principal("alice", "https://issuer", "client", "access", {}).email_is_unverified


@pytest.mark.parametrize(
    ("values", "joined"),
    [(("a",), "a"), (("a", "b"), "a,b"), ((), ""), (("",), "")],
)
def test_a_header_of_several_values_is_joined_with_commas(values: tuple[str, ...], joined: str) -> None:
    assert Request("GET", "h", "/", {"x": values}).header("x") == joined


def test_a_header_that_is_not_there_is_empty() -> None:
    assert request().header("x") == ""


def test_nothing_secret_is_printable() -> None:
    asked = request({"authorization": "canary"}, path="/a?token=canary", certificate="canary")
    caller = principal({"secret": "canary"}, email="canary@example.com")
    for word in (asked, caller, Allow(ROUTE, (Reason.USER_OK,), caller), Deny(Reason.REJECT, (), ROUTE, caller)):
        assert "canary" not in f"{word!r} {word}"
    assert repr(asked) == "Request(GET app.example.com /a)"
    assert repr(caller) == f"Principal({caller.subject} of {caller.issuer})"


def test_a_decision_names_its_first_reason_and_all() -> None:
    allow = Allow(ROUTE, (Reason.USER_OK, Reason.CLAIM_OK))
    assert (allow.reason, allow.reasons) == (Reason.USER_OK, (Reason.USER_OK, Reason.CLAIM_OK))
    deny = Deny(Reason.USER_UNAUTHENTICATED, (Reason.REJECT,))
    assert (deny.reason, deny.reasons) == (Reason.USER_UNAUTHENTICATED, (Reason.USER_UNAUTHENTICATED, Reason.REJECT))


def test_a_place_is_written_as_editors_write_it() -> None:
    assert str(ROUTE.source) == "a.yaml:3:5"


# --- Errors ----------------------------------------------------------------------------------------------------------


def test_everything_that_can_go_wrong_is_of_one_tree() -> None:
    for error in (TokenError(Reason.TOKEN_EXPIRED, "x"), KeysError("x"), RequestError("x"), LoadError([])):
        assert isinstance(error, AuthzError)


def test_a_token_error_carries_its_reason_and_its_detail() -> None:
    error = TokenError(Reason.TOKEN_EXPIRED, "expired 40 s ago")
    assert (error.reason, error.detail, str(error)) == (Reason.TOKEN_EXPIRED, "expired 40 s ago", "expired 40 s ago")


def test_a_load_error_holds_every_problem_in_file_and_line_order() -> None:
    problems = [
        Problem(Source("b.yaml", 1, 1), "third"),
        Problem(Source("a.yaml", 10, 1), "second", Severity.WARNING),
        Problem(Source("a.yaml", 9, 1), "first"),
    ]
    assert str(LoadError(problems)) == "a.yaml:9:1: first\na.yaml:10:1: warning: second\nb.yaml:1:1: third"


def test_up_to_the_latest_time_of_a_claim_a_float_holds_every_second_and_no_further() -> None:
    latest = MAX_CLAIM_SECONDS
    assert [float(second) for second in (latest - 1, latest, latest + 1)] == [latest - 1, latest, latest]
