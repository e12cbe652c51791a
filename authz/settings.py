"""The configuration: a file, the environment and the serve flags become one frozen Settings, or every problem at once.

Rules: a flag goes before its environment twin, that before the file, that before the default. No check is skipped by
leaving a setting out: what decides who may come in is mandatory. An unknown key is an error, and so is a setting
that is promised but not built: a setting that is silently ignored could widen access. `${NAME}` in a value is taken
from the environment, `$$` is a dollar sign. Relative paths start at the folder of the file that names them.
The keys `routes` and `policy` hold policies; `policy/parser.py` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit

from cryptography import x509

from authz.document import (
    Fields,
    Items,
    Node,
    Problems,
    Scalar,
    boolean_of,
    describe,
    did_you_mean,
    list_of,
    parse,
    parse_duration,
    resolve,
    shorten,
    text_of,
)
from authz.errors import LoadError, Problem, Severity
from authz.identity.claims import BRACKETS
from authz.identity.cognito import UserPool
from authz.identity.credentials import TokenPlace
from authz.identity.jwks import JwksSettings
from authz.model import Source

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["json", "text"]
LoggedDecisions: TypeAlias = Literal["all", "denied", "none"]
IdentityHeaders: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""Request headers in lower case, each with the claims it may come from: the first that is there counts."""


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


@dataclass(frozen=True, slots=True)
class ClaimSettings:
    """What to make of one claim: `claims:`."""

    split: str  # one character, or BRACKETS


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
    client_ip_header: str | None = None  # lower case
    client_certificate_ca: Path | None = None
    max_header_bytes: int = 8192  # what all identity headers together may take
    warnings: tuple[Problem, ...] = ()  # it loads, and its author should know these


def load_settings(path: Path, *, environ: Mapping[str, str], overrides: Mapping[str, str]) -> Settings:
    """Read the configuration file. `overrides` are the serve flags that were given, by their names without dashes.

    Raises LoadError with every problem of file, environment and flags.
    """
    problems = Problems()
    root = _read_file(path, problems)
    found = len(problems)
    root = _with_environment(root, environ, problems)
    unknown_values = {problem.source for problem in problems[found:]}
    root = _with_flags(root, environ, overrides, problems)
    settings = _settings(_Section(root, "", _KEYS, problems), path)
    # A value that is not known is one problem, not two. Aliases make one place be read twice.
    seen = problems[:found] + [
        problem
        for number, problem in enumerate(problems[found:])
        if problem.source not in unknown_values or number < len(unknown_values)
    ]
    problems[:] = dict.fromkeys(seen)
    if problems.errors:
        raise LoadError(problems)
    return settings
