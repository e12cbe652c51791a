"""Which routes never get a request, because an earlier one takes them all.

The worst of them: rules below a public route that covers them protect nothing. Pure, and nearly linear: the routes of
one host are walked once, and each asks a dictionary once per distinct length of the prefixes above it.
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from authz.breath import breathe
from authz.errors import Problem, Severity
from authz.policy.routes import PathKind, PathMatcher, Route

_MAX_WILDCARD_HOSTS: Final = 100  # more are compared by their text alone: each pair costs a match
_MAX_HOST_PAIRS: Final = 20_000
_MAX_PATTERNS: Final = 20  # so many earlier patterns of one host are tried on an exact path

_HostKey: TypeAlias = tuple[str, int | None]


class AreaKind(Enum):
    """What is known of the paths that a route takes."""

    EXACT = "this one path"
    PREFIX = "every path that starts so"
    PATTERN = "some of the paths that start so"


class Area(NamedTuple):
    """The paths that a route takes, as far as text can tell."""

    kind: AreaKind
    text: str


def area_of(path: PathMatcher) -> Area:
    """Give the area of a matcher; a pattern that is plain text, or plain text and `.*`, is what it looks like."""
    if path.kind is PathKind.PATH:
        return Area(AreaKind.EXACT, path.text)
    if path.kind is not PathKind.REGEX:
        return _prefix(path.text)  # no matcher has no text
    start, rest = split_pattern(path.text)
    if rest in ("", "$"):
        return Area(AreaKind.EXACT, start)
    return _prefix(start) if rest in (".*", ".*$") else Area(AreaKind.PATTERN, start)


def _prefix(text: str) -> Area:
    return Area(AreaKind.PREFIX, "" if text == "/" else text)  # every path starts with `/`


# One plain or escaped character that no quantifier follows, and no flags, which one may follow: `/a(?i)*`.
_PLAIN: Final = re.compile(r"(?:\\([^A-Za-z0-9])|([^\\.^$|?*+()\[\]{}]))(?![?*+{]|\(\?[A-Za-z-]+\))")
CLASS_OR_ESCAPE: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\]", re.DOTALL)
"""What a pattern holds besides plain text, groups and quantifiers: `\\d`, `[^/]`, `[\\]]`, `[[:alpha:]]`."""
_GROUP: Final = re.compile(r"\([^()]*\)")


def split_pattern(pattern: str) -> tuple[str, str]:
    """Split a pattern into the plain text that every match starts with, unescaped, and the rest of the pattern."""
    rest = pattern.removeprefix("^")
    if _is_choice(pattern):
        return "", rest
    start = []
    while found := _PLAIN.match(rest):
        start.append(found[1] or found[2])
        rest = rest[found.end() :]
    return "".join(start), rest


def _is_choice(pattern: str) -> bool:
    r"""Tell whether a `|` stands outside of every group. A pattern with `\Q` is not read, and may be one."""
    flat = CLASS_OR_ESCAPE.sub("", pattern)
    while (inner := _GROUP.sub("", flat)) != flat:
        flat = inner
    return "|" in flat or "\\Q" in pattern


class _Taken:
    """What the routes of one host took so far."""

    def __init__(self) -> None:
        self._exact: dict[str, Route] = {}
        self._prefixes: dict[str, Route] = {}
        self._lengths: list[int] = []
        self._patterns: dict[str, Route] = {}

    def takers(self, route: Route, area: Area) -> Iterable[Route]:
        """Give the earlier routes that each take everything that this one would."""
        for length in self._lengths:
            if length > len(area.text):
                break
            found = self._prefixes.get(area.text[:length])
            if found is not None:
                yield found
        if area.kind is AreaKind.EXACT:
            if area.text in self._exact:
                yield self._exact[area.text]
            yield from (
                earlier for earlier in islice(self._patterns.values(), _MAX_PATTERNS) if earlier.path.matches(area.text)
            )
        elif area.kind is AreaKind.PATTERN and route.path.text in self._patterns:
            yield self._patterns[route.path.text]

    def add(self, route: Route, area: Area) -> None:
        if area.kind is AreaKind.EXACT:
            self._exact.setdefault(area.text, route)
        elif area.kind is AreaKind.PATTERN:
            self._patterns.setdefault(route.path.text, route)
        elif area.text not in self._prefixes:
            self._prefixes[area.text] = route
            if len(area.text) not in self._lengths:
                insort(self._lengths, len(area.text))

    @property
    def takes_everything(self) -> bool:
        return "" in self._prefixes


def shadow_warnings(routes: Sequence[Route], lets_everyone_in: Callable[[Route], bool]) -> list[Problem]:
    """Warn of every route that an earlier one hides, loudly where the earlier one is open to everyone."""
    covering = _covering_hosts(routes)
    taken: dict[_HostKey, _Taken] = {}
    problems = []
    for route in routes:
        breathe()
        key = (route.host.name, route.host.port)
        area = area_of(route.path)
        takers = [
            earlier
            for host in covering.get(key, (key,))
            if host in taken
            for earlier in taken[host].takers(route, area)
        ]
        if takers:
            first = min(takers, key=lambda earlier: earlier.index)  # it gets them, and hides the others too
            problems += _hidden(route, first, lets_everyone_in)
        taken.setdefault(key, _Taken()).add(route, area)
    return [*problems, *_missed_wildcards(routes, taken)]


def _hidden(route: Route, first: Route, lets_everyone_in: Callable[[Route], bool]) -> list[Problem]:
    what, other = f"route `{route.name.label}`", f"`{first.name.label}` at {first.source}"
    if lets_everyone_in(first) and not lets_everyone_in(route):
        by_id = "; only by its `id` can Envoy still choose it" if route.id is not None else ""
        message = (
            f"{what}: OPEN TO EVERYONE: the public route {other} comes first and takes every request of this one, so "
            f"these rules protect nothing{by_id}: move this route above it{_slash_hint(route, first)}"
        )
    elif route.id is not None:
        return []  # Envoy may choose it by its id
    elif area_of(route.path) == area_of(first.path) and route.host.name == first.host.name:
        message = (
            f"{what}: never gets a request, because {other} has the same host and path and comes first: "
            "put the rules of both into one route, or delete one"
        )
    else:
        message = (
            f"{what}: never gets a request, because {other} comes first and takes them all: "
            f"move this route above it, or delete it{_slash_hint(route, first)}"
        )
    return [Problem(route.source, message, Severity.WARNING, first.source)]


def _slash_hint(route: Route, first: Route) -> str:
    """Say that a prefix ends in the middle of a name: `/admin` takes `/administrator` too."""
    prefix, path = first.path.text, area_of(route.path).text
    if first.path.kind is not PathKind.PREFIX or prefix.endswith("/") or path[len(prefix) :][:1] in ("", "/"):
        return ""
    return f"; `prefix: {prefix}` also takes `{path}`: `prefix: {prefix}/` would not"


# --- hosts ------------------------------------------------------------------------------------------------------


def _wildcards(routes: Iterable[Route]) -> dict[_HostKey, Route]:
    """Give the first route of each wildcard host."""
    found: dict[_HostKey, Route] = {}
    for route in routes:
        breathe()
        if route.host.pattern is not None:
            found.setdefault((route.host.name, route.host.port), route)
    return found


def _covering_hosts(routes: Iterable[Route]) -> Mapping[_HostKey, Sequence[_HostKey]]:
    """Give for each wildcard host those that take every host that it takes, itself included.

    `*` in the narrower one is a letter that only `.*` can swallow, so a match of the text is a match of every host.
    """
    wildcards = _wildcards(routes)
    if len(wildcards) > _MAX_WILDCARD_HOSTS:
        return {}
    return {
        key: [
            wider
            for wider, route in wildcards.items()
            if wider[1] in (None, key[1]) and route.host.pattern.fullmatch(key[0]) is not None
        ]
        for key in wildcards
    }


def _missed_wildcards(routes: Sequence[Route], taken: Mapping[_HostKey, _Taken]) -> list[Problem]:
    """Note the hosts that a wildcard matches and never serves: a host with routes of its own never falls back."""
    wildcards = _wildcards(routes)
    narrow: dict[str, Route] = {}  # hosts with routes of their own that do not take every path
    for route in routes:
        breathe()
        host = route.host
        if host.pattern is None and not ((host.name, None) in taken and taken[host.name, None].takes_everything):
            narrow.setdefault(host.name, route)
    if len(wildcards) * len(narrow) > _MAX_HOST_PAIRS:
        return []
    problems = []
    for route in wildcards.values():
        breathe()
        missed = [name for name in narrow if route.host.pattern.fullmatch(name) is not None]
        if missed:
            others = "" if len(missed) == 1 else f" and {len(missed) - 1} more like it"
            other = narrow[missed[0]].source
            message = (
                f"route `{route.name.label}`: does not apply to `{missed[0]}`{others}, because a host with routes of "
                f"its own ({other}) never falls back to a wildcard, and those do not take every "
                "path: the rest is answered 404; write the paths that are meant for that host too"
            )
            problems.append(Problem(route.source, message, Severity.NOTE, other))
    return problems
