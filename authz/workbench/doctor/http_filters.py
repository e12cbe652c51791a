"""HTTP filters as they stand in a chain, those that others hold too, and what the routes say of them.

A filter may hold others: a matcher and a `composite` choose one, a `filter_chain` runs all of its own. Measured with
Envoy 1.40: routes take out of the chain what stands in it, so a `filter_chain` goes with all that it holds; but they
configure what a `filter_chain` holds by its own name. Its default chain runs whatever other chain a route adds to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from authz.workbench.doctor.place import Place, family, unwrapped

_CHOOSING: Final = frozenset({"matching", "composite"})
_TRANSPARENT: Final = frozenset({"matching", "filter_chain"})  # by themselves they do nothing to a request


@dataclass(frozen=True, slots=True)
class Filter:
    """An HTTP filter in its chain."""

    name: str  # by which the routes configure it
    family: str  # such as `ext_authz`
    place: Place  # what stands in the chain: it, or what holds it
    config: Place  # nothing when it cannot be seen
    sometimes: bool = False  # a matcher, or the route, chooses the requests that it gets
    is_elsewhere: bool = False  # its configuration is not in here

    @property
    def member(self) -> str:
        """The name by which the routes take it out of the chain."""
        return self.place["name"].text


class Override(NamedTuple):
    """What one place of the routes says of a filter; what it says nothing of is nothing."""

    said: Place  # all of it; whatever does not take the filter out of the chain puts it in
    disabled: Place  # takes it out
    kind: str
    config: Place  # its configuration here; without one, what a place further away says still counts


def override(holder: Place, name: str) -> Override:
    """Give what a route configuration, virtual host, route or weighted cluster says of a filter."""
    said = holder["typed_per_filter_config"].entry(name)
    kind, config = unwrapped(said)
    nothing = Place(None, said.source, said.path)
    if not kind.endswith(".FilterConfig"):
        return Override(said, nothing, kind, config)
    kind, inner = unwrapped(config["config"])
    counts = kind and config["disabled"].truth is not True  # as Envoy has it
    return Override(said, config["disabled"], kind, inner if counts else nothing)


@dataclass(frozen=True, slots=True)
class ChainReader:
    """Finds every filter that requests may meet in a chain."""

    discovered: Callable[[Place], Place]  # gives what came for a filter from elsewhere, or the filter as it stands
    holders: Sequence[Place]  # the places of the routes that may say something of a filter

    def read(self, chain: Place) -> Iterator[Filter]:
        """Give the filters of a chain and those that they hold, in order."""
        for place in chain:
            yield from self._read(place, place, place["name"].text, sometimes=False)

    def _read(self, member: Place, place: Place, name: str, *, sometimes: bool) -> Iterator[Filter]:
        """Give a filter and those within it; of one from elsewhere, whatever it may be."""
        kind, config = unwrapped(self.discovered(place)["typed_config"])
        own = family(kind) if kind else name.rpartition(".")[2]
        if not kind and place["config_discovery"].exists:
            for url in place["config_discovery"]["type_urls"]:
                yield Filter(name, family(url.text), member, config, sometimes, is_elsewhere=True)
        elif own not in _TRANSPARENT:
            yield Filter(name, own, member, config, sometimes)
        said = [override(holder, name).config for holder in self.holders] if own in _CHOOSING | _TRANSPARENT else []
        if own == "filter_chain":
            for held in config["default_filter_chain"]["filters"]:
                yield from self._read(member, held, held["name"].text, sometimes=sometimes)
            for held in (held for per_route in said for held in per_route["filter_chain"]["filters"]):
                yield from self._read(member, held, held["name"].text, sometimes=True)
        elif own in _CHOOSING:
            for choice in (config, *said):
                yield from self._chosen(member, name, choice)

    def _chosen(self, member: Place, name: str, place: Place) -> Iterator[Filter]:
        """Give the filters that a matcher chooses from, wherever they stand in it."""
        for inner in (*place, *(value for _, value in place.entries())):
            kind, config = unwrapped(inner)
            if ".filters.http." in kind and family(kind) not in _TRANSPARENT:
                yield Filter(name, family(kind), member, config, sometimes=True)
            elif inner["config_discovery"].exists:
                yield from self._read(member, inner, name, sometimes=True)
            yield from self._chosen(member, name, inner)
