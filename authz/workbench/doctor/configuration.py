"""What an Envoy configuration holds: a bootstrap file, or the answer to /config_dump, as one shape.

In a dump the same things stand under `configs`, in sections told apart by their type; static and dynamic ones count
alike, and of a dynamic one the state in use. A connection manager's routes may stand in it or be named (RDS): in a dump
they are looked up, in a file they cannot be. Filters may be named too (ECDS), or stand within a matcher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile

from authz.node import Node
from authz.workbench.doctor.http_filters import ChainReader, Filter, override
from authz.workbench.doctor.place import Place, family, unwrapped


@dataclass(frozen=True, slots=True)
class Manager:
    """An HTTP connection manager with one of its filter chains, the part of a listener that all checks are about."""

    listener: str
    place: Place
    chain: Place  # where its filters stand
    chain_name: str  # `http_filters`, or `upgrade_configs[].filters` for what an upgrade goes through instead
    filters: tuple[Filter, ...]
    routes: Place  # its RouteConfiguration; nothing when it cannot be seen
    proxied: Place | None = None  # the listener filter that takes a client's address from a proxy (PROXY protocol)

    @property
    def guards(self) -> list[Filter]:
        """Its ext_authz filters."""
        return [one for one in self.filters if one.family == "ext_authz"]

    @property
    def forerunners(self) -> list[Filter]:
        """Its filters before the first ext_authz, but those that never run."""
        return [one for one in takewhile(_is_no_guard, self.filters) if self._may_run(one)]

    @property
    def followers(self) -> list[Filter]:
        """Its filters after the first ext_authz, but those that never run: they get a request that was judged."""
        return [one for one in [*dropwhile(_is_no_guard, self.filters)][1:] if self._may_run(one)]

    def _may_run(self, one: Filter) -> bool:
        """Tell whether the chain has a filter enabled, or a place of the routes does; they may be out of sight."""
        if one.place["disabled"].truth is not True or not self.routes.exists:
            return True
        overrides = (override(holder, one.member) for holder in self.holders())
        return any(nearer.said.exists and nearer.disabled.truth is not True for nearer in overrides)

    def services(self) -> Iterator[Place]:
        """Give every gRPC service that is asked: the filters', and those that a place of the routes asks instead."""
        for guard in self.guards:
            yield guard.config["grpc_service"]
        for settings in self.check_settings():
            yield settings["grpc_service"]

    def check_settings(self) -> Iterator[Place]:
        """Give what the routes want to be different for their checks."""
        for guard in self.guards:
            for holder in self.holders():
                yield override(holder, guard.name).config["check_settings"]

    def holders(self) -> Iterator[Place]:
        """Give every place that may say something else of a filter than the chain does."""
        return holders_of(self.routes)

    def virtual_hosts(self) -> Iterator[Place]:
        """Give its virtual hosts."""
        yield from self.routes["virtual_hosts"]


def holders_of(routes: Place) -> Iterator[Place]:
    """Give every place of a table of routes that may say something of a filter."""
    yield routes
    for host in routes["virtual_hosts"]:
        yield host
        for route in routes_of(host):
            yield route
            yield from clusters_of(route)


def _is_no_guard(one: Filter) -> bool:
    return one.family != "ext_authz"


class Configuration:
    """An Envoy's listeners, clusters and routes."""

    def __init__(self, root: Node) -> None:
        self.root = Place(root, root.source)
        self.is_dump = self.root["configs"].exists
        self.bootstraps = [one["bootstrap"] for one in self._sections()] if self.is_dump else [self.root]
        self.clusters = {cluster["name"].text: cluster for cluster in self._all("clusters", "cluster")}
        self.secrets = {one["name"].text: one for one in self._all("secrets", "secret")}
        self._endpoints = {one["cluster_name"].text: one for one in self._found("endpoint_config")}
        self._routes = {one["name"].text: one for one in self._found("route_config")}
        self._extensions = {one["name"].text: one for one in self._found("ecds_filter")}
        self.managers: list[Manager] = []
        scoped = (one for one in self._items() if one["scoped_route_configs"].exists)
        self._scopes = {one["name"].text: one["scoped_route_configs"] for one in scoped}
        self.raw_listeners: list[tuple[str, Place]] = []  # name, and the filter that passes bytes on
        self.unseen: list[tuple[str, Place]] = []  # name, and the filters that come from elsewhere
        for listener in self._all("listeners", "listener"):
            self._read_listener(listener)

    @property
    def bootstrap(self) -> Place:
        """The bootstrap; in a dump without one, nothing."""
        return next((one for one in self.bootstraps if one.exists), self.root["bootstrap"])

    def endpoints(self, cluster: Place) -> Iterator[Place]:
        """Give the `lb_endpoints` of a cluster, those from EDS too where they can be seen."""
        name = cluster["eds_cluster_config"]["service_name"].text or cluster["name"].text
        assigned = cluster["load_assignment"]
        for locality in (assigned if assigned.exists else self._endpoints.get(name, assigned))["endpoints"]:
            yield from locality["lb_endpoints"]

    def _sections(self) -> Iterator[Place]:
        yield from self.root["configs"]

    def _all(self, many: str, one: str) -> Iterator[Place]:
        if self.is_dump:
            yield from self._found(one)
        else:
            yield from self.root["static_resources"][many]

    def _found(self, one: str) -> Iterator[Place]:
        """Give what the dump's sections hold under this name, wherever: static, dynamic, active."""
        for item in self._items():
            held = item[one] if item[one].exists else item["active_state"][one]
            if held.exists:
                yield held

    def _items(self) -> Iterator[Place]:
        for section in self._sections():
            for _, group in section.entries():
                yield from group

    def _read_listener(self, listener: Place) -> None:
        name = listener["name"].text
        chains = [*listener["filter_chains"], listener["default_filter_chain"]]
        filters = [*listener["listener_filters"], *(one for chain in chains for one in chain["filters"])]
        for network in filters:
            if network["config_discovery"].exists and self._discovered(network) is network:
                self.unseen.append((name, network))
        if listener["fcds_config"].exists:
            self.unseen.append((name, listener["fcds_config"]))
        holders = [self._discovered(network)["typed_config"] for network in filters]
        proxied = next((one for one in holders if family(unwrapped(one)[0]) == "proxy_protocol"), None)
        for holder in (*holders, listener["api_listener"]["api_listener"]):
            kind, config = unwrapped(holder)
            if family(kind) == "http_connection_manager":
                self._read_manager(name, config, proxied)
            elif family(kind).endswith("_proxy"):  # tcp, udp, redis, thrift, generic …
                self.raw_listeners.append((name, config))

    def _read_manager(self, listener: str, config: Place, proxied: Place | None) -> None:
        """Take each of its filter chains with each of its tables of routes."""
        tables = list(self._route_tables(config))
        for chain_name, chain in _filter_chains(config):
            for table in tables:
                filters = tuple(ChainReader(self._discovered, list(holders_of(table))).read(chain))
                self.managers.append(Manager(listener, config, chain, chain_name, filters, table, proxied))

    def _discovered(self, place: Place) -> Place:
        return self._extensions.get(place["name"].text, place) if place["config_discovery"].exists else place

    def _route_tables(self, manager: Place) -> Iterator[Place]:
        """Give the route configuration, or those of its scopes; one that is nothing for what cannot be seen."""
        scoped = manager["scoped_routes"]
        written = scoped["scoped_route_configurations_list"]["scoped_route_configurations"]
        scopes = list(written if written.exists else self._scopes.get(scoped["name"].text, written))
        for scope in scopes:
            yield self._route_table(scope["route_configuration"], scope["route_configuration_name"])
        if not scopes:
            yield self._route_table(manager["route_config"], manager["rds"]["route_config_name"])

    def _route_table(self, inline: Place, name: Place) -> Place:
        return inline if inline.exists else self._routes.get(name.text, inline)


def _filter_chains(manager: Place) -> Iterator[tuple[str, Place]]:
    """Give `http_filters`, and those that an upgrade (such as `websocket`) goes through instead, with their names."""
    yield "http_filters", manager["http_filters"]
    for upgrade in manager["upgrade_configs"]:
        if any(True for _ in upgrade["filters"]):
            yield f"upgrade_configs[].filters for `{upgrade['upgrade_type'].text}`", upgrade["filters"]


def clusters_of(route: Place) -> list[Place]:
    """Give the weighted clusters of a route."""
    return list(route["route"]["weighted_clusters"]["clusters"])


def routes_of(host: Place) -> Iterator[Place]:
    """Give a virtual host's routes: a list, or the leaves of a matching tree."""
    yield from host["routes"]
    yield from _leaves(host["matcher"])


def _leaves(tree: Place) -> Iterator[Place]:
    kind, config = unwrapped(tree)
    if kind.endswith(".Route"):
        yield config
    elif kind.endswith(".RouteList"):
        yield from config["routes"]
    else:
        for branch in (*tree, *(branch for _, branch in tree.entries())):
            yield from _leaves(branch)


def forwards(route: Place) -> bool:
    """Tell whether a route leads to an upstream; redirects and fixed answers give nothing away."""
    return not any(route[kind].exists for kind in ("redirect", "direct_response", "non_forwarding_action"))


def all_routes(managers: Sequence[Manager]) -> Iterator[tuple[Manager, Place, Place]]:
    """Give each route, with its connection manager and virtual host."""
    for manager in managers:
        for host in manager.virtual_hosts():
            for route in routes_of(host):
                yield manager, host, route


def forwarding_routes(managers: Sequence[Manager]) -> Iterator[tuple[Manager, Place, Place]]:
    """Give each route that leads somewhere, with its connection manager and virtual host."""
    return (found for found in all_routes(managers) if forwards(found[2]))
