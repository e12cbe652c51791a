"""Where authz is, and the line to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from authz.loopback import is_loopback
from authz.workbench.doctor.chosen_upstreams import check_chosen_by_cluster
from authz.workbench.doctor.configuration import Configuration
from authz.workbench.doctor.filters import check_follower, filters_of, late_changes
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.health_checks import check_health
from authz.workbench.doctor.place import Place, family, unwrapped
from authz.workbench.doctor.promises import Promises
from authz.workbench.doctor.trailers import OPTIONS

# With none of them Envoy 1.40 takes any certificate (measured): it passes over `system_root_certs` and providers of
# certificates, which are for gRPC's own clients.
_VERIFYING: Final = ("trusted_ca", "verify_certificate_spki", "verify_certificate_hash")
_USUAL_VALIDATOR: Final = "envoy.tls.cert_validator.default"
_ACCEPTING_ALL: Final = frozenset({"ACCEPT_UNTRUSTED", "1"})
QUEUE: Final = 384  # calls that one authz lets wait (transport/admission.py)
_USUAL_MAX_REQUESTS: Final = 1024  # what Envoy takes where nothing is said
_SCHEME: Final = re.compile(r"\A(?:dns|ipv4|ipv6):(?://[^/]*/)?")


def check_clusters(envoy: Configuration, promises: Promises) -> Iterator[Finding]:
    """Give what is wrong with the line to authz, and with filters behind the router."""
    services = [service for manager in envoy.managers for service in manager.services()]
    seen: set[str] = set()
    for service in services:
        yield from _google(service["google_grpc"])
        yield from _authz(envoy, service["envoy_grpc"]["cluster_name"], promises, seen)
    for name, cluster in envoy.clusters.items():
        if name not in seen:
            yield from _upstream_filters(envoy, cluster, promises)
            yield from check_chosen_by_cluster(cluster)
    yield from _admin(envoy.bootstrap["admin"])


def _authz(envoy: Configuration, named: Place, promises: Promises, seen: set[str]) -> Iterator[Finding]:
    if not named.exists or named.text in seen:
        return
    seen.add(named.text)
    cluster = envoy.clusters.get(named.text)
    if cluster is None:
        may_come = envoy.bootstrap["dynamic_resources"]["cds_config"].exists and not envoy.is_dump
        id_ = FindingId.NOT_SEEN if may_come else FindingId.AUTHZ_CLUSTER_UNKNOWN
        yield finding(id_, named, f"there is no cluster `{named.text}` in here")
        return
    members = list(unwrapped(cluster["cluster_type"]["typed_config"])[1]["clusters"])
    for member in members:  # of an aggregate or composite cluster, whose own sockets and health checks do not count
        yield from _authz(envoy, member if member.text else member["name"], promises, seen)
    if members:
        return
    endpoints, workers = list(envoy.endpoints(cluster)), len(promises.listens)
    different = len({_socket_address(one["endpoint"]["address"]) for one in endpoints})
    if not endpoints:
        found = f"the endpoints of cluster `{named.text}` are not in here"
        yield finding(FindingId.NOT_SEEN, cluster["load_assignment"], found)
    elif different < workers:
        found = f"authz has {workers} workers, the cluster {different}: the others get nothing to do"
        yield finding(FindingId.TOO_FEW_ENDPOINTS, cluster["load_assignment"]["endpoints"], found)
    yield from check_health(cluster)
    yield from _breaker(cluster, different)
    yield from _line(envoy, cluster, endpoints, promises)
    yield from _elsewhere(endpoints, promises)


def _breaker(cluster: Place, endpoints: int) -> Iterator[Finding]:
    breakers = cluster["circuit_breakers"]
    usual = [one for one in breakers["thresholds"] if one["priority"].text in {"", "DEFAULT", "0"}]
    place = usual[0]["max_requests"] if usual else breakers
    most = place.number or _USUAL_MAX_REQUESTS
    if most > QUEUE * max(endpoints, 1):
        found = f"{most:.0f} calls may be under way, and {QUEUE} wait in each authz: it refuses more, health checks too"
        yield finding(FindingId.CIRCUIT_BREAKER_TOO_LATE, place, found)


def _elsewhere(endpoints: list[Place], promises: Promises) -> Iterator[Finding]:
    """Compare ports and the file names of sockets alone: containers see other hosts and folders."""
    doors = {Path(one.path).name if one.path else str(one.port) for one in promises.listens}
    if not doors or "0" in doors:  # any free port
        return
    for address in (one for endpoint in endpoints for one in _addresses(endpoint)):
        place = address["pipe"]["path"] if address["pipe"].exists else address["socket_address"]["port_value"]
        if place.exists and place.text.rpartition("/")[2] not in doors:
            where = ", ".join(f"`{one.target}`" for one in promises.listens)
            yield finding(FindingId.AUTHZ_ELSEWHERE, place, f"`{place.text}` is asked, and authz listens on {where}")


def _line(envoy: Configuration, cluster: Place, endpoints: list[Place], promises: Promises) -> Iterator[Finding]:
    if cluster["transport_socket_matcher"].exists:
        found = "whether authz is asked by TLS depends on each request"
        yield finding(FindingId.NOT_SEEN, cluster["transport_socket_matcher"], found)
        return
    for endpoint in endpoints or [cluster["load_assignment"]]:  # those that are not seen: without metadata
        socket = _socket(cluster, endpoint)
        kind, context = unwrapped(socket["typed_config"])
        asks_by_tls = family(kind) in {"tls", "quic"}
        if promises.speaks_tls is not None and promises.speaks_tls != asks_by_tls:
            found = "authz speaks TLS and is asked in clear text" if promises.speaks_tls else "authz does not speak TLS"
            yield finding(FindingId.TLS_ON_ONE_SIDE, socket, found)
        if asks_by_tls:
            yield from _verification(envoy, context["common_tls_context"])
        else:
            yield from _clear_text(endpoint)


def _socket(cluster: Place, endpoint: Place) -> Place:
    """Give the transport socket to an endpoint: the first that its metadata match, or the cluster's; unwrapped."""
    labels = endpoint["metadata"]["filter_metadata"].entry("envoy.transport_socket_match")
    matching = (
        one["transport_socket"]
        for one in cluster["transport_socket_matches"]
        if all(labels.entry(key).text == value.text != "" for key, value in one["match"].entries())
    )
    socket = next(matching, cluster["transport_socket"])
    while (inner := unwrapped(socket["typed_config"])[1]["transport_socket"]).exists:  # as of PROXY protocol, or tap
        socket = inner
    return socket


def _verification(envoy: Configuration, common: Place) -> Iterator[Finding]:
    combined = common["combined_validation_context"]
    named = (combined if combined.exists else common)["validation_context_sds_secret_config"]
    secret = envoy.secrets.get(named["name"].text, named)
    contexts = [one["validation_context"] for one in (common, secret)] + [combined["default_validation_context"]]
    verifies = any(map(_verifies, contexts))
    if any(one["trust_chain_verification"].text in _ACCEPTING_ALL for one in contexts):
        yield finding(FindingId.TLS_NOT_VERIFIED, common, "a certificate that nobody trusts is taken for that of authz")
    elif not verifies and named.exists and not secret["validation_context"].exists:
        yield finding(FindingId.NOT_SEEN, named, "what certificates of authz are verified with is not in here")
    elif not verifies:
        yield finding(FindingId.TLS_NOT_VERIFIED, common, "any certificate is taken for that of authz")


def _verifies(context: Place) -> bool:
    own = context["custom_validator_config"]  # such as SPIFFE's
    pins = (pin for field in _VERIFYING for pin in (*context[field], *context[field].entries()))  # or parts of the CA
    return any(pins) or (own.exists and own["name"].text != _USUAL_VALIDATOR)


def _clear_text(endpoint: Place) -> Iterator[Finding]:
    for address in _addresses(endpoint):
        host = address["socket_address"]["address"]
        if host.exists and not is_local(host.text):
            yield finding(FindingId.PLAINTEXT_ACROSS_HOSTS, host, f"`{host.text}` is asked in clear text")
        tunnel = address["envoy_internal_address"]
        if tunnel.exists:
            yield finding(FindingId.NOT_SEEN, tunnel, "authz is asked through a listener within Envoy")


def _socket_address(address: Place) -> tuple[str, str]:
    socket = address["socket_address"]
    return address["pipe"]["path"].text or socket["address"].text, socket["port_value"].text


def _addresses(endpoint: Place) -> list[Place]:
    held = endpoint["endpoint"]
    return [held["address"], *(one["address"] for one in held["additional_addresses"])]


def _google(service: Place) -> Iterator[Finding]:
    """Check gRPC's own client, whose targets are as in gRPC's doc/naming.md."""
    target, credentials = service["target_uri"], service["channel_credentials"]
    is_plain = not any(credentials[kind].exists for kind in ("ssl_credentials", "google_default"))
    if not target.exists or not is_plain or target.text.startswith(("unix:", "unix-abstract:")):
        return
    addresses = _SCHEME.sub("", target.text).split(",")
    if not all(is_local(one) or is_local(one.rpartition(":")[0]) for one in addresses):
        yield finding(FindingId.PLAINTEXT_ACROSS_HOSTS, target, f"`{target.text}` is asked in clear text")


def _upstream_filters(envoy: Configuration, cluster: Place, promises: Promises) -> Iterator[Finding]:
    """Check filters that run behind the router, on the way to one upstream."""
    _, options = unwrapped(cluster["typed_extension_protocol_options"].entry(OPTIONS))
    for one in filters_of(options["http_filters"]):
        yield from check_follower(one, (holder for manager in envoy.managers for holder in manager.holders()))
        yield from late_changes(one.config, promises)


def _admin(admin: Place) -> Iterator[Finding]:
    address = admin["address"]["socket_address"]["address"]
    if address.exists and not is_local(address.text):
        yield finding(FindingId.ADMIN_EXPOSED, address, f"Envoy's admin listens on `{address.text}`")


def is_local(host: str) -> bool:
    """Tell whether an address cannot leave this machine."""
    return is_loopback(host.strip("[]"))
