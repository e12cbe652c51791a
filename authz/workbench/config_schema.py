"""The JSON Schema of the configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from authz.audit import LoggedDecisions
from authz.identity.claims import BRACKETS, JUDGED_CLAIMS
from authz.log_line import LogFormat
from authz.settings import LogLevel
from authz.workbench.policy_schema import ROUTE_LISTS, TARGET, policy_definitions, redirects
from authz.workbench.schema_parts import (
    DURATION,
    HEADER,
    SWITCH,
    TEXT,
    WITHOUT_COMMA,
    Schema,
    described,
    list_of,
    map_of,
    ref,
)


def config_schema() -> dict[str, Any]:
    """Give the schema of the configuration."""
    return {
        "title": "Configuration of authz",
        **map_of({**_SETTINGS, **ROUTE_LISTS}, required=["cognito"]),
        "oneOf": [{"required": ["policies"]}, {"anyOf": [{"required": [name]} for name in ROUTE_LISTS]}],
        "$defs": {
            "reference": {
                "description": "`${NAME}` is taken from the environment, `$$` is a dollar sign.",
                "type": "string",
                "pattern": r"\$(\$|\{[A-Za-z_][A-Za-z0-9_]*\})",
            },
            "pool": _POOL,
            "identity_headers": {
                "type": "object",
                "propertyNames": HEADER,
                "additionalProperties": _some(_TEXT),
            },
            **policy_definitions(),
        },
    }


def _value(schema: Schema) -> dict[str, Any]:
    """Let `${NAME}` stand for the value."""
    return {"anyOf": [schema, ref("reference")]}


_TEXT: Final = _value(TEXT)
_PATH: Final = _TEXT
_SWITCH: Final = _value(SWITCH)
_DURATION: Final = _value(DURATION)
_COUNT: Final = _value({"type": "integer", "minimum": 1})
_HEADER: Final = _value(HEADER)


def _some(item: Schema, one: Schema = WITHOUT_COMMA) -> dict[str, Any]:
    """Give one text, or a list of at least one."""
    return {"anyOf": [one, ref("reference"), list_of(item, at_least=1)]}


def _or_null(schema: Schema) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _one_of(words: tuple[str, ...]) -> dict[str, Any]:
    return _value({"enum": list(words)})


_ADDRESS: Final = _value(
    {
        "type": "string",
        "pattern": r"^([A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$|^unix:(//)?/[^/].*[^/]$|^unix:///.$",
    }
)
_POOL_NAME: Final = _value({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,53}_[0-9a-zA-Z]+$|^https?://.*[^/]$"})
_KEYS_URI: Final = _value({"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/]|^[Ff][Ii][Ll][Ee]:(///|/(?!/))"})
_NO_CLIENT: Final = {"pattern": r"^(\*|(?!any$)[Aa][Nn][Yy])$"}
_CLIENT: Final = _value({"type": "string", "pattern": "^\\S+$", "not": _NO_CLIENT})
_ONE_CLIENT: Final = _value({"type": "string", "pattern": "^[^,\\s]+$", "not": _NO_CLIENT})
_USES: Final = ("access", "id")
_POOL: Final = map_of(
    {
        "user_pool": described(
            "The pool's id; its issuer URL is understood too.", _POOL_NAME, examples=["eu-west-1_AbCdEfGhI"]
        ),
        "clients": described(
            "The app client ids whose tokens are good, or `any` for every client.", _some(_CLIENT, _ONE_CLIENT)
        ),
        "token_use": described(
            "Which tokens are good.",
            {"anyOf": [*_one_of((*_USES, "both"))["anyOf"], list_of(_one_of(_USES), at_least=1)]},
        ),
        "issuers": described(
            "The issuers instead of the one that the pool's id gives: emulators, multi-region pools.", _some(_TEXT)
        ),
        "jwks_uri": described("Where the keys are: https, http to this machine only, or `file:///path`.", _KEYS_URI),
        "leeway": described("How far clocks may differ for `exp` and `nbf`; at most 5m.", _DURATION, default="0s"),
        "trust_unverified_email": described(
            "Let addresses count without `email_verified`: users can often write theirs.", _SWITCH, default=False
        ),
    },
    required=["clients", "token_use"],
    anyOf=[{"required": ["user_pool"]}, {"required": ["issuers", "jwks_uri"]}],
)
_CLAIM: Final = map_of(
    {
        "split": described(
            f"The claim is text that holds several values: the character between them, or `{BRACKETS}`.",
            _value({"anyOf": [{"type": "string", "minLength": 1, "maxLength": 1}, {"const": BRACKETS}]}),
        ),
        "alias": described("The claim is the first of these that is there.", _some(_TEXT)),
    },
    minProperties=1,
    maxProperties=1,
)
_TOKEN_PLACE: Final = map_of(
    {
        "header": described("`authorization` with the scheme Bearer; of another header the whole value.", _HEADER),
        "cookie": described("The cookie's name.", _HEADER),
    },
    minProperties=1,
    maxProperties=1,
)
_SETTINGS: Final[Mapping[str, Schema]] = {
    "listen": described(
        "Where Envoy reaches the service, gRPC: `host:port`, `:port` or `unix:///path`.",
        _ADDRESS,
        default="127.0.0.1:9191",
    ),
    "workers": described(
        "Processes, one endpoint each: port, port + 1, … or authz.0.sock, authz.1.sock, …",
        _value({"type": "integer", "minimum": 1, "maximum": 256}),
        default=1,
    ),
    "admin": described(
        "Where /livez, /readyz and /metrics are, HTTP; `off` for nowhere.",
        {"anyOf": [*_ADDRESS["anyOf"], {"enum": ["off", False]}]},
        default="127.0.0.1:8282",
    ),
    "policies": described("The folder or the file of the policies.", _PATH, examples=["policies/"]),
    "cognito": described("The user pools whose tokens are good.", list_of(ref("pool"), at_least=1)),
    "tokens": described(
        "Where to look for the token, in this order; the first place that holds something counts.",
        list_of(_TOKEN_PLACE, at_least=1),
        default=[{"header": "authorization"}],
    ),
    "enrich_from": described(
        "Where the ID token stands that belongs to the access token and adds the claims it lacks. It is verified as "
        "strictly, always as `token_use: id`; one that does not belong is refused.",
        _TOKEN_PLACE,
        examples=[{"header": "x-auth-id-token"}],
    ),
    "hide_credentials": described(
        "Keep tokens from the upstream: the places of `tokens` and `enrich_from`, and any other header or cookie that "
        "holds a token of a configured user pool.",
        _SWITCH,
        default=False,
    ),
    "identity_headers": described(
        "Request header → claim, or a list of claims of which the first that is there counts.",
        ref("identity_headers"),
        examples=[{"x-auth-subject": "sub", "x-auth-groups": "cognito:groups"}],
    ),
    "jwt_claims_headers": described(
        "Pomerium's name of `identity_headers`. `groups` is `cognito:groups` too, and `user` is `sub`.",
        {"anyOf": [ref("identity_headers"), {"type": "string"}, list_of(_HEADER)]},
    ),
    "pass_identity_headers": described("Whether upstreams get the identity headers.", _SWITCH, default=True),
    "jwks": described(
        "How the keys are fetched and kept.",
        map_of(
            {
                "refresh": described("How often, without being asked.", _DURATION, default="15m"),
                "cooldown": described(
                    "The least time between two fetches that unknown keys cause.", _DURATION, default="30s"
                ),
                "timeout": described("The longest that a fetch may take.", _DURATION, default="2s"),
                "max_stale": described("How long keys stay good while none can be fetched.", _DURATION, default="24h"),
                "cache_dir": described("A folder in which keys survive a restart.", _or_null(_PATH), default=None),
            }
        ),
    ),
    "log": described(
        "What is logged and how.",
        map_of(
            {
                "level": described("From this level on.", _one_of(get_args(LogLevel)), default="info"),
                "format": described("One JSON object a line, or text.", _one_of(get_args(LogFormat)), default="json"),
                "decisions": described("Which decisions.", _one_of(get_args(LoggedDecisions)), default="all"),
                "explain_values": described(
                    "Whether the explanation of a denial may show values of claims and headers.",
                    _SWITCH,
                    default=False,
                ),
            }
        ),
    ),
    "tls": described(
        "TLS on the gRPC port: PEM files.",
        map_of(
            {
                "certificate": described("The service's certificate.", _PATH),
                "key": described("Its private key.", _PATH),
                "client_ca": described("Callers must present a certificate that this authority signed.", _PATH),
                "allowed_sans": described(
                    "Which of those may ask: DNS names or URIs of their certificates, in full.", _some(_TEXT)
                ),
            },
            required=["certificate", "key"],
            dependentRequired={"allowed_sans": ["client_ca"]},
        ),
    ),
    "claims": described(
        "What to make of claims that are not as policies want them.",
        {
            "type": "object",
            "propertyNames": {"not": {"enum": sorted(JUDGED_CLAIMS)}},
            "additionalProperties": _CLAIM,
        },
        examples=[{"custom:groups": {"split": BRACKETS}}],
    ),
    "allow_path_parameters": described("Remove `;` parameters from paths instead of refusing them.", _SWITCH),
    "require_end": described("Refuse a policy or revocation file that does not end with the line `# end`.", _SWITCH),
    "show_error_details": described("Whether refused clients read the reason and the author's texts.", _SWITCH),
    "denied_redirect": redirects(_value(TARGET)),
    "denied_pages": described(
        "A folder of templates for refusals: 403.html, 401.json, error.txt and so on. Read at the start.",
        _PATH,
        examples=["pages/"],
    ),
    "client_ip_header": described(
        "The header whose value `source_ip` looks at, instead of the TCP peer.",
        _HEADER,
        examples=["x-envoy-external-address"],
    ),
    "client_certificate_ca": described(
        "The authorities of client certificates, a PEM file, for `invalid_client_certificate`.", _PATH
    ),
    "revocations": described(
        "Whose good tokens are refused: a folder or a file of entries, reloaded live.",
        _PATH,
        examples=["revocations.yaml"],
    ),
    "max_header_bytes": described(
        "The longest value of one identity header, in bytes; a longer one is omitted, never cut.", _COUNT, default=8192
    ),
}
