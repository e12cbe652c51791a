"""Free ports on 127.0.0.1, from below those that the kernel gives to clients.

A client that asks again and again whether somebody listens would else be given that very port as its own once in some
thousand runs, meet itself there, and leave it closed to everybody for a minute.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from typing import Final

OURS: Final = range(10_000, 32_768)
CLIENTS: Final = range(32_768, 61_000)  # as Linux has them, unless told otherwise (ip_local_port_range)


def free_ports(count: int = 1, among: range = OURS) -> int:
    """Give the first of so many neighbouring ports that nobody listens on."""
    while True:
        first = random.choice(among[:-count])
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first


def named_ports(*names: str) -> dict[str, int]:
    """Give each name a free port."""
    return {name: port for port, name in enumerate(names, free_ports(len(names)))}
