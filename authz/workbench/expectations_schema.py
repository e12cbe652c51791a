"""The JSON Schema of policy tests, `*_test.yaml`; `policy_tests.py` tells what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from authz.workbench.expectations import (
    ALWAYS_THERE,
    ANONYMOUS,
    CREDENTIAL_ERRORS,
    FILE_KEYS,
    ROW_KEYS,
    TIME_CLAIMS,
)
from authz.workbench.schema_parts import HEADER, SWITCH, TEXT, Schema, described, list_of, map_of, one_or_list, ref


def expectations_schema() -> dict[str, Any]:
    """Give the schema of a test file."""
    return {
        "title": "Policy tests of authz",
        **map_of({key: _FILE[key] for key in FILE_KEYS}, required=["tests"]),
        "$defs": {
            "row": {
                "anyOf": [_SHORT_ROW, map_of({key: _ROW[key] for key in ROW_KEYS}, required=["request", "expect"])]
            },
            "claims": _CLAIMS,
        },
    }


_TIME: Final[Schema] = {
    "type": "string",
    "pattern": "^[0-9].*[Tt ].*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$",
    "examples": ["2026-01-31T12:00:00Z"],
}
_WHO: Final = described(f"A name of `principals`, or `{ANONYMOUS}`.", TEXT)
_REQUEST: Final = described(
    "METHOD URL; https, where the URL does not say.",
    {"type": "string", "pattern": "^[^ ]+ +([Hh][Tt][Tt][Pp][Ss]?://.|(?!.*://)[^ ])"},
    examples=["GET https://app.example.com/"],
)
_EXPECT: Final = described(
    "`allow`, `deny` or a status, then reasons.",
    {"type": ["string", "integer"], "pattern": "[^ ]"},
    examples=["allow", "403 claim-unauthorized", "401 user-unauthenticated"],
)
_HEADER_VALUE: Final[Schema] = {"type": ["string", "number", "boolean"]}
_SHORT_ROW: Final[Schema] = {
    "description": "[who, request, expected]",
    "type": "array",
    "prefixItems": [_WHO, _REQUEST, _EXPECT],
    "minItems": 3,
    "maxItems": 3,
}
_CLAIMS: Final[Schema] = {
    "description": "Claims that differ from a good access token's; `null` takes one away, but none that a token always "
    f"has: {', '.join(f'`{claim}`' for claim in ALWAYS_THERE)}.",
    "type": "object",
    "properties": {
        "sub": described("The subject; the principal's name when it is left out.", TEXT),
        "iss": described("The issuer.", TEXT),
        "client_id": described("The app client, of an access token.", TEXT),
        "aud": described("The app client, of an ID token.", TEXT),
        "token_use": described("Which kind of token it is.", {"enum": ["access", "id"]}),
        **{
            claim: described("Seconds since 1970, or a time.", {"if": {"type": "string"}, "then": _TIME})
            for claim in sorted(TIME_CLAIMS)
        },
    },
}
_FILE: Final[Mapping[str, Schema]] = {
    "now": described("The time of every row; 2026-01-01T12:00:00Z when it is left out.", _TIME),
    "policies": described(
        "The policy files, relative to this file; every one in its folder and below when it is left out.",
        one_or_list(at_least=1),
    ),
    "trust_unverified_email": described("Let addresses count without `email_verified: true`.", SWITCH),
    "principals": described(
        "Callers by name, each with the claims that differ from a good access token's.",
        {
            "type": "object",
            "propertyNames": {"not": {"const": ANONYMOUS}},
            "additionalProperties": ref("claims"),
        },
    ),
    "tests": described("The rows.", list_of(ref("row"), at_least=1)),
}
_ROW: Final[Mapping[str, Schema]] = {
    "as": _WHO,
    "request": _REQUEST,
    "expect": _EXPECT,
    "headers": described(
        "What the request carries; a list for a header that comes twice.",
        {
            "type": "object",
            "propertyNames": HEADER,
            "additionalProperties": {"anyOf": [_HEADER_VALUE, list_of(_HEADER_VALUE)]},
        },
    ),
    "source_ip": described(
        "The address that policies see. When it is left out: what `headers` say in the configured `client_ip_header`, "
        "else 192.0.2.1.",
        TEXT,
    ),
    "certificate": described("The client's certificate, a PEM file relative to this file.", TEXT),
    "now": described("Another time for this row.", _TIME),
    "route_id": described("The route that Envoy named.", TEXT),
    "token_error": described("The token is not good, for this reason.", {"enum": sorted(CREDENTIAL_ERRORS)}),
    "route": described("Expected: the route's `id`, else `from` and its matcher as written.", TEXT),
    "set": described(
        "Expected: the upstream gets these headers.",
        {"type": "object", "propertyNames": HEADER, "additionalProperties": _HEADER_VALUE},
    ),
    "removed": described("Expected: the upstream does not get these headers.", one_or_list(HEADER)),
    "name": described("A sentence instead of the row itself, in reports.", TEXT),
}
