"""Addresses to listen on, before and after a server tries to.

Unix sockets are paths that anybody may take over: a server that starts simply replaces the file that it finds.
"""

from __future__ import annotations

import socket

from authz.settings import Listen


def refuse_a_taken_socket(listen: Listen) -> None:
    """Raise OSError when somebody answers on our Unix socket: its path would silently be taken over."""
    if listen.path is None:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(listen.path)
        except BlockingIOError:  # it is listened on, and nobody accepts
            pass
        except OSError:  # nobody there, or a file left behind, which is replaced
            return
    raise OSError(f"another process listens on {listen.path}")


def why_not(listen: Listen) -> str:
    """Say why an address cannot be listened on, by trying once more in the plainest way."""
    try:
        with socket.socket(*_family(listen)) as probe:
            probe.bind(listen.path or (listen.host, listen.port))
    except OSError as error:
        return error.strerror or "it is no address of this machine"
    return "gRPC does not say why"


def _family(listen: Listen) -> tuple[socket.AddressFamily, socket.SocketKind]:
    if listen.path is not None:
        return socket.AF_UNIX, socket.SOCK_STREAM
    found = socket.getaddrinfo(listen.host or None, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return found[0][0], found[0][1]
