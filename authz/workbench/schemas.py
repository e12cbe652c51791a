"""JSON Schemas for editors: `authz schema config|policies|tests` (draft 2020-12).

A schema sees structure: keys, types, what must be there, words from closed lists. What needs more than one place to be
judged (duplicate ids, keys that exclude each other, files that must exist) is the loaders' business. A schema never
refuses what the loaders take; the tests hold both against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from authz.workbench.config_schema import config_schema
from authz.workbench.expectations_schema import expectations_schema
from authz.workbench.policy_schema import policy_schema

_SCHEMAS: Final = {"config": config_schema, "policies": policy_schema, "tests": expectations_schema}
SCHEMAS: Final = tuple(_SCHEMAS)
"""The names of all schemas there are."""


def schema(name: str) -> dict[str, Any]:
    """Give the schema of that name, which must be one of SCHEMAS, as JSON values."""
    body: Mapping[str, Any] = _SCHEMAS[name]()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **body}
