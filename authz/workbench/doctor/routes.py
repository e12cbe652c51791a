"""Virtual hosts and routes: where ext_authz is left out, and what is done to a request after it was judged.

The nearest word counts, as in Envoy: weighted cluster, route, virtual host, route configuration, filter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from authz.workbench.doctor.configuration import Manager, clusters_of, forwarding_routes
from authz.workbench.doctor.filters import late_changes
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.http_filters import Filter, override
from authz.workbench.doctor.place import Place, family
from authz.workbench.doctor.promises import Promises

_REWRITES: Final = (
    "prefix_rewrite", "regex_rewrite", "path_rewrite_policy", "path_rewrite", "host_rewrite_literal",
    "auto_host_rewrite", "host_rewrite_header", "host_rewrite_path_regex",
)  # fmt: skip


def check_routes(manager: Manager, promises: Promises) -> Iterator[Finding]:
    """Give what is wrong with the routes that lead to an upstream."""
    late = {one.name for one in manager.followers}  # what is done before the decision is no harm to it
    for _, host, route in forwarding_routes([manager]):
        for guard in manager.guards:
            yield from _left_out(manager, guard, host, route)
        for holder in (manager.routes, host, route, *clusters_of(route)):
            yield from _changed_late(holder, late, promises)
        yield from _chosen_by_clients(route)
        for field in _REWRITES:
            rewrite = route["route"][field]
            if rewrite.exists and rewrite.truth is not False:
                yield finding(FindingId.ROUTE_REWRITES, rewrite, f"`{field}` after the decision")


def _chosen_by_clients(route: Place) -> Iterator[Finding]:
    for chooser in (route["route"], *clusters_of(route)):
        header = chooser["cluster_header"]
        if header.exists:
            yield finding(FindingId.UPSTREAM_FROM_HEADER, header, f"who sends `{header.text}` chooses the upstream")
    for field in ("cluster_specifier_plugin", "inline_cluster_specifier_plugin"):
        plugin = route["route"][field]
        if plugin.exists:
            found = "a plugin chooses the upstream, maybe by what clients send"
            yield finding(FindingId.UPSTREAM_FROM_HEADER, plugin, found)


def _left_out(manager: Manager, guard: Filter, host: Place, route: Place) -> Iterator[Finding]:
    """Tell apart two things: the filter is not in the chain, or it is and does not ask."""
    for chain in _chains(manager, host, route):
        nearest = [override(holder, guard.name) for holder in reversed(chain)]
        whole = [override(holder, guard.member) for holder in reversed(chain)]
        absent = next((one.disabled for one in whole if one.said.exists), guard.place["disabled"])
        silent = next((one.config["disabled"] for one in nearest if one.config.exists), absent)
        off = [place for place in (absent, silent) if place.truth is True]
        if off:
            name = route["name"].text or route["match"]["prefix"].text or route["match"]["path"].text
            found = f"ext_authz is off for virtual host `{host['name'].text}`, route `{name}`"
            yield finding(FindingId.EXT_AUTHZ_DISABLED, off[0], found)


def _chains(manager: Manager, host: Place, route: Place) -> Iterator[Sequence[Place]]:
    above = [manager.routes, host, route]
    clusters = clusters_of(route)
    if clusters:
        yield from ([*above, cluster] for cluster in clusters)
    else:
        yield above


def _changed_late(holder: Place, late: Collection[str], promises: Promises) -> Iterator[Finding]:
    names = frozenset(promises.identity_headers)
    for removed in holder["request_headers_to_remove"]:
        if removed.text.lower() in names:
            found = f"`{removed.text}` is removed after authz set it"
            yield finding(FindingId.IDENTITY_HEADERS_CHANGED_LATE, removed, found)
    for added in holder["request_headers_to_add"]:
        if added["header"]["key"].text.lower() in names:
            found = f"`{added['header']['key'].text}` is set after authz set it"
            yield finding(FindingId.IDENTITY_HEADERS_CHANGED_LATE, added, found)
    for name, _ in holder["typed_per_filter_config"].entries():
        if name not in late:
            continue
        _, _, kind, config = override(holder, name)
        yield from late_changes(config, promises)
        if family(kind) in {"lua", "header_mutation"} and config["disabled"].truth is not True:
            yield from _mutated_late(config, names)


def _mutated_late(config: Place, names: frozenset[str]) -> Iterator[Finding]:
    for mutation in config["mutations"]["request_mutations"]:
        name = mutation["remove"].text or mutation["append"]["header"]["key"].text
        if name.lower() in names:
            found = f"`{name}` is changed by a filter of this route"
            yield finding(FindingId.IDENTITY_HEADERS_CHANGED_LATE, mutation, found)
