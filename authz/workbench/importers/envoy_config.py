"""The Envoy configuration of an import: listeners, sign-in, ext_authz, routes and clusters.

The hardening is that of envoy/api.yaml and envoy/browser.yaml, word for word (a test compares them); README.md beside
those explains each line. Envoy names to authz the route that it chose, so that one route is both judged and taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import quote

import yaml

from authz.workbench.importers.model import Import, Login, Route, SignIn, Target, Upstream, Wire
from authz.workbench.importers.yaml_text import yaml_text

CALLBACK: Final = "/oauth2/callback"
SIGNOUT: Final = "/oauth2/signout"
CERTIFICATE: Final = "secrets/certificate.yaml"
COOKIE_KEY: Final = "secrets/cookie-key.yaml"
ID_TOKEN_HEADER: Final = "x-auth-id-token"  # noqa: S105 - a header's name
_TYPE: Final = "type.googleapis.com/envoy.extensions"
_HTTP: Final = f"{_TYPE}.filters.http"
_OAUTH2: Final = "envoy.filters.http.oauth2"
_EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
_DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}

# What does not depend on the source.
_BASE: Final = """
node: {id: authz-import, cluster: authz-import}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}
overload_manager:
  resource_monitors:
  - name: envoy.resource_monitors.global_downstream_max_connections
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
      max_active_downstream_connections: 1000
"""  # noqa: E501 - a type's name
_COOKIES: Final = """
layers:
- name: cookies
  static_layer:
    envoy.reloadable_features.oauth2_use_gcm_encryption: true
    envoy.reloadable_features.oauth2_legacy_cbc_decrypt_compat: false
"""
_CONNECTION_MANAGER: Final = """
"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
stat_prefix: ingress
use_remote_address: true
normalize_path: true
merge_slashes: true
path_with_escaped_slashes_action: REJECT_REQUEST
strip_trailing_host_dot: true
request_headers_timeout: 10s
request_timeout: 60s
stream_idle_timeout: 300s
common_http_protocol_options:
  idle_timeout: 900s
  headers_with_underscores_action: REJECT_REQUEST
  max_headers_count: 100
http2_protocol_options:
  max_concurrent_streams: 100
  initial_stream_window_size: 65536
  initial_connection_window_size: 1048576
access_log:
- name: envoy.access_loggers.stdout
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
    log_format:
      omit_empty_values: true
      json_format:
        time: "%START_TIME%"
        request_id: "%REQ(X-REQUEST-ID)%"
        client: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
        method: "%REQ(:METHOD)%"
        host: "%REQ(:AUTHORITY)%"
        path: "%PATH(NQ)%"
        status: "%RESPONSE_CODE%"
        flags: "%RESPONSE_FLAGS%"
        details: "%RESPONSE_CODE_DETAILS%"
        duration_ms: "%DURATION%"
        decision_id: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:decision_id)%"
        decision: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:decision)%"
        reason: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:reason)%"
        route: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:route)%"
        policy_revision: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:policy_revision)%"
        subject: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:subject)%"
        client_id: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:client_id)%"
        authz_us: "%FILTER_STATE(envoy.filters.http.ext_authz:FIELD:latency_us)%"
"""
_EXT_AUTHZ_FILTER: Final = """
name: envoy.filters.http.ext_authz
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
  transport_api_version: V3
  stat_prefix: cognito
  grpc_service:
    envoy_grpc: {cluster_name: authz, authority: authz}
    timeout: 0.25s
    retry_policy:
      num_retries: 2
      retry_on: "connect-failure,refused-stream,unavailable,reset"
      retry_back_off: {base_interval: 0.005s, max_interval: 0.25s}
  failure_mode_allow: false
  status_on_error: {code: ServiceUnavailable}
  validate_mutations: true
  encode_raw_headers: true
  emit_filter_state_stats: true
  max_denied_response_body_bytes: 4096
  decoder_header_mutation_rules:
    disallow_all: true
    disallow_is_error: true
    allow_expression: {regex: "[^:].*"}
    disallow_expression: {regex: "host|content-length|transfer-encoding|x-forwarded-for"}
"""
_AUTHZ_CLUSTER: Final = """
name: authz
type: STATIC
connect_timeout: 0.25s
lb_policy: LEAST_REQUEST
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config:
      http2_protocol_options:
        connection_keepalive: {interval: 30s, timeout: 5s}
circuit_breakers:
  thresholds: [{max_requests: 64, max_pending_requests: 256, max_retries: 16, track_remaining: true}]
health_checks:
- timeout: 0.5s
  interval: 1s
  no_traffic_interval: 1s
  unhealthy_threshold: 2
  healthy_threshold: 1
  grpc_health_check: {service_name: envoy.service.auth.v3.Authorization}
common_lb_config: {healthy_panic_threshold: {value: 0}, update_merge_window: 0s}
load_assignment:
  cluster_name: authz
  endpoints:
  - lb_endpoints:
    - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9191}}}
"""


def envoy_files(imported: Import) -> dict[str, str]:
    """Give envoy.yaml, and the files in secrets/ that it names, by their names."""
    return {"envoy.yaml": _HEADER + yaml_text(_bootstrap(imported)), **_secret_files(imported)}


_HEADER: Final = """\
# Envoy in front of the imported routes. Start it in this folder, where it finds secrets/ : envoy -c envoy.yaml
# authz is expected at 127.0.0.1:9191. IMPORT.md says what is still to be filled in.
"""


def _bootstrap(imported: Import) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(_BASE)
    if imported.logins:
        document["layered_runtime"] = yaml.safe_load(_COOKIES)
    listeners = [_listener("ingress", imported, imported.listen_port, _filters(imported), tls=imported.tls)]
    if imported.redirect_port is not None:
        listeners.append(_listener("to-https", imported, imported.redirect_port, [_redirecting()], tls=False))
    document["static_resources"] = {"listeners": listeners, "clusters": _clusters(imported)}
    return document


def _listener(name: str, imported: Import, port: int, filters: list[Wire], *, tls: bool) -> Wire:
    chain: dict[str, Any] = {"transport_socket": _downstream_tls()} if tls else {}
    chain["filters"] = filters
    return {
        "name": name,
        "address": _socket_address(imported.listen_host, port),
        "per_connection_buffer_limit_bytes": 32768,
        "filter_chains": [chain],
    }


def _socket_address(host: str, port: int) -> Wire:
    return {"socket_address": {"address": host, "port_value": port}}


def _downstream_tls() -> Wire:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPE}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": [_secret("certificate", CERTIFICATE)],
            },
        },
    }


def _secret(name: str, path: str) -> Wire:
    return {"name": name, "sds_config": {"resource_api_version": "V3", "path_config_source": {"path": path}}}


# --- the filters --------------------------------------------------------------------------------------------------


def _redirecting() -> Wire:
    manager: dict[str, Any] = yaml.safe_load(_CONNECTION_MANAGER)
    everything = {"match": {"prefix": "/"}, "redirect": {"https_redirect": True}}
    manager["stat_prefix"] = "to-https"
    manager["http_filters"] = [_router()]
    manager["route_config"] = {"virtual_hosts": [{"name": "to-https", "domains": ["*"], "routes": [everything]}]}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _router() -> Wire:
    return {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_HTTP}.router.v3.Router"}}


def _filters(imported: Import) -> list[Wire]:
    manager: dict[str, Any] = yaml.safe_load(_CONNECTION_MANAGER)
    manager["early_header_mutation_extensions"] = [_stripping(imported)]
    sign_in = [_sign_in_filter()] if imported.logins else []
    manager["http_filters"] = [_stripping_trailers(imported), *sign_in, yaml.safe_load(_EXT_AUTHZ_FILTER), _router()]
    manager["route_config"] = {"name": "imported", "virtual_hosts": _virtual_hosts(imported)}
    return [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]


def _identity_mutations(imported: Import) -> list[Wire]:
    patterns = [f"{_any_spelling(prefix)}.*" for prefix in ("x-auth-", *imported.stripped)]
    patterns += [_any_spelling(name) for name in _identity_headers(imported)]
    return [{"remove_on_match": {"key_matcher": {"safe_regex": {"regex": one}}}} for one in patterns]


def _stripping_trailers(imported: Import) -> Wire:
    """Take the same off trailers, which upstreams get over HTTP/2."""
    mutations = {"request_trailers_mutations": _identity_mutations(imported)}
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {"@type": f"{_HTTP}.header_mutation.v3.HeaderMutation", "mutations": mutations},
    }


def _stripping(imported: Import) -> Wire:
    """Take off what only we may say, before routing and before every filter."""
    mutations = _identity_mutations(imported)
    exact = ("x-envoy-oauth-status", "x-envoy-auth-failure-mode-allowed", "x-envoy-auth-partial-body")
    mutations += [{"remove": name} for name in exact]
    kind = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {"@type": kind, "mutations": mutations},
    }


def _any_spelling(name: str) -> str:
    """Give a pattern for a header's name, `x+auth.groups` for `x-auth-groups` too: some upstreams read them as one."""
    return "".join(c if c.isalnum() else "[^a-z0-9]" for c in name)


def _identity_headers(imported: Import) -> list[str]:
    return [name for name in imported.settings.get("identity_headers", {}) if not name.startswith("x-auth-")]


def _sign_in_filter() -> Wire:
    """Give the filter without a sign-in of its own: each virtual host and route has its own, or none."""
    return {"name": _OAUTH2, "disabled": True, "typed_config": {"@type": f"{_HTTP}.oauth2.v3.OAuth2"}}


# --- hosts and routes ---------------------------------------------------------------------------------------------


def _virtual_hosts(imported: Import) -> list[Wire]:
    exact: dict[tuple[str, int | None], list[Route]] = {}
    wildcards = []
    for route in imported.routes:
        if "*" in route.host:
            wildcards.append(route)
        else:
            exact.setdefault(host_and_port(route), []).append(route)
    hosts = [_virtual_host(imported, name, port, routes) for (name, port), routes in exact.items()]
    if wildcards:
        routes = [_route(imported, route) for route in wildcards]
        hosts.append({"name": "wildcards", "domains": ["*"], "routes": routes})
    return hosts


def host_and_port(route: Route) -> tuple[str, int | None]:
    """Give a route's host, and its port unless it is the scheme's own."""
    name, _, port = (
        route.host.lower().rpartition(":") if re.search(r":\d+$", route.host) else (route.host.lower(), "", "")
    )
    number = int(port) if port else None
    return name.rstrip("."), None if number == _DEFAULT_PORTS[route.scheme] else number


def _virtual_host(imported: Import, name: str, port: int | None, routes: Sequence[Route]) -> Wire:
    domains = [name, f"{name}:*"] if port is None else [f"{name}:{port}"]
    host: dict[str, Any] = {"name": domains[0], "domains": domains}
    login = login_of(routes)
    before: list[Wire] = []
    if login is not None:
        authority = public_address(name, port)
        host["typed_per_filter_config"] = {_OAUTH2: _login_config(imported, login, authority)}
        before = _sign_in_routes(login, authority)
    host["routes"] = [*before, *(_route(imported, route) for route in routes)]
    return host


def login_of(routes: Iterable[Route]) -> Login | None:
    """Give the sign-in of one host's routes: cookies of two would be in each other's way."""
    return next((route.login for route in routes if route.login is not None and "*" not in route.host), None)


def public_address(name: str, port: int | None) -> str:
    """Give the authority that a browser shows for a host: what `from` says, not the port that Envoy listens on."""
    return name if port is None else f"{name}:{port}"


def _sign_in_routes(login: Login, authority: str) -> list[Wire]:
    """Give the paths of signing in and out; Cognito ends its own session first, then sends the browser to ours."""
    after = quote(f"https://{authority}{SIGNOUT}", safe="")
    unasked = {_EXT_AUTHZ: {"@type": f"{_HTTP}.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}}
    ours = [
        {
            "match": {"path": path},
            "direct_response": {"status": 404},  # never reached: the filter answers
            "typed_per_filter_config": unasked,
        }
        for path in (CALLBACK, SIGNOUT)
    ]
    sign_out = {
        "match": {"path": login.sign_out_path},
        "redirect": {
            "response_code": "FOUND",
            "https_redirect": True,
            "host_redirect": login.domain,
            "port_redirect": 443,
            "path_redirect": f"/logout?client_id={quote(login.client_id, safe='')}&logout_uri={after}",
        },
        "typed_per_filter_config": {**unasked, _OAUTH2: _no_filter()},
    }
    return [*ours, sign_out]


def _no_filter() -> Wire:
    return {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}


def _route(imported: Import, route: Route) -> Wire:
    per_filter: dict[str, Wire] = {
        _EXT_AUTHZ: {
            "@type": f"{_HTTP}.ext_authz.v3.ExtAuthzPerRoute",
            "check_settings": {"context_extensions": {"route": route.id}},
        }
    }
    if imported.logins and "*" not in route.host:
        if route.login is None or route.sign_in is SignIn.NONE:
            per_filter[_OAUTH2] = _no_filter()
        elif route.sign_in is SignIn.OPTIONAL or allows_preflight(route):
            authority = public_address(*host_and_port(route))
            per_filter[_OAUTH2] = _login_config(imported, route.login, authority, route)
    action: dict[str, Any] = dict(route.action)
    if route.upstream is not None:
        action = {"route": {"cluster": cluster_name(route.upstream), **action}}
    return {
        "name": route.id,
        "match": _match(route),
        **action,
        **route.extra,
        "typed_per_filter_config": per_filter,
    }


def _match(route: Route) -> Wire:
    kind, text = route.match or ("prefix", "/")
    match: dict[str, Any] = {"safe_regex": {"regex": text}} if kind == "regex" else {kind: text}
    headers = list(route.conditions)
    if "*" in route.host and route.host != "*":
        headers.append({"name": ":authority", "string_match": {"safe_regex": {"regex": _host_pattern(route)}}})
    if route.methods:
        pattern = "|".join(map(re.escape, route.methods))
        headers.append({"name": ":method", "string_match": {"safe_regex": {"regex": pattern}}})
    if headers:
        match["headers"] = headers
    return match


def _host_pattern(route: Route) -> str:
    name, port = host_and_port(route)
    pattern = ".*".join(re.escape(part) for part in name.split("*"))
    return f"(?i){pattern}(:[0-9]+)?" if port is None else f"(?i){pattern}:{port}"


_SAME_SITE_COOKIES: Final = (
    "bearer_token", "id_token", "refresh_token", "oauth_hmac", "oauth_expires", "oauth_nonce", "code_verifier",
)  # fmt: skip
_COOKIE_NAMES: Final[Mapping[str, str]] = {
    "bearer_token": "__Host-bearer",
    "id_token": "__Host-id",
    "refresh_token": "__Host-refresh",
    "oauth_hmac": "__Host-hmac",
    "oauth_expires": "__Host-expires",
    "oauth_nonce": "__Host-nonce",
    "code_verifier": "__Host-verifier",
}
_OPTIONS: Final[Wire] = {"name": ":method", "string_match": {"exact": "OPTIONS"}}
_NOT_A_NAVIGATION: Final[Sequence[Wire]] = (
    {"name": "accept", "string_match": {"contains": "application/json"}},
    {"name": "x-requested-with", "string_match": {"exact": "XMLHttpRequest"}},
    {"name": "sec-fetch-mode", "string_match": {"exact": "cors"}},
    {"name": "sec-fetch-mode", "string_match": {"exact": "same-origin"}},
    {"name": "sec-fetch-mode", "string_match": {"exact": "no-cors"}},
)


def allows_preflight(route: Route) -> bool:
    """Tell whether CORS preflights, which never carry a session, may pass a route."""
    return "cors_allow_preflight" in route.policy or "cors_preflight" in str(route.policy.get("policy"))


def _login_config(imported: Import, login: Login, authority: str, route: Route | None = None) -> Wire:
    """Give a host's sign-in, or what one of its routes does differently."""
    number = imported.logins.index(login)
    bearer = {"name": "authorization", "string_match": {"prefix": "Bearer ", "ignore_case": True}}
    query = f"?{login.query}" if login.query else ""
    config: dict[str, Any] = {
        "authorization_endpoint": f"https://{login.domain}/oauth2/authorize{query}",
        "token_endpoint": {
            "cluster": _cognito_cluster(login.domain),
            "uri": f"https://{login.domain}/oauth2/token",
            "timeout": "3s",
        },
        "redirect_uri": f"https://{authority}{CALLBACK}",  # fixed: never made from the Host header
        "redirect_path_matcher": {"path": {"exact": CALLBACK}},
        "allowed_redirect_domains": [authority.partition(":")[0]],
        "signout_path": {"path": {"exact": SIGNOUT}},
        "auth_scopes": list(login.scopes),
        "auth_type": "BASIC_AUTH",
        "use_refresh_token": True,
        "default_refresh_token_expires_in": "2592000s",
        "forward_bearer_token": True,
        "forward_id_token": {"header": ID_TOKEN_HEADER},
        "credentials": {
            "client_id": login.client_id,
            "token_secret": _secret(*_client_secret(number)),
            "hmac_secret": _secret("cookie-key", COOKIE_KEY),
            "cookie_names": dict(_COOKIE_NAMES),
        },
        "cookie_configs": {f"{name}_cookie_config": {"same_site": "LAX"} for name in _SAME_SITE_COOKIES},
        "pass_through_matcher": [
            *([bearer] if login.passes_bearer else []),
            *([_OPTIONS] if route is not None and allows_preflight(route) else []),
        ],
        "deny_redirect_matcher": list(_NOT_A_NAVIGATION),
    }
    if route is not None and route.sign_in is SignIn.OPTIONAL:
        config["allow_failed_matcher"] = [{"name": ":path", "string_match": {"prefix": "/"}}]
    return {"@type": f"{_HTTP}.oauth2.v3.OAuth2PerRoute", "config": config}


# --- clusters -----------------------------------------------------------------------------------------------------


def _clusters(imported: Import) -> list[Wire]:
    upstreams = dict.fromkeys(route.upstream for route in imported.routes if route.upstream is not None)
    domains = dict.fromkeys(login.domain for login in imported.logins)
    return [
        *(_upstream_cluster(upstream) for upstream in upstreams),
        *(_hosted_pages_cluster(domain) for domain in domains),
        yaml.safe_load(_AUTHZ_CLUSTER),
    ]


def cluster_name(upstream: Upstream) -> str:
    """Name a cluster after everything that sets it apart."""
    first = upstream.targets[0]
    name = f"{'https' if upstream.tls else 'http'}-{first.host}-{first.port}"
    plain_one = Upstream((first,), upstream.tls)
    # Two upstreams may share their first address and differ in the rest.
    return name if upstream == plain_one else f"{name}-{_fingerprint(upstream)}"


def _fingerprint(upstream: Upstream) -> str:
    return sha256(repr(upstream).encode()).hexdigest()[:6]


def _upstream_cluster(upstream: Upstream) -> Wire:
    name = cluster_name(upstream)
    named = any(not _is_address(target.host) for target in upstream.targets)
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STRICT_DNS" if named else "STATIC",
        "connect_timeout": upstream.connect_timeout,
        "per_connection_buffer_limit_bytes": 32768,
    }
    if upstream.tls:
        cluster["transport_socket"] = _upstream_tls(upstream)
    if upstream.http2:
        kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {
            kind: {"@type": f"type.googleapis.com/{kind}", "explicit_http_config": {"http2_protocol_options": {}}}
        }
    endpoints = [_endpoint(target) for target in upstream.targets]
    cluster["load_assignment"] = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return cluster


def _endpoint(target: Target) -> Wire:
    endpoint: dict[str, Any] = {"endpoint": {"address": _socket_address(target.host, target.port)}}
    if target.weight is not None:
        endpoint["load_balancing_weight"] = target.weight
    return endpoint


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


_SYSTEM_CA: Final = "/etc/ssl/certs/ca-certificates.crt"
OWN_CA: Final = "secrets/upstream-ca.yaml"


def _upstream_tls(upstream: Upstream) -> Wire:
    server_name = upstream.server_name or upstream.targets[0].host
    context: dict[str, Any] = {"@type": f"{_TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"}
    if not _is_address(server_name):
        context["sni"] = server_name
    kind = "IP_ADDRESS" if _is_address(server_name) else "DNS"
    names = [{"san_type": kind, "matcher": {"exact": server_name}}]
    if upstream.verified and upstream.own_ca:
        context["common_tls_context"] = {
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": names},
                "validation_context_sds_secret_config": _secret("upstream-ca", OWN_CA),
            }
        }
    elif upstream.verified:
        context["common_tls_context"] = {
            "validation_context": {"trusted_ca": {"filename": _SYSTEM_CA}, "match_typed_subject_alt_names": names}
        }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _cognito_cluster(domain: str) -> str:
    return f"cognito-{domain}"


def _hosted_pages_cluster(domain: str) -> Wire:
    pages = Upstream((Target(domain, 443),), tls=True)
    return {
        "name": _cognito_cluster(domain),
        "type": "LOGICAL_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "2s",
        "transport_socket": _upstream_tls(pages),
        "load_assignment": {
            "cluster_name": _cognito_cluster(domain),
            "endpoints": [{"lb_endpoints": [_endpoint(pages.targets[0])]}],
        },
    }


# --- secrets ------------------------------------------------------------------------------------------------------


def _client_secret(number: int) -> tuple[str, str]:
    name = "client-secret" if number == 0 else f"client-secret-{number + 1}"
    return name, f"secrets/{name}.yaml"


def _secret_files(imported: Import) -> dict[str, str]:
    """Say where each secret is read from. The files with the secrets are not there: Envoy serves nothing without."""
    files = {}
    if imported.tls:
        certificate = {
            "certificate_chain": {"filename": "secrets/certificate.pem"},
            "private_key": {"filename": "secrets/certificate-key.pem"},
        }
        files[CERTIFICATE] = _sds("certificate", {"tls_certificate": certificate})
    for number in range(len(imported.logins)):
        name, path = _client_secret(number)
        files[path] = _sds(name, {"generic_secret": {"secret": {"filename": f"secrets/{name}.txt"}}})
    if imported.logins:
        files[COOKIE_KEY] = _sds("cookie-key", {"generic_secret": {"secret": {"filename": "secrets/cookie-key.txt"}}})
    if any(route.upstream is not None and route.upstream.own_ca for route in imported.routes):
        authorities = {"validation_context": {"trusted_ca": {"filename": "secrets/upstream-ca.pem"}}}
        files[OWN_CA] = _sds("upstream-ca", authorities)
    return files | ({"secrets/.gitignore": "*.pem\n*.txt\n"} if files else {})


def _sds(name: str, secret: Wire) -> str:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    return yaml_text({"resources": [{"@type": kind, "name": name, **secret}]})


def secrets_to_fill(imported: Import) -> list[str]:
    """Say which files its user has to write."""
    wanted = []
    if imported.tls:
        wanted.append("`secrets/certificate.pem` and `secrets/certificate-key.pem`: the certificate of your hosts")
    for number, login in enumerate(imported.logins):
        name = _client_secret(number)[0]
        wanted.append(f"`secrets/{name}.txt`: the secret of the app client `{login.client_id}`, without a line end")
    if imported.logins:
        wanted.append(
            "`secrets/cookie-key.txt`: a new key for session cookies, such as `openssl rand -base64 32` gives"
        )
    if any(route.upstream is not None and route.upstream.own_ca for route in imported.routes):
        wanted.append("`secrets/upstream-ca.pem`: the authorities of your upstreams' certificates")
    return wanted
