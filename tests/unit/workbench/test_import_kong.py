"""Where Kong's input can be read in two ways: what is carried over, what stops the import, what is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.errors import LoadError
from authz.workbench.importers import ImportResult, import_kong
from authz.workbench.importers import kong_oidc_keys as keys
from tests.support.imported import Asked, Imported

ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
STAFF: dict[str, Any] = {"cognito:groups": ["staff"]}


def oidc(**more: Any) -> dict[str, Any]:
    """Give the plugin that lets in staff with a bearer token, or what `more` makes of it."""
    config: dict[str, Any] = {"issuer": ISSUER, "client_id": ["a"], "auth_methods": ["bearer"]}
    config |= {"groups_required": ["staff"], "groups_claim": ["cognito:groups"], **more}
    return {"name": "openid-connect", "config": config}


def route(name: str = "r", **more: Any) -> dict[str, Any]:
    return {"name": name, "hosts": ["a.example.com"], **more}


def kong(*routes: dict[str, Any], service: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """Give a declarative file with one service."""
    one = {"name": "s", "url": "http://s.internal", "routes": list(routes or [route()]), **(service or {})}
    return {"_format_version": "3.0", "services": [one], **top}


def run(source: object, tmp_path: Path) -> tuple[ImportResult, Imported]:
    path = tmp_path / "kong.yaml"
    path.write_text(yaml.safe_dump(source, sort_keys=False), encoding="utf-8")
    result = import_kong(path, tmp_path / "out")
    return result, Imported(tmp_path / "out")


def stopped(source: object, tmp_path: Path) -> list[str]:
    """Import what must stop, and give the problems without the file's name."""
    with pytest.raises(LoadError) as caught:
        run(source, tmp_path)
    assert not (tmp_path / "out").exists(), "something was written"
    return [str(problem).replace(f"{tmp_path / 'kong.yaml'}:", "") for problem in caught.value.problems]


def told(imported: Imported) -> str:
    """Give the part of the report on what is decided differently."""
    return imported.report.partition("## What is decided differently")[2].partition("## ")[0]


# --- null is not there ----------------------------------------------------------------------------------------------

NULLS = {"service": None, "route": None, "consumer": None, "consumer_group": None, "tags": None}


@pytest.mark.parametrize(
    "plugin",
    [
        pytest.param({"name": "key-auth", **NULLS}, id="a global plugin"),
        pytest.param({"name": "key-auth", **NULLS, "service": "s"}, id="a service's"),
        pytest.param({"name": "key-auth", **NULLS, "route": "r"}, id="a route's"),
        pytest.param({"name": "key-auth", **NULLS, "enabled": None}, id="one whose switch is null"),
    ],
)
def test_a_plugin_with_nulls_runs(plugin: dict[str, Any], tmp_path: Path) -> None:
    assert "`key-auth` may keep somebody out" in stopped(kong(plugins=[plugin]), tmp_path)[0]


@pytest.mark.parametrize("scope", [{}, {"service": "s"}, {"route": "r"}], ids=["all", "a service", "a route"])
def test_a_guard_with_nulls_guards(scope: dict[str, str], tmp_path: Path) -> None:
    _, imported = run(kong(plugins=[{**oidc(), **NULLS, **scope}]), tmp_path)
    assert [imported.decide(Asked("a.example.com"), claims) for claims in (None, {}, STAFF)] == ["401", "403", "allow"]


def test_null_everywhere_stops_nothing(tmp_path: Path) -> None:
    names = ("methods", "headers", "snis", "sources", "destinations", "expression", "regex_priority", "whatever")
    nulls = dict.fromkeys((*names, "plugins", "filter_chains", "strip_path", "tags"))
    source = kong(
        route(**nulls, paths=None),
        service=dict.fromkeys(("filter_chains", "path", "port", "plugins", "enabled", "whatever")),
        **dict.fromkeys(("filter_chains", "consumers", "upstreams", "plugins", "routes", "_info", "whatever")),
    )
    assert run(source, tmp_path)[0].routes == 1


# --- lists hold what they should ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param(kong(plugins={"name": "key-auth"}), "plugins: found a map, expected a list", id="plugins"),
        pytest.param(kong(plugins=["key-auth"]), "plugins[0]: found text `key-auth`", id="plugins by their names"),
        pytest.param(kong(route(plugins={"name": "x"})), "routes[0].plugins: found a map", id="a route's plugins"),
        pytest.param(kong(service={"plugins": ["x"]}), "services[0].plugins[0]: found text", id="a service's plugins"),
        pytest.param(kong(service={"routes": {"name": "x"}}), "services[0].routes: found a map", id="routes"),
        pytest.param({"services": {"name": "x"}}, "services: found a map", id="services"),
        pytest.param({"services": [], "routes": "x"}, "routes: found text", id="routes at the top"),
        pytest.param(kong(consumers={"username": "x"}), "consumers: found a map", id="consumers"),
        pytest.param(kong(consumer_groups=["x"]), "consumer_groups[0]: found text", id="consumer groups"),
        pytest.param(kong(consumers=[{"plugins": ["x"]}]), "consumers[0].plugins[0]: found", id="a consumer's plugins"),
        pytest.param(kong(upstreams={"name": "x"}), "upstreams: found a map", id="upstreams"),
        pytest.param(kong(route(hosts=[None])), "hosts: found nothing", id="a host that is null"),
        pytest.param(kong(route(hosts="")), "hosts: found empty text", id="hosts that are empty text"),
        pytest.param(kong(route(hosts={"a": "b"})), "hosts: found a map", id="hosts that are a map"),
        pytest.param(kong(route(paths=[["/a"]])), "paths: found a list", id="a path that is a list"),
        pytest.param(kong(route(methods={"GET": 1})), "methods: found a map", id="methods that are a map"),
        pytest.param(kong(route(headers=["x"])), "headers: found a list, expected a map", id="headers"),
        pytest.param(kong(route(regex_priority="high")), "expected a number", id="a priority that is none"),
        pytest.param(kong(plugins=[oidc(groups_required=[["staff"]])]), "expected a list of texts", id="groups in two"),
        pytest.param(kong(plugins=[oidc(groups_required=[None])]), "expected a list of texts", id="a group that is no"),
        pytest.param(kong(plugins=[oidc(groups_required=[" "])]), "found blanks alone", id="a group that is a blank"),
        pytest.param(kong(plugins=[oidc(domains={"a": "b"})]), "expected a list of texts", id="domains that are a map"),
        pytest.param(kong(plugins=[{**oidc(), "config": "x"}]), "config: found text `x`", id="settings of a plugin"),
    ],
)
def test_what_is_no_list_of_the_right_things_stops(source: dict[str, Any], says: str, tmp_path: Path) -> None:
    problems = stopped(source, tmp_path)
    assert any(says in problem for problem in problems), problems
    assert all(re.match(r"\d+:\d+: ", problem) for problem in problems), problems


def test_an_empty_list_may_be_a_map(tmp_path: Path) -> None:
    source = kong(route(plugins={}, headers={}, methods={}), consumers={}, plugins={}, filter_chains={})
    assert run(source, tmp_path)[0].routes == 1


# --- every plugin runs somewhere, or it is known why not ------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugin", "says"),
    [
        pytest.param({"service": {}}, "no service of this name", id="an empty reference"),
        pytest.param({"service": []}, "no service of this name", id="a list for a reference"),
        pytest.param({"service": "gone"}, "no service of this name", id="a service that is not there"),
        pytest.param({"route": "gone", "consumer": None}, "no route of this name", id="a route that is not there"),
        pytest.param({"route": "r", "service": "t"}, "no route of this name in its service", id="another's route"),
        pytest.param({"consumer": {}}, "some consumers alone", id="an empty consumer"),
    ],
)
def test_a_plugin_that_runs_nowhere_stops(plugin: dict[str, Any], says: str, tmp_path: Path) -> None:
    source = kong(plugins=[{"name": "key-auth", **plugin}])
    source["services"].append({"name": "t", "url": "http://t", "routes": [route("other", hosts=["t.example.com"])]})
    assert says in stopped(source, tmp_path)[0]
    source["plugins"][0]["enabled"] = False
    assert run(source, tmp_path)[0].routes == 2
    harmless = {**source["plugins"][0], "name": "cors", "enabled": True}
    (tmp_path / "harmless").mkdir()
    assert run({**source, "plugins": [harmless]}, tmp_path / "harmless")[0].routes == 2


def test_a_plugin_that_narrower_ones_replace_stops_nothing(tmp_path: Path) -> None:
    source = kong(route(plugins=[oidc()]), service={"plugins": [oidc(groups_required=["x"])]}, plugins=[oidc()])
    result, imported = run(source, tmp_path)
    assert imported.decide(Asked("a.example.com"), STAFF) == "allow"
    left = {entry.path: entry.text for entry in result.entries}
    assert "narrower ones do" in left["plugins[0]"]
    assert "narrower ones do" in left["services[0].plugins[0]"]


def test_a_plugin_of_a_route_in_a_service_must_stand_there(tmp_path: Path) -> None:
    source = kong(service={"plugins": [{**oidc(), "route": "r"}]})
    assert "move the plugin to that route" in stopped(source, tmp_path)[0]


def test_a_route_of_a_service_that_is_not_there_stops(tmp_path: Path) -> None:
    source = kong(routes=[route("loose", service="gone")])
    assert "routes[0].service: no service of this name" in stopped(source, tmp_path)[0]


def test_a_plugin_for_no_http_request_stops(tmp_path: Path) -> None:
    source = kong(route(plugins=[{**oidc(), "protocols": ["tcp"]}]))
    assert "runs on no HTTP request" in stopped(source, tmp_path)[0]


# --- unknown keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "path"),
    [
        pytest.param(kong(filter_chains=[{"filters": []}]), "filter_chains", id="filters for all"),
        pytest.param(kong(service={"filter_chains": [{}]}), "services[0].filter_chains", id="a service's filters"),
        pytest.param(kong(route(filter_chains=[{}])), "services[0].routes[0].filter_chains", id="a route's filters"),
        pytest.param(kong(custom_entities=[{}]), "custom_entities", id="something else at the top"),
        pytest.param(kong(service={"whatever": 1}), "services[0].whatever", id="something else in a service"),
        pytest.param(kong(plugins=[{**oidc(), "condition": "x"}]), "plugins[0].condition", id="a plugin's condition"),
        pytest.param({**oidc(), "kind": "KongPlugin", "configPatches": [{}]}, "configPatches", id="Kubernetes patches"),
        pytest.param({"plugin": "openid-connect", "configFrom": {"a": "b"}}, "configFrom", id="a Kubernetes secret"),
        pytest.param({**oidc(), "services": [{}]}, "services", id="a declarative file that looks like a plugin"),
        pytest.param({**oidc(), "consumer": "x"}, "consumer", id="a plugin alone, for a consumer"),
    ],
)
def test_an_unknown_key_stops(source: dict[str, Any], path: str, tmp_path: Path) -> None:
    problems = stopped(source, tmp_path)
    assert any(re.match(rf"\d+:\d+: {re.escape(path)}: ", problem) for problem in problems), problems


def test_a_kubernetes_plugin_alone_is_read(tmp_path: Path) -> None:
    plugin = {"apiVersion": "configuration.konghq.com/v1", "kind": "KongPlugin", "metadata": {"name": "o"}}
    source = {**plugin, "plugin": "openid-connect", "config": oidc()["config"], "configPatches": []}
    _, imported = run(source, tmp_path)
    assert [imported.decide(Asked("app.invalid"), claims) for claims in (None, {}, STAFF)] == ["401", "403", "allow"]


MAY = "unknown key, which may restrict access"


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("scopes_requird", ["a"], "scopes_required"),
        ("groups_requierd", ["a"], "groups_required"),
        ("audience_require", ["a"], "audience_required"),
        ("claims_forbiden", ["a"], "claims_forbidden"),
        ("issuers_alowed", ["a"], "issuers_allowed"),
        ("consumer_clam", ["a"], "consumer_claim"),
        ("session_secrt", "x", "session_secret"),
        ("hide_credential", False, "hide_credentials"),
        ("run_on_preflihgt", True, "run_on_preflight"),
        ("foo_bar", "", None),
        ("password_must_be_new", True, None),
    ],
)
def test_an_unknown_setting_of_the_guard_stops(key: str, value: object, meant: str | None, tmp_path: Path) -> None:
    hint = f"; did you mean `{meant}`?" if meant else ": delete it here if it does not"
    problems = stopped(kong(plugins=[oidc(**{key: value})]), tmp_path)
    assert [problem.partition(" ")[2] for problem in problems] == [f"plugins[0].config.{key}: {MAY}{hint}"]


def test_an_unknown_setting_that_the_guard_shares_stops(tmp_path: Path) -> None:
    shared = {"staff": {**oidc()["config"], "scopes_requird": ["a"]}}
    source = kong(plugins=[{"name": "openid-connect", "_config": "staff"}], _plugin_configs=shared)
    assert f"{MAY}; did you mean `scopes_required`?" in stopped(source, tmp_path)[0]


@pytest.mark.parametrize("nothing", [None, [], {}], ids=["null", "an empty list", "an empty map"])
def test_an_unknown_setting_that_says_nothing_stops_nothing(nothing: object, tmp_path: Path) -> None:
    result, imported = run(kong(plugins=[oidc(scopes_requird=nothing)]), tmp_path)
    assert result.routes == 1
    assert "\n1 route, " in imported.report


def test_the_defaults_that_kong_prints_stop_nothing(tmp_path: Path) -> None:
    """Every key that the lists hold, with what means "off" where it would restrict."""
    config = dict.fromkeys(keys.KNOWN, "x")
    config |= dict.fromkeys(keys.STOPPING, False) | dict.fromkeys(keys.PROOFS, "off") | dict.fromkeys(keys.MAPPINGS)
    config |= {"consumer_optional": False, "consumer_groups_optional": False}
    _, imported = run(kong(plugins=[oidc(**config)]), tmp_path)
    assert [imported.decide(Asked("a.example.com"), claims) for claims in (None, {}, STAFF)] == ["401", "403", "allow"]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("session_bind", ["ip"], "binds sessions"),
        ("token_exchange", {"subject_token_issuers": [{"issuer": "x"}]}, "exchanges no tokens"),
        ("token_exchange_endpoint", "https://x.test/", "exchanges no tokens"),
        ("consumer_claims", [["sub"]], "set `consumer_optional: true`"),
        ("consumer_groups_claim", ["groups"], "set `consumer_groups_optional: true`"),
    ],
)
def test_a_known_setting_that_restricts_stops(key: str, value: object, says: str, tmp_path: Path) -> None:
    assert says in stopped(kong(plugins=[oidc(**{key: value})]), tmp_path)[0]


@pytest.mark.parametrize(
    ("mapping", "switch"),
    [("consumer_claim", "consumer_optional"), ("consumer_groups_claim", "consumer_groups_optional")],
)
def test_callers_that_kong_need_not_know_stop_nothing(mapping: str, switch: str, tmp_path: Path) -> None:
    assert run(kong(plugins=[oidc(**{mapping: ["sub"], switch: True})]), tmp_path)[0].routes == 1


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        pytest.param(kong(route(protocol=["https"])), "protocols", id="a route"),
        pytest.param(kong(service={"route": [{}]}), "routes", id="a service"),
        pytest.param(kong(plugin=[{"name": "key-auth"}]), "plugins", id="the top"),
        pytest.param(kong(plugins=[{**oidc(), "consumer_grop": "x"}]), "consumer_group", id="a plugin"),
    ],
)
def test_a_misspelled_key_is_told(source: dict[str, Any], meant: str, tmp_path: Path) -> None:
    assert f"{MAY}; did you mean `{meant}`?" in stopped(source, tmp_path)[0]


def test_a_plugin_that_misspells_its_route_stops_though_another_one_runs(tmp_path: Path) -> None:
    plugins = [oidc(), {**oidc(groups_required=["admins"]), "rout": "r"}]
    assert f"plugins[1].rout: {MAY}; did you mean `route`?" in stopped(kong(plugins=plugins), tmp_path)[0]


# --- another program's file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("routes:\n- from: https://a.example.com\n  to: http://a\n", id="routes"),
        pytest.param("- from: https://a.example.com\n  to: http://a\n", id="routes alone"),
        pytest.param("routes:\n- {from: https://a.example.com, to: http://a}\n", id="routes on one line"),
        pytest.param("authenticate_service_url: https://a.example.com\n", id="settings"),
        pytest.param('{\n  "idp_provider": "oidc"\n}\n', id="JSON"),
        pytest.param("# mine\nIDP_PROVIDER=oidc\nexport IDP_CLIENT_ID=a\n", id="variables"),
        pytest.param("kind: ConfigMap\ndata:\n  config.yaml: |\n    idp_provider: oidc\n", id="a ConfigMap"),
    ],
)
def test_pomeriums_configuration_is_told_apart(text: str, tmp_path: Path) -> None:
    path = tmp_path / "kong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LoadError) as caught:
        import_kong(path, tmp_path / "out")
    told = [str(problem) for problem in caught.value.problems]
    assert told == [f"{path}:1:1: Pomerium's configuration: write `authz import pomerium`"]


@pytest.mark.parametrize("kind", ["service", "route"])
def test_what_deck_fills_in_stops(kind: str, tmp_path: Path) -> None:
    source = kong(_info={"select_tags": ["x"], "defaults": {kind: {"tags": ["x"]}, "target": {"weight": 1}}})
    assert f"_info.defaults.{kind}: write it into each {kind}" in stopped(source, tmp_path)[0]


@pytest.mark.parametrize("shared", [None, {"other": {}}, ["staff"], {"staff": "x"}])
def test_shared_settings_that_are_not_there_stop(shared: object, tmp_path: Path) -> None:
    source = kong(plugins=[{**oidc(), "_config": "staff"}], _plugin_configs=shared)
    assert "`_plugin_configs` holds no such map" in stopped(source, tmp_path)[0]


def test_addresses_of_a_route_stop(tmp_path: Path) -> None:
    source = kong(route(sources=[{"ip": "10.0.0.0/8"}]))
    assert "restricts by address" in stopped(source, tmp_path)[0]


# --- hosts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wide", "other"),
    [
        pytest.param("*.example.com", "app.*", id="one for the end, one for the beginning"),
        pytest.param("*.example.com:8443", "a.example.com", id="a wildcard with a port, and a host in it without"),
        pytest.param("*.example.com:8443", "*.shop.example.com", id="a wildcard with a port, and one without in it"),
    ],
)
def test_hosts_that_overlap_in_part_stop(wide: str, other: str, tmp_path: Path) -> None:
    source = kong(route("open", hosts=[other]), route("guarded", hosts=[wide], plugins=[oidc()]))
    assert "take some hosts both" in stopped(source, tmp_path)[0]


@pytest.mark.parametrize(
    ("wide", "other"),
    [
        pytest.param("*.example.com", "*.example.org", id="two that have nothing in common"),
        pytest.param("*.example.com", "*.a.example.com", id="one inside the other"),
        pytest.param("app.*", "app.eu.*", id="one inside the other, from the beginning"),
        pytest.param("*.example.com:8443", "a.example.com:8443", id="a host inside a wildcard with a port"),
        pytest.param("*.example.com:8443", "a.example.com:9443", id="another port"),
    ],
)
def test_hosts_apart_or_inside_each_other_stop_nothing(wide: str, other: str, tmp_path: Path) -> None:
    source = kong(route("open", hosts=[other]), route("guarded", hosts=[wide], paths=["/x"], plugins=[oidc()]))
    assert run(source, tmp_path)[0].routes >= 2


def test_hosts_that_overlap_in_part_but_have_the_same_routes_stop_nothing(tmp_path: Path) -> None:
    assert run(kong(route(hosts=["*.example.com", "example.*"])), tmp_path)[0].routes == 2


@pytest.mark.parametrize("host", ["a.*.com", "*example.com", "*.example.*", "www.example*"])
def test_a_wildcard_that_kong_has_not_stops(host: str, tmp_path: Path) -> None:
    assert "`*` for the first or the last label" in stopped(kong(route(hosts=[host])), tmp_path)[0]


# --- paths and their order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["~/admin|/secret$", "~/a(b|c)|/d", r"~/a\\|/b", "~/a[|]|/b", r"~/\Qa|b\E|/c"])
def test_a_pattern_of_alternatives_stops(path: str, tmp_path: Path) -> None:
    assert "a path for each alternative" in stopped(kong(route(paths=[path])), tmp_path)[0]


@pytest.mark.parametrize("path", ["~/(admin|secret)$", "~/a((b|c)|d)", r"~/a\|b", "~/a[|]b", "~/a[]|]b", r"~/\Qa|b\E"])
def test_alternatives_in_a_group_stop_nothing(path: str, tmp_path: Path) -> None:
    assert run(kong(route(paths=[path])), tmp_path)[0].routes == 1


def test_a_pattern_with_an_escaped_dollar_is_looked_for_at_the_beginning_alone(tmp_path: Path) -> None:
    _, imported = run(kong(route(paths=[r"~/price\$"], plugins=[oidc()]), route("open", paths=["/"])), tmp_path)
    assert imported.decide(Asked("a.example.com", "/price$/x"), None) == "401"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"paths": [r"~/files/\d+"]}, {"paths": [r"~/files/\d+/edit$"]}, id="patterns"),
        pytest.param({"paths": ["~/a?b"]}, {"paths": ["~/b"]}, id="patterns of which one begins with a maybe"),
        pytest.param({"paths": ["/x"]}, {"paths": ["/x"]}, id="the same path"),
        pytest.param({"methods": ["GET", "POST"]}, {"methods": ["POST"]}, id="methods in common"),
        pytest.param({"headers": {"v": ["1", "2"]}}, {"headers": {"V": ["2"]}}, id="values in common"),
        pytest.param({"headers": {"v": ["1"]}}, {"headers": {"w": ["1"]}}, id="other headers"),
    ],
)
def test_two_routes_without_an_order_stop(one: dict[str, Any], other: dict[str, Any], tmp_path: Path) -> None:
    source = kong(route("open", **one), route("guarded", **other, plugins=[oidc()]))
    assert "hangs on their ids" in stopped(source, tmp_path)[0]
    source["services"][0]["routes"][0]["plugins"] = [oidc()]  # guarded alike
    assert run(source, tmp_path)[0].routes == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"paths": [r"~/files/\d+"]}, {"paths": ["~/fonts/x"]}, id="patterns that begin otherwise"),
        pytest.param({"paths": ["~/x"], "regex_priority": 1}, {"paths": ["~/x"]}, id="another priority"),
        pytest.param({"paths": ["/x"]}, {"paths": ["/y"]}, id="other paths"),
        pytest.param({"paths": ["/x"]}, {"paths": ["/xy"]}, id="a longer path"),
        pytest.param({"methods": ["GET"]}, {"methods": ["POST"]}, id="other methods"),
        pytest.param({"headers": {"v": ["1"]}}, {"headers": {"v": ["2"]}}, id="other values"),
        pytest.param({"headers": {"v": ["1"]}}, {"headers": {"v": ["1"], "w": ["1"]}}, id="more headers"),
    ],
)
def test_two_routes_with_an_order_or_apart_stop_nothing(
    one: dict[str, Any], other: dict[str, Any], tmp_path: Path
) -> None:
    source = kong(route("open", **one), route("guarded", **other, plugins=[oidc()]))
    assert run(source, tmp_path)[0].routes == 2


def test_more_headers_come_before_a_pattern(tmp_path: Path) -> None:
    source = kong(
        route("pattern", headers={"v": ["1"]}, paths=["~/x"], plugins=[oidc()]),
        route("headers", headers={"v": ["1"], "w": ["1"]}, paths=["/x"], plugins=[oidc()]),
    )
    _, imported = run(source, tmp_path)
    names = [one["name"] for one in imported.manager["route_config"]["virtual_hosts"][0]["routes"]]
    assert names == ["headers", "pattern"]


def test_a_pattern_of_the_format_before_tildes_stops(tmp_path: Path) -> None:
    source = kong(route(paths=["/files/(a|b)"])) | {"_format_version": "2.1"}
    assert "write `~` before it" in stopped(source, tmp_path)[0]
    assert run(kong(route(paths=["/files/a-b_c.~%20"])) | {"_format_version": "1.1"}, tmp_path)[0].routes == 1


# --- switches -------------------------------------------------------------------------------------------------------


def run_text(text: str, tmp_path: Path) -> Imported:
    path = tmp_path / "kong.yaml"
    path.write_text(text, encoding="utf-8")
    import_kong(path, tmp_path / "out")
    return Imported(tmp_path / "out")


@pytest.mark.parametrize("off", ["false", "False", "FALSE"])
def test_off_is_off_however_it_is_written(off: str, tmp_path: Path) -> None:
    source = kong(
        route(strip_path="SWITCH", paths=["/x"], plugins=[{**oidc(groups_required=["x"]), "enabled": "SWITCH"}]),
        service={"plugins": [oidc(run_on_preflight="SWITCH", hide_credentials="SWITCH")]},
    )
    source["services"].append({"name": "t", "url": "http://t", "enabled": "SWITCH", "routes": [route("off")]})
    imported = run_text(yaml.safe_dump(source).replace("SWITCH", off), tmp_path)
    assert imported.decide(Asked("a.example.com", "/x"), STAFF) == "allow"  # the service's instance runs
    assert imported.decide(Asked("a.example.com"), None) == "404"  # the other service is off
    assert imported.settings.hide_credentials is False
    (file,) = (path for path in (tmp_path / "out" / "policies").iterdir() if not path.name.endswith("_test.yaml"))
    assert yaml.safe_load(file.read_text(encoding="utf-8"))[0]["cors_allow_preflight"] is True
    (written,) = imported.manager["route_config"]["virtual_hosts"][0]["routes"]
    assert "regex_rewrite" not in written["route"]


@pytest.mark.parametrize("value", ["no", "off", "'false'", "0", "yes", "'${{ env \"DECK_ON\" }}'", "[]"])
@pytest.mark.parametrize(
    ("source", "path"),
    [
        pytest.param(kong(route(plugins=[{**oidc(), "enabled": "SWITCH"}])), "plugins[0].enabled", id="a plugin"),
        pytest.param(kong(service={"enabled": "SWITCH"}), "services[0].enabled", id="a service"),
        pytest.param(kong(route(strip_path="SWITCH")), "strip_path", id="strip_path"),
        pytest.param(kong(plugins=[oidc(run_on_preflight="SWITCH")]), "run_on_preflight", id="preflights"),
        pytest.param(
            kong(plugins=[oidc(consumer_claim=["x"], consumer_optional="SWITCH")]), "consumer_optional", id="consumers"
        ),
    ],
)
def test_a_switch_that_is_neither_on_nor_off_stops(
    source: dict[str, Any], path: str, value: str, tmp_path: Path
) -> None:
    with pytest.raises(LoadError) as caught:
        run_text(yaml.safe_dump(source).replace("SWITCH", value), tmp_path)
    problems = [str(problem) for problem in caught.value.problems]
    assert any(f"{path}: found" in one and "expected `true` or `false`" in one for one in problems), problems


@pytest.mark.parametrize("value", [False, True, '${{ env "DECK_ANYBODY" }}'])
def test_an_anonymous_consumer_that_is_none_stops(value: object, tmp_path: Path) -> None:
    assert (
        "expected a consumer, who makes the route public" in stopped(kong(plugins=[oidc(anonymous=value)]), tmp_path)[0]
    )


# --- bearer tokens --------------------------------------------------------------------------------------------------

BROWSER = ["authorization_code", "session"]


@pytest.mark.parametrize("hosts", [None, ["*.example.com"]], ids=["any host", "a wildcard"])
def test_nobody_passes_where_nobody_can_sign_in_and_no_bearer_token_counts(
    hosts: list[str] | None, tmp_path: Path
) -> None:
    _, imported = run(kong(route(hosts=hosts, plugins=[oidc(auth_methods=BROWSER)])), tmp_path)
    assert [imported.decide(Asked("a.example.com"), claims) for claims in (None, {}, STAFF)] == ["403"] * 3
    assert "people can sign in on exact hosts alone. Name `hosts`" in told(imported)


@pytest.mark.parametrize("methods", [[], ["introspection"], ["client_credentials", "password"]])
def test_nobody_passes_where_no_way_to_sign_in_is_here(methods: list[str], tmp_path: Path) -> None:
    _, imported = run(kong(route(plugins=[oidc(auth_methods=methods)])), tmp_path)
    assert imported.decide(Asked("a.example.com"), STAFF) == "403"
    assert "Nobody passes the route `r`: `auth_methods` has no `bearer`, and none of its other ways" in told(imported)


def test_sessions_alone_pass_a_host_whose_people_sign_in(tmp_path: Path) -> None:
    _, imported = run(kong(route(plugins=[oidc(auth_methods=BROWSER)])), tmp_path)
    (host,) = imported.manager["route_config"]["virtual_hosts"]
    assert host["typed_per_filter_config"]["envoy.filters.http.oauth2"]["config"]["pass_through_matcher"] == []
    assert imported.decide(Asked("a.example.com"), STAFF) == "allow"  # of the session, which Envoy has made a token
    assert "Nobody passes" not in told(imported)


def test_a_route_without_bearer_tokens_beside_one_with_them_stops(tmp_path: Path) -> None:
    both = [*BROWSER, "bearer"]
    routes = [
        route("all", plugins=[oidc(auth_methods=both)]),
        route("some", paths=["/x"], plugins=[oidc(auth_methods=BROWSER)]),
    ]
    assert "`some` takes no bearer tokens, and other routes" in stopped(kong(*routes), tmp_path)[0]
    routes[1]["hosts"] = ["b.example.com"]
    assert run(kong(*routes), tmp_path)[0].routes == 2


def test_a_public_route_without_bearer_tokens_is_public(tmp_path: Path) -> None:
    _, imported = run(kong(route(hosts=None, plugins=[oidc(auth_methods=BROWSER, anonymous="x")])), tmp_path)
    assert imported.decide(Asked("a.example.com"), None) == "allow"


# --- where requests go ----------------------------------------------------------------------------------------------


def test_a_route_named_kong_without_a_service_goes_nowhere(tmp_path: Path) -> None:
    result, imported = run(kong(routes=[route("kong", hosts=["k.example.com"])]), tmp_path)
    hosts = {host["name"]: host["routes"][-1] for host in imported.manager["route_config"]["virtual_hosts"]}
    assert hosts["k.example.com"]["direct_response"] == {"status": 503}
    assert any(
        "route `kong` has no service; it answers 503 until you write where it goes" in one for one in result.todo
    )


# --- callers of the written tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "claims"),
    [
        pytest.param({"audience_required": ["api"]}, {"aud": "api"}, id="an audience"),
        pytest.param({"groups_claim": ["client_id"]}, {"client_id": "staff"}, id="a client"),
        pytest.param({"groups_claim": ["sub"]}, {"sub": "staff"}, id="a subject"),
        pytest.param({"groups_claim": ["username"]}, {"username": "staff"}, id="a user name"),
        pytest.param(
            {"groups_claim": ["token_use"], "groups_required": ["access"]}, {"token_use": "access"}, id="a use"
        ),
        pytest.param({"groups_claim": ["email"]}, {"email": "staff", "email_verified": True}, id="an e-mail address"),
    ],
)
def test_claims_that_are_one_text_can_be_required(keys: dict[str, Any], claims: dict[str, Any], tmp_path: Path) -> None:
    _, imported = run(kong(plugins=[oidc(**keys)]), tmp_path)
    groups = {} if "groups_claim" in keys else STAFF
    assert imported.decide(Asked("a.example.com"), {**groups, **claims}) == "allow"
    assert imported.decide(Asked("a.example.com"), groups) == "403"


def test_an_issuer_can_be_required(tmp_path: Path) -> None:
    _, imported = run(kong(plugins=[oidc(groups_claim=["iss"], groups_required=[ISSUER])]), tmp_path)
    assert imported.decide(Asked("a.example.com"), {}) == "allow"


def test_each_route_keeps_the_issuers_of_its_own_plugin(tmp_path: Path) -> None:
    """One pool, whose issuers all count in `authz.yaml`; what one plugin takes must not pass beside another."""
    others = [ISSUER.replace("cognito-idp.", f"{name}.") for name in ("old", "new")]
    only = [
        route("default", paths=["/default"], plugins=[oidc()]),
        route("old", paths=["/old"], plugins=[oidc(issuers_allowed=[ISSUER, others[0]])]),
        route("new", paths=["/new"], plugins=[oidc(issuers_allowed=[others[1]])]),
    ]
    _, imported = run(kong(*only), tmp_path)
    assert set(imported.settings.pools[0].pool.issuers) == {ISSUER, *others}

    def accepted(path: str) -> list[str]:
        asked = Asked("a.example.com", path)
        return [one for one in (ISSUER, *others) if imported.decide(asked, {**STAFF, "iss": one}) == "allow"]

    assert {path: accepted(path) for path in ("/default", "/old", "/new")} == {
        "/default": [ISSUER],
        "/old": [ISSUER, others[0]],
        "/new": [others[1]],
    }


def test_two_words_in_a_claim_that_is_one_text_make_no_caller(tmp_path: Path) -> None:
    _, imported = run(kong(plugins=[oidc(audience_required=["a b", "c"])]), tmp_path)
    assert imported.decide(Asked("a.example.com"), {**STAFF, "aud": "c"}) == "allow"
    principals = (tmp_path / "out" / "policies" / "a.example.com_test.yaml").read_text(encoding="utf-8")
    assert "aud: c" in principals
    assert "aud: a" not in principals
