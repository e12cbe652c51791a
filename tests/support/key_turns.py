"""Another worker that has the turn to fetch an issuer's keys, and hangs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_HANG = "import fcntl; fcntl.lockf({0}, fcntl.LOCK_EX, 1, {1}); print(flush=True); input()"


@contextmanager
def turn_of_another_process(memory: int, index: int) -> Iterator[subprocess.Popen[Any]]:
    """Let a process hold the turn of the issuer with this index (`shared_keys.py`) to the end of the block."""
    command = [sys.executable, "-c", _HANG.format(memory, index)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[memory]) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            yield other
        finally:
            other.kill()
