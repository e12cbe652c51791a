"""Values of an Envoy configuration that know their path.

A place may hold nothing; then it stands where it would have to be written. Field names are read as protobuf's JSON
allows them, `failure_mode_allow` and `failureModeAllow` (Envoy takes them side by side too, and then either counts);
booleans as Envoy's YAML 1.1 does, where `yes` is true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from authz.model import Source
from authz.node import Fields, Items, Node, Scalar

_TRUE: Final = frozenset({"true", "yes", "on", "y"})
_FALSE: Final = frozenset({"false", "no", "off", "n"})
_FREE: Final = frozenset({"filterMetadata", "jsonFormat", "staticLayer", "contextExtensions"})  # keys are no fields
_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)s", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """A value, or where one is missing."""

    node: Node | None
    source: Source  # of what holds it, when it is missing
    path: str = ""

    def __getitem__(self, field: str) -> Place:
        """Give a message's field, by its name in snake_case."""
        found = self.entry(field)
        return found if found.exists else self.entry(_in_camel_case(field), field)

    def entry(self, key: str, shown: str | None = None) -> Place:
        """Give what a map holds under exactly this key; `shown`: how the path calls it."""
        path = f"{self.path}.{shown or key}" if self.path else shown or key
        node = self.node.get(key) if isinstance(self.node, Fields) else None
        return Place(node, self.source if node is None else node.source, path)

    def __iter__(self) -> Iterator[Place]:
        """Give a list's items; nothing else has any."""
        if isinstance(self.node, Items):
            for number, item in enumerate(self.node):
                yield Place(item, item.source, f"{self.path}[{number}]")

    def entries(self) -> Iterator[tuple[str, Place]]:
        """Give a map's entries."""
        if isinstance(self.node, Fields):
            for key, value in self.node.entries:
                yield key.text, Place(value, value.source, f"{self.path}.{key.text}")

    @property
    def exists(self) -> bool:
        """Tell whether anything is written here; `null` is nothing."""
        return self.node is not None and not (isinstance(self.node, Scalar) and self.node.value is None)

    @property
    def text(self) -> str:
        """Give a scalar as it was written; empty for anything else."""
        return self.node.text if isinstance(self.node, Scalar) and self.node.value is not None else ""

    @property
    def truth(self) -> bool | None:
        """Give a boolean; None when there is none."""
        word = self.text.lower()
        return True if word in _TRUE else False if word in _FALSE else None

    @property
    def number(self) -> float | None:
        """Give a number, also one that stands in quotes, as in protobuf's JSON."""
        try:
            return float(self.text)
        except ValueError:
            return None

    @property
    def seconds(self) -> float | None:
        """Give a duration such as `0.25s`; None when there is none."""
        match = _SECONDS.fullmatch(self.text)
        return float(match[1]) if match else None


@lru_cache(4096)
def _in_camel_case(field: str) -> str:
    first, *others = field.split("_")
    return first + "".join(map(str.capitalize, others))


def written_twice(place: Place) -> Iterator[tuple[Place, str]]:
    """Give each field in here that stands beside its other spelling, and how that one is written."""
    spelled: dict[str, str] = {}
    for key, value in place.entries():
        if not value.exists:
            continue
        other = spelled.setdefault(_in_camel_case(key), key)
        if other != key:
            yield value, other
        if _in_camel_case(key) not in _FREE:
            yield from written_twice(value)
    for item in place:
        yield from written_twice(item)


def unwrapped(holder: Place) -> tuple[str, Place]:
    """Give the type and the fields of what a `typed_config` (or another Any) holds."""
    kind = _type_name(holder.entry("@type").text)
    if kind.endswith(".TypedStruct"):
        return _type_name(holder["type_url"].text), holder["value"]
    return kind, holder


def family(kind: str) -> str:
    """Give `ext_authz` for `envoy.extensions.filters.http.ext_authz.v3.ExtAuthz`."""
    parts = kind.split(".")
    return parts[-3] if len(parts) > 3 else parts[-1]


def _type_name(url: str) -> str:
    return url.rpartition("/")[2]
