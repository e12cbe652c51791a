"""How a map of settings is read, and the single values in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from stat import S_ISDIR
from typing import TypeAlias, TypeVar

from cryptography import x509

from authz.document import resolve
from authz.node import Fields, Items, Node, Problems, Scalar, describe, shorten
from authz.reading import boolean_of, did_you_mean, list_of, parse_duration, text_of

UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # the surrogates stand for bytes that are not UTF-8

T = TypeVar("T")
Word = TypeVar("Word", bound=str)
Reader: TypeAlias = Callable[[Node, str, Problems], T | None]
"""(node, its name for messages, problems) → the value, or None after adding a problem; as in `document.py`."""


@dataclass(slots=True)
class Given(Scalar):
    """Text from the environment or the command line: the setting, not YAML, decides whether it is a number."""


class Section:
    """A map whose keys are all known. A setting that cannot be read gives its default, for nothing loads then."""

    def __init__(self, fields: Fields, name: str, keys: Collection[str], problems: Problems) -> None:
        self.fields = fields
        self.problems = problems
        self._name = name
        for key, _ in fields.entries:
            if key.text not in keys:
                known = did_you_mean(key.text, keys) or f", expected {_either(keys)}"
                problems.error(key, f"{self.name(shorten(key.text))}: unknown key{known}")

    def name(self, key: str) -> str:
        """Name a setting as messages do, with the way to it."""
        return f"{self._name}.{key}" if self._name else key

    def node(self, key: str) -> Node | None:
        """Give what stands under the key."""
        return self.fields.get(key)

    def read(self, key: str, reader: Reader[T], default: T) -> T:
        """Read a setting that has a default."""
        node = self.node(key)
        value = None if node is None else reader(node, self.name(key), self.problems)
        return default if value is None else value

    def optional(self, key: str, reader: Reader[T]) -> T | None:
        """Read a setting that may be left out, or be `null`, which means the same: not for what a check hangs on."""
        node = self.node(key)
        is_null = isinstance(node, Scalar) and node.value is None
        return None if is_null else self.read(key, reader, None)

    def mandatory(self, key: str, reader: Reader[T], advice: str) -> T | None:
        """Read a setting that must be there; None after adding a problem."""
        if self.node(key) is None:
            self.problems.error(self.fields, f"{self.name(key)}: missing: {advice}")
        return self.read(key, reader, None)

    def section(self, key: str, keys: Collection[str]) -> Section:
        """Give the map under the key, empty when there is none."""
        node = self.node(key)
        inner = None if node is None else section_of(node, self.name(key), keys, self.problems)
        return inner or Section(Fields(self.fields.source, ()), self.name(key), keys, self.problems)


def section_of(node: Node, name: str, keys: Collection[str], problems: Problems) -> Section | None:
    """Read a map of these keys."""
    fields = map_of(node, name, f"with {_either(keys)}", problems)
    return None if fields is None else Section(fields, name, keys, problems)


def map_of(node: Node, name: str, of_what: str, problems: Problems) -> Fields | None:
    """Read a map of any keys."""
    if isinstance(node, Fields):
        return node
    problems.error(node, f"{name}: found {describe(node)}, expected a map {of_what}")
    return None


def _either(words: Iterable[str]) -> str:
    *others, last = (f"`{word}`" for word in words)
    return f"{', '.join(others)} or {last}" if others else last


def _typed(node: Node) -> Node:
    """Give text from the environment or the command line the type it looks like; for settings that are not text."""
    if not isinstance(node, Given):
        return node
    try:
        return Scalar(node.source, resolve(node.text), node.text)
    except ValueError:  # thousands of digits
        return node


def switch_of(node: Node, name: str, problems: Problems) -> bool | None:
    """Read `true` or `false`."""
    return boolean_of(_typed(node), name, problems)


def positive_of(node: Node, name: str, problems: Problems) -> int | None:
    """Read a whole number, 1 or more."""
    typed = _typed(node)
    # `true` is an int to Python.
    if isinstance(typed, Scalar) and type(typed.value) is int and typed.value >= 1:
        return typed.value
    problems.error(node, f"{name}: found {describe(typed)}, expected a whole number, 1 or more")
    return None


def choice_of(words: tuple[Word, ...], expected: str = "") -> Reader[Word]:
    """Make the reader of one of these words; `expected` says for messages what may stand there, if not just them."""

    def read(node: Node, name: str, problems: Problems) -> Word | None:
        if isinstance(node, Scalar):
            for word in words:
                if node.value == word:
                    return word
        hint = did_you_mean(node.text, words) if isinstance(node, Scalar) else ""
        problems.error(node, f"{name}: found {describe(node)}, expected {expected or _either(words)}{hint}")
        return None

    return read


def duration_of(node: Node, what: str, problems: Problems) -> timedelta | None:
    """Read a duration such as `500ms`, `5s`, `15m`, `24h` or `1h30m`; None after adding a problem."""
    try:
        # A number, which has no unit, is not text and so falls through to the same words.
        return parse_duration(node.value if isinstance(node, Scalar) and isinstance(node.value, str) else "")
    except ValueError:
        problems.error(
            node, f"{what}: found {describe(node)}, expected a duration such as `500ms`, `5s`, `15m` or `24h`"
        )
        return None


def bounded_duration_of(holds: Callable[[timedelta], bool], bounds: str) -> Reader[timedelta]:
    """Make the reader of a duration for which `holds`; `bounds` says for messages which those are."""

    def read(node: Node, name: str, problems: Problems) -> timedelta | None:
        duration = duration_of(node, name, problems)
        if duration is None or holds(duration):
            return duration
        problems.error(node, f"{name}: found {describe(node)}, expected {bounds}")
        return None

    return read


def path_of(node: Node, name: str, problems: Problems) -> Path | None:
    """Read a path. A flag's or variable's starts at the working folder, which is the parent of the "file" `--name`."""
    text = text_of(node, name, problems)
    if text is not None and UNPRINTABLE.search(text):
        problems.error(node, f"{name}: a path cannot hold control characters")
        return None
    return None if text is None else Path(node.source.file).parent / text


def folder_of(node: Node, name: str, problems: Problems) -> Path | None:
    """Read the path of a folder, which may still have to be made."""
    path = path_of(node, name, problems)
    if path is None:
        return None
    with suppress(OSError, ValueError):  # it is not there, or may not be looked at
        if not S_ISDIR(path.stat().st_mode):
            problems.error(node, f"{name}: {path} is a file: name a folder")
            return None
    return path


def file_of(node: Node, name: str, problems: Problems) -> Path | None:
    """Read the path of a file that can be read."""
    found = _contents_of(node, name, problems)
    return None if found is None else found[0]


def certificates_of(node: Node, name: str, problems: Problems) -> Path | None:
    """Read the path of a PEM file with at least one X.509 certificate."""
    found = _contents_of(node, name, problems)
    if found is None:
        return None
    path, data = found
    try:
        x509.load_pem_x509_certificates(data)
    except ValueError:
        problems.error(node, f"{name}: {path} holds no usable certificate: expected PEM, `-----BEGIN CERTIFICATE-----`")
        return None
    return path


def _contents_of(node: Node, name: str, problems: Problems) -> tuple[Path, bytes] | None:
    path = path_of(node, name, problems)
    if path is None:
        return None
    try:
        return path, path.read_bytes()
    except OSError as error:
        problems.error(node, f"{name}: {path} cannot be read: {why_unreadable(error)}")
        return None


def filled_list_of(node: Node, name: str, of_what: str, problems: Problems) -> Sequence[Node]:
    """Read a list, or a single value as a list of one. An empty list is a problem: nothing would ever match it."""
    if (isinstance(node, Items) and not node.items) or (isinstance(node, Scalar) and node.value is None):
        problems.error(node, f"{name}: found {describe(node)}, expected {of_what}")
        return ()
    return list_of(node, name, problems)


def claim_names_of(node: Node, name: str, problems: Problems) -> tuple[str, ...] | None:
    """Read one or more names of claims."""
    items = filled_list_of(node, name, "names of claims", problems)
    names = tuple(claim for item in items if (claim := text_of(item, name, problems)))
    return names if names and len(names) == len(items) else None


def why_unreadable(error: OSError | ValueError) -> str:
    """Say why a file cannot be read, without Python's words."""
    return getattr(error, "strerror", None) or "it is no possible file name"
