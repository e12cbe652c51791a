"""How the C library hands out memory to this process."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

ARENAS: Final = 2
_M_ARENA_MAX: Final = -8  # mallopt(3)


def share_arenas() -> None:
    """Let all threads share two arenas. To be called before there are any.

    glibc gives each thread one of its own, up to eight for each core, and gRPC starts and ends threads as it likes:
    with every connection that came and went, memory crept up until each arena had been somebody's. That was a part of
    what `make soak` sees, not all. Another C library has no such call, and nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
