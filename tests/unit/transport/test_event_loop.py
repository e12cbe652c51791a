"""A batch of gRPC's that fails ends as if it had not, so that gRPC frees it; every other future fails as futures do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from authz.transport import event_loop
from authz.transport.event_loop import EventLoop

MOST_BYTES = 1000


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        yield runner


async def echo(message: bytes, _: object) -> bytes:
    return message


async def ask(size: int) -> bytes:
    """Ask a server for what it takes at most `MOST_BYTES` of."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MOST_BYTES)])
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer: bytes = await channel.unary_unary("/a/Echo")(bytes(size))
            return answer
    finally:
        await server.stop(None)


def test_grpc_says_that_a_batch_failed_by_the_name_we_know(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[str] = []

    class Watched(event_loop._Future):
        def set_exception(self, exception: type | BaseException, /) -> None:
            super().set_exception(exception)
            if self.exception() is None:
                failed.append(type(exception).__name__)

    monkeypatch.setattr(event_loop, "_Future", Watched)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        runner.run(ask(MOST_BYTES + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "ExecuteBatchError" in failed


def test_what_is_small_enough_is_answered(runner: asyncio.Runner) -> None:
    assert runner.run(ask(MOST_BYTES)) == bytes(MOST_BYTES)


@pytest.mark.parametrize("error", [ValueError("x"), grpc.aio.InternalError("x"), TimeoutError()])
def test_every_other_future_fails_as_futures_do(runner: asyncio.Runner, error: Exception) -> None:
    async def wait(future: asyncio.Future[Any]) -> None:
        asyncio.get_running_loop().call_soon(future.set_exception, error)
        await future

    with pytest.raises(type(error)) as caught:
        runner.run(wait(runner.get_loop().create_future()))
    assert caught.value is error
