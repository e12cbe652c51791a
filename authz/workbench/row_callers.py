"""Who is calling in a row of a policy test: a good token with the row's own claims on top, judged as the service would.

With a configuration:
1. A row that writes `iss` speaks of that pool. Otherwise it speaks of the first pool that takes its app client and kind
   of token, else of the first.
2. What the row leaves out is filled in from that pool, so that it contradicts nothing. What it writes may: a foreign
   app client or issuer, a time that has passed, a claim of another type get the reason that the service would give.
3. A caller whom the revocation list names has a bad token.

Without one, anybody's token counts until its `exp`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from authz.authorizer import Authenticator, revoked
from authz.errors import TokenError
from authz.identity.cognito import UnverifiedToken, UserPool, error_but_for_the_signature
from authz.identity.revocations import RevocationList
from authz.model import Json, Principal, Reason, Request
from authz.workbench.callers import principal_of_claims
from authz.workbench.expectations import Row
from authz.workbench.ground import Ground

DEFAULT_ISSUER: Final = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_TestPool1"
DEFAULT_CLIENT: Final = "test-client"
_ANY_POOL: Final = UserPool(
    issuers=(DEFAULT_ISSUER,),
    clients=None,
    token_use=frozenset({"access", "id"}),
    leeway=0,
    trust_unverified_email=False,
    label="any",
)
_SIGNED_IN_SECONDS: Final = 60  # ago
_LIFETIME_SECONDS: Final = 3600  # Cognito's default


class RowCaller(Authenticator):
    """Stands where tokens are verified: here the row says who is calling."""

    def __init__(
        self, row: Row, ground: Ground, revocations: RevocationList | None, trust_unverified_email: bool | None
    ) -> None:
        """Take the row's word. `trust_unverified_email` is the test file's; None: as the caller's pool does."""
        self._row = row
        self._ground = ground
        self._revocations = revocations
        self._trust = trust_unverified_email

    async def authenticate(self, request: Request, now: float) -> Principal | None:  # noqa: ARG002 - the row decides
        """Give the row's principal, or raise what is wrong with the token."""
        if self._row.token_error is not None:
            raise TokenError(self._row.token_error, "the test says so")
        if self._row.claims is None:
            return None
        who, written, pools = self._row.who, self._row.claims, self._ground.pools
        pool, claims = judged_token(who, written, now, pools) if pools else _good_token(who, written, now)
        trust = pool.trust_unverified_email if self._trust is None else self._trust
        principal = self._ground.shapes.shape(principal_of_claims(claims, trust_unverified_email=trust))
        where = None if self._revocations is None else self._revocations.find(principal, now)
        if where is None:
            return principal
        raise revoked(where)


def judged_token(
    who: str, written: Mapping[str, Json], now: float, pools: Sequence[UserPool]
) -> tuple[UserPool, Mapping[str, Json]]:
    """Give the pool that takes a token of these claims, and all claims of that token. Raises TokenError."""
    issuer = written.get("iss")
    tokens = [(pool, _claims(who, written, now, pool)) for pool in pools if issuer is None or issuer in pool.issuers]
    if not tokens:
        raise TokenError(Reason.TOKEN_ISSUER_UNKNOWN, "no configured user pool issues such tokens")
    judged = [(error_but_for_the_signature(_unsigned(claims), pool, now), pool, claims) for pool, claims in tokens]
    own = (one for one in judged if one[0] is None or one[0].reason not in _ANOTHER_POOLS)
    error, pool, claims = next(own, judged[0])
    if error is not None:
        raise error
    return pool, claims


_ANOTHER_POOLS: Final = frozenset({Reason.TOKEN_USE_REFUSED, Reason.TOKEN_CLIENT_REFUSED})


def _good_token(who: str, written: Mapping[str, Json], now: float) -> tuple[UserPool, Mapping[str, Json]]:
    """Give the claims of anybody's token. Raises TokenError when it has expired."""
    claims = _claims(who, written, now, _ANY_POOL)
    expires = claims.get("exp")
    if isinstance(expires, int) and expires <= now:
        raise TokenError(Reason.TOKEN_EXPIRED, "the principal's `exp` has passed")
    return _ANY_POOL, claims


def _unsigned(claims: Mapping[str, Json]) -> UnverifiedToken:
    return UnverifiedToken(str(claims["iss"]), "", b"", b"", claims)


def _claims(who: str, written: Mapping[str, Json], now: float, pool: UserPool) -> Mapping[str, Json]:
    """Give the claims of a good token of the pool, with the written ones on top."""
    token_use = written.get("token_use") or _usual_use(written, pool)
    client = DEFAULT_CLIENT if not pool.clients else min(pool.clients)
    is_id = token_use == "id"  # noqa: S105 - a kind of token
    claims: dict[str, Json] = {
        "sub": who,
        "iss": pool.issuers[0],
        "token_use": token_use,
        "aud" if is_id else "client_id": client,
        "auth_time": int(now) - _SIGNED_IN_SECONDS,
        "iat": int(now) - _SIGNED_IN_SECONDS,
        "exp": int(now) - _SIGNED_IN_SECONDS + _LIFETIME_SECONDS,
    }
    if written.get("sub") is None or written["sub"] != written.get("client_id"):
        claims["cognito:username" if is_id else "username"] = who
    claims.update(written)
    return {name: value for name, value in claims.items() if value is not None}


def _usual_use(written: Mapping[str, Json], pool: UserPool) -> str:
    """Give the kind of token where the row does not say: ID tokens carry no `client_id`."""
    return "id" if pool.token_use == {"id"} and "client_id" not in written else "access"
