from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from authz.memory import share_arenas

# Each thread asks for memory while all are alive; a thread's arena begins at a multiple of 64 MiB.
PROGRAM = """
import ctypes, threading
from authz.memory import share_arenas
if {shared}: share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together, heaps = threading.Barrier(6), set()
def ask():
    together.wait()
    heaps.add(libc.malloc(1000) >> 26)
    together.wait()
threads = [threading.Thread(target=ask) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(heaps))
"""


def heaps(*, shared: bool) -> int:
    command = [sys.executable, "-c", PROGRAM.format(shared=shared)]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no arenas")
def test_threads_share_arenas() -> None:
    assert heaps(shared=False) > 2
    assert heaps(shared=True) <= 2


def test_without_such_a_call_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    share_arenas()
