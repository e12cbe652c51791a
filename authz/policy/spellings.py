"""Warnings about guarded paths of which another spelling goes to a public route.

`:` and `%3A` are different paths to RFC 3986 (section 2.2), to Envoy and to us, so they may belong to different routes;
most upstreams decode both to the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from authz.breath import breathe
from authz.errors import Problem, Severity
from authz.policy.path import Host
from authz.policy.routes import PathKind, Route, RouteIndex

_SPELT_TWICE: Final = ":@!$&'()*+,="
"""What a path may hold as it is and escaped (RFC 3986 section 3.3); `;` is refused or removed."""
_AS_IT_IS: Final = re.compile(f"[{re.escape(_SPELT_TWICE)}]")
_ESCAPED: Final = re.compile("|".join(f"%{ord(character):02X}" for character in _SPELT_TWICE))


def spelling_warnings(routes: Sequence[Route], lets_everyone_in: Callable[[Route], bool]) -> list[Problem]:
    """Warn of guarded routes that a request escapes by escaping a character."""
    index: RouteIndex | None = None
    problems = []
    for route in routes:
        breathe()
        others = list(_other_spellings(route))
        if not others or lets_everyone_in(route):
            continue
        index = index or RouteIndex(routes)
        host = Host(route.host.name, route.host.port)
        for other in others:
            found = index.find(host, other)
            if found is not None and found is not route and lets_everyone_in(found):
                problems.append(_warning(route, other, found))
    return problems


def _other_spellings(route: Route) -> Iterator[str]:
    text = route.path.text
    if route.path.kind not in (PathKind.PATH, PathKind.PREFIX) or route.host.pattern is not None:
        return
    for other in (_AS_IT_IS.sub(_escape, text), _ESCAPED.sub(_unescape, text)):
        if other != text:
            yield other


def _escape(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[0][1:], 16))


def _warning(route: Route, other: str, public: Route) -> Problem:
    plain = _ESCAPED.sub(_unescape, route.path.text)
    both = "".join(
        f"({re.escape(character)}|%{ord(character):02X})" if character in _SPELT_TWICE else re.escape(character)
        for character in plain
    )
    pattern = both + (".*" if route.path.kind is PathKind.PREFIX else "")
    message = (
        f"route `{route.name.label}`: `{other}` goes to the public route `{public.name.label}` at {public.source}, and "
        f"most upstreams read it as the guarded `{route.path.text}`: write `regex: {pattern}`"
    )
    return Problem(route.path.source or route.source, message, Severity.WARNING, public.source)
