"""Every way to break a healthy Envoy configuration, each with the finding that the doctor has to make of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from authz.errors import Severity
from authz.policy.parser import PolicyOptions, parse_policies
from authz.settings import Listen
from authz.settings.types import DEFAULT_LISTEN
from authz.workbench.doctor import FindingId, Promises
from authz.workbench.doctor.clusters import QUEUE
from authz.workbench.doctor.headers import READ

ENVOY = Path(__file__).parents[2] / "envoy"
SAMPLES = {name: (ENVOY / name).read_text(encoding="utf-8") for name in ("api.yaml", "browser.yaml")}
ID = FindingId


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
    def lb_endpoint(self) -> Any:
        return self.authz["load_assignment"]["endpoints"][0]["lb_endpoints"][0]

    @property
    def endpoint(self) -> Any:
        return self.lb_endpoint["endpoint"]["address"]

    def add_filter(self, family: str, *, before: int = 1, **config: Any) -> None:
        kind = f"type.googleapis.com/envoy.extensions.filters.http.{family}.v3.Whatever"
        self.filters.insert(
            len(self.filters) - before,
            {"name": f"my-{family}", "typed_config": {"@type": kind, **config}},
        )


MATCHER = "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher"
COMPOSITE = "type.googleapis.com/envoy.extensions.filters.http.composite.v3"
LUA = {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}

LIMIT = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
SIMPLE = "type.googleapis.com/envoy.extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig"
CACHE = {
    "name": "cache",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cache.v3.CacheConfig",
        "typed_config": {"@type": SIMPLE},
    },
}


CHOOSER = {
    "name": "chooser",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.router.cluster_specifiers.lua.v3.LuaConfig",
        "source_code": {"inline_string": "function envoy_on_route(h) return h:headers():get('x-cluster') end"},
        "default_cluster": "upstream",
    },
}


def forward_proxy(parts: Parts, *, before: int = 1) -> None:
    """Let `x-host` name the host that a dynamic forward proxy looks up."""
    parts.add_filter("dynamic_forward_proxy", before=before)
    kind = "type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig"
    per_route = {"my-dynamic_forward_proxy": {"@type": kind, "host_rewrite_header": "x-host"}}
    parts.route.update(typed_per_filter_config=per_route)


FORWARD_PROXY = {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
    "dns_cache_config": {"name": "d"},
}
SET_FILTER_STATE = "type.googleapis.com/envoy.extensions.filters.http.set_filter_state"
ORIGINAL_ADDRESS = "envoy.network.transport_socket.original_dst_address"


def noting(parts: Parts, key: str, *, before: int = 1, value: str = "%REQ(x-to)%") -> None:
    """Note what clients send as filter state."""
    parts.add_filter("set_filter_state", before=before)
    note = {"object_key": key, "format_string": {"text_format_source": {"inline_string": value}}}
    config = {"@type": f"{SET_FILTER_STATE}.v3.Config", "on_request_headers": [note]}
    parts.filters[-1 - before]["typed_config"] = config


def noting_by_the_route(parts: Parts, key: str) -> None:
    noting(parts, key)
    config = parts.filters[-2]["typed_config"]
    parts.filters[-2]["typed_config"] = {"@type": config["@type"]}
    parts.route.setdefault("typed_per_filter_config", {}).update({"my-set_filter_state": config})


def second_guard(parts: Parts) -> Any:
    return copy.deepcopy({**parts.guard, "name": "another"})


def in_matcher(one: Any) -> Any:
    """Give a filter as one that a matcher may leave out."""
    held = {"name": "held", "typed_config": one["typed_config"]}
    return {"name": one["name"], "typed_config": {"@type": MATCHER, "extension_config": held, "xds_matcher": {}}}


def in_composite(one: Any) -> Any:
    """Give a filter as one that a matcher chooses."""
    action = {"@type": f"{COMPOSITE}.ExecuteFilterAction", "typed_config": one}
    composite = in_matcher({"name": one["name"], "typed_config": {"@type": f"{COMPOSITE}.Composite"}})
    composite["typed_config"]["xds_matcher"] = {"on_no_match": {"action": {"name": "a", "typed_config": action}}}
    return composite


def holding(one: Any) -> Any:
    return {"@type": f"{COMPOSITE}.Composite", "named_filter_chains": {"c": {"typed_config": [one]}}}


def discovered(name: str, kind: str) -> Any:
    """Give a filter whose configuration comes from elsewhere."""
    source = {"ads": {}}
    url = f"type.googleapis.com/envoy.extensions.filters.http.{kind}"
    return {"name": name, "config_discovery": {"config_source": source, "type_urls": [url]}}


FILTER_CHAIN = "type.googleapis.com/envoy.extensions.filters.http.filter_chain.v3.FilterChainConfig"


def in_filter_chain(*held: Any) -> Any:
    """Give filters as the chain of one that runs them all."""
    chain = {"default_filter_chain": {"filters": list(held)}} if held else {}
    return {"name": "chain", "typed_config": {"@type": FILTER_CHAIN, **chain}}


def chosen(**action: Any) -> Any:
    """Give a matcher that always chooses this."""
    config = {"@type": f"{COMPOSITE}.ExecuteFilterAction", **action}
    return {"on_no_match": {"action": {"name": "a", "typed_config": config}}}


def by_the_route(parts: Parts, wrapper: Any, kind: str, *, at: int = 0, **said: Any) -> None:
    """Put a filter that holds none into the chain, and let the route say what it holds."""
    parts.filters.insert(at, wrapper)
    per_route = {wrapper["name"]: {"@type": kind, **said}}
    parts.route.setdefault("typed_per_filter_config", {}).update(per_route)


HOLLOW = {"name": "hollow", "typed_config": {"@type": f"{COMPOSITE}.Composite"}}


def dynamic(parts: Parts) -> None:
    """Let a matcher choose a filter that comes from elsewhere."""
    held = in_matcher(HOLLOW)
    held["typed_config"]["xds_matcher"] = chosen(dynamic_config=discovered("dyn", "cache.v3.CacheConfig"))
    parts.filters.insert(0, held)


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


def replace(items: list[Any], one: Any, other: Any) -> None:
    items[items.index(one)] = other


def weighted(parts: Parts, override: Any = None) -> None:
    cluster = {"name": "upstream", "weight": 1}
    off(cluster, override)
    parts.route["route"] = {"weighted_clusters": {"clusters": [cluster]}}


def lose(holder: Any, *path: str) -> None:
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]


def health(parts: Parts) -> Any:
    return parts.authz["health_checks"][0]


def layer(parts: Parts, **config: Any) -> None:
    """Add a layer to the runtime."""
    layers = parts.root.setdefault("layered_runtime", {"layers": []})["layers"]
    layers.append({"name": f"layer {len(layers)}", **config})


def tls(parts: Parts, **common: Any) -> None:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    parts.authz["transport_socket"] = {
        "name": "tls",
        "typed_config": {"@type": kind, "common_tls_context": common},
    }


def validator(name: str) -> Any:
    return {
        "name": f"envoy.tls.cert_validator.{name}",
        "typed_config": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}},
    }


def secret_tls(parts: Parts, *, default: Any = None, **context: Any) -> None:
    """Verify TLS by what a secret says; in a file, one that stands there."""
    parts.root["static_resources"]["secrets"] = [{"name": "ca", "validation_context": context}]
    named: Any = {"validation_context_sds_secret_config": {"name": "ca"}}
    if default is not None:
        named = {"combined_validation_context": {"default_validation_context": default, **named}}
    tls(parts, **named)


def match_sockets(parts: Parts, **labels: Any) -> None:
    """Choose transport sockets, `raw` and that of `tls`, by an endpoint's labels."""
    tls(parts, validation_context=VERIFIED)
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
    sockets = {"raw": {"name": "raw", "typed_config": {"@type": kind}}, "tls": parts.authz["transport_socket"]}
    parts.authz["transport_socket_matches"] = [
        {"name": name, "match": match, "transport_socket": sockets[name]} for name, match in labels.items()
    ]


def socket_matcher(parts: Parts) -> None:
    """Choose a transport socket by a tree of matchers."""
    match_sockets(parts, tls={}, raw={})
    kind = "type.googleapis.com/envoy.extensions.matching.common_inputs.transport_socket.v3"
    action = {"name": "a", "typed_config": {"@type": f"{kind}.TransportSocketNameAction", "name": "raw"}}
    parts.authz["transport_socket_matcher"] = {"on_no_match": {"action": action}}


def gather(parts: Parts, kind: str, *members: Any) -> None:
    """Make of the cluster one of others: `here`, which is as it was, and `there`, on another host."""
    here = copy.deepcopy(parts.authz)
    parts.endpoint.update(REMOTE)
    there = copy.deepcopy(parts.authz)
    lose(parts.authz, "load_assignment")
    lose(parts.authz, "type")
    config = {"@type": f"type.googleapis.com/envoy.extensions.clusters.{kind}.v3.ClusterConfig", "clusters": members}
    cluster_type = {"name": f"envoy.clusters.{kind}", "typed_config": config}
    parts.authz.update(lb_policy="CLUSTER_PROVIDED", cluster_type=cluster_type)
    lose(parts.authz, "health_checks")
    for name, cluster in {"here": here, "there": there}.items():
        parts.root["static_resources"]["clusters"].append({**cluster, "name": name})


def tunnel(parts: Parts) -> None:
    """Lead to authz through a listener within Envoy."""
    kind = "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
    parts.root["bootstrap_extensions"] = [{"name": "internal", "typed_config": {"@type": kind}}]
    lose(parts.authz, "health_checks")  # with them `--mode validate` panics
    parts.lb_endpoint["endpoint"]["address"] = {"envoy_internal_address": {"server_listener_name": "tunnel"}}


def upstream_filter(parts: Parts) -> None:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    lua = {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}
    options = {"@type": f"type.googleapis.com/{kind}", "http_filters": [{"name": "lua", "typed_config": lua}]}
    parts.upstream["typed_extension_protocol_options"] = {kind: options}


def protocol(parts: Parts, **config: Any) -> None:
    """Say how the upstream is asked."""
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {"@type": f"type.googleapis.com/{kind}", **config}
    parts.upstream["typed_extension_protocol_options"] = {kind: options}


TRAILERS = "envoy.filters.http.header_mutation"
TRAILED: dict[str, Callable[[Parts], object]] = {
    "HTTP/2 as it was once written": lambda p: p.upstream.update(http2_protocol_options={}),
    "HTTP/1 with trailers": lambda p: protocol(
        p, explicit_http_config={"http_protocol_options": {"enable_trailers": True}}
    ),
    "HTTP/2 where upstreams have it": lambda p: (
        protocol(p, auto_config={"http2_protocol_options": {}}),
        upstream_tls(p),
    ),
    "HTTP/2 as clients": lambda p: protocol(p, use_downstream_protocol_config={"http2_protocol_options": {}}),
    "HTTP/2": lambda p: protocol(p, explicit_http_config={"http2_protocol_options": {}}),
}


def upstream_tls(parts: Parts) -> None:
    tls(parts, validation_context=VERIFIED)
    parts.upstream["transport_socket"] = parts.authz.pop("transport_socket")


def trailers_to(parts: Parts, ask: Callable[[Parts], object]) -> None:
    """Send trailers, with nothing that takes ours off."""
    parts.filters[:] = [one for one in parts.filters if one["name"] != TRAILERS]
    ask(parts)


def router_filter(parts: Parts) -> None:
    lua = {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}
    parts.filters[-1]["typed_config"]["upstream_http_filters"] = [{"name": "lua", "typed_config": lua}]


def typed_struct(parts: Parts) -> None:
    url = parts.asks.pop("@type")
    parts.asks["failure_mode_allow"] = True
    struct = "type.googleapis.com/xds.type.v3.TypedStruct"
    parts.guard["typed_config"] = {"@type": struct, "type_url": url, "value": parts.asks}


def another(parts: Parts) -> Any:
    return {**parts.call, "envoy_grpc": {"cluster_name": "somewhere"}}


def mutated_by_the_route(parts: Parts, *, at: int = -1) -> None:
    kind = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    parts.filters.insert(at, {"name": "mutate", "typed_config": {"@type": kind}})
    mutations = {"request_mutations": [{"remove": "x-auth-groups"}]}
    per_route = {"mutate": {"@type": f"{kind}PerRoute", "mutations": mutations}}
    parts.route.setdefault("typed_per_filter_config", {}).update(per_route)


def google(parts: Parts, target: str = "dns:///authz.example.com:9191", **more: Any) -> None:
    del parts.call["envoy_grpc"]
    parts.call["google_grpc"] = {"target_uri": target, "stat_prefix": "authz", **more}


def second_chain(parts: Parts) -> None:
    listener = parts.root["static_resources"]["listeners"][0]
    chain = copy.deepcopy(listener["filter_chains"][0])
    del chain["filters"][0]["typed_config"]["http_filters"][-2]
    listener["default_filter_chain"] = chain


def upgraded(parts: Parts, *filters: Any) -> None:
    """Send web sockets through filters of their own."""
    parts.manager["upgrade_configs"] = [{"upgrade_type": "websocket", "filters": [*filters, parts.filters[-1]]}]


def matching_tree(parts: Parts, kind: str, value: Any) -> None:
    """Put routes into a matching tree, which a virtual host may have in place of a list."""
    action = {"action": {"name": "r", "typed_config": {"@type": f"type.googleapis.com/{kind}", **value}}}
    tree = {"input": {"name": "path"}, "exact_match_map": {"map": {"/x": action}}}
    parts.host["matcher"] = {"matcher_tree": tree}
    lose(parts.host, "routes")


def raw_listener(parts: Parts, kind: str = "tcp_proxy.v3.TcpProxy", **config: Any) -> None:
    kind = f"type.googleapis.com/envoy.extensions.filters.network.{kind}"
    config = config or {"cluster": "upstream"}
    proxy = {"name": "proxy", "typed_config": {"@type": kind, "stat_prefix": "raw", **config}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 10001}}
    listener = {"name": "raw", "address": address, "filter_chains": [{"filters": [proxy]}]}
    parts.root["static_resources"]["listeners"].append(listener)


def udp_listener(parts: Parts) -> None:
    kind = "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3"
    action = {"name": "r", "typed_config": {"@type": f"{kind}.Route", "cluster": "upstream"}}
    config = {
        "@type": f"{kind}.UdpProxyConfig", "stat_prefix": "u", "matcher": {"on_no_match": {"action": action}},
    }  # fmt: skip
    raw_listener(parts)
    parts.root["static_resources"]["listeners"][-1].update(
        address={"socket_address": {"address": "127.0.0.1", "port_value": 10001, "protocol": "UDP"}},
        filter_chains=[],
        listener_filters=[{"name": "udp", "typed_config": config}],
    )


def discovered_listener(parts: Parts) -> None:
    """Let a listener's filter come from elsewhere."""
    raw_listener(parts)
    [chain] = parts.root["static_resources"]["listeners"][-1]["filter_chains"]
    url = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    discovery = {"config_source": {"ads": {}}, "type_urls": [url]}
    chain["filters"] = [{"name": "proxy", "config_discovery": discovery}]


def scope(parts: Parts) -> None:
    """Let the client's `x-scope` choose the table of routes; it stands in place."""
    value = {"name": "x-scope", "element_separator": ";", "element": {"key": "a", "separator": "="}}
    one = {"name": "a", "key": {"fragments": [{"string_key": "a"}]}, "route_configuration": parts.table}
    parts.manager["scoped_routes"] = {
        "name": "s",
        "scope_key_builder": {"fragments": [{"header_value_extractor": value}]},
        "scoped_route_configurations_list": {"scoped_route_configurations": [one]},
    }
    lose(parts.manager, "route_config")


def original_destination(parts: Parts, **config: Any) -> None:
    """Let a header, or what `config` says, name the upstream's address."""
    lose(parts.upstream, "load_assignment")
    parts.upstream.update(
        type="ORIGINAL_DST", lb_policy="CLUSTER_PROVIDED", original_dst_lb_config=config or {"use_http_header": True}
    )


def keep_only_other_mutations(parts: Parts) -> None:
    mutations = parts.manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    mutations[0] = {"remove_on_match": {"key_matcher": {"exact": "x-auth-subject"}}}


def strip(parts: Parts, *matchers: Any) -> None:
    """Take identity headers off early by these matchers alone."""
    mutations = parts.manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    mutations[:1] = [{"remove_on_match": {"key_matcher": matcher}} for matcher in matchers]


EXTERNAL = "x-envoy-external-address"
FORWARDED_FOR = "x-forwarded-for"
FROM_ENVOY, FORWARDED, REAL_IP = (Promises(client_ip_header=name) for name in (EXTERNAL, FORWARDED_FOR, "x-real-ip"))
WORKERS = Promises(listens=[DEFAULT_LISTEN.of_worker(index) for index in range(3)])
SOCKET = Promises(listens=[Listen(path="/run/authz/authz.sock")])
PEER = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"
CLIENT = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"


def internal(parts: Parts, **config: Any) -> None:
    """Take some clients for internal."""
    parts.manager["internal_address_config"] = config


def proxied(parts: Parts) -> None:
    """Take the client's address from PROXY protocol."""
    kind = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
    config = {"@type": kind, "allow_requests_without_proxy_protocol": True}
    listener = parts.root["static_resources"]["listeners"][0]
    listener["listener_filters"] = [{"name": "proxy", "typed_config": config}]


def detecting(parts: Parts, header: str = "X-Said") -> None:
    """Take the client's address from a header."""
    kind = "type.googleapis.com/envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig"
    extension = {"name": "custom", "typed_config": {"@type": kind, "header_name": header}}
    lose(parts.manager, "use_remote_address")
    parts.manager["original_ip_detection_extensions"] = [extension]


def early(parts: Parts, *mutations: Any) -> None:
    parts.manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"] += mutations


def written(name: str, value: str, action: str | int = "OVERWRITE_IF_EXISTS_OR_ADD") -> Any:
    return {"append": {"header": {"key": name, "value": value}, "append_action": action}}


def mutating_filter(parts: Parts, *mutations: Any, at: int = 0, **more: Any) -> None:
    """Change request headers in a filter; at 0, before ext_authz."""
    kind = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
    config = {"@type": kind, "mutations": {"request_mutations": list(mutations)}}
    parts.filters.insert(at, {"name": "address", "typed_config": config, **more})


INSIDE = {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}


def may_change(parts: Parts, **rules: Any) -> None:
    parts.asks["decoder_header_mutation_rules"] = {"disallow_is_error": True, **rules}


def may_change_named(parts: Parts) -> None:
    """Let authz change what the samples once named, and nothing else."""
    may_change(parts, disallow_all=True, allow_expression={"regex": "x[-._]auth[-._][-._a-z0-9]+|authorization|cookie"})


def send(parts: Parts, *names: str) -> None:
    """Let authz get these headers alone."""
    parts.asks["allowed_headers"] = {"patterns": [{"exact": name} for name in names]}


HALF = {"default_value": {"numerator": 50, "denominator": "HUNDRED"}, "runtime_key": "authz"}
SOME = {"filter": "x", "path": [{"key": "k"}], "value": {"present_match": True}}
WHOLE = {"default_value": {"numerator": 100}, "runtime_key": "authz"}
DENIES = {"default_value": {"value": True}, "runtime_key": "authz_denies"}
REMOTE = {"socket_address": {"address": "192.0.2.7", "port_value": 9191}}
# A pin: a `trusted_ca` would have to be there for Envoy to start.
VERIFIED = {"verify_certificate_spki": ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]}
SERVER = {
    "api_type": "GRPC",
    "transport_api_version": "V3",
    "grpc_services": [{"envoy_grpc": {"cluster_name": "upstream"}}],
}
FROM_A_SERVER = {"resource_api_version": "V3", "api_config_source": SERVER}
OVER_HTTP = {"http_service": {"server_uri": {"uri": "http://127.0.0.1:8080", "cluster": "upstream", "timeout": "1s"}}}
INJECTED = {"header": "X-Auth-Groups"}
LATE = {"header": {"key": "X-Auth-Groups", "value": "admins"}}

BREAKS = [
    Break("no filter", lambda p: p.filters.remove(p.guard), ID.EXT_AUTHZ_MISSING),
    Break("no filter in the other chain", second_chain, ID.EXT_AUTHZ_MISSING),
    Break("no filter for web sockets", upgraded, ID.EXT_AUTHZ_MISSING),
    Break("disabled for web sockets", lambda p: upgraded(p, {**p.guard, "disabled": True}), ID.EXT_AUTHZ_DISABLED),
    Break(
        "skipped when a matcher says so",
        lambda p: replace(p.filters, p.guard, in_matcher(p.guard)),
        ID.FILTER_ENABLED_PARTLY,
    ),
    Break(
        "asked when a matcher says so",
        lambda p: replace(p.filters, p.guard, in_composite(p.guard)),
        ID.FILTER_ENABLED_PARTLY,
    ),
    Break(
        "disabled in a matching tree",
        lambda p: off(p.route) or matching_tree(p, "envoy.config.route.v3.Route", p.route),
        ID.EXT_AUTHZ_DISABLED,
    ),
    Break(
        "disabled in a list in a matching tree",
        lambda p: off(p.route) or matching_tree(p, "envoy.config.route.v3.RouteList", {"routes": [p.route]}),
        ID.EXT_AUTHZ_DISABLED,
    ),
    Break("disabled on a route", lambda p: off(p.route), ID.EXT_AUTHZ_DISABLED),
    Break("disabled on a virtual host", lambda p: off(p.host), ID.EXT_AUTHZ_DISABLED),
    Break("disabled for all routes", lambda p: off(p.table), ID.EXT_AUTHZ_DISABLED),
    Break("disabled for all routes of a scope", lambda p: off(p.table) or scope(p), ID.EXT_AUTHZ_DISABLED),
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
        "disabled for a host, and FilterConfig without a word about it on the route",
        lambda p: off(p.host) or off(p.route, {"@type": FILTER_CONFIG, "config": {}}),
        ID.EXT_AUTHZ_DISABLED,
    ),
    Break(
        "disabled for a host, and FilterConfig without a word about it for a part of a route's traffic",
        lambda p: off(p.host) or weighted(p, {"@type": FILTER_CONFIG, "config": {}}),
        ID.EXT_AUTHZ_DISABLED,
    ),
    Break(
        "another service of a route, over HTTP",
        lambda p: off(p.route, {"@type": PER_ROUTE, "check_settings": OVER_HTTP}),
        ID.EXT_AUTHZ_OVER_HTTP,
    ),
    Break(
        "another service of a route within FilterConfig, over HTTP",
        lambda p: off(p.route, {"@type": FILTER_CONFIG, "config": {"@type": PER_ROUTE, "check_settings": OVER_HTTP}}),
        ID.EXT_AUTHZ_OVER_HTTP,
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
    Break(
        "some metadata alone, the others refused",
        lambda p: p.asks.update(filter_enabled_metadata=SOME, deny_at_disable=DENIES),
        ID.FILTER_ENABLED_PARTLY,
        WARNING,
    ),
    *(
        Break(
            f"all, but for a runtime that says {said}",
            lambda p, said=said: p.asks.update(filter_enabled=WHOLE) or layer(p, static_layer={"authz": said}),
            ID.FILTER_ENABLED_PARTLY,
        )
        for said in (0, 99, "50", {"numerator": 9999, "denominator": "TEN_THOUSAND"})
    ),
    Break(
        "what is left out is refused, but for the runtime",
        lambda p: (
            p.asks.update(filter_enabled=WHOLE, deny_at_disable=DENIES),
            layer(p, static_layer={"authz_denies": False}),
        ),
        ID.DENY_AT_DISABLE_MISSING,
    ),
    Break(
        "what is left out is refused, but for a runtime that cannot be seen",
        lambda p: (
            p.asks.update(filter_enabled=WHOLE, deny_at_disable=DENIES),
            layer(p, static_layer={"authz_denies": True}),
            layer(p, rtds_layer={"name": "r", "rtds_config": {"path_config_source": {"path": "x"}}}),
        ),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break(
        "what lacks some metadata is refused, but for a runtime that cannot be seen",
        lambda p: (
            p.asks.update(filter_enabled_metadata=SOME, deny_at_disable=DENIES),
            layer(p, disk_layer={"symlink_root": "/run/runtime"}),
        ),
        ID.NOT_SEEN,
        WARNING,
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
    Break(
        "the client's address is not among allowed_headers",
        lambda p: send(p, "authorization", *READ),
        ID.TOKEN_HEADERS_DROPPED,
        promises=Promises(client_ip_header="x-real-ip"),
    ),
    Break(
        "the form of a refusal is not among allowed_headers",
        lambda p: send(p, "authorization", *(name for name in READ if name != "content-type")),
        ID.REQUEST_HEADERS_DROPPED,
        WARNING,
    ),
    Break(
        "what tells a script from a person is among disallowed_headers",
        lambda p: p.asks.update(disallowed_headers={"patterns": [{"prefix": "sec-"}]}),
        ID.REQUEST_HEADERS_DROPPED,
        WARNING,
    ),
    Break(
        "copies of tokens are not among allowed_headers",
        lambda p: send(p, "authorization", *READ),
        ID.REQUEST_HEADERS_DROPPED,
        WARNING,
        Promises(hides_credentials=True),
    ),
    *(
        Break(
            f"rules on certificates, {effect}",
            lambda _: None,
            ID.PEER_CERTIFICATE_MISSING,
            promises=policies(
                f"- from: https://app.localhost\n  policy:\n    {effect}:\n      and: [{{{criterion}}}]\n"
            ),
        )
        for effect, criterion in (
            ("allow", "client_certificate: {fingerprint: [" + "ab" * 32 + "]}"),
            ("deny", "invalid_client_certificate: true"),
        )
    ),
    *(
        Break(f"bodies of {most} bytes sent, {where}", lambda p, e=edit, most=most: e(p, most), ID.BODY_SENT, severity)
        for most, severity in ((1024, WARNING), (204_799, WARNING), (204_800, Severity.ERROR))
        for where, edit in {
            "always": lambda p, most: p.asks.update(with_request_body={"max_request_bytes": most}),
            "on a route": lambda p, most: off(
                p.route,
                {"@type": PER_ROUTE, "check_settings": {"with_request_body": {"max_request_bytes": most}}},
            ),
        }.items()
    ),
    Break("no raw headers", lambda p: lose(p.asks, "encode_raw_headers"), ID.RAW_HEADERS_MISSING, WARNING),
    Break("mutations not validated", lambda p: lose(p.asks, "validate_mutations"), ID.MUTATIONS_NOT_VALIDATED, WARNING),
    Break("mutations free", lambda p: lose(p.asks, "decoder_header_mutation_rules"), ID.MUTATIONS_NOT_LIMITED, WARNING),
    Break(
        "mutations free by an expression",
        lambda p: may_change(p, disallow_all=True, allow_expression={"regex": ".*"}),
        ID.MUTATIONS_NOT_LIMITED,
        WARNING,
    ),
    Break(
        "mutations free for the host",
        lambda p: may_change(p, disallow_system=True, allow_all_routing=True),
        ID.MUTATIONS_NOT_LIMITED,
        WARNING,
    ),
    Break("mutations free for the path", may_change, ID.MUTATIONS_NOT_LIMITED, WARNING),
    Break(
        "an identity header that is Envoy's",
        lambda p: may_change(p, disallow_system=True),
        ID.IDENTITY_HEADERS_REFUSED,
        promises=Promises(identity_headers=("x-envoy-tenant",)),
    ),
    Break(
        "another token header that may not be taken off",
        may_change_named,
        ID.CREDENTIALS_KEPT,
        promises=Promises(credential_headers=("authorization", "x-other-token"), hides_credentials=True),
    ),
    Break(
        "cookies that may not be taken off",
        lambda p: may_change(p, disallow_all=True, allow_expression={"regex": "x-.*|referer"}),
        ID.CREDENTIALS_KEPT,
        promises=Promises(credential_headers=("cookie",), hides_credentials=True),
    ),
    Break(
        "copies of tokens that may not be taken off",
        may_change_named,
        ID.CREDENTIALS_KEPT,
        WARNING,
        Promises(hides_credentials=True),
    ),
    Break(
        "an identity header that may not be set",
        may_change_named,
        ID.IDENTITY_HEADERS_REFUSED,
        promises=Promises(identity_headers=("x-auth-subject", "x-tenant")),
    ),
    Break("no status", lambda p: lose(p.asks, "status_on_error"), ID.STATUS_ON_ERROR, WARNING),
    Break("status 200", lambda p: p.asks.update(status_on_error={"code": "OK"}), ID.STATUS_ON_ERROR, WARNING),
    Break("no timeout", lambda p: lose(p.call, "timeout"), ID.TIMEOUT_MISSING, WARNING),
    Break(
        "a route that asks somebody else, without end",
        lambda p: off(p.route, {"@type": PER_ROUTE, "check_settings": {"grpc_service": {**p.call, "timeout": "0s"}}}),
        ID.TIMEOUT_MISSING,
    ),
    Break(
        "a part of a route's traffic that asks somebody else, without end",
        lambda p: weighted(p, {"@type": PER_ROUTE, "check_settings": {"grpc_service": {**p.call, "timeout": "0s"}}}),
        ID.TIMEOUT_MISSING,
    ),
    Break(
        "a route that asks a cluster that is not there",
        lambda p: off(p.route, {"@type": PER_ROUTE, "check_settings": {"grpc_service": another(p)}}),
        ID.AUTHZ_CLUSTER_UNKNOWN,
    ),
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
        for family in ("lua", "wasm", "ext_proc", "golang", "header_to_metadata")
    ),
    Break(
        "oauth2 after", lambda p: p.filters.insert(-1, {"name": "envoy.filters.http.oauth2"}), ID.FILTER_AFTER_EXT_AUTHZ
    ),
    *(
        Break(
            f"{field} after",
            lambda p, field=field: p.add_filter("header_mutation", mutations={field: [{"remove": "x"}]}),
            ID.FILTER_AFTER_EXT_AUTHZ,
        )
        for field in ("request_mutations", "requestMutations", "query_parameter_mutations")
    ),
    Break("mutations after, by the route", mutated_by_the_route, ID.FILTER_AFTER_EXT_AUTHZ),
    Break(
        "mutations after, out of sight",
        lambda p: p.filters.insert(-1, discovered("m", "header_mutation.v3.HeaderMutation")),
        ID.FILTER_AFTER_EXT_AUTHZ,
    ),
    Break("a filter of an upstream", upstream_filter, ID.FILTER_AFTER_EXT_AUTHZ),
    Break("a filter of the router", router_filter, ID.FILTER_AFTER_EXT_AUTHZ),
    Break(
        "lua after, when a matcher says so",
        lambda p: p.filters.insert(-1, in_matcher({"name": "l", "typed_config": LUA})),
        ID.FILTER_AFTER_EXT_AUTHZ,
    ),
    Break(
        "lua after, from elsewhere, by the name of another",
        lambda p: p.filters.insert(-1, discovered("my.buffer", "lua.v3.Lua")),
        ID.FILTER_AFTER_EXT_AUTHZ,
    ),
    Break(
        "lua after, enabled by a route alone",
        lambda p: (
            p.filters.insert(-1, {"name": "l", "disabled": True, "typed_config": LUA}),
            p.route.update(typed_per_filter_config={"l": {"@type": FILTER_CONFIG, "config": {}}}),
        ),
        ID.FILTER_AFTER_EXT_AUTHZ,
    ),
    Break(
        "lua after, disabled where it cannot be seen whether routes enable it",
        lambda p: (
            p.filters.insert(-1, {"name": "l", "disabled": True, "typed_config": LUA}),
            p.manager.update(rds={"route_config_name": "r"}),
            lose(p.manager, "route_config"),
        ),
        ID.FILTER_AFTER_EXT_AUTHZ,
    ),
    Break(
        "lua after one ext_authz and before another",
        lambda p: p.filters.insert(-1, {"name": "l", "typed_config": LUA}) or p.filters.insert(-1, second_guard(p)),
        ID.FILTER_AFTER_EXT_AUTHZ,
    ),
    *(
        Break(f"{family} after, which clears the route", lambda p, f=family: p.add_filter(f), ID.FILTER_AFTER_EXT_AUTHZ)
        for family in ("json_to_metadata", "ip_tagging")
    ),
    Break(
        "a filter after, told to clear the route",
        lambda p: p.add_filter("set_filter_state", clear_route_cache=True),
        ID.FILTER_AFTER_EXT_AUTHZ,
    ),
    *(
        Break(
            f"{family} before", lambda p, f=family: p.add_filter(f, before=len(p.filters)), ID.ANSWER_BEFORE_EXT_AUTHZ
        )
        for family in ("cache_v2", "file_server")
    ),
    *(
        Break(f"a cache before, {where}", edit, ID.ANSWER_BEFORE_EXT_AUTHZ)
        for where, edit in {
            "in a filter chain": lambda p: p.filters.insert(0, in_filter_chain(CACHE)),
            "that a route's composite in a filter chain chooses": lambda p: (
                by_the_route(p, HOLLOW, f"{COMPOSITE}.CompositePerRoute", matcher=chosen(typed_config=CACHE)),
                p.filters.insert(0, in_filter_chain(p.filters.pop(0))),
            ),
            "in a route's filter chain": lambda p: by_the_route(
                p, in_filter_chain(), f"{FILTER_CHAIN}PerRoute", filter_chain={"filters": [CACHE]}
            ),
            "that a route's composite chooses": lambda p: by_the_route(
                p, HOLLOW, f"{COMPOSITE}.CompositePerRoute", matcher=chosen(typed_config=CACHE)
            ),
            "that a route's matcher chooses": lambda p: by_the_route(
                p, in_matcher(HOLLOW), f"{MATCHER}PerRoute", xds_matcher=chosen(typed_config=CACHE)
            ),
            "that a matcher chooses, from elsewhere": dynamic,
        }.items()
    ),
    Break("a filter from elsewhere that a matcher chooses", dynamic, ID.NOT_SEEN, WARNING),
    Break("a cache before", lambda p: p.filters.insert(0, CACHE), ID.ANSWER_BEFORE_EXT_AUTHZ),
    Break(
        "lua after, in a filter chain",
        lambda p: p.filters.insert(-1, in_filter_chain({"name": "l", "typed_config": LUA})),
        ID.FILTER_AFTER_EXT_AUTHZ,
    ),
    *(
        Break(
            f"disabled within a filter chain, {where}",
            lambda p, said=said: replace(p.filters, p.guard, in_filter_chain(p.guard)) or said(p),
            ID.EXT_AUTHZ_DISABLED,
        )
        for where, said in {
            "by its own name": lambda p: off(p.route),
            "with the chain": lambda p: p.route.update(
                typed_per_filter_config={"chain": {"@type": FILTER_CONFIG, "disabled": True}}
            ),
        }.items()
    ),
    Break(
        "another ext_authz after",
        lambda p: p.filters.insert(-1, second_guard(p)),
        ID.UNKNOWN_FILTER_AFTER_EXT_AUTHZ,
        WARNING,
    ),
    Break("an unknown one after", lambda p: p.add_filter("acme"), ID.UNKNOWN_FILTER_AFTER_EXT_AUTHZ, WARNING),
    Break(
        "no early strip",
        lambda p: lose(p.manager, "early_header_mutation_extensions"),
        ID.IDENTITY_HEADERS_NOT_STRIPPED,
    ),
    Break("an early strip of one", keep_only_other_mutations, ID.IDENTITY_HEADERS_NOT_STRIPPED),
    *(
        Break(
            f"an early strip, and {what} from another header after it",
            lambda p, action=action: early(p, written("X-Auth-Groups", "%REQ(x-want)%", action)),
            ID.IDENTITY_HEADERS_NOT_STRIPPED,
        )
        for what, action in {
            "an addition": "APPEND_IF_EXISTS_OR_ADD",
            "a value": "OVERWRITE_IF_EXISTS_OR_ADD",
        }.items()
    ),
    Break(
        "an early strip of one spelling",
        lambda p: strip(p, {"prefix": "x-auth-"}),
        ID.IDENTITY_SPELLINGS_NOT_STRIPPED,
        WARNING,
    ),
    Break(
        "an early strip of two spellings",
        lambda p: strip(p, {"prefix": "x-auth-"}, {"prefix": "x.auth."}),
        ID.IDENTITY_SPELLINGS_NOT_STRIPPED,
        WARNING,
    ),
    Break(
        "an early strip of hyphens, dots and underscores",  # the samples' of before
        lambda p: strip(p, {"safe_regex": {"regex": "x[-._]auth[-._].*"}}),
        ID.IDENTITY_SPELLINGS_NOT_STRIPPED,
        WARNING,
    ),
    *(
        Break(
            f"an early strip of every mark but {mark}",
            lambda p, mark=mark: strip(p, {"safe_regex": {"regex": rf"x[^a-z0-9\x{ord(mark):x}]auth[^a-z0-9].*"}}),
            ID.IDENTITY_SPELLINGS_NOT_STRIPPED,
            WARNING,
        )
        for mark in "!#$%&'*+.^`|~"
    ),
    Break(
        "an early strip without the spelling that is not refused",
        lambda p: (
            strip(p, {"safe_regex": {"regex": "x[^a-z0-9_]auth[^a-z0-9_].*"}}),
            lose(p.manager, "common_http_protocol_options", "headers_with_underscores_action"),
        ),
        ID.IDENTITY_SPELLINGS_NOT_STRIPPED,
        WARNING,
    ),
    Break(
        "an identity header of another name",
        lambda _: None,
        ID.IDENTITY_HEADERS_NOT_STRIPPED,
        promises=Promises(identity_headers=("x-tenant",)),
    ),
    *(
        Break(
            f"trailers kept, {what}",
            lambda p, edit=edit: trailers_to(p, edit),
            ID.IDENTITY_TRAILERS_NOT_STRIPPED,
            WARNING,
        )
        for what, edit in TRAILED.items()
    ),
    Break(
        "trailers of another name kept",
        lambda p: p.upstream.update(http2_protocol_options={}),
        ID.IDENTITY_TRAILERS_NOT_STRIPPED,
        WARNING,
        Promises(identity_headers=("x-tenant",)),
    ),
    Break(
        "trailers kept for a part of a route's traffic",
        lambda p: weighted(p, {"@type": FILTER_CONFIG, "config": {}}) or trailers_to(p, TRAILED["HTTP/2"]),
        ID.IDENTITY_TRAILERS_NOT_STRIPPED,
        WARNING,
    ),
    Break(
        "trailers kept on a route",
        lambda p: (
            p.upstream.update(http2_protocol_options={}),
            p.route.update(typed_per_filter_config={TRAILERS: {"@type": FILTER_CONFIG, "disabled": True}}),
        ),
        ID.IDENTITY_TRAILERS_NOT_STRIPPED,
        WARNING,
    ),
    Break(
        "trailers kept by a disabled filter",
        lambda p: p.upstream.update(http2_protocol_options={}) or p.filters[0].update(disabled=True),
        ID.IDENTITY_TRAILERS_NOT_STRIPPED,
        WARNING,
    ),
    *(
        Break(
            f"identity headers removed by the {name}",
            lambda p, name=name: getattr(p, name).update(request_headers_to_remove=["x-auth-groups"]),
            ID.IDENTITY_HEADERS_CHANGED_LATE,
        )
        for name in ("route", "host", "table")
    ),
    Break("identity headers mutated by a route", mutated_by_the_route, ID.IDENTITY_HEADERS_CHANGED_LATE),
    Break(
        "identity headers injected as credentials",
        lambda p: p.add_filter("credential_injector", credential={"typed_config": {"header": "X-Auth-Groups"}}),
        ID.IDENTITY_HEADERS_CHANGED_LATE,
    ),
    Break(
        "identity headers injected behind the router",
        lambda p: p.filters[-1]["typed_config"].update(
            upstream_http_filters=[{"name": "c", "typed_config": {"credential": {"typed_config": INJECTED}}}]
        ),
        ID.IDENTITY_HEADERS_CHANGED_LATE,
    ),
    Break(
        "identity headers set where a limit is not enforced",
        lambda p: p.add_filter("local_ratelimit", request_headers_to_add_when_not_enforced=[LATE]),
        ID.IDENTITY_HEADERS_CHANGED_LATE,
    ),
    Break(
        "identity headers set where a route's limit is not enforced",
        lambda p: (
            p.add_filter("local_ratelimit"),
            p.route.update(
                typed_per_filter_config={
                    "my-local_ratelimit": {"@type": LIMIT, "request_headers_to_add_when_not_enforced": [LATE]}
                }
            ),
        ),
        ID.IDENTITY_HEADERS_CHANGED_LATE,
    ),
    Break(
        "identity headers set by a route",
        lambda p: p.route.update(request_headers_to_add=[LATE]),
        ID.IDENTITY_HEADERS_CHANGED_LATE,
    ),
    Break("a rewrite", lambda p: p.route["route"].update(prefix_rewrite="/v1/"), ID.ROUTE_REWRITES, NOTE),
    Break(
        "an upstream of the client's choice",
        lambda p: p.route.update(route={"cluster_header": "x-cluster"}),
        ID.UPSTREAM_FROM_HEADER,
        WARNING,
    ),
    Break(
        "a part of the traffic to an upstream of the client's choice",
        lambda p: p.route.update(
            route={"weighted_clusters": {"clusters": [{"cluster_header": "x-cluster", "weight": 1}]}}
        ),
        ID.UPSTREAM_FROM_HEADER,
        WARNING,
    ),
    Break(
        "an upstream of a program's choice",
        lambda p: p.route.update(route={"inline_cluster_specifier_plugin": {"extension": CHOOSER}}),
        ID.UPSTREAM_FROM_HEADER,
        WARNING,
    ),
    Break("a host of the client's choice", forward_proxy, ID.UPSTREAM_FROM_HEADER, WARNING),
    Break("an address of the client's choice", original_destination, ID.UPSTREAM_FROM_HEADER, WARNING),
    Break(
        "an address of the client's choice, by metadata",
        lambda p: original_destination(p, metadata_key={"key": "x", "path": [{"key": "to"}]}),
        ID.UPSTREAM_FROM_HEADER,
        WARNING,
    ),
    *(
        Break(
            f"a note of what clients send as {key}, {where}",
            lambda p, key=key, note=note: note(p, key),
            ID.UPSTREAM_FROM_HEADER,
            WARNING,
        )
        for key in ("envoy.upstream.dynamic_host", "envoy.upstream.dynamic_port", ORIGINAL_ADDRESS)
        for where, note in {
            "late": noting,
            "early": lambda p, key: noting(p, key, before=len(p.filters)),
            "by the route": noting_by_the_route,
        }.items()
    ),
    Break(
        "a host by what filters note",
        lambda p: p.add_filter("dynamic_forward_proxy", allow_dynamic_host_from_filter_state=True, **FORWARD_PROXY),
        ID.UPSTREAM_FROM_HEADER,
        WARNING,
    ),
    Break("path as it comes", lambda p: lose(p.manager, "normalize_path"), ID.PATH_NOT_NORMALIZED, WARNING),
    Break("slashes as they come", lambda p: p.manager.update(merge_slashes=False), ID.SLASHES_NOT_MERGED, WARNING),
    Break(
        "escaped slashes as they come",
        lambda p: p.manager.update(path_with_escaped_slashes_action="KEEP_UNCHANGED"),
        ID.ESCAPED_SLASHES_KEPT,
        WARNING,
    ),
    Break(
        "escaped slashes as they come, by the runtime",
        lambda p: layer(p, static_layer={"http_connection_manager": {"path_with_escaped_slashes_action_enabled": 0}}),
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
    Break(
        "an address of clients on the inside",
        lambda p: internal(p, **INSIDE),
        ID.CLIENT_IP_FORGEABLE,
        promises=FROM_ENVOY,
    ),
    Break("an inside that is not told", internal, ID.CLIENT_IP_FORGEABLE, promises=FROM_ENVOY),
    Break(
        "an inside of sockets", lambda p: internal(p, unix_sockets=True), ID.CLIENT_IP_FORGEABLE, promises=FROM_ENVOY
    ),
    Break(
        "an address that Envoy never sets",
        lambda p: lose(p.manager, "use_remote_address"),
        ID.CLIENT_IP_FORGEABLE,
        promises=FROM_ENVOY,
    ),
    Break(
        "an address that is there unless the client sends one",
        lambda p: internal(p, **INSIDE) or early(p, written(EXTERNAL, PEER, "ADD_IF_ABSENT")),
        ID.CLIENT_IP_FORGEABLE,
        promises=FROM_ENVOY,
    ),
    Break(
        "an address from another header",
        lambda p: internal(p, **INSIDE) or early(p, written(EXTERNAL, "%REQ(X-REAL-IP)%")),
        ID.CLIENT_IP_FORGEABLE,
        promises=FROM_ENVOY,
    ),
    Break(
        "an address as peers say it",
        lambda p: lose(p.manager, "use_remote_address") or mutating_filter(p, written(EXTERNAL, CLIENT)),
        ID.CLIENT_IP_FORGEABLE,
        promises=FROM_ENVOY,
    ),
    Break(
        "an address that is written after ext_authz",
        lambda p: internal(p, **INSIDE) or mutating_filter(p, written(EXTERNAL, PEER), at=-1),
        ID.CLIENT_IP_FORGEABLE,
        promises=FROM_ENVOY,
    ),
    Break(
        "an address that a disabled filter would write",
        lambda p: internal(p, **INSIDE) or mutating_filter(p, written(EXTERNAL, PEER), disabled=True),
        ID.CLIENT_IP_FORGEABLE,
        promises=FROM_ENVOY,
    ),
    Break(
        "an address that proxies in front say",
        lambda p: p.manager.update(xff_num_trusted_hops=1),
        ID.CLIENT_IP_FORGEABLE,
        NOTE,
        FROM_ENVOY,
    ),
    Break(
        "an address that proxies in front say, in another header",
        lambda p: p.manager.update(xff_num_trusted_hops=1) or mutating_filter(p, written("x-real-ip", CLIENT)),
        ID.CLIENT_IP_FORGEABLE,
        NOTE,
        REAL_IP,
    ),
    *(
        Break(f"an address by PROXY protocol, {where}", edit, ID.CLIENT_IP_FORGEABLE, NOTE, promises)
        for where, edit, promises in (
            ("of the connection", proxied, Promises()),
            ("external", proxied, FROM_ENVOY),
            ("written early", lambda p: proxied(p) or early(p, written("x-real-ip", CLIENT)), REAL_IP),
            ("in a list that is begun here", lambda p: proxied(p) or early(p, {"remove": FORWARDED_FOR}), FORWARDED),
        )
    ),
    Break(
        "an address that is detected in a header",
        lambda p: detecting(p) or mutating_filter(p, written("x-real-ip", CLIENT)),
        ID.CLIENT_IP_FORGEABLE,
        WARNING,
        REAL_IP,
    ),
    Break("a list that clients begin", lambda _: None, ID.CLIENT_IP_FORGEABLE, promises=FORWARDED),
    Break(
        "a list of clients alone",
        lambda p: p.manager.update(skip_xff_append=True),
        ID.CLIENT_IP_FORGEABLE,
        promises=FORWARDED,
    ),
    Break("an address that nobody here sets", lambda _: None, ID.CLIENT_IP_FORGEABLE, WARNING, REAL_IP),
    Break(
        "no address for clients on the inside",
        lambda p: internal(p, **INSIDE) or early(p, {"remove": EXTERNAL}),
        ID.CLIENT_IP_MISSING,
        WARNING,
        FROM_ENVOY,
    ),
    Break(
        "no address for anybody",
        lambda p: p.manager.update(use_remote_address=False) or early(p, {"remove": "X-Envoy-External-Address"}),
        ID.CLIENT_IP_MISSING,
        WARNING,
        FROM_ENVOY,
    ),
    Break(
        "an address that is taken off last",
        lambda p: mutating_filter(p, {"remove": EXTERNAL}),
        ID.CLIENT_IP_MISSING,
        WARNING,
        FROM_ENVOY,
    ),
    Break(
        "a list that is taken off and not begun again",
        lambda p: p.manager.update(skip_xff_append=True) or early(p, {"remove": "x-forwarded-for"}),
        ID.CLIENT_IP_MISSING,
        WARNING,
        FORWARDED,
    ),
    Break("no such cluster", lambda p: p.authz.update(name="other"), ID.AUTHZ_CLUSTER_UNKNOWN),
    Break("three workers", lambda _: None, ID.TOO_FEW_ENDPOINTS, promises=WORKERS),
    Break(
        "another port",
        lambda p: p.endpoint["socket_address"].update(port_value=9192),
        ID.AUTHZ_ELSEWHERE,
        WARNING,
        Promises(listens=[DEFAULT_LISTEN]),
    ),
    Break("a socket in place of a port", lambda _: None, ID.AUTHZ_ELSEWHERE, WARNING, SOCKET),
    Break(
        "another socket",
        lambda p: p.endpoint.update(pipe={"path": "/run/other.sock"}) or lose(p.endpoint, "socket_address"),
        ID.AUTHZ_ELSEWHERE,
        WARNING,
        SOCKET,
    ),
    Break("clear text for TLS", lambda _: None, ID.TLS_ON_ONE_SIDE, WARNING, Promises(speaks_tls=True)),
    Break(
        "TLS for clear text",
        lambda p: tls(p, validation_context=VERIFIED),
        ID.TLS_ON_ONE_SIDE,
        WARNING,
        Promises(speaks_tls=False),
    ),
    Break("another host", lambda p: p.endpoint.update(REMOTE), ID.PLAINTEXT_ACROSS_HOSTS),
    Break("another host by gRPC's client", google, ID.PLAINTEXT_ACROSS_HOSTS),
    Break("TLS to whomever", lambda p: p.endpoint.update(REMOTE) or tls(p), ID.TLS_NOT_VERIFIED),
    Break("no health check", lambda p: lose(p.authz, "health_checks"), ID.HEALTH_CHECK_MISSING, WARNING),
    Break(
        "a health check of the port alone",
        lambda p: health(p).update(tcp_health_check={}) or lose(health(p), "grpc_health_check"),
        ID.HEALTH_CHECK_MISSING,
        WARNING,
    ),
    Break(
        "a health check of another service",
        lambda p: health(p).update(grpc_health_check={"service_name": "authz"}),
        ID.HEALTH_CHECK_FAILS,
    ),
    *(
        Break(
            f"a health check every {seconds}",
            lambda p, seconds=seconds: health(p).update(interval=seconds),
            ID.HEALTH_CHECK_SLOW,
            WARNING,
        )
        for seconds in ("1.5s", "30s")
    ),
    Break(
        "health merged",
        lambda p: lose(p.authz["common_lb_config"], "update_merge_window"),
        ID.HEALTH_CHANGES_HELD_BACK,
        NOTE,
    ),
    Break(
        "health merged for long",
        lambda p: p.authz["common_lb_config"].update(update_merge_window="2s"),
        ID.HEALTH_CHANGES_HELD_BACK,
        NOTE,
    ),
    Break(
        "panic as usual",
        lambda p: lose(p.authz["common_lb_config"], "healthy_panic_threshold"),
        ID.UNHEALTHY_ENDPOINTS_ASKED,
        NOTE,
    ),
    Break(
        "panic",
        lambda p: p.authz["common_lb_config"].update(healthy_panic_threshold={"value": 1}),
        ID.UNHEALTHY_ENDPOINTS_ASKED,
        NOTE,
    ),
    Break("no breaker", lambda p: lose(p.authz, "circuit_breakers"), ID.CIRCUIT_BREAKER_TOO_LATE, WARNING),
    Break(
        "a breaker for others only",
        lambda p: p.authz["circuit_breakers"]["thresholds"][0].update(priority="HIGH"),
        ID.CIRCUIT_BREAKER_TOO_LATE,
        WARNING,
    ),
    Break(
        "a breaker above our queue",
        lambda p: p.authz["circuit_breakers"]["thresholds"][0].update(max_requests=QUEUE + 1),
        ID.CIRCUIT_BREAKER_TOO_LATE,
        WARNING,
    ),
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
        lambda p: replace(p.filters, p.guard, discovered("authz", "ext_authz.v3.ExtAuthz")),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break(
        "a filter from elsewhere before it",
        lambda p: p.filters.insert(0, discovered("my.lua", "lua.v3.Lua")),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break(
        "listeners from elsewhere",
        lambda p: p.root.update(dynamic_resources={"lds_config": {"path_config_source": {"path": "x"}}}),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break("a listener's filter from elsewhere", discovered_listener, ID.NOT_SEEN, WARNING),
    Break(
        "a listener's chains from elsewhere",
        lambda p: p.root["static_resources"]["listeners"][0].update(fcds_config={"name": "chains"}),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break(
        "listeners from a collection elsewhere",
        lambda p: p.root.update(dynamic_resources={"lds_resources_locator": "xdstp://x/listeners/*"}),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break("datagrams without a question", udp_listener, ID.EXT_AUTHZ_MISSING, WARNING),
    Break("bytes without a question", raw_listener, ID.EXT_AUTHZ_MISSING, WARNING),
    Break(
        "commands without a question",
        lambda p: raw_listener(
            p,
            "redis_proxy.v3.RedisProxy",
            settings={"op_timeout": "1s"},
            prefix_routes={"catch_all_route": {"cluster": "upstream"}},
        ),
        ID.EXT_AUTHZ_MISSING,
        WARNING,
    ),
    Break(
        "routes from elsewhere",
        lambda p: p.manager.update(rds={"route_config_name": "r"}) or lose(p.manager, "route_config"),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break(
        "routes of a scope from elsewhere",
        lambda p: (
            lose(p.manager, "route_config"),
            p.manager.update(scoped_routes={"name": "s", "scoped_rds": {"scoped_rds_config_source": {"ads": {}}}}),
        ),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break(
        "admin for everybody",
        lambda p: p.root["admin"]["address"]["socket_address"].update(address="0.0.0.0"),
        ID.ADMIN_EXPOSED,
        WARNING,
    ),
    *(
        Break(name, lambda p, context=context: tls(p, validation_context=context), ID.TLS_NOT_VERIFIED)
        for name, context in {
            "TLS that verifies nothing": {},
            "TLS by the roots of the system, which Envoy does not read": {"system_root_certs": {}},
            "TLS to whom no pin names": {"verify_certificate_spki": []},
            "TLS by the usual validator, spelled out": {"custom_validator_config": validator("default")},
            "TLS to whom nobody trusts": {**VERIFIED, "trust_chain_verification": "ACCEPT_UNTRUSTED"},
            "TLS to whom nobody trusts, by number": {**VERIFIED, "trust_chain_verification": 1},
        }.items()
    ),
    Break("TLS by a secret that verifies nothing", secret_tls, ID.TLS_NOT_VERIFIED),
    Break(
        "TLS by two contexts, one of which takes anybody",
        lambda p: secret_tls(p, default={"trust_chain_verification": "ACCEPT_UNTRUSTED"}, **VERIFIED),
        ID.TLS_NOT_VERIFIED,
    ),
    Break(
        "TLS by a secret from elsewhere",
        lambda p: tls(p, validation_context_sds_secret_config={"name": "ca", "sds_config": FROM_A_SERVER}),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break(
        "clear text for an endpoint of TLS",
        lambda p: p.endpoint.update(REMOTE) or match_sockets(p, raw={}, tls={}),
        ID.PLAINTEXT_ACROSS_HOSTS,
    ),
    Break(
        "clear text for what has no label",
        lambda p: p.endpoint.update(REMOTE) or match_sockets(p, tls={"mode": "tls"}, raw={}),
        ID.PLAINTEXT_ACROSS_HOSTS,
    ),
    Break("a socket for each request", socket_matcher, ID.NOT_SEEN, WARNING),
    Break(
        "another host for when the first does not answer",
        lambda p: p.lb_endpoint["endpoint"].update(additional_addresses=[{"address": REMOTE}]),
        ID.PLAINTEXT_ACROSS_HOSTS,
    ),
    Break(
        "a name that no policy has, for a part of a route's traffic",
        lambda p: weighted(p, {"@type": PER_ROUTE, "check_settings": {"context_extensions": {"route": "orders"}}}),
        ID.ROUTE_NAME_UNKNOWN,
        promises=policies(APP),
    ),
    Break("another host in an aggregate", lambda p: gather(p, "aggregate", "here", "there"), ID.PLAINTEXT_ACROSS_HOSTS),
    Break(
        "another host in a composite",
        lambda p: gather(p, "composite", {"name": "here"}, {"name": "there"}),
        ID.PLAINTEXT_ACROSS_HOSTS,
    ),
    Break(
        "an aggregate with what is not there",
        lambda p: gather(p, "aggregate", "here", "nowhere"),
        ID.AUTHZ_CLUSTER_UNKNOWN,
    ),
    Break("an aggregate of itself", lambda p: gather(p, "aggregate", "authz", "there"), ID.PLAINTEXT_ACROSS_HOSTS),
    Break(
        "endpoints from elsewhere",
        lambda p: (
            p.authz.update(type="EDS", eds_cluster_config={"eds_config": FROM_A_SERVER})
            or lose(p.authz, "load_assignment")
        ),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break(
        "a cluster from elsewhere",
        lambda p: p.authz.update(name="other") or p.root.update(dynamic_resources={"cds_config": FROM_A_SERVER}),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break("a tunnel within Envoy", tunnel, ID.NOT_SEEN, WARNING),
    Break(
        "three endpoints, all the same",
        lambda p: p.authz["load_assignment"]["endpoints"][0].update(lb_endpoints=[p.lb_endpoint] * 3),
        ID.TOO_FEW_ENDPOINTS,
        promises=WORKERS,
    ),
    *(
        Break(f"another host as {target}", lambda p, target=target: google(p, target), ID.PLAINTEXT_ACROSS_HOSTS)
        for target in (
            "ipv4:127.0.0.1:9191,192.0.2.7:9191",
            "dns://127.0.0.1/authz.example.com:9191",
            "unix.example.com",
        )
    ),
    Break(
        "failure_mode_allow and failureModeAllow",
        lambda p: p.asks.update(failureModeAllow=True),
        ID.FIELD_WRITTEN_TWICE,
    ),
]
RUNTIME = "envoy.reloadable_features.oauth2_"


def static_layer(parts: Parts) -> Any:
    return parts.root["layered_runtime"]["layers"][0]["static_layer"]


BROWSER_BREAKS = [
    Break(
        "no runtime, and a filter chain around it",
        lambda p: lose(p.root, "layered_runtime") or replace(p.filters, p.filters[1], in_filter_chain(p.filters[1])),
        ID.OAUTH2_WITHOUT_GCM,
    ),
    Break(
        "no runtime, and a matcher around it",
        lambda p: lose(p.root, "layered_runtime") or replace(p.filters, p.filters[1], in_matcher(p.filters[1])),
        ID.OAUTH2_WITHOUT_GCM,
    ),
    Break(
        "no runtime, and a matcher that chooses it",
        lambda p: lose(p.root, "layered_runtime") or replace(p.filters, p.filters[1], in_composite(p.filters[1])),
        ID.OAUTH2_WITHOUT_GCM,
    ),
    Break("no runtime", lambda p: lose(p.root, "layered_runtime"), ID.OAUTH2_WITHOUT_GCM),
    Break("no GCM", lambda p: lose(static_layer(p), f"{RUNTIME}use_gcm_encryption"), ID.OAUTH2_WITHOUT_GCM),
    Break(
        "CBC still read",
        lambda p: static_layer(p).update({f"{RUNTIME}legacy_cbc_decrypt_compat": True}),
        ID.OAUTH2_WITHOUT_GCM,
    ),
    Break(
        "no runtime, and a composite that holds it by name",
        lambda p: (
            lose(p.root, "layered_runtime"),
            replace(p.filters, p.filters[1], {"name": "c", "typed_config": holding(p.filters[1])}),
        ),
        ID.OAUTH2_WITHOUT_GCM,
    ),
    Break(
        "GCM unless a file says otherwise",
        lambda p: layer(p, disk_layer={"symlink_root": "/run/runtime"}),
        ID.NOT_SEEN,
        WARNING,
    ),
    Break("oauth2 after", lambda p: p.filters.insert(2, p.filters.pop(1)), ID.FILTER_AFTER_EXT_AUTHZ),
]

# --- no finding: whoever says what the client's address is, it is Envoy -------------------------------------------

ADDRESSED: dict[str, tuple[Promises, Callable[[Parts], object]]] = {
    "by Envoy": (FROM_ENVOY, lambda _: None),
    "by Envoy, written early": (FROM_ENVOY, lambda p: internal(p, **INSIDE) or early(p, written(EXTERNAL, PEER))),
    "by Envoy, taken off and written": (
        FROM_ENVOY,
        lambda p: internal(p) or early(p, {"remove": EXTERNAL}, written(EXTERNAL, CLIENT, 2)),
    ),
    "by Envoy, taken off and added": (
        REAL_IP,
        lambda p: early(
            p,
            {"remove": "x-real-ip"},
            {"append": {"header": {"key": "X-Real-Ip", "value": PEER}}},  # by default
        ),
    ),
    "by Envoy, taken off and added where it is not": (
        REAL_IP,
        lambda p: early(p, {"remove": "x-real-ip"}, written("x-real-ip", PEER, "ADD_IF_ABSENT")),
    ),
    "by a filter": (FROM_ENVOY, lambda p: internal(p, **INSIDE) or mutating_filter(p, written(EXTERNAL, CLIENT))),
    "by a list that is begun here": (FORWARDED, lambda p: early(p, {"remove": "x-forwarded-for"})),
    "in another header, early": (REAL_IP, lambda p: early(p, written("X-Real-IP", CLIENT))),
    "in another header, by a filter": (REAL_IP, lambda p: mutating_filter(p, written("x-real-ip", CLIENT))),
    "by Envoy, past proxies in front": (
        FROM_ENVOY,
        lambda p: p.manager.update(xff_num_trusted_hops=1) or mutating_filter(p, written(EXTERNAL, PEER)),
    ),
    "by the connection behind PROXY protocol": (
        REAL_IP,
        lambda p: proxied(p) or early(p, written("x-real-ip", PEER)),
    ),
    "by nobody who is asked": (Promises(), internal),
}
