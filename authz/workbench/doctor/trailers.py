"""Request trailers, which early mutations leave alone: upstreams that get any must not get ours from clients.

Over HTTP/2 and HTTP/3 Envoy passes trailers on; over HTTP/1 it does not, unless it is told to (`enable_trailers`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.workbench.doctor.configuration import Configuration, Manager, clusters_of, forwarding_routes
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.http_filters import Filter, override
from authz.workbench.doctor.mutations import removes
from authz.workbench.doctor.place import Place, unwrapped
from authz.workbench.doctor.promises import Promises

OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CARRYING: Final = ("http2_protocol_options", "http3_protocol_options")
_CHOOSING: Final = ("auto_config", "use_downstream_protocol_config")  # HTTP/2 where it can be


def check_trailers(envoy: Configuration, manager: Manager, promises: Promises) -> Iterator[Finding]:
    """Give the upstreams behind a guard that get identity headers from clients, as trailers."""
    if not manager.guards or _are_stripped(manager, promises):
        return
    for name in dict.fromkeys(_upstreams(manager)):
        cluster = envoy.clusters.get(name)
        carrying = None if cluster is None else next(_carrying(cluster), None)
        if carrying is not None:
            found = f"clients can send `{promises.identity_headers[0]}` and the like to cluster `{name}` as a trailer"
            yield finding(FindingId.IDENTITY_TRAILERS_NOT_STRIPPED, carrying, found)


def _are_stripped(manager: Manager, promises: Promises) -> bool:
    mutations = [
        mutation
        for one in manager.filters
        if one.family == "header_mutation" and _always_runs(manager, one)
        for mutation in one.config["mutations"]["request_trailers_mutations"]
    ]
    return all(any(removes(one, name) for one in mutations) for name in promises.identity_headers)


def _always_runs(manager: Manager, one: Filter) -> bool:
    if one.sometimes or one.place["disabled"].truth is True:
        return False
    return not any(override(holder, one.member).disabled.truth is True for holder in manager.holders())


def _upstreams(manager: Manager) -> Iterator[str]:
    for _, _, route in forwarding_routes([manager]):
        for part in (route["route"]["cluster"], *(one["name"] for one in clusters_of(route))):
            yield part.text


def _carrying(cluster: Place) -> Iterator[Place]:
    """Give what makes a cluster's upstreams get trailers."""
    _, options = unwrapped(cluster["typed_extension_protocol_options"].entry(OPTIONS))
    for holder in (cluster, options["explicit_http_config"]):
        yield from (holder[field] for field in _CARRYING if holder[field].exists)
        enabled = holder["http_protocol_options"]["enable_trailers"]
        if enabled.truth is True:
            yield enabled
    yield from (options[field] for field in _CHOOSING if options[field].exists)
