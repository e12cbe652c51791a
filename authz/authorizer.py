"""One request's way to a decision, top to bottom.

1. The policy set in force is borrowed once; the whole visit uses it.
2. A path, host or method that two programs could read differently is refused, and headers named as hop-by-hop.
3. The route is found: the one that Envoy named, else by host and path.
4. The token is found. None: the caller is anonymous, a fact for policies and no error.
5. A token verified before, under the same keys, is known.
6. Otherwise issuer and kid choose a key, and signature and claims are checked.
7. The ID token beside an access token, where the configuration names its place, is verified too and adds its claims.
8. A caller on the revocation list, known from before or not, has a bad token.
9. The policy decides. A bad token is judged as none, and is the reason where a caller is needed. Where it looks at
   nothing but the principal, the decision is remembered.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from authz.errors import RequestError, TokenError
from authz.identity.claims import ClaimShapes
from authz.identity.cognito import UnverifiedToken, UserPool, Verified, peek, verify
from authz.identity.credentials import TokenPlace, find_credential
from authz.identity.enrichment import check_issuer, enrich, for_id_tokens
from authz.identity.keys import KeySet, KeySource
from authz.identity.refused import RefusedTokens
from authz.identity.verified import Fingerprint, VerifiedTokens, fingerprint_of
from authz.model import Decision, Deny, Principal, Reason, Request, Source
from authz.policy.criterion import Facts
from authz.policy.decision import blame, decide
from authz.policy.explanation import guidance_for
from authz.policy.parser import PolicySet
from authz.policy.path import Host, canonical_host, canonical_path, check_connection, check_method
from authz.policy.remembered import Remembered, RememberedDecisions
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
    remembered: Remembered | None = None  # the decision comes again for this principal and route, and so may its answer


class Issuer(NamedTuple):
    """A user pool and its keys."""

    pool: UserPool
    keys: KeyStore


class _Checked(NamedTuple):
    """A token that was verified just now, under which keys, and who knows whether they are the current ones."""

    verified: Verified
    source: KeySource
    keys: KeySet


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
        enrich_from: TokenPlace | None = None,
        revoked: Callable[[Principal, float], Source | None] | None = None,
    ) -> None:
        """Say whom to believe.

        `revoked` says where a caller is revoked who is otherwise known; None: there is no revocation list.
        """
        self._places = tuple(places)
        self._enrich_from = enrich_from
        self._issuers: Mapping[str, Issuer] = {name: issuer for issuer in issuers for name in issuer.pool.issuers}
        self._verified = verified
        self._refused = RefusedTokens()
        self._shapes = shapes
        self._observe = observe
        self._revoked = revoked

    async def authenticate(self, request: Request, now: float) -> Principal | None:
        """Say who is calling. Waits only for unknown keys, and then at most `jwks.timeout` for each token."""
        try:
            credential = find_credential(request, self._places)
            if credential is None:
                return None  # an ID token alone is nobody: only `tokens` names places of credentials
            fingerprint = fingerprint_of(credential.token)
            principal = self._verified.find(fingerprint, now)
            if principal is None:
                principal = await self._newly_verified(credential.token, fingerprint, now)
            else:
                self._observe.token("cached")
            beside = None if self._enrich_from is None else self._id_token(request, self._enrich_from, principal)
            if beside is not None:
                principal = await self._enriched(credential.token, beside, now)
            # Every time, whatever is remembered: the list changes while tokens live.
            where = None if self._revoked is None else self._revoked(principal, now)
            if where is None:
                return principal
            raise revoked(where)
        except TokenError as error:
            self._observe.token(error.reason.value)
            raise

    def _id_token(self, request: Request, place: TokenPlace, principal: Principal) -> str | None:
        """Give the ID token that may add claims: only an access token lacks them."""
        if principal.token_use != "access":  # noqa: S105 - a kind of token
            return None
        presented = find_credential(request, (place,))
        return None if presented is None else presented.token

    async def _newly_verified(self, token: str, fingerprint: Fingerprint, now: float) -> Principal:
        checked = await self._verify(token, fingerprint, now)
        principal = self._remember(checked, fingerprint, len(token))
        self._observe.token("verified")
        return principal

    async def _enriched(self, token: str, id_token: str, now: float) -> Principal:
        """Give the principal of both tokens; any flaw of the second refuses the first as well."""
        of_both = fingerprint_of(token, id_token)
        known = self._verified.find(of_both, now)
        if known is not None:
            self._observe.token("cached")
            return known
        # Its claims as they were signed, before the configuration shaped them.
        access = await self._verify(token, fingerprint_of(token), now)
        identity = await self._verify(id_token, fingerprint_of(id_token), now, beside=access.verified.principal)
        both = identity._replace(verified=enrich(access.verified, identity.verified))
        self._observe.token("verified")
        if identity.keys is access.keys:
            return self._remember(both, of_both, len(token) + len(id_token))
        # The keys changed between the two: good for this request, and nothing to remember.
        return self._shapes.shape(both.verified.principal)

    async def _verify(
        self, token: str, fingerprint: Fingerprint, now: float, beside: Principal | None = None
    ) -> _Checked:
        """Verify a token; `beside`: the ID token that shall add claims to this principal."""
        kind = "credential" if beside is None else "beside"
        self._refused.check(fingerprint, kind, now)
        keys: KeySet | None = None
        source: KeySource | None = None
        try:
            unverified = peek(token)
            issuer, pool = self._issuer_of(unverified, beside)
            keys, key = await issuer.keys.find(unverified.kid)
            source = issuer.keys
            checked = _Checked(verify(unverified, key, pool, now), source, keys)
        except TokenError as error:
            if beside is not None:  # another error, raised from this one, would keep this frame in a cycle
                error.detail = f"the ID token beside it: {error.detail}"
            self._refused.add(fingerprint, kind, error, now, keys, source)
            raise
        return checked

    def _issuer_of(self, unverified: UnverifiedToken, beside: Principal | None) -> tuple[Issuer, UserPool]:
        issuer = self._issuers.get(unverified.issuer)
        if issuer is None:
            raise TokenError(Reason.TOKEN_ISSUER_UNKNOWN, "no configured user pool issues such tokens")
        pool = issuer.pool
        if beside is not None:
            check_issuer(unverified.issuer, beside)
            pool = for_id_tokens(pool)
        return issuer, pool

    def _remember(self, checked: _Checked, fingerprint: Fingerprint, characters: int) -> Principal:
        verified, source, keys = checked
        principal = self._shapes.shape(verified.principal)
        if principal is not verified.principal:
            verified = verified._replace(principal=principal)
        self._verified.add(fingerprint, verified, keys, source, characters)
        return principal


def revoked(where: Source) -> TokenError:
    """Give the error of a caller whom the revocation list names there."""
    return TokenError(Reason.TOKEN_REVOKED, f"revoked at {where}")


class Authorizer:
    """Decides requests. Built once; between visits it remembers decisions that would come out the same."""

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
        self._remembered = RememberedDecisions()
        self._remembered_under: Callable[[], PolicySet | None] = _no_policies

    async def authorize(self, request: Request, now: float) -> Visit:
        """Decide one request at `now` (wall-clock seconds since 1970). Raises nothing of its own."""
        policies = self._policies()
        if policies is None:
            return Visit(Deny(Reason.POLICY_UNAVAILABLE, detail="no policy set has been loaded yet"))
        try:
            check_method(request.method)
            host = canonical_host(request.host)
            path = canonical_path(request.path, allow_parameters=self._allow_path_parameters)
            if (connection := request.headers.get("connection")) is not None:
                check_connection(connection)
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
            credential_error = error.with_traceback(None)  # it holds this frame, which holds the error: a cycle
        facts = Facts(request, path, principal, now)
        if not route.policy.lasting:
            decision = _explained(decide(facts, route, credential_error), facts, route)
            return Visit(decision, principal, host, policies, route, facts, credential_error)
        memory = self._decisions_of(policies)
        remembered = memory.find(route, principal)
        if remembered is None:
            remembered = memory.add(route, principal, _explained(decide(facts, route), facts, route))
        if credential_error is not None:
            remembered = _blamed(memory, remembered, credential_error, facts)
        return Visit(remembered.decision, principal, host, policies, route, facts, credential_error, remembered)

    def _decisions_of(self, policies: PolicySet) -> RememberedDecisions:
        """Give the decisions that this policy set gave; those of another set are forgotten."""
        if self._remembered_under() is not policies:
            # Weakly: a replaced set of 10,000 routes is let go piece by piece, not here and at once (quiet.py).
            self._remembered, self._remembered_under = RememberedDecisions(), weakref.ref(policies)
        return self._remembered


def _blamed(memory: RememberedDecisions, nobody: Remembered, error: TokenError, facts: Facts) -> Remembered:
    """Give what somebody with a bad credential gets where this is what nobody gets."""
    route = nobody.route
    refused = memory.find_refused(route, error)
    if refused is None and (decision := blame(nobody.decision, error)) is not nobody.decision:
        refused = memory.add_refused(route, error, _explained(decision, facts, route))
    return nobody if refused is None else refused


def _explained(decision: Decision, facts: Facts, route: Route) -> Decision:
    """Give a denial what the policy's author tells whoever is refused so."""
    if isinstance(decision, Deny) and (guidance := guidance_for(decision, facts, route)) is not decision.guidance:
        return decision._replace(guidance=guidance)
    return decision


def _no_policies() -> PolicySet | None:
    return None


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
