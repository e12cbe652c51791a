"""Each criterion: what it is called, what data it takes, what it looks at, and what it says.

A criterion is compiled once at load; judging it gives a truth and a Reason. The table `_KINDS` is the list of all
there are. Every criterion that looks at the caller goes through `_of_principal`: without a principal it is false with
`user-unauthenticated`, whatever its matcher says (Pomerium evaluates some of them for anonymous callers; we do not).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias

from authz.document import (
    Fields,
    Items,
    Node,
    Problems,
    Scalar,
    describe,
    did_you_mean,
    list_of,
    parse_duration,
    shorten,
    text_of,
)
from authz.model import Json, Principal, Reason, Request, Source
from authz.policy import times
from authz.policy.certificates import Authorities, certificate_matcher, is_trusted, read_certificate
from authz.policy.matchers import StringMatcher, any_of, list_matcher, show, string_matcher
from authz.policy.path import decoded_path


class Facts(NamedTuple):
    """All that a criterion may look at. One visit, one `now`."""

    request: Request
    path: str  # canonical
    principal: Principal | None
    now: float  # wall-clock seconds since 1970


Finding: TypeAlias = tuple[bool, Reason]
Test: TypeAlias = Callable[[Facts], Finding]
Look: TypeAlias = Callable[[Facts], Sequence[Json]]


@dataclass(frozen=True, slots=True)
class Criterion:
    """One compiled condition of a rule."""

    name: str  # as written, such as `claim/cognito:groups`
    source: Source
    test: Test
    wanted: str  # for people, completes "wants: …"
    look: Look  # what was there, for people; empty when nothing was
    expects: tuple[Json, ...] = ()  # the values it names, for near misses
    of_caller: bool = False
    data: Node | None = None  # as written, for advice


@dataclass(frozen=True, slots=True)
class CriteriaContext:
    """What the configuration says that criteria need."""

    authorities: Authorities = ()  # of `client_certificate_ca:`


class _Parts(NamedTuple):
    """What a kind's builder gives back; name and place are added by `compile_criterion`."""

    test: Test
    wanted: str
    look: Look
    expects: tuple[Json, ...] = ()
    of_caller: bool = False


class _Builder(NamedTuple):
    """What a kind's builder gets."""

    name: str
    subpath: str
    data: Node
    problems: Problems
    context: CriteriaContext


_UNAUTHENTICATED: Final[Finding] = (False, Reason.USER_UNAUTHENTICATED)


def compile_criterion(node: Node, problems: Problems, context: CriteriaContext) -> Criterion | None:
    """Compile `{NAME: data}` or `{NAME/SUBPATH: data}` (split at the first slash). None after adding a problem."""
    if not isinstance(node, Fields) or len(node.entries) != 1:
        problems.error(node, f"a criterion: {_no_criterion(node)}")
        return None
    key, data = node.entries[0]
    name, slash, subpath = key.text.partition("/")
    build = _KINDS.get(name)
    if build is None:
        problems.error(key, _unknown(name))
        return None
    if name == "claim":
        if not subpath:
            problems.error(key, "`claim`: the claim's name is missing: write `claim/cognito:groups: admins`")
            return None
    elif slash:
        problems.error(key, f"`{key.text}`: only `claim` takes a name after the slash: write `{name}`")
        return None
    parts = build(_Builder(key.text, subpath, data, problems, context))
    return None if parts is None else Criterion(key.text, key.source, *parts, data=data)


def _no_criterion(node: Node) -> str:
    if isinstance(node, Fields) and node.entries:
        return f"found a map with {len(node.entries)} keys, expected exactly one: write each after a `-` of its own"
    found = "an empty map" if isinstance(node, Fields) else describe(node)
    known = node.text if isinstance(node, Scalar) and node.text in _KINDS else None
    return f"found {found}, expected a name and its data, such as `{f'{known}: …' if known else 'groups: admins'}`"


def _unknown(name: str) -> str:
    if name in _REFUSED:
        return f"criterion `{name}` is not supported: {_REFUSED[name]}"
    if name in ("and", "or", "not", "nor"):
        return f"`{name}` inside a rule's list: operators do not nest; write a second rule"
    hint = did_you_mean(name, _KINDS) or f"; if it is a claim, write `claim/{shorten(name)}`"
    return f"unknown criterion `{shorten(name)}`{hint}"


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


# --- the caller -------------------------------------------------------------------------------------------------


def _of_principal(
    read: Callable[[Principal], Sequence[Json]],
    holds: Callable[[Sequence[Json]], bool],
    yes: Reason,
    no: Reason,
    wanted: str,
    expects: tuple[Json, ...] = (),
) -> _Parts:
    good: Finding = (True, yes)
    bad: Finding = (False, no)

    def test(facts: Facts) -> Finding:
        principal = facts.principal
        if principal is None:
            return _UNAUTHENTICATED
        return good if holds(read(principal)) else bad

    def look(facts: Facts) -> Sequence[Json]:
        return () if facts.principal is None else read(facts.principal)

    return _Parts(test, wanted, look, expects, of_caller=True)


def _one(matcher: StringMatcher) -> Callable[[Sequence[Json]], bool]:
    """Give the test of a string matcher over "one text or nothing": nothing is never right."""
    test = matcher.test
    return lambda values: bool(values) and isinstance(values[0], str) and test(values[0])


def _text_criterion(
    read: Callable[[Principal], Sequence[Json]], yes: Reason, no: Reason
) -> Callable[[_Builder], _Parts | None]:
    def build(builder: _Builder) -> _Parts | None:
        matcher = string_matcher(builder.data, builder.name, builder.problems)
        if matcher is None:
            return None
        return _of_principal(read, _one(matcher), yes, no, matcher.wanted, matcher.expects)

    return build


def _email(principal: Principal) -> Sequence[Json]:
    return () if principal.email is None else (principal.email,)


def _domain(principal: Principal) -> Sequence[Json]:
    parts = () if principal.email is None else principal.email.split("@")
    return parts[1:2]  # between the first and the second `@`, as Pomerium reads it


def _address_criterion(
    read: Callable[[Principal], Sequence[Json]], yes: Reason, no: Reason
) -> Callable[[_Builder], _Parts | None]:
    """Build an e-mail criterion, which says so when there is an address that does not count."""
    plain = _text_criterion(read, yes, no)

    def build(builder: _Builder) -> _Parts | None:
        parts = plain(builder)
        return None if parts is None else _refuse_unverified(parts)

    return build


_UNVERIFIED: Final[Finding] = (False, Reason.EMAIL_UNVERIFIED)


def _refuse_unverified(parts: _Parts) -> _Parts:
    """Make a criterion false for callers whose address does not count, whatever its matcher says."""

    def test(facts: Facts) -> Finding:
        if facts.principal is not None and facts.principal.email_is_unverified:
            return _UNVERIFIED
        return parts.test(facts)

    return parts._replace(test=test)


def claim_values(claims: Mapping[str, Json], name: str) -> Sequence[Json]:
    """Give a claim as a list: a scalar is a list of one, a list is itself, a missing claim is empty.

    The literal name is looked up before a dotted path into nested maps (`a.b`); a map itself is no value.
    """
    if name in claims:
        value = claims[name]
        if isinstance(value, Mapping):
            return ()
        return value if isinstance(value, list) else (value,)
    start = name.find(".")
    while start != -1:
        inner = claims.get(name[:start])
        if isinstance(inner, Mapping):
            found = claim_values(inner, name[start + 1 :])
            if found:
                return found
        start = name.find(".", start + 1)
    return ()


def _claim(builder: _Builder) -> _Parts | None:
    claim = builder.subpath
    if claim == "email":  # by this name too, only an address that counts
        parts = _list_criterion(builder, _email, Reason.CLAIM_OK, Reason.CLAIM_UNAUTHORIZED)
        return None if parts is None else _refuse_unverified(parts)
    return _list_criterion(
        builder,
        lambda principal: claim_values(principal.claims, claim),
        Reason.CLAIM_OK,
        Reason.CLAIM_UNAUTHORIZED,
    )


def _groups(builder: _Builder) -> _Parts | None:
    return _list_criterion(
        builder,
        lambda principal: claim_values(principal.claims, "cognito:groups"),
        Reason.GROUPS_OK,
        Reason.GROUPS_UNAUTHORIZED,
    )


def _list_criterion(
    builder: _Builder, read: Callable[[Principal], Sequence[Json]], yes: Reason, no: Reason
) -> _Parts | None:
    matcher = list_matcher(builder.data, builder.name, builder.problems)
    return None if matcher is None else _of_principal(read, matcher.test, yes, no, matcher.wanted, matcher.expects)


def _scopes(principal: Principal) -> Sequence[Json]:
    """Give the access token's scopes: one blank-separated text (RFC 6749 section 3.3), or a list already split."""
    scope = principal.claims.get("scope") if principal.token_use == "access" else None  # noqa: S105 - a kind of token
    if isinstance(scope, str):
        return [part for part in scope.split(" ") if part]
    return [part for part in scope if isinstance(part, str)] if isinstance(scope, list) else ()


def _identity_providers(principal: Principal) -> Sequence[Json]:
    """Give the names of the identity providers through which the caller came; none for a user of the pool itself.

    ID tokens list them in `identities`, a list of objects; the JSON text that userInfo makes of it is none. Access
    tokens have only the group `<pool id>_<provider>`, in which Cognito puts every federated user.
    """
    identities = principal.claims.get("identities")
    entries = identities if isinstance(identities, list) else ()
    names = [entry.get("providerName") for entry in entries if isinstance(entry, Mapping)]
    pool_id = principal.issuer.rpartition("/")[2]
    if pool_id:
        groups = [group for group in claim_values(principal.claims, "cognito:groups") if isinstance(group, str)]
        names += [group.removeprefix(f"{pool_id}_") for group in groups if group.startswith(f"{pool_id}_")]
    return [name for name in dict.fromkeys(name for name in names if isinstance(name, str)) if name]


def _any_text_criterion(
    read: Callable[[Principal], Sequence[Json]], yes: Reason, no: Reason
) -> Callable[[_Builder], _Parts | None]:
    """Build a criterion over several texts of the caller; `read` gives nothing but texts."""

    def build(builder: _Builder) -> _Parts | None:
        matcher = string_matcher(builder.data, builder.name, builder.problems)
        if matcher is None:
            return None
        some: Callable[[Sequence[Json]], bool] = any_of(matcher)  # type: ignore[assignment]  # all of them are texts
        return _of_principal(read, some, yes, no, matcher.wanted, matcher.expects)

    return build


MAX_CLOCK_AHEAD_SECONDS: Final = 60
"""How far `auth_time` may lie ahead of our clock, as for `iat`."""


def _auth_age(builder: _Builder) -> _Parts | None:
    data, problems = builder.data, builder.problems
    if not isinstance(data, Fields) or [key.text for key, _ in data.entries] != ["max"]:
        problems.error(data, f"`auth_age`: found {describe(data)}, expected `max` and nothing else: write {{max: 15m}}")
        return None
    limit = data.entries[0][1]
    seconds = _seconds(limit)
    if seconds is None:
        problems.error(
            limit, f"`auth_age`: `max`: found {describe(limit)}, expected a duration such as 90s, 15m or 24h"
        )
        return None
    good: Finding = (True, Reason.AUTH_AGE_OK)
    bad: Finding = (False, Reason.AUTH_AGE_UNAUTHORIZED)

    def look(facts: Facts) -> Sequence[Json]:
        age = None if facts.principal is None else _age(facts.principal, facts.now)
        return () if age is None else (f"{age:.0f}s",)

    def test(facts: Facts) -> Finding:
        if facts.principal is None:
            return _UNAUTHENTICATED
        age = _age(facts.principal, facts.now)
        return good if age is not None and -MAX_CLOCK_AHEAD_SECONDS <= age <= seconds else bad

    return _Parts(test, f"signed in at most {limit.text} ago", look, of_caller=True)  # type: ignore[union-attr]


def _age(principal: Principal, now: float) -> float | None:
    auth_time = principal.claims.get("auth_time")
    if isinstance(auth_time, bool) or not isinstance(auth_time, int):
        return None
    return now - auth_time


def _seconds(node: Node) -> float | None:
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return None
    try:
        duration = parse_duration(node.value)
    except ValueError:
        return None
    return duration.total_seconds() if duration > timedelta() else None


# --- the request ------------------------------------------------------------------------------------------------


def _constant(answer: bool, reason: Reason, wanted: str) -> Callable[[_Builder], _Parts]:
    finding: Finding = (answer, reason)

    def build(builder: _Builder) -> _Parts:
        _warn_unused(builder)
        return _Parts(lambda _: finding, wanted, lambda _: ())

    return build


def _warn_unused(builder: _Builder) -> None:
    """Warn of `accept: false` and kin: the data has no effect, in Pomerium neither."""
    data = builder.data
    if isinstance(data, Scalar) and (data.value is None or data.value is True):
        return
    what = f"`{builder.name}`: its data is ignored, and found {describe(data)}"
    builder.problems.warn(data.source, f"{what}: it means the same as `{builder.name}: true`; write that, or delete it")


def _authenticated_user(builder: _Builder) -> _Parts:
    _warn_unused(builder)
    return _of_principal(
        lambda principal: (principal.subject,) if principal.subject else (),
        bool,
        Reason.USER_OK,
        Reason.USER_UNAUTHORIZED,
        "a signed-in caller",
    )


def _request_text(read: Callable[[Facts], str], yes: Reason, no: Reason) -> Callable[[_Builder], _Parts | None]:
    def build(builder: _Builder) -> _Parts | None:
        matcher = string_matcher(builder.data, builder.name, builder.problems)
        if matcher is None:
            return None
        good: Finding = (True, yes)
        bad: Finding = (False, no)
        test = matcher.test
        return _Parts(
            lambda facts: good if test(read(facts)) else bad,
            matcher.wanted,
            lambda facts: (read(facts),),
            matcher.expects,
        )

    return build


def is_cors_preflight(request: Request) -> bool:
    """Tell whether this is a CORS preflight (Fetch standard, section 3.3.2)."""
    return bool(
        request.method == "OPTIONS" and request.header("origin") and request.header("access-control-request-method")
    )


def _cors_preflight(builder: _Builder) -> _Parts:
    _warn_unused(builder)
    good: Finding = (True, Reason.CORS_REQUEST)
    bad: Finding = (False, Reason.NON_CORS_REQUEST)
    return _Parts(
        lambda facts: good if is_cors_preflight(facts.request) else bad,
        "a CORS preflight",
        lambda facts: (facts.request.method,),
    )


def _source_ip(builder: _Builder) -> _Parts | None:
    problems = builder.problems
    if isinstance(builder.data, Fields) or (isinstance(builder.data, Scalar) and builder.data.value is None):
        problems.error(
            builder.data,
            f"`source_ip`: found {describe(builder.data)}, expected an address, a network or a list of them; it takes "
            "no operators",
        )
        return None
    if isinstance(builder.data, Items) and not builder.data.items:
        problems.warn(builder.data.source, "`source_ip`: an empty list never matches: write an address or a network")
    networks = [_network(item, problems) for item in list_of(builder.data, "`source_ip`", problems)]
    if None in networks or (not networks and not isinstance(builder.data, Items)):
        return None
    known = [network for network in networks if network is not None]
    good: Finding = (True, Reason.SOURCE_IP_OK)
    bad: Finding = (False, Reason.SOURCE_IP_UNAUTHORIZED)

    def test(facts: Facts) -> Finding:
        try:
            address = plain_address(facts.request.source_ip)
        except ValueError:  # a Unix socket has no address
            return bad
        return good if any(address in network for network in known) else bad

    wanted = "in " + ", ".join(map(str, known)) if known else "in no network"
    return _Parts(test, wanted, lambda facts: (facts.request.source_ip,) if facts.request.source_ip else ())


def plain_address(text: str) -> object:
    """Read an IP address; an IPv4-mapped IPv6 address equals its IPv4 one. Raises ValueError."""
    address = ip_address(text)
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _network(node: Node, problems: Problems) -> IPv4Network | IPv6Network | None:
    text = text_of(node, "`source_ip`", problems)
    if text is None:
        return None
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        problems.error(
            node, f"`source_ip`: found {describe(node)}, expected an address or a network such as 10.0.0.0/8"
        )
        return None
    mapped = isinstance(network, IPv6Network) and network.network_address.ipv4_mapped
    if mapped and network.prefixlen >= 96:
        return IPv4Network((mapped, network.prefixlen - 96), strict=False)
    return network


def _client_certificate(builder: _Builder) -> _Parts | None:
    matcher = certificate_matcher(builder.data, builder.problems)
    if matcher is None:
        return None
    good: Finding = (True, Reason.CLIENT_CERTIFICATE_OK)
    bad: Finding = (False, Reason.CLIENT_CERTIFICATE_UNAUTHORIZED)

    def test(facts: Facts) -> Finding:
        certificate = read_certificate(facts.request.certificate)
        return good if certificate is not None and matcher.test(certificate) else bad

    return _Parts(test, matcher.wanted, _look_at_certificate)


def _look_at_certificate(facts: Facts) -> Sequence[Json]:
    certificate = read_certificate(facts.request.certificate)
    return () if certificate is None else (f"fingerprint {certificate.fingerprint}",)


def _invalid_client_certificate(builder: _Builder) -> _Parts:
    _warn_unused(builder)
    authorities = builder.context.authorities
    valid: Finding = (False, Reason.VALID_CLIENT_CERTIFICATE)
    missing: Finding = (True, Reason.CLIENT_CERTIFICATE_REQUIRED)
    invalid: Finding = (True, Reason.INVALID_CLIENT_CERTIFICATE)
    if not authorities:
        builder.problems.warn(
            builder.data.source,
            "`invalid_client_certificate`: never holds, because the configuration has no `client_certificate_ca:`; "
            "set it to a file with the authorities that issue your client certificates",
        )

    def test(facts: Facts) -> Finding:
        if not authorities:
            return valid
        if not facts.request.certificate:
            return missing
        certificate = read_certificate(facts.request.certificate)
        return valid if certificate is not None and is_trusted(certificate, authorities, facts.now) else invalid

    return _Parts(test, "a missing or untrusted client certificate", _look_at_certificate)


def _time(
    compile_: Callable[[Node, Problems], times.TimeCriterion | None], yes: Reason, no: Reason
) -> Callable[[_Builder], _Parts | None]:
    def build(builder: _Builder) -> _Parts | None:
        compiled = compile_(builder.data, builder.problems)
        if compiled is None:
            return None
        good: Finding = (True, yes)
        bad: Finding = (False, no)
        test, found = compiled.test, compiled.found
        return _Parts(
            lambda facts: good if test(facts.now) else bad,
            compiled.wanted,
            lambda facts: (found(facts.now),),
        )

    return build


_KINDS: Final[Mapping[str, Callable[[_Builder], _Parts | None]]] = {
    "accept": _constant(True, Reason.ACCEPT, "everyone"),
    "reject": _constant(False, Reason.REJECT, "nobody"),
    "authenticated_user": _authenticated_user,
    "user": _text_criterion(lambda principal: (principal.subject,), Reason.USER_OK, Reason.USER_UNAUTHORIZED),
    "email": _address_criterion(_email, Reason.EMAIL_OK, Reason.EMAIL_UNAUTHORIZED),
    "domain": _address_criterion(_domain, Reason.DOMAIN_OK, Reason.DOMAIN_UNAUTHORIZED),
    "claim": _claim,
    "groups": _groups,
    "http_method": _request_text(
        lambda facts: facts.request.method, Reason.HTTP_METHOD_OK, Reason.HTTP_METHOD_UNAUTHORIZED
    ),
    "http_path": _request_text(
        lambda facts: decoded_path(facts.path), Reason.HTTP_PATH_OK, Reason.HTTP_PATH_UNAUTHORIZED
    ),
    "cors_preflight": _cors_preflight,
    "source_ip": _source_ip,
    "client_certificate": _client_certificate,
    "invalid_client_certificate": _invalid_client_certificate,
    "date": _time(times.date_criterion, Reason.DATE_OK, Reason.DATE_UNAUTHORIZED),
    "day_of_week": _time(times.day_of_week_criterion, Reason.DAY_OF_WEEK_OK, Reason.DAY_OF_WEEK_UNAUTHORIZED),
    "time_of_day": _time(times.time_of_day_criterion, Reason.TIME_OF_DAY_OK, Reason.TIME_OF_DAY_UNAUTHORIZED),
    "scope": _any_text_criterion(_scopes, Reason.SCOPE_OK, Reason.SCOPE_UNAUTHORIZED),
    "client_id": _text_criterion(
        lambda principal: (principal.client_id,), Reason.CLIENT_ID_OK, Reason.CLIENT_ID_UNAUTHORIZED
    ),
    "token_use": _text_criterion(
        lambda principal: (principal.token_use,), Reason.TOKEN_USE_OK, Reason.TOKEN_USE_UNAUTHORIZED
    ),
    "issuer": _text_criterion(lambda principal: (principal.issuer,), Reason.ISSUER_OK, Reason.ISSUER_UNAUTHORIZED),
    "identity_provider": _any_text_criterion(
        _identity_providers, Reason.IDENTITY_PROVIDER_OK, Reason.IDENTITY_PROVIDER_UNAUTHORIZED
    ),
    "auth_age": _auth_age,
}

CRITERIA: Final = tuple(_KINDS)
"""The names of all criteria there are."""


def show_values(values: Sequence[Json], limit: int = 200) -> str:
    """Write found values for people, bounded."""
    if not values:
        return "nothing"
    return shorten(", ".join(show(value) for value in values[:20]), limit)
