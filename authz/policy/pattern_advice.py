"""Warnings about a route's host, `prefix`, `path` and `regex`: what is no pattern, and what takes too much or nothing.

A regex is judged by its text: by the plain text that every match starts with, and by single characters and escapes
further on. RE2 has no look-ahead, so outside of a class each of them is there to be matched.
"""

from __future__ import annotations

import re
from typing import Final

from authz.errors import RequestError, Severity
from authz.model import Source
from authz.node import shorten
from authz.policy.criterion_advice import Advice
from authz.policy.path import canonical_pattern
from authz.policy.routes import HostMatcher, PathKind, PathMatcher
from authz.policy.shadows import CLASS_OR_ESCAPE, split_pattern


def advise_on_host(advice: Advice, host: HostMatcher, source: Source, what: str) -> None:
    """Advise on the host of the route that `what` names."""
    found = _IN_A_DOMAIN.fullmatch(host.name)
    if found is not None:
        end = found["end"]
        one_by_one = "the hosts one by one, a route each"
        below = f"`*.{end}` for what is below `{end}`, and a route of its own for `{end}` itself"
        instead = one_by_one if end.startswith("-") else below
        advice.warn(source, f"{what}: `*{end}` also takes `evil{end}`, which anybody may own: write {instead}")


_IN_A_DOMAIN: Final = re.compile(r"\*(?P<end>[a-z0-9-]+\.[a-z0-9-]+)")  # further labels are their owner's to give


def advise_on_path(advice: Advice, path: PathMatcher, source: Source, what: str) -> None:
    """Advise on a matcher of the route that `what` names."""
    label = f"{what}: `{path.kind}`"
    if path.kind is PathKind.REGEX:
        _regex(advice, path.text, source, label)
    elif variable := _VARIABLE.search(path.text):
        advice.warn(source, f"{label}: `{{{variable[1]}}}` {_NO_VARIABLE}: write `regex:` and `[^/]+` for one segment")
    elif "*" in path.text:
        start = path.text.partition("*")[0]
        instead = f"`prefix: {start}`" if path.text == f"{start}*" else "`regex:` and `[^/]*` for one segment"
        advice.warn(source, f"{label}: the `*` in `{shorten(path.text)}` is an ordinary character: write {instead}")


_NO_VARIABLE: Final = "is no variable, but text that must be in the path"
_VARIABLE: Final = re.compile(r"%7B([A-Za-z_][A-Za-z0-9_]*)%7D")  # `{id}` in the normal form
_VARIABLE_IN_REGEX: Final = re.compile(r"(?<!\\[pP])\{([A-Za-z_][A-Za-z0-9_]*)\}")  # no `\p{Greek}`


def _regex(advice: Advice, pattern: str, source: Source, label: str) -> None:
    shown = f"`{shorten(pattern)}`"
    start, rest = split_pattern(pattern)
    if r"\?" in pattern:
        advice.warn(source, f"{label}: {shown} asks for a `?`, and the query is not part of the path: leave it out")
    elif found_query := _QUERY.search(pattern):
        advice.warn(
            source,
            f"{label}: {shown} asks for no query, which is not part of the path: its `?` makes what stands before it "
            f"optional, and `{found_query['name']}=` must be in the path: leave the query out",
        )
    elif variable := _VARIABLE_IN_REGEX.search(pattern):
        advice.warn(source, f"{label}: the `{variable[0]}` in {shown} {_NO_VARIABLE}: write `[^/]+` for one segment")
    elif start and not start.startswith("/"):
        advice.warn(
            source,
            f"{label}: {shown} never matches, because every path starts with `/`: write `/{pattern.removeprefix('^')}`",
        )
    elif found := _no_start(start, rest, shown) or _no_piece(pattern, shown):
        advice.warn(source, f"{label}: {found}")
    elif start and not rest:
        advice.warn(
            source,
            f"{label}: {shown} takes the path `{start}` alone, because a regex must cover the whole path: write "
            f"`path: {start}`, or `prefix: {start}` if everything below is meant",
        )
    elif rest in (".*", ".*$") and start in ("", "/"):
        advice.warn(source, f"{label}: {shown} takes every path: leave it out, which means the same", Severity.NOTE)


_QUERY: Final = re.compile(r"(?<![\\(*+?}])\?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)=")


# --- what no canonical path holds -------------------------------------------------------------------------------

_OPEN_END: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})*(?:%[0-9A-Fa-f]?)?\Z")
_MEANS_MORE: Final = re.compile(r"[\\.^$|?*+()\[\]{}]")


def _no_start(start: str, rest: str, shown: str) -> str | None:
    """Say why no canonical path starts like every match; None when one may."""
    if not start:
        return None
    try:
        canonical = _canonical_start(start, whole=rest in ("", "$"))
    except RequestError as error:
        return f"{shown} never matches, because {error}: delete it"
    if canonical == start:
        return None
    instead = _MEANS_MORE.sub(r"\\\g<0>", canonical) + rest
    return f"{shown} never matches, because paths are compared in their normal form: write `{instead}`"


def _canonical_start(start: str, *, whole: bool) -> str:
    """Give the start in the form of canonical paths. Raises RequestError when no path starts so."""
    escaped = start.replace(" ", "%20")
    try:
        return canonical_pattern(escaped, prefix=not whole)
    except RequestError:
        # What follows may complete the last escape (`/%2[0-9]`), or the character that several make (`/%C3(%A9|%A8)`).
        head = _OPEN_END.sub("", escaped)
        if whole or head == escaped:
            raise
        return canonical_pattern(head, prefix=True) + escaped[len(head) :]


_OPAQUE: Final = re.compile(rf"{CLASS_OR_ESCAPE.pattern}|\(\?P?<\w+>", re.DOTALL)  # the last: a group's name
_LITERAL: Final = re.compile(r"\\[\[\]^{|}]")  # means more without the backslash
_ODD: Final = rf"[^!-~]|[\"<>`]|{_LITERAL.pattern}"
_PIECE: Final = re.compile(rf"(?P<piece>{_ODD}|%[0-9A-Fa-f]{{2}}(?![?*+{{]))(?P<repeated>[?*+{{])?")
_MAY_BE_ODD: Final = re.compile(f"{_ODD}|%")
_FOLDS_CASE: Final = re.compile(r"\(\?[A-Za-z]*i")


def _no_piece(pattern: str, shown: str) -> str | None:
    """Say which character or escape outside of classes is in no canonical path; None when all may be."""
    if not _MAY_BE_ODD.search(pattern) or "\\Q" in pattern or _FOLDS_CASE.search(pattern):
        return None
    for found in _PIECE.finditer(_OPAQUE.sub(_literal_or_none, pattern)):
        piece = found["piece"]
        try:
            canonical = _canonical_piece(piece)
        except RequestError as error:
            return f"the `{piece}` in {shown} is in no request's path, because {error}: delete it"
        if canonical != piece:
            instead = f"({canonical})" if found["repeated"] else canonical
            return f"the `{piece}` in {shown} is in no request's path: write `{instead}`"
    return None


def _literal_or_none(opaque: re.Match[str]) -> str:
    return opaque[0] if _LITERAL.fullmatch(opaque[0]) else "/"


def _canonical_piece(piece: str) -> str:
    """Give a character or an escape in the form of canonical paths. Raises RequestError when none holds it."""
    piece = piece.removeprefix("\\")
    if piece.startswith("%") and int(piece[1:], 16) > 0x7F:
        return piece.upper()  # one of several that make a character
    return canonical_pattern(f"/{piece}".replace(" ", "%20"))[1:]
