"""Virtual hosts and routes: where ext_authz is left out, and what is done to a request after it was judged.

The nearest word counts, as in Envoy: weighted cluster, route, virtual host, route configuration, filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from authz.workbench.doctor.configuration import Filter, Manager, forwarding_routes
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.place import Place, family, unwrapped
from authz.workbench.doctor.promises import Promises

_REWRITES: Final = (
    "prefix_rewrite", "regex_rewrite", "path_rewrite_policy", "path_rewrite", "host_rewrite_literal",
    "auto_host_rewrite", "host_rewrite_header", "host_rewrite_path_regex",
)  # fmt: skip


class Word(NamedTuple):
    """What one place says about a filter."""

    disabled: bool
    place: Place


def check_routes(manager: Manager, promises: Promises) -> Iterator[Finding]:
    """Give what is wrong with the routes that lead to an upstream."""
    for _, host, route in forwarding_routes([manager]):
        for guard in manager.guards:
            yield from _left_out(manager, guard, host, route)
        for holder in (manager.routes, host, route, *_clusters(route)):
            yield from _changed_late(manager, holder, promises)
        for field in _REWRITES:
            rewrite = route["route"][field]
            if rewrite.exists and rewrite.truth is not False:
                yield finding(FindingId.ROUTE_REWRITES, rewrite, f"`{field}` after the decision")
        for chooser in (route["route"], *_clusters(route)):
            header = chooser["cluster_header"]
            if header.exists:
                yield finding(FindingId.UPSTREAM_FROM_HEADER, header, f"who sends `{header.text}` chooses the upstream")


def _clusters(route: Place) -> list[Place]:
    return list(route["route"]["weighted_clusters"]["clusters"])


def _left_out(manager: Manager, guard: Filter, host: Place, route: Place) -> Iterator[Finding]:
    for chain in _chains(manager, host, route):
        word = Word(guard.place["disabled"].truth is True, guard.place["disabled"])
        for holder in chain:
            word = _said(holder, guard.name) or word
        if word.disabled:
            name = route["name"].text or route["match"]["prefix"].text or route["match"]["path"].text
            found = f"ext_authz is off for virtual host `{host['name'].text}`, route `{name}`"
            yield finding(FindingId.EXT_AUTHZ_DISABLED, word.place, found)


def _chains(manager: Manager, host: Place, route: Place) -> Iterator[Sequence[Place]]:
    above = [manager.routes, host, route]
    clusters = _clusters(route)
    if clusters:
        yield from ([*above, cluster] for cluster in clusters)
    else:
        yield above


def _said(holder: Place, filter_name: str) -> Word | None:
    override = holder["typed_per_filter_config"].entry(filter_name)
    if not override.exists:
        return None
    kind, config = unwrapped(override)
    disabled = config["disabled"]
    if kind.endswith(".FilterConfig") and disabled.truth is not True:
        kind, config = unwrapped(config["config"])
        disabled = config["disabled"]
    return Word(disabled.truth is True, disabled)


def _changed_late(manager: Manager, holder: Place, promises: Promises) -> Iterator[Finding]:
    names = frozenset(promises.identity_headers)
    for removed in holder["request_headers_to_remove"]:
        if removed.text.lower() in names:
            found = f"`{removed.text}` is removed after authz set it"
            yield finding(FindingId.IDENTITY_HEADERS_CHANGED_LATE, removed, found)
    for added in holder["request_headers_to_add"]:
        if added["header"]["key"].text.lower() in names:
            found = f"`{added['header']['key'].text}` is set after authz set it"
            yield finding(FindingId.IDENTITY_HEADERS_CHANGED_LATE, added, found)
    late = {one.name for one in manager.followers}
    for name, override in holder["typed_per_filter_config"].entries():
        if name not in late:  # what is done before the decision is no harm to it
            continue
        kind, config = unwrapped(override)
        if family(kind) in {"lua", "header_mutation"} and config["disabled"].truth is not True:
            yield from _mutated_late(config, names)


def _mutated_late(config: Place, names: frozenset[str]) -> Iterator[Finding]:
    for mutation in config["mutations"]["request_mutations"]:
        name = mutation["remove"].text or mutation["append"]["header"]["key"].text
        if name.lower() in names:
            found = f"`{name}` is changed by a filter of this route"
            yield finding(FindingId.IDENTITY_HEADERS_CHANGED_LATE, mutation, found)
