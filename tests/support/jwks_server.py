"""An endpoint for keys that can fail in every way: a thread on 127.0.0.1, and the documents it serves.

A modulus here is any odd number of the right length: nothing signs with these keys, so none has to be generated.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


def number(value: int) -> str:
    """Write an integer as a JWK does: big-endian, base64url, no padding (RFC 7518 section 2)."""
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def modulus(seed: int = 0, bits: int = 2048) -> str:
    """Give a modulus of exactly that many bits, another one for each seed."""
    return number((1 << bits - 1) + 2 * seed + 1)


DROP = object()


def jwk(kid: str = "one", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Give a key as Cognito publishes it. `DROP` takes a member away."""
    key = {"alg": "RS256", "e": "AQAB", "kid": kid, "kty": "RSA", "n": modulus(seed), "use": "sig"} | changes
    return {name: value for name, value in key.items() if value is not DROP}


def jwks(*keys: Any) -> bytes:
    """Give the document that lists these keys."""
    return json.dumps({"keys": keys}).encode()


@dataclass(frozen=True)
class Answer:
    """What the server does with a request."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds before the first byte
    drip: float | None = None  # seconds between two bytes of the body
    hang_up: bool = False  # close the connection without a word


class JwksServer:
    """Serves `answer` to every GET, and counts. Use it with `with`; `start` after `stop` keeps the address."""

    def __init__(self, answer: Answer, *, poll_interval: float = 0.01) -> None:
        """`poll_interval`: seconds between two looks whether to stop, each of which takes the interpreter's lock."""
        self.answer = answer
        self._poll_interval = poll_interval
        self.requests: list[tuple[str, Mapping[str, str]]] = []  # path and headers of each
        self._stopping = threading.Event()
        self._port = 0

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}/pool/.well-known/jwks.json"

    def serve(self, *keys: Any) -> None:
        self.answer = Answer(jwks(*keys))

    def start(self) -> None:
        self._stopping.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(self._poll_interval,))
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()  # waits for the threads of its requests

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Connection(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                with contextlib.suppress(OSError):  # the client may leave
                    outer._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        return Connection

    def _answer(self, connection: BaseHTTPRequestHandler) -> None:
        answer = self.answer
        self._stopping.wait(answer.delay)
        if answer.hang_up:
            return
        connection.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            connection.send_header(name, value)
        connection.end_headers()
        if answer.drip is None:
            connection.wfile.write(answer.body)
            return
        for byte in answer.body:
            if self._stopping.wait(answer.drip):
                return
            connection.wfile.write(bytes([byte]))
            connection.wfile.flush()
