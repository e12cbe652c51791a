"""The criteria that look at the caller: who it is, what it belongs to, what its token is good for.

Each goes through `_of_principal` or asks the same first: without a principal it is false with `user-unauthenticated`,
whatever its matcher says (Pomerium evaluates some of them for anonymous callers; we do not).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Final

from authz.model import MAX_CLAIM_SECONDS, MAX_CLOCK_AHEAD, Json, Principal, Reason
from authz.node import Fields, Node, Scalar, describe
from authz.policy.criterion import Build, Builder, Facts, Finding, Parts, warn_unused
from authz.policy.matchers import StringMatcher, any_of, list_matcher, string_matcher
from authz.reading import parse_duration

_UNAUTHENTICATED: Final[Finding] = (False, Reason.USER_UNAUTHENTICATED)


def _of_principal(
    read: Callable[[Principal], Sequence[Json]],
    holds: Callable[[Sequence[Json]], bool],
    yes: Reason,
    no: Reason,
    wanted: str,
    expects: tuple[Json, ...] = (),
) -> Parts:
    good: Finding = (True, yes)
    bad: Finding = (False, no)

    def test(facts: Facts) -> Finding:
        principal = facts.principal
        if principal is None:
            return _UNAUTHENTICATED
        return good if holds(read(principal)) else bad

    def look(facts: Facts) -> Sequence[Json]:
        return () if facts.principal is None else read(facts.principal)

    return Parts(test, wanted, look, expects, of_caller=True, lasting=True)


def _one(matcher: StringMatcher) -> Callable[[Sequence[Json]], bool]:
    """Give the test of a string matcher over "one text or nothing": nothing is never right."""
    test = matcher.test
    return lambda values: bool(values) and isinstance(values[0], str) and test(values[0])


def _text_criterion(read: Callable[[Principal], Sequence[Json]], yes: Reason, no: Reason) -> Build:
    def build(builder: Builder) -> Parts | None:
        matcher = string_matcher(builder.data, builder.name, builder.problems, builder.place)
        if matcher is None:
            return None
        return _of_principal(read, _one(matcher), yes, no, matcher.wanted, matcher.expects)

    return build


def _email(principal: Principal) -> Sequence[Json]:
    return () if principal.email is None else (principal.email,)


def _domain(principal: Principal) -> Sequence[Json]:
    if principal.email is None:
        return ()
    # Of several `@` Pomerium reads what follows the first, and mail goes where the last points: such an address has no
    # domain, or whoever owns a mailbox at `me@partner.example@evil.example` would be a partner (CVE-2026-40574).
    _, *domains = principal.email.split("@")
    return [part for part in domains if part] if len(domains) == 1 else []


def _address_criterion(read: Callable[[Principal], Sequence[Json]], yes: Reason, no: Reason) -> Build:
    """Build an e-mail criterion, which says so when there is an address that does not count."""
    plain = _text_criterion(read, yes, no)

    def build(builder: Builder) -> Parts | None:
        parts = plain(builder)
        return None if parts is None else _refuse_unverified(parts, _has_unverified_address)

    return build


_UNVERIFIED: Final[Finding] = (False, Reason.EMAIL_UNVERIFIED)


_has_unverified_address: Final = attrgetter("email_is_unverified")
_has_unverified_claim: Final = attrgetter("email_claim_is_unverified")


def _refuse_unverified(parts: Parts, is_unverified: Callable[[Principal], bool]) -> Parts:
    """Make a criterion false for callers whose address does not count, whatever its matcher says."""

    def test(facts: Facts) -> Finding:
        if facts.principal is not None and is_unverified(facts.principal):
            return _UNVERIFIED
        return parts.test(facts)

    return parts._replace(test=test)


def claim_values(claims: Mapping[str, Json], name: str) -> Sequence[Json]:
    """Give a claim as a list: a scalar is a list of one, a list is itself, a missing claim is empty.

    The literal name is looked up before a dotted path into nested maps (`a.b`); a map itself is no value.
    """
    if name in claims:
        value = claims[name]
        if isinstance(value, list):
            return value
        return () if not isinstance(value, str) and isinstance(value, Mapping) else (value,)  # the latter asks slowly
    start = name.find(".")
    while start != -1:
        inner = claims.get(name[:start])
        if isinstance(inner, Mapping):
            found = claim_values(inner, name[start + 1 :])
            if found:
                return found
        start = name.find(".", start + 1)
    return ()


def claim(builder: Builder) -> Parts | None:
    """Build `claim/NAME`: what one claim of the token holds."""
    name = builder.subpath
    if name == "email":  # by this name too, only an address that counts
        parts = _list_criterion(builder, _email_claim, Reason.CLAIM_OK, Reason.CLAIM_UNAUTHORIZED)
        return None if parts is None else _refuse_unverified(parts, _has_unverified_claim)
    return _list_criterion(
        builder,
        lambda principal: claim_values(principal.claims, name),
        Reason.CLAIM_OK,
        Reason.CLAIM_UNAUTHORIZED,
    )


def _email_claim(principal: Principal) -> Sequence[Json]:
    """Give the address, or several: a list is no address to `email`, and yet a claim like any other."""
    return () if principal.email_claim_is_unverified else claim_values(principal.claims, "email")


def groups(builder: Builder) -> Parts | None:
    """Build `groups`: the caller's Cognito groups."""
    return _list_criterion(
        builder,
        lambda principal: claim_values(principal.claims, "cognito:groups"),
        Reason.GROUPS_OK,
        Reason.GROUPS_UNAUTHORIZED,
    )


def _list_criterion(
    builder: Builder, read: Callable[[Principal], Sequence[Json]], yes: Reason, no: Reason
) -> Parts | None:
    matcher = list_matcher(builder.data, builder.name, builder.problems, builder.place)
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


def _any_text_criterion(read: Callable[[Principal], Sequence[Json]], yes: Reason, no: Reason) -> Build:
    """Build a criterion over several texts of the caller; `read` gives nothing but texts."""

    def build(builder: Builder) -> Parts | None:
        matcher = string_matcher(builder.data, builder.name, builder.problems, builder.place)
        if matcher is None:
            return None
        some: Callable[[Sequence[Json]], bool] = any_of(matcher)  # type: ignore[assignment]  # all of them are texts
        return _of_principal(read, some, yes, no, matcher.wanted, matcher.expects)

    return build


def auth_age(builder: Builder) -> Parts | None:
    """Build `auth_age`: how long ago the caller signed in, from `auth_time`."""
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
        return good if age is not None and -MAX_CLOCK_AHEAD <= age <= seconds else bad

    return Parts(test, f"signed in at most {limit.text} ago", look, of_caller=True)  # type: ignore[union-attr]


def _age(principal: Principal, now: float) -> float | None:
    auth_time = principal.claims.get("auth_time")
    if isinstance(auth_time, bool) or not isinstance(auth_time, int) or abs(auth_time) > MAX_CLAIM_SECONDS:
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


def authenticated_user(builder: Builder) -> Parts:
    """Build `authenticated_user`: anybody whose token names a subject."""
    warn_unused(builder)
    return _of_principal(
        lambda principal: (principal.subject,) if principal.subject else (),
        bool,
        Reason.USER_OK,
        Reason.USER_UNAUTHORIZED,
        "a signed-in caller",
    )


user: Final = _text_criterion(lambda principal: (principal.subject,), Reason.USER_OK, Reason.USER_UNAUTHORIZED)
email: Final = _address_criterion(_email, Reason.EMAIL_OK, Reason.EMAIL_UNAUTHORIZED)
domain: Final = _address_criterion(_domain, Reason.DOMAIN_OK, Reason.DOMAIN_UNAUTHORIZED)
scope: Final = _any_text_criterion(_scopes, Reason.SCOPE_OK, Reason.SCOPE_UNAUTHORIZED)
client_id: Final = _text_criterion(
    lambda principal: (principal.client_id,), Reason.CLIENT_ID_OK, Reason.CLIENT_ID_UNAUTHORIZED
)
token_use: Final = _text_criterion(
    lambda principal: (principal.token_use,), Reason.TOKEN_USE_OK, Reason.TOKEN_USE_UNAUTHORIZED
)
issuer: Final = _text_criterion(lambda principal: (principal.issuer,), Reason.ISSUER_OK, Reason.ISSUER_UNAUTHORIZED)
identity_provider: Final = _any_text_criterion(
    _identity_providers, Reason.IDENTITY_PROVIDER_OK, Reason.IDENTITY_PROVIDER_UNAUTHORIZED
)
