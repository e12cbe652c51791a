"""Envoy's configurations: the sample of envoy/api.yaml with another chain of filters, and itself as the upstream.

Four chains: nothing but the router; Envoy's own jwt_authn (its cache of tokens on) and RBAC with the same rule as the
benchmark's policies; ext_authz as the sample has it; and the same without health checks, which the floor could not
answer. All else is the same, and no access log is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.bench import messages
from tests.support.user_pool import FakeUserPool

_SAMPLE: Final = Path(__file__).parents[2] / "envoy" / "api.yaml"
_FILTERS: Final = "type.googleapis.com/envoy.extensions.filters.http"
KINDS: Final = ("none", "native", "authz", "floor")


def configuration(kind: str, *, port: int, admin: int, service: int, pool: FakeUserPool) -> Mapping[str, Any]:
    """Give the configuration of one chain, listening on `port`, with this service at port `service`."""
    config = yaml.safe_load(_SAMPLE.read_text(encoding="utf-8"))
    config["admin"]["address"]["socket_address"]["port_value"] = admin
    resources = config["static_resources"]
    listener = resources["listeners"][0]
    listener["address"]["socket_address"]["port_value"] = port
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["access_log"]
    host = manager["route_config"]["virtual_hosts"][0]
    del host["typed_per_filter_config"]
    answer = {"status": 200, "body": {"inline_string": '{"orders":[42]}\n'}}
    host["routes"] = [{"match": {"prefix": "/"}, "direct_response": answer}]
    sample = {one["name"].rpartition(".")[2]: one for one in manager["http_filters"]}
    ask = [sample["ext_authz"]]
    chain = {"none": [], "native": [_jwt_authn(pool), _rbac(pool)], "authz": ask, "floor": ask}[kind]
    manager["http_filters"] = [*chain, sample["router"]]
    clusters = [cluster for cluster in resources["clusters"] if cluster["name"] == "authz" and chain == ask]
    for cluster in clusters:
        if kind == "floor":
            del cluster["health_checks"]
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"]["socket_address"]["port_value"] = service
    resources["clusters"] = clusters
    return dict(config)


def _jwt_authn(pool: FakeUserPool) -> Mapping[str, Any]:
    provider = {
        "issuer": pool.issuer,
        "local_jwks": {"inline_string": pool.jwks().decode()},
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
        "payload_in_metadata": "claims",
        "require_expiration": True,
        "claim_to_headers": [{"header_name": "x-auth-subject", "claim_name": "sub"}],
        "jwt_cache_config": {"jwt_cache_size": 100},
        "forward": True,
    }
    rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "cognito"}}]
    config = {"@type": f"{_FILTERS}.jwt_authn.v3.JwtAuthentication", "providers": {"cognito": provider}, "rules": rules}
    return {"name": "envoy.filters.http.jwt_authn", "typed_config": config}


def _rbac(pool: FakeUserPool) -> Mapping[str, Any]:
    def claim(name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        place = {"filter": "envoy.filters.http.jwt_authn", "path": [{"key": "claims"}, {"key": name}], "value": value}
        return {"sourced_metadata": {"metadata_matcher": place}}

    is_one_of = {"list_match": {"one_of": {"string_match": {"exact": messages.READERS}}}}
    caller = [
        claim("token_use", {"string_match": {"exact": "access"}}),
        claim("client_id", {"string_match": {"exact": pool.client_id}}),
        claim("cognito:groups", is_one_of),
    ]
    policy = {
        "permissions": [{"url_path": {"path": {"prefix": "/service-9/"}}}],
        "principals": [{"and_ids": {"ids": caller}}],
    }
    rules = {"action": "ALLOW", "policies": {"orders": policy}}
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {"@type": f"{_FILTERS}.rbac.v3.RBAC", "rules": rules},
    }
