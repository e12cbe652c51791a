"""Between the supervisor and a worker: the orders, and the questions and answers on a pair of sockets.

The pair belongs to the two processes alone: no file, no port, nothing to clean up or to protect. A worker says once
that it is up; after that it answers each question with one frame, in order. Its end tells each that the other is gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from typing import BinaryIO, Final, NamedTuple

from authz.settings import Settings
from authz.shared_memory import Shared

UP: Final = b"up"
MISSING: Final = b"missing?"
EXPOSITION: Final = b"exposition?"

_LENGTH_BYTES: Final = 4
_PR_SET_PDEATHSIG: Final = 1


class Orders(NamedTuple):
    """What the supervisor gives a worker on its stdin."""

    settings: Settings  # already read: whoever is started later must not follow a file that changed since
    supervisor: int  # its process id
    descriptor: int  # the worker's end of the pair
    shared: Shared | None  # memory of all workers; None: there is none


def write_orders(orders: Orders) -> bytes:
    """Give the orders as bytes for `take_orders`."""
    return pickle.dumps(orders)


def take_orders(stream: BinaryIO) -> Orders:
    """Read the orders and tie this process to the supervisor. Raises ValueError when they are none."""
    try:
        orders = pickle.load(stream)  # noqa: S301 - from our own parent process, which wrote it a moment ago
    except Exception as error:
        raise ValueError("no orders on stdin") from error
    if not isinstance(orders, Orders):
        raise ValueError("no orders on stdin")  # noqa: TRY004 - whatever it is, it did not come from a supervisor
    _end_with(orders.supervisor)
    return orders


def _end_with(supervisor: int) -> None:
    """Let the kernel end this process when the supervisor ends, `kill -9` included (prctl(2), PR_SET_PDEATHSIG).

    Linux has it; elsewhere the closed pair of sockets tells, as soon as the event loop turns.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != supervisor:  # it ended before we were tied to it
        os._exit(1)


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send one frame: its length, then itself."""
    writer.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> bytes:
    """Receive one frame. Raises asyncio.IncompleteReadError or ConnectionError when the other one is gone."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    return await reader.readexactly(length)


def write_missing(missing: Sequence[str]) -> bytes:
    """Give the answer to MISSING."""
    return json.dumps(list(missing)).encode()


def read_missing(answer: bytes) -> list[str]:
    """Read the answer to MISSING."""
    return [str(line) for line in json.loads(answer)]
