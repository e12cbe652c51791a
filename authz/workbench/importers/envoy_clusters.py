"""The clusters of an imported Envoy configuration: the upstreams, Cognito's hosted pages, and authz."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Final

import yaml

from authz.workbench.importers.envoy_names import TYPE
from authz.workbench.importers.envoy_secrets import OWN_CA, secret
from authz.workbench.importers.model import Import, Target, Upstream, Wire

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


def clusters(imported: Import) -> list[Wire]:
    """Give each cluster that a route, a sign-in or ext_authz names."""
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
    endpoint: dict[str, Any] = {"endpoint": {"address": socket_address(target.host, target.port)}}
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


def _upstream_tls(upstream: Upstream) -> Wire:
    server_name = upstream.server_name or upstream.targets[0].host
    context: dict[str, Any] = {"@type": f"{TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"}
    if not _is_address(server_name):
        context["sni"] = server_name
    kind = "IP_ADDRESS" if _is_address(server_name) else "DNS"
    names = [{"san_type": kind, "matcher": {"exact": server_name}}]
    if upstream.verified and upstream.own_ca:
        context["common_tls_context"] = {
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": names},
                "validation_context_sds_secret_config": secret("upstream-ca", OWN_CA),
            }
        }
    elif upstream.verified:
        context["common_tls_context"] = {
            "validation_context": {"trusted_ca": {"filename": _SYSTEM_CA}, "match_typed_subject_alt_names": names}
        }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def cognito_cluster(domain: str) -> str:
    """Name the cluster of a hosted domain."""
    return f"cognito-{domain}"


def _hosted_pages_cluster(domain: str) -> Wire:
    pages = Upstream((Target(domain, 443),), tls=True)
    return {
        "name": cognito_cluster(domain),
        "type": "LOGICAL_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "2s",
        "transport_socket": _upstream_tls(pages),
        "load_assignment": {
            "cluster_name": cognito_cluster(domain),
            "endpoints": [{"lb_endpoints": [_endpoint(pages.targets[0])]}],
        },
    }


def socket_address(host: str, port: int) -> Wire:
    """Give an address of TCP."""
    return {"socket_address": {"address": host, "port_value": port}}
