"""What an import writes besides decisions: the whole account of its source, no secret, and Envoy's half."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.document import parse
from authz.errors import LoadError
from authz.node import Problems
from authz.workbench.importers import ImportResult, import_kong, import_pomerium
from authz.workbench.importers.common import issuer_name
from authz.workbench.importers.ledger import Ledger, Outcome, leaves
from authz.workbench.importers.yaml_text import flow_text, yaml_text
from tests.support.imported import Asked, Imported

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "cases" / "imports"
SOURCES = sorted([*(CASES / "pomerium").iterdir(), *(CASES / "kong").iterdir()])


def run(path: Path, out: Path, *, force: bool = False) -> ImportResult:
    take = import_kong if path.parent.name == "kong" else import_pomerium
    return take(path, out, force=force)


def stopped(text: str, tmp_path: Path, program: str) -> list[str]:
    """Import a text and give the problems, without the file's name."""
    path = tmp_path / program / "source.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LoadError) as caught:
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists(), "something was written"
    return [str(problem).replace(f"{path}:", "") for problem in caught.value.problems]


# --- the account ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name} {path.name}")
def test_every_setting_of_the_source_stands_in_the_report(path: Path, tmp_path: Path) -> None:
    result = run(path, tmp_path / "out")
    report = (tmp_path / "out" / "IMPORT.md").read_text(encoding="utf-8")
    for setting in settings_of(path):
        assert any(entry.covers(setting) or entry.path.startswith(f"{setting}[") for entry in result.entries), setting
    for entry in result.entries:
        assert f"| `{entry.path}` |" in report
    assert not [entry for entry in result.entries if entry.text == "unknown to the importer"]


def settings_of(path: Path) -> list[str]:
    data = path.read_bytes()
    if path.suffix == ".env":
        return [name.lower() for name in re.findall(r"^(?:export )?([A-Z_]+)=", data.decode(), re.MULTILINE)]
    node = parse(data, path.name, Problems())
    assert node is not None
    if path.name == "guide-config-map.yaml":
        inner = yaml.safe_load(data)["data"]["config.yaml"]
        node = parse(inner.encode(), path.name, Problems())
        assert node is not None
    return [setting if not setting.startswith("[") else f"routes{setting}" for setting, _ in leaves(node)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name} {path.name}")
def test_no_secret_is_copied(path: Path, tmp_path: Path) -> None:
    run(path, tmp_path / "out")
    for file in (tmp_path / "out").rglob("*"):
        assert not file.is_file() or "do-not-copy" not in file.read_text(encoding="utf-8"), file


def test_secrets_are_named_with_the_place_to_put_them(tmp_path: Path) -> None:
    result = run(CASES / "pomerium" / "team.yaml", tmp_path / "out")
    secret = {entry.path: entry.text for entry in result.entries if entry.outcome is Outcome.SECRET}
    assert "secrets/client-secret.txt" in secret["idp_client_secret"]
    assert "routes[3].set_request_headers.Authorization" in secret
    assert any("secrets/client-secret.txt" in item for item in result.todo)


def test_line_numbers_inside_a_config_map_are_those_of_the_file(tmp_path: Path) -> None:
    path = CASES / "pomerium" / "guide-config-map.yaml"
    result = run(path, tmp_path / "out")
    line = next(entry.source.line for entry in result.entries if entry.path == "idp_client_id")
    assert "idp_client_id" in path.read_text(encoding="utf-8").splitlines()[line - 1]


def test_what_nobody_noted_is_listed_as_not_carried_over() -> None:
    ledger = Ledger()
    node = parse(b"a: 1\nb: {c: [2, {}]}", "x", Problems())
    assert node is not None
    ledger.left("a", node, "because")
    ledger.close(node)
    assert [(entry.path, entry.text) for entry in ledger.entries[1:]] == [
        ("b.c[0]", "unknown to the importer"),
        ("b.c[1]", "unknown to the importer"),
    ]


# --- authz.yaml -----------------------------------------------------------------------------------------------------


def config(name: str, tmp_path: Path) -> Any:
    run(CASES / name, tmp_path / "out")
    return yaml.safe_load((tmp_path / "out" / "authz.yaml").read_text(encoding="utf-8"))


def test_the_guides_variables_become_a_pool(tmp_path: Path) -> None:
    written = config("pomerium/guide-environment.env", tmp_path)
    pool = {"user_pool": "eu-west-1_AbCdEfGhI", "clients": ["304a12ktcc5djt9d7enj6dsjkg"], "token_use": ["access"]}
    assert written["cognito"] == [pool]  # without routes nobody signs in: no leeway


def test_a_placeholder_becomes_a_pool_that_nobody_can_have_tokens_of(tmp_path: Path) -> None:
    written = config("pomerium/guide-config-map.yaml", tmp_path)
    assert written["cognito"][0]["issuers"] == ["https://issuer.invalid/fill-in"]


def test_a_sign_in_adds_the_id_token_and_hides_credentials(tmp_path: Path) -> None:
    written = config("pomerium/team.yaml", tmp_path)
    assert written["enrich_from"] == {"header": "x-auth-id-token"}
    assert written["hide_credentials"] is True
    assert written["identity_headers"] == {"x-team-groups": "cognito:groups", "x-team-email": "email"}
    assert written["log"] == {"level": "warning"}


def test_bearer_tokens_count_as_the_source_says(tmp_path: Path) -> None:
    written = config("pomerium/base64.env", tmp_path)
    assert written["cognito"][0]["user_pool"] == "cn-north-1_AbCdEfGhI"
    assert written["identity_headers"] == {"x-who": "sub"}
    imported = Imported(tmp_path / "out")
    assert "transport_socket" not in imported.envoy["static_resources"]["listeners"][0]["filter_chains"][0]
    matchers = imported.manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"]
    assert "authorization" in str(matchers["envoy.filters.http.oauth2"]["config"]["pass_through_matcher"])


def test_kongs_places_of_tokens_and_headers_are_carried(tmp_path: Path) -> None:
    written = config("kong/required.yaml", tmp_path)
    assert written["tokens"] == [{"header": "authorization"}, {"cookie": "access"}]
    assert written["identity_headers"] == {"x-caller": "sub", "x-caller-groups": "cognito:groups"}
    assert written["hide_credentials"] is True
    assert "leeway" not in written["cognito"][0]  # the other instances have none


def test_the_portal_leaves_its_pool_and_its_leeway(tmp_path: Path) -> None:
    written = config("kong/guide-portal.json", tmp_path)
    assert written["cognito"][0]["user_pool"] == "ap-southeast-1_AbCdEfGhI"
    assert written["cognito"][0]["leeway"] == "100s"


WHY_LEEWAY = "a session in its last second is refreshed by Envoy"


def leeway_of(config_keys: str, tmp_path: Path) -> tuple[float, str]:
    """Import a plugin with these settings and give its pool's leeway in seconds, and the report."""
    _, imported = written(kong(config_keys), tmp_path, "kong")
    return imported.settings.pools[0].pool.leeway, imported.report


@pytest.mark.parametrize(
    ("leeway", "seconds"),
    [
        pytest.param("", 10, id="none in the source"),
        pytest.param(", leeway: 0", 10, id="zero in the source"),
        pytest.param(", leeway: 9", 10, id="less in the source"),
        pytest.param(", leeway: 10.5", 11, id="a fraction more in the source"),
        pytest.param(", leeway: 100", 100, id="more in the source"),
        pytest.param(", leeway: 300", 300, id="the most there is"),
        pytest.param(", leeway: 301", 300, id="more than there is"),
        pytest.param(f", leeway: {'9' * 400}", 300, id="a number without end"),
        pytest.param(", leeway: a while", 10, id="no number"),
    ],
)
def test_a_pool_whose_people_sign_in_has_ten_seconds_of_leeway_or_more(
    leeway: str, seconds: int, tmp_path: Path
) -> None:
    found, report = leeway_of(leeway, tmp_path)
    assert found == seconds
    assert (WHY_LEEWAY in report) is (found == 10)
    assert ("`leeway: 300s`, the most there is" in report) is (leeway not in ("", ", leeway: 300") and found == 300)


def test_without_a_sign_in_the_leeway_is_the_sources(tmp_path: Path) -> None:
    assert leeway_of(", auth_methods: [bearer], leeway: 3", tmp_path)[0] == 3
    report = (tmp_path / "out" / "IMPORT.md").read_text(encoding="utf-8")
    assert WHY_LEEWAY not in report


def test_a_pool_without_a_sign_in_gets_no_leeway_from_another(tmp_path: Path) -> None:
    inside, outside = config("kong/two-pools.json", tmp_path)["cognito"]
    assert inside["leeway"] == "10s"
    assert "leeway" not in outside


def test_instances_that_differ_in_leeway_have_the_least_of_them_and_the_report_says_so(tmp_path: Path) -> None:
    config("kong/required.yaml", tmp_path)
    report = (tmp_path / "out" / "IMPORT.md").read_text(encoding="utf-8")
    assert "- `leeway` is the pool's: the least that an instance of the plugin says holds for all." in report


def places_of(config_keys: str, tmp_path: Path) -> tuple[list[tuple[str, str]], Imported]:
    _, imported = written(kong(config_keys), tmp_path, "kong")
    return [(place.kind, place.name) for place in imported.settings.tokens], imported


@pytest.mark.parametrize(
    ("keys", "places"),
    [
        pytest.param("bearer_token_header_name: X-Token", [("header", "x-token")], id="a header of another name"),
        pytest.param(
            "bearer_token_param_type: [cookie, header], bearer_token_header_name: X-Token, bearer_token_cookie_name: C",
            [("cookie", "C"), ("header", "x-token")],
            id="a cookie before the header, as in the source",
        ),
        pytest.param(
            "bearer_token_param_type: [header, cookie], bearer_token_header_name: X-Token, bearer_token_cookie_name: C",
            [("header", "x-token"), ("cookie", "C")],
            id="a header before the cookie, as in the source",
        ),
        pytest.param(
            "bearer_token_param_type: [cookie], bearer_token_header_name: X-Token, bearer_token_cookie_name: C",
            [("cookie", "C")],
            id="the name of a header that does not count",
        ),
        pytest.param(
            "bearer_token_header_name: Authorization", [("header", "authorization")], id="the usual header by its name"
        ),
    ],
)
def test_kongs_bearer_tokens_are_found_where_its_names_say(
    keys: str, places: list[tuple[str, str]], tmp_path: Path
) -> None:
    assert places_of(f", auth_methods: [bearer], {keys}", tmp_path)[0] == places


@pytest.mark.parametrize("name", ["x-auth-token", "x.auth.token", "x-auth.token", "x_token", "Cookie", "a b"])
def test_a_header_that_envoy_lets_not_arrive_is_not_carried(name: str, tmp_path: Path) -> None:
    places, imported = places_of(
        f", auth_methods: [bearer], bearer_token_param_type: [header, cookie], bearer_token_cookie_name: C, "
        f"bearer_token_header_name: '{name}'",
        tmp_path,
    )
    assert places == [("cookie", "C")]
    assert "lets no such header arrive" in imported.report


def test_envoy_lets_authz_take_the_tokens_header_off(tmp_path: Path) -> None:
    _, imported = places_of(
        ", auth_methods: [bearer], hide_credentials: true, bearer_token_header_name: X-Token", tmp_path
    )
    filters = {one["name"]: one for one in imported.manager["http_filters"]}
    rules = filters["envoy.filters.http.ext_authz"]["typed_config"]["decoder_header_mutation_rules"]
    assert re.fullmatch(rules["allow_expression"]["regex"], "x-token")


def test_beside_a_sign_in_the_sessions_token_counts_too(tmp_path: Path) -> None:
    places, imported = places_of(", bearer_token_header_name: X-Token", tmp_path)
    assert places == [("header", "x-token"), ("header", "authorization")]
    assert "programs that bring their token elsewhere are sent to sign in" in imported.report


# --- envoy.yaml -----------------------------------------------------------------------------------------------------


def test_the_hardening_is_that_of_the_samples(tmp_path: Path) -> None:
    run(CASES / "pomerium" / "team.yaml", tmp_path / "out")
    imported = Imported(tmp_path / "out")
    sample = yaml.safe_load((ROOT / "envoy" / "browser.yaml").read_text(encoding="utf-8"))
    theirs = sample["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    ours = imported.manager
    own = {"stat_prefix", "route_config", "http_filters", "early_header_mutation_extensions", "access_log"}
    assert {k: v for k, v in ours.items() if k not in own} == {k: v for k, v in theirs.items() if k not in own}
    pick = "envoy.filters.http.ext_authz"
    filters = [{one["name"]: one for one in side["http_filters"]}[pick]["typed_config"] for side in (ours, theirs)]
    assert filters[0] == filters[1]
    assert sample["overload_manager"] == imported.envoy["overload_manager"]
    assert sample["layered_runtime"] == imported.envoy["layered_runtime"]
    clusters = [{one["name"]: one for one in side["static_resources"]["clusters"]} for side in (imported.envoy, sample)]
    assert clusters[0]["authz"] == clusters[1]["authz"]


def test_clients_cannot_send_identity_headers(tmp_path: Path) -> None:
    run(CASES / "pomerium" / "team.yaml", tmp_path / "out")
    manager = Imported(tmp_path / "out").manager
    headers = manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    trailers = manager["http_filters"][0]["typed_config"]["mutations"]["request_trailers_mutations"]
    for pattern in ("x-auth-.*", "x-pomerium-.*", "x-team-groups"):  # in every spelling
        regex = pattern.replace("-", "[^a-z0-9]")
        for mutations in (headers, trailers):
            assert {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": regex}}}} in mutations


def test_each_host_signs_in_with_a_callback_of_its_own(tmp_path: Path) -> None:
    run(CASES / "pomerium" / "team.yaml", tmp_path / "out")
    hosts = {host["name"]: host for host in Imported(tmp_path / "out").manager["route_config"]["virtual_hosts"]}
    sign_in = hosts["groups.example.com"]["typed_per_filter_config"]["envoy.filters.http.oauth2"]["config"]
    assert sign_in["redirect_uri"] == "https://groups.example.com/oauth2/callback"
    assert sign_in["auth_scopes"] == ["openid", "email"]
    assert sign_in["credentials"]["cookie_names"]["bearer_token"].startswith("__Host-")
    assert sign_in["pass_through_matcher"] == []
    of_route = hosts["groups.example.com"]["routes"][-1]["typed_per_filter_config"]["envoy.filters.http.oauth2"]
    options = [{"name": ":method", "string_match": {"exact": "OPTIONS"}}]
    assert of_route["config"]["pass_through_matcher"] == options  # that route alone lets preflights pass
    assert "typed_per_filter_config" not in hosts["nobody.example.com"]


def test_kongs_sign_in_knows_the_pools_domain_and_its_provider(tmp_path: Path) -> None:
    run(CASES / "kong" / "two-pools.json", tmp_path / "out")
    hosts = Imported(tmp_path / "out").manager["route_config"]["virtual_hosts"]
    sign_in = hosts[0]["typed_per_filter_config"]["envoy.filters.http.oauth2"]["config"]
    domain = "https://inside.auth.eu-west-1.amazoncognito.com"
    assert sign_in["authorization_endpoint"] == f"{domain}/oauth2/authorize?identity_provider=Auth0"
    assert sign_in["token_endpoint"]["uri"] == f"{domain}/oauth2/token"
    outside = hosts[1]["routes"][0]["typed_per_filter_config"]["envoy.filters.http.oauth2"]
    assert outside["disabled"] is True


SCOPES = "[profile, openid, offline_access, aws.cognito.signin.user.admin]"


@pytest.mark.parametrize(
    ("program", "scopes"),
    [
        pytest.param("kong", SCOPES, id="Kong's list"),
        pytest.param("kong", SCOPES.replace(",", ""), id="Kong's list with one text of several"),
        pytest.param("pomerium", SCOPES, id="Pomerium's list"),
        pytest.param("pomerium", SCOPES.strip("[]").join('""'), id="Pomerium's text"),
    ],
)
def test_the_scope_that_lets_a_token_rewrite_its_user_is_dropped(program: str, scopes: str, tmp_path: Path) -> None:
    text = kong(f", scopes: {scopes}") if program == "kong" else f"idp_scopes: {scopes}\nroutes:\n{ROUTE}"
    _, imported = written(text, tmp_path, program)
    host = imported.manager["route_config"]["virtual_hosts"][0]
    sign_in = host["typed_per_filter_config"]["envoy.filters.http.oauth2"]["config"]
    assert sign_in["auth_scopes"] == ["openid", "profile"]
    row = next(line for line in imported.report.splitlines() if "scopes` |" in line)
    assert "`aws.cognito.signin.user.admin` is dropped: with it, an access token can rewrite its user's" in row
    assert "This narrows" in row
    assert "`offline_access` is dropped" in row


def test_other_scopes_are_carried_with_openid(tmp_path: Path) -> None:
    result, _ = written(kong(", scopes: [email]"), tmp_path, "kong")
    entry = next(entry for entry in result.entries if entry.path.endswith(".scopes"))
    assert (entry.outcome, entry.text) == (Outcome.CARRIED, "`envoy.yaml`: oauth2 `auth_scopes`, with `openid`")


# --- the folder -----------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path: Path) -> None:
    source, out = CASES / "pomerium" / "rules.yaml", tmp_path / "out"
    run(CASES / "pomerium" / "hosts.yaml", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(LoadError, match="is not empty"):
        run(source, out)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_force_replaces_an_older_import_and_keeps_what_is_not_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(CASES / "pomerium" / "hosts.yaml", out)
    (out / "policies" / "mine.yaml").write_text("- from: https://mine.example.com\n", encoding="utf-8")
    (out / "secrets" / "client-secret.txt").write_text("x", encoding="utf-8")
    run(CASES / "pomerium" / "rules.yaml", out, force=True)
    names = {path.name for path in (out / "policies").iterdir()}
    assert names == {"mine.yaml", "rules.example.com.yaml", "rules.example.com_test.yaml"}
    assert (out / "secrets" / "client-secret.txt").exists()


def test_a_source_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot be read"):
        import_pomerium(tmp_path / "none.yaml", tmp_path / "out")
    with pytest.raises(LoadError, match="cannot be read"):
        import_kong(tmp_path / "none.yaml", tmp_path / "out")


# --- what stops an import -------------------------------------------------------------------------------------------

ROUTE = "- from: https://a.example.com\n  to: http://a:80\n  allow_any_authenticated_user: true\n"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        pytest.param("  allowed_groups: [admins]", "allowed_idp_claims", id="groups that Pomerium removed"),
        pytest.param("  sub_policies: [{allowed_users: [a]}]", "write its rules under `policy:`", id="sub policies"),
        pytest.param("  alowed_users: [a]", "did you mean `allowed_users`?", id="an unknown key of a route"),
        pytest.param("  tls_downstream_client_ca: x", "asks clients for certificates", id="client certificates"),
        pytest.param(
            "  idp_client_id: other", "a sign-in of its own for one route", id="another app client for a route"
        ),
        pytest.param(
            "  idp_access_token_allowed_audiences: [x]", "`client_id: {in: […]}`", id="audiences of one route"
        ),
        pytest.param("  regex: (?=x)", "no RE2 pattern", id="a pattern that RE2 has not"),
        pytest.param("  prefix: /a?b", "no request can match", id="a prefix that no path has"),
        pytest.param("  policy: [{allow: {or: [groups: admins]}}]", "claim/cognito:groups", id="groups of a directory"),
        pytest.param("  policy: [{deny: {or: [email: a@b.c]}}]", "claim/email_verified", id="a denial by e-mail"),
        pytest.param("  policy: [{allow: {not: [domain: b.c]}}]", "claim/email_verified", id="everybody but a domain"),
        pytest.param("  policy: [{allow: {or: [device: {is: x}]}}]", "device registry", id="a device"),
        pytest.param("  policy: [{deny: {or: [record: x]}}]", "needs a directory", id="a record"),
        pytest.param(
            "  policy: [{deny: {or: [client_certificate: {fingerprint: x}]}}]", "Envoy does not ask", id="a certificate"
        ),
        pytest.param("  policy: [{allow: {or: [claim/x: [a, b]]}}]", "or", id="a list where a value is meant"),
        pytest.param("  timeout: soon", "expected a duration", id="a timeout that is no duration"),
        pytest.param("  allowed_idp_claims: [x]", "expected a map of claims", id="claims that are a list"),
    ],
)
def test_what_would_widen_a_pomerium_route_stops_the_import(keys: str, says: str, tmp_path: Path) -> None:
    problems = stopped(f"routes:\n{ROUTE}{keys}\n", tmp_path, "pomerium")
    assert any(says in problem for problem in problems), problems
    assert all(re.match(r"\d+:\d+: ", problem) for problem in problems), problems


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("idp_provider: google\n", "only Cognito's users", id="another provider"),
        pytest.param("idp_provider_url: https://acme.auth0.com\n", "not the issuer of a Cognito", id="another issuer"),
        pytest.param("downstream_mtls: {ca: x}\n", "asks clients for certificates", id="client certificates for all"),
        pytest.param(
            "deny_everyone_else: true\n", "restricts access", id="an unknown key that sounds like a restriction"
        ),
        pytest.param("_format_version: '3.0'\n", "authz import kong", id="a file of Kong's"),
        pytest.param("routes: [{to: http://a}]\n", "`from` is missing", id="a route without a host"),
        pytest.param("routes: [x]\n", "expected a map", id="a route that is a text"),
        pytest.param("routes: {from: https://a.test}\n", "expected a list", id="routes that are a map"),
        pytest.param("a: 1\na: 2\n", "duplicate key", id="a duplicate key"),
        pytest.param("just text\n", "expected Pomerium's settings", id="a text"),
        pytest.param("kind: ConfigMap\ndata: {}\n", "without settings", id="an empty ConfigMap"),
    ],
)
def test_what_would_widen_or_is_not_understood_stops_pomeriums_import(text: str, says: str, tmp_path: Path) -> None:
    assert any(says in problem for problem in stopped(text, tmp_path, "pomerium"))


@pytest.mark.parametrize(
    ("to", "says"),
    [
        pytest.param("http://a:80/path", "write it as `prefix_rewrite`", id="a path"),
        pytest.param("http://u:p@a/:8080", "after the slash: write `http://a:8080`", id="a port that is a path"),
        pytest.param("[http://a, https://b]", "of one scheme", id="two schemes"),
        pytest.param("ftp://a", "http, https or h2c", id="another scheme"),
        pytest.param("http://a:99999", "http, https or h2c", id="no port"),
    ],
)
def test_an_upstream_that_cannot_be_written_stops_the_import(to: str, says: str, tmp_path: Path) -> None:
    text = f"routes: [{{from: https://a.example.com, to: {to}, allow_any_authenticated_user: true}}]\n"
    assert any(says in problem for problem in stopped(text, tmp_path, "pomerium"))


def written(text: str, tmp_path: Path, program: str) -> tuple[ImportResult, Imported]:
    path = tmp_path / program / "source.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    result = run(path, tmp_path / "out")
    return result, Imported(tmp_path / "out")


def test_a_password_in_an_upstreams_url_is_not_copied(tmp_path: Path) -> None:
    text = "routes: [{from: https://a.example.com, to: 'http://me:do-not-copy@a:80', allowed_users: [x]}]\n"
    result, imported = written(text, tmp_path, "pomerium")
    assert any("holds a user name or password" in item for item in result.todo)
    assert "do-not-copy" not in str(imported.envoy) + imported.report


def test_answers_without_an_upstream_and_rewrites_become_envoys(tmp_path: Path) -> None:
    text = (
        "routes:\n"
        "- {from: https://a.example.com, path: /up, response: {status: 200, body: fine}, timeout: 3s}\n"
        "- {from: https://a.example.com, prefix: /p, to: h2c://a, prefix_rewrite: /q, host_rewrite: b, "
        "idle_timeout: 1s}\n"
        "- {from: https://a.example.com, prefix: /r, to: http://a, regex_rewrite_pattern: x, host_rewrite_header: h}\n"
        "- {from: https://a.example.com}\n"
    )
    result, imported = written(text, tmp_path, "pomerium")
    routes = imported.manager["route_config"]["virtual_hosts"][0]["routes"]
    assert routes[0]["direct_response"] == {"status": 200, "body": {"inline_string": "fine"}}
    assert routes[1]["route"]["prefix_rewrite"] == "/q"
    assert routes[1]["route"]["host_rewrite_literal"] == "b"
    assert routes[1]["route"]["idle_timeout"] == "1s"
    assert routes[2]["route"]["regex_rewrite"]["pattern"] == {"regex": "x"}
    assert routes[2]["route"]["host_rewrite_header"] == "h"
    assert routes[3]["direct_response"] == {"status": 503}
    assert any("has no `to`" in item for item in result.todo)


def test_variables_inside_a_config_map_are_read(tmp_path: Path) -> None:
    text = (
        "kind: ConfigMap\ndata: {IDP_PROVIDER: oidc, IDP_CLIENT_ID: abc, JWT_CLAIMS_HEADERS: "
        "'X-A:sub,email', other: x}\n"
    )
    result, imported = written(text, tmp_path, "pomerium")
    assert imported.settings.pools[0].pool.clients == frozenset({"abc"})
    assert dict(imported.settings.identity_headers) == {"x-a": ("sub",), "x-pomerium-claim-email": ("email",)}
    assert "data.other" in {entry.path for entry in result.entries}


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = "idp_provider: google\nroutes:\n" + ROUTE + "  allowed_groups: [x]\n" + ROUTE + "  whatever: 1\n"
    assert len(stopped(text, tmp_path, "pomerium")) == 3


OIDC = "issuer: https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI, client_id: [a]"


def kong(config_keys: str = "", route_keys: str = "", plugins: str = "") -> str:
    return (
        "_format_version: '3.0'\nservices:\n- name: s\n  url: http://s.internal\n  plugins:\n"
        f"  - {{name: openid-connect, config: {{{OIDC}{config_keys}}}}}\n{plugins}"
        f"  routes:\n  - {{name: r, hosts: [a.example.com]{route_keys}}}\n"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(kong(", claims_forbidden: [x]"), "presence of a claim", id="claims that are forbidden"),
        pytest.param(kong(", consumer_claim: [email]"), "groups_required", id="known consumers alone"),
        pytest.param(kong(", introspect_jwt_tokens: true"), "valid until it expires", id="introspection"),
        pytest.param(kong(", proof_of_possession_dpop: strict"), "binds no tokens", id="proof of possession"),
        pytest.param(kong(", authenticated_groups_claim: [x]"), "ACL plugin", id="groups for the ACL plugin"),
        pytest.param(kong(", countries_required: [x]"), "may restrict access", id="an unknown requirement"),
        pytest.param(kong(", groups_required: {a: b}"), "expected a list", id="a requirement that is a map"),
        pytest.param(
            kong(", groups_required: [a], groups_claim: [a, '1']"), "counts into a list", id="a counted claim"
        ),
        pytest.param(
            kong(
                f", scopes_required: [{', '.join('abcdefghijklmnopqrs')}]"
                + "".join(f", {kind}_required: [{', '.join('abcdefghijklmnopqrs')}]" for kind in ("groups", "roles"))
            ),
            "multiply out",
            id="too many combinations",
        ),
        pytest.param(
            kong().replace("cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI", "acme.auth0.com/"),
            "only Cognito's tokens",
            id="another issuer",
        ),
        pytest.param(kong(plugins="  - {name: acl, config: {allow: [x]}}\n"), "groups_required", id="the ACL plugin"),
        pytest.param(
            kong(plugins="  - {name: ip-restriction, config: {allow: [10.0.0.0/8]}}\n"), "source_ip", id="addresses"
        ),
        pytest.param(kong(plugins="  - {name: our-own-check}\n"), "may keep somebody out", id="an unknown plugin"),
        pytest.param(kong(plugins="  - {name: key-auth}\n"), "may keep somebody out", id="another way to sign in"),
        pytest.param(
            kong(plugins="  - {name: openid-connect, consumer: x}\n").replace("openid-connect, config", "cors, config"),
            "some consumers alone",
            id="a plugin for one consumer",
        ),
        pytest.param(kong(route_keys=", snis: [x.test]"), "write `hosts`", id="server names of TLS"),
        pytest.param(kong(route_keys=", expression: x"), "an expression", id="an expression"),
        pytest.param(kong(route_keys=", paths: ['~/(?=x)']"), "no RE2 pattern", id="a pattern that RE2 has not"),
        pytest.param(kong(route_keys=", whatever: 1"), "unknown key", id="an unknown key of a route"),
        pytest.param(
            kong() + "consumers: [{username: x, plugins: [{name: acl}]}]\n",
            "some consumers",
            id="a consumer's own plugin",
        ),
        pytest.param(kong() + "plugins:\n- {name: acl, consumer: x}\n", "some consumers", id="a plugin for a consumer"),
        pytest.param(
            kong() + "plugins:\n- {name: acl, route: gone}\n", "no route of this name", id="a plugin of no route"
        ),
        pytest.param("[]", "expected Kong's declarative file", id="a list"),
    ],
)
def test_what_would_widen_stops_kongs_import(text: str, says: str, tmp_path: Path) -> None:
    problems = stopped(text, tmp_path, "kong")
    assert any(says in problem for problem in problems), problems


def test_what_kong_leaves_open_is_told(tmp_path: Path) -> None:
    text = kong(", auth_methods: [bearer], leeway: 900, bearer_token_param_type: [query]").replace(
        ", client_id: [a]", ""
    )
    result, imported = written(text, tmp_path, "kong")
    assert imported.settings.pools[0].pool.clients is None
    assert any("`clients: any`" in item for item in result.todo)
    assert imported.settings.pools[0].pool.leeway == 300
    assert "without query" in imported.report


def test_kongs_placeholders_let_nobody_in(tmp_path: Path) -> None:
    text = kong().replace("https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI", "'{vault://env/issuer}'")
    _, imported = written(text.replace("[a]", "['${CLIENT}']"), tmp_path, "kong")
    pool = imported.settings.pools[0].pool
    assert pool.issuers == ("https://issuer.invalid/fill-in",)
    assert pool.clients == frozenset({"fill-in-the-app-client-id"})


def test_kongs_streams_and_odd_services_answer_nothing(tmp_path: Path) -> None:
    text = (
        kong(route_keys="}\n  - {name: t, protocols: [tcp]")
        + "- {name: odd, protocol: grpc, host: x, routes: [{name: odd, hosts: [odd.example.com]}]}\n"
        + "routes: [{name: loose, hosts: [loose.example.com]}]\n"
    )
    result, imported = written(text, tmp_path, "kong")
    assert result.routes == 3
    hosts = {host["name"]: host["routes"][-1] for host in imported.manager["route_config"]["virtual_hosts"]}
    assert hosts["odd.example.com"]["direct_response"] == {"status": 503}
    assert hosts["loose.example.com"]["direct_response"] == {"status": 503}


def test_a_plugin_that_is_off_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "source.yaml"
    path.write_text(kong(plugins="  - {name: acl, enabled: false}\n"), encoding="utf-8")
    assert import_kong(path, tmp_path / "out").routes == 1


BARE = "bearer_token_format: idp_access_token\n"
DENIAL = "  policy: [{allow: {or: [authenticated_user: true]}}, {deny: {or: [claim/custom:tenant: evil]}}]\n"
EXCLUSION = "  policy: [{allow: {and: [claim/custom:tenant: {exclude: evil}]}}]\n"
HOST = "- from: https://a.example.com\n  to: http://a:80\n"


@pytest.mark.parametrize("rule", [DENIAL, EXCLUSION], ids=["a denial", "an exclusion"])
def test_a_claim_that_bare_access_tokens_lack_must_not_keep_people_out(rule: str, tmp_path: Path) -> None:
    assert "does not hold that claim" in stopped(f"{BARE}routes:\n{HOST}{rule}", tmp_path, "pomerium")[0]
    wildcard = HOST.replace("//a.", "//*.")  # no browser can sign in there, so there are bare tokens alone
    assert "does not hold that claim" in stopped(f"routes:\n{wildcard}{rule}", tmp_path, "pomerium")[0]


@pytest.mark.parametrize("rule", [DENIAL, EXCLUSION], ids=["a denial", "an exclusion"])
def test_a_claim_of_the_id_token_may_keep_people_out_where_all_have_signed_in(rule: str, tmp_path: Path) -> None:
    path = tmp_path / "source.yaml"
    path.write_text(f"routes:\n{HOST}{rule}", encoding="utf-8")
    assert import_pomerium(path, tmp_path / "out").routes == 1


def test_a_plugin_for_one_route_of_a_service_is_not_the_services(tmp_path: Path) -> None:
    text = kong().replace("  routes:", "  routes:\n  - {name: other, hosts: [b.example.com]}")
    text = text.replace("  plugins:\n", "").replace("  - {name: openid-connect", "#  - {name: openid-connect")
    narrow = f"- {{name: openid-connect, service: s, route: r, config: {{{OIDC}}}}}\n"
    wide = f"- {{name: openid-connect, config: {{{OIDC}, scopes_required: [x]}}}}\n"
    path = tmp_path / "source.yaml"
    path.write_text(f"{text}plugins:\n{narrow}{wide}", encoding="utf-8")
    import_kong(path, tmp_path / "out")
    imported = Imported(tmp_path / "out")
    assert imported.decide(Asked("a.example.com"), {}) == "allow"
    assert imported.decide(Asked("b.example.com"), {}) == "403"


def test_hosts_that_differ_in_a_dot_have_clusters_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "source.yaml"
    routes = "".join(f"- {{from: https://{name}.test, to: http://{name}:80}}\n" for name in ("a-b", "a.b", "a_test"))
    path.write_text(f"routes:\n{routes}", encoding="utf-8")
    import_pomerium(path, tmp_path / "out")
    clusters = [one["name"] for one in Imported(tmp_path / "out").envoy["static_resources"]["clusters"]]
    assert clusters == ["http-a-b-80", "http-a.b-80", "http-a_test-80", "authz"]


# --- small things ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1e3", "0o17", "yes", "null", "2:20:00", "a: b", "", "é", "0x1F", "9" * 500])
def test_a_text_stays_a_text(text: str) -> None:
    for written in (yaml_text({"key": text}), flow_text({"key": text})):
        node = parse(written.encode(), "x", Problems())
        assert [value.value for _, value in node.entries] == [text]  # type: ignore[union-attr]
        assert yaml.safe_load(written) == {"key": text}


@pytest.mark.parametrize(
    ("url", "issuer"),
    [
        ("https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A/", "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A"),
        ("http://127.0.0.1:4566/us-east-1_A/.well-known/openid-configuration", "http://127.0.0.1:4566/us-east-1_A"),
        ("https://acme.auth0.com/", None),
        ("https://user@cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A", None),
        ("ftp://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A", None),
        ("https://[", None),
    ],
)  # fmt: skip
def test_an_issuer_is_read_from_its_url(url: str, issuer: str | None) -> None:
    name = issuer_name(url)
    assert (None if name is None else name.issuer) == issuer
