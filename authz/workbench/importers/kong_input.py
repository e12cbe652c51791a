"""Kong's input at the door: null is not there, a list holds what it should, a switch is on or off.

What is written otherwise stops the import: left out, it might have kept somebody out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from authz.node import Fields, Items, Node, Scalar, describe
from authz.reading import did_you_mean
from authz.workbench.importers.common import text_in
from authz.workbench.importers.ledger import Ledger

_SETTINGS: Final = frozenset({"config", "_plugin_configs"})  # in these null counts: see kong_plugins.config_of


def unknown_key(name: str, known: Iterable[str]) -> str:
    """Say of a key that nobody knows why it stops the import, and which it may have been."""
    hint = did_you_mean(name, known) or ": delete it here if it does not"
    return f"unknown key, which may restrict access{hint}"


def without_nulls(node: Fields, ledger: Ledger, at: str = "") -> Fields:
    """Drop what is null, as Kong's Admin API prints what is not set; the settings of plugins stay as they are."""
    kept: list[tuple[Scalar, Node]] = []
    for key, value in node.entries:
        path = path_of(at, key.text)
        if is_null(value) and key.text not in _SETTINGS:
            ledger.left(path, value, "not set")
        elif key.text in _SETTINGS:
            kept.append((key, value))
        else:
            kept.append((key, _below(value, ledger, path)))
    return Fields(node.source, tuple(kept))


def _below(node: Node, ledger: Ledger, at: str) -> Node:
    if isinstance(node, Fields):
        return without_nulls(node, ledger, at)
    if isinstance(node, Items):
        items = (_below(item, ledger, f"{at}[{number}]") for number, item in enumerate(node.items))
        return Items(node.source, tuple(items))
    return node


def path_of(at: str, key: str) -> str:
    """Give the path of a key below `at`; empty is the whole source."""
    return f"{at}.{key}" if at else key


def is_null(node: Node) -> bool:
    """Tell whether a value is null."""
    return isinstance(node, Scalar) and node.value is None


def is_empty(node: Node | None) -> bool:
    """Tell whether a setting says nothing; Kong prints an empty list as an empty map at times."""
    match node:
        case Items():
            return not node.items
        case Fields():
            return not node.entries
        case _:
            return node is None or node.value is None


def maps_in(node: Node | None, at: str, ledger: Ledger) -> list[tuple[str, Fields]]:
    """Give a list's maps with their paths. Anything else stops the import."""
    if node is None or is_empty(node):
        return []
    if not isinstance(node, Items):
        ledger.stop(at, node, f"found {describe(node)}, expected a list of maps")
        return []
    found = []
    for number, item in enumerate(node.items):
        if isinstance(item, Fields):
            found.append((f"{at}[{number}]", item))
        else:
            ledger.stop(f"{at}[{number}]", item, f"found {describe(item)}, expected a map")
    return found


def texts_of(node: Node | None, at: str, ledger: Ledger) -> tuple[str, ...]:
    """Give a list's texts; a text alone is a list of one. Anything else stops the import."""
    if node is None or is_empty(node):
        return ()
    found = node.items if isinstance(node, Items) else (node,)
    for item in found:
        if not text_in(item):
            ledger.stop(at, item, f"found {describe(item)}, expected text")
    return tuple(filter(None, map(text_in, found)))


def switch(fields: Fields, key: str, at: str, ledger: Ledger, *, usual: bool) -> bool:
    """Read a switch; what is neither `true` nor `false`, such as `no` or a variable, stops the import."""
    node = fields.get(key)
    if node is None or is_null(node):
        return usual
    if isinstance(node, Scalar) and isinstance(node.value, bool):
        return node.value
    ledger.stop(path_of(at, key), node, f"found {describe(node)}, expected `true` or `false`")
    return usual
