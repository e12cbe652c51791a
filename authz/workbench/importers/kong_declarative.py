"""Kong's declarative file: its routes, each with its service and the plugins that run on it.

What is known of the format: Kong's "Declarative configuration" and decK's JSON schema of its state file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from authz.node import Fields, Node
from authz.workbench.importers.common import text_in
from authz.workbench.importers.kong_input import is_empty, maps_in, switch, unknown_key
from authz.workbench.importers.kong_plugins import (
    OIDC,
    SOME_CONSUMERS,
    Plugin,
    judge,
    note_idle,
    read_plugins,
    reference_of,
    running,
)
from authz.workbench.importers.kong_routes import KongRoute, read_route
from authz.workbench.importers.ledger import Ledger


class Service(NamedTuple):
    """A service with the plugins that run on all of its routes."""

    node: Fields
    plugins: tuple[Plugin, ...]
    is_on: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Everything by which it is referred to."""
        return _names(self.node)


class Placed(NamedTuple):
    """A route with its service and the plugins that run on it."""

    route: KongRoute
    service: Service | None
    plugins: tuple[Plugin, ...]
    is_example: bool = False  # it stands for routes that the source does not have


_LEFT_TOP: Final[Mapping[str, str]] = {
    "_format_version": "the form of the file",
    "_transform": "the form of the file",
    "_comment": "a comment",
    "_ignore": "Kong ignores it",
    "_info": "decK's own",
    "_konnect": "decK's own",
    "_workspace": "a workspace becomes a folder",
    "consumer_groups": "callers come from Cognito",
    "ca_certificates": "put the authorities of your upstreams into `secrets/upstream-ca.pem`",
    "vaults": "secrets are files in `secrets/`",
    "snis": "certificates are files in `secrets/`",
    "licenses": "not needed",
    "partials": "they say how Kong reaches Redis and the like",
    "rbac_roles": "they say who may administer Kong",
}
_SECRET_TOP: Final[Mapping[str, str]] = {
    "certificates": "`secrets/certificate.pem` and `secrets/certificate-key.pem`",
    "keys": "not needed",
    "key_sets": "not needed",
    "consumers": "callers come from Cognito: their credentials are not needed",
}
_READ_TOP: Final = frozenset({"services", "routes", "plugins", "upstreams"})
_SERVICE_CARRIED: Final = frozenset({"name", "url", "host", "port", "protocol", "path"})
_SERVICE_LEFT: Final = frozenset({
    "ca_certificates", "client_certificate", "connect_timeout", "created_at", "id", "read_timeout", "retries", "tags",
    "tls_sans", "tls_verify", "tls_verify_depth", "updated_at", "write_timeout", "ws_id",
})  # fmt: skip
_PLAIN_PATH: Final = re.compile(r"~.*|[A-Za-z0-9._~/%-]*")  # what was no regular expression in Kong 2 either


def read_declarative(root: Fields, ledger: Ledger) -> list[Placed]:
    """Give the routes in the order of the file; what stops the import is in the ledger."""
    return _Declarative(root, ledger).read()


class _Declarative:
    def __init__(self, root: Fields, ledger: Ledger) -> None:
        self._root = root
        self._ledger = ledger
        self._old = text_in(root.get("_format_version")).startswith(("1", "2"))
        self._placed: list[Placed] = []
        self._seen: list[Plugin] = []
        self._considered: set[str] = set()  # by their places
        self._running: set[str] = set()  # those that run
        self._loose: tuple[Plugin, ...] = ()

    def read(self) -> list[Placed]:
        self._note_top()
        self._loose = self._plugins(self._root, "")
        services: dict[str, Service] = {}
        for at, node in maps_in(self._root.get("services"), "services", self._ledger):
            service = self._service(node, at)
            services |= dict.fromkeys(service.names, service)
            for route_at, route in maps_in(node.get("routes"), f"{at}.routes", self._ledger):
                self._place(route, route_at, service)
        for at, node in maps_in(self._root.get("routes"), "routes", self._ledger):
            self._place(node, at, self._owner(node, at, services))
        self._judge_consumers()
        self._note_idle()
        return self._placed

    # --- what stands at the top ---------------------------------------------------------------------------------------

    def _note_top(self) -> None:
        for key, value in self._root.entries:
            if key.text in _SECRET_TOP:
                self._ledger.secret(key.text, value, _SECRET_TOP[key.text])
            elif key.text == "_plugin_configs":
                self._ledger.carried(key.text, value, "`policies/`: the rules of the plugins that name them")
            elif key.text in _LEFT_TOP or is_empty(value):
                self._ledger.left(key.text, value, _LEFT_TOP.get(key.text, "empty"))
            elif key.text not in _READ_TOP:
                known = (*_LEFT_TOP, *_SECRET_TOP, *_READ_TOP, "_plugin_configs")
                self._ledger.stop(key.text, value, unknown_key(key.text, known))
        self._judge_defaults()

    def _judge_defaults(self) -> None:
        """Stop for what decK fills in where a route or service says nothing."""
        info = self._root.get("_info")
        defaults = info.get("defaults") if isinstance(info, Fields) else None
        for name in ("service", "route"):
            found = defaults.get(name) if isinstance(defaults, Fields) else None
            if found is not None and not is_empty(found):
                self._ledger.stop(f"_info.defaults.{name}", found, f"write it into each {name} that lacks it")

    def _judge_consumers(self) -> None:
        """Stop for plugins that may keep some consumers out."""
        own = [plugin for plugin in self._seen if plugin.is_for_consumers]
        for name in ("consumers", "consumer_groups"):
            for at, node in maps_in(self._root.get(name), name, self._ledger):
                own += read_plugins(node, at, self._ledger)
        for plugin in own:
            if plugin.is_on and not plugin.is_harmless:
                self._ledger.stop(plugin.at, plugin.node, SOME_CONSUMERS)

    def _note_idle(self) -> None:
        for plugin in self._seen:
            if plugin.at not in self._running:
                note_idle(plugin, self._ledger, is_placed=plugin.at in self._considered)

    # --- services and routes ------------------------------------------------------------------------------------------

    def _plugins(self, node: Fields, at: str, foreign: str = "") -> tuple[Plugin, ...]:
        """Read the plugins of a map, which must not name a thing of the `foreign` kind."""
        found = read_plugins(node, at, self._ledger)
        for plugin in found:
            if foreign and plugin.node.get(foreign) is not None:
                self._ledger.stop(f"{plugin.at}.{foreign}", plugin.node, f"move the plugin to that {foreign}")
        self._seen += found
        return found

    def _service(self, node: Fields, at: str) -> Service:
        is_on = switch(node, "enabled", at, self._ledger, usual=True)
        own = self._plugins(node, at, foreign="route")
        loose = self._referring("service", _names(node))
        for key, value in node.entries:
            self._note_service_key(key.text, value, f"{at}.{key.text}")
        return Service(node, (*own, *(one for one in loose if one.node.get("route") is None)), is_on)

    def _note_service_key(self, name: str, value: Node, path: str) -> None:
        if name in _SERVICE_CARRIED:
            self._ledger.carried(path, value, "`envoy.yaml`: a cluster and the routes to it")
        elif name == "enabled":
            self._ledger.carried(path, value, "routes of a service that is off are left out")
        elif name in _SERVICE_LEFT or is_empty(value):
            self._ledger.left(path, value, "it decides nothing: set it in `envoy.yaml` by hand")
        elif name not in ("routes", "plugins"):
            known = (*_SERVICE_CARRIED, *_SERVICE_LEFT, "enabled", "routes", "plugins")
            self._ledger.stop(path, value, unknown_key(name, known))

    def _owner(self, node: Fields, at: str, services: Mapping[str, Service]) -> Service | None:
        reference = node.get("service")
        if reference is None:
            return None
        owner = services.get(reference_of(reference))
        if owner is None:
            self._ledger.stop(f"{at}.service", reference, "no service of this name: correct it")
        return owner

    def _place(self, node: Fields, at: str, service: Service | None) -> None:
        considered = self._in_scope(node, at, service)
        self._considered |= {plugin.at for plugin in considered}
        if service is not None and not service.is_on:
            self._ledger.left(at, node, "its service is not enabled")
            return
        route = read_route(node, at, len(self._placed) + 1, self._ledger)
        if route is None:
            return
        self._check_paths(route)
        placed = Placed(route, service, running(considered))
        self._placed.append(placed)
        for plugin in placed.plugins:
            if plugin.name != OIDC and plugin.at not in self._running:
                judge(plugin, plugin.at, self._ledger)
            self._running.add(plugin.at)

    def _in_scope(self, node: Fields, at: str, service: Service | None) -> tuple[Plugin, ...]:
        """Give the plugins that a route has, from narrow to wide; one for route and service is the narrowest."""
        loose = self._referring("route", _names(node))
        narrowest = [one for one in loose if _is_for(one, service)]
        own = [*self._plugins(node, at, foreign="service"), *(one for one in loose if one.node.get("service") is None)]
        everywhere = (plugin for plugin in self._loose if plugin.is_global)
        return (*narrowest, *own, *(service.plugins if service is not None else ()), *everywhere)

    def _referring(self, kind: str, names: Iterable[str]) -> list[Plugin]:
        return [plugin for plugin in self._loose if reference_of(plugin.node.get(kind)) in names]

    def _check_paths(self, route: KongRoute) -> None:
        """Stop for a path that was a regular expression before `~` was written in front of one (Kong 3.0)."""
        for path in route.paths if self._old else ():
            if not _PLAIN_PATH.fullmatch(path):
                why = "a regular expression in this old format: write `~` before it, and `_format_version: '3.0'`"
                self._ledger.stop(f"{route.at}.paths", route.node.get("paths") or route.node, why)


def _is_for(plugin: Plugin, service: Service | None) -> bool:
    return service is not None and reference_of(plugin.node.get("service")) in service.names


def _names(node: Fields) -> tuple[str, ...]:
    return tuple(name for key in ("name", "id") if (name := text_in(node.get(key))))
