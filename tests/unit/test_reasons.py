"""The closed list of reasons: each is given by something, and each has its HTTP status."""

from __future__ import annotations

import re

import pytest

from authz.model import TOKEN_REASONS, Reason, http_status
from authz.policy.criteria import CRITERIA
from tests.support.policies import NOW, compiled, facts, principal

# reference/pomerium.md section 3.3 and policy-language.md, "Criteria": what each says when it holds and when not. An
# e-mail that does not count and a client certificate that is missing have words of their own.
WORDS = {
    "accept": {"accept"},
    "reject": {"reject"},
    "authenticated_user": {"user-ok", "user-unauthorized"},
    "user": {"user-ok", "user-unauthorized"},
    "email": {"email-ok", "email-unauthorized", "email-unverified"},
    "domain": {"domain-ok", "domain-unauthorized", "email-unverified"},
    "claim": {"claim-ok", "claim-unauthorized", "email-unverified"},
    "groups": {"groups-ok", "groups-unauthorized"},
    "http_method": {"http-method-ok", "http-method-unauthorized"},
    "http_path": {"http-path-ok", "http-path-unauthorized"},
    "cors_preflight": {"cors-request", "non-cors-request"},
    "source_ip": {"source-ip-ok", "source-ip-unauthorized"},
    "client_certificate": {"client-certificate-ok", "client-certificate-unauthorized"},
    "invalid_client_certificate": {
        "valid-client-certificate",
        "invalid-client-certificate",
        "client-certificate-required",
    },
    "date": {"date-ok", "date-unauthorized"},
    "day_of_week": {"day-of-week-ok", "day-of-week-unauthorized"},
    "time_of_day": {"time-of-day-ok", "time-of-day-unauthorized"},
    "scope": {"scope-ok", "scope-unauthorized"},
    "client_id": {"client-id-ok", "client-id-unauthorized"},
    "token_use": {"token-use-ok", "token-use-unauthorized"},
    "issuer": {"issuer-ok", "issuer-unauthorized"},
    "identity_provider": {"identity-provider-ok", "identity-provider-unauthorized"},
    "auth_age": {"auth-age-ok", "auth-age-unauthorized"},
}
OF_NO_CRITERION = {
    "user-unauthenticated", "no-rule", "route-not-found", "request-malformed", "keys-unavailable",
    "policy-unavailable", "overloaded", "internal-error", "proxy-refused",
}  # fmt: skip


def test_every_criterion_has_its_words_and_every_word_its_criterion() -> None:
    assert set(WORDS) == set(CRITERIA)
    assert {*OF_NO_CRITERION, *TOKEN_REASONS, *set().union(*WORDS.values())} == set(Reason)


def test_a_reason_is_a_word_in_kebab_case() -> None:
    for reason in Reason:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", reason)
        assert reason.name == reason.value.upper().replace("-", "_")
        assert str(reason) == reason.value


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_has_its_status(reason: Reason) -> None:
    expected = {
        "user-unauthenticated": 401,
        "request-malformed": 400,
        "route-not-found": 404,
        "keys-unavailable": 503,
        "policy-unavailable": 503,
        "overloaded": 503,
        "proxy-refused": 503,
        "internal-error": 503,
    }.get(reason, 401 if reason in TOKEN_REASONS else 403)
    assert http_status(reason) == expected


def test_the_reasons_of_a_bad_token_are_those_of_the_interface() -> None:
    assert {str(reason) for reason in TOKEN_REASONS} == {
        "token-malformed", "token-expired", "token-not-yet-valid", "token-issuer-unknown", "token-key-unknown",
        "token-signature-invalid", "token-algorithm-refused", "token-client-refused", "token-use-refused",
        "token-claim-invalid", "token-ambiguous", "token-revoked",
    }  # fmt: skip


DATA = {
    "claim": "claim/x: y",
    "date": "date: {after: 2026-01-01}",
    "time_of_day": "time_of_day: {timezone: UTC, after: 9 AM}",
    "day_of_week": "day_of_week: mon",
    "auth_age": "auth_age: {max: 15m}",
    "client_certificate": "client_certificate: {san_dns: x}",
    "source_ip": "source_ip: 10.0.0.1",
}


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_says_nothing_but_its_words(name: str) -> None:
    criterion = compiled(DATA.get(name, f"{name}: x"))
    callers = (
        None,
        principal(),
        principal({"x": "y", "auth_time": NOW, "scope": "x"}, groups=["x"], email="x@x", subject="x", client_id="x"),
        principal(email="x@x", verified=False, issuer="x", token_use="x"),
    )
    said = {criterion.test(facts(caller))[1] for caller in callers}
    assert said <= {*WORDS[name], "user-unauthenticated"}
    assert ("user-unauthenticated" in said) is criterion.of_caller
