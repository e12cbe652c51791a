# ruff: noqa: ASYNC240 - a test may wait for a small file
"""`authz demo` as a person runs it: a process of its own, a local Cognito, signals."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from authz.demo.files import SAMPLES
from tests.e2e.conftest import send

CHILDREN = {"ministack", "authz.demo.auth0", "authz.demo.upstream", "serve", "envoy.json", "browser.json"}


class Demo:
    """The running command and what it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(65536):
            self.output += data.decode()

    async def until(self, text: str, seconds: float = 60) -> None:
        """Wait until the text was printed."""
        until = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < until, f"{text!r} is not in:\n{self.output}"
            assert self.process.returncode is None, f"ended before {text!r}:\n{self.output}"
            await asyncio.sleep(0.05)

    async def ended(self, seconds: float = 20) -> int:
        """Wait for its end; gives the exit code."""
        async with asyncio.timeout(seconds):
            await self._reading
            return await self.process.wait()


@asynccontextmanager
async def demo(folder: Path, *options: str) -> AsyncIterator[Demo]:
    """Run `authz demo` with its temporary folder inside the test's."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authz", "demo", *options),
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), "NO_COLOR": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    running = Demo(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await running.ended()


def processes_of(folder: Path) -> dict[int, str]:
    """Find everything that the stand started: its children have the temporary folder as their home."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if f"HOME={folder}/authz-demo-".encode() in environment and state != "Z":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


async def assert_nothing_left(folder: Path) -> None:
    until = time.monotonic() + 5
    while left := processes_of(folder):
        assert time.monotonic() < until, left
        await asyncio.sleep(0.05)


def curl_lines(output: str) -> Sequence[tuple[int, str, list[tuple[str, str]]]]:
    """Read the pasted lines back: expected status, address, headers."""
    lines = []
    for status, command in re.findall(r"^# (\d+): .*\n(curl .*)$", output, re.MULTILINE):
        words = shlex.split(command)
        (url,) = (word for word in words if word.startswith("http://"))
        pairs = [words[at + 1].partition(": ") for at, word in enumerate(words) if word == "-H"]
        lines.append((int(status), url, [(name, value) for name, _, value in pairs]))
    return lines


async def test_once_plays_the_scenario_and_exits_0(tmp_path: Path) -> None:
    async with demo(tmp_path, "--once") as running:
        code = await running.ended(60)
        assert code == 0, running.output
    rows = [line for line in running.output.splitlines() if line.startswith("✓ ") and " → " in line]
    assert len(rows) >= 14
    assert "✗" not in running.output
    assert not list(tmp_path.iterdir()), "the temporary folder is gone"
    await assert_nothing_left(tmp_path)


async def test_a_person_pastes_edits_and_leaves(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "policies", tmp_path / "policies")
    async with demo(tmp_path) as running:
        await running.until("Ctrl-C ends everything")
        assert {name for line in processes_of(tmp_path).values() for name in CHILDREN if name in line} == CHILDREN

        lines = curl_lines(running.output)
        assert {status for status, _, _ in lines} == {200, 401, 403, 404}
        for status, url, headers in lines:
            where = urlsplit(url)
            reply = await send(where.port or 80, where.path, *headers, host=where.netloc)
            assert reply.status == status, url
        await running.until("claim-unauthorized")  # live decisions, with names for people
        assert re.search(r"✓ allow +claim-ok +alice +GET admin.localhost", running.output)
        assert re.search(r"✗ deny 403 claim-unauthorized +bob +GET admin.localhost", running.output)

        (tmp_path / "policies" / "10-admin.yaml").write_text("- from: http://admin.localhost\n  allow_all: true\n")
        await running.until("10-admin.yaml:2:3", 5)
        (tmp_path / "policies" / "10-admin.yaml").write_text(
            "- from: http://admin.localhost\n  allow_public_unauthenticated_access: true\n"
        )
        await running.until("↻ policies loaded", 5)

        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGINT)  # impatience does not leave processes behind
        assert await running.ended() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["policies"]
    await assert_nothing_left(tmp_path)


async def test_sigterm_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    async with demo(tmp_path) as running:
        until = time.monotonic() + 30
        while not processes_of(tmp_path):
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        running.process.terminate()
        assert await running.ended() == 0
    assert not list(tmp_path.iterdir())
    await assert_nothing_left(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent was killed")
async def test_kill_9_of_the_stand_leaves_no_process(tmp_path: Path) -> None:
    async with demo(tmp_path) as running:
        await running.until("Ctrl-C ends everything")
        running.process.kill()
        await running.ended()
    await assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("victim", "name"),
    [
        ("authz.demo.upstream", "the upstream"),
        ("authz.demo.auth0", "the local Auth0"),
        ("serve", "authz"),
        ("ministack", "MiniStack"),
        ("envoy.json", "Envoy"),
        ("browser.json", "Envoy for browsers"),
    ],
    ids=lambda value: value,
)
async def test_the_stand_says_which_process_died_and_why(tmp_path: Path, victim: str, name: str) -> None:
    async with demo(tmp_path) as running:
        await running.until("Ctrl-C ends everything")
        (pid,) = (pid for pid, command in processes_of(tmp_path).items() if victim in command)
        os.kill(pid, signal.SIGKILL)
        assert await running.ended() == 1
    assert f"✗ {name} has ended (killed by SIGKILL). The last it wrote:" in running.output
    await assert_nothing_left(tmp_path)


async def test_policies_that_do_not_load_end_the_stand_with_every_problem(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "one.yaml").write_text("- from: http://a.localhost\n  allow_all: true\n")
    async with demo(tmp_path) as running:
        assert await running.ended(60) == 1
    assert "authz has ended (exit code 3)" in running.output
    assert "one.yaml:2:3" in running.output


async def test_a_taken_port_is_named_with_its_option(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    async with taken, demo(tmp_path, "--envoy-port", str(port)) as running:
        assert await running.ended() == 1
    assert f"port {port} cannot be had" in running.output
    assert "--envoy-port" in running.output
