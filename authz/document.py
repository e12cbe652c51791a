"""YAML text to values that know where they stand (node.py). Configuration and policies are read through here.

Rules: UTF-8; one document a file; YAML 1.2 core types (`yes`, `on`, `2:20:00` stay text); duplicate keys and foreign
tags are problems; aliases are shared, never copied, and what they expand to is bounded; nesting is bounded. Values
are built from PyYAML's events, because its loaders follow YAML 1.1 and keep the last of duplicate keys silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingStartEvent,
    ScalarEvent,
)

from authz.breath import breathe
from authz.errors import Problem
from authz.model import Source
from authz.node import Fields, Items, Node, Problems, Scalar, ScalarValue, describe
from authz.yaml_mistakes import Quoted, explain, odd_blank

MAX_DEPTH: Final = 64
MAX_EXPANDED_NODES: Final = 2_000_000  # 10,000 large routes are a tenth of it
MAX_ALIASED_NODES: Final = 100_000  # what all aliases together may stand for
MAX_NUMBER_LENGTH: Final = 400  # characters; Python itself refuses to write an integer of thousands of digits


def parse(data: bytes, file: str, problems: Problems) -> Node | None:
    """Read one YAML document. None when it holds nothing, or when a problem was added."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        problems.append(Problem(Source(file, line, column), "not UTF-8 text: save the file as UTF-8"))
        return None
    odd = _first_unreadable(text)
    if odd is not None:
        problems.append(Problem(_place_in(text, odd.start(), file), _why_unreadable(odd.group())))
        return None
    builder = _Builder(file, problems)
    try:
        return builder.document(iter(_Loader(text).get_event, None))
    except _Stop:
        return None
    except yaml.MarkedYAMLError as error:
        problems.append(_no_yaml(error, text, file, builder.last))
    return None


_QUOTES: Final = ("'", '"')


END_MARK: Final = b"# end"


def check_end_mark(data: bytes, file: str, problems: Problems) -> None:
    """Add a problem when the last line is not END_MARK (`require_end`). Blanks and line ends may follow it."""
    if data.rstrip(b" \t\r\n").rpartition(b"\n")[2].rstrip(b" \t\r") != END_MARK:
        why = "the last line is not `# end`, which `require_end` demands: the file is cut off, or lacks it"
        problems.append(Problem(Source(file, data.count(b"\n") + 1, 1), why))


def _no_yaml(error: yaml.MarkedYAMLError, text: str, file: str, last: yaml.ScalarEvent | None) -> Problem:
    """Tell what libyaml could not read. `last` is the value that it read last."""
    mark, words = error.problem_mark or error.context_mark, error.problem or error.context or ""
    quoted = None
    if last is not None and last.style in _QUOTES and last.start_mark is not None and last.end_mark is not None:
        quoted = Quoted(last.style, last.start_mark, last.end_mark)
    found = None if mark is None else explain(text, words, mark, error.context or "", error.context_mark, quoted)
    where = Source(file, 1, 1) if mark is None else Source(file, mark.line + 1, mark.column + 1)
    if found is not None:
        where, words = Source(file, found.line, found.column), found.message
    return Problem(where, f"not YAML: {words}")


# Other programs end a line here, and YAML 1.2 and editors do not: what seems to stand in a comment would be in force.
_LINE_ENDS: Final = "\x85\u2028\u2029"
_PIECE: Final = 8192  # characters, which take some 50 µs
# The others may not stand in YAML at all (YAML 1.2.2, section 5.1), and libyaml does not say where they stand.
_UNREADABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def _first_unreadable(text: str) -> re.Match[str] | None:
    """Search in pieces: ten thousand routes take milliseconds, in which no request would be answered."""
    for start in range(0, len(text), _PIECE):
        if (odd := _UNREADABLE.search(text, start, start + _PIECE)) is not None:
            return odd
        breathe()
    return None


def _why_unreadable(character: str) -> str:
    name, instead = f"U+{ord(character):04X}", "delete it, or write it as an escape in double quotes"
    if character in _LINE_ENDS:
        return f"found {name}, a line end that editors do not show: {instead}"
    return f"found the control character {name}: {instead}"


def _place_in(text: str, position: int, file: str) -> Source:
    return Source(file, text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position))


# libyaml's, never the fallback in Python: it reads some files differently, and lets errors of Python's out.
_Loader = yaml.CSafeLoader


_TEXT: Final = ", or put it in quotes if it is text"


class _Stop(Exception):  # noqa: N818 - ends a parse whose problem is already noted
    pass


class _Builder:
    """Builds nodes from events, with an explicit stack: nesting cannot exhaust Python's."""

    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._aliased = 0
        self.last: yaml.ScalarEvent | None = None  # what was read last, to explain an error behind it

    def document(self, events: Iterable[yaml.Event]) -> Node | None:
        root: Node | None = None
        documents = 0
        open_: list[_Open] = []
        for event in events:
            node: Node
            size = 1
            if isinstance(event, ScalarEvent):  # the most frequent kinds first, and no `match`: it takes twice as long
                breathe()
                self.last = event
                node = self._scalar(event)
                if event.anchor is not None:
                    self._anchors[event.anchor] = (node, 1)
            elif isinstance(event, CollectionStartEvent):
                if event.tag not in _COLLECTION_TAGS:
                    self._refuse_tag(event)
                if len(open_) >= MAX_DEPTH:
                    self._stop(event, f"nested deeper than {MAX_DEPTH} levels")
                open_.append(_Open(self._source(event), isinstance(event, MappingStartEvent), event.anchor))
                continue
            elif isinstance(event, CollectionEndEvent):
                breathe()
                done = open_.pop()
                node, size = self._close(done), done.size
                if done.anchor is not None:
                    self._anchors[done.anchor] = (node, size)
            elif isinstance(event, AliasEvent):
                node, size = self._alias(event)
            elif isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop(event, "a second YAML document: write one document a file, without `---` between")
                continue
            else:
                continue
            if open_:
                holder = open_[-1]
                holder.children.append(node)
                holder.size += size
                if holder.size > MAX_EXPANDED_NODES:
                    self._stop(event, f"more than {MAX_EXPANDED_NODES:,} values")
            else:
                root = node
        if isinstance(root, Scalar) and root.value is None and not root.text:
            return None  # only comments or blanks
        return root

    def _close(self, done: _Open) -> Node:
        if not done.is_map:
            return Items(done.source, tuple(done.children))
        entries: dict[ScalarValue, tuple[Scalar, Node]] = {}
        pairs = zip(done.children[::2], done.children[1::2], strict=True)
        for key, value in pairs:
            if isinstance(key, Scalar) and type(key.value) is int and _STATUS.fullmatch(key.text):
                key = Scalar(key.source, key.text, key.text)  # noqa: PLW2901 - an HTTP status, `401:`, is a name
            if not isinstance(key, Scalar) or not isinstance(key.value, str):
                self._problems.error(key, f"a key must be text, found {describe(key)}: quote it")
            elif (found := odd_blank(key.value)) is not None:
                self._problems.error(key, f"{found}, in front of a key: write a blank instead")
            elif key.value in entries:
                first = entries[key.value][0].source
                self._problems.error(key, f"duplicate key `{key.value}`, already on line {first.line}: delete one")
            else:
                entries[key.value] = (key, value)
        return Fields(done.source, tuple(entries.values()))

    def _alias(self, event: yaml.AliasEvent) -> tuple[Node, int]:
        known = self._anchors.get(str(event.anchor))
        if known is None:
            self._stop(event, f"unknown alias `*{event.anchor}`: anchor it with `&{event.anchor}` above{_TEXT}")
        self._aliased += known[1]
        if self._aliased > MAX_ALIASED_NODES:
            self._stop(event, f"aliases stand for more than {MAX_ALIASED_NODES:,} values")
        return known

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text: str = event.value
        tag = event.tag
        if tag not in _SCALAR_TAGS:
            self._refuse_tag(event)
        value: ScalarValue = text
        if (tag is None and event.implicit[0]) or tag in _TYPED_TAGS:
            try:
                value = resolve(text)
            except ValueError:
                value = _TOO_LONG
        return Scalar(self._source(event), value, text)

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        problem = f"unknown tag `{event.tag}`: only YAML's core types are read{_TEXT}"
        self._problems.append(Problem(self._source(event), problem))

    def _source(self, event: yaml.Event) -> Source:
        mark = event.start_mark
        return Source(self._file, 1, 1) if mark is None else Source(self._file, mark.line + 1, mark.column + 1)

    def _stop(self, event: yaml.Event, message: str) -> NoReturn:
        self._problems.append(Problem(self._source(event), message))
        raise _Stop


class _Open:
    """A list or map whose end has not come yet."""

    __slots__ = ("anchor", "children", "is_map", "size", "source")

    def __init__(self, source: Source, is_map: bool, anchor: str | None) -> None:
        self.source = source
        self.is_map = is_map
        self.anchor = anchor
        self.children: list[Node] = []
        self.size = 1


_YAML = "tag:yaml.org,2002:"
_STATUS = re.compile(r"[1-5][0-9]{2}", re.ASCII)
_TYPED_TAGS = frozenset({_YAML + "null", _YAML + "bool", _YAML + "int", _YAML + "float"})
_SCALAR_TAGS: frozenset[str | None] = _TYPED_TAGS | {None, "!", _YAML + "str"}
_COLLECTION_TAGS: frozenset[str | None] = frozenset({None, "!", _YAML + "seq", _YAML + "map"})

# YAML 1.2.2 section 10.3.2, the core schema.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NUMBER = re.compile(
    r"(?P<int>[-+]?[0-9]+)|(?P<oct>0o[0-7]+)|(?P<hex>0x[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<inf>[-+]?\.(?:inf|Inf|INF))|(?P<nan>\.(?:nan|NaN|NAN))"
)


_BEGINNINGS: Final = frozenset({"", *"~nNtTfF+-.0123456789"})  # of everything that is not just text
_TOO_LONG: Final = float("nan")  # like `.nan`, no reader takes it, and each names the setting that it reads


def resolve(text: str) -> ScalarValue:
    """Give the core-schema value of plain text. Raises ValueError for a number of too many digits."""
    if text[:1] not in _BEGINNINGS:  # nearly all text: the quick way
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError("too many digits")
    return _CONVERT[match.lastgroup or ""](text)


_CONVERT: dict[str, Callable[[str], ScalarValue]] = {
    "int": int,
    "oct": lambda text: int(text, 8),
    "hex": lambda text: int(text, 16),
    "float": float,
    "inf": lambda text: float(text.replace(".", "").lower()),
    "nan": lambda _: float("nan"),
}
