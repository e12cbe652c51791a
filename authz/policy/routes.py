"""Which route a request belongs to: an index, not a loop.

Host first: exact `host:port` beats exact `host`, exact hosts beat wildcards whatever the file order, and a host that
has routes of its own never falls back to a wildcard. Then the path, in file order: the first match wins and is final.
Wildcard routes are tried in file order, host and path together, as in Envoy's catch-all virtual host.

The index of one host answers as the plain loop over its routes would (a property test holds it to that): exact paths
by dictionary, prefixes by dictionary once per distinct length, patterns one by one but only those that stand before
the best match so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from authz.breath import breathe
from authz.model import RouteName, Source
from authz.policy.path import Host

if TYPE_CHECKING:
    from authz.policy.decision import Policy


class PathKind(StrEnum):
    """How a route's path is compared."""

    ANY = "any"
    PREFIX = "prefix"
    PATH = "path"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class PathMatcher:
    """Which paths a route takes."""

    kind: PathKind
    text: str = ""  # canonical prefix or path; the pattern as written
    pattern: Any = None  # compiled by RE2, which has no type stubs
    source: Source | None = None  # where it is written, for advice

    def matches(self, path: str) -> bool:
        """Tell whether the canonical path fits."""
        match self.kind:
            case PathKind.ANY:
                return True
            case PathKind.PREFIX:
                return path.startswith(self.text)
            case PathKind.PATH:
                return path == self.text
            case PathKind.REGEX:  # pragma: no branch - the last kind there is
                return self.pattern.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class HostMatcher:
    """Which hosts a route takes. `pattern` is set for a wildcard host; `port` None means any port."""

    name: str
    port: int | None
    pattern: Any = None

    def matches(self, host: Host) -> bool:
        """Tell whether the host fits."""
        if self.port is not None and self.port != host.port:
            return False
        return self.name == host.name if self.pattern is None else self.pattern.fullmatch(host.name) is not None


@dataclass(frozen=True, slots=True)
class Route:
    """One route of a policy file."""

    name: RouteName
    host: HostMatcher
    path: PathMatcher
    policy: Policy
    id: str | None
    index: int  # its place in the whole set

    @property
    def source(self) -> Source:
        """Where it stands."""
        return self.name.source


class _PathIndex:
    """The routes of one host, in file order."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._exact: dict[str, int] = {}
        self._prefixes: dict[str, int] = {}
        self._patterns: list[tuple[int, PathMatcher]] = []
        lengths: set[int] = set()  # of prefixes
        for number, route in enumerate(routes):
            breathe()
            match route.path.kind:
                case PathKind.PATH:
                    self._exact.setdefault(route.path.text, number)
                case PathKind.PREFIX | PathKind.ANY:
                    self._prefixes.setdefault(route.path.text, number)
                    lengths.add(len(route.path.text))
                case PathKind.REGEX:  # pragma: no branch - the last kind there is
                    self._patterns.append((number, route.path))
        self._lengths: Final = sorted(lengths)

    def find(self, path: str) -> Route | None:
        none = len(self._routes)
        best = self._exact.get(path, none)
        for length in self._lengths:
            if length > len(path):
                break
            number = self._prefixes.get(path[:length], none)
            best = min(best, number)
        for number, matcher in self._patterns:
            if number >= best:
                break
            if matcher.matches(path):
                best = number
                break
        return self._routes[best] if best < none else None


class RouteIndex:
    """All routes of a policy set, found by host and path or by id."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: Final = tuple(routes)
        self._by_id: dict[str, Route] = {}
        self._wildcards: list[Route] = []
        by_host: dict[tuple[str, int | None], list[Route]] = {}
        for route in self.routes:
            breathe()
            if route.id is not None:
                self._by_id[route.id] = route
            if route.host.pattern is None:
                by_host.setdefault((route.host.name, route.host.port), []).append(route)
            else:
                self._wildcards.append(route)
        self._by_host = {key: _PathIndex(routes) for key, routes in by_host.items()}
        self._hosts = frozenset(name for name, _ in by_host)

    def find(self, host: Host, path: str) -> Route | None:
        """Give the route of a canonical host and path, or None."""
        if host.name in self._hosts:
            index = self._by_host.get((host.name, host.port)) if host.port is not None else None
            index = index or self._by_host.get((host.name, None))
            return None if index is None else index.find(path)
        for route in self._wildcards:
            if route.host.matches(host) and route.path.matches(path):
                return route
        return None

    def knows(self, host: Host) -> bool:
        """Tell whether some route names this host, whatever its path and port."""
        return host.name in self._hosts or any(route.host.matches(host) for route in self._wildcards)

    def find_by_id(self, route_id: str) -> Route | None:
        """Give the route that Envoy named, or None."""
        return self._by_id.get(route_id)
