"""`authz explain`: every kind of story, told from the decision itself, and never a token in it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from authz.errors import LoadError
from authz.policy.files import read_files
from authz.policy.parser import PolicyOptions, parse_policies
from authz.workbench.explain_verb import UsageError, explain
from tests.support.ports import free_ports
from tests.support.running_service import configuration
from tests.support.user_pool import ALICE, NOW, FakeUserPool, rsa_key

POLICY = """
- from: https://app.example.com
  prefix: /public
  allow_public_unauthenticated_access: true
- from: https://app.example.com
  path: /health
  policy: {allow: {or: [{accept: true}]}}
- from: https://app.example.com
  id: orders
  regex: /orders/[0-9]+
  policy:
  - allow: {and: [{groups: admins}, {http_method: GET}]}
  - deny: {or: [{source_ip: 203.0.113.0/24}]}
- from: https://app.example.com
  id: rest
  allowed_idp_claims: {cognito:groups: [admins]}
- from: https://mail.example.com:8443
  allowed_users: [alice@example.com]
- from: https://*.example.com
  prefix: /
"""


class Stand:
    """A configuration and policies in a folder, and the verb over them."""

    def __init__(self, folder: Path) -> None:
        self.pool = FakeUserPool()
        self.folder = folder
        (folder / "policies").mkdir()
        (folder / "policies" / "app.yaml").write_text(dedent(POLICY), encoding="utf-8")
        self.settings = configuration(folder, [self.pool])

    def entry(self, **changes: Any) -> None:
        self.settings["cognito"][0].update(changes)

    def options(self, **options: Any) -> Mapping[str, Any]:
        config = self.folder / "authz.yaml"
        config.write_text(json.dumps(self.settings), encoding="utf-8")
        return {
            "config": config,
            "policies": None,
            "url": None,
            "method": "GET",
            "headers": (),
            "token": None,
            "claims": None,
            "source_ip": None,
            "route_id": None,
            "now": datetime.fromtimestamp(NOW, UTC).isoformat(),
            "output": "table",
            "command": (),
            "stdin": io.StringIO(),
        } | options

    def tell(self, path: str | None = "/", **options: Any) -> str:
        """Give the text of a request for app.example.com."""
        url = {} if path is None else {"url": f"https://app.example.com{path}"}
        text = explain(self.options(**(url | options)), color=False)
        token = options.get("token")
        if token and not token.startswith("@"):
            assert all(part not in text for part in token.split(".") if len(part) > 8), "a token was printed"
        return text

    def story(self, path: str | None = "/", **options: Any) -> dict[str, Any]:
        """Give the same as `--output json`."""
        told: dict[str, Any] = json.loads(self.tell(path, output="json", **options))
        return told


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def outcome(story: Mapping[str, Any]) -> tuple[str, int | None, list[str]]:
    return story["decision"], story["status"], story["reasons"]


class TestRoutes:
    def test_an_allow_names_route_rule_and_headers(self, stand: Stand) -> None:
        text = stand.tell(token=stand.pool.token(groups=["admins"]))
        assert text.splitlines()[0] == "GET https://app.example.com/"
        assert f"caller    {ALICE}, access token of client {stand.pool.client_id} — verified" in text
        assert "✓ policies/app.yaml:14:3  rest" in text
        assert "✓ claim/cognito:groups  wants: has `admins`  found: `admins`  [claim-ok]" in text
        assert "✓ allow: claim-ok" in text
        assert f"sets     x-auth-subject: {ALICE}" in text
        assert "removes  x-auth-email" in text

    def test_says_why_earlier_routes_were_passed_over(self, stand: Stand) -> None:
        story = stand.story("/x")
        assert [(route["name"], route["why_not"]) for route in story["passed_over"]] == [
            ("https://app.example.com prefix=/public", "the path does not start with `/public`"),
            ("https://app.example.com path=/health", "the path is not `/health`"),
            ("orders", "the pattern `/orders/[0-9]+` does not match the whole path"),
        ]
        assert story["route"]["name"] == "rest"

    def test_a_host_that_looks_like_a_typo_is_said(self, stand: Stand) -> None:
        story = stand.story(None, url="https://ap.example.com/")
        assert story["passed_over"][0]["why_not"] == "its host is `app.example.com`: a typo?"

    def test_a_wildcard_never_helps_a_host_with_routes_of_its_own(self, stand: Stand) -> None:
        story = stand.story(None, url="https://mail.example.com/")
        assert outcome(story) == ("deny", 404, ["route-not-found"])
        assert [route["why_not"] for route in story["passed_over"]] == [
            "it takes port 8443 only",
            "a more exact host comes first: exact hosts beat wildcards, whatever the order",
        ]
        assert "✗ no route takes this request" in stand.tell(None, url="https://mail.example.com/")

    def test_routes_of_the_hosts_own_port_come_first(self, stand: Stand) -> None:
        rules = "- {from: https://mail.example.com, prefix: /, allowed_users: [bob]}\n" + dedent(POLICY)
        (stand.folder / "policies" / "app.yaml").write_text(rules, encoding="utf-8")
        story = stand.story(None, url="https://mail.example.com:8443/y")
        assert story["route"]["name"] == "https://mail.example.com:8443"
        assert [(route["name"], route["why_not"]) for route in story["passed_over"]] == [
            ("https://mail.example.com prefix=/", "routes of the host's own port come first, whatever the order")
        ]

    def test_a_route_without_a_rule_refuses_everybody(self, stand: Stand) -> None:
        text = stand.tell(None, url="https://other.example.com/")
        assert "the route has no rule: it refuses everybody" in text
        assert "✗ deny 403: no-rule" in text

    def test_the_route_that_envoy_names(self, stand: Stand) -> None:
        story = stand.story("/public", route_id="rest")
        assert (story["route"]["name"], story["passed_over"]) == ("rest", [])
        assert outcome(stand.story(route_id="unknown")) == ("deny", 404, ["route-not-found"])

    def test_a_path_that_cannot_be_judged_says_why(self, stand: Stand) -> None:
        text = stand.tell("/a/../b")
        assert "✗ not looked for: the path holds a dot segment" in text
        assert "✗ deny 400: request-malformed" in text

    def test_a_path_in_another_form_is_shown_as_it_is_judged(self, stand: Stand) -> None:
        assert "judged as /public" in stand.tell("/%70ublic")

    def test_many_passed_over_routes_are_counted(self, stand: Stand) -> None:
        routes = "".join(
            f"- {{from: 'https://app.example.com', path: /{n}, allow_any_authenticated_user: true}}\n"
            for n in range(30)
        )
        (stand.folder / "policies" / "app.yaml").write_text(routes, encoding="utf-8")
        assert "· 20 more before them" in stand.tell("/x")


class TestRules:
    def test_a_deny_shows_each_condition_and_a_near_miss(self, stand: Stand) -> None:
        text = stand.tell("/orders/7", token=stand.pool.token(groups=["Admins"]), method="POST")
        assert "✗ groups  wants: has `admins`  found: `Admins`  [groups-unauthorized]" in text
        assert "`Admins` differs from `admins` by case only" in text
        assert "✗ http_method  wants: is `GET`  found: `POST`  [http-method-unauthorized]" in text
        assert "✗ deny 403: groups-unauthorized, http-method-unauthorized" in text

    def test_a_deny_rule_that_holds(self, stand: Stand) -> None:
        story = stand.story("/orders/7", token=stand.pool.token(groups=["admins"]), source_ip="203.0.113.9")
        assert outcome(story) == ("deny", 403, ["source-ip-ok"])
        assert [(rule["effect"], rule["operator"], rule["holds"]) for rule in story["rules"]] == [
            ("allow", "and", True),
            ("deny", "or", True),
        ]

    @pytest.mark.parametrize(
        ("headers", "judged", "told"),
        [
            ((), "", "none"),
            (("X-Real-IP: 203.0.113.9",), "203.0.113.9", "203.0.113.9"),
            (("X-Real-IP: 203.0.113.9", "x-real-ip: 203.0.113.9"), "", "none"),
            (("X-Real-IP: 203.0.113.9, 10.0.0.1",), "", "none"),
            (("X-Forwarded-For: 203.0.113.9",), "", "none"),
        ],
    )
    def test_the_configured_header_names_the_address_as_in_the_service(
        self, stand: Stand, headers: tuple[str, ...], judged: str, told: str
    ) -> None:
        stand.settings["client_ip_header"] = "x-real-ip"
        options = {"token": stand.pool.token(groups=["admins"]), "headers": headers, "source_ip": "203.0.113.7"}
        story = stand.story("/orders/7", **options)
        assert (story["request"]["source_ip"], story["request"]["source_ip_from"]) == (judged, "the header `x-real-ip`")
        assert ("source-ip-ok" in outcome(story)[2]) is bool(judged)
        line = f"  address   {told} — what the header `x-real-ip` says counts, not the TCP peer"
        assert line in stand.tell("/orders/7", **options).splitlines()
        command = ("curl", *(f"-H{header}" for header in headers), "https://app.example.com/orders/7")
        assert stand.story(None, command=command)["request"]["source_ip"] == judged

    def test_without_one_the_address_is_the_peers(self, stand: Stand) -> None:
        story = stand.story(source_ip="203.0.113.9", headers=("x-real-ip: 10.0.0.1",))
        assert (story["request"]["source_ip"], story["request"]["source_ip_from"]) == ("203.0.113.9", "the TCP peer")

    def test_an_address_that_is_given_as_unknown_is_judged_so(self, stand: Stand) -> None:
        options = {"token": stand.pool.token(groups=["admins"])}
        assert outcome(stand.story("/orders/7", **options))[0] == "allow"
        assert outcome(stand.story("/orders/7", source_ip="", **options)) == ("deny", 403, ["source-ip-unauthorized"])

    def test_nobody_signed_in(self, stand: Stand) -> None:
        text = stand.tell()
        assert "caller    nobody signed in" in text
        assert "found: nobody signed in  [user-unauthenticated]" in text
        conditions = [told for rule in stand.story()["rules"] for told in rule["conditions"]]
        assert {told["found"] for told in conditions} == {"nobody signed in"}
        assert "✗ deny 401: user-unauthenticated" in text
        assert 'answers  www-authenticate: Bearer realm="app.example.com"' in text

    def test_claims_without_a_token(self, stand: Stand) -> None:
        story = stand.story(claims='{"sub": "x", "cognito:groups": ["admins"]}')
        assert outcome(story) == ("allow", None, ["claim-ok"])
        assert story["caller"]["trust"] == "claims as given, no token"

    def test_claims_of_a_file(self, stand: Stand) -> None:
        (stand.folder / "claims.json").write_text('{"cognito:groups": ["admins"]}', encoding="utf-8")
        assert outcome(stand.story(claims=f"@{stand.folder / 'claims.json'}"))[0] == "allow"

    def test_claims_without_an_issuer_are_of_the_first_pool(self, stand: Stand) -> None:
        (stand.folder / "policies" / "app.yaml").write_text(
            "- {from: 'https://app.example.com', policy: {allow: {or: [identity_provider: Auth0]}}}\n", encoding="utf-8"
        )
        claims = json.dumps({"cognito:groups": [f"{stand.pool.pool_id}_Auth0"]})
        assert outcome(stand.story(claims=claims)) == ("allow", None, ["identity-provider-ok"])
        hint = "the claims have no `iss`"
        without = {"config": None, "policies": stand.folder / "policies"}
        assert hint in stand.tell(claims=claims, **without)
        assert hint in stand.tell(claims=claims.replace(stand.pool.pool_id, "us-east-1_Other0000"))
        assert hint not in stand.tell(claims='{"cognito:groups": ["admins"]}')

    def test_an_address_that_does_not_count(self, stand: Stand) -> None:
        claims = json.dumps({"email": "alice@example.com", "token_use": "id"})
        text = stand.tell(None, url="https://mail.example.com:8443/", claims=claims)
        assert "the e-mail address is not verified" in text
        stand.entry(trust_unverified_email=True)
        assert outcome(stand.story(None, url="https://mail.example.com:8443/", claims=claims))[0] == "allow"

    def test_many_conditions_are_counted(self, stand: Stand) -> None:
        groups = ", ".join(f"g{n}" for n in range(70))
        (stand.folder / "policies" / "app.yaml").write_text(
            f"- {{from: 'https://app.example.com', allowed_idp_claims: {{cognito:groups: [{groups}]}}}}\n",
            encoding="utf-8",
        )
        assert "· and 10 more" in stand.tell()

    def test_an_identity_header_that_cannot_be_sent(self, stand: Stand) -> None:
        token = stand.pool.token(groups=["admins"], username="a\nb")
        assert "omits    x-auth-username: the value cannot be a header" in stand.tell(token=token)


class TestTokens:
    def test_an_expired_one_says_since_when_and_what_a_good_one_would_get(self, stand: Stand) -> None:
        token = stand.pool.token(groups=["admins"], exp=NOW - 40)
        text = stand.tell(token=token)
        assert "the token is not good: token-expired (expired 40 s ago); judged as nobody" in text
        assert "✗ deny 401: token-expired" in text
        assert "with a good token of the same claims: allow (claim-ok)" in text

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            pytest.param({"client_id": "stranger"}, "token-client-refused", id="client not in the list"),
            pytest.param({"iss": "https://other.example"}, "token-issuer-unknown", id="issuer of nobody"),
            pytest.param({"header": {"kid": "x"}}, "token-key-unknown", id="unknown key"),
            pytest.param({"key": rsa_key("forger")}, "token-key-unknown", id="key of somebody else"),
            pytest.param({"nbf": NOW + 500}, "token-not-yet-valid", id="not yet valid"),
            pytest.param({"exp": "soon"}, "token-claim-invalid", id="exp as text"),
        ],
    )
    def test_a_bad_one_names_its_reason(self, stand: Stand, change: dict[str, Any], reason: str) -> None:
        story = stand.story(token=stand.pool.token(groups=["admins"], **change))
        assert outcome(story) == ("deny", 401, [reason])
        assert story["caller"]["error"] == reason
        assert story["with_a_good_token"] == "allow (claim-ok)"

    def test_one_that_cannot_be_read_has_no_claims_to_judge(self, stand: Stand) -> None:
        story = stand.story(token="not-a-token")
        assert outcome(story) == ("deny", 401, ["token-malformed"])
        assert story["with_a_good_token"] is None

    def test_two_of_them(self, stand: Stand) -> None:
        story = stand.story(headers=("authorization: Bearer a", "authorization: Bearer b"))
        assert outcome(story) == ("deny", 401, ["token-ambiguous"])

    def test_an_id_token_where_access_is_wanted(self, stand: Stand) -> None:
        stand.entry(token_use="access")
        assert outcome(stand.story(token=stand.pool.id_token()))[2] == ["token-use-refused"]

    def test_the_id_token_beside_it_adds_its_claims(self, stand: Stand) -> None:
        stand.entry(token_use="access")
        stand.settings["enrich_from"] = {"header": "x-auth-id-token"}
        other = FakeUserPool("us-east-1")

        def asked(access: str, *id_token: str) -> list[str]:
            headers = tuple(f"x-auth-id-token: {token}" for token in id_token)
            url = "https://mail.example.com:8443/"
            told = stand.story(None, url=url, token=access, headers=headers)
            assert not [token for token in id_token if token in json.dumps(told)]
            return outcome(told)[2]

        access = stand.pool.token()
        assert asked(access) == ["user-unauthorized", "email-unauthorized"]
        assert asked(access, stand.pool.id_token()) == ["email-ok"]
        assert asked(access, stand.pool.id_token(sub="bob"))[0] == "token-claim-invalid"
        assert asked(access, stand.pool.id_token(exp=NOW))[0] == "token-expired"
        assert asked(access, other.id_token())[0] == "token-issuer-unknown"
        assert asked(stand.pool.id_token(), stand.pool.id_token())[0] == "token-use-refused"
        stand.entry(token_use="id")
        stand.settings["cognito"].append({**stand.settings["cognito"][0], "user_pool": other.pool_id})
        stand.settings["cognito"][1]["token_use"] = "access"
        assert asked(stand.pool.id_token(), "hopeless") == ["email-ok"]

    def test_without_keys_it_is_read_and_marked_unverified(self, stand: Stand) -> None:
        stand.entry(jwks_uri=f"http://127.0.0.1:{free_ports()}/jwks.json")
        story = stand.story(token=stand.pool.token(groups=["admins"]))
        assert story["caller"]["trust"] == "unverified: the keys of its pool cannot be reached"
        assert outcome(story)[0] == "allow"

    def test_without_keys_the_id_token_beside_it_is_read_too(self, stand: Stand) -> None:
        stand.entry(jwks_uri=f"http://127.0.0.1:{free_ports()}/jwks.json", token_use="access")
        stand.settings["enrich_from"] = {"header": "x-auth-id-token"}
        for changes, reasons in (
            ({}, ["email-ok"]),
            ({"sub": "bob"}, ["token-claim-invalid"]),
            ({"exp": NOW}, ["token-expired"]),
            ({"iss": "https://other.example"}, ["token-issuer-unknown"]),
        ):
            header = f"x-auth-id-token: {stand.pool.id_token(**changes)}"
            url = "https://mail.example.com:8443/"
            story = stand.story(None, url=url, token=stand.pool.token(), headers=(header,))
            assert outcome(story)[2][:1] == reasons
            assert story["caller"]["trust"] == "unverified: the keys of its pool cannot be reached"

    def test_an_unverified_one_is_judged_by_the_settings_of_its_pool(self, stand: Stand) -> None:
        stand.entry(jwks_uri=f"http://127.0.0.1:{free_ports()}/jwks.json", trust_unverified_email=True)
        token = stand.pool.id_token(email_verified=False)
        assert outcome(stand.story(None, url="https://mail.example.com:8443/", token=token))[0] == "allow"

    def test_without_a_configuration_it_is_read_and_marked_unverified(self, stand: Stand) -> None:
        options = {"config": None, "policies": stand.folder / "policies"}
        story = stand.story(token=stand.pool.token(groups=["admins"]), **options)
        assert story["caller"]["trust"] == "unverified: give --config to verify the token"

    def test_an_unverified_one_that_has_expired_is_refused_all_the_same(self, stand: Stand) -> None:
        stand.entry(jwks_uri=f"http://127.0.0.1:{free_ports()}/jwks.json")
        story = stand.story(token=stand.pool.token(groups=["admins"], now=NOW - 7200, exp=NOW - 40))
        assert outcome(story)[1:] == (401, ["token-expired"])
        assert story["caller"]["detail"] == "expired 40 s ago"
        assert story["caller"]["trust"] == "unverified: the keys of its pool cannot be reached"
        assert story["with_a_good_token"] == "allow (claim-ok)"

    def test_an_unverified_one_of_another_client_is_refused_all_the_same(self, stand: Stand) -> None:
        stand.entry(jwks_uri=f"http://127.0.0.1:{free_ports()}/jwks.json")
        story = stand.story(token=stand.pool.token(groups=["admins"], client_id="somebody-elses-app"))
        assert outcome(story)[1:] == (401, ["token-client-refused"])

    def test_an_expired_one_is_refused_without_a_configuration_too(self, stand: Stand) -> None:
        options = {"config": None, "policies": stand.folder / "policies"}
        story = stand.story(token=stand.pool.token(groups=["admins"], now=NOW - 7200, exp=NOW - 40), **options)
        assert outcome(story)[1:] == (401, ["token-expired"])

    def test_policies_beside_a_configuration_with_routes_of_its_own_are_read_as_policies(self, stand: Stand) -> None:
        stand.settings.pop("policies")
        stand.settings["routes"] = [{"from": "https://app.example.com"}]
        (stand.folder / "policies" / "app.yaml").write_text("bogus: 1\nroutes: []\n")
        with pytest.raises(LoadError, match="unknown key `bogus`"):
            stand.story(policies=stand.folder / "policies")

    def test_of_a_file(self, stand: Stand) -> None:
        path = stand.folder / "token.txt"
        path.write_text(stand.pool.token(groups=["admins"]) + "\n", encoding="utf-8")
        assert outcome(stand.story(token=f"@{path}"))[0] == "allow"

    @pytest.mark.parametrize("pasted", ["Bearer {}", "bearer {}\n", "'{}'", '"Bearer {}"', "Bearer:{}", " \n{}\r\n"])
    @pytest.mark.parametrize("folded", [False, True])
    def test_as_it_was_copied(self, stand: Stand, pasted: str, folded: bool) -> None:
        token = stand.pool.token(groups=["admins"])
        shown = "\n  ".join(token[at : at + 64] for at in range(0, len(token), 64)) if folded else token
        assert outcome(stand.story(token=pasted.format(shown)))[0] == "allow"

    def test_of_a_curl_command(self, stand: Stand) -> None:
        token = stand.pool.token(groups=["admins"])
        command = ("curl", "-H", f"Authorization: Bearer {token}", "https://app.example.com/")
        text = stand.tell(None, command=command)
        assert "✓ allow: claim-ok" in text
        assert token not in text
        assert token not in stand.tell(None, command=command, output="json")

    @pytest.mark.parametrize("place", [{"header": "x-token"}, {"cookie": "Token"}, {"header": "authorization"}])
    def test_stands_where_the_configuration_looks_first(self, stand: Stand, place: dict[str, str]) -> None:
        stand.settings["tokens"] = [place, {"header": "x-other"}]
        token = stand.pool.token(groups=["admins"])
        assert outcome(stand.story(token=token))[0] == "allow"
        command = ("curl", "-H", "x-other: not-this-one", "https://app.example.com/")
        assert outcome(stand.story(None, token=token, command=command))[0] == "allow"

    def test_none_of_it_is_in_the_story_of_a_query_or_a_cookie(self, stand: Stand) -> None:
        token = stand.pool.token()
        told = stand.tell(f"/x?access_token={token}", headers=(f"cookie: t={token}",))
        assert token not in told
        assert "?" not in told.splitlines()[0]


class TestHost:
    @pytest.mark.parametrize(
        "given", [{"command": ("curl", "https://b.example.com/")}, {"url": "https://b.example.com/"}]
    )
    def test_is_the_one_of_a_header_besides(self, stand: Stand, given: dict[str, Any]) -> None:
        assert stand.tell(None, **given).startswith("GET https://b.example.com/")
        assert stand.tell(None, headers=("Host: app.example.com",), **given).startswith("GET https://app.example.com/")


class TestLogLines:
    @pytest.mark.parametrize(
        ("headers", "host"), [((), "b.example.com@x"), (("host: app.example.com",), "app.example.com")]
    )
    def test_a_host_is_judged_as_it_was_written(self, stand: Stand, headers: tuple[str, ...], host: str) -> None:
        line = io.StringIO(json.dumps({"host": "b.example.com@x", "path": "/", "method": "GET"}) + "\n")
        assert stand.tell(None, stdin=line, headers=headers).startswith(f"GET https://{host}/")

    def test_a_line_is_judged_as_nobody_and_says_what_the_log_says(self, stand: Stand) -> None:
        line = {"host": "app.example.com", "path": "/", "method": "GET", "decision": "deny",
                "reasons": ["claim-unauthorized"], "subject": "0a1b"}  # fmt: skip
        text = stand.tell(None, stdin=io.StringIO(json.dumps(line) + "\n"))
        assert "the log   says deny: claim-unauthorized, subject 0a1b" in text
        assert "✗ deny 401: user-unauthenticated" in text

    def test_with_claims_it_is_judged_as_they_say(self, stand: Stand) -> None:
        line = io.StringIO('{"host": "app.example.com", "path": "/"}')
        assert outcome(stand.story(None, stdin=line, claims='{"cognito:groups": ["admins"]}'))[0] == "allow"

    def test_its_address_is_the_one_that_was_judged(self, stand: Stand) -> None:
        text = '{"host": "app.example.com", "path": "/orders/7", "source_ip": "203.0.113.9"}'

        def judged(**options: Any) -> str:
            told: str = stand.story(None, stdin=io.StringIO(text), **options)["request"]["source_ip"]
            return told

        assert judged() == "203.0.113.9"
        assert judged(source_ip="192.0.2.1") == "192.0.2.1"
        assert judged(source_ip="") == ""
        stand.settings["client_ip_header"] = "x-real-ip"
        assert judged(source_ip="192.0.2.1") == "203.0.113.9"
        assert judged(headers=("x-real-ip: 10.0.0.1",)) == "10.0.0.1"
        told = stand.tell(None, stdin=io.StringIO(text))
        assert "address   203.0.113.9 — what the log says counts, not the TCP peer" in told

    @pytest.mark.parametrize(
        ("line", "route", "alone"),
        [
            ({"host": "gone.example", "path": "/", "route": "rest"}, "rest", "no route"),
            ({"host": "app.example.com", "path": "/public/x", "route": "orders"}, "orders",
             "`https://app.example.com prefix=/public`"),
            ({"host": "app.example.com", "path": "/x", "route": "rest"}, "rest", None),
            ({"host": "app.example.com", "path": "/public", "route": "https://app.example.com path=/health"},
             "https://app.example.com prefix=/public", None),
            ({"host": "app.example.com", "path": "/x", "route": 5}, "rest", None),
            ({"host": "app.example.com", "path": "/x"}, "rest", None),
            ({"host": "gone.example", "path": "/", "route": "unknown"}, None, None),
            ({"host": "app.example.com", "path": "/a//b", "route": "rest"}, None, None),
        ],
    )  # fmt: skip
    def test_the_route_that_envoy_named_is_the_one_explained(
        self, stand: Stand, line: Mapping[str, Any], route: str | None, alone: str | None
    ) -> None:
        story = stand.story(None, stdin=io.StringIO(json.dumps(line)))
        found = story["route"] or {"name": None, "note": ""}
        note = f"named by the line: Envoy chose it by its id, since host and path alone lead to {alone}"
        assert (found["name"], found["note"]) == (route, note if alone else "")
        text = stand.tell(None, stdin=io.StringIO(json.dumps(line)))
        assert ("named by the line" in text) is (alone is not None)

    @pytest.mark.parametrize("is_current", [True, False])
    def test_a_line_written_under_other_policies_names_none_of_these(self, stand: Stand, is_current: bool) -> None:
        files = read_files(stand.folder / "policies").files
        revision = parse_policies(files, PolicyOptions()).revision if is_current else "0" * 12
        line = {"host": "app.example.com", "path": "/public/x", "route": "orders", "policy_revision": revision}
        story = stand.story(None, stdin=io.StringIO(json.dumps(line)))
        assert story["route"]["name"] == ("orders" if is_current else "https://app.example.com prefix=/public")

    def test_what_envoy_calls_the_client_is_its_peer(self, stand: Stand) -> None:
        stand.settings["client_ip_header"] = "x-real-ip"
        line = '{"host": "app.example.com", "path": "/orders/7", "client": "203.0.113.9"}'
        assert stand.story(None, stdin=io.StringIO(line))["request"]["source_ip"] == ""

    def test_another_one_that_is_given_goes_before_it(self, stand: Stand) -> None:
        line = '{"host": "gone.example", "path": "/", "route": "orders"}'
        assert stand.story(None, stdin=io.StringIO(line), route_id="rest")["route"]["name"] == "rest"

    def test_a_label_that_is_anothers_id_is_no_id(self, stand: Stand) -> None:
        (stand.folder / "policies" / "app.yaml").write_text(
            "- {from: 'https://app.example.com', path: /a}\n"
            "- {from: 'https://other.example', id: 'https://app.example.com path=/a'}\n",
            encoding="utf-8",
        )
        line = '{"host": "app.example.com", "path": "/a", "route": "https://app.example.com path=/a"}'
        assert stand.story(None, stdin=io.StringIO(line))["route"]["at"] == "policies/app.yaml:1:3"

    def test_with_a_token_too(self, stand: Stand) -> None:
        line = io.StringIO('{"host": "app.example.com", "path": "/"}')
        assert outcome(stand.story(None, stdin=line, token=stand.pool.token(groups=["admins"])))[0] == "allow"


class TestShowing:
    def test_colour_only_where_it_is_wanted(self, stand: Stand) -> None:
        options = stand.options(url="https://app.example.com/public")
        assert "\x1b[" not in explain(options, color=False)
        assert "\x1b[32m" in explain(options, color=True)

    @pytest.mark.parametrize("color", [False, True])
    def test_what_a_token_holds_cannot_steer_the_terminal(self, stand: Stand, color: bool) -> None:
        token = stand.pool.token(groups=["\x1b[2J\u202eevil\r\n"])
        text = explain(stand.options(url="https://app.example.com/", token=token), color=color)
        assert "\x1b[2J" not in text
        assert "\u202e" not in text
        assert "\r" not in text

    def test_a_password_in_the_url_is_not_repeated(self, stand: Stand) -> None:
        assert "hunter2" not in stand.tell(None, url="https://me:hunter2@app.example.com/public")


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param({}, "give --url", id="nothing to explain"),
            pytest.param({"config": None}, "give --config", id="nothing to judge by"),
            pytest.param({"url": "ftp://x"}, "no http", id="another scheme"),
            pytest.param({"url": "https://a/", "claims": "{"}, "--claims is not JSON", id="claims that are no JSON"),
            pytest.param({"url": "https://a/", "claims": "[]"}, "not a JSON object", id="claims that are a list"),
            pytest.param({"url": "https://a/", "claims": "@/nowhere"}, "cannot read /nowhere", id="no file of claims"),
            pytest.param(
                {"url": "https://a/", "token": "@/nowhere"}, "cannot read /nowhere", id="no file of the token"
            ),
            pytest.param({"url": "https://a/", "token": '{"access_token": "x"}'}, "holds JSON", id="a whole answer"),
            pytest.param(
                {"url": "https://a/", "token": "a.b.c", "claims": "{}"}, "give one of them", id="a token and claims"
            ),
            pytest.param({"url": "https://a/", "now": "today"}, "not ISO 8601", id="a time that is none"),
            pytest.param(
                {"url": "https://a/", "source_ip": "10.0.0.999"}, "`10.0.0.999` is no IP address", id="no address"
            ),
            pytest.param({"url": "https://a/", "headers": ("x",)}, "`Name: value`", id="a header without a colon"),
            pytest.param({"stdin": io.TextIOWrapper(io.BytesIO(b"\xff\n"), "utf-8")}, "not UTF-8", id="bytes"),
            pytest.param({"stdin": None}, "give --url", id="no standard input"),
            pytest.param({"stdin": io.StringIO("GET / 200")}, "not JSON", id="a line of another log"),
        ],
    )
    def test_says_what_to_write_instead(self, stand: Stand, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            explain(stand.options(**options), color=False)

    def test_a_file_whose_at_sign_was_forgotten(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(stand.folder)
        (stand.folder / "token.txt").touch()
        with pytest.raises(UsageError, match=r"write --token @token\.txt"):
            explain(stand.options(url="https://a/", token="token.txt"), color=False)

    def test_files_that_do_not_load_report_every_problem(self, stand: Stand) -> None:
        stand.entry(clients=[], token_use="refresh")
        with pytest.raises(LoadError) as caught:
            stand.tell()
        assert len(caught.value.problems) == 2

    def test_claims_nested_without_end_are_told_of(self, stand: Stand) -> None:
        with pytest.raises(UsageError, match="--claims is not JSON"):
            stand.tell(claims='{"a": ' + "[" * 100_000)
