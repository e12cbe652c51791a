"""String and list matchers: what they hold of, and what an author reads who writes them wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.document import MAX_NUMBER_LENGTH, parse
from authz.model import Json
from authz.node import Node, Problems
from authz.policy.matchers import (
    STRING_OPERATORS,
    ListMatcher,
    StringMatcher,
    any_of,
    claim_value,
    list_matcher,
    show,
    string_matcher,
)
from tests.support.policies import heads


def node_of(text: str) -> Node:
    problems = Problems()
    node = parse(text.encode(), "m.yaml", problems)
    assert node is not None
    assert not problems
    return node


def text_matcher(text: str) -> StringMatcher:
    problems = Problems()
    matcher = string_matcher(node_of(text), "email", problems)
    assert not problems.errors
    assert matcher is not None
    return matcher


def values_matcher(text: str) -> ListMatcher:
    problems = Problems()
    matcher = list_matcher(node_of(text), "claim/x", problems)
    assert not problems
    assert matcher is not None
    return matcher


# --- Strings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matcher", "text", "holds"),
    [
        ("a", "a", True),
        ("a", "A", False),
        ("a", "ab", False),
        ("a", "", False),
        ("{is: a}", "a", True),
        ("{is: a}", "b", False),
        ("{not: a}", "a", False),
        ("{not: a}", "b", True),
        ("{not: a}", "", True),
        ("{starts_with: ab}", "abc", True),
        ("{starts_with: ab}", "ab", True),
        ("{starts_with: ab}", "Abc", False),
        ("{starts_with: ab}", "cab", False),
        ("{ends_with: bc}", "abc", True),
        ("{ends_with: bc}", "bcd", False),
        ("{contains: b}", "abc", True),
        ("{contains: b}", "aBc", False),
        ("{in: [a, b]}", "a", True),
        ("{in: [a, b]}", "b", True),
        ("{in: [a, b]}", "c", False),
        ("{in: [a, b]}", "", False),
        ("{in: [ab]}", "a", False),
        ("{not_in: [a, b]}", "a", False),
        ("{not_in: [a, b]}", "c", True),
        ("{not_in: [ab]}", "a", True),
        ("{starts_with: a, ends_with: c}", "abc", True),
        ("{starts_with: a, ends_with: c}", "ab", False),
        ("{starts_with: a, ends_with: c}", "bc", False),
        ("{starts_with: a, not: abc}", "abc", False),
        ("{starts_with: a, not_in: [abd], not: x}", "abc", True),
        ("{starts_with: a, not_in: [abc], not: x}", "abc", False),
        ("'5'", "5", True),
    ],
)
def test_a_string_matcher_wants_all_its_operators(matcher: str, text: str, holds: bool) -> None:
    assert text_matcher(matcher).test(text) is holds


def test_an_empty_in_loads_with_a_warning_and_never_matches() -> None:
    problems = Problems()
    matcher = string_matcher(node_of("{in: []}"), "email", problems)
    assert [str(problem) for problem in problems] == [
        "m.yaml:1:6: warning: `email`: `in`: an empty list never matches: write what it is to match"
    ]
    assert matcher is not None
    assert not matcher.test("")
    assert matcher.wanted == "is one of nobody"


@pytest.mark.parametrize(
    ("matcher", "wanted", "expects"),
    [
        ("GET", "is `GET`", ("GET",)),
        ("{not: a}", "is not `a`", ()),
        (
            "{starts_with: a, ends_with: b, contains: c}",
            "starts with `a` and ends with `b` and contains `c`",
            ("a", "b", "c"),
        ),
        ("{in: [a, b], not_in: [c]}", "is one of `a`, `b` and is none of `c`", ("a", "b")),
    ],
)
def test_a_string_matcher_says_what_it_wants(matcher: str, wanted: str, expects: tuple[str, ...]) -> None:
    found = text_matcher(matcher)
    assert (found.wanted, found.expects) == (wanted, expects)


STRINGS = "`is`, `not`, `starts_with`, `ends_with`, `contains`, `in`, `not_in`"


@pytest.mark.parametrize(
    ("matcher", "messages"),
    [
        (
            "[a, b]",
            ["`email`: found a list where one value is meant; write or: [{email: a}, {email: b}]"],
        ),
        (
            "[a, b, c, d]",
            ["`email`: found a list where one value is meant; write or: [{email: a}, {email: b}, {email: c}, …]"],
        ),
        ("[]", ["`email`: found a list where one value is meant; write or: [{email: …}]"]),
        (
            "{not: [a, b]}",
            [
                ("`email`: `not`: found a list where one value is meant; "
                "write and: [{email: {not: a}}, {email: {not: b}}]"),
            ],
        ),
        ("{is: [[a]]}", ["`email`: `is`: found a list where one value is meant; write or: [{email: {is: …}}]"]),
        ("5", ["`email`: found `5` (a number), expected text: write '5' in quotes"]),
        ("true", ["`email`: found `true` (a boolean), expected text: write 'true' in quotes"]),
        ("''", ["`email`: found empty text, expected text"]),
        ("~", ["`email`: found nothing, expected text: write '~' in quotes"]),
        ("{}", [f"`email`: found an empty map, expected one of {STRINGS}"]),
        ("{ends_with: ''}", ["`email`: `ends_with`: found empty text, expected text"]),
        ("{is: {a: b}}", ["`email`: `is`: found a map, expected text"]),
        ("{in: a}", ["`email`: `in`: found text `a`, expected a list: write [a]"]),
        ("{in: {a: b}}", ["`email`: `in`: found a map, expected a list: write […]"]),
        ("{in: [a, 5, '']}", [
            "`email`: `in`: found `5` (a number), expected text: write '5' in quotes",
            "`email`: `in`: found empty text, expected text",
        ]),
        ("{not_in: []}", ["`email`: `not_in`: an empty list excludes nobody: delete it or write whom to exclude"]),
        ("{start_with: a}", [
            f"`email`: `start_with`: unknown operator, expected one of {STRINGS}; did you mean `starts_with`?"
        ]),
        ("{has: a}", [
            f"`email`: `has`: unknown operator, expected one of {STRINGS}; a text has no members: write `is`"
        ]),
        ("{matches: a, is: 5}", [
            f"`email`: `matches`: unknown operator, expected one of {STRINGS}",
            "`email`: `is`: found `5` (a number), expected text: write '5' in quotes",
        ]),
    ],
)  # fmt: skip
def test_a_wrong_string_matcher_is_no_matcher_and_says_why(matcher: str, messages: list[str]) -> None:
    problems = Problems()
    assert string_matcher(node_of(matcher), "email", problems) is None
    assert heads(problem.message for problem in problems.errors) == heads(messages)


@pytest.mark.parametrize(
    ("texts", "instead"),
    [
        ("[a, b, c]", "or: [{it: a}, {it: b}, {it: c}]"),
        ("[a, b, c, d]", "or: [{it: a}, {it: b}, {it: c}, …]"),
        ("[]", "or: [{it: …}]"),
    ],
)
def test_a_list_where_one_text_is_meant_is_told_what_to_write(texts: str, instead: str) -> None:
    problems = Problems()
    assert string_matcher(node_of(texts), "it", problems) is None
    assert [problem.message for problem in problems] == [
        f"`it`: found a list where one value is meant; write {instead}"
    ]


@given(st.sampled_from(STRING_OPERATORS), st.text(min_size=1), st.text())
def test_each_string_operator_is_its_plain_python(operator: str, wanted: str, text: str) -> None:
    quoted = '"' + "".join(f"\\U{ord(char):08x}" for char in wanted) + '"'
    if any("\ud800" <= char <= "\udfff" for char in wanted):
        return
    written = f"[{quoted}]" if operator in {"in", "not_in"} else quoted
    expected = {
        "is": text == wanted,
        "not": text != wanted,
        "starts_with": text[: len(wanted)] == wanted,
        "ends_with": text[-len(wanted) :] == wanted,
        "contains": text.find(wanted) >= 0,
        "in": text == wanted,
        "not_in": text != wanted,
    }
    assert text_matcher(f"{{{operator}: {written}}}").test(text) is expected[operator]


# --- One matcher over several texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matcher", "texts", "holds"),
    [
        ("a", ["a", "b"], True),
        ("a", ["b"], False),
        ("a", [], False),
        ("{not: a}", ["b"], True),
        ("{not: a}", ["a", "b"], False),
        ("{not: a}", [], False),
        ("{not_in: [a, c]}", ["b", "c"], False),
        ("{starts_with: x, not: xa}", ["xb", "y"], True),
        ("{starts_with: x, not: xa}", ["xb", "xa"], False),
        ("{starts_with: x, not: xa}", ["y"], False),
        ("{starts_with: x, ends_with: z}", ["xa", "bz"], False),
        ("{starts_with: x, ends_with: z}", ["xa", "xz"], True),
    ],
)
def test_over_several_texts_one_is_wanted_and_none_may_be_excluded(matcher: str, texts: list[str], holds: bool) -> None:
    assert any_of(text_matcher(matcher))(texts) is holds


# --- Lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matcher", "values", "holds"),
    [
        ("a", ["a"], True),
        ("a", ["b", "a"], True),
        ("a", ["A"], False),
        ("a", ["ab"], False),
        ("a", ["a b"], False),
        ("a", ["a,b"], False),
        ("a", [], False),
        ("a", [["a"]], False),
        ("a", [{"a": "a"}], False),
        ("a", [None], False),
        ("{has: a}", ["a", "b"], True),
        ("{has: a}", ["b"], False),
        ("{is: a}", ["a"], True),
        ("{is: a}", ["a", "a"], False),
        ("{is: a}", ["a", "b"], False),
        ("{is: a}", ["b"], False),
        ("{is: a}", [], False),
        ("{exclude: a}", ["a"], False),
        ("{exclude: a}", ["b", "a"], False),
        ("{exclude: a}", ["b"], True),
        ("{exclude: a}", [], True),
        ("{has: a, exclude: b}", ["a"], True),
        ("{has: a, exclude: b}", ["a", "b"], False),
        ("{has: a, exclude: b}", ["c"], False),
        ("5", [5], True),
        ("5", [5.0], True),
        ("5.0", [5], True),
        ("5", ["5"], False),
        ("'5'", [5], False),
        ("'5'", ["5"], True),
        ("1", [True], False),
        ("0", [False], False),
        ("true", [True], True),
        ("true", [1], False),
        ("true", ["true"], False),
        ("false", [False], True),
        ("false", [0], False),
        ("false", [None], False),
        ("'true'", [True], False),
        ("{is: 5}", [5, 5.0], False),
        ("{exclude: 5}", ["5"], True),
        ("{exclude: 5}", [5.0], False),
        ("1.5", [1.5], True),
        ("9007199254740993", [9007199254740992], False),
    ],
)
def test_a_list_matcher_compares_exactly_and_by_type(matcher: str, values: list[Json], holds: bool) -> None:
    assert values_matcher(matcher).test(values) is holds


@pytest.mark.parametrize(
    ("matcher", "wanted", "expects"),
    [
        ("admins", "has `admins`", ("admins",)),
        ("5", "has 5", (5,)),
        ("true", "has true", (True,)),
        ("{is: a}", "is only `a`", ("a",)),
        ("{has: a, exclude: false}", "has `a` and does not have false", ("a",)),
    ],
)
def test_a_list_matcher_says_what_it_wants(matcher: str, wanted: str, expects: tuple[object, ...]) -> None:
    found = values_matcher(matcher)
    assert (found.wanted, found.expects) == (wanted, expects)


def test_the_longest_number_is_written_shortened() -> None:
    assert len(values_matcher("0x" + "f" * 398).wanted) == len("has ") + 60


LISTS = "`has`, `is`, `exclude`"


@pytest.mark.parametrize(
    ("matcher", "messages"),
    [
        ("[a, b]", [
            "`claim/x`: found a list where one value is meant; write or: [{claim/x: a}, {claim/x: b}]"
        ]),
        ("{exclude: [a, b]}", [
            ("`claim/x`: `exclude`: found a list where one value is meant; "
            "write and: [{claim/x: {exclude: a}}, {claim/x: {exclude: b}}]")
        ]),
        ("{}", [f"`claim/x`: found an empty map, expected one of {LISTS}"]),
        ("''", ["`claim/x`: found empty text, expected text, a number or a boolean"]),
        ("{exclude: ''}", ["`claim/x`: `exclude`: found empty text, expected text, a number or a boolean"]),
        ("~", ["`claim/x`: found nothing, expected text, a number or a boolean"]),
        (".nan", ["`claim/x`: found `.nan` (a number), expected text, a number or a boolean"]),
        ("1e999", ["`claim/x`: found `1e999` (a number), expected text, a number or a boolean"]),
        ("-.inf", ["`claim/x`: found `-.inf` (a number), expected text, a number or a boolean"]),
        ("{has: {b: c}}", [
            ("`claim/x`: `has`: found a map, expected text, a number or a boolean: "
            "a nested claim is named with dots (`a.b`)")
        ]),
        ("{exlude: a}", [f"`claim/x`: `exlude`: unknown operator, expected one of {LISTS}; did you mean `exclude`?"]),
        ("{in: [a]}", [
            (f"`claim/x`: `in`: unknown operator, expected one of {LISTS}; "
            "a list of claim values is asked with `has`: one criterion a value, under `or`")
        ]),
        ("{zzz: a, has: ~}", [
            f"`claim/x`: `zzz`: unknown operator, expected one of {LISTS}",
            "`claim/x`: `has`: found nothing, expected text, a number or a boolean",
        ]),
    ],
)  # fmt: skip
def test_a_wrong_list_matcher_is_no_matcher_and_says_why(matcher: str, messages: list[str]) -> None:
    problems = Problems()
    assert list_matcher(node_of(matcher), "claim/x", problems) is None
    assert heads(problem.message for problem in problems) == heads(messages)


def test_a_list_is_no_claim_value() -> None:
    problems = Problems()
    assert claim_value(node_of("[a]"), "it", problems) is None
    assert [problem.message for problem in problems] == ["it: found a list, expected text, a number or a boolean"]


@pytest.mark.parametrize(
    ("digits", "kind"), [(MAX_NUMBER_LENGTH, "that is finite"), (MAX_NUMBER_LENGTH + 1, "of at most 400 characters")]
)
def test_a_number_is_too_long_or_too_large(digits: int, kind: str) -> None:
    problems = Problems()
    assert claim_value(node_of("1e".ljust(digits, "9")), "it", problems) is None
    (problem,) = problems
    assert problem.message.endswith(f"expected a number {kind}: write it in quotes if it is text")


@pytest.mark.parametrize(
    ("value", "written"),
    [("a", "`a`"), (5, "5"), ("5", "`5`"), (True, "true"), (False, "false"), (None, "None"), ([1, "x"], "[1, 'x']")],
)
def test_a_value_is_shown_so_that_a_number_and_its_text_differ(value: Json, written: str) -> None:
    assert show(value) == written
