"""One row of a policy test: judged through the authorizer itself, and compared with what it expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from authz.authorizer import Authenticator, Authorizer, Visit
from authz.errors import TokenError
from authz.identity.cognito import UserPool
from authz.model import Allow, Deny, Json, Principal, Reason, Request, http_status
from authz.policy.explanation import Explanation, explain
from authz.policy.parser import PolicySet
from authz.transport.envoy import Answers, Stamp
from authz.workbench.callers import principal_of_claims
from authz.workbench.expectations import Row
from authz.workbench.expected import Expected
from authz.workbench.ground import Ground

DEFAULT_ISSUER: Final = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_TestPool1"
DEFAULT_CLIENT: Final = "test-client"
_SIGNED_IN_SECONDS: Final = 60  # ago
_LIFETIME_SECONDS: Final = 3600  # Cognito's default


class HeaderChanges(NamedTuple):
    """What an allowed request's headers become."""

    set: Mapping[str, str]
    removed: tuple[str, ...]


class Difference(NamedTuple):
    """One thing that is not as expected."""

    expected: str
    got: str


class Check(NamedTuple):
    """One row after its judgement. It passed if there is no difference."""

    row: Row
    visit: Visit
    headers: HeaderChanges
    differences: tuple[Difference, ...]
    explanation: Explanation | None  # None when no route was judged

    @property
    def passed(self) -> bool:
        """Whether all is as expected."""
        return not self.differences


async def check(row: Row, policies: PolicySet, ground: Ground, trust_unverified_email: bool | None) -> Check:
    """Judge one row. `trust_unverified_email` is what the test file says; None: as the ground does."""
    authorizer = Authorizer(
        authenticator=_KnownCaller(row, trust_unverified_email, ground),
        policies=lambda: policies,
        allow_path_parameters=ground.allow_path_parameters,
    )
    visit = await authorizer.authorize(row.request, row.now)
    explanation = None
    if visit.route is not None and visit.facts is not None:
        explanation = explain(visit.facts, visit.route, visit.credential_error)
    headers = _header_changes(row, visit, ground)
    return Check(row, visit, headers, tuple(_differences(row.expected, visit, headers)), explanation)


class _KnownCaller(Authenticator):
    """Stands where tokens are verified: here the row says who is calling."""

    def __init__(self, row: Row, trust_unverified_email: bool | None, ground: Ground) -> None:
        self._row = row
        self._trust = trust_unverified_email
        self._ground = ground

    async def authenticate(self, request: Request, now: float) -> Principal | None:  # noqa: ARG002 - the row decides
        """Give the row's principal, or raise what is wrong with the token."""
        if self._row.token_error is not None:
            raise TokenError(self._row.token_error, "the test says so")
        if self._row.claims is None:
            return None
        claims = _claims(self._row, self._ground.pools)
        expires = claims.get("exp")
        if isinstance(expires, int) and expires <= now:
            raise TokenError(Reason.TOKEN_EXPIRED, "the principal's `exp` has passed")
        return self._ground.shapes.shape(_principal(claims, self._ground.pools, self._trust))


def _claims(row: Row, pools: Sequence[UserPool]) -> Mapping[str, Json]:
    """Give the claims of a good token, with the row's own on top."""
    written = row.claims or {}
    name = row.who
    pool = pools[0] if pools else None
    token_use = written.get("token_use") or ("id" if pool is not None and pool.token_use == {"id"} else "access")
    client = next(iter(sorted(pool.clients))) if pool is not None and pool.clients else DEFAULT_CLIENT
    is_id = token_use == "id"  # noqa: S105 - a kind of token
    claims: dict[str, Json] = {
        "sub": name,
        "iss": DEFAULT_ISSUER if pool is None else pool.issuers[0],
        "token_use": token_use,
        "aud" if is_id else "client_id": client,
        "auth_time": int(row.now) - _SIGNED_IN_SECONDS,
        "iat": int(row.now) - _SIGNED_IN_SECONDS,
        "exp": int(row.now) - _SIGNED_IN_SECONDS + _LIFETIME_SECONDS,
    }
    if written.get("sub") is None or written["sub"] != written.get("client_id"):
        claims["cognito:username" if is_id else "username"] = name
    claims.update(written)
    return {name: value for name, value in claims.items() if value is not None}


def _principal(claims: Mapping[str, Json], pools: Sequence[UserPool], trust_unverified_email: bool | None) -> Principal:
    """Make the principal as verification would: an address counts when it is verified, or its pool trusts it."""
    if trust_unverified_email is None:
        pool = next((pool for pool in pools if claims["iss"] in pool.issuers), None)
        trust_unverified_email = pool is not None and pool.trust_unverified_email
    return principal_of_claims(claims, trust_unverified_email=trust_unverified_email)


def _header_changes(row: Row, visit: Visit, ground: Ground) -> HeaderChanges:
    if not isinstance(visit.decision, Allow):
        return HeaderChanges({}, ())
    answer = Answers(ground.answers).answer(row.request, visit.decision, Stamp(decision_id=""))
    ok = answer.response.ok_response
    return HeaderChanges({option.header.key: option.header.value for option in ok.headers}, tuple(ok.headers_to_remove))


# --- comparing ----------------------------------------------------------------------------------------------------


def outcome_text(visit: Visit) -> str:
    """Write what was decided as an expectation would: `403 claim-unauthorized`."""
    decision = visit.decision
    outcome = str(http_status(decision.reason)) if isinstance(decision, Deny) else "allow"
    return " ".join((outcome, *decision.reasons))


def route_label(visit: Visit) -> str | None:
    """Give the label of the route that was judged."""
    return None if visit.route is None else visit.route.name.label


def _differences(expected: Expected, visit: Visit, headers: HeaderChanges) -> Iterator[Difference]:
    if not _is_as_expected(expected, visit):
        yield Difference(str(expected), outcome_text(visit))
    label = route_label(visit)
    if expected.route is not None and expected.route.text != label:
        yield Difference(f"route {expected.route.text}", "no route" if label is None else f"route {label}")
    for name, value in expected.headers_set:
        if headers.set.get(name) != value:
            yield Difference(f"set {name}: {value}", _fate(name, headers))
    for name in expected.headers_removed:
        if name not in headers.removed:
            yield Difference(f"removed {name}", _fate(name, headers))


def _is_as_expected(expected: Expected, visit: Visit) -> bool:
    decision = visit.decision
    if isinstance(decision, Allow) is not expected.allowed:
        return False
    if expected.status is not None and http_status(decision.reason) != expected.status:
        return False
    reasons = expected.reasons
    return not reasons or (reasons[0] is decision.reason and set(reasons) <= set(decision.reasons))


def _fate(name: str, headers: HeaderChanges) -> str:
    if name in headers.set:
        return f"set {name}: {headers.set[name]}"
    return f"removed {name}" if name in headers.removed else f"{name} is left as it came"
