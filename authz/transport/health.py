"""grpc.health.v1 on the gRPC port: whether this process serves, by both names that Envoy may ask for.

Our own, because in the library's a Watch lasts as long as its caller likes and counts as a call under way: whoever may
connect could leave no room for checks. Here there are a few at most, and they end before the server stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from authz.transport.calls import RefusedCall

MAX_WATCHES: Final = 16  # Envoy asks again and again instead; gRPC's own clients watch, one stream each

HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """Answers for the services of these names, all of which are as the process is."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services)
        self._status = _NOT_SERVING
        self._changed = asyncio.Event()
        self._watches = 0
        self._ended = False

    def set_serving(self, serving: bool) -> None:
        """Say so from now on."""
        self._status = _SERVING if serving else _NOT_SERVING
        self._tell()

    def end(self) -> None:
        """Let go of who watches."""
        self._ended = True
        self._tell()

    async def check(self, data: bytes, _call: object) -> bytes:
        """Answer once; NOT_FOUND for a service that we do not have."""
        if _service_in(data) not in self._services:
            raise RefusedCall(grpc.StatusCode.NOT_FOUND)
        return _said(self._status)

    async def watch(self, data: bytes, _call: object) -> AsyncGenerator[bytes, None]:
        """Answer now and at every change."""
        service = _service_in(data)
        if self._watches >= MAX_WATCHES:
            raise RefusedCall(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watches: ask with Check")
        self._watches += 1
        try:
            told = None
            while not self._ended:
                changed = self._changed
                status = self._status if service in self._services else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
                if status != told:
                    yield _said(status)
                    told = status
                await changed.wait()
        finally:
            self._watches -= 1

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _service_in(data: bytes) -> str:
    try:
        service: str = health_pb2.HealthCheckRequest.FromString(data).service
    except DecodeError:
        raise RefusedCall(grpc.StatusCode.INVALID_ARGUMENT, "the message is not a HealthCheckRequest") from None
    return service


def _said(status: int) -> bytes:
    data: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return data
