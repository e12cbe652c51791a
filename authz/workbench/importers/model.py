"""What stands between a source and the written files: plain values that know neither Pomerium nor Kong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from authz.model import Json, Source

Wire: TypeAlias = Mapping[str, Any]
"""A piece of an Envoy configuration or of a policy file, as it is written."""

PLACEHOLDER_ISSUER = "https://issuer.invalid/fill-in"
PLACEHOLDER_CLIENT = "fill-in-the-app-client-id"
PLACEHOLDER_HOST = "app.invalid"
"""Names under .invalid never resolve (RFC 2606): a result that is not filled in lets nobody in."""


class SignIn(Enum):
    """What a browser without a session meets on a route."""

    REQUIRED = "it is sent to sign in"
    OPTIONAL = "it goes on, with its session if there is one"
    NONE = "sessions do not count here: tokens only"


class Pool(NamedTuple):
    """One entry of `cognito:`. `issuers` replaces what the issuer's own URL gives."""

    issuer: str
    clients: tuple[str, ...]  # ("any",): every client
    token_use: tuple[str, ...] = ("access",)
    leeway_seconds: int = 0
    issuers: tuple[str, ...] = ()


class Login(NamedTuple):
    """How people sign in: what the oauth2 filter is told."""

    issuer: str  # of the pool whose people sign in
    client_id: str
    domain: str  # host of the pool's hosted pages
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    query: str = ""  # added to the authorization endpoint, such as identity_provider=Auth0
    sign_out_path: str = "/sign-out"
    passes_bearer: bool = True  # requests with a bearer token go on without a session


class Target(NamedTuple):
    """One upstream address."""

    host: str
    port: int
    weight: int | None = None


class Upstream(NamedTuple):
    """Where requests go: one Envoy cluster."""

    targets: tuple[Target, ...]
    tls: bool = False
    server_name: str = ""  # for TLS; empty: the first target's host
    verified: bool = True
    own_ca: bool = False  # the authorities come from secrets/upstream-ca.pem instead of the system's
    http2: bool = False
    connect_timeout: str = "5s"


class Caller(NamedTuple):
    """Somebody for the policy tests: claims, and whether the source lets them in (None: as the result decides)."""

    name: str
    claims: Mapping[str, Json] | None  # None: nobody
    allowed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route of the result: the policy's half and Envoy's half."""

    id: str
    source: Source
    host: str  # as in `from`, without the scheme; `*` is a wildcard
    scheme: str = "https"
    match: tuple[str, str] | None = None  # (prefix | path | regex, text); None: every path
    policy: Wire = field(default_factory=dict)  # keys beside `id`, `from` and the matcher
    upstream: Upstream | None = None  # None: `action` answers without one
    action: Wire = field(default_factory=dict)  # more of Envoy's `route`, or `redirect`/`direct_response` alone
    extra: Wire = field(default_factory=dict)  # more of Envoy's route: headers to set and remove
    conditions: tuple[Wire, ...] = ()  # Envoy header matchers: only such requests belong to this route
    methods: tuple[str, ...] = ()
    sign_in: SignIn = SignIn.NONE
    login: Login | None = None
    callers: tuple[Caller, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Everything that is written."""

    program: str  # Pomerium | Kong
    pools: tuple[Pool, ...]
    routes: tuple[Route, ...]
    listen_host: str = "0.0.0.0"  # noqa: S104 - a proxy is there to be reached
    listen_port: int = 443
    tls: bool = True
    redirect_port: int | None = None  # plain HTTP, which only sends people to https
    settings: Wire = field(default_factory=dict)  # further keys of authz.yaml
    stripped: tuple[str, ...] = ()  # header prefixes that clients must not send

    @property
    def logins(self) -> tuple[Login, ...]:
        """All sign-ins, each once, in order."""
        return tuple(dict.fromkeys(route.login for route in self.routes if route.login is not None))
