"""Kong's routes in the order in which Kong tries them, written out for each host.

Kong (router flavour traditional_compatible, the default since 3.0; kong/router/transform.lua) prefers the route with
more kinds of matchers, then plain hosts, more headers, regular expressions by priority, and longer prefixes; a route
without hosts takes every host. Here a host with routes of its own never falls back to a wildcard, so every host gets
its own copy of each route that takes it, and a narrower wildcard those of a wider one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Final, NamedTuple, TypeAlias

from authz.node import Fields, Node, describe
from authz.workbench.importers.common import path_problem, text_in
from authz.workbench.importers.kong_input import is_empty, switch, texts_of, unknown_key
from authz.workbench.importers.ledger import Ledger
from authz.workbench.importers.model import Wire

ANY_HOST: Final = "*"


class Matcher(NamedTuple):
    """One host and one path of a route."""

    host: str
    path: str  # empty: every path
    is_regex: bool

    @property
    def head(self) -> str:
        """The text with which every path begins that it takes."""
        return _literal_head(self.path) if self.is_regex else self.path


class KongRoute(NamedTuple):
    """One route as the source has it."""

    name: str
    node: Fields
    at: str
    hosts: tuple[str, ...]
    paths: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    conditions: tuple[Wire, ...] = ()
    priority: int = 0
    strips_path: bool = True
    keeps_host: bool = False

    def takes(self, host: str) -> bool:
        """Tell whether it takes every request for a host, which may be a wildcard."""
        return any(covers(own, host) for own in self.hosts or (ANY_HOST,))

    def matchers(self, hosts: Iterable[str]) -> Iterator[Matcher]:
        """Give every host, of these, and path that it takes."""
        for host in filter(self.takes, hosts):
            for path in self.paths or ("",):
                yield Matcher(host, path.removeprefix("~"), path.startswith("~"))

    def rank(self, matcher: Matcher) -> tuple[int, ...]:
        """Give a key that puts the route that Kong tries first in front."""
        kinds = sum(map(bool, (self.hosts, self.paths, self.methods, self.conditions)))
        plain_hosts = bool(self.hosts) and all("*" not in host for host in self.hosts)
        order = (-self.priority, 0) if matcher.is_regex else (0, -len(matcher.path))
        return (-kinds, -int(plain_hosts), -len(self.conditions), -int(matcher.is_regex), *order)


Pair: TypeAlias = tuple[KongRoute, Matcher]


def covers(own: str, host: str) -> bool:
    """Tell whether a route's host takes all of another one, which may be a wildcard itself."""
    if own in (ANY_HOST, host):
        return True
    if "*" not in own:
        return host.startswith(f"{own}:")
    return _host_pattern(own).fullmatch(host if ":" in own else host.partition(":")[0]) is not None


def _host_pattern(host: str) -> re.Pattern[str]:
    return re.compile(".+".join(map(re.escape, host.split("*"))))


def _meet(host: str, other: str) -> bool:
    """Tell whether some requests are for both of two hosts, of which one at least is a wildcard."""
    (name, _, port), (other_name, _, other_port) = host.partition(":"), other.partition(":")
    if port and other_port and port != other_port:
        return False
    if host.startswith("*") != other.startswith("*") and "*" in host and "*" in other:
        return True  # `app.*` and `*.example.com` both take app.example.com
    return covers(name, other_name) or covers(other_name, name)


def hosts_of(routes: Sequence[KongRoute], more: Iterable[str]) -> list[str]:
    """Give every host that is named, exact ones first, then wildcards from narrow to wide."""
    named = dict.fromkeys([*(host for route in routes for host in route.hosts), *more])
    if any(not route.hosts for route in routes):
        named[ANY_HOST] = None
    exact = [host for host in named if "*" not in host]
    return exact + sorted((host for host in named if "*" in host), key=lambda host: (-len(host), host))


def ordered(routes: Sequence[KongRoute], hosts: Sequence[str]) -> Iterator[Pair]:
    """Give each host's routes in the order in which Kong tries them."""
    for host in hosts:
        found = [(route, matcher) for route in routes for matcher in route.matchers([host])]
        yield from sorted(found, key=lambda pair: pair[0].rank(pair[1]))


# --- where the order is not sure ------------------------------------------------------------------------------------


def check_hosts(routes: Sequence[KongRoute], hosts: Sequence[str], ledger: Ledger) -> None:
    """Stop for hosts that take some requests both, and of which none is inside the other."""
    wildcards = [host for host in hosts if "*" in host and host != ANY_HOST]
    for wildcard in wildcards:
        for host in hosts:
            apart = host in wildcards and host <= wildcard  # looked at from the other side
            if apart or covers(wildcard, host) or covers(host, wildcard) or not _meet(wildcard, host):
                continue
            blamed = [route for route in routes if route.takes(wildcard) != route.takes(host)]
            if blamed:
                message = f"`{wildcard}` and `{host}` take some hosts both: name those as hosts of their own"
                ledger.stop(f"{blamed[0].at}.hosts", blamed[0].node.get("hosts") or blamed[0].node, message)


def ties(routes: Sequence[KongRoute], hosts: Sequence[str]) -> Iterator[tuple[KongRoute, KongRoute]]:
    """Give routes that take some requests both, where Kong's choice hangs on their ids."""
    for host in hosts:
        ranks: dict[tuple[int, ...], list[Pair]] = {}
        for route in routes:
            for matcher in route.matchers([host]):
                ranks.setdefault(route.rank(matcher), []).append((route, matcher))
        for pairs in ranks.values():
            for one, other in combinations(pairs, 2):
                if one[0] is not other[0] and _may_meet(one, other):
                    yield one[0], other[0]


def _may_meet(one: Pair, other: Pair) -> bool:
    """Tell whether a request may fit both of two routes of one host and rank."""
    (route, matcher), (other_route, other_matcher) = one, other
    if not matcher.is_regex and matcher.path != other_matcher.path:
        return False  # prefixes of one length
    if not (matcher.head.startswith(other_matcher.head) or other_matcher.head.startswith(matcher.head)):
        return False
    if route.methods and other_route.methods and set(route.methods).isdisjoint(other_route.methods):
        return False
    values = {wire["name"]: _values(wire) for wire in route.conditions}
    return not any(values.get(wire["name"], _values(wire)).isdisjoint(_values(wire)) for wire in other_route.conditions)


def _values(condition: Wire) -> set[str]:
    pattern: str = condition["string_match"]["safe_regex"]["regex"]
    return set(pattern.removeprefix("(?i)").lower().split("|"))


def _literal_head(pattern: str) -> str:
    """Give the text with which everything begins that a pattern matches."""
    found = re.match(r"\^?([A-Za-z0-9/_~%-]*)(.?)", pattern, re.DOTALL)
    assert found is not None  # noqa: S101 - it matches empty text
    return found[1][:-1] if found[2] in ("?", "*", "{") else found[1]


def _has_alternatives(pattern: str) -> bool:
    """Tell whether a pattern is several, divided by a bare `|`."""
    bare = re.sub(r"\\Q.*?(\\E|$)|\\.|\[\^?\]?[^\]]*\]", "", pattern, flags=re.DOTALL)
    while (inner := re.sub(r"\([^()]*\)", "", bare)) != bare:
        bare = inner
    return "|" in bare


# --- reading --------------------------------------------------------------------------------------------------------

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
    "created_at", "updated_at", "ws_id", "priority",
})  # fmt: skip
# Kong: "must have at most one wildcard", "must be placed at leftmost or rightmost label" (kong/db/schema/typedefs.lua).
_HOST: Final = re.compile(r"\*|((\*\.)?[a-z0-9_.-]+|[a-z0-9_.-]+\.\*)(:[1-9][0-9]{0,4})?", re.IGNORECASE)
_INTEGER: Final = re.compile(r"-?[0-9]{1,9}")


def read_route(node: Fields, at: str, number: int, ledger: Ledger) -> KongRoute | None:
    """Read a route; None when it is left out. What stops the import is in the ledger."""
    protocols = texts_of(node.get("protocols"), f"{at}.protocols", ledger)
    if protocols and set(protocols) <= _STREAM:
        ledger.left(at, node, "no HTTP route: authz judges HTTP requests")
        return None
    for key, value in node.entries:
        _note(key.text, value, at, ledger)
    return KongRoute(
        name=text_in(node.get("name")) or f"route-{number}",
        node=node,
        at=at,
        hosts=_hosts(node, at, ledger),
        paths=_paths(node, at, ledger),
        methods=tuple(method.upper() for method in texts_of(node.get("methods"), f"{at}.methods", ledger)),
        conditions=tuple(_conditions(node.get("headers"), at, ledger)),
        priority=_priority(node, at, ledger),
        strips_path=switch(node, "strip_path", at, ledger, usual=True),
        keeps_host=switch(node, "preserve_host", at, ledger, usual=False),
    )


def _hosts(node: Fields, at: str, ledger: Ledger) -> tuple[str, ...]:
    hosts = texts_of(node.get("hosts"), f"{at}.hosts", ledger)
    for host in hosts:
        if not _HOST.fullmatch(host):
            message = "expected host names, perhaps with a port, and with `*` for the first or the last label"
            ledger.stop(f"{at}.hosts", node.get("hosts") or node, message)
    return tuple(host.lower() for host in hosts)


def _paths(node: Fields, at: str, ledger: Ledger) -> tuple[str, ...]:
    paths = texts_of(node.get("paths"), f"{at}.paths", ledger)
    for path in paths:
        bare = path.removeprefix("~")
        problem = path_problem("regex" if path.startswith("~") else "prefix", bare)
        if problem is None and path.startswith("~") and _has_alternatives(bare):
            problem = "Kong's routers read a bare `|` differently: write a path for each alternative"
        if problem is not None:
            ledger.stop(f"{at}.paths", node.get("paths") or node, problem)
    return paths


def _priority(node: Fields, at: str, ledger: Ledger) -> int:
    value = node.get("regex_priority")
    text = text_in(value)
    if value is not None and not _INTEGER.fullmatch(text):
        ledger.stop(f"{at}.regex_priority", value, f"found {describe(value)}, expected a number")
        return 0
    return int(text or 0)


def _note(name: str, node: Node, at: str, ledger: Ledger) -> None:
    path = f"{at}.{name}"
    if name in _CARRIED:
        ledger.carried(path, node, _CARRIED[name])
    elif name == "name":
        ledger.carried(path, node, "the names of the routes")
    elif name == "protocols":
        ledger.changed(path, node, "`envoy.yaml` listens with TLS alone")
    elif name in _LEFT or is_empty(node):
        ledger.left(path, node, "it decides nothing here")
    elif name != "plugins":
        known = (*_CARRIED, *_STOPPING, *_LEFT, "name", "plugins", "protocols")
        ledger.stop(path, node, _STOPPING.get(name) or unknown_key(name, known))


def _conditions(node: Node | None, at: str, ledger: Ledger) -> Iterator[Wire]:
    if node is not None and not isinstance(node, Fields) and not is_empty(node):
        ledger.stop(f"{at}.headers", node, f"found {describe(node)}, expected a map")
    for key, value in node.entries if isinstance(node, Fields) else ():
        values = texts_of(value, f"{at}.headers", ledger)
        if any(one.startswith("~*") for one in values) or not values:
            ledger.stop(f"{at}.headers", value, f"`{key.text}`: found {describe(value)}: write plain values")
        pattern = "|".join(map(re.escape, values))
        ledger.remember(
            "`envoy.yaml` names to authz the route that it chose, and looks at headers: keep its "
            "`context_extensions`, because the rules in `policies/` alone see no such conditions"
        )
        yield {"name": key.text.lower(), "string_match": {"safe_regex": {"regex": f"(?i){pattern}"}}}
