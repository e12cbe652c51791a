"""What the service counts, for Prometheus: one count a decision, and labels from files and closed lists alone.

A label that a request could choose would let anyone fill our memory; none here is. Everything lives in a registry of
its own, nothing in the process at large. What the request path counts is in `tally.py`: a count costs little there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import generate_latest

from authz.identity.fetch import FetchResult
from authz.model import TOKEN_REASONS, Decision, Deny, Reason
from authz.tally import CallTally, CounterTally, DurationTally, Shown, register

if TYPE_CHECKING:
    from prometheus_client import Metric

    from authz.errors import LoadError

ReloadResult: TypeAlias = Literal["ok", "error", "stale-mount"]

# A decision from memory takes some 50 µs, one with a signature some 150 µs, one that waits for keys up to seconds.
_BUCKETS: Final = (
    *(0.00002, 0.00005, 0.0001, 0.0002, 0.0005),
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0),
)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"  # what every scraper reads
_SUCCESSES: Final = frozenset({FetchResult.OK, FetchResult.UNCHANGED})

_CHECK: Final = (
    ("grpc_type", "unary"),
    ("grpc_service", "envoy.service.auth.v3.Authorization"),
    ("grpc_method", "Check"),
)
# As dashboards made for Go services spell them. The first is that of every call which is decided, denials included.
_GRPC_CODES: Final = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
    "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable",
    "DataLoss", "Unauthenticated",
)  # fmt: skip
_UNFORESEEN: Final = (Reason.INTERNAL_ERROR,)


class Metrics:
    """Every metric of the service. `wall` gives the seconds since the epoch for the `…_timestamp_seconds`."""

    def __init__(self, *, version: str, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._registry = registry = Registry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        Info("authz_build", "The version that runs.", registry=registry).info({"version": version})

        self._decisions = CounterTally("authz_decisions", "Decisions made.", ["decision", "reason", "route"])
        self._durations = DurationTally(
            _BUCKETS,
            Shown("authz_decision_duration_seconds", "From the request to its decision."),
            Shown("grpc_server_handling_seconds", "From a call's arrival to its answer.", _CHECK),
        )
        results = ("verified", "cached", *sorted(TOKEN_REASONS), Reason.KEYS_UNAVAILABLE, Reason.INTERNAL_ERROR)
        self._tokens = CounterTally(
            "authz_tokens", "Tokens presented, by what became of them.", ["result"], [(result,) for result in results]
        )

        self._fetches = Counter(
            "authz_jwks_fetches", "Fetches of an issuer's keys.", ["issuer", "result"], registry=registry
        )
        self._fetched_at = Gauge(
            "authz_jwks_last_success_timestamp_seconds",
            "When an issuer's keys were last fetched.",
            ["issuer"],
            registry=registry,
        )
        self._keys = Gauge("authz_jwks_keys", "Usable keys of an issuer.", ["issuer"], registry=registry)

        reloads = Counter(
            "authz_policy_reloads", "Policy sets loaded or refused, the first included.", ["result"], registry=registry
        )
        outcomes: tuple[ReloadResult, ...] = ("ok", "error", "stale-mount")
        self._reload_counters = {outcome: reloads.labels(outcome) for outcome in outcomes}
        self._loaded_at = Gauge(
            "authz_policy_last_success_timestamp_seconds", "When policies were last loaded.", registry=registry
        )
        self._revision = Gauge(
            "authz_policy_revision_info", "The policy set in force.", ["revision"], registry=registry
        )
        self._routes = Gauge("authz_policy_routes", "Routes of the policy set in force.", registry=registry)

        lists = Counter(
            "authz_revocations_reloads", "Revocation lists loaded or refused.", ["result"], registry=registry
        )
        self._revocation_counters = {outcome: lists.labels(outcome) for outcome in outcomes}
        self._revocations = Gauge("authz_revocations_entries", "Entries of the list in force.", registry=registry)

        handled = CallTally(
            "grpc_server_handled", "Calls completed, by status code.", _CHECK, self._durations, _GRPC_CODES
        )
        register(registry, self._decisions, self._durations, self._tokens, handled)
        self._lines_dropped = Counter(
            "authz_log_lines_dropped", "Log lines lost to a slow or broken output.", registry=registry
        )

    def decided(self, decision: Decision, duration_seconds: float) -> None:
        """Count one decision, and the call that it answers."""
        route = decision.route.label if decision.route is not None else ""
        self._decisions.add(("deny" if isinstance(decision, Deny) else "allow", decision.reason, route))
        self._durations.observe(duration_seconds)

    def token(self, result: str) -> None:
        """Count a presented token: `verified`, `cached`, or the Reason that it is not good."""
        labels = (result,)
        self._tokens.add(labels if labels in self._tokens else _UNFORESEEN)

    def fetched(self, issuer: str, result: FetchResult, keys: int) -> None:
        """Count a fetch of keys (KeyObserver). `keys`: how many the issuer has now."""
        self._fetches.labels(issuer, result.value).inc()
        self._keys.labels(issuer).set(keys)
        if result in _SUCCESSES:
            self._fetched_at.labels(issuer).set(self._wall())

    def restored(self, issuer: str, keys: int, fetched_at: float, place: str) -> None:  # noqa: ARG002 - for the log
        """Note keys that a former run or another worker fetched (KeyObserver); their age is told, not hidden."""
        self._keys.labels(issuer).set(keys)
        self._fetched_at.labels(issuer).set(fetched_at)

    def rejected(self, issuer: str, why: str) -> None:
        """Leave it to the log (KeyObserver): `why` is a sentence, no label."""

    def policy_loaded(self, revision: str, routes: int, now: float) -> None:
        """Count and note the policy set that is in force from now on (wall-clock seconds), the first one too."""
        self._reload_counters["ok"].inc()
        self.policy_in_force(revision, routes, now)

    def policy_in_force(self, revision: str, routes: int, found_at: float) -> None:
        """Note the policy set in force, and when it was last found on the disk (wall-clock seconds)."""
        self._loaded_at.set(found_at)
        self._routes.set(routes)
        self._revision.clear()
        self._revision.labels(revision).set(1)

    def refused(self, error: LoadError) -> None:  # noqa: ARG002 - the store's observers share one signature
        """Count a policy set that did not load (StoreObserver)."""
        self._reload_counters["error"].inc()

    def stale_mount(self, path: object) -> None:  # noqa: ARG002 - as above
        """Count a mounted policy file that was replaced outside (StoreObserver)."""
        self._reload_counters["stale-mount"].inc()

    def revocations(self, result: ReloadResult, entries: int | None = None) -> None:
        """Count what became of the revocation list, and note how many `entries` are in force if that changed."""
        self._revocation_counters[result].inc()
        if entries is not None:
            self.revocations_in_force(entries)

    def revocations_in_force(self, entries: int) -> None:
        """Note how many entries the list in force has."""
        self._revocations.set(entries)

    def lines_dropped(self, count: int) -> None:
        """Count log lines that were lost. Callable from any thread."""
        self._lines_dropped.inc(count)

    def render(self) -> tuple[bytes, str]:
        """Give the exposition and its content type. Takes milliseconds and reads /proc: not for the event loop."""
        return generate_latest(self._registry), CONTENT_TYPE


class Registry(CollectorRegistry):
    """A registry without the `…_created` twins, which double the exposition and which nobody asked for.

    The library's own switch for them is process-wide.
    """

    def collect(self) -> Iterable[Metric]:
        """Give every metric without those twins."""
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
