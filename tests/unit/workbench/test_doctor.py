"""The doctor: samples and whatever we generate are healthy; each way to break a sample is found, by its id."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import socket
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from authz.demo import files
from authz.document import parse
from authz.errors import LoadError, Severity
from authz.node import Fields, Problems
from authz.settings import Listen
from authz.transport.admission import QUEUE_OPTIONS
from authz.workbench.doctor import Finding, FindingId, Promises, examine, matching, verb
from authz.workbench.doctor.clusters import QUEUE
from authz.workbench.doctor.configuration import Configuration
from authz.workbench.doctor.findings import ADVICE, LOOK_THERE
from authz.workbench.doctor.headers import COPIES, READ
from authz.workbench.doctor.place import family
from authz.workbench.doctor.verb import UsageError, diagnose
from authz.workbench.importers import import_kong, import_pomerium
from tests.support.broken_envoys import (
    ADDRESSED,
    APP,
    BREAKS,
    BROWSER_BREAKS,
    CACHE,
    CLIENT,
    DENIES,
    EVERYBODY,
    EXTERNAL,
    FILTER_CONFIG,
    FORWARDED,
    FROM_ENVOY,
    HALF,
    ID,
    LUA,
    PEER,
    PER_ROUTE,
    REAL_IP,
    REMOTE,
    SAMPLES,
    SOCKET,
    TRAILED,
    VERIFIED,
    WHOLE,
    WORKERS,
    Break,
    Parts,
    by_the_route,
    detecting,
    discovered,
    discovered_listener,
    early,
    forward_proxy,
    gather,
    google,
    health,
    in_filter_chain,
    in_matcher,
    internal,
    layer,
    lose,
    match_sockets,
    may_change,
    may_change_named,
    mutated_by_the_route,
    mutating_filter,
    noting,
    off,
    policies,
    raw_listener,
    replace,
    scope,
    secret_tls,
    strip,
    tls,
    trailers_to,
    upgraded,
    validator,
    written,
)  # fmt: skip

ROOT = Path(__file__).parents[3]
IMPORTS = ROOT / "tests" / "cases" / "imports"
SOURCES = sorted([*(IMPORTS / "pomerium").iterdir(), *(IMPORTS / "kong").iterdir()])


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


HIDING = Promises(credential_headers=("authorization", "x-other-token", "cookie"), hides_credentials=True)


@pytest.mark.parametrize("name", SAMPLES)
def test_our_samples_let_authz_hide_credentials(name: str) -> None:
    assert doctor(SAMPLES[name], HIDING) == []


NAMES = [  # every character that a name may hold (RFC 9110 section 5.6.2), and all that begins like `host`
    *(text for character in "!#$%&'*+-.^_`|~09az" for text in (character, f"{character}x")),
    *("h", "ho", "hos", "hosts", "host-x", "ghost", "x-host", "x-forwarded-for-x", "content-length-x", *COPIES),
]
NOT_FOR_US = (":", ":path", ":authority", ":method", "host", "content-length", "transfer-encoding", "x-forwarded-for")


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_header_but_those_that_lead_astray_is_ours_to_change_in_our_samples(sample: str) -> None:
    def refused(header: str) -> bool:
        promises = Promises(credential_headers=(header,), hides_credentials=True)
        return ID.CREDENTIALS_KEPT in {one.id for one in doctor(SAMPLES[sample], promises)}

    assert [name for name in NAMES if refused(name)] == []
    assert [name for name in NOT_FOR_US if not refused(name)] == []


# --- every way to break one ---------------------------------------------------------------------------------------


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


IN_A_DUMP = [  # where everything is seen
    *(pytest.param("api.yaml", one, id=one.name) for one in BREAKS if one.finding is not ID.NOT_SEEN),
    *(pytest.param("browser.yaml", one, id=one.name) for one in BROWSER_BREAKS),
]


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
            {"dynamic_active_secrets": [{"secret": one} for one in resources.get("secrets", [])]},
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

PROXY_PROTOCOL = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"


def mutations_of(parts: Parts) -> Any:
    return parts.manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]


HEALTHY = {
    "a fixed answer without a question": lambda p: (
        p.host["routes"].insert(0, {"match": {"path": "/healthz"}, "direct_response": {"status": 200}}),
        off(p.host["routes"][0]),
    ),
    "disabled for the host, enabled again on all its routes": lambda p: (
        off(p.host),
        [off(one, {"@type": PER_ROUTE, "check_settings": {}}) for one in p.host["routes"]],
    ),
    "disabled in the chain, enabled on all routes": lambda p: (
        p.guard.update(disabled=True),
        [off(one, {"@type": FILTER_CONFIG, "config": {}}) for one in p.host["routes"]],
    ),
    "disabled for the host by FilterConfig, enabled again on all its routes": lambda p: (
        off(p.host, {"@type": FILTER_CONFIG, "disabled": True, "config": {"@type": PER_ROUTE, "disabled": True}}),
        [off(one, {"@type": FILTER_CONFIG, "config": {}}) for one in p.host["routes"]],
    ),
    "all of the requests, the others refused": lambda p: p.asks.update(filter_enabled=WHOLE, deny_at_disable=DENIES),
    "harmless filters after": lambda p: [p.add_filter(name) for name in ("rbac", "local_ratelimit", "file_server")],
    "half of the requests, but for the runtime": lambda p: (
        p.asks.update(filter_enabled=HALF, deny_at_disable=DENIES),
        layer(p, static_layer={"authz": 100}),
    ),
    "all of the requests, by the last layer of the runtime": lambda p: (
        p.asks.update(filter_enabled=WHOLE, deny_at_disable=DENIES),
        layer(p, static_layer={"authz": 0, "authz_denies": False}),
        layer(p, static_layer={"authz": {"numerator": 100, "denominator": "HUNDRED"}, "authz_denies": True}),
    ),
    "all of the requests, and a runtime that says something else": lambda p: (
        p.asks.update(filter_enabled=WHOLE, deny_at_disable=DENIES),
        layer(p, static_layer={"authz": {"size": 1}, "other": 0}),
    ),
    "a runtime from elsewhere, and a last word here": lambda p: (
        p.asks.update(filter_enabled=WHOLE, deny_at_disable=DENIES),
        p.root.setdefault("layered_runtime", {"layers": []})["layers"].insert(0, {"disk_layer": {}, "name": "d"}),
        layer(p, static_layer={"authz_denies": True}),
    ),
    "routes of a scope": scope,
    "a host that is chosen before the decision": lambda p: forward_proxy(p, before=len(p.filters)),
    "identity headers put back before they are taken off": lambda p: mutations_of(p).insert(
        0, written("x-auth-groups", "%REQ(x-want)%")
    ),
    "identity headers put back by Envoy's own word": lambda p: early(p, written("x-auth-groups", "%PROTOCOL%")),
    "a harmless filter after, in a matcher": lambda p: p.filters.insert(
        -1,
        in_matcher({"name": "b", "typed_config": {"@type": "x/envoy.extensions.filters.http.buffer.v3.Buffer"}}),
    ),
    "lua after that never runs": lambda p: (
        p.filters.insert(-1, {"name": "l", "disabled": True, "typed_config": LUA}),
        p.route.update(typed_per_filter_config={"l": {"@type": FILTER_CONFIG, "disabled": True}}),
    ),
    "a guard in a filter chain": lambda p: replace(p.filters, p.guard, in_filter_chain(p.guard)),
    "a cache before in a filter chain that never runs": lambda p: p.filters.insert(
        0, {**in_filter_chain(CACHE), "disabled": True}
    ),
    "a filter chain before, and its cache disabled by the name of the chain": lambda p: by_the_route(
        p, {**in_filter_chain(CACHE), "disabled": True}, FILTER_CONFIG, disabled=True
    ),
    "a note of nothing that clients send": lambda p: noting(p, "envoy.upstream.dynamic_host", value="%PROTOCOL%"),
    "a note that chooses nothing": lambda p: noting(p, "acme.note"),
    "answers alone changed after": lambda p: p.add_filter(
        "header_mutation",
        mutations={"response_mutations": [{"remove": "server"}], "responseTrailersMutations": [{"remove": "x"}]},
    ),
    **{f"trailers stripped, {what}": edit for what, edit in TRAILED.items()},
    "trailers of HTTP/1": lambda p: trailers_to(p, lambda _: None),
    "trailers of nobody who was judged": lambda p: (
        trailers_to(p, TRAILED["HTTP/2"]),
        p.host.update(routes=[{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]),
    ),
    "a cache before that never runs": lambda p: p.filters.insert(0, {**CACHE, "disabled": True}),
    "another header injected": lambda p: p.add_filter(
        "credential_injector", credential={"typed_config": {"header": "authorization"}}
    ),
    "headers mutated by a route before": lambda p: mutated_by_the_route(p, at=0),
    "lua before": lambda p: p.add_filter("lua", before=len(p.filters)),
    "web sockets through the same filters": lambda p: p.manager.update(upgrade_configs=[{"upgrade_type": "websocket"}]),
    "web sockets through a guard of their own": lambda p: upgraded(p, p.guard),
    "both spellings where keys are free": lambda p: p.route.update(
        metadata={"filter_metadata": {"acme": {"of_us": 1, "ofUs": 2}}}
    ),
    "both spellings, and nothing in one": lambda p: p.asks.update(failureModeAllow=None),
    "a Unix socket": lambda p: (p.endpoint.clear(), p.endpoint.update(pipe={"path": "/run/authz/authz.sock"})),
    "TLS that is verified": lambda p: (
        p.endpoint.update(REMOTE),
        tls(p, validation_context={"trusted_ca": {"filename": "ca.pem"}}),
    ),
    "TLS that is verified by a secret": lambda p: (p.endpoint.update(REMOTE), secret_tls(p, **VERIFIED)),
    "TLS that is verified by a secret and what stands beside it": lambda p: (
        p.endpoint.update(REMOTE),
        secret_tls(p, default=VERIFIED),
    ),
    "TLS that SPIFFE verifies": lambda p: (
        p.endpoint.update(REMOTE),
        tls(p, validation_context={"custom_validator_config": validator("spiffe")}),
    ),
    "TLS within PROXY protocol": lambda p: (
        p.endpoint.update(REMOTE),
        tls(p, validation_context=VERIFIED),
        p.authz.update(
            transport_socket={
                "name": "proxy",
                "typed_config": {"@type": PROXY_PROTOCOL, "transport_socket": p.authz["transport_socket"]},
            }
        ),
    ),
    "TLS for every endpoint": lambda p: (
        p.endpoint.update(REMOTE),
        match_sockets(p, tls={}, raw={}),
        lose(p.authz, "transport_socket"),
    ),
    "TLS for endpoints of this label": lambda p: (
        p.endpoint.update(REMOTE),
        match_sockets(p, raw={"mode": "raw"}, tls={"mode": "tls"}),
        p.lb_endpoint.update(metadata={"filter_metadata": {"envoy.transport_socket_match": {"mode": "tls"}}}),
    ),
    "an aggregate, which has no health checks of its own": lambda p: gather(p, "aggregate", "here"),
    **{
        f"gRPC's own client to {target}": lambda p, target=target: google(p, target)
        for target in ("unix:///run/authz.sock", "unix-abstract:authz", "ipv4:127.0.0.1:9191", "ipv6:[::1]:9191")
    },
    "gRPC's own client by TLS": lambda p: google(p, channel_credentials={"google_default": {}}),
    "the token and what else is read among allowed_headers": lambda p: p.asks.update(
        allowed_headers={"patterns": [{"contains": "auth"}, {"suffix": "-id"}, *({"exact": name} for name in READ)]}
    ),
    "mutations limited by what is excepted": lambda p: may_change(p, disallow_expression={"regex": ":.*|host"}),
    "mutations limited by Envoy's own words": lambda p: may_change(p, disallow_system=True),
    "an early strip of every spelling in turn": lambda p: strip(
        p,
        {"prefix": "x-auth-"},
        {"prefix": "X.AUTH", "ignore_case": True},
        {"safe_regex": {"regex": r"x-auth\..*"}},
        {"safe_regex": {"regex": "x[^a-z0-9.]auth[^a-z0-9].*"}},
    ),
    "an early strip of all but the spelling that is refused": lambda p: strip(
        p, {"safe_regex": {"regex": "x[^a-z0-9_]auth[^a-z0-9_].*"}}
    ),
    "no panic, by default value": lambda p: p.authz["common_lb_config"].update(healthy_panic_threshold={}),
    "a breaker as large as our queue": lambda p: p.authz["circuit_breakers"]["thresholds"][0].update(
        max_requests=QUEUE, priority="DEFAULT"
    ),
    "a health check of the whole server": lambda p: health(p).update(grpc_health_check={}, interval="1.4s"),
    "a slow health check beside a fast one": lambda p: p.authz["health_checks"].insert(
        0, {**health(p), "interval": "30s"}
    ),
    "numbers for names": lambda p: (
        p.manager.update(path_with_escaped_slashes_action=2),
        p.asks.update(status_on_error={"code": 503}),
    ),
}


@pytest.mark.parametrize("name", ADDRESSED)
@pytest.mark.parametrize("sample", SAMPLES)
def test_an_address_in_envoys_own_words_is_no_finding(sample: str, name: str) -> None:
    promises, edit = ADDRESSED[name]
    parts = Parts(SAMPLES[sample])
    edit(parts)
    assert doctor(json.dumps(parts.root, indent=1), promises) == []


@pytest.mark.parametrize(("value", "is_clients"), [(PEER, False), (CLIENT, True)])
def test_where_peers_are_believed_the_connections_address_alone_counts(value: str, is_clients: bool) -> None:
    parts = Parts(SAMPLES["api.yaml"])
    lose(parts.manager, "use_remote_address")
    mutating_filter(parts, written(EXTERNAL, value))
    found = {one.id for one in doctor(json.dumps(parts.root), FROM_ENVOY)}
    assert found == {ID.REMOTE_ADDRESS_NOT_USED, *([ID.CLIENT_IP_FORGEABLE] if is_clients else [])}
    parts.manager["original_ip_detection_extensions"] = [{"name": "xff"}]
    assert {one.id for one in doctor(json.dumps(parts.root), FROM_ENVOY)} == {ID.REMOTE_ADDRESS_NOT_USED}


@pytest.mark.parametrize(
    ("header", "is_stripped", "is_found"), [("x-real-ip", False, True), ("x-real-ip", True, False), ("x-b", True, True)]
)
def test_an_address_that_is_detected_in_a_header_is_whose_the_header_is(
    header: str, is_stripped: bool, is_found: bool
) -> None:
    parts = Parts(SAMPLES["api.yaml"])
    detecting(parts, header)
    early(parts, *([{"remove": "X-Real-IP"}] if is_stripped else []))
    mutating_filter(parts, written(EXTERNAL, CLIENT))
    found = [one for one in doctor(json.dumps(parts.root), FROM_ENVOY) if one.id is ID.CLIENT_IP_FORGEABLE]
    assert [one.found for one in found] == (
        [f"Envoy takes the address from `{header}`: clients can send it themselves"] if is_found else []
    )


NO_ADDRESS = ", and without an address every rule on `source_ip` denies"


@pytest.mark.parametrize(
    ("promises", "edit", "said"),
    [
        (FROM_ENVOY, internal, f"clients that count as internal can send `{EXTERNAL}` themselves"),
        (
            FROM_ENVOY,
            lambda p: p.manager.update(use_remote_address=False),
            f"Envoy passes `{EXTERNAL}` on as it comes: clients can send it themselves",
        ),
        (
            FORWARDED,
            lambda _: None,
            "clients can begin `x-forwarded-for` themselves, and a list is no address: whoever sends one has none",
        ),
        (
            FROM_ENVOY,
            lambda p: internal(p) or early(p, {"remove": EXTERNAL}),
            f"clients that count as internal have no `{EXTERNAL}`{NO_ADDRESS}",
        ),
        (
            REAL_IP,
            lambda p: early(p, {"remove": "x-real-ip"}),
            f"there is no `x-real-ip`{NO_ADDRESS}",
        ),
    ],
)
def test_what_is_wrong_with_the_clients_address_is_told(promises: Promises, edit: Any, said: str) -> None:
    parts = Parts(SAMPLES["api.yaml"])
    edit(parts)
    assert said in [one.found for one in doctor(json.dumps(parts.root), promises)]


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("sample", SAMPLES)
def test_what_is_as_good_is_no_finding(sample: str, name: str) -> None:
    parts = Parts(SAMPLES[sample])
    HEALTHY[name](parts)
    assert doctor(json.dumps(parts.root, indent=1)) == []


def test_the_queue_is_the_servers() -> None:
    assert dict(QUEUE_OPTIONS)["grpc.server.max_pending_requests"] == QUEUE


def test_more_endpoints_hold_more() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    endpoints = parts.authz["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoints += [copy.deepcopy(endpoints[0]) for _ in range(2)]
    for index, endpoint in enumerate(endpoints):
        endpoint["endpoint"]["address"]["socket_address"]["port_value"] += index
    lose(parts.authz, "circuit_breakers")  # 1,024 are fewer than three queues hold
    assert doctor(json.dumps(parts.root)) == []


def test_three_workers_with_three_endpoints_are_fine() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    endpoints = parts.authz["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoints += [copy.deepcopy(endpoints[0]) for _ in range(2)]
    for index, endpoint in enumerate(endpoints):
        endpoint["endpoint"]["address"]["socket_address"]["port_value"] += index
    assert doctor(json.dumps(parts.root), WORKERS) == []


def test_a_socket_that_another_folder_shows_is_the_same() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    parts.endpoint["pipe"] = {"path": "/mnt/shared/authz.sock"}
    lose(parts.endpoint, "socket_address")
    assert doctor(json.dumps(parts.root), SOCKET) == []


def test_any_free_port_may_be_the_one_that_is_asked() -> None:
    assert doctor(SAMPLES["api.yaml"], Promises(listens=[Listen("127.0.0.1", 0)])) == []


def test_tls_on_both_sides_is_fine() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    tls(parts, validation_context={"trusted_ca": {"filename": "ca.pem"}})
    assert doctor(json.dumps(parts.root), Promises(speaks_tls=True)) == []


def test_a_timeout_in_milliseconds_is_one_that_envoy_does_not_read() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    parts.call["timeout"] = "250ms"
    [found] = doctor(json.dumps(parts.root))
    assert (found.id, found.found) == (ID.TIMEOUT_MISSING, "`timeout` is `250ms`: Envoy reads seconds alone")


def test_hosts_and_routes_on_both_sides_are_fine() -> None:
    assert doctor(SAMPLES["browser.yaml"], policies(APP)) == []
    assert doctor(SAMPLES["api.yaml"], policies(APP + "- from: https://*.example.com\n  prefix: /a" + EVERYBODY)) == []


@pytest.mark.parametrize(
    ("match", "path", "is_reached"),
    [
        ({"path": "/a"}, "path: /a", True),
        ({"path": "/a/b"}, "prefix: /a/", True),
        ({"path": "/b"}, "path: /a", False),
        ({"prefix": "/a/b"}, "prefix: /a/", True),
        ({"safe_regex": {"regex": "/b"}}, "path: /a", True),  # of patterns nothing is said
        ({"prefix": "/b"}, "regex: /a.*", True),
    ],
)
def test_paths_are_compared_where_both_are_plain(match: Any, path: str, is_reached: bool) -> None:
    parts = Parts(SAMPLES["browser.yaml"])
    parts.host["routes"] = [{"match": match, "route": {"cluster": "upstream"}}]
    found = doctor(json.dumps(parts.root), policies(f"- from: https://app.localhost\n  {path}{EVERYBODY}"))
    assert [one.id for one in found] == ([] if is_reached else [ID.POLICY_ROUTE_UNREACHABLE])


@pytest.mark.parametrize(
    ("domain", "host", "is_reached"),
    [
        ("api.example.com", "api.example.com", True),
        ("API.example.com:8443", "api.example.com", True),
        ("web.example.com", "api.example.com", False),
        ("*.example.com", "api.example.com", True),
        ("*.example.com", "example.com", False),
        ("api.*", "api.example.com", True),
        ("api.example.com", "*.example.com", True),
        ("api.*", "*.example.com", True),  # as api.example.com
        ("*-api.example.com", "*.example.com", True),
        ("*.example.com", "*.api.example.com", True),
        ("*.example.org", "*.example.com", False),
    ],
)
def test_hosts_with_wildcards_on_both_sides_can_be_the_same(domain: str, host: str, is_reached: bool) -> None:
    parts = Parts(SAMPLES["api.yaml"])
    parts.host["domains"] = [domain]
    found = {one.id for one in doctor(json.dumps(parts.root), policies(f"- from: https://{host}{EVERYBODY}"))}
    assert found == (set() if is_reached else {ID.HOST_WITHOUT_POLICY, ID.POLICY_HOST_UNREACHABLE})


def test_plain_hosts_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing each with each took half a minute for 1,500 on each side."""
    monkeypatch.setattr(matching, "_overlap", None)
    parts = Parts(SAMPLES["api.yaml"])
    names = [f"host-{number}.example.com" for number in range(3)]
    parts.table["virtual_hosts"] = [{**parts.host, "name": name, "domains": [name]} for name in names]
    rules = "".join(f"- from: https://{name}{EVERYBODY}" for name in names)
    assert doctor(json.dumps(parts.root), policies(rules)) == []


def test_a_pattern_that_cannot_be_read_takes_nothing() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    mutations = parts.manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    mutations[0] = {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": "x-auth-("}}}}
    assert [one.id for one in doctor(json.dumps(parts.root))] == [ID.IDENTITY_HEADERS_NOT_STRIPPED]


# --- what authz.yaml says -----------------------------------------------------------------------------------------

TWO_PLACES = """
policies: policies.yaml
cognito:
  - {user_pool: eu-west-1_AbCdEfGhI, clients: [c], token_use: [access]}
tokens: [{header: authorization}, {header: x-other-token}]
client_ip_header: x-envoy-external-address
"""


def diagnosed(parts: Parts, folder: Path, config: str) -> list[Finding]:
    (folder / "envoy.json").write_text(json.dumps(parts.root), encoding="utf-8")
    (folder / "policies.yaml").write_text(APP, encoding="utf-8")
    (folder / "authz.yaml").write_text(config, encoding="utf-8")
    return diagnose(str(folder / "envoy.json"), folder / "authz.yaml")


def test_what_authz_shall_take_off_it_must_be_allowed_to(tmp_path: Path) -> None:
    parts = Parts(SAMPLES["api.yaml"])
    may_change_named(parts)
    assert diagnosed(parts, tmp_path, TWO_PLACES) == []  # nothing is taken off
    [found] = diagnosed(parts, tmp_path, TWO_PLACES + "hide_credentials: true")
    assert (found.id, found.severity) == (ID.CREDENTIALS_KEPT, Severity.ERROR)
    assert found.found == "authz may not take off `x-other-token`: allowed requests are answered 500"
    lose(parts.asks["decoder_header_mutation_rules"], "disallow_is_error")
    [found] = diagnosed(parts, tmp_path, TWO_PLACES + "hide_credentials: true")
    assert found.found == "authz may not take off `x-other-token`: tokens reach the upstream"


def test_the_clients_address_is_none_of_the_credentials(tmp_path: Path) -> None:
    parts = Parts(SAMPLES["api.yaml"])
    may_change(parts, disallow_expression={"regex": ":.*|host|x-envoy-external-address"})
    assert diagnosed(parts, tmp_path, TWO_PLACES + "hide_credentials: true") == []


@pytest.mark.parametrize(("is_error", "then"), [(True, "is answered 500"), (False, "such copies stay")])
def test_what_becomes_of_a_copy_that_may_not_be_taken_off(is_error: bool, then: str) -> None:
    parts = Parts(SAMPLES["api.yaml"])
    may_change_named(parts)
    parts.asks["decoder_header_mutation_rules"]["disallow_is_error"] = is_error
    [found] = doctor(json.dumps(parts.root), Promises(hides_credentials=True))
    assert "`referer`" in found.found
    assert found.found.endswith(then)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        pytest.param("x-auth-groups", "x.auth.groups", id="all of its marks"),
        pytest.param("x.team-groups", "x-team-groups", id="its own mark too"),
        pytest.param("x-user", "x.user", id="one mark"),
        pytest.param("user", None, id="no mark"),
        pytest.param("x-a.b", "x-a-b", id="the last mark"),
        pytest.param("x+user", "x-user", id="a mark that is rare"),
    ],
)
def test_what_is_read_as_an_identity_header_is_told(name: str, other: str | None) -> None:
    parts = Parts(SAMPLES["api.yaml"])
    strip(parts, {"prefix": "x-auth-"}, {"exact": name}, {"safe_regex": {"regex": "x[.]a[-.]b"}})
    said = [one.found for one in doctor(json.dumps(parts.root), Promises(identity_headers=(name,)))]
    assert said == [f"clients can send `{other}` and kin, which some upstreams read as `{name}`"] * (other is not None)


def test_the_old_strip_is_told_what_it_lets_through_and_what_to_write() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    strip(parts, {"safe_regex": {"regex": "x[-._]auth[-._].*"}})
    [found] = doctor(json.dumps(parts.root))
    assert found.id is ID.IDENTITY_SPELLINGS_NOT_STRIPPED
    assert "`x+auth+subject`" in found.found
    [regex] = re.findall(r'regex: "(.*)"', found.fix)
    strip(parts, {"safe_regex": {"regex": regex}})
    assert doctor(json.dumps(parts.root)) == []


def test_the_doctor_knows_every_header_that_authz_reads() -> None:
    sources = [path for path in (ROOT / "authz").rglob("*.py") if "pb" not in path.parts]
    read = {name for path in sources for name in re.findall(r"\.header\(\"(.*?)\"\)", path.read_text(encoding="utf-8"))}
    assert read == set(READ)


def test_envoy_gateway_is_told_to_send_every_header_that_authz_reads() -> None:
    readme = (ROOT / "envoy" / "README.md").read_text(encoding="utf-8")
    [listed] = re.findall(r"headersToExtAuth: \[(.*)\]", readme)
    parts = Parts(SAMPLES["api.yaml"])
    parts.asks["allowed_headers"] = {"patterns": [{"exact": name} for name in listed.split(", ")]}
    assert doctor(json.dumps(parts.root), Promises(credential_headers=("authorization", "cookie"))) == []


def test_a_certificate_that_authz_gets_may_be_judged() -> None:
    parts = Parts(SAMPLES["browser.yaml"])
    parts.asks["include_peer_certificate"] = True
    [certified] = [one for one in BREAKS if one.name == "rules on certificates, deny"]
    assert doctor(json.dumps(parts.root), certified.promises) == []


# --- where and how ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", "ext_authz"),
        ("envoy.lua.v3.Lua", "lua"),
        ("acme.filters.Own", "Own"),
        ("Own", "Own"),
    ],
)
def test_a_type_belongs_to_the_folder_above_its_version(kind: str, name: str) -> None:
    assert family(kind) == name


DISCOVERED = """
configs:
- dynamic_active_clusters:
  - cluster: {name: by-service, eds_cluster_config: {service_name: pool}}
  - cluster: {name: by-name, type: EDS}
  - cluster:
      name: in-place
      load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {hostname: a}}]}]}
- dynamic_endpoint_configs:
  - endpoint_config: {cluster_name: pool, endpoints: [{lb_endpoints: [{endpoint: {hostname: b}}]}]}
  - endpoint_config: {cluster_name: by-name, endpoints: [{lb_endpoints: [{endpoint: {hostname: c}}]}]}
  - endpoint_config: {cluster_name: in-place, endpoints: [{lb_endpoints: [{endpoint: {hostname: d}}]}]}
- ecds_filters:
  - ecds_filter:
      name: guard
      typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz}
  - ecds_filter:
      name: named-alike
      typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz}
- dynamic_listeners:
  - active_state:
      listener:
        filter_chains:
        - filters:
          - typed_config:
              '@type': x/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              http_filters:
              - {name: guard, config_discovery: {}}
              - {name: named-alike, typed_config: {'@type': x/envoy.extensions.filters.http.lua.v3.Lua}}
"""


def test_what_a_dump_discovered_is_found_by_its_name() -> None:
    node = parse(DISCOVERED.encode(), "dump.yaml", Problems())
    assert isinstance(node, Fields)
    dump = Configuration(node)
    hosts = {
        name: [one["endpoint"]["hostname"].text for one in dump.endpoints(each)] for name, each in dump.clusters.items()
    }
    assert hosts == {"by-service": ["b"], "by-name": ["c"], "in-place": ["a"]}
    assert [(one.name, one.family) for one in dump.managers[0].filters] == [
        ("guard", "ext_authz"),
        ("named-alike", "lua"),
    ]


@pytest.mark.parametrize(
    "drip",
    [b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b""],
)
def test_who_answers_a_byte_at_a_time_is_not_waited_for(drip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(1024)
            connection.sendall(drip)
            while not is_over.wait(0.02):
                connection.sendall(b"1")

    monkeypatch.setattr(verb, "DEADLINE_SECONDS", 0.2)
    is_over = Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = Thread(target=answer)
        answering.start()
        with pytest.raises(UsageError, match=r"not all of it came within 0\.2 s"):
            verb.dump(f"http://127.0.0.1:{server.getsockname()[1]}")
        is_over.set()
        answering.join(10)


def test_a_guard_from_elsewhere_under_another_name_is_not_missing() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    replace(parts.filters, parts.guard, discovered("authz", "ext_authz.v3.ExtAuthz"))
    assert [one.id for one in doctor(json.dumps(parts.root))] == [ID.NOT_SEEN]


def test_a_dump_knows_the_routes_of_scopes_or_nobody_does() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    off(parts.table)
    lose(parts.manager, "route_config")
    parts.manager["scoped_routes"] = {"name": "s", "scoped_rds": {}}
    dump = as_dump(parts.root)
    scopes = [{"name": "a", "route_configuration_name": parts.table["name"]}]
    dump["configs"].append({"dynamic_scoped_route_configs": [{"name": "s", "scoped_route_configs": scopes}]})
    [found] = doctor(json.dumps(dump))
    assert (found.id, found.fix) == (ID.NOT_SEEN, LOOK_THERE)  # it was the running Envoy that was asked
    dump["configs"].append({"dynamic_route_configs": [{"route_config": parts.table}]})
    assert [one.id for one in doctor(json.dumps(dump))] == [ID.EXT_AUTHZ_DISABLED]


def test_a_dump_knows_a_listeners_filters_from_elsewhere() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    discovered_listener(parts)
    listeners = parts.root["static_resources"]["listeners"]
    dump = as_dump(Parts(SAMPLES["api.yaml"]).root)
    dump["configs"].append({"dynamic_listeners": [{"active_state": {"listener": listeners[-1]}}]})
    assert [one.id for one in doctor(json.dumps(dump))] == [ID.NOT_SEEN]
    config = {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"}
    dump["configs"].append({"ecds_filters": [{"ecds_filter": {"name": "proxy", "typed_config": config}}]})
    assert [(one.id, one.severity) for one in doctor(json.dumps(dump))] == [(ID.EXT_AUTHZ_MISSING, Severity.WARNING)]


def test_a_listener_that_is_all_from_elsewhere_is_one() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    discovered_listener(parts)
    del parts.root["static_resources"]["listeners"][0]
    assert ID.NOT_SEEN in {one.id for one in doctor(json.dumps(parts.root))}


@pytest.mark.parametrize(
    ("edit", "fix"),
    [
        pytest.param(upgraded, "add envoy.filters.http.ext_authz to upgrade_configs[].filters", id="an upgrade"),
        pytest.param(raw_listener, "nothing, where it carries no HTTP", id="bytes"),
        pytest.param(
            lambda p: p.filters.remove(p.guard), "add envoy.filters.http.ext_authz to http_filters", id="HTTP"
        ),
    ],
)
def test_where_ext_authz_is_missing_the_advice_fits(edit: Any, fix: str) -> None:
    parts = Parts(SAMPLES["api.yaml"])
    edit(parts)
    [found] = [one for one in doctor(json.dumps(parts.root)) if one.id is ID.EXT_AUTHZ_MISSING]
    assert found.fix.startswith(fix)


def test_what_answers_first_is_no_matter_where_nobody_is_asked() -> None:
    parts = Parts(SAMPLES["api.yaml"])
    replace(parts.filters, parts.guard, CACHE)
    assert [one.id for one in doctor(json.dumps(parts.root))] == [ID.EXT_AUTHZ_MISSING]


def test_a_finding_says_where_what_and_what_to_do() -> None:
    text = SAMPLES["api.yaml"].replace("failure_mode_allow: false", "failure_mode_allow: true")
    (found,) = doctor(text)
    line = next(number for number, one in enumerate(text.splitlines(), 1) if "failure_mode_allow: true" in one)
    assert str(found.source) == f"envoy.yaml:{line}:35"
    assert found.path == (
        "static_resources.listeners[0].filter_chains[0].filters[0].typed_config"
        ".http_filters[2].typed_config.failure_mode_allow"
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
