"""Pomerium's configuration in any of its forms as one map of settings: YAML, a ConfigMap around it, KEY=value lines.

Pomerium's loader takes names without regard to case, and what is null or empty for not written. So does this reader.
What two readers take for different things stops the import: a setting that is written twice, and merges (`<<`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from authz.document import parse
from authz.errors import LoadError, Problem
from authz.model import Source
from authz.node import Fields, Items, Node, Scalar, describe
from authz.workbench.importers.common import finish, read_source, text_in
from authz.workbench.importers.ledger import Ledger

ROUTE_LISTS: Final = ("policy", "routes")  # the order in which Pomerium tries them
_VARIABLE: Final = re.compile(r"(?:export\s+)?([A-Z][A-Z0-9_]*)\s*=\s*(.*)")


def read_settings(path: Path, ledger: Ledger) -> Fields:
    """Read a source in any form. Raises LoadError for what cannot be read at all; the ledger knows what else stops."""
    root = _read(path, ledger)
    finish(ledger)
    _stop_merges(root, "", ledger)
    return _without_nothing(_each_once(root, ledger), ledger)


def _each_once(root: Fields, ledger: Ledger) -> Fields:
    """Give the settings under their names in lower case; of one that is written twice, the first."""
    entries: dict[str, tuple[Scalar, Node]] = {}
    for key, value in root.entries:
        name = key.text.lower()
        if name not in entries:
            entries[name] = (Scalar(key.source, name, name), value)
            continue
        first = entries[name][0].source
        ledger.stop(name, key, f"written twice, first at {first}: which one counts depends on who reads it: delete one")
    return Fields(root.source, tuple(entries.values()))


def _stop_merges(node: Node, at: str, ledger: Ledger) -> None:
    for name, value in _children(node):
        path = f"{at}{name}" if name.startswith("[") or not at else f"{at}.{name}"
        if name == "<<":
            ledger.stop(path, value, "a merge, which this reader does not do: write out what it stands for")
        else:
            _stop_merges(value, path, ledger)


def _children(node: Node) -> Iterator[tuple[str, Node]]:
    if isinstance(node, Fields):
        yield from ((key.text, value) for key, value in node.entries)
    elif isinstance(node, Items):
        yield from ((f"[{number}]", value) for number, value in enumerate(node.items))


def _without_nothing(root: Fields, ledger: Ledger) -> Fields:
    """Take out what is null or empty, at the top and in each route."""
    entries = []
    for key, value in _written(root, "", ledger):
        if key.text in ROUTE_LISTS and isinstance(value, Items):
            routes = [_filled_route(item, f"{key.text}[{number}]", ledger) for number, item in enumerate(value.items)]
            value = Items(value.source, tuple(routes))  # noqa: PLW2901 - the same list, its routes read
        entries.append((key, value))
    return Fields(root.source, tuple(entries))


def _filled_route(node: Node, at: str, ledger: Ledger) -> Node:
    return Fields(node.source, tuple(_written(node, f"{at}.", ledger))) if isinstance(node, Fields) else node


def _written(fields: Fields, above: str, ledger: Ledger) -> Iterator[tuple[Scalar, Node]]:
    for key, value in fields.entries:
        if isinstance(value, Scalar) and value.value in (None, ""):
            ledger.left(f"{above}{key.text}", value, "nothing is written there")
        else:
            yield key, value


# --- the three forms ------------------------------------------------------------------------------------------------


def _read(path: Path, ledger: Ledger) -> Fields:
    data = read_source(path)
    if _is_environment(data):
        return _environment(data.decode("utf-8"), str(path), ledger)
    document = parse(data, str(path), ledger.problems)
    if isinstance(document, Items):  # the routes alone, as the guides print them
        return Fields(document.source, ((Scalar(document.source, "routes", "routes"), document),))
    if isinstance(document, Fields):
        if text_in(document.get("kind")) != "ConfigMap":
            return document
        _stop_merges(document, "", ledger)
        return _config_map(document, str(path), ledger)
    if not ledger.problems:
        found = "nothing" if document is None else describe(document)
        message = f"found {found}, expected Pomerium's settings (YAML, a ConfigMap or KEY=value lines)"
        raise LoadError([Problem(Source(str(path), 1, 1), message)])
    return Fields(Source(str(path), 1, 1), ())


def _is_environment(data: bytes) -> bool:
    try:
        lines = [line.strip() for line in data.decode("utf-8").splitlines()]
    except UnicodeDecodeError:
        return False
    written = [line for line in lines if line and not line.startswith("#")]
    return bool(written) and all(_VARIABLE.fullmatch(line) for line in written)


def _environment(text: str, file: str, ledger: Ledger) -> Fields:
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = _VARIABLE.fullmatch(line.strip())
        if match is None:
            continue
        source = Source(file, number, 1)
        name = match[1].lower()
        value = re.sub(r"""^(["'])(.*)\1$""", r"\2", match[2].strip())
        entries.append((Scalar(source, name, name), _variable(name, value, source, ledger)))
    return Fields(Source(file, 1, 1), tuple(entries))


def _variable(name: str, value: str, source: Source, ledger: Ledger) -> Node:
    """Give a variable's value; lists of routes are YAML in base64, maps and lists may be JSON."""
    text = value
    file = source.file
    if name in ROUTE_LISTS:
        file = f"{source.file}({name.upper()})"
        try:
            text = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            text = value  # Pomerium takes plain YAML too
    elif not value.startswith(("{", "[")):
        return Scalar(source, value, value)
    node = parse(text.encode(), file, ledger.problems)
    return Scalar(source, value, value) if node is None else node


def _config_map(document: Fields, file: str, ledger: Ledger) -> Fields:
    """Give the settings inside a ConfigMap: config.yaml, or one variable a key."""
    data = document.get("data")
    entries: list[tuple[Scalar, Node]] = []
    for key, value in data.entries if isinstance(data, Fields) else ():
        if key.text.endswith((".yaml", ".yml")) and isinstance(value, Scalar):
            # A block starts on the line after its `|`: blank lines keep the line numbers right.
            inner = parse(b"\n" * value.source.line + value.text.encode(), file, ledger.problems)
            entries += inner.entries if isinstance(inner, Fields) else ()
        elif re.fullmatch(r"[A-Z][A-Z0-9_]*", key.text):
            name = key.text.lower()
            entries.append((Scalar(key.source, name, name), _variable(name, text_in(value), value.source, ledger)))
        else:
            ledger.left(f"data.{key.text}", key, "not a setting of Pomerium's")
    for key, _ in document.entries:
        if key.text != "data":
            ledger.left(key.text, key, "Kubernetes' own; `authz.yaml` and `policies/` fit into a ConfigMap of yours")
    if not entries and not ledger.problems:
        ledger.problems.error(document, "a ConfigMap without settings: expected `data:` with `config.yaml`")
    return Fields(document.source, tuple(entries))
