"""Kong's routes in the order in which Kong tries them, written out for each host.

Kong (router, traditional flavour) prefers the route with more kinds of matchers, then regular expressions by priority,
then the longer path; a route without hosts takes every host. Here a host with routes of its own never falls back to a
wildcard, so every host gets its own copy of each route that takes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from authz.document import Fields, Node, describe
from authz.workbench.importers.common import path_problem, text_in, texts_in
from authz.workbench.importers.ledger import Ledger
from authz.workbench.importers.model import Wire

ANY_HOST: Final = "*"


class Matcher(NamedTuple):
    """One host and one path of a route."""

    host: str
    path: str  # empty: every path
    is_regex: bool


class KongRoute(NamedTuple):
    """One route as the source has it."""

    name: str
    node: Fields
    at: str
    hosts: tuple[str, ...]
    paths: tuple[str, ...]
    methods: tuple[str, ...]
    conditions: tuple[Wire, ...]
    priority: int

    def matchers(self, hosts: Iterable[str]) -> Iterator[Matcher]:
        """Give every host, of these, and path that it takes."""
        for host in hosts:
            if any(covers(own, host) for own in self.hosts or (ANY_HOST,)):
                for path in self.paths or ("",):
                    yield Matcher(host, path.removeprefix("~"), path.startswith("~"))

    def rank(self, matcher: Matcher) -> tuple[int, int, int, int, int]:
        """Give a key that puts the route that Kong tries first in front."""
        kinds = sum(map(bool, (self.hosts, self.paths, self.methods, self.conditions)))
        plain_host = any("*" not in own and covers(own, matcher.host) for own in self.hosts)
        priority = -self.priority if matcher.is_regex else 0
        return (-kinds, -int(plain_host), -int(matcher.is_regex), priority, -len(matcher.path))


def covers(own: str, host: str) -> bool:
    """Tell whether a route's host takes another one, which may be a wildcard itself."""
    if own in (ANY_HOST, host):
        return True
    if "*" in own:
        pattern = ".+".join(map(re.escape, own.split("*")))
        return "*" not in host and re.fullmatch(pattern, host.rpartition(":")[0] or host) is not None
    return host.startswith(f"{own}:")


def hosts_of(routes: Sequence[KongRoute], more: Iterable[str]) -> list[str]:
    """Give every host that is named, exact ones first, then wildcards from narrow to wide."""
    named = dict.fromkeys([*(host for route in routes for host in route.hosts), *more])
    if any(not route.hosts for route in routes):
        named[ANY_HOST] = None
    exact = [host for host in named if "*" not in host]
    return exact + sorted((host for host in named if "*" in host), key=lambda host: (-len(host), host))


def ordered(routes: Sequence[KongRoute], hosts: Sequence[str]) -> Iterator[tuple[KongRoute, Matcher]]:
    """Give each host's routes in the order in which Kong tries them."""
    for host in hosts:
        found = [(route, matcher) for route in routes for matcher in route.matchers([host])]
        yield from sorted(found, key=lambda pair: pair[0].rank(pair[1]))


_STREAM: Final = frozenset({"tcp", "tls", "udp", "tls_passthrough"})
_STOPPING: Final = {
    "snis": "Envoy would not look at them here: write `hosts`",
    "sources": "restricts by address: delete it here, then write `source_ip` rules",
    "destinations": "restricts by address: delete it here",
    "expression": "an expression of Kong's router: write `hosts`, `paths` and `methods`",
}
_CARRIED: Final = {
    "hosts": "`policies/`: `from`; `envoy.yaml`: virtual hosts",
    "paths": "`policies/` and `envoy.yaml`: `prefix` or `regex`",
    "methods": "`policies/`: `http_method`; `envoy.yaml`: a condition of the route",
    "headers": "`envoy.yaml`: a condition of the route, which Envoy then names to authz",
    "regex_priority": "the order of the routes",
    "strip_path": "`envoy.yaml`: `regex_rewrite`",
    "preserve_host": "`envoy.yaml`: `host_rewrite_literal`, or none",
    "service": "`envoy.yaml`: the route's cluster",
}
_LEFT: Final = frozenset({
    "tags", "id", "path_handling", "request_buffering", "response_buffering", "https_redirect_status_code",
    "created_at",
    "updated_at", "ws_id", "priority",
})  # fmt: skip


def read_route(node: Fields, at: str, number: int, ledger: Ledger) -> KongRoute | None:
    """Read a route; None when it is left out. What stops the import is in the ledger."""
    protocols = texts_in(node.get("protocols"))
    if protocols and set(protocols) <= _STREAM:
        ledger.left(at, node, "no HTTP route: authz judges HTTP requests")
        return None
    hosts, paths = texts_in(node.get("hosts")), texts_in(node.get("paths"))
    for path in paths:
        problem = path_problem("regex" if path.startswith("~") else "prefix", path.removeprefix("~"))
        if problem is not None:
            ledger.stop(f"{at}.paths", node.get("paths") or node, problem)
    for host in hosts:
        if not re.fullmatch(r"[A-Za-z0-9_.*-]+(:[1-9][0-9]{0,4})?", host):
            ledger.stop(f"{at}.hosts", node.get("hosts") or node, "expected host names, perhaps with `*` and a port")
    for key, value in node.entries:
        _note(key.text, value, at, ledger)
    priority = text_in(node.get("regex_priority"))
    return KongRoute(
        name=text_in(node.get("name")) or f"route-{number}",
        node=node,
        at=at,
        hosts=tuple(host.lower() for host in hosts),
        paths=paths,
        methods=tuple(method.upper() for method in texts_in(node.get("methods"))),
        conditions=tuple(_conditions(node.get("headers"), at, ledger)),
        priority=int(priority) if priority.isdecimal() else 0,
    )


def _note(name: str, node: Node, at: str, ledger: Ledger) -> None:
    path = f"{at}.{name}"
    if name in _CARRIED:
        ledger.carried(path, node, _CARRIED[name])
    elif name == "name":
        ledger.carried(path, node, "the names of the routes")
    elif name == "protocols":
        ledger.changed(path, node, "`envoy.yaml` listens with TLS alone")
    elif name in _STOPPING and (texts_in(node) or isinstance(node, Fields)):
        ledger.stop(path, node, _STOPPING[name])
    elif name in _LEFT or name in _STOPPING:
        ledger.left(path, node, "it decides nothing here")
    elif name != "plugins":
        ledger.stop(path, node, "unknown key, which may restrict access: delete it here if it does not")


def _conditions(node: Node | None, at: str, ledger: Ledger) -> Iterator[Wire]:
    for key, value in node.entries if isinstance(node, Fields) else ():
        values = texts_in(value)
        if any(one.startswith("~*") for one in values) or not values:
            ledger.stop(f"{at}.headers", value, f"`{key.text}`: found {describe(value)}: write plain values")
        pattern = "|".join(map(re.escape, values))
        ledger.remember(
            "`envoy.yaml` names to authz the route that it chose, and looks at headers: keep its "
            "`context_extensions`, because the rules in `policies/` alone see no such conditions"
        )
        yield {"name": key.text.lower(), "string_match": {"safe_regex": {"regex": f"(?i){pattern}"}}}
