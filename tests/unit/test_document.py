"""YAML to values with their places: core types, and everything that is no single plain document."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import SupportsIndex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.document import MAX_ALIASED_NODES, MAX_DEPTH, MAX_EXPANDED_NODES, MAX_NUMBER_LENGTH, parse, resolve
from authz.errors import Severity
from authz.model import Source
from authz.node import Fields, Items, Node, Problems, Scalar, describe, let_go, shorten
from authz.reading import boolean_of, did_you_mean, list_of, parse_duration, parse_instant, text_of
from tests.support.breaths import breaths

FILE = "a.yaml"


def read(text: str | bytes) -> tuple[Node | None, list[str]]:
    problems = Problems()
    data = text.encode() if isinstance(text, str) else text
    return parse(data, FILE, problems), [str(problem).removeprefix(f"{FILE}:") for problem in problems]


def good(text: str | bytes) -> Node:
    node, problems = read(text)
    assert problems == []
    assert node is not None
    return node


def plain(node: Node) -> object:
    """Give the values without their places."""
    match node:
        case Scalar():
            return node.value
        case Items():
            return [plain(item) for item in node]
        case Fields():
            return {key.value: plain(value) for key, value in node.entries}


# --- What is there ---------------------------------------------------------------------------------------------------


def test_maps_lists_and_scalars_come_with_their_places() -> None:
    node = good("a: 1\nb:\n  - x\n  - {c: true}\n")
    assert plain(node) == {"a": 1, "b": ["x", {"c": True}]}
    assert isinstance(node, Fields)
    items = node.get("b")
    assert isinstance(items, Items)
    assert items.items[0].source == Source(FILE, 3, 5)
    assert str(items.items[1].source) == "a.yaml:4:5"


def test_a_key_that_is_not_there_is_none() -> None:
    node = good("a: 1")
    assert isinstance(node, Fields)
    assert node.get("b") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("No", "No"),
        ("2:20:00", "2:20:00"),
        ("2026-01-31", "2026-01-31"),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("=", "="),
        ("true", True),
        ("True", True),
        ("TRUE", True),
        ("false", False),
        ("False", False),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("nULL", "nULL"),
        ("12", 12),
        ("-0", 0),
        ("+7", 7),
        ("010", 10),
        ("0o17", 15),
        ("0xfF", 255),
        ("-0x1", "-0x1"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("-1.5E-2", -0.015),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("+.Inf", math.inf),
        (".iNF", ".iNF"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ('! "12"', "12"),
        ("!!int 12", 12),
        ('!!float "1.5"', 1.5),
        ("|\n  12\n", "12\n"),
    ],
)
def test_plain_text_has_its_type_of_the_yaml_1_2_core_schema(text: str, value: object) -> None:
    node = good(f"- {text}\n")
    assert isinstance(node, Items)
    scalar = node.items[0]
    assert isinstance(scalar, Scalar)
    assert scalar.value == value
    assert type(scalar.value) is type(value)


def test_nan_is_a_number_that_equals_nothing() -> None:
    value = resolve(".NaN")
    assert isinstance(value, float)
    assert math.isnan(value)


def test_a_merge_key_is_an_ordinary_key() -> None:
    assert plain(good("<<: x")) == {"<<": "x"}


def test_keys_that_look_like_values_keep_their_text() -> None:
    assert plain(good("'5': a\nno: b")) == {"5": "a", "no": "b"}


def test_an_http_status_need_not_be_quoted_to_be_a_key() -> None:
    assert plain(good("401: a\n'403': b")) == {"401": "a", "403": "b"}
    assert read("401: a\n'401': b")[1] == ["2:1: duplicate key `401`, already on line 1: delete one"]
    assert read("0x191: a")[1] == ["1:1: a key must be text, found `0x191` (a number): quote it"]


def test_an_alias_stands_for_the_same_node() -> None:
    node = good("a: &x [1, 2]\nb: *x\nc: &y z\nd: *y")
    assert plain(node) == {"a": [1, 2], "b": [1, 2], "c": "z", "d": "z"}
    assert isinstance(node, Fields)
    assert node.get("b") is node.get("a")


def test_a_byte_order_mark_is_no_content() -> None:
    assert plain(good(b"\xef\xbb\xbf- 1\n")) == [1]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "---\n...\n"])
def test_a_file_of_blanks_and_comments_holds_nothing_and_is_no_problem(text: str) -> None:
    assert read(text) == (None, [])


@pytest.mark.parametrize("text", ["null", "~", "''"])
def test_a_written_nothing_is_something(text: str) -> None:
    assert isinstance(good(text), Scalar)


# --- What is refused -------------------------------------------------------------------------------------------------


CORE_ONLY = "only YAML's core types are read, or put it in quotes if it is text"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "3:1: duplicate key `a`, already on line 1: delete one"),
        ("a: 1\n'a': 3", "2:1: duplicate key `a`, already on line 1: delete one"),
        ("a:\n  1\na: 3", "3:1: duplicate key `a`, already on line 1: delete one"),
        ("99: x", "1:1: a key must be text, found `99` (a number): quote it"),
        ("600: x", "1:1: a key must be text, found `600` (a number): quote it"),
        ("4e2: x", "1:1: a key must be text, found `4e2` (a number): quote it"),
        ("5: x", "1:1: a key must be text, found `5` (a number): quote it"),
        ("true: x", "1:1: a key must be text, found `true` (a boolean): quote it"),
        ("~: x", "1:1: a key must be text, found nothing: quote it"),
        ("? [a]\n: x", "1:3: a key must be text, found a list: quote it"),
        ("? {a: b}\n: x", "1:3: a key must be text, found a map: quote it"),
        (
            "a\n---\nb",
            "2:1: a second YAML document: write one document a file, without `---` between",
        ),
        ("*x", "1:1: unknown alias `*x`: anchor it with `&x` above, or put it in quotes if it is text"),
        ("&x [*x]", "1:5: unknown alias `*x`: anchor it with `&x` above, or put it in quotes if it is text"),
        (
            "!!python/object/apply:os.system [x]",
            f"1:1: unknown tag `tag:yaml.org,2002:python/object/apply:os.system`: {CORE_ONLY}",
        ),
        ("!env X", f"1:1: unknown tag `!env`: {CORE_ONLY}"),
        (
            "!!binary aGk=",
            f"1:1: unknown tag `tag:yaml.org,2002:binary`: {CORE_ONLY}",
        ),
        (
            "!!set {a}",
            f"1:1: unknown tag `tag:yaml.org,2002:set`: {CORE_ONLY}",
        ),
    ],
)
def test_what_has_no_one_reading_is_a_problem_with_its_place(text: str, message: str) -> None:
    _, problems = read(text)
    assert problems == [message]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a: [1", "2:1: not YAML: "),
        ("a: b: c", "1:5: not YAML: "),
        ("\tx: 1", "1:1: not YAML: "),
        ("%YAML 9.9\n---\na", "1:1: not YAML: "),
        ('"\\ud800"', "1:4: not YAML: "),
    ],
)
def test_what_is_no_yaml_is_a_problem(text: str, start: str) -> None:
    node, problems = read(text)
    assert node is None
    assert [problem[: len(start)] for problem in problems] == [start]


@pytest.mark.parametrize("character", ["\0", "\x01", "\x1b", "\x7f", "\x80", "\x9f", "\ufffe"])
@pytest.mark.parametrize("text", ["a: 1\nb: x{}", "a: 1\nb: 'x{}'", "a: 1\n#   {}\nb: 2"])
def test_a_control_character_is_refused_where_it_stands(text: str, character: str) -> None:
    _, problems = read(text.format(character))
    place = f"2:{text.partition(chr(10))[2].index('{') + 1}"
    name = f"U+{ord(character):04X}"
    assert problems == [
        f"{place}: found the control character {name}: delete it, or write it as an escape in double quotes"
    ]


def test_lines_count_from_the_very_first() -> None:
    problem = "found the control character U+0001: delete it, or write it as an escape in double quotes"
    assert read("\n\x01") == (None, [f"2:1: {problem}"])
    assert read("\x01") == (None, [f"1:1: {problem}"])


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029"])
def test_a_line_end_that_editors_do_not_show_is_refused(character: str) -> None:
    _, problems = read(f"a: 1\nb: 2 # not yet:{character}  c: 3\n")
    instead = "delete it, or write it as an escape in double quotes"
    assert problems == [f"2:16: found U+{ord(character):04X}, a line end that editors do not show: {instead}"]
    assert plain(good(f'"a\\u{ord(character):04x}b"')) == f"a{character}b"


@pytest.mark.parametrize(("data", "place"), [(b"a: 1\nb: caf\xe9\n", "2:7"), (b"\n\xe9", "2:1"), (b"\xe9", "1:1")])
def test_bytes_that_are_not_utf_8_are_named_by_line_and_column(data: bytes, place: str) -> None:
    assert read(data) == (None, [f"{place}: not UTF-8 text: save the file as UTF-8"])


def test_utf_16_is_not_read() -> None:
    assert read("a: 1".encode("utf-16")) == (None, ["1:1: not UTF-8 text: save the file as UTF-8"])


def test_the_limits_are_those_that_are_documented() -> None:
    limits = (MAX_DEPTH, MAX_EXPANDED_NODES, MAX_ALIASED_NODES, MAX_NUMBER_LENGTH)
    assert limits == (64, 2_000_000, 100_000, 400)


def test_the_longest_number_is_read() -> None:
    assert plain(good("9" * MAX_NUMBER_LENGTH)) == int("9" * MAX_NUMBER_LENGTH)


@pytest.mark.parametrize("text", ["9" * (MAX_NUMBER_LENGTH + 1), "0x" + "f" * 5000, "1." + "0" * 5000])
def test_a_longer_one_is_read_as_one_that_no_setting_takes(text: str) -> None:
    node = good(text)
    assert isinstance(node, Scalar)
    assert isinstance(node.value, float)
    assert math.isnan(node.value)
    assert node.text == text


def test_a_long_text_is_searched_in_pieces() -> None:
    text = "#" * (48 * 8192) + "\n"
    assert breaths(lambda: read(text)) >= 48


def test_nesting_is_bounded() -> None:
    assert good("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    problem = f"1:{MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH} levels"
    assert read("[" * (MAX_DEPTH + 1)) == (None, [problem])
    assert read("[" * 100_000) == (None, [problem])
    assert read("- " * 100_000)[1] == [f"1:{2 * MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH} levels"]


def test_what_aliases_expand_to_is_bounded() -> None:
    laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for name, before in zip("bcdefg", "abcdef", strict=True):
        laughs += f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    node, problems = read(laughs)
    assert node is None
    assert [problem.partition(": ")[2] for problem in problems] == [
        f"aliases stand for more than {MAX_ALIASED_NODES:,} values"
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("- &x [1, 2, 3, 4]\n- [*x, *x]", None),  # a list of four is five values
        ("- &x [1, 2, 3, 4]\n- [*x, *x, *x]", "2:12"),
        ("- &x 1\n- [*x, *x, *x, *x, *x, *x, *x, *x, *x, *x]", None),
        ("- &x 1\n- [*x, *x, *x, *x, *x, *x, *x, *x, *x, *x, *x]", "2:44"),
    ],
)
def test_every_alias_counts_as_what_it_stands_for(
    text: str, place: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authz.document.MAX_ALIASED_NODES", 10)
    assert read(text)[1] == ([] if place is None else [f"{place}: aliases stand for more than 10 values"])


def test_the_number_of_values_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_EXPANDED_NODES > 10 * MAX_ALIASED_NODES
    monkeypatch.setattr("authz.document.MAX_EXPANDED_NODES", 10)
    assert good("[1, 2, 3, 4, 5, 6, 7, 8, 9]")
    assert read("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]") == (None, ["1:29: more than 10 values"])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_problem_or_nothing(data: bytes) -> None:
    read(data)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-?!&*%@`|>'\"[]{},# \n\t~0x.e<=\u0085\u2028\ufeffé", max_size=60))
def test_any_text_is_a_value_or_a_problem_or_nothing(text: str) -> None:
    node, problems = read(text)
    if node is None and not problems:
        assert not plain_words(text)


def plain_words(text: str) -> bool:
    """Tell whether some line starts with a plain letter, so that there is a value."""
    return text[:1] in {"a", "b"}


# --- Readers ---------------------------------------------------------------------------------------------------------


def node_of(text: str) -> Node:
    return good(f"- {text}\n").items[0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{a: 1}", "a map"),
        ("[]", "an empty list"),
        ("[1]", "a list"),
        ("~", "nothing"),
        ("abc", "text `abc`"),
        ("x" * 80, f"text `{'x' * 59}…`"),
        ("yes", "text `yes`"),
        ("true", "`true` (a boolean)"),
        ("0x1F", "`0x1F` (a number)"),
    ],
)
def test_a_node_is_described_as_it_was_written(text: str, words: str) -> None:
    assert describe(node_of(text)) == words


def test_text_is_shortened_visibly() -> None:
    assert shorten("x" * 60) == "x" * 60
    assert shorten("x" * 61) == "x" * 59 + "…"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("prefx", "; did you mean `prefix`?"),
        ("Prefix", "; did you mean `prefix`?"),
        ("allowed-users", "; did you mean `allowed_users`?"),
        ("zzz", ""),
    ],
)
def test_a_near_word_is_proposed(word: str, hint: str) -> None:
    assert did_you_mean(word, ("prefix", "path", "allowed_users")) == hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", "abc"),
        ("'5'", "5"),
        ("5", "it: found `5` (a number), expected text: write '5' in quotes"),
        ("true", "it: found `true` (a boolean), expected text: write 'true' in quotes"),
        ("''", "it: found empty text, expected text"),
        ("~", "it: found nothing, expected text: write '~' in quotes"),
        ("", "it: found nothing, expected text"),
        ("[a]", "it: found a list, expected text"),
        ("{a: b}", "it: found a map, expected text"),
    ],
)
def test_text_is_read_or_a_problem(text: str, expected: str) -> None:
    problems = Problems()
    value = text_of(node_of(text), "it", problems)
    assert ([value] if value is not None else [problem.message for problem in problems]) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("FALSE", False),
        ("yes", "it: found text `yes`, expected `true` or `false`"),
        ("'true'", "it: found text `true`, expected `true` or `false`"),
        ("1", "it: found `1` (a number), expected `true` or `false`"),
        ("[]", "it: found an empty list, expected `true` or `false`"),
    ],
)
def test_a_boolean_is_read_or_a_problem(text: str, expected: object) -> None:
    problems = Problems()
    value = boolean_of(node_of(text), "it", problems)
    assert ([value] if value is not None else [problem.message for problem in problems]) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a, 5]", ["a", 5]),
        ("[]", []),
        ("a", ["a"]),
        ("5", [5]),
        ("'a, b'", ["it: found text `a, b`, one text with a comma: write a list, [a, b]"]),
        ("~", ["it: found nothing, expected a list"]),
        ("{a: b}", ["it: found a map, expected a list"]),
    ],
)
def test_a_list_is_read_and_a_scalar_is_a_list_of_one(text: str, expected: list[object]) -> None:
    problems = Problems()
    items = list_of(node_of(text), "it", problems)
    assert [*map(plain, items), *(problem.message for problem in problems)] == expected


def test_warnings_and_notes_are_no_errors() -> None:
    problems = Problems()
    problems.warn(Source(FILE, 1, 1), "odd")
    problems.warn(Source(FILE, 2, 1), "fyi", Severity.NOTE)
    assert problems.errors == []
    assert [str(problem) for problem in problems] == ["a.yaml:1:1: warning: odd", "a.yaml:2:1: note: fyi"]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("5s", timedelta(seconds=5)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(hours=24)),
        ("1h30m", timedelta(minutes=90)),
        ("1m5ms", timedelta(seconds=60, milliseconds=5)),
        ("0s", timedelta()),
    ],
)
def test_durations_are_read(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "1.5s", "5S", "5s ", "30m1h", "1d", "٣s", "5s5s", "1000000000h"])
def test_what_is_no_duration_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_a_tree_that_is_let_go_is_freed_node_by_node() -> None:
    class Nodes(list[Node]):
        freed = 0

        def pop(self, index: SupportsIndex = -1) -> Node:
            self.freed += 1
            return super().pop(index)

    nodes = Nodes([good("{a: [1, {b: c}], d: e}"), good("f")])
    let_go(nodes)
    assert nodes == []
    assert nodes.freed == 7


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-31", "2026-01-31T00:00:00"),
        ("20260131", "2026-01-31T00:00:00"),
        ("2026-W05-6", "2026-01-31T00:00:00"),
        ("2026-01-31T08", "2026-01-31T08:00:00"),
        ("2026-01-31t08:00:00z", "2026-01-31T08:00:00+00:00"),
        ("2026-01-31 08:00+01:00", "2026-01-31T08:00:00+01:00"),
        ("20260131T080000-0500", "2026-01-31T08:00:00-05:00"),
    ],
)
def test_an_instant(text: str, instant: str) -> None:
    assert parse_instant(text).isoformat() == instant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-31+01:00",  # midnight there, says who wrote it; one in the morning, says Python
        "2026-01-31-12",
        "20260131-0500",
        "2026-01-31x08:00",
        "2026-01-31/08:00",
        "2026-02-28:12",
        "2026-02-30",
        "2026-01-31T25:00",
        "2026-01-31T",
        "2026-01-31Tz",
        "2026-01-31T08:00:00Z\n",
        "٢٠٢٦-01-31",
    ],
)
def test_no_instant(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whose message comes from Python
        parse_instant(text)
