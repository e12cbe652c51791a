"""Frequent mistakes in YAML: each is told at its own place, and what cannot be told keeps libyaml's words."""

from __future__ import annotations

import pytest

from authz.document import parse
from authz.node import Problems


def told(text: str) -> str:
    problems = Problems()
    parse(text.encode(), "a.yaml", problems)
    (problem,) = problems
    return str(problem).removeprefix("a.yaml:").replace("not YAML: ", "")


@pytest.mark.parametrize("text", ["a: b\n\tc: d\n", "a:\n\tb: 1\n", "a: |\n\tb\n", "- a: x\n\tb: y\n"], ids=repr)
def test_a_tab(text: str) -> None:
    assert told(text) == "2:1: found a tab where only blanks may stand: write blanks instead"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("*.a.example", "2:9: a text cannot begin with `*`: put it in quotes"),
        ("'x', *.a.example]", "2:14: a text cannot begin with `*`: put it in quotes"),
        ("*.a.example # all", "2:9: a text cannot begin with `*`: put it in quotes"),
        ("*", "2:9: a text cannot begin with `*`: put it in quotes"),
        ("& more", "2:9: a text cannot begin with `&`: put it in quotes"),
        ("@x", "2:9: a text cannot begin with `@`: put it in quotes"),
        ("@x:secret@a", "2:9: a text cannot begin with `@`: put it in quotes"),
        ("%x", "2:9: a text cannot begin with `%`: put it in quotes"),
        ("`x`", "2:9: a text cannot begin with a backquote: put it in quotes"),
        ("`it's`", "2:9: a text cannot begin with a backquote: put it in quotes"),
        ("!a!b", "2:9: a text cannot begin with `!`: put it in quotes"),
        ("!<x", "2:9: a text cannot begin with `!`: put it in quotes"),
        (">=5", "2:9: a text cannot begin with `>`: put it in quotes"),
        ("|x", "2:9: a text cannot begin with `|`: put it in quotes"),
        ("*" + "." * 70, "2:9: a text cannot begin with `*`: put it in quotes"),
        ("!x", "2:9: unknown tag `!x`: only YAML's core types are read, or put it in quotes if it is text"),
        ("*x", "2:9: unknown alias `*x`: anchor it with `&x` above, or put it in quotes if it is text"),
    ],
)
def test_a_value_that_begins_with_a_sign_of_yamls(value: str, message: str) -> None:
    assert told(f"a: 1\nfrom{': [' if value.endswith(']') else ':  '}{value}\n".replace("from", "from ")) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-\n  - user_pool:local_A\n    clients: any", "2:15: no blank after `user_pool:`: write one"),
        ("policies:x/\ncognito: []\n", "1:10: no blank after `policies:`: write one"),
        ("a: 1\npolicies:x/\ncognito: []\n", "2:10: no blank after `policies:`: write one"),
        ("- from: https://a\n  prefix:/a\n", "2:10: no blank after `prefix:`: write one"),
        ("- from:https://a\n  prefix: /a\n", "1:8: no blank after `from:`: write one"),
        ("a: 1\nuri:https://me:secret@a\nb: 1\n", "2:5: no blank after `uri:`: write one"),
        ("a:\u00e91\nb: 2\n", "1:3: no blank after `a:`: write one"),
        ("a:\u00a01\nb: 2\n", "1:3: found U+00A0, a no-break space, after `a:`: write a blank"),
        ("- https://a\n  prefix: /a\n", "2:9: mapping values are not allowed in this context"),
        ("- 'a'\n- - b: c\n   d: e\n", "3:4: did not find expected '-' indicator"),
        ("a: 1\nprefix /a\nb: 2\n", "3:1: could not find expected ':'"),
        ("- a:b\nc: d\n", "2:1: did not find expected '-' indicator"),
        ("a: b: c\n", "1:5: found a second colon in the line: put the text that holds it in quotes"),
        ("- a:b\n- c: d: e\n", "2:7: found a second colon in the line: put the text that holds it in quotes"),
    ],
)  # fmt: skip
def test_colons_and_blanks(text: str, message: str) -> None:
    assert told(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a: x\n\u00a0 b: y\n", "2:1: found U+00A0, a no-break space, in the indentation: write blanks instead"),
        ("- a\n \u2003b: y\n", "2:2: found U+2003, which looks like a blank, in the indentation: write blanks instead"),
        ("a:\n  b: 1\n\u00a0 c: 1\n", "3:1: found U+00A0, a no-break space, in front of a key: write a blank instead"),
        ("\ufeffa: @x\n", "1:4: a text cannot begin with `@`: put it in quotes"),
    ],
)  # fmt: skip
def test_blanks_that_are_none(text: str, message: str) -> None:
    assert told(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a: 'x\n  b: y\n", "1:6: the quote that opens here is not closed: write `'` at its end"),
        ('a: 1\nb: "x\n', '2:4: the quote that opens here is not closed: write `"` at its end'),
        (
            "- a: 'x\n  b: 'y'\n",
            "1:6: the quote that opens here is closed in line 2 before more text: is a `'` missing in between?",
        ),
        (
            'a: "x\n\nb: "y"\n',
            '1:4: the quote that opens here is closed in line 3 before more text: is a `"` missing in between?',
        ),
        ("a: 'it's'\n", "1:8: found text behind the closing quote: a quote that is part of it is `''`"),
        ('a: "say "x""\n', '1:10: found text behind the closing quote: a quote that is part of it is `\\"`'),
        ('a: "x" y\n', "1:8: did not find expected key"),
        ("a: 'x'\n  b: [\n", "2:3: did not find expected key"),
        ("a: 'x'\nb: [\n", "3:1: did not find expected node content"),
        ("- a: 'x'\nb: y\n", "2:1: did not find expected '-' indicator"),
        ('a: "\\d"\n', "1:5: found unknown escape character"),
    ],
)
def test_quotes(text: str, message: str) -> None:
    assert told(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log: {level: ${X}}\n", "1:14: `${X}` between brackets must stand in quotes"),
        ("a: [x, b${X}c, d]\n", "1:8: `b${X}c` between brackets must stand in quotes"),
        ("[${X}, a]\n", "1:2: `${X}` between brackets must stand in quotes"),
        ("a: [https://me:${P}@a]\n", "1:5: `…` between brackets must stand in quotes"),
        ("a: [p@${X}]\n", "1:5: `…` between brackets must stand in quotes"),
        ("a: [b @${X}]\n", "1:7: `@${X}` between brackets must stand in quotes"),
        (f"a: [{'b' * 56}${{X}}]\n", f"1:5: `{'b' * 56}${{X}}` between brackets must stand in quotes"),
        (f"a: [{'b' * 57}${{X}}]\n", f"1:5: `{'b' * 57}${{…` between brackets must stand in quotes"),
        ("a: ['${X}', x {y}]\n", "1:15: did not find expected ',' or ']'"),
        ("a: [x {y}]\n", "1:7: did not find expected ',' or ']'"),
        ("a: [$x {y}]\n", "1:8: did not find expected ',' or ']'"),
    ],
)
def test_a_variable_between_brackets(text: str, message: str) -> None:
    assert told(text) == message
