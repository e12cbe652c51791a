"""The addresses to listen on: `listen` and `admin`."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final

from authz.node import Node, Problems, Scalar, describe
from authz.settings.types import DEFAULT_ADMIN, DEFAULT_LISTEN, Listen, Settings
from authz.settings.values import UNPRINTABLE, Reader, Section, positive_of

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_PORT = re.compile(r"[0-9]{1,5}")
_MAX_PORT: Final = 65535
MAX_WORKERS: Final = 256  # more than any machine has cores for; each takes memory and a port
_MAX_SOCKET_PATH: Final = 107  # bytes; the kernel's `sun_path` is 108 with its closing zero


def _address_of(expected: str) -> Reader[Listen]:
    def read(node: Node, name: str, problems: Problems) -> Listen | None:
        text = node.value if isinstance(node, Scalar) and isinstance(node.value, str) else ""
        address = parse_address(text)
        if address is None:
            limit = f"; a socket's path has at most {_MAX_SOCKET_PATH} bytes" if text.startswith("unix:") else ""
            problems.error(node, f"{name}: found {describe(node)}, expected {expected}{limit}")
        return address

    return read


def parse_address(text: str) -> Listen | None:
    """Read an address; None when it is none."""
    return _socket(text.removeprefix("unix://")) if text.startswith("unix:") else _host_and_port(text)


_ADDRESSES: Final = "`host:port`, `:port`, `[::1]:port`"
LISTEN_FORMS: Final = f"{_ADDRESSES} or `unix:///path`"
_LISTEN: Final = _address_of(LISTEN_FORMS)
_ADMIN: Final = _address_of(f"{_ADDRESSES}, `unix:///path` or `off`")


def _socket(path: str) -> Listen | None:
    is_path = path.startswith("/") and not path.endswith("/") and not UNPRINTABLE.search(path)
    return Listen(path=path) if _fits(path) and is_path else None


def _fits(path: str) -> bool:
    return len(path.encode(errors="replace")) <= _MAX_SOCKET_PATH


def _host_and_port(text: str) -> Listen | None:
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > _MAX_PORT:
        return None
    if host.startswith("[") and host.endswith("]"):
        try:
            return Listen(str(IPv6Address(host[1:-1])), int(port))
        except ValueError:
            return None
    return Listen(host, int(port)) if not host or _HOST.fullmatch(host) else None


def read_listen(root: Section) -> Listen:
    """Read where Envoy finds us."""
    return root.read("listen", _LISTEN, DEFAULT_LISTEN)


def read_admin(root: Section) -> Listen | None:
    """Read where operators find us; None if nowhere."""
    node = root.node("admin")
    if isinstance(node, Scalar) and (node.value == "off" or node.value is False):
        return None
    return root.read("admin", _ADMIN, DEFAULT_ADMIN)


def workers_of(node: Node, name: str, problems: Problems) -> int | None:
    """Read how many processes share the work."""
    workers = positive_of(node, name, problems)
    if workers is not None and workers > MAX_WORKERS:
        problems.error(node, f"{name}: found {describe(node)}, expected at most {MAX_WORKERS}: one a core is plenty")
        return None
    return workers


def _overlap(one: Listen, other: Listen) -> bool:
    """Say whether the second could not be bound after the first."""
    if one.path is not None or other.path is not None:
        return one.path == other.path
    return one.port == other.port != 0 and (one.host == other.host or not one.host or not other.host)


def refuse_shared_address(root: Section, settings: Settings) -> None:
    """Refuse workers that have no address each, and an `admin` that could not be bound beside them."""
    endpoints = settings.endpoints
    last = endpoints[-1]
    if last.port > _MAX_PORT or (last.path is not None and not _fits(last.path)):
        place = root.node("workers") or root.node("listen") or root.fields
        found = f"port {last.port}" if last.path is None else last.path
        root.problems.error(place, f"workers: the last of {settings.workers} would listen on {found}, which is none")
    admin = settings.admin
    if admin is None or not any(_overlap(endpoint, admin) for endpoint in endpoints):
        return
    place = root.node("admin") or root.node("listen") or root.fields
    taken = "`listen`" if settings.workers == 1 else f"a worker, which have {endpoints[0].target} to {last.target}"
    root.problems.error(place, f"admin: the same address as {taken}: use another port")
