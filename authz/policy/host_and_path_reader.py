"""`from` and `prefix`, `path` or `regex`: which requests a route is for."""

from __future__ import annotations

import re
from typing import Any, Final

import re2

from authz.errors import RequestError
from authz.node import Fields, Node, Problems, shorten
from authz.policy.path import MAX_PORT, Host, canonical_host, canonical_pattern
from authz.policy.routes import HostMatcher, PathKind, PathMatcher
from authz.reading import text_of

_FROM = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_WILDCARD_HOST = re.compile(r"([A-Za-z0-9_.*-]+)(?::([1-9][0-9]{0,4}))?")
PATH_ORDER: Final = (PathKind.REGEX, PathKind.PATH, PathKind.PREFIX)  # the first that is there wins, as in Pomerium


def read_host(node: Fields, what: str, problems: Problems) -> HostMatcher | None:
    """Read `from`: a scheme, a host, perhaps a port. None after adding a problem."""
    value = node.get("from")
    if value is None:
        problems.error(node, f"{what}: `from` is missing: write from: https://HOST")
        return None
    text = text_of(value, f"{what}: `from`", problems)
    if text is None:
        return None
    match = _FROM.fullmatch(text)
    scheme = match["scheme"].lower() if match else ""
    if match is None or scheme not in _DEFAULT_PORTS:
        hint = "" if match else _instead_of(text)
        if "+" in scheme or scheme == "ssh":
            hint = ": TCP, UDP and SSH tunnels are not HTTP requests"
        problems.error(value, f"{what}: `from`: found `{shorten(text)}`, expected https://HOST or http://HOST{hint}")
        return None
    if match["rest"] not in ("", "/"):
        problems.error(value, f"{what}: `from`: {_after_host(scheme, match['authority'], match['rest'])}")
        return None
    host = _host_matcher(match["authority"], _DEFAULT_PORTS[scheme])
    if host is None:
        problems.error(
            value,
            f"{what}: `from`: found `{shorten(text)}`, whose host is no host name: write it in ASCII letters, "
            "digits, `-`, `_`, `.` and `*`, perhaps with a port up to 65535",
        )
    return host


_ALMOST_SCHEME: Final = re.compile(r"(https?)(?=[^\w*\[]*[:/])[^\w*\[]+(.+)", re.IGNORECASE | re.DOTALL)
_LATE_PORT: Final = re.compile(r"/+(:[0-9]+)/?")


def _instead_of(text: str) -> str:
    """Say how a text without a scheme is meant, as `https//a.example` or `a.example`."""
    almost = _ALMOST_SCHEME.fullmatch(text)
    scheme, rest = (almost[1].lower(), almost[2]) if almost else ("https", text.lstrip("/"))
    return f": write {scheme}://{shorten(rest)}"


def _after_host(scheme: str, authority: str, rest: str) -> str:
    """Say what is wrong with whatever stands behind the host."""
    if authority.lower().rstrip(":") in _DEFAULT_PORTS and rest.startswith("//"):
        written = f"{scheme}://{authority}{rest}"
        return f"found `{shorten(written)}`, which has two schemes: write {scheme}://{shorten(rest.lstrip('/'))}"
    if not authority:
        return f"found `{shorten(f'{scheme}://{rest}')}`, which has no host: write {scheme}://HOST"
    port = _LATE_PORT.fullmatch(rest)
    if port is not None:
        return f"found `{rest}` after the host: a port stands before the slash, write {scheme}://{authority}{port[1]}"
    return f"found `{shorten(rest)}` after the host: write it as `prefix:` or `path:`"


def _host_matcher(authority: str, default_port: int) -> HostMatcher | None:
    if "*" not in authority:
        try:
            host = canonical_host(authority)
        except RequestError:
            return None
        return HostMatcher(host.name, _explicit_port(host, default_port))
    match = _WILDCARD_HOST.fullmatch(authority)
    port = int(match[2]) if match and match[2] else None
    if match is None or ".." in match[1] or (port is not None and port > MAX_PORT):
        return None
    name = match[1].lower().rstrip(".")
    pattern = ".*".join(re2.escape(part) for part in name.split("*"))
    return HostMatcher(name, None if port == default_port else port, _compile(pattern))


def read_path(node: Fields, what: str, problems: Problems) -> PathMatcher | None:
    """Read the matcher: `regex`, else `path`, else `prefix`, else everything. None after adding a problem."""
    given = [(kind, found) for kind in PATH_ORDER if (found := node.get(kind)) is not None]
    if not given:
        return PathMatcher(PathKind.ANY)
    matchers = [_path_matcher(kind, found, what, problems) for kind, found in given]
    for kind, found in given[1:]:
        problems.warn(
            found.source,
            f"{what}: `{kind}` has no effect, because `{given[0][0]}` is there and wins: delete one of them",
        )
    return None if None in matchers else matchers[0]


def _path_matcher(kind: PathKind, node: Node, what: str, problems: Problems) -> PathMatcher | None:
    text = text_of(node, f"{what}: `{kind}`", problems)
    if text is None:
        return None
    if kind is PathKind.REGEX:
        try:
            return PathMatcher(kind, text, _compile(text), node.source)
        except re2.error as error:
            problems.error(node, f"{what}: `regex`: not an RE2 pattern: {_re2_message(error)}")
            return None
    try:
        return PathMatcher(kind, canonical_pattern(text, prefix=kind is PathKind.PREFIX), source=node.source)
    except RequestError as error:
        problems.error(
            node,
            f"{what}: `{kind}`: no request can match `{shorten(text)}`, because {error}",
        )
        return None


def _explicit_port(host: Host, default_port: int) -> int | None:
    return None if host.port == default_port else host.port


_RE2 = re2.Options()
_RE2.log_errors = False


def _compile(pattern: str) -> Any:  # noqa: ANN401 - RE2 has no type stubs
    return re2.compile(pattern, _RE2)


def _re2_message(error: Exception) -> str:
    message = error.args[0] if error.args else error
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
