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
from dataclasses import dataclass, field, replace
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
    missing = Problems()
    root = _with_environment(root, environ, missing)
    root = _with_flags(root, environ, overrides, missing)
    read = Problems()
    settings = _settings(_Section(root, "", _KEYS, read), path)
    # A value that is missing cannot be judged: where one is, nothing else is reported.
    nowhere = {problem.source for problem in missing}
    problems += [*missing, *(problem for problem in read if problem.source not in nowhere)]
    if problems.errors:
        raise LoadError(problems)
    return replace(settings, warnings=tuple(sorted(problems, key=lambda problem: problem.source)))


def _read_file(path: Path, problems: Problems) -> Fields:
    start = Source(str(path), 1, 1)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        text = "the configuration file does not exist: create it, or name another one with --config"
        raise LoadError([Problem(start, text)]) from None
    except (OSError, ValueError) as error:
        raise LoadError([Problem(start, f"the configuration file cannot be read: {_why(error)}")]) from None
    root = parse(data, str(path), problems)
    if problems.errors and root is None:
        raise LoadError(problems)
    if root is None:
        return Fields(start, ())  # an empty file: everything mandatory is reported as missing
    if not isinstance(root, Fields):
        found = f"the configuration: found {describe(root)}, expected a map of settings"
        raise LoadError([*problems, Problem(root.source, found)])
    return root


def _why(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or "it is no possible file name"


# What comes from the environment and the command line.


@dataclass(frozen=True, slots=True)
class _Given(Scalar):
    """Text from the environment or the command line: the setting, not YAML, decides whether it is a number."""


_REFERENCE = re.compile(r"\$(?:\$|\{([^{}]*)\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # the surrogates stand for bytes that are not UTF-8

# Serve flag → where its setting stands. Each has an environment twin, `AUTHZ_LOG_LEVEL` for `--log-level`.
_FLAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "listen": ("listen",),
    "admin": ("admin",),
    "policies": ("policies",),
    "workers": ("workers",),
    "log-level": ("log", "level"),
    "log-format": ("log", "format"),
    "log-decisions": ("log", "decisions"),
}


def _with_environment(root: Fields, environ: Mapping[str, str], problems: Problems) -> Fields:
    """Put the environment's values for `${NAME}`, everywhere but in policies that stand in the same file."""
    entries = (
        (key, value if key.value in _INLINE else _substituted(value, key.text, environ, problems))
        for key, value in root.entries
    )
    return Fields(root.source, tuple(entries))


def _substituted(node: Node, name: str, environ: Mapping[str, str], problems: Problems) -> Node:
    match node:
        case Fields():
            entries = (
                (key, _substituted(value, f"{name}.{key.text}", environ, problems)) for key, value in node.entries
            )
            return Fields(node.source, tuple(entries))
        case Items():
            items = (_substituted(item, f"{name}[{number}]", environ, problems) for number, item in enumerate(node))
            return Items(node.source, tuple(items))
        case Scalar(value=str(text)) if "$" in text:
            try:
                value = _REFERENCE.sub(lambda match: _referenced(match, environ), text)
            except ValueError as error:
                problems.error(node, f"{name}: {error}")
                return node
            return _Given(node.source, value, value)
        case _:
            return node


def _referenced(match: re.Match[str], environ: Mapping[str, str]) -> str:
    """Give what `${NAME}` or `$$` stands for. Raises ValueError."""
    written, name = match.group(), match.group(1)
    if name is None:
        return "$"
    if not _NAME.fullmatch(name) or not written.endswith("}"):
        raise ValueError(f"found `{shorten(written)}`, expected `${{NAME}}`, or `$$` for a dollar sign")
    if name not in environ:
        raise ValueError(f"the environment variable `{name}` is not set: set it, or write the value here")
    if _UNPRINTABLE.search(environ[name]):
        raise ValueError(f"the environment variable `{name}` holds a control character or is not UTF-8 text")
    return environ[name]


def _with_flags(root: Fields, environ: Mapping[str, str], overrides: Mapping[str, str], problems: Problems) -> Fields:
    for flag, keys in _FLAGS.items():
        twin = "AUTHZ_" + flag.upper().replace("-", "_")
        name, text = (f"--{flag}", overrides[flag]) if flag in overrides else (twin, environ.get(twin, ""))
        if not text and flag not in overrides:
            continue  # an empty variable is as good as none: compose files leave them empty
        given = _Given(Source(name, 1, 1), text, text)
        if _UNPRINTABLE.search(text):
            problems.error(given, f"{'.'.join(keys)}: found a control character, or text that is not UTF-8")
        else:
            root = _replaced(root, keys, given)
    return root


def _replaced(fields: Fields, keys: Sequence[str], value: Node) -> Fields:
    """Give the map with the value under the path of keys. Whatever is not a map there stays, to be refused."""
    first, *others = keys
    old = fields.get(first)
    if others:
        if old is not None and not isinstance(old, Fields):
            return fields
        value = _replaced(old or Fields(value.source, ()), others, value)
    kept = tuple(entry for entry in fields.entries if entry[0].value != first)
    return Fields(fields.source, (*kept, (Scalar(value.source, first, first), value)))


# How a map is read, and the values in it.

T = TypeVar("T")
Word = TypeVar("Word", bound=str)
_Reader: TypeAlias = Callable[[Node, str, Problems], T | None]
"""(node, its name for messages, problems) → the value, or None after adding a problem; as in `document.py`."""


class _Section:
    """A map whose keys are all known. A setting that cannot be read gives its default, for nothing loads then."""

    def __init__(self, fields: Fields, name: str, keys: Collection[str], problems: Problems) -> None:
        self.fields = fields
        self.problems = problems
        self._name = name
        for key, _ in fields.entries:
            if key.text in _NOT_YET and not name:
                problems.error(key, f"{key.text}: not supported yet: delete it")
            elif key.text not in keys:
                known = did_you_mean(key.text, keys) or f", expected {_either(keys)}"
                problems.error(key, f"{self.name(shorten(key.text))}: unknown key{known}")

    def name(self, key: str) -> str:
        """Name a setting as messages do, with the way to it."""
        return f"{self._name}.{key}" if self._name else key

    def node(self, key: str) -> Node | None:
        """Give what stands under the key."""
        return self.fields.get(key)

    def read(self, key: str, reader: _Reader[T], default: T) -> T:
        """Read a setting that has a default."""
        node = self.node(key)
        value = None if node is None else reader(node, self.name(key), self.problems)
        return default if value is None else value

    def optional(self, key: str, reader: _Reader[T]) -> T | None:
        """Read a setting that may be left out, or be `null`, which means the same."""
        node = self.node(key)
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return None
        return reader(node, self.name(key), self.problems)

    def mandatory(self, key: str, reader: _Reader[T], advice: str) -> T | None:
        """Read a setting that must be there; None after adding a problem."""
        node = self.node(key)
        if node is None:
            self.problems.error(self.fields, f"{self.name(key)}: missing: {advice}")
            return None
        return reader(node, self.name(key), self.problems)

    def section(self, key: str, keys: Collection[str]) -> _Section:
        """Give the map under the key, empty when there is none."""
        node = self.node(key)
        inner = None if node is None else _section(node, self.name(key), keys, self.problems)
        return inner or _Section(Fields(self.fields.source, ()), self.name(key), keys, self.problems)


def _section(node: Node, name: str, keys: Collection[str], problems: Problems) -> _Section | None:
    fields = _map(node, name, problems)
    return None if fields is None else _Section(fields, name, keys, problems)


def _map(node: Node, name: str, problems: Problems) -> Fields | None:
    if isinstance(node, Fields):
        return node
    problems.error(node, f"{name}: found {describe(node)}, expected a map")
    return None


def _either(words: Iterable[str]) -> str:
    *others, last = (f"`{word}`" for word in words)
    return f"{', '.join(others)} or {last}" if others else last


def _typed(node: Node) -> Node:
    """Give text from the environment or the command line the type it looks like; for settings that are not text."""
    if not isinstance(node, _Given):
        return node
    try:
        return Scalar(node.source, resolve(node.text), node.text)
    except ValueError:  # thousands of digits
        return node


def _boolean(node: Node, name: str, problems: Problems) -> bool | None:
    return boolean_of(_typed(node), name, problems)


def _positive(node: Node, name: str, problems: Problems) -> int | None:
    typed = _typed(node)
    # `true` is an int to Python.
    if isinstance(typed, Scalar) and type(typed.value) is int and typed.value >= 1:
        return typed.value
    problems.error(node, f"{name}: found {describe(typed)}, expected a whole number, 1 or more")
    return None


def _choice(words: tuple[Word, ...], expected: str = "") -> _Reader[Word]:
    def read(node: Node, name: str, problems: Problems) -> Word | None:
        if isinstance(node, Scalar):
            for word in words:
                if node.value == word:
                    return word
        hint = did_you_mean(node.text, words) if isinstance(node, Scalar) else ""
        problems.error(node, f"{name}: found {describe(node)}, expected {expected or _either(words)}{hint}")
        return None

    return read


def duration_of(node: Node, what: str, problems: Problems) -> timedelta | None:
    """Read a duration such as `500ms`, `5s`, `15m`, `24h` or `1h30m`; None after adding a problem."""
    try:
        # A number, which has no unit, is not text and so falls through to the same words.
        return parse_duration(node.value if isinstance(node, Scalar) and isinstance(node.value, str) else "")
    except ValueError:
        problems.error(
            node, f"{what}: found {describe(node)}, expected a duration such as `500ms`, `5s`, `15m` or `24h`"
        )
        return None


def _duration(holds: Callable[[timedelta], bool], bounds: str) -> _Reader[timedelta]:
    def read(node: Node, name: str, problems: Problems) -> timedelta | None:
        duration = duration_of(node, name, problems)
        if duration is None or holds(duration):
            return duration
        problems.error(node, f"{name}: found {describe(node)}, expected {bounds}")
        return None

    return read


def _path(node: Node, name: str, problems: Problems) -> Path | None:
    """Read a path. A flag's or variable's starts at the working folder, which is the parent of the "file" `--name`."""
    text = text_of(node, name, problems)
    if text is not None and _UNPRINTABLE.search(text):
        problems.error(node, f"{name}: a path cannot hold control characters")
        return None
    return None if text is None else Path(node.source.file).parent / text


def _file(node: Node, name: str, problems: Problems) -> Path | None:
    """Read the path of a file that can be read."""
    return _checked_file(node, name, problems, lambda _: None)


def _certificates(node: Node, name: str, problems: Problems) -> Path | None:
    """Read the path of a PEM file with at least one X.509 certificate."""
    return _checked_file(node, name, problems, x509.load_pem_x509_certificates)


def _checked_file(node: Node, name: str, problems: Problems, check: Callable[[bytes], object]) -> Path | None:
    path = _path(node, name, problems)
    if path is None:
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        problems.error(node, f"{name}: {path} cannot be read: {_why(error)}")
        return None
    try:
        check(data)
    except ValueError:
        problems.error(node, f"{name}: {path} holds no usable certificate: expected PEM, `-----BEGIN CERTIFICATE-----`")
        return None
    return path


# RFC 9110 section 5.6.2; a cookie's name is the same (RFC 6265 section 4.1.1).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _cookie(node: Node, name: str, problems: Problems) -> str | None:
    text = text_of(node, name, problems)
    if text is not None and not _TOKEN.fullmatch(text):
        problems.error(node, f"{name}: found {describe(node)}, expected a name of letters, digits and `-`")
        return None
    return text


def _header(node: Node, name: str, problems: Problems) -> str | None:
    text = _cookie(node, name, problems)
    return None if text is None else text.lower()


# Addresses to listen on.

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_PORT = re.compile(r"[0-9]{1,5}")
_MAX_SOCKET_PATH: Final = 107  # bytes; the kernel's `sun_path` is 108 with its closing zero


def _address(expected: str) -> _Reader[Listen]:
    def read(node: Node, name: str, problems: Problems) -> Listen | None:
        text = node.value if isinstance(node, Scalar) and isinstance(node.value, str) else ""
        address = _socket(text.removeprefix("unix://")) if text.startswith("unix:") else _host_and_port(text)
        if address is None:
            limit = f"; a socket's path has at most {_MAX_SOCKET_PATH} bytes" if text.startswith("unix:") else ""
            problems.error(node, f"{name}: found {describe(node)}, expected {expected}{limit}")
        return address

    return read


_ADDRESSES: Final = "`host:port`, `:port`, `[::1]:port`"


def _socket(path: str) -> Listen | None:
    fits = len(path.encode(errors="replace")) <= _MAX_SOCKET_PATH
    is_path = path.startswith("/") and not path.endswith("/") and not _UNPRINTABLE.search(path)
    return Listen(path=path) if fits and is_path else None


def _host_and_port(text: str) -> Listen | None:
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
        return None
    if host.startswith("[") and host.endswith("]"):
        try:
            return Listen(str(IPv6Address(host[1:-1])), int(port))
        except ValueError:
            return None
    return Listen(host, int(port)) if not host or _HOST.fullmatch(host) else None


def _admin(root: _Section) -> Listen | None:
    node = root.node("admin")
    if isinstance(node, Scalar) and (node.value == "off" or node.value is False):
        return None
    return root.read("admin", _address(f"{_ADDRESSES}, `unix:///path` or `off`"), DEFAULT_ADMIN)


def _overlap(one: Listen, other: Listen) -> bool:
    """Say whether the second could not be bound after the first."""
    if one.path is not None or other.path is not None:
        return one.path == other.path
    return one.port == other.port != 0 and (one.host == other.host or not one.host or not other.host)


# User pools.

_POOL_KEYS: Final = ("user_pool", "clients", "token_use", "issuers", "jwks_uri", "leeway", "trust_unverified_email")
_POOL_ID = re.compile(r"[\w-]{1,53}_[0-9a-zA-Z]+", re.ASCII)  # Amazon Cognito API reference, UserPoolType
_ISSUER = re.compile(r"https?://[!-\"$->A-~]+")  # printable ASCII without `#`, `?` and `@`
_DISCOVERY: Final = "/.well-known/openid-configuration"
_JWKS: Final = "/.well-known/jwks.json"
_ANY: Final = frozenset({"any"})
_LONG_LEEWAY: Final = timedelta(seconds=60)


class _UserPoolName(NamedTuple):
    label: str
    issuer: str


def _pools(node: Node, name: str, problems: Problems) -> tuple[Pool, ...] | None:
    if not isinstance(node, Items) or not node.items:
        problems.error(node, f"{name}: found {describe(node)}, expected a list of user pools: write - user_pool: …")
        return None
    pools = []
    owners: dict[str, str] = {}  # issuer → the entry that has it
    for number, item in enumerate(node):
        entry = f"{name}[{number}]"
        section = _section(item, entry, _POOL_KEYS, problems)
        pool = None if section is None else _pool(section)
        if section is None or pool is None:
            continue
        for issuer in pool.pool.issuers:
            owner = owners.setdefault(issuer, entry)
            if owner != entry:
                place = section.node("issuers") or section.node("user_pool") or item
                problems.error(place, f"{entry}: issuer `{issuer}` belongs to {owner} already: delete one of them")
        pools.append(pool)
    return tuple(pools)


def _pool(entry: _Section) -> Pool | None:
    named = entry.read("user_pool", _user_pool, None)
    issuers = entry.read("issuers", _issuers, None)
    uri = entry.read("jwks_uri", _jwks_uri, None)
    clients = entry.mandatory(
        "clients", _clients, "write the ids of the app clients, or `clients: any` to accept every client"
    )
    token_use = entry.mandatory("token_use", _token_use, "write `access`, `id` or both")
    leeway = entry.read("leeway", _LEEWAY, timedelta())
    trust_unverified_email = entry.read("trust_unverified_email", _boolean, default=False)
    _warn_of_leeway(entry, leeway)
    if entry.node("user_pool") is None and (entry.node("issuers") is None or entry.node("jwks_uri") is None):
        advice = "write the pool's id, such as `eu-west-1_AbCdEfGhI`, or both `issuers` and `jwks_uri`"
        entry.problems.error(entry.fields, f"{entry.name('user_pool')}: missing: {advice}")
    if named is not None:
        issuers = issuers or (named.issuer,)
        uri = uri or _derived_jwks_uri(entry, named)
    if issuers is None or uri is None or clients is None or token_use is None:
        return None
    pool = UserPool(
        issuers=issuers,
        clients=None if clients == _ANY else clients,
        token_use=token_use,
        leeway=leeway.total_seconds(),
        trust_unverified_email=trust_unverified_email,
        label=named.label if named else issuers[0],
    )
    return Pool(pool, uri)


def _user_pool(node: Node, name: str, problems: Problems) -> _UserPoolName | None:
    """Read a pool's id, or its issuer or discovery URL, which users of other proxies have at hand."""
    text = text_of(node, name, problems)
    if text is None:
        return None
    if _POOL_ID.fullmatch(text):
        region = text.rpartition("_")[0]
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return _UserPoolName(text, f"https://cognito-idp.{region}.{domain}/{text}")
    issuer = text.removesuffix(_DISCOVERY)
    if _ISSUER.fullmatch(issuer) and not issuer.endswith("/"):
        last = issuer.rpartition("/")[2]
        return _UserPoolName(last if _POOL_ID.fullmatch(last) else issuer, issuer)
    expected = "a pool id such as `eu-west-1_AbCdEfGhI`, or its issuer URL without a slash at the end"
    problems.error(node, f"{name}: found {_describe_url(node)}, expected {expected}")
    return None


def _derived_jwks_uri(entry: _Section, named: _UserPoolName) -> str | None:
    node = entry.node("user_pool")
    if node is None or entry.node("jwks_uri") is not None:
        return None
    uri = named.issuer + _JWKS
    flaw = _flaw(uri)
    if flaw:
        entry.problems.error(node, f"{entry.name('user_pool')}: its keys would be fetched from a URL that {flaw}")
    return uri


def _issuers(node: Node, name: str, problems: Problems) -> tuple[str, ...] | None:
    issuers = []
    for number, item in enumerate(_filled_list(node, name, "issuer URLs", problems)):
        issuer = text_of(item, f"{name}[{number}]", problems)
        if issuer in issuers:
            problems.error(item, f"{name}[{number}]: `{issuer}` is there twice: delete one")
        elif issuer is not None and not _ISSUER.fullmatch(issuer):
            expected = "an http(s) URL without blanks, user name, query or fragment"
            problems.error(item, f"{name}[{number}]: found {_describe_url(item)}, expected {expected}")
        elif issuer is not None:
            issuers.append(issuer)
    return tuple(issuers) or None


def _filled_list(node: Node, name: str, of_what: str, problems: Problems) -> Sequence[Node]:
    """Read a list, or a single value as a list of one. An empty list is a problem: nothing would ever match it."""
    if (isinstance(node, Items) and not node.items) or (isinstance(node, Scalar) and node.value is None):
        problems.error(node, f"{name}: found {describe(node)}, expected {of_what}")
        return ()
    return list_of(node, name, problems)


def _clients(node: Node, name: str, problems: Problems) -> frozenset[str] | None:
    items = _filled_list(node, name, "ids of app clients, or `any` to accept every client", problems)
    clients = frozenset(
        client
        for number, item in enumerate(items)
        if (client := _client(item, f"{name}[{number}]" if isinstance(node, Items) else name, problems))
    )
    if clients > _ANY:
        problems.error(node, f"{name}: found `any` beside client ids: write `clients: any`, or the ids alone")
    return clients or None


def _client(node: Node, name: str, problems: Problems) -> str | None:
    client = text_of(node, name, problems)
    if client is not None and re.search(r"\s", client):
        problems.error(node, f"{name}: found {describe(node)}, a client id has no blanks: write a list of ids")
        return None
    return client


_TOKEN_USE: Final = _choice(("access", "id"), "`access`, `id` or both")


def _token_use(node: Node, name: str, problems: Problems) -> frozenset[str] | None:
    if isinstance(node, Scalar) and node.value == "both":
        return frozenset({"access", "id"})
    if isinstance(node, Items) and node.items:
        return frozenset(use for item in node if (use := _TOKEN_USE(item, name, problems)))
    use = _TOKEN_USE(node, name, problems)
    return None if use is None else frozenset({use})


_LEEWAY: Final = _duration(lambda leeway: leeway <= timedelta(minutes=5), "at most `5m`")


def _warn_of_leeway(entry: _Section, leeway: timedelta) -> None:
    node = entry.node("leeway")
    if node is not None and leeway > _LONG_LEEWAY:
        message = "longer than `60s`: a token stays good that long after its end; let the clocks be set right instead"
        entry.problems.warn(node.source, f"{entry.name('leeway')}: {message}")


def _jwks_uri(node: Node, name: str, problems: Problems) -> str | None:
    uri = text_of(node, name, problems)
    flaw = uri and _flaw(uri)
    if flaw:
        problems.error(node, f"{name}: found {_describe_url(node)}, which {flaw}")
        return None
    return uri


def _describe_url(node: Node) -> str:
    """Say what was found, without repeating a password."""
    return "a URL with `@`" if isinstance(node, Scalar) and "@" in node.text else describe(node)


def _flaw(uri: str) -> str | None:
    """Say why keys must not be fetched from there: whoever can change them can sign every token."""
    if not re.fullmatch(r"[!-\[\]-~]+", uri):
        return "holds blanks or characters that a URL cannot have"
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if "#" in uri:
        return "has a fragment: delete it from `#` on"
    if "@" in parts.netloc:
        return "holds a user name or password: delete it"
    if parts.scheme == "file":
        is_file = not parts.netloc and parts.path.startswith("/") and "?" not in uri
        return None if is_file else "names no local file: write `file:///path`"
    if parts.scheme not in {"http", "https"} or not host:
        return "is not https: write `https://host/path`"
    if parts.scheme == "http" and not _is_loopback(host):
        return "is plain http to another machine: write `https://`"
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback if isinstance(address, IPv4Address) else address == IPv6Address("::1")


# Where tokens are, and what upstreams get.

_HOP_BY_HOP: Final = "it belongs to one connection (RFC 9110 section 7.6.1)"
_REFUSED_HEADERS: Final[Mapping[str, str]] = {
    "connection": _HOP_BY_HOP,
    "keep-alive": _HOP_BY_HOP,
    "proxy-authenticate": _HOP_BY_HOP,
    "proxy-authorization": _HOP_BY_HOP,
    "proxy-connection": _HOP_BY_HOP,
    "te": _HOP_BY_HOP,
    "trailer": _HOP_BY_HOP,
    "transfer-encoding": _HOP_BY_HOP,
    "upgrade": _HOP_BY_HOP,
    "host": "it decides where the request goes",
    "content-length": "it decides where the request ends",
    "authorization": "it holds the caller's credential",
    "cookie": "it holds the caller's cookies",
}


def _folded(header: str) -> str:
    """Fold names that some servers cannot tell apart: CGI and its heirs make `-` and `_` one."""
    return header.replace("_", "-")


def _tokens(node: Node, name: str, problems: Problems) -> tuple[TokenPlace, ...] | None:
    if not isinstance(node, Items) or not node.items:
        expected = "a list of places, such as - header: authorization"
        problems.error(node, f"{name}: found {describe(node)}, expected {expected}")
        return None
    places: list[TokenPlace] = []
    for number, item in enumerate(node):
        place = _token_place(item, f"{name}[{number}]", problems)
        if place in places:
            problems.error(item, f"{name}[{number}]: the {place.kind} `{place.name}` is there twice: delete one")
        elif place is not None:
            places.append(place)
    return tuple(places)


def _token_place(node: Node, name: str, problems: Problems) -> TokenPlace | None:
    section = _section(node, name, ("header", "cookie"), problems)
    if section is None:
        return None
    header = section.read("header", _token_header, None)
    cookie = section.read("cookie", _cookie, None)
    kinds = [kind for kind in ("header", "cookie") if section.node(kind) is not None]
    if len(kinds) == 2 or not section.fields.entries:
        found = "`header` and `cookie` together" if kinds else "neither `header` nor `cookie`"
        problems.error(node, f"{name}: found {found}, expected one: start another entry with `-`")
    if header is not None:
        return TokenPlace("header", header)
    return None if cookie is None else TokenPlace("cookie", cookie)


def _token_header(node: Node, name: str, problems: Problems) -> str | None:
    header = _header(node, name, problems)
    if header == "cookie":
        problems.error(
            node, f"{name}: the header `cookie` holds many values: write `cookie: <its name>` for one of them"
        )
        return None
    return header


def _identity_headers(node: Node, name: str, problems: Problems) -> IdentityHeaders | None:
    fields = _map(node, name, problems)
    if fields is None:
        return None
    headers: dict[str, tuple[str, ...]] = {}
    owners: dict[str, str] = {}  # folded name → as it was written
    for key, value in fields.entries:
        claims = _claim_names(value, f"{name}.{key.text}", problems)
        header = _identity_header(key, name, problems)
        if header is None or claims is None:
            continue
        owner = owners.setdefault(_folded(header), key.text)
        if owner != key.text:
            problems.error(key, f"{name}.{key.text}: the same header as `{owner}`: delete one")
        headers[header] = claims
    return tuple(headers.items())


def _identity_header(node: Scalar, name: str, problems: Problems) -> str | None:
    if node.text.startswith(":"):
        problems.error(node, f"{name}.{node.text}: refused, because Envoy lets nobody set a pseudo-header")
        return None
    header = _header(node, name, problems)
    why = None if header is None else _REFUSED_HEADERS.get(_folded(header))
    if why:
        problems.error(node, f"{name}.{node.text}: refused, because {why}: use another header")
        return None
    return header


def _claim_names(node: Node, name: str, problems: Problems) -> tuple[str, ...] | None:
    items = _filled_list(node, name, "names of claims", problems)
    names = tuple(claim for item in items if (claim := text_of(item, name, problems)))
    return names if names and len(names) == len(items) else None


def _pomerium_headers(node: Node, name: str, problems: Problems) -> IdentityHeaders | None:
    """Read Pomerium's `jwt_claims_headers`: a map as ours, or claim names that each give `x-pomerium-claim-<name>`."""
    if isinstance(node, Fields):
        return _identity_headers(node, name, problems)
    items: Sequence[Node]
    if isinstance(node, Items):
        items = node.items
    elif isinstance(node.value, str):
        items = [Scalar(node.source, word, word) for word in re.split(r"[, \t]+", node.value) if word]
    else:
        problems.error(node, f"{name}: found {describe(node)}, expected a map of headers to claims")
        return None
    headers: dict[str, tuple[str, ...]] = {}
    for item in items:
        claim = text_of(item, name, problems)
        if claim is not None and not _TOKEN.fullmatch(claim):
            advice = f"write a map, {name}: {{x-pomerium-claim-…: {claim}}}"
            problems.error(item, f"{name}: `x-pomerium-claim-{claim}` is not a possible header name: {advice}")
        elif claim is not None and f"x-pomerium-claim-{claim.lower()}" in headers:
            problems.error(item, f"{name}: `x-pomerium-claim-{claim.lower()}` is there twice: delete one")
        elif claim is not None:
            headers[f"x-pomerium-claim-{claim.lower()}"] = (claim,)
    return tuple(headers.items())


def _read_identity_headers(root: _Section) -> IdentityHeaders:
    ours, theirs = root.node("identity_headers"), root.node("jwt_claims_headers")
    if theirs is None:
        return root.read("identity_headers", _identity_headers, DEFAULT_IDENTITY_HEADERS)
    headers = root.read("jwt_claims_headers", _pomerium_headers, DEFAULT_IDENTITY_HEADERS)
    if ours is not None:
        root.read("identity_headers", _identity_headers, DEFAULT_IDENTITY_HEADERS)
        root.problems.error(
            theirs, "jwt_claims_headers: `identity_headers` is there too and means the same: delete one"
        )
    if root.node("pass_identity_headers") is None:
        message = "without `pass_identity_headers` they are passed on here, and not by Pomerium: write it out"
        root.problems.warn(theirs.source, f"jwt_claims_headers: {message}", Severity.NOTE)
    return headers


def _refuse_overlaps(root: _Section, settings: Settings) -> None:
    """Refuse what excludes each other though each alone is fine."""
    identity = {_folded(header) for header, _ in settings.identity_headers}
    tokens = [place.name for place in settings.tokens if place.kind == "header"]
    inputs = [("tokens", header) for header in tokens] + [("client_ip_header", settings.client_ip_header or "")]
    for key, header in inputs:
        node = root.node(key)
        if node is not None and _folded(header) in identity:
            message = f"`{header}` is an identity header too, and those are overwritten: use another name for one"
            root.problems.error(node, f"{key}: {message}")
    if settings.admin is not None and _overlap(settings.listen, settings.admin):
        place = root.node("admin") or root.node("listen") or root.fields
        root.problems.error(place, "admin: the same address as `listen`: use another port")


# The other sections.


def _claims(node: Node, name: str, problems: Problems) -> Mapping[str, ClaimSettings] | None:
    fields = _map(node, name, problems)
    if fields is None:
        return None
    claims = {}
    for key, value in fields.entries:
        section = _section(value, f"{name}.{key.text}", ("split", "alias"), problems)
        if section is not None:
            claims[key.text] = _claim(section)
    return claims


def _claim(section: _Section) -> ClaimSettings:
    if len(section.fields.entries) != 1:
        found = "`split` and `alias` together" if section.fields.entries else "neither `split` nor `alias`"
        advice = "to split an alias, split the claims that it lists"
        name = section.name("split").removesuffix(".split")
        section.problems.error(section.fields, f"{name}: found {found}, expected one; {advice}")
    return ClaimSettings(split=section.read("split", _split, None), alias=section.read("alias", _claim_names, ()))


def _split(node: Node, name: str, problems: Problems) -> str | None:
    if isinstance(node, Scalar) and isinstance(node.value, str) and (len(node.value) == 1 or node.value == BRACKETS):
        return node.value
    problems.error(node, f"{name}: found {describe(node)}, expected one character in quotes, or `{BRACKETS}`")
    return None


_AT_LEAST_A_SECOND: Final = _duration(lambda duration: duration >= timedelta(seconds=1), "at least `1s`")
_TIMEOUT: Final = _duration(
    lambda timeout: timedelta() < timeout <= timedelta(seconds=60), "more than `0s` and at most `60s`"
)


def _jwks(root: _Section) -> JwksSettings:
    jwks = root.section("jwks", ("refresh", "cooldown", "timeout", "max_stale", "cache_dir"))
    default = JwksSettings()
    settings = JwksSettings(
        refresh=jwks.read("refresh", _AT_LEAST_A_SECOND, default.refresh),
        cooldown=jwks.read("cooldown", _AT_LEAST_A_SECOND, default.cooldown),
        timeout=jwks.read("timeout", _TIMEOUT, default.timeout),
        max_stale=jwks.read("max_stale", duration_of, default.max_stale),
        cache_dir=jwks.optional("cache_dir", _path),
    )
    if settings.max_stale < settings.refresh:
        place = jwks.node("max_stale") or jwks.node("refresh") or jwks.fields
        message = "shorter than `refresh`: good keys would be dropped before new ones are fetched; make it longer"
        root.problems.error(place, f"jwks.max_stale: {message}")
    return settings


_LEVELS: Final[tuple[LogLevel, ...]] = ("debug", "info", "warning", "error")
_FORMATS: Final[tuple[LogFormat, ...]] = ("json", "text")
_DECISIONS: Final[tuple[LoggedDecisions, ...]] = ("all", "denied", "none")


def _log(root: _Section) -> LogSettings:
    log = root.section("log", ("level", "format", "decisions", "explain_values"))
    return LogSettings(
        level=log.read("level", _choice(_LEVELS), "info"),
        format=log.read("format", _choice(_FORMATS), "json"),
        decisions=log.read("decisions", _choice(_DECISIONS), "all"),
        explain_values=log.read("explain_values", _boolean, default=False),
    )


def _tls(node: Node, name: str, problems: Problems) -> TlsSettings | None:
    tls = _section(node, name, ("certificate", "key", "client_ca"), problems)
    if tls is None:
        return None
    certificate = tls.mandatory("certificate", _certificates, "write the path of a PEM file")
    key = tls.mandatory("key", _file, "write the path of a PEM file")
    # `null` is no way to leave it out: whoever writes the key means to demand certificates.
    client_ca = tls.read("client_ca", _certificates, None)
    return None if certificate is None or key is None else TlsSettings(certificate, key, client_ca)


def _workers(node: Node, name: str, problems: Problems) -> int | None:
    workers = _positive(node, name, problems)
    if workers is not None and workers > 1:
        problems.error(node, f"{name}: more than 1 is not supported yet: write 1")
    return workers


def _policies(root: _Section, path: Path) -> tuple[Path, bool]:
    """Give where the policies are, and whether that is the configuration file itself."""
    node = root.node("policies")
    own = next((key for key in _INLINE if root.node(key) is not None), None)
    if own is None:
        policies = root.mandatory("policies", _path, "write a folder, or `routes:` with the policies themselves")
        return policies or path, False
    if node is not None:
        root.problems.error(node, f"policies: `{own}` is in the configuration file too: keep one of them")
    return path, True


_INLINE: Final = ("routes", "policy")
_NOT_YET: Final = ("enrich_from", "denied_redirect", "denied_pages", "revocations")
_KEYS: Final = (
    "listen", "workers", "admin", "policies", *_INLINE, "cognito", "tokens", "hide_credentials", "identity_headers",
    "jwt_claims_headers", "pass_identity_headers", "jwks", "log", "tls", "claims", "allow_path_parameters",
    "require_end", "show_error_details", "client_ip_header", "client_certificate_ca", "max_header_bytes",
)  # fmt: skip


def _settings(root: _Section, path: Path) -> Settings:
    policies, inline = _policies(root, path)
    settings = Settings(
        policies=policies,
        inline=inline,
        pools=root.mandatory("cognito", _pools, "write a list with at least one `user_pool`") or (),
        listen=root.read("listen", _address(f"{_ADDRESSES} or `unix:///path`"), DEFAULT_LISTEN),
        admin=_admin(root),
        workers=root.read("workers", _workers, 1),
        tokens=root.read("tokens", _tokens, DEFAULT_TOKENS),
        hide_credentials=root.read("hide_credentials", _boolean, default=False),
        identity_headers=_read_identity_headers(root),
        pass_identity_headers=root.read("pass_identity_headers", _boolean, default=True),
        jwks=_jwks(root),
        log=_log(root),
        tls=root.read("tls", _tls, None),  # `null` is an error: it would mean plain text
        claims=root.read("claims", _claims, {}),
        allow_path_parameters=root.read("allow_path_parameters", _boolean, default=False),
        require_end=root.read("require_end", _boolean, default=False),
        show_error_details=root.read("show_error_details", _boolean, default=False),
        client_ip_header=root.optional("client_ip_header", _header),
        client_certificate_ca=root.optional("client_certificate_ca", _certificates),
        max_header_bytes=root.read("max_header_bytes", _positive, 8192),
    )
    _refuse_overlaps(root, settings)
    return settings
