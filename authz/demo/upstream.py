"""What is behind Envoy: it answers every request with what it received, so that one sees what reaches an upstream.

The answer is JSON: `{"method", "path", "host", "headers": {name: [value, …]}}`, and for browsers a page. Tokens are
shown shortened.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Final

from aiohttp import web

from authz.demo.page import POLICY, page

_TOKEN: Final = re.compile(r"(eyJ[\w-]{5})[\w-]+\.[\w.-]+")


def application() -> web.Application:
    """Build the server; it has one answer for every path and method."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _show)
    return app


async def _show(request: web.Request) -> web.Response:
    headers: dict[str, list[str]] = {}
    for name, value in request.headers.items():
        headers.setdefault(name.lower(), []).append(_TOKEN.sub(r"\1…", value))
    if "text/html" in request.headers.get("accept", ""):
        text = page(request.path, headers, _credentials(request.headers.items()))
        return web.Response(text=text, content_type="text/html", headers={"content-security-policy": POLICY})
    body = {"method": request.method, "path": request.raw_path, "host": request.host, "headers": headers}
    return web.json_response(body)


def _credentials(received: Iterable[tuple[str, str]]) -> Sequence[str]:
    """Name the headers that hold a token or one of Envoy's session cookies."""
    return sorted({name.lower() for name, value in received if _TOKEN.search(value) or "__Host-" in value})


def main() -> None:
    """Serve on 127.0.0.1 until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    web.run_app(application(), host="127.0.0.1", port=parser.parse_args().port, loop=asyncio.new_event_loop())


if __name__ == "__main__":
    main()
