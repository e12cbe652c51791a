"""grpc.health.v1 on the gRPC port: whether this process serves, by both names that Envoy may ask for.

Our own, because in the library's a Watch lasts as long as its caller likes and counts as a call under way: whoever may
connect could leave no room for checks. Here there are a few at most, and they end before the server stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

MAX_WATCHES: Final = 16  # Envoy asks again and again instead; gRPC's own clients watch, one stream each

_Response: TypeAlias = health_pb2.HealthCheckResponse
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated without types
    """Answers for the services of these names, all of which are as the process is."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services)
        self._status = _Response.NOT_SERVING
        self._changed = asyncio.Event()
        self._watches = 0
        self._ended = False

    def set_serving(self, serving: bool) -> None:
        """Say so from now on."""
        self._status = _Response.SERVING if serving else _Response.NOT_SERVING
        self._tell()

    def end(self) -> None:
        """Let go of who watches."""
        self._ended = True
        self._tell()

    async def Check(  # noqa: N802 - the name of the method on the wire
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> _Response:
        """Answer once; NOT_FOUND for a service that we do not have."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return _Response(status=self._status)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: _Context
    ) -> None:
        """Answer now and at every change."""
        if self._watches >= MAX_WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watches: ask with Check")
        self._watches += 1
        try:
            told = None
            while not self._ended:
                changed = self._changed
                status = self._status if request.service in self._services else _Response.SERVICE_UNKNOWN
                if status != told:
                    await context.write(_Response(status=status))
                    told = status
                await changed.wait()
        finally:
            self._watches -= 1

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
