"""Free ports on 127.0.0.1, from below those that the kernel gives to clients.

A client that asks again and again whether somebody listens would else be given that very port as its own once in some
thousand runs, meet itself there, and leave it closed to everybody for a minute.

A port that was given is given to nobody else until the process that got it ends: two tests that run side by
side would else now and then be given the same one before either listens.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

OURS: Final = range(10_000, 32_768)
CLIENTS: Final = range(32_768, 61_000)  # as Linux has them, unless told otherwise (ip_local_port_range)

# A lock on byte N of this file holds port N; the kernel takes it back when the process ends, however it ends.
_HOLDERS: Final = Path(tempfile.gettempdir(), f"authz-test-ports.{os.getuid()}").open("ab")  # noqa: SIM115 - for life
_held: Final[set[int]] = set()  # such locks tell processes apart, but not the callers in one


def free_ports(count: int = 1, among: range = OURS) -> int:
    """Give the first of so many neighbouring ports that nobody listens on."""
    while True:
        first = random.choice(among[:-count])
        if all(_is_free(port) for port in range(first, first + count)):
            return first


def _is_free(port: int) -> bool:
    """Tell whether the port was given to nobody and nobody listens on it; if so, it is held from now on."""
    if port in _held:
        return False
    try:
        fcntl.lockf(_HOLDERS, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    _held.add(port)
    return True


def named_ports(*names: str) -> dict[str, int]:
    """Give each name a free port."""
    return {name: port for port, name in enumerate(names, free_ports(len(names)))}
