"""What counts as seen, and what cannot be seen at all."""

from __future__ import annotations

import pytest

from authz.model import Principal, Request
from authz.policy.criterion import Facts
from authz.policy.explanation import explain
from authz.policy.parser import PolicyOptions, parse_policies
from authz.policy.routes import Route
from authz.workbench.coverage import Coverage, CoverageRecord, Kind, Share

ALICE = Principal("alice", "https://issuer.example", "web", "access", {"sub": "alice", "g": "a"})


def covered(policies: str, *callers: Principal | None) -> Coverage:
    """Judge every route for each caller and give what was covered."""
    record = CoverageRecord()
    parsed = parse_policies([("a.yaml", policies.encode())], PolicyOptions())
    record.expect(parsed)
    for route in parsed.routes.routes:
        for caller in callers:
            record.saw(route, explain(facts(caller, route), route))
    return record.coverage()


def facts(caller: Principal | None, route: Route) -> Facts:
    return Facts(Request("GET", route.host.name, "/", {}), "/", caller, 0.0)


def missing(coverage: Coverage) -> list[str]:
    return [f"{item.source.line} {item.kind} {item.label}: {', '.join(item.missing)}" for item in coverage.missing]


ONE = "- from: https://a.example\n  allowed_idp_claims: {g: [a, b]}\n"


def test_both_outcomes_of_routes_and_criteria_are_asked_for() -> None:
    assert missing(covered(ONE)) == [
        "1 route https://a.example: allowed, denied",
        "2 criterion claim/g: true, false",
        "2 criterion claim/g: true, false",
    ]
    assert missing(covered(ONE, ALICE)) == [
        "1 route https://a.example: denied",
        "2 criterion claim/g: false",
        "2 criterion claim/g: true",
    ]
    assert missing(covered(ONE, ALICE, None)) == ["2 criterion claim/g: true"]
    assert missing(covered(ONE, ALICE, None, ALICE._replace(claims={"g": "b"}))) == []


def test_the_share_is_one_of_outcomes_and_never_rounded_up() -> None:
    coverage = covered(ONE, ALICE, None)
    assert str(coverage.share(Kind.ROUTE)) == "100 % (2/2)"
    assert str(coverage.share(Kind.CRITERION)) == "75 % (3/4)"
    assert coverage.reaches(75)
    assert not coverage.reaches(75.1)
    assert str(Share(999, 1000)) == "99 % (999/1000)"
    assert str(Coverage(()).share(Kind.ROUTE)) == "100 % (0/0)"


def test_an_entry_of_allowed_users_is_one_criterion() -> None:
    policies = "- from: https://a.example\n  allowed_users: [alice]\n"
    assert missing(covered(policies)) == [
        "1 route https://a.example: allowed, denied",
        "2 criterion user or email: true, false",
    ]
    assert missing(covered(policies, ALICE, None)) == []


def test_what_routes_share_through_an_alias_is_one_criterion() -> None:
    policies = (
        "- from: https://a.example\n  policy: &rule\n    allow: {or: [groups: x, user: alice]}\n"
        "- {from: 'https://b.example', policy: *rule}\n"
    )
    assert missing(covered(policies, ALICE, None)) == ["3 criterion groups: true"]


@pytest.mark.parametrize(
    ("rules", "never"),
    [
        ("allow_public_unauthenticated_access: true", "denied"),
        ("policy: {allow: {or: [accept: true, groups: x]}}", "denied"),
        ("policy: {allow: {not: [reject: true]}}", "denied"),
        ("policy: {allow: {nor: [reject: true, groups: x]}}", "denied"),
        ("policy: {allow: {and: [accept: true, groups: x]}}", None),
        ("policy: {allow: {and: [reject: true, groups: x]}}", "allowed"),
        ("policy: {allow: {not: [accept: true, groups: x]}}", "allowed"),
        ("policy: {allow: {not: [groups: x]}}", None),
        ("policy: {allow: {or: [accept: true]}, deny: {or: [groups: x]}}", None),
        ("policy: {allow: {or: [accept: true]}, deny: {or: [accept: true]}}", "allowed"),
        ("policy: {deny: {or: [groups: x]}}", "allowed"),
        ("id: nothing", "allowed"),
    ],
)
def test_an_outcome_that_cannot_be_is_not_asked_for(rules: str, never: str | None) -> None:
    route = next(item for item in covered(f"- from: https://a.example\n  {rules}\n").items if item.kind is Kind.ROUTE)
    assert {"allowed", "denied"} - set(route.missing) == ({never} if never else set())


def test_accept_is_never_false_and_reject_never_true() -> None:
    policies = "- from: https://a.example\n  policy: [{allow: {or: [accept: true, reject: true]}}]\n"
    assert missing(covered(policies)) == [
        "1 route https://a.example: allowed",
        "2 criterion accept: true",
        "2 criterion reject: false",
    ]


def test_an_outcome_that_was_not_thought_possible_counts_once_it_is_seen() -> None:
    policies = "- from: https://a.example\n  policy: [{allow: {or: [accept: true]}}, {allow: {not: [groups: x]}}]\n"
    coverage = covered(policies, None)  # nobody is in no group, but somebody must be signed in to tell
    assert str(coverage.share(Kind.ROUTE)) == "50 % (1/2)"
