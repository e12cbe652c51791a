"""A log line: facts in the form that the configuration asks for, short enough, and one physical line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from authz.model import Json

LogFormat: TypeAlias = Literal["json", "text"]
Fields: TypeAlias = Mapping[str, Json]

MAX_TEXT: Final = 256  # characters
MAX_ITEMS: Final = 100
MAX_DEPTH: Final = 4

encode_json = json.JSONEncoder(separators=(",", ":")).encode  # ASCII alone: no line separator of any alphabet survives


def json_line(fields: Fields) -> str:
    """Write facts as one line of JSON."""
    return encode_json(fields)


_HEAD: Final = ("time", "level", "msg", "decision")  # written without their names
_TAIL: Final = ("decision_id", "request_id")  # long, and seldom what a reader looks for
_PLACED: Final = frozenset(_HEAD + _TAIL)


def _text_line(fields: Fields) -> str:
    names = [*(name for name in fields if name not in _PLACED), *_TAIL]
    head = [_printable(str(fields[name])) for name in _HEAD if name in fields]
    return " ".join([*head, *(f"{name}={_word(fields[name])}" for name in names if fields.get(name) is not None)])


LINE: Final[Mapping[str, Callable[[Fields], str]]] = {"json": json_line, "text": _text_line}


def _word(value: Json) -> str:
    """Write a value so that a blank or quote in it cannot pass for the next field."""
    if isinstance(value, Mapping):
        return encode_json(value)
    if isinstance(value, str):
        text = _printable(value)
        return json.dumps(text, ensure_ascii=False) if not text or _NEEDS_QUOTES.search(text) else text
    if isinstance(value, Sequence):
        return ",".join(map(_word, value))
    return str(value)


_NEEDS_QUOTES: Final = re.compile(r'[\s"=,\\]')


def _printable(text: str) -> str:
    """Escape control characters, line separators and the marks that reorder text on a terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)


def rfc3339(now: float) -> str:
    """Write seconds since 1970 as RFC 3339 has times, in UTC and with milliseconds."""
    milliseconds = math.floor(now * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=4)  # thousands of decisions share one
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


def short(text: str | None, limit: int = MAX_TEXT) -> str | None:
    """Give the text in at most `limit` characters, the last of them `…` when it was cut; nothing for nothing."""
    if not text:
        return None
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    # Half of a surrogate pair is no character, and readers of JSON stumble over it.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def bounded(value: Json, limit: int, depth: int = MAX_DEPTH) -> Json:
    """Give the value in a size that a log line can bear, and in numbers that JSON has."""
    if isinstance(value, str):
        return short(value, limit) or ""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, int):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {short(str(name)) or "": bounded(item, limit, depth - 1) for name, item in items}
    return [bounded(item, limit, depth - 1) for item in value[:MAX_ITEMS]]
