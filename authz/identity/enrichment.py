"""The ID token beside an access token: two verified tokens become one principal.

A browser session has both. The access token is the credential; e-mail and custom attributes stand in the ID token
alone (docs.aws.amazon.com/cognito: "Understanding the access token"). Rules:

1. The ID token is verified as strictly as the credential, by the same pool, and is always `token_use: id`.
2. It belongs to the access token: same issuer, same `sub`, the same client (its `aud` is the access token's
   `client_id`) and the same sign-in (`origin_jti`, which both must have; refreshed tokens keep it).
3. It adds claims that the access token lacks, and replaces none. What an access token says of itself (groups, scopes,
   times …) is never added: that it is absent there is a statement. A group that was taken away would otherwise live on
   for as long as an older ID token does.
4. An address and its `…_verified` are one statement and come from one token.
5. The principal holds while both tokens do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from authz.errors import TokenError
from authz.identity.cognito import UserPool, Verified
from authz.model import Json, Principal, Reason


def for_id_tokens(pool: UserPool) -> UserPool:
    """Give the pool as it verifies the ID token beside an access token, whatever credentials it accepts."""
    return replace(pool, token_use=frozenset({"id"}))


def check_issuer(issuer: str, access: Principal) -> None:
    """Refuse the ID token of another issuer, before a key is asked for."""
    if issuer != access.issuer:
        raise _mismatch("iss")


def enrich(access: Verified, identity: Verified) -> Verified:
    """Add the ID token's claims to the principal of the access token it belongs to; it stays `token_use: access`.

    TokenError: `token-claim-invalid` with the claim that says that they do not belong together.
    """
    caller, holder = access.principal, identity.principal
    _check_belongs(caller, holder)
    enriched = caller._replace(
        claims=_merged(caller.claims, holder.claims), issued_at=min(caller.issued_at, holder.issued_at)
    )
    if "email" not in caller.claims:
        enriched = enriched._replace(email=holder.email, email_is_unverified=holder.email_is_unverified)
    return Verified(
        enriched, max(access.valid_from, identity.valid_from), min(access.valid_until, identity.valid_until)
    )


def _check_belongs(caller: Principal, holder: Principal) -> None:
    check_issuer(holder.issuer, caller)
    if holder.subject != caller.subject:
        raise _mismatch("sub")
    if holder.client_id != caller.client_id:
        raise _mismatch("aud")
    sign_in = caller.claims.get("origin_jti")
    # A text, so that two absences or two nulls are no agreement.
    if not isinstance(sign_in, str) or not sign_in or holder.claims.get("origin_jti") != sign_in:
        raise _mismatch("origin_jti")


def _mismatch(claim: str) -> TokenError:
    return TokenError(
        Reason.TOKEN_CLAIM_INVALID, f"the ID token does not belong to the access token: `{claim}` differs or is missing"
    )


# docs.aws.amazon.com/cognito: "Understanding the access token"; `nbf` is RFC 7519's and belongs to one token.
_OF_ACCESS_TOKENS: Final = frozenset({
    "acr", "amr", "aud", "auth_time", "client_id", "cognito:groups", "device_key", "event_id", "exp", "iat", "iss",
    "jti", "nbf", "origin_jti", "scope", "sub", "token_use", "username", "version",
})  # fmt: skip
_ADDRESSES: Final = (("email", "email_verified"), ("phone_number", "phone_number_verified"))


def _merged(access: Mapping[str, Json], identity: Mapping[str, Json]) -> Mapping[str, Json]:
    kept = dict(access)
    # Policies look up the literal `a.b` before what stands under `b` in `a`, and `c` in `b` in `a` before `c` in `a.b`,
    # so an added claim of either kind would hide what the access token says.
    nested = tuple(f"{name}." for name, value in access.items() if isinstance(value, Mapping))
    literal = tuple(name for name in access if "." in name)
    added = {
        name: value
        for name, value in identity.items()
        if name not in _OF_ACCESS_TOKENS and not name.startswith(nested) and not _is_map_over(name, value, literal)
    }
    for address, verified in _ADDRESSES:
        if address in access:
            added.pop(verified, None)
        elif address in identity:
            kept.pop(verified, None)
    return {**added, **kept}


def _is_map_over(name: str, value: Json, literal: Iterable[str]) -> bool:
    """Say whether dotted paths into the map could be read where one of the literal names was meant."""
    return isinstance(value, Mapping) and any(other.startswith(f"{name}.") for other in literal)
