"""One request's way to a decision, top to bottom.

1. A path, host or method that two programs could read differently is refused.
2. The policy set in force is borrowed once; the whole visit uses it.
3. The route is found: the one that Envoy named, else by host and path.
4. The token is found. None: the caller is anonymous, a fact for policies and no error.
5. A token verified before, under the same keys, is known.
6. Otherwise issuer and kid choose a key, and signature and claims are checked.
7. The policy decides. A bad token is judged as none, and is the reason where a caller is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from authz.errors import RequestError, TokenError
from authz.identity.claims import ClaimShapes
from authz.identity.cognito import UnverifiedToken, UserPool, peek, verify
from authz.identity.credentials import TokenPlace, find_credential
from authz.identity.verified import VerifiedTokens
from authz.model import Decision, Deny, Principal, Reason, Request
from authz.policy.criteria import Facts
from authz.policy.decision import decide
from authz.policy.parser import PolicySet
from authz.policy.path import Host, canonical_host, canonical_path, check_method
from authz.policy.routes import Route

if TYPE_CHECKING:
    from authz.identity.jwks import KeyStore


class TokenObserver(Protocol):
    """Counts what became of tokens."""

    def token(self, result: str) -> None:
        """Count one: `verified`, `cached`, or a reason."""
        ...


class Visit(NamedTuple):
    """What is known of one request after its decision: what the answer and the record are made of."""

    decision: Decision
    principal: Principal | None = None
    host: Host | None = None
    policies: PolicySet | None = None
    route: Route | None = None
    facts: Facts | None = None
    credential_error: TokenError | None = None


class Issuer(NamedTuple):
    """A user pool and its keys."""

    pool: UserPool
    keys: KeyStore


class Authenticator:
    """Request → Principal, or None for nobody; TokenError for a credential that is not good."""

    def __init__(
        self,
        *,
        places: Sequence[TokenPlace],
        issuers: Sequence[Issuer],
        verified: VerifiedTokens,
        shapes: ClaimShapes,
        observe: TokenObserver,
    ) -> None:
        self._places = tuple(places)
        self._issuers: Mapping[str, Issuer] = {name: issuer for issuer in issuers for name in issuer.pool.issuers}
        self._verified = verified
        self._shapes = shapes
        self._observe = observe

    async def authenticate(self, request: Request, now: float) -> Principal | None:
        """Say who is calling. Waits only for an unknown key, and then at most `jwks.timeout`."""
        try:
            credential = find_credential(request, self._places)
            if credential is None:
                return None
            known = self._verified.find(credential.token, now)
            if known is not None:
                self._observe.token("cached")
                return known
            principal = await self._verify(credential.token, now)
        except TokenError as error:
            self._observe.token(error.reason.value)
            raise
        self._observe.token("verified")
        return principal

    async def _verify(self, token: str, now: float) -> Principal:
        unverified: UnverifiedToken = peek(token)
        issuer = self._issuers.get(unverified.issuer)
        if issuer is None:
            raise TokenError(Reason.TOKEN_ISSUER_UNKNOWN, "no configured user pool issues such tokens")
        keys, key = await issuer.keys.find(unverified.kid)
        verified = verify(unverified, key, issuer.pool, now)
        principal = self._shapes.shape(verified.principal)
        self._verified.add(token, verified._replace(principal=principal), keys, lambda: issuer.keys.current)
        return principal


class Authorizer:
    """Decides requests. Built once; holds no state of its own between visits."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        policies: Callable[[], PolicySet | None],
        allow_path_parameters: bool,
    ) -> None:
        self._authenticator = authenticator
        self._policies = policies
        self._allow_path_parameters = allow_path_parameters

    async def authorize(self, request: Request, now: float) -> Visit:
        """Decide one request at `now` (wall-clock seconds since 1970). Raises nothing of its own."""
        policies = self._policies()
        if policies is None:
            return Visit(Deny(Reason.POLICY_UNAVAILABLE, detail="no policy set has been loaded yet"))
        try:
            check_method(request.method)
            host = canonical_host(request.host)
            path = canonical_path(request.path, allow_parameters=self._allow_path_parameters)
        except RequestError as error:
            return Visit(Deny(Reason.REQUEST_MALFORMED, detail=str(error)), policies=policies)
        route = find_route(policies, request, host, path)
        if route is None:
            return Visit(
                Deny(Reason.ROUTE_NOT_FOUND, detail=_missing_route(policies, request, host)), None, host, policies
            )
        principal, credential_error = None, None
        try:
            principal = await self._authenticator.authenticate(request, now)
        except TokenError as error:
            credential_error = error
        facts = Facts(request, path, principal, now)
        decision = decide(facts, route, credential_error)
        return Visit(decision, principal, host, policies, route, facts, credential_error)


def find_route(policies: PolicySet, request: Request, host: Host, path: str) -> Route | None:
    """Give the route that Envoy named, else the one that host and path belong to."""
    if request.route_id is not None:
        return policies.routes.find_by_id(request.route_id)
    return policies.routes.find(host, path)


def _missing_route(policies: PolicySet, request: Request, host: Host) -> str:
    if request.route_id is not None:
        return "Envoy named a route (`context_extensions`) whose `id` no policy has"
    if policies.routes.knows(host):
        return "there are routes for this host, and none takes this path or port"
    return "no route names this host"
