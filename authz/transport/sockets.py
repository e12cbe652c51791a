"""Unix sockets, whose paths anybody may take over: a server that starts simply replaces the file that it finds."""

from __future__ import annotations

import socket

from authz.settings import Listen


def refuse_a_taken_socket(listen: Listen) -> None:
    """Raise OSError when somebody answers on our Unix socket: its path would silently be taken over."""
    if listen.path is None:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(listen.path)
        except OSError:  # nobody there, or a file left behind, which is replaced
            return
    raise OSError(f"another process listens on {listen.path}")
