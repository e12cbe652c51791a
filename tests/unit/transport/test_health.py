"""gRPC's health service, over a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from authz.transport.calls import Calls
from authz.transport.health import HEALTH_CHECK, HEALTH_WATCH, MAX_WATCHES, Health

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Stand:
    """A server with nothing but its health, and a client."""

    def __init__(self, health: Health, stub: health_pb2_grpc.HealthStub) -> None:
        self.health = health
        self._stub = stub

    async def check(self, service: str = "") -> int:
        answer = await self._stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        return int(answer.status)

    def watch(self, service: str = "") -> grpc.aio.UnaryStreamCall[health_pb2.HealthCheckRequest, object]:
        return self._stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=20)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    health = Health(("", "the.Service"))
    calls = Calls({HEALTH_CHECK: health.check}, {HEALTH_WATCH: health.watch}, options=(), most_calls=100)
    port = calls.bind("127.0.0.1:0", None)
    calls.start()
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        yield Stand(health, health_pb2_grpc.HealthStub(channel))
    await calls.stop(0)


async def told(watch: grpc.aio.UnaryStreamCall[health_pb2.HealthCheckRequest, object]) -> int | None:
    answer = await watch.read()
    return None if answer is grpc.aio.EOF else answer.status  # type: ignore[attr-defined, no-any-return]


async def test_every_service_is_as_the_process_is(stand: Stand) -> None:
    assert [await stand.check(), await stand.check("the.Service")] == [NOT_SERVING] * 2
    stand.health.set_serving(True)
    assert [await stand.check(), await stand.check("the.Service")] == [SERVING] * 2
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stand.check("another.Service")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_who_watches_is_told_of_each_change_until_the_end(stand: Stand) -> None:
    one, other, stranger = stand.watch(), stand.watch("the.Service"), stand.watch("another.Service")
    assert [await told(watch) for watch in (one, other, stranger)] == [NOT_SERVING, NOT_SERVING, UNKNOWN]
    stand.health.set_serving(True)
    stranger.cancel()  # it takes nobody's news away
    assert [await told(watch) for watch in (one, other)] == [SERVING, SERVING]
    stand.health.set_serving(False)
    assert [await told(watch) for watch in (one, other)] == [NOT_SERVING, NOT_SERVING]
    stand.health.end()
    assert [await told(watch) for watch in (one, other)] == [None, None]


async def test_few_may_watch_at_a_time(stand: Stand) -> None:
    watches = [stand.watch() for _ in range(MAX_WATCHES)]
    assert [await told(watch) for watch in watches] == [NOT_SERVING] * MAX_WATCHES
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await told(stand.watch())
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await stand.check() == NOT_SERVING
    watches[0].cancel()
    for _ in range(100):
        await asyncio.sleep(0.02)
        try:
            assert await told(stand.watch()) == NOT_SERVING
            break
        except grpc.aio.AioRpcError:
            continue
    else:
        pytest.fail("a place that was left stays taken")
