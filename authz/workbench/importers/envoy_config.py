"""The Envoy configuration of an import: listeners, sign-in, ext_authz, routes and clusters.

The hardening is that of envoy/api.yaml and envoy/browser.yaml, word for word (a test compares them); README.md beside
those explains each line. Envoy names to authz the route that it chose, so that one route is both judged and taken.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from authz.workbench.importers.envoy_clusters import clusters, socket_address
from authz.workbench.importers.envoy_names import HTTP, OAUTH2, TYPE
from authz.workbench.importers.envoy_routes import virtual_hosts
from authz.workbench.importers.envoy_secrets import CERTIFICATE, secret, secret_files
from authz.workbench.importers.model import Import, Wire
from authz.workbench.importers.yaml_text import yaml_text

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


def envoy_files(imported: Import) -> dict[str, str]:
    """Give envoy.yaml, and the files in secrets/ that it names, by their names."""
    return {"envoy.yaml": _HEADER + yaml_text(_bootstrap(imported)), **secret_files(imported)}


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
    document["static_resources"] = {"listeners": listeners, "clusters": clusters(imported)}
    return document


def _listener(name: str, imported: Import, port: int, filters: list[Wire], *, tls: bool) -> Wire:
    chain: dict[str, Any] = {"transport_socket": _downstream_tls()} if tls else {}
    chain["filters"] = filters
    return {
        "name": name,
        "address": socket_address(imported.listen_host, port),
        "per_connection_buffer_limit_bytes": 32768,
        "filter_chains": [chain],
    }


def _downstream_tls() -> Wire:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPE}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": [secret("certificate", CERTIFICATE)],
            },
        },
    }


def _redirecting() -> Wire:
    manager: dict[str, Any] = yaml.safe_load(_CONNECTION_MANAGER)
    everything = {"match": {"prefix": "/"}, "redirect": {"https_redirect": True}}
    manager["stat_prefix"] = "to-https"
    manager["http_filters"] = [_router()]
    manager["route_config"] = {"virtual_hosts": [{"name": "to-https", "domains": ["*"], "routes": [everything]}]}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _router() -> Wire:
    return {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{HTTP}.router.v3.Router"}}


def _filters(imported: Import) -> list[Wire]:
    manager: dict[str, Any] = yaml.safe_load(_CONNECTION_MANAGER)
    manager["early_header_mutation_extensions"] = [_stripping(imported)]
    sign_in = [_sign_in_filter()] if imported.logins else []
    manager["http_filters"] = [_stripping_trailers(imported), *sign_in, yaml.safe_load(_EXT_AUTHZ_FILTER), _router()]
    manager["route_config"] = {"name": "imported", "virtual_hosts": virtual_hosts(imported)}
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
        "typed_config": {"@type": f"{HTTP}.header_mutation.v3.HeaderMutation", "mutations": mutations},
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
    return {"name": OAUTH2, "disabled": True, "typed_config": {"@type": f"{HTTP}.oauth2.v3.OAuth2"}}
