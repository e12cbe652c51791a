"""Two verified tokens become one principal, or none at all."""

from __future__ import annotations

from functools import reduce
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.errors import TokenError
from authz.identity.cognito import Verified, peek, verify
from authz.identity.enrichment import check_issuer, enrich, for_id_tokens
from authz.model import Principal, Reason
from authz.policy.caller_criteria import claim_values
from tests.support.user_pool import DROP, LIFETIME, NOW, FakeUserPool

POOL = FakeUserPool()
OTHER_CLIENT = "7aaaaaaaaaaaaaaaaaaaaaaaaa"


def checked(token: str, **trust: Any) -> Verified:
    """Verify a token as the authenticator does, with every client accepted."""
    unverified = peek(token)
    return verify(unverified, POOL.keys[unverified.kid], POOL.trust(clients=None, **trust), NOW)


def joined(access: dict[str, Any] | None = None, identity: dict[str, Any] | None = None, **trust: Any) -> Principal:
    """Join an access token and an ID token of one sign-in, each with claims of its own."""
    return enrich(checked(POOL.token(**(access or {}))), checked(POOL.id_token(**(identity or {})), **trust)).principal


def refused(access: str, identity: str) -> str:
    with pytest.raises(TokenError) as raised:
        enrich(checked(access), checked(identity))
    assert raised.value.reason is Reason.TOKEN_CLAIM_INVALID
    return raised.value.detail


class TestBelonging:
    @pytest.mark.parametrize(
        ("claim", "changes"),
        [
            pytest.param("sub", {"sub": "1b2c3d4e-1111-4222-8333-444455556666"}, id="another user"),
            pytest.param("aud", {"aud": OTHER_CLIENT}, id="another client"),
            pytest.param("origin_jti", {"origin_jti": "5f0c1f7e-0000-4000-8000-000000000009"}, id="another sign-in"),
            pytest.param("origin_jti", {"origin_jti": DROP}, id="no sign-in"),
            pytest.param("origin_jti", {"origin_jti": None}, id="null for a sign-in"),
            pytest.param("origin_jti", {"origin_jti": ["5f0c1f7e-0000-4000-8000-000000000001"]}, id="a list of one"),
        ],
    )
    def test_an_id_token_of_something_else_is_refused_and_the_claim_named(
        self, claim: str, changes: dict[str, Any]
    ) -> None:
        detail = refused(POOL.token(), POOL.id_token(**changes))
        assert detail == f"the ID token does not belong to the access token: `{claim}` differs or is missing"

    @pytest.mark.parametrize("value", [DROP, None, "", 5, ["a"], {"a": 1}], ids=repr)
    def test_what_is_no_sign_in_agrees_with_nothing_not_even_itself(self, value: Any) -> None:
        assert "`origin_jti`" in refused(POOL.token(origin_jti=value), POOL.id_token(origin_jti=value))

    def test_the_token_of_a_machine_has_no_id_token(self) -> None:
        assert "`sub`" in refused(POOL.machine_token(), POOL.id_token())
        assert "`origin_jti`" in refused(POOL.machine_token(), POOL.id_token(sub=POOL.client_id))

    def test_another_issuer_is_refused(self) -> None:
        access = checked(POOL.token())
        elsewhere = access.principal._replace(issuer="https://elsewhere.example")
        with pytest.raises(TokenError, match="`iss` differs") as raised:
            enrich(access, Verified(elsewhere, access.valid_from, access.valid_until))
        assert raised.value.reason is Reason.TOKEN_CLAIM_INVALID
        with pytest.raises(TokenError, match="`iss` differs"):
            check_issuer(POOL.issuer + "/", access.principal)

    def test_no_value_of_a_claim_is_told(self) -> None:
        detail = refused(POOL.token(), POOL.id_token(sub="canary"))
        assert "canary" not in detail

    def test_whatever_the_pool_accepts_as_a_credential_beside_it_only_an_id_token_is_good(self) -> None:
        pool = POOL.trust(token_use=frozenset({"access"}), leeway=3.0, trust_unverified_email=True)
        assert for_id_tokens(pool) == POOL.trust(token_use=frozenset({"id"}), leeway=3.0, trust_unverified_email=True)


ACCESS, IDENTITY = checked(POOL.token()), checked(POOL.id_token())
# One path in its spellings, from three nested maps to one literal name.
SPELLINGS = [["a.b", "c"], ["a", "b", "c"], ["a", "b.c"], ["a.b.c"], ["a", "b"], ["a.b"]]


def spelled(values: list[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Give claims in which the path leads to one of the values, or to several."""
    claim = st.tuples(st.sampled_from(SPELLINGS), st.sampled_from(values)).map(
        lambda drawn: reduce(lambda inner, key: {key: inner}, reversed(drawn[0]), drawn[1])
    )
    return st.lists(claim, min_size=1, max_size=2).map(lambda claims: dict(chain(*(one.items() for one in claims))))


class TestClaims:
    def test_claims_that_the_access_token_lacks_are_added(self) -> None:
        caller = joined(identity={"custom:tenant": "acme", "https://acme.example/roles": ["a"]})
        assert caller.claims["custom:tenant"] == "acme"
        assert caller.claims["https://acme.example/roles"] == ["a"]
        assert caller.claims["cognito:username"] == "alice"
        assert caller.claims["username"] == "alice"
        assert (caller.email, caller.email_is_unverified) == ("alice@example.com", False)

    def test_it_stays_an_access_token(self) -> None:
        access = checked(POOL.token()).principal
        caller = joined()
        assert caller[:4] == access[:4]
        assert caller.token_use == "access"
        assert {name: caller.claims[name] for name in access.claims} == access.claims

    @pytest.mark.parametrize("value", ["mine", None, "", [], {"a": 1}], ids=repr)
    def test_the_access_token_wins_whatever_it_says(self, value: Any) -> None:
        assert joined({"custom:tenant": value}, {"custom:tenant": "theirs"}).claims["custom:tenant"] == value

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            pytest.param("cognito:groups", ["admins"], id="a group that was taken away lives on in an older ID token"),
            pytest.param("scope", "admin", id="a scope"),
            pytest.param("aud", POOL.client_id, id="the audience of the other token"),
            pytest.param("nbf", NOW, id="the time of the other token"),
            pytest.param("acr", "urn:cognito:loa:4", id="how the other token was earned"),
            pytest.param("amr", ["mfa"], id="how the other token was earned, in a list"),
            pytest.param("device_key", "x", id="the device"),
            pytest.param("username", "root", id="the name"),
        ],
    )
    def test_what_an_access_token_says_of_itself_is_never_added(self, name: str, value: Any) -> None:
        assert name not in joined({name: DROP}, {name: value}).claims

    def test_an_added_literal_name_does_not_hide_a_nested_claim(self) -> None:
        caller = joined({"tenant": {"id": "mine"}}, {"tenant.id": "theirs", "tenants.id": "added"})
        assert caller.claims["tenant"] == {"id": "mine"}
        assert "tenant.id" not in caller.claims
        assert caller.claims["tenants.id"] == "added"

    def test_an_added_map_does_not_hide_what_stands_under_a_literal_name(self) -> None:
        caller = joined({"a.b": {"c": "mine"}}, {"a": {"b": {"c": "theirs"}}, "a.bc": {"d": "added"}})
        assert claim_values(caller.claims, "a.b.c") == ("mine",)
        assert "a" not in caller.claims
        assert caller.claims["a.bc"] == {"d": "added"}

    def test_what_is_no_map_hides_nothing_and_is_added(self) -> None:
        caller = joined({"a.b": {"c": "mine"}}, {"a": "added"})
        assert claim_values(caller.claims, "a.b.c") == ("mine",)
        assert caller.claims["a"] == "added"

    @settings(max_examples=300)
    @given(mine=spelled(["mine", None, ["mine"], []]), theirs=spelled(["theirs", ["theirs"]]))
    def test_no_policy_ever_reads_another_value_than_the_access_tokens(
        self, mine: dict[str, Any], theirs: dict[str, Any]
    ) -> None:
        access = ACCESS._replace(principal=_with(ACCESS.principal, mine))
        claims = enrich(access, IDENTITY._replace(principal=_with(IDENTITY.principal, theirs))).principal.claims
        for name in ("a", "a.b", "a.b.c"):
            said = claim_values(mine, name)
            assert not said or claim_values(claims, name) == said

    @given(
        mine=st.dictionaries(st.sampled_from(["a", "a.b", "b", "custom:x"]), st.sampled_from(["x", 5, None, {"b": 1}])),
        theirs=st.dictionaries(st.sampled_from(["a", "a.b", "b", "custom:x"]), st.sampled_from(["y", 6, {"b": 2}])),
    )
    def test_no_claim_of_the_access_token_ever_changes(self, mine: dict[str, Any], theirs: dict[str, Any]) -> None:
        access, identity = checked(POOL.token()), checked(POOL.id_token())
        access = access._replace(principal=_with(access.principal, mine))
        claims = enrich(access, identity._replace(principal=_with(identity.principal, theirs))).principal.claims
        assert {name: claims[name] for name in mine} == mine
        assert set(claims) <= {*access.principal.claims, *identity.principal.claims, *theirs}


def _with(principal: Principal, claims: dict[str, Any]) -> Principal:
    return principal._replace(claims={**principal.claims, **claims})


class TestEmail:
    @pytest.mark.parametrize("flag", [False, "true", "false", 1, None, DROP], ids=repr)
    def test_an_address_that_is_not_verified_does_not_count(self, flag: Any) -> None:
        caller = joined(identity={"email_verified": flag})
        assert (caller.email, caller.email_is_unverified) == (None, True)

    def test_it_counts_where_the_pool_trusts_it(self) -> None:
        caller = joined(identity={"email_verified": False}, trust_unverified_email=True)
        assert (caller.email, caller.email_is_unverified) == ("alice@example.com", False)

    def test_no_address_is_none(self) -> None:
        caller = joined(identity={"email": DROP})
        assert (caller.email, caller.email_is_unverified) == (None, False)

    def test_the_id_tokens_flag_does_not_verify_the_access_tokens_address(self) -> None:
        caller = joined({"email": "mallory@example.com"}, {"email": "alice@example.com", "email_verified": True})
        assert (caller.email, caller.email_is_unverified) == (None, True)
        assert caller.claims["email"] == "mallory@example.com"
        assert "email_verified" not in caller.claims

    def test_the_access_tokens_flag_does_not_verify_the_id_tokens_address(self) -> None:
        caller = joined({"email_verified": True}, {"email_verified": False})
        assert (caller.email, caller.email_is_unverified) == (None, True)
        assert caller.claims["email_verified"] is False
        assert "email_verified" not in joined({"email_verified": True}, {"email_verified": DROP}).claims

    def test_the_access_tokens_own_verified_address_stays(self) -> None:
        caller = joined({"email": "a@example.com", "email_verified": True}, {"email_verified": False})
        assert caller.email == "a@example.com"
        assert caller.claims["email_verified"] is True

    def test_a_phone_number_and_its_flag_come_from_one_token_too(self) -> None:
        caller = joined({"phone_number": "+1"}, {"phone_number": "+2", "phone_number_verified": True})
        assert caller.claims["phone_number"] == "+1"
        assert "phone_number_verified" not in caller.claims


class TestTimes:
    @pytest.mark.parametrize(
        ("access", "identity", "until"),
        [
            ({"exp": NOW + 10}, {}, NOW + 10),
            ({}, {"exp": NOW + 20}, NOW + 20),
            ({}, {}, NOW + LIFETIME),
        ],
        ids=["the access token ends first", "the ID token ends first", "both end together"],
    )
    def test_it_holds_while_both_do(self, access: dict[str, Any], identity: dict[str, Any], until: float) -> None:
        both = enrich(checked(POOL.token(**access)), checked(POOL.id_token(**identity)))
        assert both.valid_until == until

    def test_it_begins_when_both_have_begun(self) -> None:
        both = enrich(checked(POOL.token()), checked(POOL.id_token(nbf=NOW - 5)))
        assert both.valid_from == NOW - 5
        both = enrich(checked(POOL.token(nbf=NOW - 7)), checked(POOL.id_token()))
        assert both.valid_from == NOW - 7
