"""What both importers need: values as the sources write them, issuers, upstream addresses, names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import re2

from authz.errors import LoadError, Problem, RequestError
from authz.model import Json, Source
from authz.node import Fields, Items, Node, Scalar, shorten
from authz.policy.path import canonical_pattern
from authz.settings.pools import DISCOVERY, POOL_ID
from authz.workbench.importers.ledger import Ledger
from authz.workbench.importers.model import Caller, Target

MAX_SOURCE_BYTES: Final = 16 * 1024 * 1024
SECRET_NAME: Final = re.compile(r"authorization|cookie|token|key|secret|passw|credential", re.IGNORECASE)
_PLACEHOLDER: Final = re.compile(r"\$\{|\{vault:|<[A-Z_-]+>")
_AWS_HOST: Final = re.compile(r"cognito-idp\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")


def read_source(path: Path) -> bytes:
    """Read the source file. Raises LoadError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"cannot be read: {error.strerror or type(error).__name__}: name a file"
        raise LoadError([Problem(Source(str(path), 1, 1), message)]) from None
    if len(data) > MAX_SOURCE_BYTES:
        raise LoadError([Problem(Source(str(path), 1, 1), f"larger than {MAX_SOURCE_BYTES >> 20} MiB")])
    return data


def plain(node: Node) -> Any:  # noqa: ANN401 - any JSON-like value
    """Give a node's value without its places."""
    match node:
        case Fields():
            return {key.text: plain(value) for key, value in node.entries}
        case Items():
            return [plain(item) for item in node.items]
        case Scalar():  # pragma: no branch - the last kind there is
            return node.value


def text_in(node: Node | None) -> str:
    """Give a scalar as it is written; empty for nothing, a map or a list."""
    return node.text if isinstance(node, Scalar) and node.value is not None else ""


def texts_in(node: Node | None, separator: str | None = None) -> tuple[str, ...]:
    """Give a list's texts; a single scalar is a list of one, or split at the separator."""
    if isinstance(node, Items):
        return tuple(item.text for item in node.items if isinstance(item, Scalar) and item.value is not None)
    text = text_in(node)
    if not text:
        return ()
    return tuple(text.split(separator)) if separator else (text,)


def is_on(node: Node | None) -> bool:
    """Read a switch as Go's strconv.ParseBool does, because Pomerium's loader is as lenient."""
    return text_in(node) in ("1", "t", "T", "true", "TRUE", "True")


_DROPPED_SCOPES: Final[Mapping[str, str]] = {
    "offline_access": "Cognito refuses it, and gives a refresh token without",
    "aws.cognito.signin.user.admin": "with it, an access token can rewrite its user's attributes. This narrows: such "
    "calls to Cognito fail, and a rule that demands the scope refuses who signs in with a browser",
}


def carry_scopes(ledger: Ledger, path: str, node: Node | None, wanted: Iterable[str]) -> tuple[str, ...]:
    """Give the scopes that Envoy asks Cognito for, `openid` first, and note what was dropped."""
    scopes = list(dict.fromkeys(wanted))
    dropped = [f"`{scope}` is dropped: {why}" for scope, why in _DROPPED_SCOPES.items() if scope in scopes]
    if node is not None and dropped:
        ledger.changed(path, node, "; ".join(["`envoy.yaml`: oauth2 `auth_scopes`", *dropped]))
    elif node is not None:
        added = "" if "openid" in scopes else ", with `openid`"
        ledger.carried(path, node, f"`envoy.yaml`: oauth2 `auth_scopes`{added}")
    return tuple(dict.fromkeys(["openid", *(scope for scope in scopes if scope not in _DROPPED_SCOPES)]))


def is_placeholder(text: str) -> bool:
    """Tell whether a value is still to be filled in: `${NAME}`, a vault reference, `<REGION>`."""
    return _PLACEHOLDER.search(text) is not None


class IssuerName(NamedTuple):
    """A user pool as its issuer names it."""

    issuer: str
    region: str  # empty when the issuer is not AWS's own
    pool_id: str


def issuer_name(url: str) -> IssuerName | None:
    """Read an issuer or discovery URL of a Cognito pool; None for another provider's."""
    issuer = url.strip().removesuffix("/").removesuffix(DISCOVERY).removesuffix("/")
    try:
        parts = urlsplit(issuer)
        host = parts.hostname or ""
    except ValueError:
        return None
    pool_id = parts.path.rpartition("/")[2]
    if parts.scheme not in ("http", "https") or not POOL_ID.fullmatch(pool_id) or "@" in parts.netloc:
        return None
    match = _AWS_HOST.fullmatch(host)
    return IssuerName(issuer, match[1] if match else "", pool_id)


def path_problem(kind: str, text: str) -> str | None:
    """Say why a route's path cannot be matched here; None when it can."""
    if not text:
        return "found empty text, expected a path"
    try:
        if kind == "regex":
            re2.compile(text, _RE2)
        else:
            canonical_pattern(text, prefix=kind == "prefix")
    except re2.error:
        return f"found `{shorten(text)}`, which is no RE2 pattern (no look-ahead, no back-references): write another"
    except RequestError as error:
        return f"no request can match `{shorten(text)}`, because {error}: correct it, or delete the route"
    return None


_RE2: Final = re2.Options()
_RE2.log_errors = False


def split_address(url: str) -> SplitResult | None:
    """Read an upstream's URL; None when it is none."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if usable else None


def target_of(parts: SplitResult, weight: int | None = None) -> Target:
    """Give the address of an upstream's URL."""
    return Target(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), weight)


def slug(text: str) -> str:
    """Make a name of text: letters, digits and dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "any"


def unique(name: str, taken: Iterable[str]) -> str:
    """Give the name, or the first of name-2, name-3 … that is free."""
    used = set(taken)
    number, candidate = 1, name
    while candidate in used:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def caller(claims: dict[str, Json], *, allowed: bool | None) -> Caller:
    """Name a caller of the policy tests after its claims."""
    words = [f"{name} {_flat(value)}" for name, value in claims.items() if name != "email_verified"]
    return Caller(slug(" ".join(words)) or "somebody", claims, allowed)


def _flat(value: Json) -> str:
    return " ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def finish(ledger: Ledger) -> None:
    """Raise LoadError when something stops the import."""
    if ledger.problems.errors:
        raise LoadError(ledger.problems.errors)
