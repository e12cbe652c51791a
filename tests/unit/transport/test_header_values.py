"""A claim is a header value whole or not at all, and no value can pass for another."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.model import Json
from authz.transport.header_values import Unfit, header_value
from tests.support.policies import principal


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("alice", "alice"),
        ("a b", "a b"),
        ("a,b", "a%2Cb"),
        ("100%", "100%25"),
        ("a%2Cb", "a%252Cb"),
        ("grün", "grün"),
        (["a", "b"], "a,b"),
        (["a,admins"], "a%2Cadmins"),
        (["a", "", "b"], "a,b"),
        (["a", None, "b"], "a,b"),
        (5, "5"),
        (1.5, "1.5"),
        (True, "true"),
        ([1, False, "x"], "1,false,x"),
        ("", Unfit.ABSENT),
        ([], Unfit.ABSENT),
        (None, Unfit.ABSENT),
        ([None], Unfit.ABSENT),
        ([""], Unfit.ABSENT),
        ({"a": "b"}, Unfit.OMITTED),
        ([["a"]], Unfit.OMITTED),
        (["a", {"b": "c"}], Unfit.OMITTED),
        ("a\nb", Unfit.OMITTED),
        ("a\rb", Unfit.OMITTED),
        ("a\x00b", Unfit.OMITTED),
        ("a\tb", Unfit.OMITTED),
        ("a\x7fb", Unfit.OMITTED),
        ("a\x85b", Unfit.OMITTED),
        ("a\ud800b", Unfit.OMITTED),
        (" a", Unfit.OMITTED),
        ("a ", Unfit.OMITTED),
        (["a ", "b"], Unfit.OMITTED),
        (["a", " b"], Unfit.OMITTED),
        (["a", " "], Unfit.OMITTED),
        ("x" * 40, "x" * 40),
        ("x" * 41, Unfit.OMITTED),
        ("é" * 20, "é" * 20),
        ("é" * 21, Unfit.OMITTED),
        (["x" * 19, "x" * 20], "x" * 19 + "," + "x" * 20),
        (["x" * 20, "x" * 20], Unfit.OMITTED),
        ([str(n) * 2 for n in range(30)], Unfit.OMITTED),
    ],
)
def test_a_claim_is_a_header_value_whole_or_not_at_all(claim: Json, value: object) -> None:
    assert header_value(principal({"c": claim}), ("c",), 40) == value


@pytest.mark.parametrize(
    ("claims", "value"),
    [
        ({"a": "x"}, "x"),
        ({"b": "y"}, "y"),
        ({"a": "x", "b": "y"}, "x"),
        ({"a": [], "b": "y"}, Unfit.ABSENT),
        ({"n": {"c": "z"}}, "z"),
        ({"n": {"c": "z"}, "d": "w"}, "z"),
        ({"n": {"other": "z"}, "d": "w"}, "w"),
        ({}, Unfit.ABSENT),
    ],
)
def test_of_an_alias_list_the_first_that_is_there_counts(claims: Mapping[str, Json], value: object) -> None:
    assert header_value(principal(claims), ("a", "b", "n.c", "d"), 99) == value


def test_an_address_of_no_text_is_not_sent() -> None:
    assert header_value(principal({"email": ["boss@example.com"]}), ("email",), 99) is Unfit.OMITTED


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4))
def test_from_a_header_value_the_list_can_be_read_again(groups: list[str]) -> None:
    value = header_value(principal(groups=groups), ("cognito:groups",), 8192)
    if isinstance(value, str):
        parts = value.split(",")
        assert [part.replace("%2C", ",").replace("%25", "%") for part in parts] == groups
        assert value.isprintable() or any(not char.isprintable() and ord(char) > 0x9F for char in value)
