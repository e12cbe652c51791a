"""The doctor: samples and whatever we generate are healthy; each way to break a sample is found, by its id."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from authz.demo import files
from authz.document import Problems, parse
from authz.errors import LoadError, Severity
from authz.policy.parser import PolicyOptions, parse_policies
from authz.workbench.doctor import Finding, FindingId, Promises, examine
from authz.workbench.doctor.findings import ADVICE
from authz.workbench.doctor.verb import diagnose
from authz.workbench.importers import import_kong, import_pomerium

ROOT = Path(__file__).parents[3]
SAMPLES = {name: (ROOT / "envoy" / name).read_text(encoding="utf-8") for name in ("api.yaml", "browser.yaml")}
IMPORTS = ROOT / "tests" / "cases" / "imports"
SOURCES = sorted([*(IMPORTS / "pomerium").iterdir(), *(IMPORTS / "kong").iterdir()])
ID = FindingId


def doctor(text: str, promises: Promises | None = None) -> list[Finding]:
    problems = Problems()
    root = parse(text.encode(), "envoy.yaml", problems)
    assert root is not None, problems
    return examine(root, promises or Promises())


def errors(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.severity is Severity.ERROR]


# --- what must pass -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_wrong_with_our_samples(name: str) -> None:
    assert doctor(SAMPLES[name]) == []


def test_nothing_is_wrong_with_what_the_demo_writes(tmp_path: Path) -> None:
    names = ("envoy", "envoy_admin", "authz", "admin", "upstream", "cognito", "browser", "browser_admin")
    ports = {f"{name}_port": 20000 + number for number, name in enumerate(names)}
    api = files.write_envoy_config(tmp_path, ports=ports)
    browser = files.write_browser_config(tmp_path, ports=ports, client_id="c", client_secret="s")
    assert [doctor(path.read_text(encoding="utf-8")) for path in (api, browser)] == [[], []]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name} {path.name}")
def test_nothing_is_wrong_with_what_an_import_writes(source: Path, tmp_path: Path) -> None:
    importer = {"pomerium": import_pomerium, "kong": import_kong}[source.parent.name]
    importer(source, tmp_path / "out", force=False)
    envoy, config = tmp_path / "out" / "envoy.yaml", tmp_path / "out" / "authz.yaml"
    assert [one for one in diagnose(str(envoy), config) if one.severity is not Severity.NOTE] == []


# --- every way to break one ---------------------------------------------------------------------------------------


class Parts:
    """A loaded sample, and its parts by name."""

    def __init__(self, text: str) -> None:
        self.root: Any = copy.deepcopy(yaml.safe_load(text))  # aliases are shared: a break is to be in one place
        self.root = json.loads(json.dumps(self.root))
        self.manager = self.root["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        self.filters = self.manager["http_filters"]
        self.guard = next(one for one in self.filters if one["name"].endswith("ext_authz"))
        self.asks = self.guard["typed_config"]
        self.call = self.asks["grpc_service"]
        self.table = self.manager["route_config"]
        self.host = self.table["virtual_hosts"][0]
        self.route = self.host["routes"][-1]  # it leads to the upstream, in every sample
        clusters = {one["name"]: one for one in self.root["static_resources"]["clusters"]}
        self.authz, self.upstream = clusters["authz"], clusters["upstream"]

    @property
    def endpoint(self) -> Any:
        return self.authz["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]

    def add_filter(self, family: str, *, before: int = 1, **config: Any) -> None:
        kind = f"type.googleapis.com/envoy.extensions.filters.http.{family}.v3.Whatever"
        self.filters.insert(
            len(self.filters) - before,
            {"name": f"my-{family}", "typed_config": {"@type": kind, **config}},
        )


class Break(NamedTuple):
    """One way to break a sample."""

    name: str
    edit: Callable[[Parts], object]
    finding: FindingId
    severity: Severity = Severity.ERROR
    promises: Promises = Promises()


def policies(text: str) -> Promises:
    routes = parse_policies([("rules/a.yaml", text.encode())], PolicyOptions()).routes.routes
    return Promises(routes=routes)


EVERYBODY = "\n  allow_public_unauthenticated_access: true\n"
APP = "- from: https://app.localhost" + EVERYBODY
PER_ROUTE = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
FILTER_CONFIG = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
EXT_AUTHZ = "envoy.filters.http.ext_authz"
WARNING, NOTE = Severity.WARNING, Severity.NOTE


def off(holder: Any, override: Any = None) -> None:
    holder.setdefault("typed_per_filter_config", {})[EXT_AUTHZ] = override or {"@type": PER_ROUTE, "disabled": True}


def name_route(holder: Any, name: str) -> None:
    off(holder, {"@type": PER_ROUTE, "check_settings": {"context_extensions": {"route": name}}})


def weighted(parts: Parts) -> None:
    cluster = {"name": "upstream", "weight": 1}
    off(cluster)
    parts.route["route"] = {"weighted_clusters": {"clusters": [cluster]}}


def lose(holder: Any, *path: str) -> None:
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]


def tls(parts: Parts, **common: Any) -> None:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    parts.authz["transport_socket"] = {
        "name": "tls",
        "typed_config": {"@type": kind, "common_tls_context": common},
    }


def upstream_filter(parts: Parts) -> None:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    lua = {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}
    options = {"@type": f"type.googleapis.com/{kind}", "http_filters": [{"name": "lua", "typed_config": lua}]}
    parts.upstream["typed_extension_protocol_options"] = {kind: options}


def router_filter(parts: Parts) -> None:
    lua = {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}
    parts.filters[-1]["typed_config"]["upstream_http_filters"] = [{"name": "lua", "typed_config": lua}]


def typed_struct(parts: Parts) -> None:
    url = parts.asks.pop("@type")
    parts.asks["failure_mode_allow"] = True
    struct = "type.googleapis.com/xds.type.v3.TypedStruct"
    parts.guard["typed_config"] = {"@type": struct, "type_url": url, "value": parts.asks}


def google(parts: Parts) -> None:
    del parts.call["envoy_grpc"]
    parts.call["google_grpc"] = {"target_uri": "dns:///authz.example.com:9191", "stat_prefix": "authz"}


def second_chain(parts: Parts) -> None:
    listener = parts.root["static_resources"]["listeners"][0]
    chain = copy.deepcopy(listener["filter_chains"][0])
    del chain["filters"][0]["typed_config"]["http_filters"][-2]
    listener["default_filter_chain"] = chain


def raw_listener(parts: Parts) -> None:
    kind = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    proxy = {"name": "tcp", "typed_config": {"@type": kind, "stat_prefix": "tcp", "cluster": "upstream"}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 10001}}
    listener = {"name": "raw", "address": address, "filter_chains": [{"filters": [proxy]}]}
    parts.root["static_resources"]["listeners"].append(listener)


def keep_only_other_mutations(parts: Parts) -> None:
    mutations = parts.manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    mutations[0] = {"remove_on_match": {"key_matcher": {"exact": "x-auth-subject"}}}


HALF = {"default_value": {"numerator": 50, "denominator": "HUNDRED"}, "runtime_key": "authz"}
WHOLE = {"default_value": {"numerator": 100}, "runtime_key": "authz"}
DENIES = {"default_value": {"value": True}, "runtime_key": "authz_denies"}
REMOTE = {"socket_address": {"address": "192.0.2.7", "port_value": 9191}}
LATE = {"header": {"key": "X-Auth-Groups", "value": "admins"}}

BREAKS = [
    Break("no filter", lambda p: p.filters.remove(p.guard), ID.EXT_AUTHZ_MISSING),
    Break("no filter in the other chain", second_chain, ID.EXT_AUTHZ_MISSING),
    Break("disabled on a route", lambda p: off(p.route), ID.EXT_AUTHZ_DISABLED),
    Break("disabled on a virtual host", lambda p: off(p.host), ID.EXT_AUTHZ_DISABLED),
    Break("disabled for all routes", lambda p: off(p.table), ID.EXT_AUTHZ_DISABLED),
    Break("disabled for a part of a route's traffic", weighted, ID.EXT_AUTHZ_DISABLED),
    Break("disabled in the chain", lambda p: p.guard.update(disabled=True), ID.EXT_AUTHZ_DISABLED),
    Break(
        "disabled by FilterConfig",
        lambda p: off(p.route, {"@type": FILTER_CONFIG, "disabled": True}),
        ID.EXT_AUTHZ_DISABLED,
    ),
    Break(
        "disabled within FilterConfig",
        lambda p: off(p.route, {"@type": FILTER_CONFIG, "config": {"@type": PER_ROUTE, "disabled": True}}),
        ID.EXT_AUTHZ_DISABLED,
    ),
    Break(
        "over HTTP", lambda p: p.asks.update(http_service={"server_uri": {}}, grpc_service=None), ID.EXT_AUTHZ_OVER_HTTP
    ),
    Break("half of the requests", lambda p: p.asks.update(filter_enabled=HALF), ID.FILTER_ENABLED_PARTLY),
    Break(
        "half of the requests, the others refused",
        lambda p: p.asks.update(filter_enabled=HALF, deny_at_disable=DENIES),
        ID.FILTER_ENABLED_PARTLY,
        WARNING,
    ),
    Break(
        "some metadata alone",
        lambda p: p.asks.update(filter_enabled_metadata={"filter": "x"}),
        ID.FILTER_ENABLED_PARTLY,
    ),
    Break("all, as the runtime likes", lambda p: p.asks.update(filter_enabled=WHOLE), ID.DENY_AT_DISABLE_MISSING),
    Break("failure_mode_allow", lambda p: p.asks.update(failure_mode_allow=True), ID.FAILURE_MODE_ALLOW),
    Break(
        "failureModeAllow",
        lambda p: p.asks.update(failureModeAllow=True) or lose(p.asks, "failure_mode_allow"),
        ID.FAILURE_MODE_ALLOW,
    ),
    Break("failure_mode_allow: yes", lambda p: p.asks.update(failure_mode_allow="yes"), ID.FAILURE_MODE_ALLOW),
    Break("failure_mode_allow in a TypedStruct", typed_struct, ID.FAILURE_MODE_ALLOW),
    Break("shadow mode", lambda p: p.asks.update(shadow_mode=True), ID.SHADOW_MODE),
    Break("clear_route_cache", lambda p: p.asks.update(clear_route_cache=True), ID.CLEAR_ROUTE_CACHE),
    Break(
        "the token is not among allowed_headers",
        lambda p: p.asks.update(allowed_headers={"patterns": [{"exact": "cookie"}, {"prefix": "x-"}]}),
        ID.TOKEN_HEADERS_DROPPED,
    ),
    Break(
        "the token is among disallowed_headers",
        lambda p: p.asks.update(disallowed_headers={"patterns": [{"exact": "Authorization", "ignore_case": True}]}),
        ID.TOKEN_HEADERS_DROPPED,
    ),
    Break(
        "another token header is not among allowed_headers",
        lambda p: p.asks.update(allowed_headers={"patterns": [{"safe_regex": {"regex": "authorization|x-other"}}]}),
        ID.TOKEN_HEADERS_DROPPED,
        promises=Promises(credential_headers=("authorization", "x-other-token")),
    ),
    Break("no raw headers", lambda p: lose(p.asks, "encode_raw_headers"), ID.RAW_HEADERS_MISSING, WARNING),
    Break("mutations not validated", lambda p: lose(p.asks, "validate_mutations"), ID.MUTATIONS_NOT_VALIDATED, WARNING),
    Break("mutations free", lambda p: lose(p.asks, "decoder_header_mutation_rules"), ID.MUTATIONS_NOT_LIMITED, WARNING),
    Break(
        "an identity header that may not be set",
        lambda _: None,
        ID.IDENTITY_HEADERS_REFUSED,
        promises=Promises(identity_headers=("x-auth-subject", "x-tenant")),
    ),
    Break("no status", lambda p: lose(p.asks, "status_on_error"), ID.STATUS_ON_ERROR, WARNING),
    Break("status 200", lambda p: p.asks.update(status_on_error={"code": "OK"}), ID.STATUS_ON_ERROR, WARNING),
    Break("no timeout", lambda p: lose(p.call, "timeout"), ID.TIMEOUT_MISSING, WARNING),
    Break("timeout 0s", lambda p: p.call.update(timeout="0s"), ID.TIMEOUT_MISSING),
    Break("no retry", lambda p: lose(p.call, "retry_policy"), ID.RETRY_MISSING, NOTE),
    Break("no back-off", lambda p: lose(p.call, "retry_policy", "retry_back_off"), ID.RETRY_WITHOUT_BACK_OFF, WARNING),
    Break(
        "tries that end too soon",
        lambda p: p.call["retry_policy"].update(retry_back_off={"base_interval": "0.005s", "max_interval": "0.025s"}),
        ID.RETRY_BACK_OFF_SHORT,
        WARNING,
    ),
    *(
        Break(f"{family} after", lambda p, family=family: p.add_filter(family), ID.FILTER_AFTER_EXT_AUTHZ)
        for family in ("lua", "header_mutation", "wasm", "ext_proc", "golang", "header_to_metadata")
    ),
    Break(
        "oauth2 after", lambda p: p.filters.insert(-1, {"name": "envoy.filters.http.oauth2"}), ID.FILTER_AFTER_EXT_AUTHZ
    ),
    Break("a filter of an upstream", upstream_filter, ID.FILTER_AFTER_EXT_AUTHZ),
    Break("a filter of the router", router_filter, ID.FILTER_AFTER_EXT_AUTHZ),
    Break("an unknown one after", lambda p: p.add_filter("acme"), ID.UNKNOWN_FILTER_AFTER_EXT_AUTHZ, WARNING),
    Break(
        "no early strip",
        lambda p: lose(p.manager, "early_header_mutation_extensions"),
        ID.IDENTITY_HEADERS_NOT_STRIPPED,
    ),
    Break("an early strip of one", keep_only_other_mutations, ID.IDENTITY_HEADERS_NOT_STRIPPED),
    Break(
        "an identity header of another name",
        lambda _: None,
        ID.IDENTITY_HEADERS_NOT_STRIPPED,
        promises=Promises(identity_headers=("x-tenant",)),
    ),
    *(
        Break(
            f"identity headers removed by the {name}",
            lambda p, name=name: getattr(p, name).update(request_headers_to_remove=["x-auth-groups"]),
            ID.IDENTITY_HEADERS_CHANGED_LATE,
        )
        for name in ("route", "host", "table")
    ),
    Break(
        "identity headers set by a route",
        lambda p: p.route.update(request_headers_to_add=[LATE]),
        ID.IDENTITY_HEADERS_CHANGED_LATE,
    ),
    Break("a rewrite", lambda p: p.route["route"].update(prefix_rewrite="/v1/"), ID.ROUTE_REWRITES, NOTE),
    Break("path as it comes", lambda p: lose(p.manager, "normalize_path"), ID.PATH_NOT_NORMALIZED, WARNING),
    Break("slashes as they come", lambda p: p.manager.update(merge_slashes=False), ID.SLASHES_NOT_MERGED, WARNING),
    Break(
        "escaped slashes as they come",
        lambda p: p.manager.update(path_with_escaped_slashes_action="KEEP_UNCHANGED"),
        ID.ESCAPED_SLASHES_KEPT,
        WARNING,
    ),
    Break(
        "underscores",
        lambda p: lose(p.manager, "common_http_protocol_options", "headers_with_underscores_action"),
        ID.UNDERSCORES_ALLOWED,
        WARNING,
    ),
    Break("peers believed", lambda p: lose(p.manager, "use_remote_address"), ID.REMOTE_ADDRESS_NOT_USED, WARNING),
    Break("no such cluster", lambda p: p.authz.update(name="other"), ID.AUTHZ_CLUSTER_UNKNOWN),
    Break("three workers", lambda _: None, ID.TOO_FEW_ENDPOINTS, promises=Promises(workers=3)),
    Break("another host", lambda p: p.endpoint.update(REMOTE), ID.PLAINTEXT_ACROSS_HOSTS),
    Break("another host by gRPC's client", google, ID.PLAINTEXT_ACROSS_HOSTS),
    Break("TLS to whomever", lambda p: p.endpoint.update(REMOTE) or tls(p), ID.TLS_NOT_VERIFIED),
    Break("no health check", lambda p: lose(p.authz, "health_checks"), ID.HEALTH_CHECK_MISSING, WARNING),
    Break(
        "a host without a policy",
        lambda p: p.host.update(domains=["app.localhost", "forgotten.example.com"]),
        ID.HOST_WITHOUT_POLICY,
        WARNING,
        policies(APP),
    ),
    Break(
        "a policy without a host",
        lambda p: p.host.update(domains=["app.localhost:*"]),
        ID.POLICY_HOST_UNREACHABLE,
        WARNING,
        policies(APP + "- from: https://new.example.com" + EVERYBODY),
    ),
    Break(
        "a name that no policy has",
        lambda p: name_route(p.route, "orders"),
        ID.ROUTE_NAME_UNKNOWN,
        promises=policies(APP),
    ),
    Break(
        "a policy's route without a route",
        lambda p: p.host.update(routes=[{"match": {"prefix": "/public"}, "route": {"cluster": "upstream"}}]),
        ID.POLICY_ROUTE_UNREACHABLE,
        WARNING,
        policies("- from: https://app.localhost\n  prefix: /admin" + EVERYBODY),
    ),
    Break(
        "a filter from elsewhere",
        lambda p: p.guard.update(config_discovery={"type_urls": ["x"]}) or lose(p.guard, "typed_config"),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break(
        "listeners from elsewhere",
        lambda p: p.root.update(dynamic_resources={"lds_config": {"path_config_source": {"path": "x"}}}),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break("bytes without a question", raw_listener, ID.EXT_AUTHZ_MISSING, WARNING),
    Break(
        "routes from elsewhere",
        lambda p: p.manager.update(rds={"route_config_name": "r"}) or lose(p.manager, "route_config"),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break(
        "admin for everybody",
        lambda p: p.root["admin"]["address"]["socket_address"].update(address="0.0.0.0"),
        ID.ADMIN_EXPOSED,
        WARNING,
    ),
]
RUNTIME = "envoy.reloadable_features.oauth2_"


def static_layer(parts: Parts) -> Any:
    return parts.root["layered_runtime"]["layers"][0]["static_layer"]


BROWSER_BREAKS = [
    Break("no runtime", lambda p: lose(p.root, "layered_runtime"), ID.OAUTH2_WITHOUT_GCM),
    Break("no GCM", lambda p: lose(static_layer(p), f"{RUNTIME}use_gcm_encryption"), ID.OAUTH2_WITHOUT_GCM),
    Break(
        "CBC still read",
        lambda p: static_layer(p).update({f"{RUNTIME}legacy_cbc_decrypt_compat": True}),
        ID.OAUTH2_WITHOUT_GCM,
    ),
    Break("oauth2 after", lambda p: p.filters.insert(1, p.filters.pop(0)), ID.FILTER_AFTER_EXT_AUTHZ),
]
CASES = [
    *(pytest.param(name, one, id=f"{name}: {one.name}") for name in SAMPLES for one in BREAKS),
    *(pytest.param("browser.yaml", one, id=f"browser.yaml: {one.name}") for one in BROWSER_BREAKS),
]


@pytest.mark.parametrize(("sample", "broken"), CASES)
def test_a_broken_sample_is_found_out(sample: str, broken: Break) -> None:
    parts = Parts(SAMPLES[sample])
    broken.edit(parts)
    found = [one for one in doctor(json.dumps(parts.root, indent=1), broken.promises) if one.id is broken.finding]
    assert found, f"{broken.finding} not found"
    assert {one.severity for one in found} == {broken.severity}
    assert all(one.path and one.found and one.fix for one in found)


IN_A_DUMP = [one for one in CASES if one.values[1].finding is not ID.NOT_SEEN]  # there, everything is seen


@pytest.mark.parametrize(("sample", "broken"), IN_A_DUMP)
def test_the_same_is_found_in_a_running_envoys_dump(sample: str, broken: Break) -> None:
    parts = Parts(SAMPLES[sample])
    broken.edit(parts)
    found = doctor(json.dumps(as_dump(parts.root), indent=1), broken.promises)
    assert broken.finding in {one.id for one in found}


def as_dump(root: Any) -> Any:
    """Tell a bootstrap as /config_dump does, everything dynamic."""
    root = copy.deepcopy(root)
    resources = root.pop("static_resources")
    tables = []
    for listener in resources["listeners"]:
        chains = [
            *listener["filter_chains"],
            *([listener["default_filter_chain"]] if "default_filter_chain" in listener else []),
        ]
        for number, chain in enumerate(chains):
            manager = chain["filters"][0]["typed_config"]
            if "route_config" not in manager:
                continue
            table = manager.pop("route_config") | {"name": f"table-{number}"}
            manager["rds"] = {"route_config_name": table["name"]}
            tables.append({"route_config": table})
    listeners = [{"name": one["name"], "active_state": {"listener": one}} for one in resources["listeners"]]
    return {
        "configs": [
            {"bootstrap": root},
            {"dynamic_active_clusters": [{"cluster": one} for one in resources["clusters"]]},
            {"dynamic_listeners": listeners},
            {"dynamic_route_configs": tables},
        ]
    }


def test_every_finding_has_a_way_to_cause_it_and_an_advice() -> None:
    assert {one.finding for one in [*BREAKS, *BROWSER_BREAKS]} == set(FindingId)
    assert set(ADVICE) == set(FindingId)
    assert all(one.value == one.value.lower().replace("_", "-") for one in FindingId)


# --- what is no finding -------------------------------------------------------------------------------------------

HEALTHY = {
    "a fixed answer without a question": lambda p: (
        p.host["routes"].insert(0, {"match": {"path": "/healthz"}, "direct_response": {"status": 200}}),
        off(p.host["routes"][0]),
    ),
    "disabled for the host, enabled again on all its routes": lambda p: (
        off(p.host),
        [off(one, {"@type": PER_ROUTE, "check_settings": {}}) for one in p.host["routes"]],
    ),
    "all of the requests, the others refused": lambda p: p.asks.update(filter_enabled=WHOLE, deny_at_disable=DENIES),
    "harmless filters after": lambda p: [p.add_filter(name) for name in ("rbac", "local_ratelimit", "compressor")],
    "lua before": lambda p: p.add_filter("lua", before=len(p.filters)),
    "a Unix socket": lambda p: (p.endpoint.clear(), p.endpoint.update(pipe={"path": "/run/authz/authz.sock"})),
    "TLS that is verified": lambda p: (
        p.endpoint.update(REMOTE),
        tls(p, validation_context={"trusted_ca": {"filename": "ca.pem"}}),
    ),
    "the token among allowed_headers": lambda p: p.asks.update(
        allowed_headers={"patterns": [{"contains": "auth"}, {"suffix": "-id"}]}
    ),
    "numbers for names": lambda p: (
        p.manager.update(path_with_escaped_slashes_action=2),
        p.asks.update(status_on_error={"code": 503}),
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("sample", SAMPLES)
def test_what_is_as_good_is_no_finding(sample: str, name: str) -> None:
    parts = Parts(SAMPLES[sample])
    HEALTHY[name](parts)
    assert doctor(json.dumps(parts.root, indent=1)) == []


def test_three_workers_with_three_endpoints_are_fine() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    endpoints = parts.authz["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoints += copy.deepcopy([endpoints[0], endpoints[0]])
    assert doctor(json.dumps(parts.root), Promises(workers=3)) == []


def test_hosts_and_routes_on_both_sides_are_fine() -> None:
    assert doctor(SAMPLES["browser.yaml"], policies(APP)) == []
    assert doctor(SAMPLES["api.yaml"], policies(APP + "- from: https://*.example.com\n  prefix: /a" + EVERYBODY)) == []


# --- where and how ------------------------------------------------------------------------------------------------


def test_a_finding_says_where_what_and_what_to_do() -> None:
    text = SAMPLES["api.yaml"].replace("failure_mode_allow: false", "failure_mode_allow: true")
    (found,) = doctor(text)
    line = next(number for number, one in enumerate(text.splitlines(), 1) if "failure_mode_allow: true" in one)
    assert str(found.source) == f"envoy.yaml:{line}:35"
    assert found.path == (
        "static_resources.listeners[0].filter_chains[0].filters[0].typed_config"
        ".http_filters[1].typed_config.failure_mode_allow"
    )
    assert found.fix == "failure_mode_allow: false"


def test_the_worst_comes_first_and_nothing_twice() -> None:
    parts = Parts(SAMPLES["browser.yaml"])
    off(parts.host)
    del parts.manager["merge_slashes"]
    parts.route["route"]["prefix_rewrite"] = "/x"
    found = doctor(json.dumps(parts.root))
    assert [one.id for one in found] == [ID.EXT_AUTHZ_DISABLED] * len(errors(found)) + [
        ID.SLASHES_NOT_MERGED,
        ID.ROUTE_REWRITES,
    ]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("text", ["a: 1", "[]", "static_resources: {}", "just text", '{"configs": []}'])
def test_what_is_no_envoy_configuration_is_said_to_be_none(text: str) -> None:
    with pytest.raises(LoadError, match="no HTTP connection manager"):
        doctor(text)
