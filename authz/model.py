"""The frozen words that the other modules speak: Request, Principal, Decision, Reason.

The outside (protobuf, YAML, JSON) is translated into these types once, at the door, and the core sees nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""What a claim can be: a pre-token trigger may give it any JSON type and nesting."""

SignedClaims: TypeAlias = Mapping[str, Json]
"""A token's claims after its signature and every required claim were checked, never before."""

MAX_CLAIM_SECONDS: Final = 2**53  # of a time: beyond it floats skip whole seconds, and far beyond they overflow
MAX_CLOCK_AHEAD: Final = 60.0  # seconds that `iat` and `auth_time` may; Cognito's clock is often one ahead of ours


class Reason(StrEnum):
    """Why a request was allowed or denied: a closed list, the same words in log, metric, metadata and test."""

    # Nobody presented a credential where one is needed.
    USER_UNAUTHENTICATED = "user-unauthenticated"

    # A credential was presented and is not good.
    TOKEN_MALFORMED = "token-malformed"
    TOKEN_EXPIRED = "token-expired"
    TOKEN_NOT_YET_VALID = "token-not-yet-valid"
    TOKEN_ISSUER_UNKNOWN = "token-issuer-unknown"
    TOKEN_KEY_UNKNOWN = "token-key-unknown"
    TOKEN_SIGNATURE_INVALID = "token-signature-invalid"
    TOKEN_ALGORITHM_REFUSED = "token-algorithm-refused"
    TOKEN_CLIENT_REFUSED = "token-client-refused"
    TOKEN_USE_REFUSED = "token-use-refused"
    TOKEN_CLAIM_INVALID = "token-claim-invalid"
    TOKEN_AMBIGUOUS = "token-ambiguous"
    TOKEN_REVOKED = "token-revoked"

    # What a criterion says: the first of each pair when it holds, the others when it does not.
    ACCEPT = "accept"
    REJECT = "reject"
    USER_OK = "user-ok"
    USER_UNAUTHORIZED = "user-unauthorized"
    EMAIL_OK = "email-ok"
    EMAIL_UNAUTHORIZED = "email-unauthorized"
    EMAIL_UNVERIFIED = "email-unverified"
    DOMAIN_OK = "domain-ok"
    DOMAIN_UNAUTHORIZED = "domain-unauthorized"
    CLAIM_OK = "claim-ok"
    CLAIM_UNAUTHORIZED = "claim-unauthorized"
    GROUPS_OK = "groups-ok"
    GROUPS_UNAUTHORIZED = "groups-unauthorized"
    HTTP_METHOD_OK = "http-method-ok"
    HTTP_METHOD_UNAUTHORIZED = "http-method-unauthorized"
    HTTP_PATH_OK = "http-path-ok"
    HTTP_PATH_UNAUTHORIZED = "http-path-unauthorized"
    CORS_REQUEST = "cors-request"
    NON_CORS_REQUEST = "non-cors-request"
    SOURCE_IP_OK = "source-ip-ok"
    SOURCE_IP_UNAUTHORIZED = "source-ip-unauthorized"
    CLIENT_CERTIFICATE_OK = "client-certificate-ok"
    CLIENT_CERTIFICATE_UNAUTHORIZED = "client-certificate-unauthorized"
    CLIENT_CERTIFICATE_REQUIRED = "client-certificate-required"
    INVALID_CLIENT_CERTIFICATE = "invalid-client-certificate"
    VALID_CLIENT_CERTIFICATE = "valid-client-certificate"
    DATE_OK = "date-ok"
    DATE_UNAUTHORIZED = "date-unauthorized"
    DAY_OF_WEEK_OK = "day-of-week-ok"
    DAY_OF_WEEK_UNAUTHORIZED = "day-of-week-unauthorized"
    TIME_OF_DAY_OK = "time-of-day-ok"
    TIME_OF_DAY_UNAUTHORIZED = "time-of-day-unauthorized"
    SCOPE_OK = "scope-ok"
    SCOPE_UNAUTHORIZED = "scope-unauthorized"
    CLIENT_ID_OK = "client-id-ok"
    CLIENT_ID_UNAUTHORIZED = "client-id-unauthorized"
    TOKEN_USE_OK = "token-use-ok"
    TOKEN_USE_UNAUTHORIZED = "token-use-unauthorized"
    ISSUER_OK = "issuer-ok"
    ISSUER_UNAUTHORIZED = "issuer-unauthorized"
    IDENTITY_PROVIDER_OK = "identity-provider-ok"
    IDENTITY_PROVIDER_UNAUTHORIZED = "identity-provider-unauthorized"
    AUTH_AGE_OK = "auth-age-ok"
    AUTH_AGE_UNAUTHORIZED = "auth-age-unauthorized"

    # The route has no allow rule with anything in it.
    NO_RULE = "no-rule"

    # The request fits no route, or cannot be judged safely.
    ROUTE_NOT_FOUND = "route-not-found"
    REQUEST_MALFORMED = "request-malformed"

    # We cannot know.
    KEYS_UNAVAILABLE = "keys-unavailable"
    POLICY_UNAVAILABLE = "policy-unavailable"
    OVERLOADED = "overloaded"
    PROXY_REFUSED = "proxy-refused"  # by its certificate, so that nothing was read or decided
    INTERNAL_ERROR = "internal-error"


TOKEN_REASONS = frozenset(
    {
        Reason.TOKEN_MALFORMED,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_NOT_YET_VALID,
        Reason.TOKEN_ISSUER_UNKNOWN,
        Reason.TOKEN_KEY_UNKNOWN,
        Reason.TOKEN_SIGNATURE_INVALID,
        Reason.TOKEN_ALGORITHM_REFUSED,
        Reason.TOKEN_CLIENT_REFUSED,
        Reason.TOKEN_USE_REFUSED,
        Reason.TOKEN_CLAIM_INVALID,
        Reason.TOKEN_AMBIGUOUS,
        Reason.TOKEN_REVOKED,
    }
)
"""The reasons that answer 401 with `error="invalid_token"` (RFC 6750 section 3.1)."""


def http_status(reason: Reason) -> int:
    """Give the HTTP status toward the client of a denial whose first reason is `reason`.

    The one place that knows it. Every reason that is not named here is a policy's "no": 403.
    """
    if reason is Reason.USER_UNAUTHENTICATED or reason in TOKEN_REASONS:
        return 401
    return _OTHER_STATUS.get(reason, 403)


_OTHER_STATUS: Mapping[Reason, int] = {
    Reason.REQUEST_MALFORMED: 400,
    Reason.ROUTE_NOT_FOUND: 404,
    Reason.KEYS_UNAVAILABLE: 503,
    Reason.POLICY_UNAVAILABLE: 503,
    Reason.OVERLOADED: 503,
    Reason.PROXY_REFUSED: 503,
    Reason.INTERNAL_ERROR: 503,
}


class Request(NamedTuple):
    """One HTTP request as Envoy saw it, nothing judged yet."""

    method: str
    host: str  # with port, case as sent
    path: str  # with query, as it will be sent on
    headers: Mapping[str, tuple[str, ...]]  # lower-case names; every value apart where Envoy gives them apart
    source_ip: str = ""  # the TCP peer; empty for a Unix socket
    route_id: str | None = None  # the route that Envoy chose (`context_extensions: {route: …}`)
    certificate: str = ""  # the client's certificate, URL-encoded PEM; empty without one
    scheme: str = ""  # http | https, as Envoy saw it; empty where another caller leaves it out

    def header(self, name: str) -> str:
        """Give the header's value, several joined with a comma; empty when it is not there."""
        values = self.headers.get(name)
        return "" if values is None else values[0] if len(values) == 1 else ",".join(values)

    def __repr__(self) -> str:
        """Name the request without its headers or query: nothing secret is printable."""
        return f"Request({self.method} {self.host} {self.path.partition('?')[0]})"


class Principal(NamedTuple):
    """The verified caller, a person or a machine. Only `identity/` makes one, and only from SignedClaims."""

    subject: str
    issuer: str
    client_id: str
    token_use: str  # access | id
    claims: SignedClaims
    email: str | None = None  # only an address that counts: verified, or its pool trusts unverified ones
    email_is_unverified: bool = False  # there is an address and it does not count
    issued_at: float = float("-inf")  # `iat`, seconds since 1970; of two tokens the earlier

    def __repr__(self) -> str:
        """Name the principal without its claims."""
        return f"Principal({self.subject} of {self.issuer})"

    @property
    def email_claim_is_unverified(self) -> bool:
        """Whether the claim `email` does not count. A list is no address, and yet a claim, which may be verified."""
        counts = self.email is not None or self.claims.get("email_verified") is True
        return self.email_is_unverified or (not counts and self.claims.get("email") not in (None, ""))


class Source(NamedTuple):
    """Where something stands in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """Write `file:line:column`, as editors and compilers do."""
        return f"{self.file}:{self.line}:{self.column}"


class Guidance(NamedTuple):
    """What a policy's author tells whoever is refused. Empty texts say nothing."""

    explanation: str = ""
    remediation: str = ""


NO_GUIDANCE: Final = Guidance()


class RouteName(NamedTuple):
    """How a decision names its route in logs, metrics and metadata, and how that route answers."""

    label: str  # the route's id, else `from` and its matcher as written
    source: Source
    pass_identity_headers: bool | None = None  # None: as the configuration says
    show_error_details: bool = False
    guidance: Guidance = NO_GUIDANCE
    denied_redirect: tuple[tuple[int, str], ...] = ()  # HTTP status → where browsers are sent instead
    scopes: tuple[str, ...] = ()  # what its policy asks of an access token, for the challenge of RFC 6750


class Allow(NamedTuple):
    """The request may pass. An Allow always names its route."""

    route: RouteName
    reasons: tuple[Reason, ...]
    principal: Principal | None = None

    @property
    def reason(self) -> Reason:
        """The first of the reasons."""
        return self.reasons[0]


class Deny(NamedTuple):
    """The request may not pass. A Deny always has a reason."""

    reason: Reason
    others: tuple[Reason, ...] = ()  # further reasons, without the first
    route: RouteName | None = None
    principal: Principal | None = None
    detail: str = ""  # the human sentence, for the log only: no token, no header value
    guidance: Guidance = NO_GUIDANCE  # for the client, where error details are shown

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """All reasons, the one that decides first."""
        return (self.reason, *self.others)


Decision: TypeAlias = Allow | Deny
