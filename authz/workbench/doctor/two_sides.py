"""Hosts and routes that exist on one side only: in Envoy, or in the policies.

Paths are compared where both sides are plain (a prefix or a path); of patterns nothing is said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from authz.policy.routes import PathKind, PathMatcher, Route
from authz.workbench.doctor.configuration import (
    Configuration,
    Manager,
    all_routes,
    clusters_of,
    forwards,
)
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.http_filters import override
from authz.workbench.doctor.matching import Hosts
from authz.workbench.doctor.place import Place


class _Known(NamedTuple):
    """A route of Envoy's, and where it names to authz the one that judges: maybe another one for each part."""

    host: Place
    route: Place
    named: Place | None


class _VirtualHost(NamedTuple):
    """What a virtual host takes, by those of its routes that name nothing."""

    place: Place
    prefixes: tuple[str, ...]
    paths: frozenset[str]
    takes_more: bool  # by patterns

    def takes(self, path: PathMatcher) -> bool:
        """Tell whether it can take a request that the policy's path is about."""
        if self.takes_more or path.kind not in {PathKind.PREFIX, PathKind.PATH}:
            return bool(self.takes_more or self.prefixes or self.paths)
        if path.text in self.paths or path.text.startswith(self.prefixes):
            return True
        return path.kind is PathKind.PREFIX and any(one.startswith(path.text) for one in (*self.prefixes, *self.paths))


def check_two_sides(envoy: Configuration, routes: Sequence[Route]) -> Iterator[Finding]:
    """Compare; nothing can be said while some of Envoy's routes cannot be seen."""
    managers = [one for one in envoy.managers if one.guards and one.routes.exists]
    if not managers or envoy.unseen or any(not one.routes.exists for one in envoy.managers):
        return
    # Redirects too: authz is asked about them.
    known = [_Known(found[1], found[2], name) for found in all_routes(managers) for name in _names(*found)]
    yield from _unknown_names(known, routes)
    yield from _hosts_without_policy([one for one in known if forwards(one.route)], routes)
    yield from _unreachable(managers[0], known, routes)


def _names(manager: Manager, host: Place, route: Place) -> Iterator[Place | None]:
    """Give where Envoy names to authz the route that judges, for each part of the traffic; the nearest place counts."""
    for part in clusters_of(route) or [route]:
        configs = (
            override(holder, guard.name).config
            for holder in (part, route, host, manager.routes)
            for guard in manager.guards
        )
        named = (one["check_settings"]["context_extensions"].entry("route") for one in configs)
        yield next((one for one in named if one.exists), None)


def _unknown_names(known: Iterable[_Known], routes: Sequence[Route]) -> Iterator[Finding]:
    ids = {route.id for route in routes}
    for _, _, named in known:
        if named is not None and named.text not in ids:
            found = f"no policy has a route with the id `{named.text}`: everything there is refused"
            yield finding(FindingId.ROUTE_NAME_UNKNOWN, named, found)


def _hosts_without_policy(known: Iterable[_Known], routes: Sequence[Route]) -> Iterator[Finding]:
    judged = Hosts(one.host.name for one in routes)
    for host in {one.host.path: one.host for one in known if one.named is None}.values():
        for domain in host["domains"]:
            if not any(judged.overlapping(_bare(domain.text))):
                yield finding(FindingId.HOST_WITHOUT_POLICY, domain, f"no policy is about `{domain.text}`")


def _unreachable(first: Manager, known: Sequence[_Known], routes: Sequence[Route]) -> Iterator[Finding]:
    named = {one.named.text for one in known if one.named is not None}
    policies_of, taken = defaultdict(list), _by_domain(known)
    for policy in routes:
        if policy.id not in named:
            policies_of[policy.host.name].append(policy)
    domains = Hosts(taken)
    for name, policies in policies_of.items():
        hosts = [host for domain in domains.overlapping(name) for host in taken[domain]]
        if not hosts:
            found = f"no virtual host takes `{name}` ({policies[0].source})"
            yield finding(FindingId.POLICY_HOST_UNREACHABLE, first.routes, found)
            continue
        for policy in policies:
            if not any(host.takes(policy.path) for host in hosts):
                found = f"no route here leads to `{policy.name.label}` ({policy.source})"
                yield finding(FindingId.POLICY_ROUTE_UNREACHABLE, hosts[0].place, found)


def _by_domain(known: Iterable[_Known]) -> dict[str, list[_VirtualHost]]:
    routes_of: dict[str, list[_Known]] = defaultdict(list)
    for one in known:
        routes_of[one.host.path].append(one)
    taken: dict[str, list[_VirtualHost]] = defaultdict(list)
    for routes in routes_of.values():
        host = _virtual_host(routes[0].host, [one.route["match"] for one in routes if one.named is None])
        for domain in host.place["domains"]:
            taken[_bare(domain.text).lower()].append(host)
    return taken


def _virtual_host(place: Place, matches: Sequence[Place]) -> _VirtualHost:
    prefixes = [one["prefix"].text for one in matches if one["prefix"].exists]
    paths = [one["path"].text for one in matches if one["path"].exists]
    return _VirtualHost(place, tuple(prefixes), frozenset(paths), len(prefixes) + len(paths) < len(matches))


def _bare(domain: str) -> str:
    """Take off the port: authz reads hosts with and without one."""
    name, colon, port = domain.rpartition(":")
    return name if colon and (port.isdigit() or port == "*") else domain
