"""Claims that arrive flattened, and claims with two names: only as the configuration says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.identity.claims import BRACKETS, ClaimShapes, split_claim
from authz.model import Json
from authz.policy.caller_criteria import claim_values
from tests.support.policies import principal


@pytest.mark.parametrize(
    ("text", "separator", "items"),
    [
        ("[a,b]", BRACKETS, ["a", "b"]),
        ("[a, b]", BRACKETS, ["a", "b"]),
        ("a,b", BRACKETS, ["a,b"]),  # without brackets it is one value, which Cognito did not encode either
        ("ops,admins]", BRACKETS, ["ops,admins]"]),
        ("R+D", BRACKETS, ["R+D"]),
        ("[R%2BD]", BRACKETS, ["R+D"]),
        ("100%25", BRACKETS, ["100%25"]),
        (" ", BRACKETS, []),
        ("[]", BRACKETS, []),
        ("[", BRACKETS, ["["]),
        ("[a", BRACKETS, ["[a"]),
        ("[[a]]", BRACKETS, ["[a]"]),
        ("[a,,b, ]", BRACKETS, ["a", "b"]),
        ("[a%2Cb,c%5D]", BRACKETS, ["a,b", "c]"]),
        ("[Domain+Users]", BRACKETS, ["Domain Users"]),
        ("[%zz]", BRACKETS, ["%zz"]),
        ("[%FF]", BRACKETS, ["\ufffd"]),
        ("", BRACKETS, []),
        ("a b", " ", ["a", "b"]),
        ("  a   b ", " ", ["a", "b"]),
        ("a%20b", " ", ["a%20b"]),
        ("a;b", ";", ["a", "b"]),
        ("a; b ;", ";", ["a", "b"]),
        ("a,b", ";", ["a,b"]),
        ("[a,b]", ",", ["[a", "b]"]),
        ("", ",", []),
    ],
)
def test_a_flattened_list_is_split_as_the_configuration_says(text: str, separator: str, items: list[str]) -> None:
    assert split_claim(text, separator) == items


@given(st.text(), st.sampled_from([BRACKETS, " ", ",", ";"]))
def test_no_text_is_too_odd_to_split_and_no_item_is_empty(text: str, separator: str) -> None:
    assert all(split_claim(text, separator))


def shaped(claims: dict[str, Json], **shapes: object) -> dict[str, Json]:
    """Give what became of the claims, without those that every token has."""
    caller = ClaimShapes(**shapes).shape(principal(claims))  # type: ignore[arg-type]
    return {name: value for name, value in caller.claims.items() if name not in {"sub", "iss", "token_use"}}


def test_without_shapes_a_principal_stays_as_it_is() -> None:
    caller = principal({"a": "[x]"})
    assert ClaimShapes().shape(caller) is caller


def test_only_text_is_split_and_only_where_it_is_said() -> None:
    claims: dict[str, Json] = {"a": "[x,y]", "b": "[x,y]", "c": ["[x,y]"], "d": 5}
    splits = {"a": BRACKETS, "c": BRACKETS, "d": BRACKETS, "missing": ","}
    assert shaped(claims, splits=splits) == {"a": ["x", "y"], "b": "[x,y]", "c": ["[x,y]"], "d": 5}


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"cognito:username": "alice", "username": "bob"}, "alice"),
        ({"username": "bob"}, "bob"),
        ({"username": None}, None),
    ],
)
def test_an_alias_is_the_first_of_its_claims_that_is_there(claims: dict[str, Json], expected: Json) -> None:
    aliases = {"name": ["cognito:username", "username"]}
    assert shaped(claims, aliases=aliases) == {**claims, "name": expected}


def test_an_alias_of_nothing_is_nothing() -> None:
    assert shaped({"a": "x"}, aliases={"name": ["b", "c"]}) == {"a": "x"}


def test_an_alias_sees_the_split_claim() -> None:
    assert shaped({"a": "x y"}, splits={"a": " "}, aliases={"b": ["a"]}) == {"a": ["x", "y"], "b": ["x", "y"]}


class TestDottedNames:
    """Policies look up the literal name, then the way into nested maps; so does `claims`."""

    def test_a_nested_claim_is_split_under_its_dotted_name(self) -> None:
        claims: dict[str, Json] = {"acme": {"roles": "user,admin"}}
        assert shaped(claims, splits={"acme.roles": ","}) == {**claims, "acme.roles": ["user", "admin"]}

    def test_a_nested_claim_gets_a_second_name(self) -> None:
        claims: dict[str, Json] = {"acme": {"list": ["admin"]}}
        assert shaped(claims, aliases={"roles": ["acme.roles", "acme.list"]}) == {**claims, "roles": ["admin"]}

    def test_an_alias_sees_the_split_nested_claim(self) -> None:
        claims: dict[str, Json] = {"acme": {"roles": "a b"}}
        both = shaped(claims, splits={"acme.roles": " "}, aliases={"roles": ["acme.roles"]})
        assert both["roles"] == ["a", "b"]

    @pytest.mark.parametrize(
        ("claims", "expected"),
        [
            pytest.param({"a.b": "x,y", "a": {"b": "z"}}, ["x", "y"], id="the literal name first"),
            pytest.param({"a.b": 5, "a": {"b": "z"}}, 5, id="the literal name first, whatever it holds"),
            pytest.param({"a": {"b": ["x,y"]}}, None, id="a list is split already"),
            pytest.param({"a": {"b": {"c": "x,y"}}}, None, id="a map is no text"),
            pytest.param({"a": "x,y"}, None, id="nothing below a text"),
        ],
    )
    def test_only_the_text_that_policies_see_is_split(self, claims: dict[str, Json], expected: Json) -> None:
        assert shaped(claims, splits={"a.b": ","}).get("a.b") == expected

    def test_of_several_ways_the_first_with_a_value_counts(self) -> None:
        claims: dict[str, Json] = {"a": {"b.c": {}, "b": {"c": []}}, "a.b": {"c": "x,y"}}
        assert shaped(claims, splits={"a.b.c": ","})["a.b.c"] == ["x", "y"]

    def test_a_map_gets_a_second_name_too(self) -> None:
        assert shaped({"a": {"b": {"c": "x"}}}, aliases={"d": ["a.b"]})["d"] == {"c": "x"}


NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(".".join)
VALUES = st.sampled_from([None, "x", "", [], ["x", "y"], 5])
INNERMOST = st.dictionaries(NAMES, VALUES, max_size=3)
INNER = st.dictionaries(NAMES, VALUES | INNERMOST, max_size=3)
CLAIMS = st.dictionaries(NAMES, VALUES | INNER, max_size=3)


@given(CLAIMS, NAMES)
def test_policies_see_under_an_alias_what_they_see_under_its_source(claims: dict[str, Json], name: str) -> None:
    seen = claim_values(shaped(claims, aliases={"alias": [name]}), "alias")
    assert list(seen) == list(claim_values(claims, name))


@given(CLAIMS, NAMES)
def test_policies_see_what_was_split(claims: dict[str, Json], name: str) -> None:
    before = claim_values(claims, name)
    after = claim_values(shaped(claims, splits={name: "|"}), name)
    assert list(after) == [value for value in before if value != ""]


def test_an_address_that_does_not_count_gets_no_second_name() -> None:
    shapes = ClaimShapes(aliases={"mail": ["email", "fallback"]})
    unverified = principal({"fallback": "f"}, email="alice@example.com", verified=False)
    assert shapes.shape(unverified).claims["mail"] == "f"
    assert shapes.shape(principal(email="alice@example.com")).claims["mail"] == "alice@example.com"
    several: list[Json] = ["alice@example.com", "al@example.com"]
    for email, verified, seen in (
        (several, True, several),
        (several, False, "f"),
        ("", True, "f"),
        (None, True, "f"),
    ):
        caller = principal({"fallback": "f", "email": email, "email_verified": verified})
        assert shapes.shape(caller).claims["mail"] == seen


def test_the_token_itself_is_left_alone() -> None:
    caller = principal({"a": "x y"})
    ClaimShapes(splits={"a": " "}).shape(caller)
    assert caller.claims["a"] == "x y"
