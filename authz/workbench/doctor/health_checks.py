"""How Envoy notices that an authz is stopping: by asking gRPC's health service, and soon enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.place import Place

_SERVED: Final = frozenset({"", "envoy.service.auth.v3.Authorization"})  # of any other name authz knows nothing
_NOTICE_SECONDS: Final = 1.5  # for which a stopping authz says "not serving" and still answers
_USUAL_PANIC_PERCENT: Final = 50.0  # what Envoy takes where nothing is said


def check_health(cluster: Place) -> Iterator[Finding]:
    """Give what is wrong with the health checks of a cluster that is authz."""
    checks = cluster["health_checks"]
    by_grpc = [one for one in checks if one["grpc_health_check"].exists]
    if not by_grpc:
        yield finding(FindingId.HEALTH_CHECK_MISSING, checks, "Envoy goes on asking an authz that is stopping")
    for one in by_grpc:
        name = one["grpc_health_check"]["service_name"]
        if name.text not in _SERVED:
            found = f"authz has no service `{name.text}`: it counts as unhealthy, and every request is answered 503"
            yield finding(FindingId.HEALTH_CHECK_FAILS, name, found)
    intervals = [(one["interval"].seconds, one["interval"]) for one in by_grpc]
    if intervals and not any(seconds is not None and seconds < _NOTICE_SECONDS for seconds, _ in intervals):
        _, place = intervals[0]
        found = f"an authz that is stopping says so for {_NOTICE_SECONDS:g} s, and is asked every {place.text or '?'}"
        yield finding(FindingId.HEALTH_CHECK_SLOW, place, found)
    if checks.exists:
        yield from _consequences(cluster["common_lb_config"])


def _consequences(common: Place) -> Iterator[Finding]:
    window = common["update_merge_window"]
    if window.seconds != 0:
        found = f"Envoy goes on asking an authz that is stopping for up to {window.text or '1s'} more"
        yield finding(FindingId.HEALTH_CHANGES_HELD_BACK, window, found)
    panic = common["healthy_panic_threshold"]
    percent = (panic["value"].number or 0) if panic.exists else _USUAL_PANIC_PERCENT
    if percent > 0:
        found = f"below {percent:g} % healthy endpoints Envoy asks all of them, those that do not serve too"
        yield finding(FindingId.UNHEALTHY_ENDPOINTS_ASKED, panic, found)
