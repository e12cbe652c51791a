"""The pieces that the JSON Schemas are made of. Patterns keep to what both Python and JavaScript read alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

TEXT: Final[Schema] = {"type": "string", "minLength": 1}
SWITCH: Final[Schema] = {"type": "boolean"}
DURATION: Final[Schema] = {
    "type": "string",
    "pattern": r"^(?=[0-9])([0-9]{1,9}h)?([0-9]{1,9}m(?!s))?([0-9]{1,9}s)?([0-9]{1,9}ms)?$",
    "examples": ["500ms", "5s", "15m", "24h"],
}
WITHOUT_COMMA: Final[Schema] = {"type": "string", "pattern": "^[^,]+$"}
"""One text where a list is meant: with a comma in it, it would look like several."""
HEADER: Final[Schema] = {"type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"}


def described(description: str, schema: Schema, **more: object) -> dict[str, Any]:
    """Give the schema with its description."""
    return {"description": description, **schema, **more}


def list_of(item: Schema, *, at_least: int = 0) -> dict[str, Any]:
    """Give a list of such items."""
    return {"type": "array", "items": item, **({"minItems": at_least} if at_least else {})}


def one_or_list(item: Schema = TEXT, *, at_least: int = 0) -> dict[str, Any]:
    """Give one text, or a list of such items."""
    return {"anyOf": [{"allOf": [item, WITHOUT_COMMA]}, list_of(item, at_least=at_least)]}


def map_of(properties: Mapping[str, Schema], *, required: Iterable[str] = (), **more: object) -> dict[str, Any]:
    """Give a map of these keys and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
        **more,
    }


def ref(name: str) -> dict[str, Any]:
    """Point to a definition of the same document."""
    return {"$ref": f"#/$defs/{name}"}
