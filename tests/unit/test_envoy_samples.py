"""What we leave to Envoy stands in every sample of envoy/: read here as data, seen at work in tests/e2e."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

SAMPLES: Final = sorted((Path(__file__).parents[2] / "envoy").glob("*.yaml"))
EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
samples = pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)


def manager(sample: Path) -> Mapping[str, Any]:
    [listener] = yaml.safe_load(sample.read_text())["static_resources"]["listeners"]
    [chain] = listener["filter_chains"]
    [connection_manager] = chain["filters"]
    return connection_manager["typed_config"]


def ext_authz(sample: Path) -> Mapping[str, Any]:
    [found] = [one["typed_config"] for one in manager(sample)["http_filters"] if one["name"] == EXT_AUTHZ]
    return found


def cluster(sample: Path, name: str) -> Mapping[str, Any]:
    [found] = [one for one in yaml.safe_load(sample.read_text())["static_resources"]["clusters"] if one["name"] == name]
    return found


def routes(sample: Path) -> Iterator[Mapping[str, Any]]:
    for host in manager(sample)["route_config"]["virtual_hosts"]:
        assert EXT_AUTHZ not in host.get("typed_per_filter_config", {}), "no host turns it off as a whole"
        yield from host["routes"]


def everything(node: Any) -> Iterator[tuple[str, Any]]:
    """Give every key with its value, at any depth."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict):
        yield from node.items()
    for child in children:
        yield from everything(child)


def test_there_are_samples() -> None:
    assert {sample.name for sample in SAMPLES} >= {"api.yaml", "browser.yaml"}


@samples
def test_one_spelling_before_anything_looks(sample: Path) -> None:
    read = manager(sample)
    assert read["normalize_path"] is True
    assert read["merge_slashes"] is True
    assert read["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
    assert read["strip_trailing_host_dot"] is True


@samples
def test_no_underscore_twins(sample: Path) -> None:
    assert manager(sample)["common_http_protocol_options"]["headers_with_underscores_action"] == "REJECT_REQUEST"


@samples
def test_the_peer_is_who_connects_and_nobody_is_internal(sample: Path) -> None:
    read = manager(sample)
    assert read["use_remote_address"] is True
    assert read.get("xff_num_trusted_hops", 0) == 0
    assert "internal_address_config" not in read, "no network's addresses are believed more than others"


@samples
def test_limits_on_counts_sizes_and_times(sample: Path) -> None:
    read = manager(sample)
    assert read["common_http_protocol_options"]["max_headers_count"] == 100
    assert read["http2_protocol_options"]["max_concurrent_streams"] == 100
    times = [read[name] for name in ("request_headers_timeout", "request_timeout", "stream_idle_timeout")]
    assert times == ["10s", "60s", "300s"]  # 0s would be no limit
    overload = yaml.safe_load(sample.read_text())["overload_manager"]["resource_monitors"]
    assert [one["typed_config"]["max_active_downstream_connections"] for one in overload] == [1000]


@samples
def test_identity_headers_are_taken_off_before_every_filter(sample: Path) -> None:
    [early] = manager(sample)["early_header_mutation_extensions"]
    mutations = early["typed_config"]["mutations"]
    assert {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": "x[^a-z0-9]auth[^a-z0-9].*"}}}} in mutations
    assert {"remove": "x-envoy-auth-failure-mode-allowed"} in mutations


@samples
def test_it_fails_closed(sample: Path) -> None:
    read = ext_authz(sample)
    assert read["failure_mode_allow"] is False
    assert "filter_enabled" not in read, "all of them; were it a fraction, deny_at_disable would have to say no"
    assert read["status_on_error"] == {"code": "ServiceUnavailable"}
    assert float(read["grpc_service"]["timeout"].removesuffix("s")) <= 0.25
    assert {"num_retries", "retry_back_off"} <= set(read["grpc_service"]["retry_policy"])


@samples
def test_every_header_line_is_told_and_none_is_held_back(sample: Path) -> None:
    read = ext_authz(sample)
    assert read["encode_raw_headers"] is True
    assert not {"allowed_headers", "disallowed_headers"} & set(read)


@samples
def test_our_own_answers_are_fenced_in(sample: Path) -> None:
    read = ext_authz(sample)
    assert read["validate_mutations"] is True
    rules = read["decoder_header_mutation_rules"]
    assert (rules["disallow_all"], rules["disallow_is_error"]) == (True, True)


@samples
def test_nothing_comes_between_the_decision_and_the_upstream(sample: Path) -> None:
    names = [one["name"] for one in manager(sample)["http_filters"]]
    assert names[-2:] == [EXT_AUTHZ, "envoy.filters.http.router"]
    assert not {key for key, _ in everything(manager(sample))} & {
        "clear_route_cache", "prefix_rewrite", "regex_rewrite", "host_rewrite_literal", "auto_host_rewrite"
    }  # fmt: skip


@samples
def test_only_redirects_are_not_asked_about(sample: Path) -> None:
    for route in routes(sample):
        per_route = route.get("typed_per_filter_config", {}).get(EXT_AUTHZ, {})
        assert not per_route or "redirect" in route, "a route that reaches an upstream is always asked about"
        assert set(route.get("request_headers_to_remove", ())) <= {"cookie"}
        assert "request_headers_to_add" not in route


@samples
def test_the_service_is_asked_over_loopback_and_only_while_it_serves(sample: Path) -> None:
    authz = cluster(sample, "authz")
    addresses = [
        one["endpoint"]["address"]["socket_address"]["address"]
        for group in authz["load_assignment"]["endpoints"]
        for one in group["lb_endpoints"]
    ]
    assert set(addresses) == {"127.0.0.1"}
    assert authz["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}
    assert authz["health_checks"]
    assert authz["circuit_breakers"]["thresholds"][0]["max_requests"] == 64


@samples
def test_the_upstream_is_where_nobody_else_reaches_it(sample: Path) -> None:
    [group] = cluster(sample, "upstream")["load_assignment"]["endpoints"]
    addresses = {one["endpoint"]["address"]["socket_address"]["address"] for one in group["lb_endpoints"]}
    assert addresses == {"127.0.0.1"}


@samples
def test_no_query_and_no_token_is_logged(sample: Path) -> None:
    [log] = manager(sample)["access_log"]
    formats = " ".join(log["typed_config"]["log_format"]["json_format"].values()).upper()
    assert "%PATH(NQ)%" in formats
    for secret in ("AUTHORIZATION", "COOKIE", "REQ(:PATH)", "X-ENVOY-ORIGINAL-PATH", "TOKEN"):
        assert secret not in formats.replace(":AUTHORITY", "")


def test_the_browsers_sessions_are_sealed_and_prove_nothing() -> None:
    """Cookies of Envoy's oauth2 filter: authz judges the token behind them anew, in every request."""
    [sample] = [one for one in SAMPLES if one.name == "browser.yaml"]
    [oauth2] = [one["typed_config"] for one in manager(sample)["http_filters"] if one["name"].endswith("oauth2")]
    assert oauth2["config"]["forward_bearer_token"] is True
    assert not any("disable_token_encryption" in key for key, _ in everything(oauth2))
