"""What became of each setting of the source. Nothing may be missing: what nobody noted counts as not carried over."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from authz.model import Source
from authz.node import Fields, Items, Node, Problems


class Outcome(StrEnum):
    """What became of a setting."""

    CARRIED = "carried over"
    CHANGED = "carried over, differs"
    LEFT = "not carried over"
    SECRET = "secret, not copied"  # noqa: S105 - a word for people


class Entry(NamedTuple):
    """One row of IMPORT.md: a setting, with everything below it."""

    path: str  # routes[0].from
    source: Source
    outcome: Outcome
    text: str  # where it went, or why not

    def covers(self, path: str) -> bool:
        """Tell whether a setting is this one or below it."""
        return path == self.path or path.startswith((f"{self.path}.", f"{self.path}["))


class Ledger:
    """Notes of one import. `problems` are what stops it; `todo` is what its user still has to do."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.problems = Problems()
        self.todo: list[str] = []
        self.differences: list[str] = []

    def carried(self, path: str, node: Node, where: str) -> None:
        """Note where a setting went."""
        self.entries.append(Entry(path, node.source, Outcome.CARRIED, where))

    def changed(self, path: str, node: Node, text: str) -> None:
        """Note where a setting went, and what is not the same there."""
        self.entries.append(Entry(path, node.source, Outcome.CHANGED, text))

    def left(self, path: str, node: Node, why: str) -> None:
        """Note why a setting was not carried over; without it nobody gets in who did not before."""
        self.entries.append(Entry(path, node.source, Outcome.LEFT, why))

    def secret(self, path: str, node: Node, where: str) -> None:
        """Note where its user should put a secret."""
        self.entries.append(Entry(path, node.source, Outcome.SECRET, where))

    def stop(self, path: str, node: Node, message: str) -> None:
        """Stop the import: leaving this out would let in more than the source does, or it cannot be understood."""
        self.problems.error(node, f"{path}: {message}")
        self.entries.append(Entry(path, node.source, Outcome.LEFT, message))

    def remember(self, text: str) -> None:
        """Note, once, what its user has to do before the result can run."""
        if text not in self.todo:
            self.todo.append(text)

    def differs(self, text: str) -> None:
        """Note, once, where the result decides otherwise than the source."""
        if text not in self.differences:
            self.differences.append(text)

    def close(self, root: Node) -> None:
        """Note every setting that nobody noted."""
        noted = {entry.path for entry in self.entries}
        for path, node in leaves(root):
            if noted.isdisjoint(_up_from(path)):
                self.left(path, node, "unknown to the importer")


def _up_from(path: str) -> Iterator[str]:
    """Give a path and everything above it, as `Entry.covers` sees it."""
    yield path
    for end, character in enumerate(path):
        if character in ".[":
            yield path[:end]


def leaves(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Give every setting that holds no other, under its path; empty maps and lists count."""
    if isinstance(node, Fields) and node.entries:
        for key, value in node.entries:
            yield from leaves(value, f"{path}.{key.text}" if path else key.text)
    elif isinstance(node, Items) and node.items:
        for number, item in enumerate(node.items):
            yield from leaves(item, f"{path}[{number}]")
    else:
        yield path or "(everything)", node
