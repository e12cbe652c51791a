"""JSON that no two programs read differently (RFC 8259): tokens and key documents are read through here.

Refused are names that stand twice, numbers that are not finite, halves of surrogate pairs, anything that is not UTF-8,
and anything behind the value.
"""

from __future__ import annotations

import json
import math
from typing import Final, NoReturn

from authz.model import Json

_WHITESPACE: Final = " \t\n\r"


def parse_json(data: bytes) -> Json:
    """Read one value. Raises ValueError, for endless nesting and endless digits too."""
    text = data.decode("utf-8")
    # `JSONDecoder.decode` takes nearly as long to look for whitespace as to read a token.
    stripped = text.strip(_WHITESPACE)
    value: Json
    try:
        value, end = _DECODER.raw_decode(stripped)
        if "\\ud" in text or "\\uD" in text:  # UTF-8 itself cannot hold a lone surrogate, an escape can
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if end != len(stripped):
        raise ValueError("something behind the value")
    return value


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN, Infinity


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
