"""Hosts and routes that exist on one side only: in Envoy, or in the policies.

Paths are compared where both sides are plain (a prefix or a path); of patterns nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from authz.policy.routes import PathKind, Route
from authz.workbench.doctor.configuration import Configuration, Manager, all_routes, forwards
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.matching import hosts_overlap
from authz.workbench.doctor.place import Place, unwrapped


def check_two_sides(envoy: Configuration, routes: Sequence[Route]) -> Iterator[Finding]:
    """Compare; nothing can be said while some of Envoy's routes cannot be seen."""
    managers = [one for one in envoy.managers if one.guards and one.routes.exists]
    if not managers or any(not one.routes.exists for one in envoy.managers):
        return
    known = list(all_routes(managers))  # redirects too: authz is asked about them
    yield from _unknown_names(known, routes)
    yield from _hosts_without_policy([one for one in known if forwards(one[2])], routes)
    yield from _unreachable(managers[0], known, routes)


_Known: TypeAlias = Sequence[tuple[Manager, Place, Place]]


def _name(manager: Manager, host: Place, route: Place) -> Place | None:
    """Give where Envoy names to authz the route that judges; the nearest place counts."""
    for holder in (route, host, manager.routes):
        for guard in manager.guards:
            _, config = unwrapped(holder["typed_per_filter_config"].entry(guard.name))
            named = config["check_settings"]["context_extensions"].entry("route")
            if named.exists:
                return named
    return None


def _unknown_names(known: _Known, routes: Sequence[Route]) -> Iterator[Finding]:
    ids = {route.id for route in routes}
    for manager, host, route in known:
        named = _name(manager, host, route)
        if named is not None and named.text not in ids:
            found = f"no policy has a route with the id `{named.text}`: everything there is refused"
            yield finding(FindingId.ROUTE_NAME_UNKNOWN, named, found)


def _hosts_without_policy(known: _Known, routes: Sequence[Route]) -> Iterator[Finding]:
    for manager, host, route in known:
        if _name(manager, host, route) is not None:
            continue
        for domain in host["domains"]:
            if not any(hosts_overlap(_bare(domain.text), one.host.name) for one in routes):
                yield finding(FindingId.HOST_WITHOUT_POLICY, domain, f"no policy is about `{domain.text}`")


def _unreachable(first: Manager, known: _Known, routes: Sequence[Route]) -> Iterator[Finding]:
    named = {name.text for found in known if (name := _name(*found)) is not None}
    reported: set[str] = set()
    for policy in routes:
        if policy.id in named:
            continue
        reaching = [one for one in known if _takes_host(one[1], policy.host.name)]
        if not reaching and policy.host.name not in reported:
            reported.add(policy.host.name)
            found = f"no virtual host takes `{policy.host.name}` ({policy.source})"
            yield finding(FindingId.POLICY_HOST_UNREACHABLE, first.routes, found)
        elif reaching and not any(_takes_path(one[2], policy) and _name(*one) is None for one in reaching):
            found = f"no route here leads to `{policy.name.label}` ({policy.source})"
            yield finding(FindingId.POLICY_ROUTE_UNREACHABLE, reaching[0][1], found)


def _takes_host(host: Place, name: str) -> bool:
    return any(hosts_overlap(_bare(domain.text), name) for domain in host["domains"])


def _bare(domain: str) -> str:
    """Take off the port: authz reads hosts with and without one."""
    name, colon, port = domain.rpartition(":")
    return name if colon and (port.isdigit() or port == "*") else domain


def _takes_path(route: Place, policy: Route) -> bool:
    match, path = route["match"], policy.path
    if path.kind not in {PathKind.PREFIX, PathKind.PATH}:
        return True
    if match["prefix"].exists:
        prefix = match["prefix"].text
        return path.text.startswith(prefix) or (path.kind is PathKind.PREFIX and prefix.startswith(path.text))
    if match["path"].exists:
        exact = match["path"].text
        return exact == path.text or (path.kind is PathKind.PREFIX and exact.startswith(path.text))
    return True
