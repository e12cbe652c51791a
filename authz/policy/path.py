r"""The one definition of a request's path, host and method; and what its `connection` header may ask for.

A decision is worth nothing when the upstream reads the path differently, so everything that two programs could read
differently is refused (RequestError, 400) and the rest is brought into one form (RFC 3986 section 6.2.2): escapes of
unreserved characters are decoded, characters that no path may hold are escaped (Envoy's `normalize_path` does it too,
measured with 1.40), hex digits are upper-case. No URL parser is used: Python's reads `//admin` as a host
(CVE-2026-26205 was that trap).

Refused: dot segments (also before a `;`), `//`, `\`, `#`, encoded `/ \ ; .` and control characters, `%25` before two
hex digits, bad escapes, escapes that are not UTF-8 (overlong `/` hides there), blanks, control and non-ASCII bytes;
`;` parameters unless they are allowed, and then they are removed before matching; and such paths when they are long, so
that nobody makes us work for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address
from itertools import product
from typing import Final, NamedTuple

from authz.errors import RequestError

_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~"
)  # `.` stays refused

# RFC 3986 section 3.3 lets a path hold these only as escapes, so `{` and `%7B` are one path.
_ALWAYS_ESCAPED: Final = '"<>[]^`{|}'
_TO_ESCAPES: Final = str.maketrans({character: f"%{ord(character):02X}" for character in _ALWAYS_ESCAPED})

# The ordinary path: nothing to decode or to escape, nothing to refuse but empty and dot segments.
_PLAIN: Final = re.compile(r"[!-~]*", re.ASCII)
_SPECIAL: Final = re.compile(rf"[%;\\#{re.escape(_ALWAYS_ESCAPED)}]|//|/\.")
_REFUSED_ESCAPE: Final = re.compile(r"%(?:(2[Ff]|5[Cc]|3[Bb]|2[Ee])|([01][0-9A-Fa-f]|7[Ff])|(?![0-9A-Fa-f]{2}))")
_DOUBLE_ESCAPE: Final = re.compile(r"%25[0-9A-Fa-f]{2}")

_METHOD: Final = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 token without lower case
_ORDINARY_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HOST: Final = re.compile(r"([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?(?::([1-9][0-9]{0,4}))?")
_HOST_IPV6: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([1-9][0-9]{0,4}))?")
MAX_PORT: Final = 65535


class Host(NamedTuple):
    """A host in the form it is compared in: lower case, no trailing dot; the port apart, None when not given."""

    name: str
    port: int | None


MAX_ESCAPED_LENGTH: Final = 4096
"""Characters of a path with escapes, `;` or a segment that begins with a dot: to read one takes time for each."""


def canonical_path(raw: str, *, allow_parameters: bool = False) -> str:
    """Give the path of `raw` (path and query, as Envoy sends it) in the form that is matched.

    Raises RequestError for a path that cannot be judged safely.
    """
    if not _PLAIN.fullmatch(raw):
        raise RequestError("the path holds a blank, a control byte or a byte outside ASCII")
    path, _, query = raw.partition("?")
    if "#" in query:
        raise RequestError("the path holds a fragment")
    if not path.startswith("/"):
        raise RequestError("the path does not start with `/`")
    if not _SPECIAL.search(path):
        return path
    return _normal_form(path, allow_parameters)


def _normal_form(path: str, allow_parameters: bool) -> str:
    if len(path) > MAX_ESCAPED_LENGTH:
        raise RequestError(f"the path is longer than {MAX_ESCAPED_LENGTH} characters and not in its plainest form")
    if "\\" in path or "#" in path:
        raise RequestError("the path holds a backslash or a fragment")
    path = _decode_unreserved(path.translate(_TO_ESCAPES))
    if _DOUBLE_ESCAPE.search(path):
        raise RequestError("the path holds a doubly encoded character")
    _check_utf8(path)
    segments = path.split("/")[1:]
    names = [segment.partition(";")[0] for segment in segments]
    if "." in names or ".." in names:
        raise RequestError("the path holds a dot segment")
    if ";" in path:
        if not allow_parameters:
            raise RequestError("the path holds `;` parameters (allow_path_parameters is off)")
        segments = names
    if "" in segments[:-1]:
        raise RequestError("the path holds an empty segment (`//`)")
    return "/" + "/".join(segments)


def _decode_unreserved(path: str) -> str:
    """Decode the escapes of unreserved characters and write the others in upper case. RequestError: see the top."""
    refused = _REFUSED_ESCAPE.search(path)
    if refused is None:
        first, *rest = path.split("%")
        return first + "".join([_ESCAPED[part[:2]] + part[2:] for part in rest])
    separator, control = refused.groups()
    if separator:
        raise RequestError(f"the path holds an encoded `{chr(int(separator, 16))}`")
    if control:
        raise RequestError("the path holds an encoded control character")
    raise RequestError("the path holds `%` without two hex digits")


_HEX_DIGITS: Final = "0123456789abcdefABCDEF"
# What stands for an escape in the canonical path, by its two digits in whatever case.
_ESCAPED: Final = {
    digits: chr(byte) if (byte := int(digits, 16)) in _UNRESERVED else f"%{digits.upper()}"
    for digits in map("".join, product(_HEX_DIGITS, repeat=2))
}


def _check_utf8(path: str) -> None:
    try:
        decoded_path(path)
    except UnicodeDecodeError:
        raise RequestError("the path holds escapes that are not UTF-8") from None


def decoded_path(canonical: str) -> str:
    """Give the canonical path with its remaining escapes decoded: what the criterion `http_path` sees."""
    return _decoded(canonical) if "%" in canonical else canonical


@lru_cache(maxsize=64)  # every `http_path` of a route asks for the same one; none is longer than MAX_ESCAPED_LENGTH
def _decoded(canonical: str) -> str:
    first, *rest = canonical.encode("ascii").split(b"%")
    return b"".join([first, *[_BYTES[part[:2]] + part[2:] for part in rest]]).decode("utf-8")


_BYTES: Final = {b"%02X" % byte: bytes((byte,)) for byte in range(256)}


def decoded_text(text: str) -> str:
    """Give text that a policy compares with the decoded path, but holds escapes, as it must be written.

    Raises RequestError, with the reason, for escapes that are in no request's path.
    """
    escaped = "".join(char if char.isascii() else _escape(char) for char in text)
    escaped = _decode_unreserved(_LONE_PERCENT.sub("%25", escaped))
    if _DOUBLE_ESCAPE.search(escaped):
        raise RequestError("the path holds a doubly encoded character")
    _check_utf8(escaped)
    return decoded_path(escaped)


_LONE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def canonical_host(raw: str) -> Host:
    """Give the host of `raw` (an authority: host, perhaps with a port).

    Raises RequestError for an empty host, a list of hosts, userinfo, blanks, and what is no host name or address.
    """
    if len(raw) > MAX_HOST_LENGTH:  # it would fill the memory of those who keep hosts, and its answer
        raise RequestError(f"the host is longer than {MAX_HOST_LENGTH} characters")
    return _known_host(raw)


MAX_HOST_LENGTH: Final = 255 + len(":65535")  # characters; RFC 1035 section 2.3.4, and a port


def _read_host(raw: str) -> Host:
    match = _HOST.fullmatch(raw)
    if match is not None:
        name = match.group(1).lower()
    else:
        match = _HOST_IPV6.fullmatch(raw)
        if match is None:
            raise RequestError("the host is empty, or not one plain host name with an optional port")
        name = _ipv6(match.group(1))
    port = match.group(2)
    if port is None:
        return Host(name, None)
    if int(port) > MAX_PORT:
        raise RequestError("the host's port is out of range")
    return Host(name, int(port))


_known_host: Final = lru_cache(maxsize=1024)(_read_host)  # a few come again and again; refusals are not kept


def _ipv6(text: str) -> str:
    try:
        return f"[{IPv6Address(text)}]"
    except ValueError:
        raise RequestError("the host is not an IPv6 address") from None


def check_method(method: str) -> None:
    """Refuse (RequestError) a method that is not an upper-case token: HTTP methods are case-sensitive."""
    if method not in _ORDINARY_METHODS and not _METHOD.fullmatch(method):
        raise RequestError("the method is not an upper-case token")


def check_connection(values: Iterable[str]) -> None:
    """Refuse (RequestError) `connection` headers that name headers: the next hop would take those away.

    RFC 9110 section 7.6.1; identity headers could be named. Envoy keeps `connection` where it lets a request upgrade.
    """
    for option in ",".join(values).split(","):
        if not _CONNECTION_OPTION.fullmatch(option):
            raise RequestError("the `connection` header names other headers")


_CONNECTION_OPTION: Final = re.compile(
    r"[ \t]*(?:close|keep-alive|upgrade|http2-settings|te)?[ \t]*", re.ASCII | re.IGNORECASE
)


def canonical_pattern(text: str, *, prefix: bool = False) -> str:
    """Give a policy's `path:` (or `prefix:`) in the form that requests are matched in.

    Raises RequestError, with the reason, for text that no request can ever match. Text outside ASCII is what its
    author meant: the escapes that a client sends for it. A prefix may end inside a segment: `/.` is one.
    """
    if "?" in text:
        raise RequestError("the query is not part of the path")
    if ";" in text:
        raise RequestError("`;` parameters are refused, or removed before matching")
    odd = _BLANK_OR_CONTROL.search(text)
    if odd is not None:
        found = "a blank: write `%20` for it" if odd[0] == " " else "a control character"
        raise RequestError(f"the path holds {found}")
    escaped = "".join(char if char.isascii() else _escape(char) for char in text)
    return canonical_path(escaped + "x")[:-1] if prefix else canonical_path(escaped)


_BLANK_OR_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")


def _escape(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8"))
