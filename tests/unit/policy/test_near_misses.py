"""Hints: the likely mistake, said only when there is one, and without values in its short form."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.model import Principal, Reason
from authz.policy.near_misses import MAX_EDITS, Hint, hint, is_typo
from tests.support.policies import compiled, facts, principal


def hint_of(criterion: str, caller: Principal | None) -> Hint | None:
    condition, known = compiled(criterion), facts(caller)
    holds, reason = condition.test(known)
    assert not holds
    return hint(condition, known, reason)


def long_of(criterion: str, caller: Principal | None) -> str | None:
    found = hint_of(criterion, caller)
    return None if found is None else found.long


POOL_GROUP = "us-east-1_Other0000_Auth0"


def given_without_issuer(groups: Any) -> Principal:
    """Make a caller of claims that a person wrote down."""
    return principal()._replace(claims={"sub": "alice", "cognito:groups": groups})


class TestValues:
    @pytest.mark.parametrize(
        ("criterion", "claims", "short", "long"),
        [
            pytest.param(
                "claim/team: orders", {"team": "Orders"},
                "differs by case only", "`Orders` differs from `orders` by case only", id="wrong case",
            ),
            pytest.param(
                "claim/team: orders", {"team": " orders "},
                "differs by blanks only", "` orders ` differs from `orders` by blanks only", id="blanks around it",
            ),
            pytest.param(
                "claim/team: orders", {"team": "order"},
                "differs by a letter or two", "`order` is nearly `orders`: a typo?", id="one letter missing",
            ),
            pytest.param(
                "claim/level: 5", {"level": "5"},
                "the value is text, the policy wants a number", "`5` is text, the policy wants a number",
                id="text for a number",
            ),
            pytest.param(
                "claim/level: '5'", {"level": 5},
                "the value is a number, the policy wants text", "`5` is a number, the policy wants text",
                id="a number for text",
            ),
            pytest.param(
                "claim/beta: 'True'", {"beta": True},
                "the value is a boolean, the policy wants text", "`True` is a boolean, the policy wants text",
                id="a boolean for text",
            ),
            pytest.param(
                "claim/roles: b", {"roles": "[a,b]"},
                "the claim is one text that holds a list; see `claims:` with `split`",
                'the claim is one text that holds a list; split it: claims: {roles: {split: "[,]"}}',
                id="a list flattened with brackets",
            ),
            pytest.param(
                "claim/roles: b", {"roles": "a,b"},
                "the claim is one text that holds a list; see `claims:` with `split`",
                'the claim is one text that holds a list; split it: claims: {roles: {split: ","}}',
                id="a list flattened with commas",
            ),
            pytest.param(
                "claim/roles: b", {"roles": "[a,b"},
                "the claim is one text that holds a list; see `claims:` with `split`",
                'the claim is one text that holds a list; split it: claims: {roles: {split: ","}}',
                id="a list flattened with commas, and a bracket that is not closed",
            ),
            pytest.param(
                "claim/roles: b", {"roles": "a b"},
                "the claim is one text that holds a list; see `claims:` with `split`",
                'the claim is one text that holds a list; split it: claims: {roles: {split: " "}}',
                id="a list flattened with blanks",
            ),
            pytest.param(
                "groups: admins", {"cognito:groups": ["far", "Admins"]},
                "differs by case only", "`Admins` differs from `admins` by case only", id="one of several groups",
            ),
        ],
    )  # fmt: skip
    def test_says_what_nearly_held(self, criterion: str, claims: dict[str, Any], short: str, long: str) -> None:
        assert hint_of(criterion, principal(claims)) == Hint(short, long)

    @pytest.mark.parametrize(
        ("criterion", "claims"),
        [
            pytest.param("claim/team: orders", {"team": "invoices"}, id="another word"),
            pytest.param("claim/team: abc", {"team": "abd"}, id="too short to be a typo"),
            pytest.param("claim/level: 5", {"level": 6}, id="another number"),
            pytest.param("claim/level: 5", {"level": "6"}, id="another type and value"),
            pytest.param("claim/team: {is: orders}", {"team": ["orders", "x"]}, id="the value itself, in a list"),
            pytest.param("claim/team: {exclude: orders}", {"team": "orders"}, id="an exclusion"),
            pytest.param("claim/team: orders", {"team": None}, id="null"),
        ],
    )
    def test_says_nothing_without_a_likely_mistake(self, criterion: str, claims: dict[str, Any]) -> None:
        assert hint_of(criterion, principal(claims)) is None

    def test_only_claims_can_be_split(self) -> None:
        caller, known = compiled("email: bob"), facts(principal(email="alice bob"))
        path, request = compiled("http_path: b"), facts(path="/a,b")
        assert hint(caller, known, Reason.EMAIL_UNAUTHORIZED) is None
        assert hint(path, request, Reason.HTTP_PATH_UNAUTHORIZED) is None

    @pytest.mark.parametrize(("others", "told"), [(99, True), (100, False)])
    def test_looks_at_the_first_hundred_values_alone(self, others: int, told: bool) -> None:
        found = hint_of("claim/team: orders", principal({"team": ["x"] * others + ["Orders"]}))
        assert (found is not None) is told

    def test_a_value_nested_deeper_than_python_can_write_is_no_near_miss(self) -> None:
        nested: Any = "x"
        for _ in range(100_000):
            nested = [nested]
        assert hint_of("claim/team: orders", principal({"team": [nested]})) is None

    def test_long_values_are_cut(self) -> None:
        found = hint_of("claim/team: " + "a" * 1000, principal({"team": "A" * 1000}))
        assert found is not None
        assert len(found.long) < 200


class TestMissingClaims:
    @pytest.mark.parametrize(
        ("criterion", "token_use", "text"),
        [
            pytest.param(
                "claim/birthdate: '2000-01-01'", "access",
                "an access token does not carry `birthdate`; ID tokens do, or a pre-token trigger adds it",
                id="an attribute in an access token",
            ),
            pytest.param(
                "email: a@example.com", "access",
                "an access token does not carry `email`; ID tokens do, or a pre-token trigger adds it",
                id="the e-mail in an access token",
            ),
            pytest.param(
                "domain: example.com", "access",
                "an access token does not carry `email`; ID tokens do, or a pre-token trigger adds it",
                id="the e-mail's domain in an access token",
            ),
            pytest.param(
                "claim/custom:tenant: a", "access",
                "an access token does not carry `custom:tenant`; ID tokens do, or a pre-token trigger adds it",
                id="a custom attribute in an access token",
            ),
            pytest.param(
                "scope: orders/read", "id", "an ID token does not carry `scope`; access tokens do",
                id="a scope in an ID token",
            ),
            pytest.param(
                "claim/username: alice", "id", "an ID token does not carry `username`; access tokens do",
                id="an access token's claim in an ID token",
            ),
        ],
    )  # fmt: skip
    def test_of_the_other_kind_of_token(self, criterion: str, token_use: str, text: str) -> None:
        assert hint_of(criterion, principal(token_use=token_use)) == Hint(text, text)

    @pytest.mark.parametrize(
        ("wanted", "held"),
        [
            pytest.param("department", "Department", id="another case"),
            pytest.param("org", "ORG", id="another case of a name too short for typos"),
            pytest.param("department", "departmant", id="a typo"),
        ],
    )
    def test_of_a_similar_name(self, wanted: str, held: str) -> None:
        found = hint_of(f"claim/{wanted}: x", principal({held: "x"}))
        assert found == Hint("the token has a claim of a similar name", f"the token has a claim named `{held}`")

    @pytest.mark.parametrize(
        ("criterion", "caller"),
        [
            pytest.param("claim/department: x", principal(), id="no such claim"),
            pytest.param("claim/department: x", principal({"department": []}), id="the claim itself, and empty"),
            pytest.param("groups: admins", principal(), id="a caller in no group"),
            pytest.param("auth_age: {max: 15m}", principal(), id="no auth_time"),
            pytest.param("claim/department: x", None, id="nobody signed in"),
            pytest.param("source_ip: 10.0.0.0/8", None, id="not about the caller"),
            pytest.param("scope: a", principal(token_use="other"), id="another kind of token"),
            pytest.param(
                "claim/custom:x: a",
                principal({"cognito:username": "a"}),
                id="an access token with an ID token beside it",
            ),
        ],
    )
    def test_without_a_likely_mistake(self, criterion: str, caller: Principal | None) -> None:
        assert hint_of(criterion, caller) is None

    @pytest.mark.parametrize("groups", [["staff", POOL_GROUP], POOL_GROUP], ids=["one of several groups", "a text"])
    def test_without_an_issuer_a_providers_group_belongs_to_no_pool(self, groups: Any) -> None:
        text = "the claims have no `iss`, which names the pool that groups `<pool>_<provider>` belong to"
        assert hint_of("identity_provider: Auth0", given_without_issuer(groups)) == Hint(text, text)

    @pytest.mark.parametrize(
        ("criterion", "caller"),
        [
            pytest.param("identity_provider: Auth0", principal(groups=[POOL_GROUP]), id="an issuer of another pool"),
            pytest.param("identity_provider: Auth0", given_without_issuer(["on_call", 7]), id="other groups"),
            pytest.param("issuer: https://a.example", given_without_issuer([POOL_GROUP]), id="another criterion"),
        ],
    )
    def test_a_missing_issuer_is_named_only_where_it_matters(self, criterion: str, caller: Principal) -> None:
        assert hint_of(criterion, caller) is None

    def test_an_unverified_address_says_how_to_trust_it(self) -> None:
        caller = principal(email="a@example.com", verified=False, token_use="id")
        assert "trust_unverified_email" in (long_of("email: a@example.com", caller) or "")

    def test_its_reason_decides_whatever_else_is_there(self) -> None:
        condition = compiled("claim/team: orders")
        assert hint(condition, facts(principal({"team": "Orders"})), Reason.EMAIL_UNVERIFIED) is not None


class TestTypos:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            pytest.param("admins", "admin", id="one missing"),
            pytest.param("admins", "adminss", id="one too many"),
            pytest.param("admins", "amdins", id="two swapped"),
            pytest.param("admins", "adnims", id="two replaced"),
            pytest.param("admins", "dmin", id="both ends missing"),
            pytest.param("a" * 64, "a" * 63 + "b", id="as long as names are"),
        ],
    )
    def test_two_edits_are_a_typo_both_ways(self, one: str, other: str) -> None:
        assert is_typo(one, other)
        assert is_typo(other, one)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            pytest.param("admins", "admins", id="the same"),
            pytest.param("admins", "users", id="another word"),
            pytest.param("admins", "adxxxs", id="three replaced"),
            pytest.param("admins", "adminsxyz", id="three too many"),
            pytest.param("abc", "abd", id="three letters"),
            pytest.param("a" * 65, "a" * 64, id="longer than names are"),
        ],
    )
    def test_more_is_not(self, one: str, other: str) -> None:
        assert not is_typo(one, other)
        assert not is_typo(other, one)

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
    @given(st.text("abc", min_size=4, max_size=9), st.text("abc", min_size=4, max_size=9))
    def test_agrees_with_the_plain_table_of_distances(self, one: str, other: str) -> None:
        assert is_typo(one, other) == (one != other and distance(one, other) <= MAX_EDITS)

    def test_a_hundred_groups_against_a_condition_cost_little(self) -> None:
        name = "tenant-%04d-eu-west-1-production-administrators-of-orders"
        caller = principal(groups=[name % number for number in range(100)])
        start = time.process_time()
        hint_of("groups: " + "tenant-9876-eu-west-1-production-administrators-of-invoic", caller)
        assert time.process_time() - start < 0.1  # 5 ms on a slow machine; a table of distances took 70


def distance(one: str, other: str) -> int:
    """Give Levenshtein's distance, as slow and obvious as its definition."""
    if not one or not other:
        return len(one) + len(other)
    table = [[max(row, column) for column in range(len(other) + 1)] for row in range(len(one) + 1)]
    for row in range(1, len(one) + 1):
        for column in range(1, len(other) + 1):
            replaced = table[row - 1][column - 1] + (one[row - 1] != other[column - 1])
            table[row][column] = min(table[row - 1][column] + 1, table[row][column - 1] + 1, replaced)
    return table[-1][-1]
