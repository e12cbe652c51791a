"""CheckRequest → Request. Protobuf stops here.

Every field of Envoy's message is optional; an absent one is empty here. Headers come in one of two encodings, and in a
request that is decided again nearly none of them is read, so each is translated when somebody asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Final

from authz.model import Request
from authz.pb import external_auth_pb2 as pb

NOBODY: Final = Request("", "", "", {})
"""Stands for a request that was not read."""

_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")


def to_request(check: pb.CheckRequest, client_ip_header: str | None = None) -> Request:
    """Translate Envoy's message. Every field is optional there; an absent one is empty here."""
    attributes = check.attributes
    http = attributes.request.http
    headers = _headers(http)
    extensions = attributes.context_extensions
    return Request(
        method=http.method,
        host=http.host,
        path=http.path,
        headers=headers,
        source_ip=client_address(attributes.source.address.socket_address.address, headers, client_ip_header),
        route_id=extensions["route"] if "route" in extensions else None,  # noqa: SIM401 - a protobuf map is no dict
        certificate=attributes.source.certificate,
        scheme=http.scheme,
    )


def _headers(http: pb.AttributeContext.HttpRequest) -> Mapping[str, tuple[str, ...]]:
    """Give the headers by lower-case name, from whichever of the two encodings Envoy was told to use.

    Nearly always every name is in lower case, as Envoy sends them, and stands there once.
    """
    raw = http.header_map.headers
    if raw:
        by_name = {entry.key: entry for entry in raw}
        names = "\n".join(by_name)
        if len(by_name) == len(raw) and _are_lower(names):
            return _RawHeaders(by_name, names)
    elif _are_lower("\n".join(http.headers)):
        return {name: (value,) for name, value in http.headers.items()}
    pairs = ((entry.key, _value(entry)) for entry in raw) if raw else http.headers.items()
    apart: dict[str, list[str]] = {}
    for key, value in pairs:
        apart.setdefault(_lower(key), []).append(value)
    return {name: tuple(values) for name, values in apart.items()}


def _are_lower(names: str) -> bool:
    return names.isascii() and names == names.lower()


class _RawHeaders(Mapping[str, tuple[str, ...]]):
    """Headers that each stand there once; a value is read when somebody asks for it, and few are asked for."""

    __slots__ = ("_entries", "names")

    def __init__(self, entries: Mapping[str, pb.HeaderValue], names: str) -> None:
        """`names`: all of them, a line each."""
        self._entries = entries
        self.names = names

    def __getitem__(self, name: str) -> tuple[str, ...]:
        return (_value(self._entries[name]),)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - any default, as Mapping says
        """As a dictionary's; the inherited one pays for an exception where there is no such header."""
        entry = self._entries.get(name)
        return default if entry is None else (_value(entry),)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _value(entry: pb.HeaderValue) -> str:
    """Read a value as UTF-8, which answers are written in: cookies that are written back must be what they were.

    A value that is no UTF-8 is read as Latin-1 (RFC 9110 section 5.5), whole. Written back, its lone bytes arrive as
    UTF-8, since a text of protobuf can hold nothing else; in its other encoding Envoy makes each of them a `!`.
    """
    raw = entry.raw_value
    if not raw:
        return entry.value
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _lower(name: str) -> str:
    return name.lower() if name.isascii() else name  # `K` (Kelvin) would become `k`


def client_address(peer: str, headers: Mapping[str, tuple[str, ...]], header: str | None) -> str:
    """Give the TCP peer, or what the configured header says; a header that holds no single address is no address."""
    if header is None:
        return peer
    values = headers.get(header, ())
    if len(values) != 1:
        return ""
    try:
        return str(ip_address(values[0]))
    except ValueError:
        return ""


def request_id_of(request: Request) -> str:
    """Give `x-request-id` where it is fit to be shown; empty otherwise."""
    value = request.header("x-request-id")
    return value if _REQUEST_ID.fullmatch(value) else ""


def has_aliases(request: Request) -> bool:
    """Tell whether some header's name could be another spelling of one with hyphens."""
    headers = request.headers
    return not are_plain(headers.names if isinstance(headers, _RawHeaders) else "\n".join(headers))


_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-:\n"  # the colon is that of pseudo-headers


def are_plain(names: str) -> bool:
    """Tell whether names, a line each, are of letters, digits and hyphens alone; the cheapest way there is."""
    return not names.encode().translate(None, _PLAIN)
