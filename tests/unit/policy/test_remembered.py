"""What was allowed once is given again, to the very same principal on the very same route, and nothing else is."""

from __future__ import annotations

import pytest

from authz.errors import TokenError
from authz.model import Allow, Deny, Principal, Reason
from authz.policy.remembered import MAX_REFUSED, RememberedDecisions
from authz.policy.routes import Route
from tests.support.policies import policy_set

ALICE = Principal("alice", "https://issuer", "client", "access", {"cognito:groups": ["admins"]})


def route(rule: str) -> Route:
    return policy_set(f"- {{from: 'https://app.example.com', {rule}}}").routes.routes[0]


def allow_on(one: Route) -> Allow:
    return Allow(one.name, (Reason.GROUPS_OK,), ALICE)


ADMINS = "policy: {allow: {and: [{groups: admins}]}}"


def test_the_same_principal_on_the_same_route_gets_the_same_allow() -> None:
    remembered, one = RememberedDecisions(), route(ADMINS)
    allow = allow_on(one)
    added = remembered.add(one, ALICE, allow)
    assert remembered.find(one, ALICE) is added
    assert (added.decision, added.answer) == (allow, None)


def test_an_equal_principal_is_another_one() -> None:
    remembered, one = RememberedDecisions(), route(ADMINS)
    remembered.add(one, ALICE, allow_on(one))
    assert remembered.find(one, ALICE._replace(subject="bob")) is None
    assert remembered.find(one, Principal(*ALICE)) is None
    assert remembered.find(one, None) is None


def test_an_equal_route_is_another_one() -> None:
    remembered, one = RememberedDecisions(), route(ADMINS)
    remembered.add(one, ALICE, allow_on(one))
    assert remembered.find(route(ADMINS), ALICE) is None


@pytest.mark.parametrize("swapped", ["route", "principal"])
def test_an_address_that_was_used_again_is_noticed(swapped: str) -> None:
    remembered, one = RememberedDecisions(), route(ADMINS)
    entry = remembered.add(one, ALICE, allow_on(one))
    if swapped == "route":
        entry.route = route(ADMINS)
    else:
        entry.principal = Principal(*ALICE)
    assert remembered.find(one, ALICE) is None


def test_too_many_are_all_forgotten() -> None:
    remembered, one = RememberedDecisions(max_entries=2), route(ADMINS)
    principals = [Principal(*ALICE) for _ in range(3)]
    sizes = []
    for principal in principals:
        remembered.add(one, principal, allow_on(one))
        sizes.append(len(remembered))
    assert sizes == [1, 2, 1]
    assert remembered.find(one, principals[2]) is not None


UNKNOWN = TokenError(Reason.TOKEN_KEY_UNKNOWN, "no key with the token's kid")


def deny_on(one: Route, error: TokenError) -> Deny:
    return Deny(error.reason, (), one.name, detail=error.detail)


def test_a_bad_token_gets_what_another_with_the_same_flaw_got_on_the_same_route() -> None:
    remembered, one = RememberedDecisions(), route(ADMINS)
    added = remembered.add_refused(one, UNKNOWN, deny_on(one, UNKNOWN))
    expired = TokenError(Reason.TOKEN_EXPIRED, "expired 1 s ago")
    remembered.add_refused(one, expired, deny_on(one, expired))
    assert remembered.find_refused(one, TokenError(UNKNOWN.reason, UNKNOWN.detail)) is added
    assert (added.decision, added.principal) == (deny_on(one, UNKNOWN), None)
    assert remembered.find_refused(one, TokenError(UNKNOWN.reason, "another")) is None
    assert remembered.find_refused(one, TokenError(Reason.TOKEN_EXPIRED, UNKNOWN.detail)) is None
    assert remembered.find_refused(route(ADMINS), UNKNOWN) is None
    assert remembered.find(one, None) is None


def test_the_address_of_a_route_that_was_used_again_is_noticed() -> None:
    remembered, one = RememberedDecisions(), route(ADMINS)
    remembered.add_refused(one, UNKNOWN, deny_on(one, UNKNOWN)).route = route(ADMINS)
    assert remembered.find_refused(one, UNKNOWN) is None


def test_bad_tokens_of_all_kinds_make_nobody_forgotten_but_each_other() -> None:
    remembered, one = RememberedDecisions(), route(ADMINS)
    friend = remembered.add(one, ALICE, allow_on(one))
    for number in range(MAX_REFUSED + 1):
        error = TokenError(Reason.TOKEN_EXPIRED, f"expired {number} s ago")
        remembered.add_refused(one, error, deny_on(one, error))
    assert len(remembered._refused) == 1
    assert remembered.find(one, ALICE) is friend


@pytest.mark.parametrize(
    ("rule", "lasting"),
    [
        (ADMINS, True),
        ("allow_public_unauthenticated_access: true", True),
        ("allowed_users: [alice]", True),
        ("allowed_domains: [example.com]", True),
        ("allow_any_authenticated_user: true", True),
        ("policy: [{allow: {and: [accept: true]}}, {deny: {and: [{claim/x: y}]}}]", True),
        ("cors_allow_preflight: true", False),
        ("policy: {allow: {and: [{auth_age: {max: 15m}}]}}", False),
        ("policy: {allow: {and: [{groups: admins}, {http_method: GET}]}}", False),
        ("policy: {allow: {or: [{groups: admins}, {source_ip: 10.0.0.0/8}]}}", False),
        ("policy: [{allow: {and: [{groups: admins}]}}, {deny: {and: [{http_path: {is: /x}}]}}]", False),
        ("policy: [{allow: {or: [{groups: a}]}}, {deny: {or: [{time_of_day: {after: 5pm, timezone: UTC}}]}}]", False),
        ("policy: [{allow: {and: [{groups: admins}]}}, {deny: {or: [{invalid_client_certificate: true}]}}]", False),
    ],
)  # fmt: skip
def test_a_policy_lasts_only_where_nothing_but_the_principal_counts(rule: str, lasting: bool) -> None:
    one = route(rule)
    assert one.policy.lasting is lasting
    remembered = RememberedDecisions()
    if lasting:
        remembered.add(one, ALICE, allow_on(one))
    else:
        with pytest.raises(ValueError, match="more than the principal"):
            remembered.add(one, ALICE, allow_on(one))
