"""Pomerium's sources as people write them: what stops the import, what is harmless, where its problems are."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from authz.errors import LoadError
from authz.workbench.importers import import_pomerium
from authz.workbench.importers.durations import seconds_of
from tests.support.imported import Asked, Imported

PUBLIC = "[{from: https://a.example.com, to: http://a, allow_public_unauthenticated_access: true}]"
ROUTE = "from: https://a.example.com, to: http://a"


def stopped(text: str, folder: Path, name: str = "source.yaml") -> list[str]:
    """Import a text and give the problems, each place without the folder."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LoadError) as caught:
        import_pomerium(path, folder / "out")
    assert not (folder / "out").exists(), "something was written"
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def imported(text: str, folder: Path, name: str = "source.yaml") -> Imported:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    import_pomerium(path, folder / "out")
    return Imported(folder / "out")


def routes_of(one: Imported, host: str = "a.example.com") -> list[Any]:
    hosts = {each["name"]: each for each in one.manager["route_config"]["virtual_hosts"]}
    return list(hosts[host]["routes"])


def variables(**values: str) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


# --- what stops it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CA", "CA_FILE", "CRL_FILE", "ENFORCEMENT", "MATCH_SUBJECT_ALT_NAMES"])
def test_client_certificates_stop_it_as_variables_too(name: str, tmp_path: Path) -> None:
    text = variables(ROUTES=base64.b64encode(PUBLIC.encode()).decode(), **{f"DOWNSTREAM_MTLS_{name}": "x"})
    (problem,) = stopped(text, tmp_path, "source.env")
    assert problem.startswith(f"source.env:2:1: downstream_mtls_{name.lower()}: asks clients for certificates")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        pytest.param(f"<<: {{downstream_mtls: {{ca: x}}}}\nroutes: {PUBLIC}\n", "1:5: <<", id="at the top"),
        pytest.param(
            f"routes: [{{{ROUTE}, <<: {{allowed_users: [a]}}}}]\n", "1:58: routes[0].<<", id="in a route"
        ),
        pytest.param(
            "kind: ConfigMap\ndata: {<<: {POLICY: x}, IDP_PROVIDER: oidc}\n", "2:12: data.<<", id="in a ConfigMap"
        ),
    ],
)  # fmt: skip
def test_a_merge_stops_it(text: str, at: str, tmp_path: Path) -> None:
    assert any(problem.startswith(f"source.yaml:{at}: a merge") for problem in stopped(text, tmp_path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("source.env", variables(ROUTES=PUBLIC) + variables(ROUTES="[]")),
        ("source.yaml", f"routes: {PUBLIC}\nRoutes: []\n"),
        ("source.yaml", f'kind: ConfigMap\ndata:\n  ROUTES: "[]"\n  config.yaml: |\n    routes: {PUBLIC}\n'),
    ],
    ids=["a variable", "in another case", "a variable beside a file"],
)
def test_a_setting_that_is_written_twice_stops_it(name: str, text: str, tmp_path: Path) -> None:
    (problem,) = stopped(text, tmp_path, name)
    assert ": routes: written twice, first at " in problem


def test_names_count_without_regard_to_case(tmp_path: Path) -> None:
    assert "asks clients for certificates" in stopped("Downstream_MTLS: {ca: x}\n", tmp_path)[0]
    assert imported(f"Routes: {PUBLIC}\n", tmp_path).decide(Asked("a.example.com"), None) == "allow"


BARE = "bearer_token_format: idp_access_token\n"


@pytest.mark.parametrize("data", ["{has: x, exclude: y}", "{exclude: y, is: x}"])
def test_an_exclusion_beside_another_matcher_does_not_hold_without_the_claim(data: str, tmp_path: Path) -> None:
    rules = f"[{{allow: {{and: [authenticated_user: true]}}}}, {{deny: {{or: [claim/department: {data}]}}}}]"
    (problem,) = stopped(f"{BARE}routes: [{{{ROUTE}, policy: {rules}}}]\n", tmp_path)
    assert "`claim/department` keeps people out, and a bearer access token does not hold that claim" in problem


# --- who signs in ---------------------------------------------------------------------------------------------------

DENY = "{deny: {or: [claim/cognito:groups: banned]}}"
FIXED = "{deny: {or: [http_method: DELETE]}}"


@pytest.mark.parametrize(
    ("keys", "is_optional"),
    [
        pytest.param(f"policy: [{{allow: {{or: [accept: true]}}}}, {DENY}]", False, id="accept and an identity denial"),
        pytest.param(f"allow_public_unauthenticated_access: true, policy: [{DENY}]", False, id="public and a denial"),
        pytest.param(f"allow_public_unauthenticated_access: true, policy: [{FIXED}]", True, id="a denial of a method"),
        pytest.param("allow_public_unauthenticated_access: true", True, id="public alone"),
    ],
)
def test_a_public_route_that_denies_by_identity_sends_browsers_to_sign_in(
    keys: str, is_optional: bool, tmp_path: Path
) -> None:
    one = imported(f"routes: [{{{ROUTE}, {keys}}}]\n", tmp_path)
    of_route = routes_of(one)[-1]["typed_per_filter_config"]
    assert ("allow_failed_matcher" in str(of_route)) is is_optional
    sign_in = one.manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"]
    assert "allow_failed_matcher" not in str(sign_in)
    assert one.decide(Asked("a.example.com"), None) == ("allow" if is_optional else "401")


# --- where problems are ---------------------------------------------------------------------------------------------


def test_a_policy_that_does_not_load_is_a_problem_of_its_route(tmp_path: Path) -> None:
    text = f"routes:\n- {{{ROUTE}, path: /a}}\n- {{{ROUTE}, allowed_idp_claims: {{x: {{y: [z]}}}}}}\n"
    (problem,) = stopped(text, tmp_path)
    assert problem.startswith("source.yaml:3:3: the imported `policies/a.example.com.yaml` does not load: route ")


def test_a_configuration_that_does_not_load_is_a_problem_of_its_setting(tmp_path: Path) -> None:
    (problem,) = stopped(f"jwt_claims_headers:\n  Host: email\nroutes: {PUBLIC}\n", tmp_path)
    assert problem.startswith("source.yaml:2:3: the imported `authz.yaml` does not load: identity_headers.host: ")


@pytest.mark.parametrize(
    ("written", "headers"),
    [
        pytest.param(
            "[groups, user, email]",
            {
                "x-pomerium-claim-groups": ("cognito:groups", "groups"),
                "x-pomerium-claim-user": ("user", "sub"),
                "x-pomerium-claim-email": ("email",),
            },
            id="a list",
        ),
        pytest.param("{X-Groups: groups}", {"x-groups": ("cognito:groups", "groups")}, id="a map"),
    ],
)
def test_the_claims_of_pomeriums_own_are_looked_for_where_cognito_has_them(
    written: str, headers: object, tmp_path: Path
) -> None:
    one = imported(f"jwt_claims_headers: {written}\nroutes: {PUBLIC}\n", tmp_path)
    assert dict(one.settings.identity_headers) == headers


# --- what is harmless -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"downstream_mtls: null\nadministrators: ''\ndeny_all: ~\nroutes: {PUBLIC}\n",
        f"routes: [{{{ROUTE}, allow_public_unauthenticated_access: true, idp_client_id: null, mcp: , prefix: ''}}]\n",
        f"policy: null\nroutes: [{{{ROUTE}, allow_public_unauthenticated_access: true, policy: null, timeout: }}]\n",
    ],
)
def test_what_is_null_or_empty_counts_as_not_written(text: str, tmp_path: Path) -> None:
    one = imported(text, tmp_path)
    assert one.decide(Asked("a.example.com", "/any"), None) == "allow"
    assert "| nothing is written there |" in one.report


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5s", "1.5s"),
        ("1h30m", "5400s"),
        (".5s", "0.5s"),
        ("1.s", "1s"),
        ("+1ms", "0.001s"),
        ("1µs", "0.001s"),
        ("0", "0s"),
        ("1000h", "3600000s"),
        ("-1s", None),
        ("1", None),
        ("", None),
        ("1s 2s", None),
        ("s", None),
        ("9999999h", None),
    ],
)
def test_durations_are_read_as_go_reads_them(text: str, seconds: str | None) -> None:
    assert seconds_of(text) == seconds


def test_a_fraction_of_a_second_is_a_timeout(tmp_path: Path) -> None:
    keys = "allow_any_authenticated_user: true, idle_timeout: 1h30m, connect_timeout: 0"
    text = f"default_upstream_timeout: 1.5s\nroutes: [{{{ROUTE}, {keys}}}]\n"
    one = imported(text, tmp_path)
    route = routes_of(one)[-1]["route"]
    assert (route["timeout"], route["idle_timeout"]) == ("1.5s", "5400s")
    assert one.envoy["static_resources"]["clusters"][0]["connect_timeout"] == "5s"


def test_a_default_timeout_that_is_none_stops_it_once(tmp_path: Path) -> None:
    problems = stopped(f"default_upstream_timeout: soon\nroutes: [{{{ROUTE}}}, {{{ROUTE}, path: /b}}]\n", tmp_path)
    assert problems == ["source.yaml:1:27: default_upstream_timeout: expected a duration such as 30s, 1.5s or 1m30s"]


def test_headers_that_envoy_lets_nobody_change_are_left_out(tmp_path: Path) -> None:
    headers = '{Host: q, ":path": /y, "X Bad": x, X-Line: "a\\nb", X-Good: "a\\tb"}'
    keys = f'allowed_users: [x], set_request_headers: {headers}, remove_request_headers: [host, ":path", X-Gone]'
    one = imported(f"routes: [{{{ROUTE}, {keys}}}]\n", tmp_path)
    route = routes_of(one)[-1]
    assert [added["header"]["key"] for added in route["request_headers_to_add"]] == ["X-Good"]
    assert route["request_headers_to_remove"] == ["X-Gone"]
    assert "`routes[0].set_request_headers.Host` | 1 | not carried over | Envoy lets routes change no" in one.report


# --- tests of the result --------------------------------------------------------------------------------------------


def test_callers_are_written_as_tokens_hold_their_claims(tmp_path: Path) -> None:
    claims = "{sub: [me], aud: [x], client_id: [fill-in-the-app-client-id, other], iss: [y], exp: [1], team: [a]}"
    one = imported(f"routes: [{{{ROUTE}, allowed_idp_claims: {claims}}}]\n", tmp_path)
    tests = (one.folder / "policies" / "a.example.com_test.yaml").read_text(encoding="utf-8")
    assert "sub: me\n" in tests
    assert "team:\n  - a\n" in tests.replace("    ", "  ")
    assert "client_id: fill-in-the-app-client-id\n" in tests
    assert "other" not in tests  # of a foreign app client: refused before any rule is asked
