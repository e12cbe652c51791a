"""What the configuration says, as frozen values with the defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal, NamedTuple, TypeAlias

from authz.audit import LoggedDecisions
from authz.errors import Problem
from authz.identity.cognito import UserPool
from authz.identity.credentials import TokenPlace
from authz.identity.jwks import JwksSettings
from authz.log_line import LogFormat
from authz.model import Source
from authz.policy.refusals import Redirects
from authz.settings.templates import Template

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
IdentityHeaders: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""Request headers in lower case, each with the claims it may come from: the first that is there counts."""

INLINE_KEYS: Final = ("routes", "policy")
"""Keys that hold policies in the configuration file itself."""


class Listen(NamedTuple):
    """An address to listen on: a host and port, or the path of a Unix socket."""

    host: str = ""  # empty: all interfaces; IPv6 without brackets
    port: int = 0  # 0: any free port
    path: str | None = None

    @property
    def target(self) -> str:
        """Write the address as gRPC and URLs do: `host:port`, `[::1]:port`, `unix:/path`."""
        if self.path is not None:
            return f"unix:{self.path}"
        host = self.host or "::"  # gRPC takes `[::]` for every interface, IPv4 included
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def of_worker(self, index: int) -> Listen:
        """Give the address of one of several workers: `port + index`, `authz.sock` → `authz.0.sock`."""
        if self.path is not None:
            path = PurePosixPath(self.path)
            return Listen(path=str(path.with_name(f"{path.stem}.{index}{path.suffix}")))
        return self._replace(port=self.port + index if self.port else 0)


class Pool(NamedTuple):
    """One entry of `cognito:`: what a token must be like, and where its keys are."""

    pool: UserPool
    jwks_uri: str


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged and how: `log:`."""

    level: LogLevel = "info"
    format: LogFormat = "json"
    decisions: LoggedDecisions = "all"
    explain_values: bool = False  # the live explanation of a denial may show values


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """PEM files for the gRPC port: `tls:`."""

    certificate: Path
    key: Path
    client_ca: Path | None = None  # given: callers must present a certificate that it signed
    allowed_sans: tuple[str, ...] = ()  # and with one of these names, DNS or URI; empty: any


@dataclass(frozen=True, slots=True)
class ClaimSettings:
    """What to make of one claim: `claims:`. One of the two is there."""

    split: str | None = None  # one character, or BRACKETS
    alias: tuple[str, ...] = ()  # the claim is the first of these that is there


DEFAULT_LISTEN: Final = Listen("127.0.0.1", 9191)
DEFAULT_ADMIN: Final = Listen("127.0.0.1", 8282)
DEFAULT_TOKENS: Final = (TokenPlace("header", "authorization"),)
DEFAULT_IDENTITY_HEADERS: Final[IdentityHeaders] = (
    ("x-auth-subject", ("sub",)),
    ("x-auth-username", ("cognito:username", "username")),  # ID and access tokens name it differently
    ("x-auth-groups", ("cognito:groups",)),
    ("x-auth-email", ("email",)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the configuration says, defaults filled in."""

    policies: Path  # a folder or a file
    inline: bool  # the policies are the `routes:` and `policy:` of the configuration file, which `policies` then names
    pools: tuple[Pool, ...]
    listen: Listen = DEFAULT_LISTEN
    admin: Listen | None = DEFAULT_ADMIN
    workers: int = 1
    tokens: tuple[TokenPlace, ...] = DEFAULT_TOKENS
    enrich_from: TokenPlace | None = None  # where the ID token stands that adds its claims to an access token
    hide_credentials: bool = False
    identity_headers: IdentityHeaders = DEFAULT_IDENTITY_HEADERS
    pass_identity_headers: bool = True
    jwks: JwksSettings = field(default_factory=JwksSettings)
    log: LogSettings = field(default_factory=LogSettings)
    tls: TlsSettings | None = None
    claims: Mapping[str, ClaimSettings] = field(default_factory=dict)
    allow_path_parameters: bool = False
    require_end: bool = False
    show_error_details: bool = False
    denied_redirect: Redirects = ()
    denied_pages: Mapping[str, Template] = field(default_factory=dict)  # by file name, such as `403.html`
    client_ip_header: str | None = None  # lower case
    client_certificate_ca: Path | None = None
    max_header_bytes: int = 8192  # the longest value of one identity header; a longer one is omitted, never cut
    revocations: Path | None = None  # a folder or a file
    places: Mapping[str, Source] = field(default_factory=dict, compare=False)  # where paths are named: `policies`, …
    warnings: tuple[Problem, ...] = ()  # it loads, and its author should know these

    @property
    def endpoints(self) -> tuple[Listen, ...]:
        """Where Envoy finds each worker, in their order; a single one is where `listen` says."""
        if self.workers == 1:
            return (self.listen,)
        return tuple(self.listen.of_worker(index) for index in range(self.workers))
