"""Each criterion by its name, compiled once at load; judging it gives a truth and a Reason.

The table `_KINDS` is the list of all there are: `caller_criteria.py` has those that look at the caller,
`request_criteria.py` those that look at the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from authz.model import Json, Reason
from authz.node import Fields, Node, Problems, Scalar, describe, shorten
from authz.policy import caller_criteria, request_criteria
from authz.policy.criterion import Build, Builder, CriteriaContext, Criterion, Finding, Parts, warn_unused
from authz.policy.decision import Operator
from authz.policy.instead import LETS_IN, Place, denial, is_negation, near_word, nested, without_negation
from authz.policy.matchers import show
from authz.reading import nearest


def compile_criterion(
    node: Node, problems: Problems, context: CriteriaContext, place: Place = LETS_IN
) -> Criterion | None:
    """Compile `{NAME: data}` or `{NAME/SUBPATH: data}` (split at the first slash). None after adding a problem.

    `place` decides what it finds where the fact that it asks for is not known.
    """
    if not isinstance(node, Fields) or len(node.entries) != 1:
        problems.error(node, f"a criterion: {_no_criterion(node)}")
        return None
    key, data = node.entries[0]
    name, slash, subpath = key.text.partition("/")
    build = _KINDS.get(name)
    if build is None:
        problems.error(key, _unknown(name, place))
        return None
    if name == "claim":
        if not subpath:
            problems.error(key, "`claim`: the claim's name is missing: write `claim/cognito:groups: admins`")
            return None
    elif slash:
        problems.error(key, f"`{key.text}`: only `claim` takes a name after the slash: write `{name}`")
        return None
    parts = build(Builder(key.text, subpath, data, problems, context, place))
    return None if parts is None else Criterion(key.text, key.source, *parts, data=data)


def _no_criterion(node: Node) -> str:
    if isinstance(node, Fields) and node.entries:
        return f"found a map with {len(node.entries)} keys, expected exactly one: write each after a `-` of its own"
    found = "an empty map" if isinstance(node, Fields) else describe(node)
    known = node.text if isinstance(node, Scalar) and node.text in _KINDS else None
    return f"found {found}, expected a name and its data, such as `{f'{known}: …' if known else 'groups: admins'}`"


def _unknown(name: str, place: Place) -> str:
    if name in _REFUSED:
        return f"criterion `{name}` is not supported: {_REFUSED[name]}"
    if name in _OPERATORS:
        return f"`{name}` inside a rule's list: operators do not nest; {nested(Operator(name), place)}"
    return f"unknown criterion `{shorten(name)}`{_hint(name, place)}"


def _hint(name: str, place: Place) -> str:
    if nearest(name, _KINDS) == _MISUSE and not is_negation(name):  # `valid_client_certificate`
        return f"; write `deny: {{or: [{{{_MISUSE}: true}}]}}`"
    near = _OTHER_NAMES.get(name.lower().replace("-", "_")) or near_word(name, _KINDS)
    if near is not None:
        return f"; did you mean `{near}`?"
    denied = without_negation(name, _KINDS)
    if denied is not None:
        return f"; {denial(place, f'{denied}: …')}"
    return f"; if it is a claim, write `claim/{shorten(name)}`"


_OPERATORS: Final = tuple(operator.value for operator in Operator)
_MISUSE: Final = "invalid_client_certificate"
_OTHER_NAMES: Final[Mapping[str, str]] = dict.fromkeys(("client_ip", "remote_ip", "ip"), "source_ip")


_REFUSED: Final[Mapping[str, str]] = {
    "device": "it needs a device registry, and we keep none; `client_certificate` can tell devices apart",
    "record": "it needs a directory, and we keep none; put the fact into a claim and write `claim/NAME`",
    "mcp_tool": "it needs the request's body, which Envoy does not send us; use one path a tool and `http_path`",
    "pomerium_routes": "Pomerium removed it (GHSA-pvrc-wvj2-f59p); write the routes' own rules",
    "ssh_publickey": "we decide HTTP requests only",
    "ssh_ca": "we decide HTTP requests only",
    "ssh_username": "we decide HTTP requests only",
    "ssh_username_matches_email": "we decide HTTP requests only",
    "ssh_username_matches_claim": "we decide HTTP requests only",
}


def _constant(answer: bool, reason: Reason, wanted: str) -> Build:
    finding: Finding = (answer, reason)

    def build(builder: Builder) -> Parts:
        warn_unused(builder)
        return Parts(lambda _: finding, wanted, lambda _: (), lasting=True)

    return build


_KINDS: Final[Mapping[str, Build]] = {
    "accept": _constant(True, Reason.ACCEPT, "everyone"),
    "reject": _constant(False, Reason.REJECT, "nobody"),
    "authenticated_user": caller_criteria.authenticated_user,
    "user": caller_criteria.user,
    "email": caller_criteria.email,
    "domain": caller_criteria.domain,
    "claim": caller_criteria.claim,
    "groups": caller_criteria.groups,
    "http_method": request_criteria.http_method,
    "http_path": request_criteria.http_path,
    "cors_preflight": request_criteria.cors_preflight,
    "source_ip": request_criteria.source_ip,
    "client_certificate": request_criteria.client_certificate,
    "invalid_client_certificate": request_criteria.invalid_client_certificate,
    "date": request_criteria.date,
    "day_of_week": request_criteria.day_of_week,
    "time_of_day": request_criteria.time_of_day,
    "scope": caller_criteria.scope,
    "client_id": caller_criteria.client_id,
    "token_use": caller_criteria.token_use,
    "issuer": caller_criteria.issuer,
    "identity_provider": caller_criteria.identity_provider,
    "auth_age": caller_criteria.auth_age,
}

CRITERIA: Final = tuple(_KINDS)
"""The names of all criteria there are."""


def show_values(values: Sequence[Json]) -> str:
    """Write found values for people, bounded."""
    if not values:
        return "nothing"
    return shorten(", ".join(show(value) for value in values[:20]), 200)
