"""Child processes that cannot outlive the stand.

Each child has a session of its own, so that Ctrl-C reaches the stand alone and the stand ends them in order. It is
tied to the stand (tether.py), so that even `kill -9` of the stand leaves nothing behind. Its environment is the few
variables given here: no proxy, no AWS profile and no Python option of the person's shell changes what happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp

from authz.errors import AuthzError
from authz.supervisor import ending

TAIL_LINES: Final = 20
MAX_LINE_BYTES: Final = 1024 * 1024
END_SECONDS: Final = 8.0  # authz drains for 1.5 s and lets calls in flight end
READY_SECONDS: Final = 45.0
_POLL_SECONDS: Final = 0.05
_TETHER: Final = Path(__file__).with_name("tether.py")


class StandError(AuthzError):
    """The stand cannot go on; the text is for the person who started it."""


class Child:
    """One running process and the last lines it wrote."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, on_line: Callable[[str], None] | None) -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.ended = asyncio.create_task(process.wait())
        self._process = process
        self._on_line = on_line
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group."""
        return self._process.pid

    async def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - started with a pipe, below
        async for data in self._process.stdout:
            line = data.decode("utf-8", "replace").rstrip()
            self.tail.append(line)
            if self._on_line is not None:
                self._on_line(line)

    def signal(self, number: signal.Signals) -> None:
        """Send the signal to the process and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def end(self) -> None:
        """Wait for the end that was asked for, and force it when it does not come."""
        done, _ = await asyncio.wait({self.ended}, timeout=END_SECONDS)
        self.signal(signal.SIGKILL)  # also what it left behind in its group
        if not done:
            await self.ended
        await asyncio.wait({self._reading}, timeout=1.0)
        self._reading.cancel()

    async def death(self) -> StandError:
        """Wait for the end of the process and put it into words, with the last lines it wrote."""
        await asyncio.wait({self.ended})
        await asyncio.wait({self._reading}, timeout=1.0)
        last = "".join(f"\n    {line}" for line in self.tail) or "\n    (it wrote nothing)"
        return StandError(f"{self.name} has ended ({ending(self.ended.result())}). The last it wrote:{last}")


class Processes:
    """The children of a stand, in the order of their start."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._children: list[Child] = []
        self._ended: asyncio.Queue[Child] = asyncio.Queue()

    async def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Child:
        """Start a command; its first word is a full path. `on_line` is given every line that it writes."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", str(_TETHER), str(os.getpid())),
            *command,
            cwd=self._home,
            env=self._environment() | dict(environment or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=MAX_LINE_BYTES,
        )
        child = Child(name, process, on_line)
        self._children.append(child)
        child.ended.add_done_callback(lambda _: self._ended.put_nowait(child))
        return child

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._home), "PYTHONUNBUFFERED": "1"}

    async def first_death(self) -> StandError:
        """Wait until a child ends that nobody told to, and say which and why."""
        while (child := await self._ended.get()) not in self._children:
            pass
        return await child.death()

    async def end(self, child: Child | None = None) -> None:
        """End one child, or all: the last one started is told first."""
        ending = self._children[::-1] if child is None else [child]
        for one in ending:
            self._children.remove(one)
            one.signal(signal.SIGTERM)
        for one in ending:
            await one.end()


async def ready(child: Child, probe: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the probe says yes. Raises StandError when the child ends before, or takes too long."""
    until = time.monotonic() + READY_SECONDS
    while not await probe():
        if child.ended.done():
            raise await child.death()
        if time.monotonic() > until:
            last = "".join(f"\n    {line}" for line in child.tail)
            raise StandError(f"{child.name} is not ready after {READY_SECONDS:.0f} s. The last it wrote:{last}")
        await asyncio.sleep(_POLL_SECONDS)


async def answers_ok(client: aiohttp.ClientSession, url: str) -> bool:
    """Tell whether the address answers 200."""
    try:
        async with client.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
            return response.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def choose_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """Give each name the port it wants on 127.0.0.1, or for 0 any free one. Raises StandError when one is taken."""
    with contextlib.ExitStack() as held:  # all at once, so that no two get the same
        ports = {}
        for name, port in wanted.items():
            listener = held.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError as error:
                option = name.replace("_", "-")
                raise StandError(f"port {port} cannot be had ({error.strerror}): choose another --{option}") from None
            ports[name] = listener.getsockname()[1]
        return ports
