"""Routes that earlier ones hide, in sets so large that not all pairs are compared. policy_warnings/ has the words."""

from __future__ import annotations

import pytest

from authz.policy.shadows import shadow_warnings
from tests.support.breaths import breaths
from tests.support.policies import policy_set, problems_of

PUBLIC = "allow_public_unauthenticated_access: true"
SIGNED_IN = "allow_any_authenticated_user: true"


def hidden_wildcards(count: int) -> str:
    """Write a public wildcard, and others below it that it hides."""
    others = (f"- {{from: 'https://*.h{number}.example', {SIGNED_IN}}}\n" for number in range(count - 1))
    return f"- {{from: 'https://*.example', {PUBLIC}}}\n" + "".join(others)


def test_a_hundred_wildcard_hosts_are_compared() -> None:
    warnings = problems_of(hidden_wildcards(100))
    assert len(warnings) == 99
    assert all("OPEN TO EVERYONE" in warning for warning in warnings)


def test_more_wildcard_hosts_are_compared_by_their_text_alone() -> None:
    assert problems_of(hidden_wildcards(101)) == []
    (only,) = problems_of(hidden_wildcards(101) + f"- {{from: 'https://*.h7.example', path: /x, {PUBLIC}}}\n")
    assert "comes first and takes them all" in only


@pytest.mark.parametrize(("wildcards", "hosts", "told"), [(100, 200, 1), (59, 339, 0)], ids=["20,000", "20,001"])
def test_twenty_thousand_pairs_of_wildcards_and_hosts_are_compared(wildcards: int, hosts: int, told: int) -> None:
    wide = "".join(f"- {{from: 'https://*.w{number}.example', path: /w}}\n" for number in range(wildcards))
    narrow = "".join(f"- {{from: 'https://h{number}.w1.example', path: /h}}\n" for number in range(hosts))
    assert len(problems_of(wide + narrow)) == told


@pytest.mark.parametrize(("others", "told"), [(19, 1), (20, 0)])
def test_twenty_earlier_patterns_are_tried_on_a_path(others: int, told: int) -> None:
    patterns = [*(f"'/a{number}/[a-z]+'" for number in range(others)), "'/b/[a-z]+'"]
    routes = [*(f"regex: {pattern}" for pattern in patterns), "path: /b/x"]
    text = "".join(f"- {{from: 'https://a.example', {route}, {SIGNED_IN}}}\n" for route in routes)
    assert len(problems_of(text)) == told


def test_it_stands_aside_at_every_route() -> None:
    routes = policy_set(hidden_wildcards(12)).routes.routes
    assert breaths(lambda: shadow_warnings(routes, lambda _: False)) >= 5 * 12
