"""Warnings about guarded paths of which another spelling goes to a route with other rules.

`:` and `%3A` are different paths to RFC 3986 (section 2.2), to Envoy and to us, so they may belong to different routes;
most upstreams decode both to the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from authz.breath import breathe
from authz.errors import Problem, Severity
from authz.policy.decision import Operator, Policy
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
        host = Host(route.host.name.replace("*", "x"), route.host.port)
        for other in others:
            found = index.find(host, other)
            if found is None or found is route:
                continue
            if lets_everyone_in(found):
                problems.append(_warning(route, other, found, "the public route"))
            elif _may_let_others_in(found.policy, route.policy):
                problems.append(_warning(route, other, found, "the route"))
    return problems


def _may_let_others_in(policy: Policy, guard: Policy) -> bool:
    """Tell whether the policy has other rules than the guard; none are stricter, any are where all users may pass."""
    return bool(policy.allow) and not _lets_every_user_in(guard) and _rules(policy) != _rules(guard)


def _lets_every_user_in(policy: Policy) -> bool:
    named = (criterion.name for block in policy.allow if block.operator is Operator.OR for criterion in block.criteria)
    return not policy.deny and "authenticated_user" in named


def _rules(policy: Policy) -> Sequence[object]:
    return [
        {
            (block.operator, tuple((criterion.name, criterion.wanted) for criterion in block.criteria))
            for block in blocks
        }
        for blocks in (policy.allow, policy.deny)
    ]


def _other_spellings(route: Route) -> Iterator[str]:
    text = route.path.text
    if route.path.kind not in (PathKind.PATH, PathKind.PREFIX):
        return
    for other in (_AS_IT_IS.sub(_escape, text), _ESCAPED.sub(_unescape, text)):
        if other != text:
            yield other


def _escape(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[0][1:], 16))


def _warning(route: Route, other: str, found: Route, what: str) -> Problem:
    plain = _ESCAPED.sub(_unescape, route.path.text)
    both = "".join(
        f"({re.escape(character)}|%{ord(character):02X})" if character in _SPELT_TWICE else re.escape(character)
        for character in plain
    )
    pattern = both + (".*" if route.path.kind is PathKind.PREFIX else "")
    message = (
        f"route `{route.name.label}`: `{other}` goes to {what} `{found.name.label}` at {found.source}, and "
        f"most upstreams read it as the guarded `{route.path.text}`: write `regex: {pattern}`"
    )
    return Problem(route.path.source or route.source, message, Severity.WARNING, found.source)
