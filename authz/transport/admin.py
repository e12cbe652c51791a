"""The admin port: /livez and /readyz for whoever runs us, /metrics for Prometheus. It decides nothing.

A single process answers for itself; the supervisor of several answers for all of them (`Pages`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from aiohttp import web

from authz.metrics import Metrics
from authz.settings import Listen
from authz.transport.sockets import refuse_a_taken_socket

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_KEEPALIVE_SECONDS: Final = 30.0  # two scrapes at Prometheus' usual 15 s share a connection
_SHUTDOWN_SECONDS: Final = 1.0
_LINGERING_SECONDS: Final = 1.0  # for a body that nobody asked for
_BACKLOG: Final = 128
_MAX_BODY_BYTES: Final = 1024
_MAX_LINE_BYTES: Final = 2048
_MAX_HEADERS: Final = 64
MAX_CONNECTIONS: Final = 64  # aiohttp knows no bound, and each takes a file that policies may be needed for


class Pages(Protocol):
    """What the admin port tells."""

    async def missing(self) -> Sequence[str]:
        """Name what is missing before requests can be decided; nothing means ready."""

    async def exposition(self) -> tuple[bytes, str]:
        """Give the metrics and their content type."""


class OwnPages:
    """What one process tells of itself."""

    def __init__(self, readiness: Callable[[], Sequence[str]], metrics: Metrics) -> None:
        self._readiness = readiness
        self._metrics = metrics

    async def missing(self) -> Sequence[str]:
        """Name what is missing."""
        return self._readiness()

    async def exposition(self) -> tuple[bytes, str]:
        """Render the metrics, which is work for a thread."""
        return await asyncio.to_thread(self._metrics.render)


class AdminServer:
    """The running admin port."""

    def __init__(self, runner: web.AppRunner, listener: asyncio.Server) -> None:
        self._runner = runner
        self._listener = listener

    @property
    def port(self) -> int:
        """The TCP port that was bound; 0 on a Unix socket."""
        address = self._listener.sockets[0].getsockname()
        return 0 if isinstance(address, str) else int(address[1])

    async def close(self) -> None:
        """Stop listening and end the open connections."""
        self._listener.close()
        await self._runner.cleanup()


async def start_admin(listen: Listen, pages: Pages) -> AdminServer:
    """Serve the pages. Raises OSError when the address cannot be bound, or somebody answers on the socket already."""
    refuse_a_taken_socket(listen)
    runner = web.AppRunner(
        _application(pages),
        access_log=None,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
        lingering_time=_LINGERING_SECONDS,
        max_line_size=_MAX_LINE_BYTES,
        max_field_size=_MAX_LINE_BYTES,
        max_headers=_MAX_HEADERS,
        auto_decompress=False,
    )
    await runner.setup()
    protocol = _bounded(cast("web.Server", runner.server))
    loop = asyncio.get_running_loop()
    try:
        if listen.path is None:
            listener = await loop.create_server(protocol, listen.host or None, listen.port, backlog=_BACKLOG)
        else:
            listener = await loop.create_unix_server(protocol, listen.path, backlog=_BACKLOG)
    except OSError as error:
        await runner.cleanup()
        raise OSError(f"admin: cannot listen on {listen.target}: {error.strerror or error}") from error
    except BaseException:
        await runner.cleanup()
        raise
    return AdminServer(runner, listener)


def _bounded(server: web.Server) -> Callable[[], asyncio.BaseProtocol]:
    return lambda: server() if len(server.connections) < MAX_CONNECTIONS else _HangUp()


class _HangUp(asyncio.Protocol):
    """Takes a connection only to end it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).close()


def _application(pages: Pages) -> web.Application:
    one_scrape = asyncio.Lock()  # rendering is work: scrapes wait for each other, decisions for none of them

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_HEADERS)  # that it answers is the news: the loop turns

    async def ready(_: web.Request) -> web.Response:
        missing = await pages.missing()
        text = "".join(f"{line}\n" for line in missing) or "ready\n"
        return web.Response(status=503 if missing else 200, text=text, headers=_HEADERS)

    async def scrape(_: web.Request) -> web.Response:
        async with one_scrape:
            body, content_type = await pages.exposition()
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": content_type})

    application = web.Application(client_max_size=_MAX_BODY_BYTES)
    application.add_routes(
        [
            web.get("/livez", live),
            web.get("/healthz", live),
            web.get("/readyz", ready),
            web.get("/metrics", scrape),
        ]
    )
    application.on_response_prepare.append(_hide_versions)
    return application


async def _hide_versions(_: web.Request, response: web.StreamResponse) -> None:
    """Leave out the `Server` header, in which aiohttp names its own version and Python's."""
    response.headers.popall("Server", None)
