"""The names that dashboards hold on to, and labels that no request can choose."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from authz.errors import LoadError
from authz.identity.fetch import FetchResult
from authz.identity.jwks import KeyObserver
from authz.metrics import Metrics
from authz.model import TOKEN_REASONS, Allow, Deny, Reason, RouteName, Source

ROUTE = RouteName("admin", Source("policies/admin.yaml", 3, 3))
ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_a"
WALL = 1_790_000_000.0


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="1.2.3", wall=lambda: WALL)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Give name and label values → value, read by Prometheus' own parser."""
    text = metrics.render()[0].decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, *labels: str) -> float | None:
    return samples(metrics).get((name, labels))


def test_every_promised_name_is_there_with_exactly_its_labels(metrics: Metrics) -> None:
    metrics.decided(Deny(Reason.NO_RULE, route=ROUTE), 0.0001)
    metrics.fetched(ISSUER, FetchResult.OK, 2)
    metrics.policy_loaded("abc", 3, WALL)
    families = text_string_to_metric_families(metrics.render()[0].decode())
    labels = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    grpc = {"grpc_type", "grpc_service", "grpc_method"}
    promised = {
        "authz_decisions_total": {"decision", "reason", "route"},
        "authz_decision_duration_seconds_count": set(),
        "authz_tokens_total": {"result"},
        "authz_jwks_fetches_total": {"issuer", "result"},
        "authz_jwks_last_success_timestamp_seconds": {"issuer"},
        "authz_jwks_keys": {"issuer"},
        "authz_policy_reloads_total": {"result"},
        "authz_policy_last_success_timestamp_seconds": set(),
        "authz_policy_revision_info": {"revision"},
        "authz_policy_routes": set(),
        "authz_build_info": {"version"},
        "authz_log_lines_dropped_total": set(),
        "grpc_server_handled_total": {*grpc, "grpc_code"},
        "grpc_server_handling_seconds_count": grpc,
    }
    assert {name: labels.get(name) for name in promised} == promised


def test_the_exposition_is_plain_text_without_twins(metrics: Metrics) -> None:
    metrics.decided(Deny(Reason.NO_RULE), 0.1)
    body, content_type = metrics.render()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"_created" not in body
    assert value(metrics, "authz_build_info", "1.2.3") == 1
    assert b"process_" in body
    assert b"python_info" in body


def test_decisions_are_counted_by_kind_reason_and_route(metrics: Metrics) -> None:
    for _ in range(2):
        metrics.decided(Allow(ROUTE, (Reason.CLAIM_OK, Reason.EMAIL_OK)), 0.00004)
    metrics.decided(Deny(Reason.CLAIM_UNAUTHORIZED, (Reason.EMAIL_UNAUTHORIZED,), ROUTE), 0.3)
    metrics.decided(Deny(Reason.ROUTE_NOT_FOUND), 2.0)
    assert {key[1]: count for key, count in samples(metrics).items() if key[0] == "authz_decisions_total"} == {
        ("allow", "claim-ok", "admin"): 2,
        ("deny", "claim-unauthorized", "admin"): 1,
        ("deny", "route-not-found", ""): 1,
    }
    assert value(metrics, "authz_decision_duration_seconds_bucket", "5e-05") == 2
    assert value(metrics, "authz_decision_duration_seconds_bucket", "1.0") == 3
    assert value(metrics, "authz_decision_duration_seconds_count") == 4


def test_a_route_named_with_quotes_and_line_feeds_stays_one_label(metrics: Metrics) -> None:
    metrics.decided(Deny(Reason.NO_RULE, route=RouteName('a"\\\nb', ROUTE.source)), 0.1)
    assert value(metrics, "authz_decisions_total", "deny", "no-rule", 'a"\\\nb') == 1


def test_tokens_are_counted_by_result_and_start_at_zero(metrics: Metrics) -> None:
    metrics.token("cached")
    metrics.token(Reason.TOKEN_EXPIRED.value)
    metrics.token("anything that is not in the list")
    counts = {key[1][0]: count for key, count in samples(metrics).items() if key[0] == "authz_tokens_total"}
    assert set(counts) == {"verified", "cached", "keys-unavailable", "internal-error", *TOKEN_REASONS}
    assert {result for result, count in counts.items() if count} == {"cached", "token-expired", "internal-error"}


@pytest.mark.parametrize("result", list(FetchResult), ids=lambda result: f"a fetch that ends with {result}")
def test_fetches(metrics: Metrics, result: FetchResult) -> None:
    observer: KeyObserver = metrics
    observer.fetched(ISSUER, result, 2)
    observer.rejected(ISSUER, "a sentence")
    assert value(metrics, "authz_jwks_fetches_total", ISSUER, result.value) == 1
    assert value(metrics, "authz_jwks_keys", ISSUER) == 2
    success = result in {FetchResult.OK, FetchResult.UNCHANGED}
    assert value(metrics, "authz_jwks_last_success_timestamp_seconds", ISSUER) == (WALL if success else None)


def test_keys_of_a_former_run_show_their_age(metrics: Metrics) -> None:
    metrics.restored(ISSUER, 2, WALL - 3600, "cache_dir")
    assert value(metrics, "authz_jwks_keys", ISSUER) == 2
    assert value(metrics, "authz_jwks_last_success_timestamp_seconds", ISSUER) == WALL - 3600


def test_only_the_policy_set_in_force_is_exposed(metrics: Metrics) -> None:
    assert not [key for key in samples(metrics) if key[0] == "authz_policy_revision_info"]
    metrics.policy_loaded("old", 3, WALL - 1)
    metrics.policy_loaded("new", 4, WALL)
    assert {key: 1.0 for key in samples(metrics) if key[0] == "authz_policy_revision_info"} == {
        ("authz_policy_revision_info", ("new",)): 1
    }
    assert value(metrics, "authz_policy_routes") == 4
    assert value(metrics, "authz_policy_last_success_timestamp_seconds") == WALL
    assert value(metrics, "authz_policy_reloads_total", "ok") == 2


def test_refused_policies_are_counted_and_change_nothing_else(metrics: Metrics) -> None:
    metrics.policy_loaded("old", 3, WALL - 1)
    metrics.refused(LoadError([]))
    metrics.stale_mount("policies.yaml")
    assert value(metrics, "authz_policy_reloads_total", "error") == 1
    assert value(metrics, "authz_policy_reloads_total", "stale-mount") == 1
    assert value(metrics, "authz_policy_revision_info", "old") == 1
    assert value(metrics, "authz_policy_last_success_timestamp_seconds") == WALL - 1


def test_every_decision_answers_a_call(metrics: Metrics) -> None:
    check = ("Check", "envoy.service.auth.v3.Authorization", "unary")  # the exposition sorts labels by name
    metrics.decided(Deny(Reason.NO_RULE), 0.003)
    metrics.decided(Allow(ROUTE, (Reason.CLAIM_OK,)), 0.2)
    found = samples(metrics)
    handled = {labels[0]: count for (name, labels), count in found.items() if name == "grpc_server_handled_total"}
    assert handled.pop("OK") == 2
    assert set(handled.values()) == {0}
    assert {"Canceled", "ResourceExhausted", "Unknown"} < set(handled)  # in the spelling of Go
    assert found["grpc_server_handled_total", ("OK", *check)] == 2
    assert found["grpc_server_handling_seconds_count", check] == 2
    assert found["grpc_server_handling_seconds_sum", check] == pytest.approx(0.203)
    assert found["authz_decision_duration_seconds_sum", ()] == pytest.approx(0.203)


def test_two_services_in_one_process_share_nothing(metrics: Metrics) -> None:
    other = Metrics(version="1.2.3", wall=lambda: WALL)
    metrics.lines_dropped(7)
    assert value(metrics, "authz_log_lines_dropped_total") == 7
    assert value(other, "authz_log_lines_dropped_total") == 0


def test_revocation_lists_are_counted_and_their_entries_told(metrics: Metrics) -> None:
    metrics.revocations("ok", 3)
    metrics.revocations("error")
    metrics.revocations("stale-mount")
    text = metrics.render()[0].decode()
    for result in ("ok", "error", "stale-mount"):
        assert f'authz_revocations_reloads_total{{result="{result}"}} 1.0' in text
    assert "authz_revocations_entries 3.0" in text
