"""Browser sessions with two tokens, federated users, two issuers: through the real gRPC port of `authz serve`.

The configuration is that of the browser sample: access tokens are credentials, ID tokens stand beside them, and no
token reaches the upstream.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from authz.pb import external_auth_pb2 as pb
from tests.support.check_request import check_request
from tests.support.running_service import Reply, RunningService
from tests.support.user_pool import DROP, FakeUserPool, base64url, kid_of, rsa_key

pytestmark = pytest.mark.xdist_group("both tokens")  # one service of each kind for all of them

NEW = "eu-west-1_AbCdEfGhI"
OLD = "us-east-1_Old000001"
POLICY = f"""
- {{from: https://app.example.com, prefix: /public, allow_public_unauthenticated_access: true}}
- {{from: https://app.example.com, prefix: /anyone, allow_any_authenticated_user: true}}
- {{from: https://app.example.com, path: /user, allowed_users: [alice@example.com]}}
- {{from: https://app.example.com, path: /domain, allowed_domains: [example.com]}}
- {{from: https://app.example.com, path: /tenant, allowed_idp_claims: {{custom:tenant: [acme]}}}}
- {{from: https://app.example.com, path: /admins, allowed_idp_claims: {{cognito:groups: [admins]}}}}
- {{from: https://app.example.com, path: /access, policy: {{allow: {{and: [token_use: access]}}}}}}
- {{from: https://app.example.com, path: /auth0, policy: {{allow: {{and: [identity_provider: Auth0]}}}}}}
- {{from: https://app.example.com, path: /team, allowed_idp_claims: {{custom:teams: [red, "blue,green"]}}}}
- {{from: https://app.example.com, path: /roles, allowed_idp_claims: {{"https://acme.example/roles": [editor]}}}}
- {{from: https://app.example.com, path: /dotted, allowed_idp_claims: {{acme.role: [editor]}}}}
- {{from: https://app.example.com, path: /nested, allowed_idp_claims: {{acme.org/team.name: [red]}}}}
- from: https://app.example.com
  path: /old
  policy: {{allow: {{and: [issuer: "https://cognito-idp.us-east-1.amazonaws.com/{OLD}", claim/cognito:groups: staff]}}}}
- from: https://app.example.com
  path: /new
  policy: {{allow: {{and: [issuer: {{ends_with: "/{NEW}"}}]}}}}
"""


class Stand(NamedTuple):
    """The service, the pool of today and the one that people move away from."""

    service: RunningService
    pool: FakeUserPool
    old: FakeUserPool

    def ask(self, path: str, access: str | None = None, id_token: str | None = None, **fields: Any) -> Reply:
        """Ask as Envoy does after its oauth2 filter: the access token as a bearer, the ID token in its header."""
        headers = dict(fields.pop("headers", {}))
        if id_token is not None:
            headers["x-auth-id-token"] = id_token
        return self.service.check(check_request(path=path, token=access, headers=headers, **fields))


def settings_of(folder: Path, enrich_from: Mapping[str, str], pools: list[FakeUserPool]) -> dict[str, Any]:
    return {
        "cognito": [
            {
                "user_pool": pool.pool_id,
                "clients": [pool.client_id, *more],
                "token_use": ["access"],
                "jwks_uri": (folder / f"{pool.pool_id}.json").as_uri(),
            }
            for pool, more in zip(pools, (["second-client"], []), strict=True)
        ],
        "tokens": [{"header": "authorization"}, {"header": "x-other-token"}, {"cookie": "BearerToken"}],
        "enrich_from": enrich_from,
        "hide_credentials": True,
        "identity_headers": {
            "x-auth-subject": "sub",
            "x-auth-username": ["cognito:username", "username"],
            "x-auth-email": "email",
            "x-auth-groups": "cognito:groups",
            "x-auth-tenant": "custom:tenant",
        },
        "claims": {"custom:teams": {"split": "[,]"}},
    }


def running(folder: Path, enrich_from: Mapping[str, str]) -> Iterator[Stand]:
    pool = FakeUserPool(pool_id=NEW, clock=time.time)
    old = FakeUserPool("us-east-1", pool_id=OLD, client_id="client-of-the-old-pool", clock=time.time)
    pools = [pool, old]
    with RunningService(folder, POLICY, pools=pools, settings=settings_of(folder, enrich_from, pools)) as service:
        yield Stand(service, pool, old)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    yield from running(tmp_path_factory.mktemp("header"), {"header": "x-auth-id-token"})


@pytest.fixture(scope="module")
def cookies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    yield from running(tmp_path_factory.mktemp("cookie"), {"cookie": "IdToken"})


class TestEnrichment:
    @pytest.mark.parametrize(
        ("path", "reason"),
        [("/user", "email-ok"), ("/domain", "domain-ok"), ("/tenant", "claim-ok"), ("/access", "token-use-ok")],
    )
    def test_rules_see_the_claims_of_both(self, stand: Stand, path: str, reason: str) -> None:
        id_token = stand.pool.id_token(**{"custom:tenant": "acme"})
        for _ in range(2):  # verified, then known
            reply = stand.ask(path, stand.pool.token(), id_token)
            assert (reply.status, reply.code) == (200, 0)
            assert reason in stand.service.decision(reply)["reasons"]

    def test_without_the_id_token_they_do_not(self, stand: Stand) -> None:
        for path, reason in (("/user", "user-unauthorized"), ("/domain", "domain-unauthorized")):
            assert stand.ask(path, stand.pool.token()).verdict == (403, 7, reason)

    def test_an_id_token_alone_is_nobody(self, stand: Stand) -> None:
        assert stand.ask("/user", None, stand.pool.id_token()).verdict == (401, 16, "user-unauthenticated")

    def test_an_id_token_as_the_credential_is_refused_by_a_pool_of_access_tokens(self, stand: Stand) -> None:
        assert stand.ask("/anyone", stand.pool.id_token()).verdict == (401, 16, "token-use-refused")

    def test_an_address_counts_only_when_the_id_token_verifies_it(self, stand: Stand) -> None:
        reply = stand.ask("/domain", stand.pool.token(), stand.pool.id_token(email_verified=False))
        assert reply.verdict == (403, 7, "email-unverified")
        assert "x-auth-email" not in reply.headers

    def test_upstreams_see_the_claims_of_both(self, stand: Stand) -> None:
        access = stand.pool.token(groups=["staff"])
        id_token = stand.pool.id_token(**{"custom:tenant": "acme", "cognito:username": "Alice"})
        reply = stand.ask("/anyone", access, id_token)
        assert {name: value for name, value in reply.headers.items() if name.startswith("x-auth-")} == {
            "x-auth-subject": stand.pool.access_claims()["sub"],
            "x-auth-username": "Alice",
            "x-auth-email": "alice@example.com",
            "x-auth-groups": "staff",
            "x-auth-tenant": "acme",
        }

    def test_groups_come_from_the_access_token_alone(self, stand: Stand) -> None:
        """Somebody who left the group has a new access token without it, and an older ID token with it."""
        reply = stand.ask("/admins", stand.pool.token(), stand.pool.id_token(groups=["admins"]))
        assert reply.verdict == (403, 7, "claim-unauthorized")

    def test_the_log_tells_which_claim_does_not_fit_and_no_value(self, stand: Stand) -> None:
        reply = stand.ask("/anyone", stand.pool.token(), stand.pool.id_token(sub="canary"))
        line = stand.service.decision(reply)
        assert "`sub`" in str(line)
        assert "canary" not in stand.service.output


# What a good bearer token may have beside it without ever gaining a claim: name → (ID token, the answer's reason).
Mint = Callable[[Stand], str]
BAD: Mapping[str, tuple[Mint, str]] = {
    "signed by a forger": (
        lambda s: s.pool.id_token(key=rsa_key("forger"), header={"kid": kid_of(s.pool.id_key)}, **ACME),
        "token-signature-invalid",
    ),
    "of a key nobody knows": (lambda s: s.pool.id_token(key=rsa_key("forger"), **ACME), "token-key-unknown"),
    "unsigned": (
        lambda s: s.pool.id_token(header={"alg": "none"}, **ACME).rpartition(".")[0] + ".",
        "token-algorithm-refused",
    ),
    "with changed claims": (lambda s: tampered(s.pool.id_token(**ACME)), "token-signature-invalid"),
    "of another user": (lambda s: s.pool.id_token(sub="mallory", **ACME), "token-claim-invalid"),
    "of another sign-in": (lambda s: s.pool.id_token(origin_jti="other", **ACME), "token-claim-invalid"),
    "of no sign-in": (lambda s: s.pool.id_token(origin_jti=DROP, **ACME), "token-claim-invalid"),
    "of another accepted client": (lambda s: s.pool.id_token(aud="second-client", **ACME), "token-claim-invalid"),
    "of a client that is not accepted": (lambda s: s.pool.id_token(aud="stranger", **ACME), "token-client-refused"),
    "of another accepted pool": (lambda s: s.old.id_token(**ACME), "token-claim-invalid"),
    "of a pool that is not accepted": (
        lambda s: s.pool.id_token(iss="https://elsewhere.example", **ACME),
        "token-issuer-unknown",
    ),
    "an access token": (lambda s: s.pool.token(**ACME), "token-use-refused"),
    "expired": (lambda s: s.pool.id_token(exp=1, **ACME), "token-expired"),
    "not yet valid": (lambda s: s.pool.id_token(nbf=4_000_000_000, **ACME), "token-not-yet-valid"),
    "no token": (lambda _: "hopeless", "token-malformed"),
    "two tokens": (lambda s: f"{s.pool.id_token(**ACME)},{s.pool.id_token()}", "token-ambiguous"),
}
ACME = {"custom:tenant": "acme"}


def tampered(token: str) -> str:
    """Promote the user of a token, and keep its signature."""
    header, payload, signature = token.split(".")
    claims = base64.urlsafe_b64decode(payload + "==").replace(b'"acme"', b'"Acme"')
    return f"{header}.{base64url(claims)}.{signature}"


class TestForgedIdTokens:
    @pytest.mark.parametrize(("mint", "reason"), BAD.values(), ids=BAD)
    def test_in_the_header_refuses_the_credential_as_a_whole(self, stand: Stand, mint: Mint, reason: str) -> None:
        access = stand.pool.token()
        assert stand.ask("/anyone", access).status == 200
        for path in ("/anyone", "/tenant"):
            assert stand.ask(path, access, mint(stand)).verdict == (401, 16, reason)

    @pytest.mark.parametrize(("mint", "reason"), BAD.values(), ids=BAD)
    def test_in_the_header_is_judged_as_nobody_where_nobody_may_pass(
        self, stand: Stand, mint: Mint, reason: str
    ) -> None:
        reply = stand.ask("/public", stand.pool.token(), mint(stand))
        assert reply.verdict == (200, 0, "accept")
        assert not {name for name in reply.headers if name.startswith("x-auth-")}

    @pytest.mark.parametrize(
        ("mint", "reason"), [pair for name, pair in BAD.items() if name != "two tokens"],
        ids=[name for name in BAD if name != "two tokens"],
    )  # fmt: skip
    def test_in_the_cookie_refuses_the_credential_as_a_whole(self, cookies: Stand, mint: Mint, reason: str) -> None:
        headers = {"cookie": f"a=1; IdToken={mint(cookies)}"}
        for path in ("/anyone", "/tenant"):
            assert cookies.ask(path, cookies.pool.token(), headers=headers).verdict == (401, 16, reason)

    def test_two_different_cookies_are_refused(self, cookies: Stand) -> None:
        headers = {"cookie": [f"IdToken={cookies.pool.id_token()}", f"IdToken={cookies.pool.id_token(**ACME)}"]}
        assert cookies.ask("/anyone", cookies.pool.token(), headers=headers).reason == "token-ambiguous"

    def test_two_headers_are_refused(self, stand: Stand) -> None:
        headers = {"x-auth-id-token": [stand.pool.id_token(), stand.pool.id_token(**ACME)]}
        assert stand.ask("/anyone", stand.pool.token(), headers=headers).reason == "token-ambiguous"

    def test_where_nobody_looks_adds_nothing(self, stand: Stand, cookies: Stand) -> None:
        good = stand.pool.id_token(**ACME)
        in_cookie = stand.ask("/tenant", stand.pool.token(), headers={"cookie": f"IdToken={good}"})
        in_header = cookies.ask("/tenant", cookies.pool.token(), good)
        assert in_cookie.verdict == in_header.verdict == (403, 7, "claim-unauthorized")

    def test_a_session_that_was_good_does_not_excuse_it(self, stand: Stand) -> None:
        access, good = stand.pool.token(), stand.pool.id_token(**ACME)
        assert stand.ask("/tenant", access, good).status == 200
        for mint, reason in BAD.values():
            assert stand.ask("/tenant", access, mint(stand)).reason == reason
        other = stand.pool.token(sub="mallory", username="mallory")
        assert stand.ask("/tenant", other, good).reason == "token-claim-invalid"
        assert stand.ask("/tenant", access).verdict == (403, 7, "claim-unauthorized")

    def test_the_token_of_a_machine_has_none(self, stand: Stand) -> None:
        machine = stand.pool.machine_token()
        assert stand.ask("/anyone", machine).status == 200
        assert stand.ask("/anyone", machine, stand.pool.id_token()).reason == "token-claim-invalid"


def received(asked: pb.CheckRequest, reply: Reply) -> dict[str, list[str]]:
    """Give the headers that the upstream gets: Envoy sets first, every copy, and then removes."""
    http = asked.attributes.request.http
    headers: dict[str, list[str]] = {name: [value] for name, value in http.headers.items()}
    for entry in http.header_map.headers:
        headers.setdefault(entry.key, []).append(entry.raw_value.decode("latin-1"))
    headers |= {name: [value] for name, value in reply.headers.items()}
    return {name: values for name, values in headers.items() if name not in reply.removed}


# How a request may carry tokens; A is the access token, I the ID token of a session, B another person's token.
FORMS: Mapping[str, Mapping[str, Any]] = {
    "a bearer token": {"authorization": "Bearer {A}"},
    "a bearer token, lower case": {"authorization": "bearer {A}"},
    "another header": {"x-other-token": "{A}"},
    "a cookie": {"cookie": "BearerToken={A}"},
    "a cookie among others": {"cookie": "a=1; BearerToken={A}; b=2"},
    "a quoted cookie": {"cookie": 'BearerToken="{A}"; a=1; b=2'},
    "one of several cookie headers": {"cookie": ["a=1", "BearerToken={A}", "b=2"]},
    "one cookie twice": {"cookie": ["BearerToken={A}; a=1", "b=2; BearerToken={A}"]},
    "all places at once": {"authorization": "Bearer {A}", "x-other-token": "{A}", "cookie": "BearerToken={A}; a=1"},
    "both tokens": {"authorization": "Bearer {A}", "x-auth-id-token": "{I}"},
    "both tokens, the second in a cookie": {"authorization": "Bearer {A}", "cookie": "IdToken={I}; a=1"},
    "what Envoy's oauth2 filter passes on": {
        "authorization": "Bearer {A}",
        "x-auth-id-token": "{I}",
        "cookie": "a=1; BearerToken={A}; IdToken={I}; b=2",
    },
    "the same with other cookie names": {
        "authorization": "Bearer {A}",
        "x-auth-id-token": "{I}",
        "cookie": ["a=1; __Host-BearerToken={A}", "__Host-IdToken={I}; b=2"],
    },
    "copies where nobody looks": {
        "authorization": "Bearer {A}",
        "x-amzn-oidc-accesstoken": "{A}",
        "x-copy": ["x", "Bearer {I}"],
        "referer": "https://app.example.com/?id_token={I}",
        "cookie": "CognitoIdentityServiceProvider.x.idToken={I}; a=1; state=%7B%22t%22%3A%22{A}%22%7D",
    },
    "a second person's token beside it": {"authorization": "Bearer {A}", "x-copy": "{B}", "cookie": "t={B}; a=1"},
    "an ID token alone": {"x-auth-id-token": "{I}"},
    "a bad bearer token": {"authorization": "Bearer {A}x"},
    "two bearer tokens": {"authorization": "Bearer {A},Bearer {B}"},
    "a basic credential and a cookie": {"authorization": "Basic YTpi", "cookie": "BearerToken={A}"},
}


class TestHiddenCredentials:
    @pytest.mark.parametrize("raw", [True, False], ids=["raw headers", "joined headers"])
    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_no_upstream_ever_receives_a_token(
        self, stand: Stand, cookies: Stand, form: Mapping[str, Any], raw: bool
    ) -> None:
        for running_ in (stand, cookies):
            pool = running_.pool
            secrets = {"A": pool.token(), "I": pool.id_token(), "B": pool.token(sub="bob", username="bob")}
            headers = {
                name: [_filled(value, secrets) for value in ([values] if isinstance(values, str) else values)]
                for name, values in form.items()
            }
            for path in ("/public", "/anyone"):
                asked = check_request(path=path, headers={"accept": "*/*", **headers}, raw=raw)
                reply = running_.service.check(asked)
                if reply.status != 200:
                    assert path != "/public"
                    assert not reply.response.HasField("ok_response")
                    continue
                upstream = received(asked, reply)
                assert not [name for name in upstream for token in secrets.values() if token in str(upstream[name])]
                assert upstream["accept"] == ["*/*"]
                assert not {"authorization", "x-auth-id-token"} & set(upstream)

    # What Envoy joined stays joined where no token stood beside it: it may as well be one cookie's value.
    @pytest.mark.parametrize(("raw", "joint"), [(True, "; "), (False, ",")], ids=["raw headers", "joined headers"])
    def test_other_cookies_do(self, stand: Stand, raw: bool, joint: str) -> None:
        access, id_token = stand.pool.token(), stand.pool.id_token()
        jar = ["theme=dark; BearerToken=" + access, f"IdToken={id_token}; session=eyJ.own.jwt", "lang=en"]
        asked = check_request(path="/anyone", token=access, headers={"cookie": jar}, raw=raw)
        upstream = received(asked, stand.service.check(asked))
        assert upstream["cookie"] == [f"theme=dark; session=eyJ.own.jwt{joint}lang=en"]

    @pytest.mark.parametrize("raw", [True, False], ids=["raw headers", "joined headers"])
    def test_other_cookies_arrive_as_they_were(self, stand: Stand, raw: bool) -> None:
        kept = 'name=café; info={"id":1,"sig":"YWJj=="}; b=2,c=3'
        jar = f"BearerToken={stand.pool.token()}; {kept}"
        reply = stand.service.check(check_request(path="/anyone", headers={"cookie": jar}, raw=raw))
        assert (reply.status, reply.headers["cookie"]) == (200, kept)

    def test_cookies_without_a_token_are_not_touched(self, stand: Stand) -> None:
        asked = check_request(path="/anyone", token=stand.pool.token(), headers={"cookie": ["a=1", "b=2"]})
        reply = stand.service.check(asked)
        assert "cookie" not in reply.headers
        assert "cookie" not in reply.removed
        assert received(asked, reply)["cookie"] == ["a=1", "b=2"]

    def test_the_places_of_tokens_are_emptied_whatever_they_hold(self, stand: Stand, cookies: Stand) -> None:
        junk = {"authorization": "Bearer x", "x-other-token": "x", "cookie": "BearerToken=x; IdToken=x"}
        asked = check_request(path="/public", headers={**junk, "x-auth-id-token": "x"})
        upstream = received(asked, stand.service.check(asked))
        assert upstream["cookie"] == ["IdToken=x"]
        assert not {"authorization", "x-other-token", "x-auth-id-token"} & set(upstream)
        upstream = received(asked, cookies.service.check(asked))
        assert upstream["x-auth-id-token"] == ["x"]
        assert not {"authorization", "x-other-token", "cookie"} & set(upstream)

    def test_nothing_is_left_of_a_jar_of_tokens(self, cookies: Stand) -> None:
        jar = f"BearerToken={cookies.pool.token()}; IdToken={cookies.pool.id_token()}"
        asked = check_request(path="/user", headers={"cookie": jar})
        reply = cookies.service.check(asked)
        assert reply.verdict == (200, 0, "email-ok")
        assert "cookie" in reply.removed

    def test_a_denial_changes_nothing(self, stand: Stand) -> None:
        reply = stand.ask("/tenant", stand.pool.token(), stand.pool.id_token())
        assert reply.verdict == (403, 7, "claim-unauthorized")
        assert not reply.response.HasField("ok_response")
        assert not {"authorization", "cookie", "x-auth-id-token"} & set(reply.headers)


def _filled(value: str, secrets: Mapping[str, str]) -> str:
    for name, token in secrets.items():
        value = value.replace(f"{{{name}}}", token)
    return value


class TestFederatedUsers:
    def test_by_the_automatic_group_of_the_access_token(self, stand: Stand) -> None:
        assert stand.ask("/auth0", stand.pool.federated_token()).verdict == (200, 0, "identity-provider-ok")
        okta = stand.pool.federated_token(provider="Okta")
        assert stand.ask("/auth0", okta).verdict == (403, 7, "identity-provider-unauthorized")

    def test_by_the_identities_of_the_id_token_beside_it(self, stand: Stand) -> None:
        access, id_token = stand.pool.token(), stand.pool.federated_id_token()
        assert stand.ask("/auth0", access).verdict == (403, 7, "identity-provider-unauthorized")
        assert stand.ask("/auth0", access, id_token).verdict == (200, 0, "identity-provider-ok")
        text = stand.pool.id_token(identities='[{"providerName":"Auth0"}]')
        assert stand.ask("/auth0", access, text).verdict == (403, 7, "identity-provider-unauthorized")

    def test_the_group_of_another_pool_names_nobody(self, stand: Stand) -> None:
        token = stand.pool.token(groups=[f"{OLD}_Auth0"])
        assert stand.ask("/auth0", token).verdict == (403, 7, "identity-provider-unauthorized")
        assert stand.ask("/auth0", stand.old.federated_token()).verdict == (200, 0, "identity-provider-ok")

    @pytest.mark.parametrize(
        ("teams", "verdict"),
        [
            ("[red,yellow]", (200, 0, "claim-ok")),
            ("[yellow, red]", (200, 0, "claim-ok")),
            ("[blue%2Cgreen]", (200, 0, "claim-ok")),
            ("[blue,green]", (403, 7, "claim-unauthorized")),
            ("[redder]", (403, 7, "claim-unauthorized")),
            ("[]", (403, 7, "claim-unauthorized")),
        ],
    )
    def test_a_list_that_was_flattened_is_split_as_the_configuration_says(
        self, stand: Stand, teams: str, verdict: tuple[int, int, str]
    ) -> None:
        id_token = stand.pool.id_token(**{"custom:teams": teams})
        assert stand.ask("/team", stand.pool.token(), id_token).verdict == verdict

    @pytest.mark.parametrize(
        ("path", "claims"),
        [
            ("/roles", {"https://acme.example/roles": ["viewer", "editor"]}),
            ("/dotted", {"acme.role": "editor"}),
            ("/dotted", {"acme": {"role": "editor"}}),
            ("/nested", {"acme.org/team": {"name": "red"}}),
            ("/nested", {"acme": {"org/team": {"name": ["blue", "red"]}}}),
        ],
        ids=["slashes, colons and dots", "a literal dot", "a nested name", "both", "nested twice"],
    )
    def test_claim_names_may_hold_dots_slashes_and_colons(
        self, stand: Stand, path: str, claims: dict[str, Any]
    ) -> None:
        assert stand.ask(path, stand.pool.token()).verdict == (403, 7, "claim-unauthorized")
        assert stand.ask(path, stand.pool.token(**claims)).verdict == (200, 0, "claim-ok")
        assert stand.ask(path, stand.pool.token(), stand.pool.id_token(**claims)).verdict == (200, 0, "claim-ok")


class TestTwoIssuers:
    def test_users_of_both_pools_are_known(self, stand: Stand) -> None:
        assert stand.ask("/anyone", stand.pool.token()).status == 200
        assert stand.ask("/anyone", stand.old.token()).status == 200
        assert stand.ask("/user", stand.old.token(), stand.old.id_token()).verdict == (200, 0, "email-ok")

    def test_each_pool_has_its_own_clients(self, stand: Stand) -> None:
        swapped = [stand.pool.token(client_id=stand.old.client_id), stand.old.token(client_id=stand.pool.client_id)]
        for token in swapped:
            assert stand.ask("/anyone", token).verdict == (401, 16, "token-client-refused")

    def test_each_pool_has_its_own_keys(self, stand: Stand) -> None:
        crossed = stand.pool.token(key=stand.old.access_key)
        assert stand.ask("/anyone", crossed).verdict == (401, 16, "token-key-unknown")

    def test_rules_may_name_the_issuer(self, stand: Stand) -> None:
        staff = {"groups": ["staff"]}
        assert stand.ask("/old", stand.old.token(**staff)).status == 200
        assert stand.ask("/old", stand.pool.token(**staff)).verdict == (403, 7, "issuer-unauthorized")
        assert stand.ask("/new", stand.pool.token()).verdict == (200, 0, "issuer-ok")
        assert stand.ask("/new", stand.old.token()).verdict == (403, 7, "issuer-unauthorized")
