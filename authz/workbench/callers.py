"""Who is taken to be calling when a person asks for an explanation: a token, some claims, or nobody.

Nothing here makes a principal for the service: what comes out is for telling, and says how far it may be trusted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Final

from authz.authorizer import revoked
from authz.errors import TokenError
from authz.identity.claims import ClaimShapes, address_of
from authz.identity.cognito import (
    UnverifiedToken,
    UserPool,
    Verified,
    error_but_for_the_signature,
    peek,
    verify,
)
from authz.identity.credentials import TokenPlace, find_credential
from authz.identity.enrichment import check_issuer, enrich, for_id_tokens
from authz.identity.fetch import FetchResult, HttpFetch
from authz.identity.jwks import KeyStore
from authz.identity.revocations import RevocationList
from authz.model import Json, Principal, Reason, Request
from authz.settings import DEFAULT_TOKENS, Pool, Settings
from authz.workbench.explain import Authenticate, Caller

GIVEN_ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Given0000"
"""Stands for the user pool when claims name no issuer and no pool is configured."""


def principal_of_claims(
    claims: Mapping[str, Json], *, trust_unverified_email: bool = False, issuer: str = GIVEN_ISSUER
) -> Principal:
    """Make a principal of claims that nobody signed: for explanations and policy tests only.

    `issuer` is the caller's when the claims name none.
    """
    token_use = _text(claims, "token_use") or ("id" if "aud" in claims and "client_id" not in claims else "access")
    client_id = _text(claims, "client_id") or _text(claims, "aud")
    email, email_is_unverified = address_of(claims, trust_unverified=trust_unverified_email)
    issued_at = claims.get("iat")
    return Principal(
        subject=_text(claims, "sub") or "someone",
        issuer=_text(claims, "iss") or issuer,
        client_id=client_id,
        token_use=token_use,
        claims=claims,
        email=email,
        email_is_unverified=email_is_unverified,
        issued_at=issued_at if isinstance(issued_at, int) else _JUST_NOW,
    )


_JUST_NOW: Final = 2**53  # claims that do not say when they were issued are no old token's


def _text(claims: Mapping[str, Json], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""


class GivenClaims:
    """The caller is who `--claims` says; without `iss`, of the first pool that is configured."""

    def __init__(self, claims: Mapping[str, Json], shapes: ClaimShapes, settings: Settings | None) -> None:
        issuer = _text(claims, "iss")
        if not issuer:
            issuer = GIVEN_ISSUER if settings is None else settings.pools[0].pool.issuers[0]
        entry = None if settings is None else _by_issuer(settings).get(issuer)
        trusts = entry is not None and entry.pool.trust_unverified_email
        principal = principal_of_claims(claims, trust_unverified_email=trusts, issuer=issuer)
        self._principal = shapes.shape(principal)

    async def __call__(self, _: Request, __: float) -> Caller:
        """Give the caller of any request."""
        return Caller(self._principal, trust="claims as given, no token")


class UnlessRevoked:
    """The caller is who another one says, unless the list revokes that."""

    def __init__(self, authenticate: Authenticate, revocations: RevocationList) -> None:
        self._authenticate = authenticate
        self._revocations = revocations

    async def __call__(self, request: Request, now: float) -> Caller:
        """Give the caller, or what is wrong with the token."""
        caller = await self._authenticate(request, now)
        where = None if caller.principal is None else self._revocations.find(caller.principal, now)
        if where is None:
            return caller
        return Caller(error=revoked(where), trust=caller.trust, claims_of_bad_token=caller.principal)


class PresentedToken:
    """The caller is who the request's token says, verified where the keys can be reached."""

    def __init__(self, settings: Settings | None, shapes: ClaimShapes) -> None:
        self._settings = settings
        self._shapes = shapes

    async def __call__(self, request: Request, now: float) -> Caller:
        """Verify the token as the service would; without keys, read it and say so."""
        places: tuple[TokenPlace, ...] = DEFAULT_TOKENS if self._settings is None else self._settings.tokens
        try:
            credential = find_credential(request, places)
            if credential is None:
                return Caller()
            unverified = peek(credential.token)
        except TokenError as error:
            return Caller(error=error)
        any_pool = _any_pool(unverified.issuer)
        if self._settings is None:
            return self._unverified(request, unverified, any_pool, now, "give --config to verify the token")
        entry = _by_issuer(self._settings).get(unverified.issuer)
        read = self._shapes.shape(_read(unverified, any_pool if entry is None else entry.pool))
        if entry is None:
            unknown = TokenError(Reason.TOKEN_ISSUER_UNKNOWN, "no configured user pool issues such tokens")
            return Caller(error=unknown, claims_of_bad_token=read)
        fetch = HttpFetch()
        try:
            store = _key_store(self._settings, entry.pool, entry.jwks_uri, fetch)
            _, key = await store.find(unverified.kid)
            verified = verify(unverified, key, entry.pool, now)
            beside = _id_token_beside(request, verified.principal, self._settings)
            if beside is not None:
                _, key = await store.find(beside.kid)
                verified = enrich(verified, verify(beside, key, for_id_tokens(entry.pool), now))
        except TokenError as error:
            if error.reason is Reason.KEYS_UNAVAILABLE:
                return self._unverified(request, unverified, entry.pool, now, "the keys of its pool cannot be reached")
            return Caller(error=error, claims_of_bad_token=read)
        finally:
            await fetch.close()
        return Caller(self._shapes.shape(verified.principal), trust="verified")

    def _unverified(
        self, request: Request, unverified: UnverifiedToken, pool: UserPool, now: float, why: str
    ) -> Caller:
        """Give the caller that unverifiable tokens speak of, unless the service would refuse one in any case."""
        trust = f"unverified: {why}"
        read = _read(unverified, pool)
        try:
            _refuse_but_for_the_signature(unverified, pool, now)
            beside = None if self._settings is None else _id_token_beside(request, read, self._settings)
            if beside is not None:
                _refuse_but_for_the_signature(beside, for_id_tokens(pool), now)
                read = enrich(_for_good(read), _for_good(_read(beside, pool))).principal
        except TokenError as error:
            return Caller(error=error, trust=trust, claims_of_bad_token=self._shapes.shape(read))
        return Caller(self._shapes.shape(read), trust=trust)


def _read(unverified: UnverifiedToken, pool: UserPool) -> Principal:
    return principal_of_claims(
        unverified.unverified_claims, trust_unverified_email=pool.trust_unverified_email, issuer=unverified.issuer
    )


def _refuse_but_for_the_signature(unverified: UnverifiedToken, pool: UserPool, now: float) -> None:
    error = error_but_for_the_signature(unverified, pool, now)
    if error is not None:
        raise error


def _for_good(principal: Principal) -> Verified:
    """Give what `enrich` asks for; these tokens' times were looked at already."""
    return Verified(principal, -math.inf, math.inf)


def _any_pool(issuer: str) -> UserPool:
    """Stand for the pool that no configuration names: whatever it accepts, it accepts nothing out of its time."""
    return UserPool((issuer,), None, frozenset({"access", "id"}), 0.0, trust_unverified_email=False, label=issuer)


def _id_token_beside(request: Request, access: Principal, settings: Settings) -> UnverifiedToken | None:
    """Give the ID token that adds claims, of the same issuer and otherwise unverified. Raises TokenError."""
    if settings.enrich_from is None or access.token_use != "access":  # noqa: S105 - a kind of token
        return None
    presented = find_credential(request, (settings.enrich_from,))
    if presented is None:
        return None
    unverified = peek(presented.token)
    if unverified.issuer not in _by_issuer(settings):
        raise TokenError(Reason.TOKEN_ISSUER_UNKNOWN, "no configured user pool issues such tokens")
    check_issuer(unverified.issuer, access)
    return unverified


def _by_issuer(settings: Settings) -> Mapping[str, Pool]:
    return {issuer: entry for entry in settings.pools for issuer in entry.pool.issuers}


def _key_store(settings: Settings, pool: UserPool, uri: str, fetch: HttpFetch) -> KeyStore:
    return KeyStore(
        issuer=pool.issuers[0],
        uri=uri,
        settings=settings.jwks,
        fetch=fetch,
        clock=time.monotonic,
        wall=time.time,
        observe=_Silence(),
    )


class _Silence:
    """A KeyObserver for whom the outcome is enough."""

    def fetched(self, issuer: str, result: FetchResult, keys: int) -> None:
        """Ignore it."""

    def restored(self, issuer: str, keys: int, fetched_at: float, place: str) -> None:
        """Ignore it."""

    def rejected(self, issuer: str, why: str) -> None:
        """Ignore it."""
