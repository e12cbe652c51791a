"""A batch of gRPC's always comes to its end, so that gRPC frees it; every other future and task is as ever."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import grpc
import pytest

from authz.transport import event_loop
from authz.transport.event_loop import EventLoop
from authz.transport.server import METHOD, SERVICE
from tests.torture.wire import DATA, END_HEADERS, END_STREAM, HEADERS, RESET, frame, greeted, headers

MOST_BYTES = 1000
CALLS, TIMES = 1500, 4
LEAKED = 96  # bytes, by gRPC, a batch
CANCEL = struct.pack(">I", 8)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        yield runner


async def echo(message: bytes, _: object) -> bytes:
    return message


ECHO = grpc.unary_unary_rpc_method_handler(echo)


@asynccontextmanager
async def serving(handler: grpc.RpcMethodHandler[Any, Any] = ECHO) -> AsyncIterator[int]:
    """Serve what takes at most `MOST_BYTES`, on the port that is given."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MOST_BYTES)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def ask(port: int, size: int) -> bytes:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer: bytes = await channel.unary_unary(f"/{SERVICE}/{METHOD}")(bytes(size))
        return answer


def reset(stream: int) -> bytes:
    """Take a call back at once."""
    return frame(RESET, 0, stream, CANCEL)


def oversized(stream: int) -> bytes:
    """Begin a message that is too large."""
    return frame(DATA, 0, stream, b"\0" + struct.pack(">I", 10 * MOST_BYTES) + bytes(100))


async def misuse(port: int, calls: int, rest: Callable[[int], bytes]) -> None:
    """Make calls that go on as `rest` says, on one connection."""
    await asyncio.to_thread(_misuse, port, calls, rest)
    await asyncio.sleep(0.2)


def _misuse(port: int, calls: int, rest: Callable[[int], bytes]) -> None:
    block = headers(port)
    with greeted(port) as connection:
        reader = threading.Thread(target=_read_all, args=(connection,))
        reader.start()
        for call in range(calls):
            stream = 2 * call + 1
            connection.sendall(frame(HEADERS, END_HEADERS, stream, block) + rest(stream))
            if call % 20 == 0:
                time.sleep(0.004)  # at most some hundred are in flight
        time.sleep(0.2)
        connection.shutdown(socket.SHUT_WR)
        reader.join()


def _read_all(connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(65_536):
            pass


def test_grpc_says_that_a_batch_failed_by_the_name_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[str] = []

    class Watched(event_loop._Future):
        def set_exception(self, exception: type | BaseException, /) -> None:
            super().set_exception(exception)
            if self.exception() is None:
                failed.append(type(exception).__name__)

    async def scene() -> None:
        async with serving() as port:
            await ask(port, MOST_BYTES + 1)

    monkeypatch.setattr(event_loop, "_Future", Watched)
    with asyncio.Runner(loop_factory=EventLoop) as runner, pytest.raises(grpc.aio.AioRpcError) as caught:
        runner.run(scene())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "ExecuteBatchError" in failed


def test_grpc_waits_for_a_batch_by_the_name_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []

    class Watched(event_loop._Task):
        def cancel(self, msg: object = None) -> bool:
            kept.append(event_loop._innermost(self.get_coro()))
            return super().cancel(msg)

    async def scene() -> bytes:
        async with serving() as port:
            await misuse(port, 20, reset)
            return await ask(port, MOST_BYTES)

    monkeypatch.setattr(event_loop, "_Task", Watched)
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(scene()) == bytes(MOST_BYTES)
    assert "execute_batch" in kept


def test_a_call_that_was_reset_is_cancelled_whatever_it_waited_for(runner: asyncio.Runner) -> None:
    """Also one that was sending: nothing may go on waiting for a caller who has gone."""
    begun: list[int] = []
    ended: list[int] = []

    async def send_and_wait(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        begun.append(1)
        try:
            await context.write(bytes(MOST_BYTES))
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    def asked(stream: int) -> bytes:
        """Send a message, and take an earlier call back, wherever that is."""
        return frame(DATA, END_STREAM, stream, bytes(5)) + (reset(stream - 20) if stream > 20 else b"")

    async def scene() -> None:
        async with serving(grpc.unary_stream_rpc_method_handler(send_and_wait)) as port:
            await misuse(port, 1000, asked)

    runner.run(scene())
    assert begun
    assert len(ended) == len(begun)


@pytest.mark.parametrize("is_over", [False, True], ids=["under way", "just over"])
def test_what_waits_for_a_batch_is_cancelled_when_that_has_ended(runner: asyncio.Runner, is_over: bool) -> None:
    said: list[str] = []

    async def execute_batch(batch: asyncio.Future[Any]) -> None:
        await batch
        said.append("freed")

    async def call(batch: asyncio.Future[Any]) -> None:
        try:
            await execute_batch(batch)
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            said.append(f"cancelled {error}")
            raise

    async def scene() -> None:
        batch = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(call(batch))
        await asyncio.sleep(0)
        if is_over:
            batch.set_result(None)
        assert task.cancel("why")
        if not is_over:
            await asyncio.sleep(0)
            assert said == []
            batch.set_result(None)
        await asyncio.wait({task}, timeout=1)
        assert task.cancelled()

    runner.run(scene())
    assert said == ["freed", "cancelled why"]


class Mallinfo(ctypes.Structure):
    """mallinfo2(3), the eighth of which are the bytes in use."""

    _fields_ = [(f"field{number}", ctypes.c_size_t) for number in range(10)]


def bytes_in_use() -> int:
    gc.collect()
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = Mallinfo
    in_use: int = library.mallinfo2().field7
    return in_use


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc 2.33 or newer tells what is in use")
@pytest.mark.parametrize("rest", [reset, oversized])
def test_a_call_that_comes_to_nothing_leaves_nothing(runner: asyncio.Runner, rest: Callable[[int], bytes]) -> None:
    async def scene() -> int:
        async with serving() as port:
            in_use = []
            for _ in range(TIMES):
                await misuse(port, CALLS, rest)
                in_use.append(bytes_in_use())
        return min(after - before for before, after in pairwise(in_use))  # what is kept for later grows no further

    assert runner.run(scene()) < CALLS * LEAKED / 3


@pytest.mark.parametrize("error", [ValueError("x"), grpc.aio.InternalError("x"), TimeoutError()])
def test_every_other_future_fails_as_futures_do(runner: asyncio.Runner, error: Exception) -> None:
    async def wait(future: asyncio.Future[Any]) -> None:
        asyncio.get_running_loop().call_soon(future.set_exception, error)
        await future

    with pytest.raises(type(error)) as caught:
        runner.run(wait(runner.get_loop().create_future()))
    assert caught.value is error


def test_every_other_task_is_cancelled_as_tasks_are(runner: asyncio.Runner) -> None:
    async def scene() -> list[bool]:
        tasks = [asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(asyncio.Event().wait(), name="named")]
        await asyncio.sleep(0)
        assert tasks[1].get_name() == "named"
        for task in tasks:
            assert task.cancel("why")
        await asyncio.wait(tasks)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        return [task.cancelled() for task in tasks]

    assert runner.run(scene()) == [True, True]
