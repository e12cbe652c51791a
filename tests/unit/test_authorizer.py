"""One request's way to a decision, without a network: who is asked, in which order, and what becomes of errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from authz.authorizer import Authenticator, Authorizer, Issuer, Visit
from authz.errors import TokenError
from authz.identity.claims import ClaimShapes
from authz.identity.credentials import TokenPlace
from authz.identity.jwks import KeySet
from authz.identity.verified import VerifiedTokens
from authz.model import Allow, Deny, Reason, Request
from authz.policy.parser import PolicySet
from tests.support.policies import policy_set
from tests.support.user_pool import ALICE, NOW, FakeUserPool, rsa_key

POLICIES = """
- from: https://app.example.com
  id: public
  prefix: /public
  allow_public_unauthenticated_access: true
- from: https://app.example.com
  id: admins
  allowed_idp_claims: {cognito:groups: [admins]}
"""


class Keys:
    """Plays the KeyStore: the pool's keys, or none; counts how often it is asked."""

    def __init__(self, pool: FakeUserPool) -> None:
        self.current: KeySet | None = KeySet(pool.keys)
        self.asked: list[str] = []

    async def find(self, kid: str) -> tuple[KeySet, Any]:
        self.asked.append(kid)
        if self.current is None:
            raise TokenError(Reason.KEYS_UNAVAILABLE, "there are no keys of the issuer, or they are too old")
        if kid not in self.current.keys:
            raise TokenError(Reason.TOKEN_KEY_UNKNOWN, "the issuer has no key with the token's kid")
        return self.current, self.current.keys[kid]


class Stand:
    """An Authorizer with everything around it in sight."""

    def __init__(self, **changes: Any) -> None:
        self.pool = FakeUserPool()
        self.keys = Keys(self.pool)
        self.tokens: list[str] = []
        self.policies: PolicySet | None = policy_set(POLICIES)
        self.authorizer = Authorizer(
            authenticator=Authenticator(
                places=changes.get("places", (TokenPlace("header", "authorization"),)),
                issuers=[Issuer(self.pool.trust(), self.keys)],  # type: ignore[arg-type]
                verified=VerifiedTokens(max_entries=10, max_bytes=1_000_000),
                shapes=changes.get("shapes", ClaimShapes()),
                observe=self,
            ),
            policies=lambda: self.policies,
            allow_path_parameters=changes.get("allow_path_parameters", False),
        )

    def token(self, result: str) -> None:
        self.tokens.append(result)

    async def visit(self, token: str | None = None, now: float = NOW, **fields: Any) -> Visit:
        headers = {} if token is None else {"authorization": (f"Bearer {token}",)}
        request = Request("GET", "app.example.com", "/", headers)._replace(**fields)
        return await self.authorizer.authorize(request, now)


async def reason_of(stand: Stand, *arguments: Any, **fields: Any) -> Reason:
    return (await stand.visit(*arguments, **fields)).decision.reason


class TestOrder:
    async def test_a_good_token_in_the_right_group_is_allowed(self) -> None:
        stand = Stand()
        visit = await stand.visit(stand.pool.token(groups=["admins"]))
        assert isinstance(visit.decision, Allow)
        assert visit.decision.route.label == "admins"
        assert visit.principal is not None
        assert visit.principal.subject == ALICE
        assert visit.policies is stand.policies
        assert visit.credential_error is None

    async def test_without_policies_nothing_else_is_asked(self) -> None:
        stand = Stand()
        stand.policies = None
        visit = await stand.visit(stand.pool.token(), host="a,b")
        assert visit.decision == Deny(Reason.POLICY_UNAVAILABLE, detail="no policy set has been loaded yet")
        assert stand.tokens == []

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"method": "get"}, id="lower-case method"),
            pytest.param({"method": ""}, id="no method"),
            pytest.param({"host": "a,b"}, id="two hosts"),
            pytest.param({"host": ""}, id="no host"),
            pytest.param({"path": "/../"}, id="dot segment"),
            pytest.param({"path": ""}, id="no path"),
            pytest.param({"path": "/a;b"}, id="a parameter"),
        ],
    )
    async def test_what_cannot_be_judged_is_refused_before_the_token_is_looked_at(self, fields: dict[str, str]) -> None:
        stand = Stand()
        visit = await stand.visit("hopeless", **fields)
        assert visit.decision.reason is Reason.REQUEST_MALFORMED
        assert visit.policies is stand.policies
        assert stand.tokens == []

    async def test_path_parameters_pass_where_they_are_allowed(self) -> None:
        stand = Stand(allow_path_parameters=True)
        assert await reason_of(stand, path="/public;v=1") is Reason.ACCEPT

    @pytest.mark.parametrize(
        ("fields", "detail"),
        [
            ({"host": "other.example.com"}, "no route names this host"),
            ({"route_id": "nobody"}, "Envoy named a route (`context_extensions`) whose `id` no policy has"),
            ({"route_id": ""}, "Envoy named a route (`context_extensions`) whose `id` no policy has"),
        ],
        ids=["unknown host", "unknown id", "empty id"],
    )
    async def test_without_a_route_the_token_is_not_looked_at(self, fields: dict[str, str], detail: str) -> None:
        stand = Stand()
        visit = await stand.visit(stand.pool.token(), **fields)
        assert visit.decision == Deny(Reason.ROUTE_NOT_FOUND, detail=detail)
        assert visit.host is not None
        assert stand.tokens == []

    async def test_a_host_that_is_known_says_so(self) -> None:
        stand = Stand()
        stand.policies = policy_set("- {from: 'https://app.example.com', path: /x, allow_any_authenticated_user: true}")
        decision = (await stand.visit()).decision
        assert isinstance(decision, Deny)
        assert decision.detail == "there are routes for this host, and none takes this path or port"

    async def test_the_route_that_envoy_names_is_judged_whatever_the_path(self) -> None:
        stand = Stand()
        visit = await stand.visit(route_id="admins", path="/public")
        assert visit.decision.reason is Reason.USER_UNAUTHENTICATED
        assert await reason_of(stand, route_id="public", path="/") is Reason.ACCEPT

    async def test_a_named_route_does_not_excuse_a_path_that_cannot_be_judged(self) -> None:
        assert await reason_of(Stand(), route_id="public", path="/a/../b") is Reason.REQUEST_MALFORMED


class TestTokens:
    async def test_the_second_time_it_is_known_without_asking_for_keys(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"])
        for _ in range(2):
            assert await reason_of(stand, token) is Reason.CLAIM_OK
        assert stand.tokens == ["verified", "cached"]
        assert len(stand.keys.asked) == 1

    async def test_a_known_token_ends_with_its_exp(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"], exp=NOW + 10)
        assert await reason_of(stand, token, NOW) is Reason.CLAIM_OK
        assert await reason_of(stand, token, NOW + 10) is Reason.TOKEN_EXPIRED
        assert stand.tokens == ["verified", "token-expired"]

    async def test_a_known_token_ends_with_its_keys(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"])
        assert await reason_of(stand, token) is Reason.CLAIM_OK
        stand.pool.rotate()
        stand.keys.current = KeySet(stand.pool.keys)
        assert await reason_of(stand, token) is Reason.TOKEN_KEY_UNKNOWN
        stand.keys.current = None
        assert await reason_of(stand, token) is Reason.KEYS_UNAVAILABLE

    async def test_a_known_token_is_decided_anew_on_every_route(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["devs"])
        assert await reason_of(stand, token, path="/public") is Reason.ACCEPT
        assert await reason_of(stand, token) is Reason.CLAIM_UNAUTHORIZED
        assert stand.tokens == ["verified", "cached"]

    async def test_an_unknown_issuer_never_asks_for_keys(self) -> None:
        stand = Stand()
        assert await reason_of(stand, stand.pool.token(iss="https://evil.example")) is Reason.TOKEN_ISSUER_UNKNOWN
        assert stand.keys.asked == []

    async def test_a_key_of_another_name_does_not_help(self) -> None:
        stand = Stand()
        forged = stand.pool.token(key=rsa_key("forger"), header={"kid": next(iter(stand.pool.keys))})
        visit = await stand.visit(forged)
        assert visit.decision.reason is Reason.TOKEN_SIGNATURE_INVALID
        assert visit.principal is None
        assert visit.credential_error is not None

    async def test_a_bad_token_is_judged_as_none_on_a_public_route_and_counted(self) -> None:
        stand = Stand()
        visit = await stand.visit("hopeless", path="/public")
        assert visit.decision == Allow(visit.decision.route, (Reason.ACCEPT,), None)  # type: ignore[arg-type]
        assert stand.tokens == ["token-malformed"]

    async def test_nobody_is_counted_as_nothing(self) -> None:
        stand = Stand()
        assert await reason_of(stand) is Reason.USER_UNAUTHENTICATED
        assert stand.tokens == []

    async def test_claims_are_shaped_before_they_are_remembered(self) -> None:
        stand = Stand(shapes=ClaimShapes(splits={"cognito:groups": "[,]"}))
        token = stand.pool.token(**{"cognito:groups": "[devs,admins]"})
        assert [await reason_of(stand, token) for _ in range(2)] == [Reason.CLAIM_OK] * 2

    async def test_a_cancelled_call_is_cancelled(self) -> None:
        stand = Stand()

        async def forever(_: str) -> Any:
            await asyncio.Event().wait()

        stand.keys.find = forever  # type: ignore[method-assign]
        call = asyncio.create_task(stand.visit(stand.pool.token()))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert stand.tokens == []
