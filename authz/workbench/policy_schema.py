"""The JSON Schema of policy files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from authz.policy.criteria import CRITERIA
from authz.policy.decision import Effect, Operator
from authz.policy.matchers import LIST_OPERATORS, STRING_OPERATORS
from authz.policy.refusals import MAX_TARGET_LENGTH, REDIRECT_STATUSES
from authz.policy.route_reader import ENVOY_KEYS
from authz.workbench.schema_parts import (
    DURATION,
    SWITCH,
    TEXT,
    WITHOUT_COMMA,
    Schema,
    described,
    list_of,
    map_of,
    one_or_list,
    ref,
)


def policy_schema() -> dict[str, Any]:
    """Give the schema of a policy file: a list of routes, or a map with `routes:`."""
    return {
        "title": "Policies of authz",
        "description": "Who may send which request. Pomerium's routes, judged on an Amazon Cognito token.",
        "anyOf": [ref("routes"), map_of(ROUTE_LISTS, minProperties=1)],
        "$defs": policy_definitions(),
    }


ROUTE_LISTS: Final[Mapping[str, Schema]] = {
    "routes": described("The routes; the first that fits a request decides.", ref("routes")),
    "policy": described("The older name of `routes`. Its routes come first.", ref("routes")),
}


def policy_definitions() -> dict[str, Any]:
    """Give the definitions that policies are made of, for every schema that holds policies."""
    return {
        "routes": list_of(ref("route")),
        "route": _route(),
        "rules": map_of(
            {**{effect: described(_EFFECTS[effect], ref("body")) for effect in Effect}, **_GUIDANCE},
            anyOf=[{"maxProperties": 0}, *({"required": [effect.value]} for effect in Effect)],
        ),
        "body": map_of(
            {
                **{operator: described(_OPERATORS[operator], list_of(ref("criterion"))) for operator in Operator},
                "action": {"description": "Tolerated, without effect."},
            },
            description="Several operators in one rule are joined by or.",
        ),
        "criterion": _criterion(),
        "string_matcher": _string_matcher(),
        "list_matcher": _list_matcher(),
        "without_escapes": {
            "not": {"type": "string", "pattern": "%[0-9A-Fa-f]{2}"},
            "additionalProperties": ref("without_escapes"),
            "items": ref("without_escapes"),
        },
        "claim_value": {"type": ["string", "number", "boolean"], "minLength": 1},
    }


_GUIDANCE: Final[Mapping[str, Schema]] = {
    "explanation": described("Shown to whoever is refused: why. Needs `show_error_details`.", TEXT),
    "remediation": described("Shown to whoever is refused: what to do. Needs `show_error_details`.", TEXT),
}
TARGET: Final[Schema] = {
    "type": "string",
    "pattern": r"^(https?://|/(?!/))[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%{}-]*$",
    "maxLength": MAX_TARGET_LENGTH,
}


def redirects(target: Schema) -> dict[str, Any]:
    """Give the schema of `denied_redirect`, of a route and of the configuration."""
    where = described("An https URL, or a path. `{url}` in its query is the refused address, encoded.", target)
    return described(
        "Where browsers are sent instead of reading a page, by status.",
        map_of({str(status): where for status in REDIRECT_STATUSES}, minProperties=1),
        examples=[{"401": "https://app.example.com/sign-in?return={url}"}],
    )


_EFFECTS: Final[Mapping[Effect, str]] = {
    Effect.ALLOW: "Lets the request pass when it holds, unless a deny rule holds.",
    Effect.DENY: "Refuses the request when it holds, whatever allows it.",
}
_OPERATORS: Final[Mapping[Operator, str]] = {
    Operator.AND: "All of them hold.",
    Operator.OR: "Any of them holds.",
    Operator.NOT: "None of them holds.",
    Operator.NOR: "Not all of them hold.",
}


# --- a route ----------------------------------------------------------------------------------------------------


_PATH: Final[Schema] = {"type": "string", "pattern": "^/[^?]*$"}


def _route() -> dict[str, Any]:
    properties: dict[str, Schema] = {
        "from": {
            "description": "The host, `https://HOST` or `http://HOST`, perhaps with a port. `*` takes any run of "
            "characters.",
            "type": "string",
            "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\s]+/?$",
            "examples": ["https://app.example.com", "https://*.example.com"],
        },
        "prefix": described("Takes every path that starts so. A plain text prefix.", _PATH),
        "path": described("Takes this one path.", _PATH),
        "regex": described("Takes the paths that this RE2 pattern covers as a whole.", TEXT),
        "id": described("The route's name in logs, metrics and metadata; Envoy can choose the route by it.", TEXT),
        "allow_public_unauthenticated_access": described("Everyone may pass, without a sign-in.", SWITCH),
        "cors_allow_preflight": described("CORS preflights may pass, which never carry a token.", SWITCH),
        "allow_any_authenticated_user": described("Whoever has a good token may pass.", SWITCH),
        "allowed_users": described("These users may pass: user ids (`sub`) or e-mail addresses.", one_or_list()),
        "allowed_domains": described(
            "Whose verified e-mail address is in one of these domains may pass.",
            one_or_list({"type": "string", "pattern": "^[^@]+$"}),
        ),
        "allowed_idp_claims": described(
            "Who has any of these values in any of these claims may pass.",
            {
                "type": "object",
                "propertyNames": {"minLength": 1},
                "additionalProperties": {
                    "anyOf": [
                        {"type": ["number", "boolean"]},
                        WITHOUT_COMMA,
                        list_of(ref("claim_value")),
                    ]
                },
            },
            examples=[{"cognito:groups": ["admins"]}],
        ),
        "policy": described("Further rules.", {"anyOf": [ref("rules"), list_of(ref("rules"))]}),
        "pass_identity_headers": described("Whether the upstream gets the identity headers.", SWITCH),
        "show_error_details": described("Whether a refused client reads the reason and the author's texts.", SWITCH),
        "denied_redirect": redirects(TARGET),
        **_GUIDANCE,
    }
    for key in sorted(ENVOY_KEYS):
        properties[key] = {"description": "Known from Pomerium, and without effect here: Envoy's own configuration."}
    return map_of(properties, required=["from"])


# --- criteria ---------------------------------------------------------------------------------------------------


def _criterion() -> dict[str, Any]:
    known = {name: described(_CRITERIA[name], _CRITERION_DATA.get(name, {})) for name in CRITERIA if name != "claim"}
    return map_of(
        known,
        patternProperties={"^claim/.+": described(_CRITERIA["claim"], ref("list_matcher"))},
        minProperties=1,
        maxProperties=1,
    )


_CRITERIA: Final[Mapping[str, str]] = {
    "accept": "Holds for everyone.",
    "reject": "Holds for nobody.",
    "authenticated_user": "There is a good token.",
    "user": "The user id (`sub`).",
    "email": "The e-mail address, which counts only when it is verified.",
    "domain": "The domain of the e-mail address.",
    "claim": "A claim of the token: `claim/NAME`, nested ones with dots.",
    "groups": "The claim `cognito:groups`.",
    "http_method": "The request's method, in upper case.",
    "http_path": "The request's path, decoded, without the query.",
    "cors_preflight": "The request is a CORS preflight.",
    "source_ip": "The caller's address is one of these, or in one of these networks.",
    "client_certificate": "What the client's certificate says. Its issuer is not checked.",
    "invalid_client_certificate": "There is no certificate of a trusted issuer.",
    "date": "The time is between two moments; `after` includes its own, `before` does not.",
    "day_of_week": "The day is one of these: `*`, `mon,wed` or `mon-fri`, in UTC unless a time zone is named.",
    "time_of_day": "The time is between two times of one day.",
    "scope": "Any of the access token's scopes.",
    "client_id": "The app client that the token was issued to.",
    "token_use": "`access` or `id`.",
    "issuer": "The token's issuer.",
    "identity_provider": "Any identity provider through which the caller came; a user of the pool itself has none.",
    "auth_age": "The caller signed in no longer ago than this.",
}
_HASHES: Final = one_or_list(at_least=1)
_TIMEZONE: Final = described("Such as Europe/Berlin or UTC.", TEXT)
_A_BOUND: Final = [{"required": ["after"]}, {"required": ["before"]}]
_DAY: Final = "[ ]*[A-Za-z]+[ ]*"
_DAYS: Final[Schema] = {
    "type": "string",
    "pattern": rf"^(\*|{_DAY}(-{_DAY})?(,{_DAY}(-{_DAY})?)*)$",
    "examples": ["mon-fri", "sat,sun"],
}
_TIME: Final[Schema] = {
    "type": "string",
    "pattern": r"^[0-9]{1,2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?( ?[AaPp][Mm])?| ?[AaPp][Mm])$",
    "examples": ["08:00", "17:30:00", "5:30 PM"],
}
_INSTANT: Final[Schema] = {"type": ["string", "integer"], "examples": ["2026-01-31", "2026-01-31T08:00:00Z"]}
_AFTER: Final = "From this on, itself included."
_BEFORE: Final = "Until this, itself not included."
_CRITERION_DATA: Final[Mapping[str, Schema]] = {
    **dict.fromkeys(
        (
            "user",
            "email",
            "domain",
            "http_method",
            "scope",
            "client_id",
            "token_use",
            "issuer",
            "identity_provider",
        ),
        ref("string_matcher"),
    ),
    "http_path": {"allOf": [ref("string_matcher"), ref("without_escapes")]},
    "groups": ref("list_matcher"),
    "source_ip": one_or_list(),
    "client_certificate": map_of(
        {
            "fingerprint": described("SHA-256 of the certificate, in hex.", _HASHES),
            "spki_hash": described("SHA-256 of the public key, in base64.", _HASHES),
            "san_email": described("Any of the e-mail addresses that it names.", ref("string_matcher")),
            "san_dns": described("Any of the host names that it names.", ref("string_matcher")),
            "san_uri": described("Any of the URIs that it names.", ref("string_matcher")),
        },
        minProperties=1,
    ),
    "date": map_of(
        {"after": described(_AFTER, _INSTANT), "before": described(_BEFORE, _INSTANT), "timezone": _TIMEZONE},
        anyOf=_A_BOUND,
    ),
    "day_of_week": {
        "anyOf": [_DAYS, map_of({"days": described("The days.", _DAYS), "timezone": _TIMEZONE}, required=["days"])]
    },
    "time_of_day": map_of(
        {"timezone": _TIMEZONE, "after": described(_AFTER, _TIME), "before": described(_BEFORE, _TIME)},
        required=["timezone"],
        anyOf=_A_BOUND,
    ),
    "auth_age": map_of({"max": described("The longest time since the sign-in.", DURATION)}, required=["max"]),
}
"""The data of a criterion; of one that is not named here it is ignored."""


# --- matchers ---------------------------------------------------------------------------------------------------


def _string_matcher() -> dict[str, Any]:
    operators = {name: _STRING_OPERATORS[name] for name in STRING_OPERATORS}
    return {
        "description": "A text, or operators of which all must hold.",
        "anyOf": [TEXT, map_of(operators, minProperties=1)],
    }


_STRING_OPERATORS: Final[Mapping[str, Schema]] = {
    "is": described("Exactly this text.", TEXT),
    "not": described("Another text than this one; a missing one is not enough.", TEXT),
    "starts_with": described("Starts with this text.", TEXT),
    "ends_with": described("Ends with this text.", TEXT),
    "contains": described("Contains this text.", TEXT),
    "in": described("One of these texts.", list_of(TEXT)),
    "not_in": described("None of these texts.", list_of(TEXT, at_least=1)),
}


def _list_matcher() -> dict[str, Any]:
    operators = {name: described(_LIST_OPERATORS[name], ref("claim_value")) for name in LIST_OPERATORS}
    return {
        "description": "A value that must be among the claim's, or operators of which all must hold.",
        "anyOf": [ref("claim_value"), map_of(operators, minProperties=1)],
    }


_LIST_OPERATORS: Final[Mapping[str, str]] = {
    "has": "The value is among the claim's.",
    "is": "The claim has this value and no other.",
    "exclude": "The value is not among the claim's.",
}
