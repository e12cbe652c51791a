"""Ways for what clients send to choose the upstream by what Envoy notes of a request.

A filter notes a header as filter state or metadata, and a forward proxy or an ORIGINAL_DST cluster goes where the note
says. Whether it was written before ext_authz is no matter: authz is not told of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.workbench.doctor.configuration import Manager
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.http_filters import override
from authz.workbench.doctor.mutations import reads_request
from authz.workbench.doctor.place import Place

_CHOOSING: Final = frozenset({
    "envoy.upstream.dynamic_host", "envoy.upstream.dynamic_port",
    "envoy.network.transport_socket.original_dst_address",
})  # fmt: skip


def check_chosen_in_chain(manager: Manager) -> Iterator[Finding]:
    """Give what in a chain chooses the upstream, or lets filter state choose it."""
    for one in (*manager.forerunners, *manager.followers):
        allowed = one.config["allow_dynamic_host_from_filter_state"]
        if one.family == "dynamic_forward_proxy" and allowed.truth is True:
            found = "a filter that notes what clients send chooses the upstream"
            yield finding(FindingId.UPSTREAM_FROM_HEADER, allowed, found)
        if one.family == "set_filter_state":
            for config in (one.config, *(override(holder, one.name).config for holder in manager.holders())):
                yield from _noted(config)


def _noted(config: Place) -> Iterator[Finding]:
    for note in config["on_request_headers"]:
        key = note["object_key"]
        if key.text in _CHOOSING and _reads_request(note["format_string"]):
            found = f"`{key.text}` is what clients send, and it chooses the upstream"
            yield finding(FindingId.UPSTREAM_FROM_HEADER, key, found)


def _reads_request(text: Place) -> bool:
    parts = (*text, *(part for _, part in text.entries()))
    return reads_request(text.text) or any(map(_reads_request, parts))


def check_chosen_by_cluster(cluster: Place) -> Iterator[Finding]:
    """Give what lets a cluster go where a header, or a note of the request, says."""
    balancing = cluster["original_dst_lb_config"]
    if balancing["use_http_header"].truth is True:
        header = balancing["http_header_name"].text or "x-envoy-original-dst-host"
        found = f"who sends `{header}` chooses the upstream"
        yield finding(FindingId.UPSTREAM_FROM_HEADER, balancing["use_http_header"], found)
    if balancing["metadata_key"].exists:
        found = "metadata of a request, maybe what clients send, choose the upstream"
        yield finding(FindingId.UPSTREAM_FROM_HEADER, balancing["metadata_key"], found)
