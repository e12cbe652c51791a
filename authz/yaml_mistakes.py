"""The frequent mistakes in YAML, in words that say what to write, at the place where the mistake is.

libyaml tells where it could not go on, which is often the next line, and what it expected, which is seldom what the
author meant. Where the mistake cannot be told with certainty, its own words stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

# They look like blanks, and YAML takes them for text: U+00A0 comes with text from web pages.
_ODD_BLANKS: Final = "\xa0\u1680\u2000-\u200b\u202f\u205f\u2060\u3000\ufeff"
_ODD_BLANK: Final = re.compile(f"[{_ODD_BLANKS}]")
_NO_BLANK: Final = re.compile(r"[ ]*(?:- +)*(?P<key>[A-Za-z_][\w./-]*):(?!//)(?P<value>[^ \t].*)")
_ENDS_OF_A_WORD: Final = " \t,[]{}"
_WORD: Final = re.compile(f"[{re.escape(_ENDS_OF_A_WORD)}]")
_VARIABLE: Final = re.compile(r"\$\{[^{}]*\}")


class Mistake(NamedTuple):
    """What is wrong and what to write instead. Line and column count from 1."""

    line: int
    column: int
    message: str


class Place(Protocol):
    """A mark of PyYAML's, which counts from 0."""

    @property
    def line(self) -> int:
        """The line."""

    @property
    def column(self) -> int:
        """The column, in characters."""


class Quoted(NamedTuple):
    """A value in quotes."""

    quote: str
    start: Place
    end: Place


class _Failure(NamedTuple):
    """What libyaml said, in words and places. Lines and columns count from 0, as its own."""

    lines: Sequence[str]
    problem: str
    context: str
    at: tuple[int, int]
    since: tuple[int, int] | None  # where that began which it was reading
    quoted: Quoted | None

    def rest(self, place: tuple[int, int]) -> str:
        """Give what stands in the line from there on."""
        line, column = place
        return self.lines[line][column:] if line < len(self.lines) else ""

    def before(self, place: tuple[int, int]) -> str:
        """Give what stands in the line before that."""
        line, column = place
        return self.lines[line][:column] if line < len(self.lines) else ""


def explain(
    text: str, problem: str, at: Place, context: str, since: Place | None, quoted: Quoted | None
) -> Mistake | None:
    """Find the mistake behind an error of libyaml's: its problem and its context. None: its own words are better.

    `quoted` is the value that was read last, if it stands in quotes.
    """
    failure = _Failure(
        lines=text.removeprefix("\ufeff").splitlines(),  # at libyaml's ends; document.py has refused the others
        problem=problem,
        context=context,
        at=(at.line, at.column),
        since=None if since is None else (since.line, since.column),
        quoted=quoted,
    )
    return next((found for look in _LOOKS if (found := look(failure)) is not None), None)


def odd_blank(text: str) -> str | None:
    """Name the character with which a text begins, if it looks like a blank and is none."""
    if not _ODD_BLANK.match(text):
        return None
    name = ", a no-break space" if text[0] == "\xa0" else ", which looks like a blank"
    return f"found U+{ord(text[0]):04X}{name}"


def _odd_indentation(failure: _Failure) -> Mistake | None:
    line, _ = failure.at
    text = failure.rest((line, 0))
    column = len(text) - len(text.lstrip(" "))
    found = odd_blank(text[column:])
    return None if found is None else _mistake((line, column), f"{found}, in the indentation: write blanks instead")


def _tab(failure: _Failure) -> Mistake | None:
    if "tab character" not in failure.problem and not failure.rest(failure.at).startswith("\t"):
        return None
    return _mistake(failure.at, "found a tab where only blanks may stand: write blanks instead")


def _variable(failure: _Failure) -> Mistake | None:
    """Find `{level: ${X}}`: the brace opens a map."""
    line, column = failure.at
    text = failure.rest((line, 0))
    for match in _VARIABLE.finditer(text):
        if column in (match.start() + 1, match.end()):
            start = max(text.rfind(end, 0, match.start()) for end in _ENDS_OF_A_WORD) + 1
            found = text[start : match.end()] + _WORD.split(text[match.end() :], maxsplit=1)[0]
            return _mistake((line, start), f"`{_shown(found)}` between brackets must stand in quotes")
    return None


def _indicator(failure: _Failure) -> Mistake | None:
    """Find a value such as `*.example.com`, whose first character means something else."""
    place = failure.at if "cannot start any token" in failure.problem else failure.since
    reading = failure.context.removeprefix("while scanning ").removeprefix("while parsing ")
    if place is None or failure.rest(place)[:1] not in _READING.get(reading, ()):
        return None
    rest = failure.rest(place)
    first = "a backquote" if rest[0] == "`" else f"`{rest[0]}`"
    return _mistake(place, f"a text cannot begin with {first}: put it in quotes")


# What libyaml was reading → with what that begins.
_READING: Final = {
    "for the next token": ("@", "%", "`"),
    "an alias": ("*",),
    "an anchor": ("&",),
    "a tag": ("!",),
    "a node": ("!",),
    "a block scalar": ("|", ">"),
}


def _missing_blank(failure: _Failure) -> Mistake | None:
    """Find `user_pool:eu-west-1_A`, which is one text that goes on in the next line."""
    line = None
    if failure.problem == "could not find expected ':'" and failure.since is not None:
        line = failure.since[0]
    elif failure.problem.startswith("mapping values") and re.fullmatch(r" *[^\s:-][^:]*", failure.before(failure.at)):
        line = failure.at[0] - 1
    match = None if line is None or line < 0 else _NO_BLANK.fullmatch(failure.rest((line, 0)).rstrip())
    if line is None or match is None or re.search(r":( |$)", match["value"]):
        return None
    key, value = match["key"], match["value"]
    found = odd_blank(value)
    advice = f"no blank after `{key}:`: write one"  # the value is not repeated: it may be a secret
    if found is not None:
        advice = f"{found}, after `{key}:`: write a blank"
    return _mistake((line, match.start("value")), advice)


def _second_colon(failure: _Failure) -> Mistake | None:
    if not failure.problem.startswith("mapping values") or ": " not in failure.before(failure.at):
        return None
    return _mistake(failure.at, "found a second colon in the line: put the text that holds it in quotes")


def _open_quote(failure: _Failure) -> Mistake | None:
    """Find a quote that is not closed, or closed by the one that was to open the next value."""
    if failure.context == "while scanning a quoted scalar" and failure.since is not None:
        quote = failure.rest(failure.since)[:1]
        return _mistake(failure.since, f"the quote that opens here is not closed: write `{quote}` at its end")
    if failure.quoted is None or not failure.problem.startswith("did not find expected "):
        return None
    quote, start, end = failure.quoted
    if end.line != failure.at[0]:
        return None
    if start.line != end.line:
        missing = f"closed in line {end.line + 1} before more text: is a `{quote}` missing in between?"
        return _mistake((start.line, start.column), f"the quote that opens here is {missing}")
    if end.column == failure.at[1]:
        inner = "''" if quote == "'" else '\\"'
        return _mistake(failure.at, f"found text behind the closing quote: a quote that is part of it is `{inner}`")
    return None


_LOOKS: Final[Sequence[Callable[[_Failure], Mistake | None]]] = (
    _odd_indentation, _tab, _variable, _indicator, _missing_blank, _second_colon, _open_quote,
)  # fmt: skip


def _mistake(place: tuple[int, int], message: str) -> Mistake:
    return Mistake(place[0] + 1, place[1] + 1, message)


def _shown(text: str) -> str:
    """Repeat what was written; not the password that may stand in front of an `@`."""
    if "@" in text[1:]:
        return "…"
    return text if len(text) <= 60 else f"{text[:59]}…"
