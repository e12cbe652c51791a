"""One request's way to a decision, without a network: who is asked, in which order, and what becomes of errors."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from authz.authorizer import Authenticator, Authorizer, Issuer, Visit
from authz.errors import TokenError
from authz.identity.claims import ClaimShapes
from authz.identity.credentials import TokenPlace
from authz.identity.keys import KeySet
from authz.identity.verified import BYTES_PER_CHARACTER, ENTRY_BYTES, VerifiedTokens
from authz.model import Allow, Decision, Deny, Principal, Reason, Request, Source
from authz.policy.criterion import Facts
from authz.policy.decision import decide
from authz.policy.explanation import guidance_for
from authz.policy.parser import PolicySet
from authz.policy.routes import Route
from tests.support.policies import policy_set
from tests.support.user_pool import ALICE, NOW, FakeUserPool, kid_of, rsa_key

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
        self.meanwhile: Callable[[], object] = lambda: None

    async def find(self, kid: str) -> tuple[KeySet, Any]:
        self.asked.append(kid)
        current = self.current
        if current is None:
            raise TokenError(Reason.KEYS_UNAVAILABLE, "there are no keys of the issuer, or they are too old")
        if kid not in current.keys:
            raise TokenError(Reason.TOKEN_KEY_UNKNOWN, "the issuer has no key with the token's kid")
        key = current.keys[kid]
        self.meanwhile()
        return current, key


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
                issuers=[
                    Issuer(self.pool.trust(**changes.get("trust", {})), self.keys),  # type: ignore[arg-type]
                    *changes.get("issuers", ()),
                ],
                verified=changes.get("verified", VerifiedTokens(max_entries=10, max_bytes=1_000_000)),
                shapes=changes.get("shapes", ClaimShapes()),
                observe=self,
                enrich_from=changes.get("enrich_from"),
                revoked=changes.get("revoked"),
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


class TestMeanwhile:
    """A call that waits for a key lets others have their turn, and anything may change."""

    async def test_a_known_token_waits_for_no_key(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"])
        for _ in range(2):
            assert await reason_of(stand, token) is Reason.CLAIM_OK
        assert len(stand.keys.asked) == 1

    async def test_keys_that_change_meanwhile_leave_nothing_to_remember(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"])

        def rotate() -> None:
            stand.pool.rotate()
            stand.keys.current = KeySet(stand.pool.keys)

        stand.keys.meanwhile = rotate
        assert await reason_of(stand, token) is Reason.CLAIM_OK
        assert await reason_of(stand, token) is Reason.TOKEN_KEY_UNKNOWN

    async def test_policies_that_change_meanwhile_are_for_the_next(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"])
        stand.keys.meanwhile = lambda: setattr(stand, "policies", None)
        assert await reason_of(stand, token) is Reason.CLAIM_OK
        assert await reason_of(stand, token) is Reason.POLICY_UNAVAILABLE

    async def test_who_is_revoked_meanwhile_is_refused(self) -> None:
        listed: list[Source] = []
        stand = Stand(revoked=lambda _principal, _now: listed[-1] if listed else None)
        stand.keys.meanwhile = lambda: listed.append(Source("list.yaml", 1, 1))
        assert await reason_of(stand, stand.pool.token(groups=["admins"])) is Reason.TOKEN_REVOKED

    async def test_a_wait_that_fails_lets_nobody_in(self) -> None:
        stand = Stand()
        stand.keys.meanwhile = lambda: 1 / 0
        with pytest.raises(ZeroDivisionError):  # the door denies whatever it is
            await stand.visit(stand.pool.token(groups=["admins"]))


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

    @pytest.mark.parametrize(
        ("connection", "reason"),
        [
            pytest.param("Upgrade, x-auth-subject", Reason.REQUEST_MALFORMED, id="which takes a header away"),
            pytest.param("Upgrade", Reason.ACCEPT, id="which takes none"),
        ],
    )
    async def test_an_upgrade(self, connection: str, reason: Reason) -> None:
        assert await reason_of(Stand(), path="/public", headers={"connection": (connection,)}) is reason

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


ID_HEADER = TokenPlace("header", "x-auth-id-token")
ID_COOKIE = TokenPlace("cookie", "IdToken")
ACCESS_ONLY = {"token_use": frozenset({"access"})}
CHIEF = """
- from: https://app.example.com
  id: public
  prefix: /public
  allow_public_unauthenticated_access: true
- from: https://app.example.com
  id: mail
  prefix: /mail
  allowed_users: [alice@example.com]
- from: https://app.example.com
  id: chief
  allowed_idp_claims: {custom:rank: [chief]}
"""


class Session(Stand):
    """A Stand where ID tokens add claims to the access tokens of a pool that accepts no others."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(**{"enrich_from": ID_HEADER, "trust": ACCESS_ONLY, **changes})
        self.policies = policy_set(CHIEF)

    async def both(self, access: str | None, *id_tokens: str, now: float = NOW, **fields: Any) -> Visit:
        headers: dict[str, tuple[str, ...]] = {"x-auth-id-token": id_tokens} if id_tokens else {}
        if access is not None:
            headers["authorization"] = (f"Bearer {access}",)
        return await self.visit(None, now, headers=headers, **fields)

    def chief(self, **claims: Any) -> str:
        return self.pool.id_token(**{"custom:rank": "chief", **claims})


class TestGarbage:
    """What a visit leaves behind is freed at once: the collector finds it late, and holds everybody up meanwhile."""

    @pytest.mark.parametrize(
        "token",
        [
            None,
            "garbage",
            FakeUserPool().token(groups=["admins"]),
            FakeUserPool().token(),
            FakeUserPool().token(now=NOW - 7200),
            FakeUserPool().token(header={"kid": "unknown"}),
            FakeUserPool().token()[:-8] + "AAAAAAAA",
            FakeUserPool(pool_id="eu-west-1_ZyXwVuTsR").token(),
        ],
        ids=["none", "malformed", "allowed", "refused", "expired", "unknown kid", "bad signature", "foreign"],
    )
    async def test_no_visit_leaves_a_cycle(self, token: str | None) -> None:
        stand = Stand()
        for _ in range(2):  # what is made at first use
            await stand.visit(token)
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await stand.visit(token)
            assert gc.collect() == 0
        finally:
            gc.enable()


def reason(visit: Visit) -> Reason:
    return visit.decision.reason


class TestBothTokens:
    async def test_the_id_token_adds_its_claims_to_the_access_token(self) -> None:
        stand = Session()
        visit = await stand.both(stand.pool.token(), stand.chief())
        assert isinstance(visit.decision, Allow)
        assert visit.principal is not None
        assert (visit.principal.token_use, visit.principal.email) == ("access", "alice@example.com")
        assert stand.tokens == ["verified", "verified"]
        assert reason(await stand.both(stand.pool.token(), stand.chief(), path="/mail")) is Reason.EMAIL_OK

    async def test_it_may_stand_in_a_cookie(self) -> None:
        stand = Session(enrich_from=ID_COOKIE)
        cookie = f"a=1; IdToken={stand.chief()}"
        headers = {"authorization": (f"Bearer {stand.pool.token()}",), "cookie": (cookie,)}
        assert reason(await stand.visit(headers=headers)) is Reason.CLAIM_OK

    async def test_the_second_time_both_are_known_without_asking_for_keys(self) -> None:
        stand = Session()
        for _ in range(2):
            assert reason(await stand.both(stand.pool.token(), stand.chief())) is Reason.CLAIM_OK
            asked = len(stand.keys.asked)
        assert stand.tokens == ["verified", "verified", "cached", "cached"]
        assert len(stand.keys.asked) == asked == 3

    @pytest.mark.parametrize(("spare", "remembered"), [(0, 2), (-1, 1)])
    async def test_both_are_remembered_by_the_length_of_both(self, spare: int, remembered: int) -> None:
        access, id_token = Session().pool.token(), Session().chief()
        characters = len(access) + len(access + id_token)
        verified = VerifiedTokens(max_entries=10, max_bytes=2 * ENTRY_BYTES + BYTES_PER_CHARACTER * characters + spare)
        assert reason(await Session(verified=verified).both(access, id_token)) is Reason.CLAIM_OK
        assert len(verified) == remembered

    async def test_without_an_id_token_the_principal_stays_as_it_is(self) -> None:
        stand = Session()
        assert reason(await stand.both(stand.pool.token(), stand.chief())) is Reason.CLAIM_OK
        assert reason(await stand.both(stand.pool.token())) is Reason.CLAIM_UNAUTHORIZED
        assert reason(await stand.both(stand.pool.token(), "")) is Reason.CLAIM_UNAUTHORIZED

    async def test_an_id_token_alone_is_nobody(self) -> None:
        stand = Session()
        visit = await stand.both(None, stand.chief())
        assert (reason(visit), visit.principal) == (Reason.USER_UNAUTHENTICATED, None)
        assert stand.tokens == []

    async def test_an_id_token_as_the_credential_gets_no_further_claims(self) -> None:
        stand = Session(trust={})
        assert reason(await stand.both(stand.pool.id_token(), stand.chief())) is Reason.CLAIM_UNAUTHORIZED
        assert reason(await stand.both(stand.pool.id_token(), "hopeless")) is Reason.CLAIM_UNAUTHORIZED

    async def test_without_the_setting_the_header_is_any_header(self) -> None:
        stand = Session(enrich_from=None)
        assert reason(await stand.both(stand.pool.token(), stand.chief())) is Reason.CLAIM_UNAUTHORIZED
        assert reason(await stand.both(stand.pool.token(), "hopeless")) is Reason.CLAIM_UNAUTHORIZED

    @pytest.mark.parametrize(
        ("broken", "expected"),
        [
            ({"exp": NOW}, Reason.TOKEN_EXPIRED),
            ({"nbf": NOW + 1}, Reason.TOKEN_NOT_YET_VALID),
            ({"iss": "https://evil.example"}, Reason.TOKEN_ISSUER_UNKNOWN),
            ({"aud": "another-client"}, Reason.TOKEN_CLIENT_REFUSED),
            ({"aud": [FakeUserPool().client_id]}, Reason.TOKEN_CLAIM_INVALID),
            ({"token_use": "access", "client_id": FakeUserPool().client_id}, Reason.TOKEN_USE_REFUSED),
            ({"key": rsa_key("forger")}, Reason.TOKEN_KEY_UNKNOWN),
            ({"header": {"alg": "none"}}, Reason.TOKEN_ALGORITHM_REFUSED),
            ({"sub": "somebody-else"}, Reason.TOKEN_CLAIM_INVALID),
            ({"origin_jti": "another-sign-in"}, Reason.TOKEN_CLAIM_INVALID),
        ],
        ids=[
            "expired", "not yet valid", "a stranger's", "of a client that is not accepted", "of a list of clients",
            "an access token", "signed by a forger", "unsigned", "of another user", "of another sign-in",
        ],
    )  # fmt: skip
    async def test_one_that_is_not_good_refuses_the_credential_as_a_whole(
        self, broken: dict[str, Any], expected: Reason
    ) -> None:
        stand = Session()
        access = stand.pool.token(**{"custom:rank": "chief"})  # which alone would do
        assert reason(await stand.both(access)) is Reason.CLAIM_OK
        visit = await stand.both(access, stand.chief(**broken))
        assert (reason(visit), visit.principal) == (expected, None)
        assert stand.tokens[-1] == expected.value
        for again in (visit, await stand.both(access, stand.chief(**broken))):
            assert again.credential_error is not None
            assert "ID token" in again.credential_error.detail, "an operator would look at the first token"
        assert reason(await stand.both(access, stand.chief(**broken), path="/public")) is Reason.ACCEPT
        assert reason(await stand.both(access)) is Reason.CLAIM_OK

    async def test_a_forged_signature_is_found(self) -> None:
        stand = Session()
        header = {"kid": kid_of(stand.pool.id_key)}
        forged = stand.chief(key=rsa_key("forger"), header=header)
        assert reason(await stand.both(stand.pool.token(), forged)) is Reason.TOKEN_SIGNATURE_INVALID

    @pytest.mark.parametrize(
        ("id_tokens", "expected"),
        [
            (("hopeless",), Reason.TOKEN_MALFORMED),
            (("a.b.c", "a.b.c"), Reason.TOKEN_AMBIGUOUS),
            (("a.b.c,a.b.c",), Reason.TOKEN_AMBIGUOUS),
        ],
        ids=["no token", "two headers", "two in one header"],
    )
    async def test_what_cannot_be_read_is_refused(self, id_tokens: tuple[str, ...], expected: Reason) -> None:
        stand = Session()
        assert reason(await stand.both(stand.pool.token(), *id_tokens)) is expected

    async def test_another_accepted_clients_id_token_is_refused(self) -> None:
        stand = Session(trust={**ACCESS_ONLY, "clients": None})
        visit = await stand.both(stand.pool.token(), stand.chief(aud="another-client"))
        assert reason(visit) is Reason.TOKEN_CLAIM_INVALID
        assert visit.credential_error is not None
        assert "`aud`" in visit.credential_error.detail

    async def test_another_accepted_pools_id_token_is_refused_before_its_keys_are_asked_for(self) -> None:
        other = FakeUserPool(pool_id="eu-west-1_Other0000")
        others = Keys(other)
        stand = Session(issuers=[Issuer(other.trust(), others)])  # type: ignore[arg-type]
        visit = await stand.both(stand.pool.token(), other.id_token(**{"custom:rank": "chief"}))
        assert reason(visit) is Reason.TOKEN_CLAIM_INVALID
        assert visit.credential_error is not None
        assert "`iss`" in visit.credential_error.detail
        assert others.asked == []

    async def test_a_bad_access_token_is_the_reason_whatever_stands_beside_it(self) -> None:
        stand = Session()
        assert reason(await stand.both(stand.pool.token(exp=NOW), stand.chief())) is Reason.TOKEN_EXPIRED
        assert reason(await stand.both(stand.pool.id_token(), stand.chief())) is Reason.TOKEN_USE_REFUSED
        assert len(stand.keys.asked) == 2  # for the first tokens alone

    async def test_known_claims_never_stick_to_another_access_token(self) -> None:
        stand = Session()
        id_token = stand.chief()
        assert reason(await stand.both(stand.pool.token(), id_token)) is Reason.CLAIM_OK
        bob = stand.pool.token(sub="bob", username="bob")
        assert reason(await stand.both(bob, id_token)) is Reason.TOKEN_CLAIM_INVALID
        assert reason(await stand.both(bob)) is Reason.CLAIM_UNAUTHORIZED
        later = stand.pool.token(origin_jti="another-sign-in")
        assert reason(await stand.both(later, id_token)) is Reason.TOKEN_CLAIM_INVALID
        assert reason(await stand.both(stand.pool.token(), stand.pool.id_token())) is Reason.CLAIM_UNAUTHORIZED

    async def test_what_is_known_ends_with_the_token_that_ends_first(self) -> None:
        stand = Session()
        tokens = stand.pool.token(), stand.chief(exp=NOW + 10)
        assert reason(await stand.both(*tokens)) is Reason.CLAIM_OK
        assert reason(await stand.both(*tokens, now=NOW + 9)) is Reason.CLAIM_OK
        assert reason(await stand.both(*tokens, now=NOW + 10)) is Reason.TOKEN_EXPIRED
        tokens = stand.pool.token(exp=NOW + 10), stand.chief()
        assert reason(await stand.both(*tokens)) is Reason.CLAIM_OK
        assert reason(await stand.both(*tokens, now=NOW + 10)) is Reason.TOKEN_EXPIRED

    async def test_what_is_known_ends_with_the_keys(self) -> None:
        stand = Session()
        tokens = stand.pool.token(), stand.chief()
        assert reason(await stand.both(*tokens)) is Reason.CLAIM_OK
        stand.pool.rotate()
        stand.keys.current = KeySet(stand.pool.keys)
        assert reason(await stand.both(*tokens)) is Reason.TOKEN_KEY_UNKNOWN

    async def test_keys_that_change_between_the_two_tokens_are_nothing_to_remember(self) -> None:
        stand = Session()
        ask = stand.keys.find

        async def changing(kid: str) -> tuple[KeySet, Any]:
            if kid == kid_of(stand.pool.id_key):
                stand.keys.current = KeySet(stand.pool.keys)
            return await ask(kid)

        stand.keys.find = changing  # type: ignore[method-assign]
        for _ in range(2):
            assert reason(await stand.both(stand.pool.token(), stand.chief())) is Reason.CLAIM_OK
        assert "cached" not in stand.tokens

    async def test_the_merged_claims_are_shaped_as_the_configuration_says(self) -> None:
        shapes = ClaimShapes(splits={"custom:rank": "[,]"}, aliases={"name": ["cognito:username", "username"]})
        stand = Session(shapes=shapes)
        id_token = stand.pool.id_token(**{"custom:rank": "[chief,cook]", "cognito:username": "Alice"})
        visit = await stand.both(stand.pool.token(), id_token)
        assert reason(visit) is Reason.CLAIM_OK
        assert visit.principal is not None
        assert visit.principal.claims["custom:rank"] == ["chief", "cook"]
        assert visit.principal.claims["name"] == "Alice"

    async def test_a_claim_that_the_configuration_renames_does_not_prove_a_sign_in(self) -> None:
        """The configuration shapes claims for policies; what belongs together is judged on what was signed."""
        stand = Session(shapes=ClaimShapes(aliases={"origin_jti": ["custom:mine"]}))
        access = stand.pool.token(**{"custom:mine": "x"})
        stolen = stand.chief(origin_jti="x")
        assert reason(await stand.both(access, stolen)) is Reason.TOKEN_CLAIM_INVALID


class TestRevoked:
    """The list is asked every time, whatever is remembered, and about the caller as a whole."""

    def stand(self, kind: type[Stand] = Stand) -> Any:
        self.list: set[str] = set()
        self.asked: list[tuple[str, float]] = []

        def revoked(principal: Principal, now: float) -> Source | None:
            self.asked.append((principal.subject, principal.issued_at))
            return Source("gone.yaml", 3, 5) if principal.subject in self.list else None

        return kind(revoked=revoked)

    async def test_a_known_token_is_refused_from_then_on_and_known_again_after(self) -> None:
        stand = self.stand()
        token = stand.pool.token(groups=["admins"])
        assert isinstance((await stand.visit(token)).decision, Allow)
        self.list.add(ALICE)
        visit = await stand.visit(token)
        assert reason(visit) is Reason.TOKEN_REVOKED
        assert visit.principal is None
        assert visit.credential_error is not None
        assert visit.credential_error.detail == "revoked at gone.yaml:3:5"
        self.list.clear()
        assert isinstance((await stand.visit(token)).decision, Allow)
        assert stand.tokens == ["verified", "cached", "token-revoked", "cached"]
        assert len(stand.keys.asked) == 1

    async def test_a_revoked_token_is_judged_as_none_on_a_public_route(self) -> None:
        stand = self.stand()
        self.list.add(ALICE)
        visit = await stand.visit(stand.pool.token(), path="/public")
        assert isinstance(visit.decision, Allow)
        assert visit.principal is None

    async def test_nobody_is_not_asked_about_and_neither_is_a_bad_token(self) -> None:
        stand = self.stand()
        await stand.visit()
        assert reason(await stand.visit("a.b.c")) is Reason.TOKEN_MALFORMED
        assert self.asked == []

    async def test_of_two_tokens_the_earlier_counts(self) -> None:
        stand = self.stand(Session)
        for issued in ((NOW - 5, NOW - 9), (NOW - 9, NOW - 5)):
            access, identity = stand.pool.token(iat=issued[0]), stand.pool.id_token(iat=issued[1])
            await stand.both(access, identity)
            await stand.both(access, identity)
        assert self.asked == [(ALICE, NOW - 9)] * 4


class TestRemembered:
    """What is remembered of an earlier visit never outlives what it rests on."""

    async def test_the_same_caller_on_the_same_route_gets_the_very_same_allow(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"])
        first, second, third = [await stand.visit(token) for _ in range(3)]
        assert first.remembered is not None
        assert first.remembered is second.remembered is third.remembered
        assert first.decision is second.decision is third.decision

    async def test_so_does_who_is_refused(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["others"])
        first, second = [await stand.visit(token) for _ in range(2)]
        assert first.remembered is second.remembered is not None
        assert first.decision is second.decision
        assert first.decision.reason is Reason.CLAIM_UNAUTHORIZED

    async def test_nobodys_denial_is_no_reason_for_a_bad_token(self) -> None:
        stand = Stand()
        bad = stand.pool.token(exp=int(NOW) - 1)
        seen = [await reason_of(stand, token) for token in (None, bad, None, bad)]
        assert seen == [Reason.USER_UNAUTHENTICATED, Reason.TOKEN_EXPIRED] * 2
        assert len(stand.authorizer._remembered) == 1

    async def test_bad_tokens_with_the_same_flaw_get_the_very_same_denial(self) -> None:
        stand = Stand()
        unknown = [stand.pool.token(header={"kid": kid}) for kid in ("k1", "k2")]
        first, second = [await stand.visit(token) for token in unknown]
        assert first.decision.reason is Reason.TOKEN_KEY_UNKNOWN
        assert first.remembered is second.remembered is not None
        assert (await stand.visit("bad")).decision.reason is Reason.TOKEN_MALFORMED
        assert (await stand.visit(None)).decision.reason is Reason.USER_UNAUTHENTICATED

    @pytest.mark.parametrize("first", [None, "bad"], ids=["after nobody", "before nobody"])
    async def test_a_bad_token_gets_what_judging_it_would_give_without_judging(
        self, first: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A route may name ten thousand people; whoever sends rubbish must not make us look through them each time."""
        judged: list[str] = []

        def count(facts: Facts, route: Route, error: TokenError | None = None) -> Decision:
            judged.append(route.name.label)
            return decide(facts, route, error)

        monkeypatch.setattr("authz.authorizer.decide", count)
        stand = Stand()
        rules = {
            "public": "allow_public_unauthenticated_access: true",
            "users": "allowed_users: [a, b]",
            "nobody": "policy: {allow: {or: [reject: true]}}",
            "told": "allowed_users: [a], explanation: ask alice",
            "guarded": "allow_public_unauthenticated_access: true, policy: {deny: {or: [groups: x]}}",
        }
        stand.policies = policy_set(
            "".join(f"- {{from: 'https://app.example.com', id: {name}, {rule}}}\n" for name, rule in rules.items())
        )
        for name in rules:
            route = stand.policies.routes.find_by_id(name)
            assert route is not None
            await stand.visit(first, route_id=name)
            for token in ("bad", "worse"):
                visit = await stand.visit(token, route_id=name)
                assert visit.facts is not None
                direct = decide(visit.facts, route, visit.credential_error)
                assert visit.decision == (
                    direct._replace(guidance=guidance_for(direct, visit.facts, route))
                    if isinstance(direct, Deny)
                    else direct
                )
        assert judged == list(rules)

    async def test_a_denial_ends_with_the_tokens_exp_its_key_and_its_policy(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["owners"], exp=int(NOW) + 10)
        assert [await reason_of(stand, token) for _ in range(2)] == [Reason.CLAIM_UNAUTHORIZED] * 2
        assert await reason_of(stand, token, now=NOW + 10) is Reason.TOKEN_EXPIRED
        stand.policies = policy_set(POLICIES.replace("admins", "owners"))
        assert await reason_of(stand, token) is Reason.CLAIM_OK
        stand.keys.current = KeySet({})
        assert await reason_of(stand, token) is Reason.TOKEN_KEY_UNKNOWN

    async def test_an_allow_ends_with_the_tokens_exp(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"], exp=int(NOW) + 10)
        assert [await reason_of(stand, token) for _ in range(3)] == [Reason.CLAIM_OK] * 3
        assert await reason_of(stand, token, now=NOW + 10) is Reason.TOKEN_EXPIRED

    async def test_an_allow_ends_with_its_key(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"])
        assert [await reason_of(stand, token) for _ in range(3)] == [Reason.CLAIM_OK] * 3
        stand.keys.current = KeySet({})
        assert await reason_of(stand, token) is Reason.TOKEN_KEY_UNKNOWN

    async def test_an_allow_ends_with_its_policy(self) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"])
        assert [await reason_of(stand, token) for _ in range(3)] == [Reason.CLAIM_OK] * 3
        stand.policies = policy_set(POLICIES.replace("admins", "owners"))
        assert await reason_of(stand, token) is Reason.CLAIM_UNAUTHORIZED
        assert len(stand.authorizer._remembered) == 1  # under the new policy; the old allow is forgotten

    async def test_one_callers_allow_is_nobody_elses(self) -> None:
        stand = Stand()
        good, bad = stand.pool.token(groups=["admins"]), stand.pool.token(groups=["others"])
        seen = [await reason_of(stand, token) for token in (good, good, bad, good, bad, None)]
        no = Reason.CLAIM_UNAUTHORIZED
        assert seen == [Reason.CLAIM_OK, Reason.CLAIM_OK, no, Reason.CLAIM_OK, no, Reason.USER_UNAUTHENTICATED]

    @pytest.mark.parametrize("broken", ["signature", "expired", "malformed"])
    async def test_a_bad_token_is_looked_at_once(self, broken: str) -> None:
        stand = Stand()
        token = stand.pool.token(groups=["admins"], **({"exp": int(NOW) - 1} if broken == "expired" else {}))
        if broken == "signature":
            token = token[:-20] + ("A" if token[-20] != "A" else "B") + token[-19:]
        if broken == "malformed":
            token = token.partition(".")[0]
        first = await stand.visit(token)
        asked = len(stand.keys.asked)
        second = await stand.visit(token)
        assert second.decision == first.decision
        assert isinstance(second.decision, Deny)
        assert len(stand.keys.asked) == asked
        assert stand.tokens == [first.decision.reason] * 2

    async def test_a_bad_token_is_looked_at_again_under_new_keys(self) -> None:
        stand = Stand()
        kid, another = kid_of(stand.pool.access_key), stand.pool.id_key
        token = stand.pool.token(key=another, header={"kid": kid}, groups=["admins"])
        assert await reason_of(stand, token) is Reason.TOKEN_SIGNATURE_INVALID
        stand.keys.current = KeySet({kid: another.public_key()})
        assert await reason_of(stand, token) is Reason.CLAIM_OK
