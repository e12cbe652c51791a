"""Values of a YAML document that know where they stand, and the problems that readers find in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from authz.breath import breathe
from authz.errors import Problem, Severity
from authz.model import Source

ScalarValue: TypeAlias = bool | int | float | str | None


# Values are not frozen, which takes thrice as long to make: ten thousand routes have 140,000. Nobody changes them.
@dataclass(slots=True)
class Scalar:
    """A single value. `text` is how it was written."""

    source: Source
    value: ScalarValue
    text: str


@dataclass(slots=True)
class Items:
    """A list."""

    source: Source
    items: tuple[Node, ...]

    def __iter__(self) -> Iterator[Node]:
        """Give the items in file order."""
        return iter(self.items)


@dataclass(slots=True)
class Fields:
    """A map. Keys are unique text and keep file order and case; an HTTP status need not be quoted to be one."""

    source: Source
    entries: tuple[tuple[Scalar, Node], ...]

    def get(self, key: str) -> Node | None:
        """Give the value under `key`, or None."""
        for name, value in self.entries:  # the most frequent call of a load: a generator takes twice as long
            if name.value == key:
                return value
        return None


Node: TypeAlias = Scalar | Items | Fields


class Problems(list[Problem]):
    """The problems found so far; readers add to it and go on, so that all are reported at once."""

    def error(self, node: Node, message: str, other: Source | None = None) -> None:
        """Add an error at the node; `other` is a second place that the message names."""
        self.append(Problem(node.source, message, other=other))

    def warn(self, source: Source, message: str, severity: Severity = Severity.WARNING) -> None:
        """Add a warning or a note."""
        self.append(Problem(source, message, severity))

    @property
    def errors(self) -> list[Problem]:
        """Those that keep a file from loading."""
        return [problem for problem in self if problem.severity is Severity.ERROR]


def let_go(nodes: list[Node]) -> None:
    """Free the trees node by node. Freed at once, a large one keeps everybody waiting. Empties the list."""
    while nodes:
        breathe()
        node = nodes.pop()
        if isinstance(node, Items):
            nodes.extend(node.items)
        elif isinstance(node, Fields):
            nodes.extend(value for _, value in node.entries)


def describe(node: Node) -> str:
    """Say what a node is, for the words "found …" of a problem."""
    match node:
        case Fields():
            return "a map"
        case Items(items=()):
            return "an empty list"
        case Items():
            return "a list"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=""):
            return "empty text"
        case Scalar(value=str()):
            return f"text `{shorten(node.text)}`"
        case Scalar(value=bool()):
            return f"`{node.text}` (a boolean)"
        case Scalar():  # pragma: no branch - the last kind there is
            return f"`{shorten(node.text)}` (a number)"


def shorten(text: str, limit: int = 60) -> str:
    """Cut long text for a message, visibly."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
