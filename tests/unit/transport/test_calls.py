"""gRPC's server without grpc.aio: every call is answered or cut off, and none leaves anything behind."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import socket
import struct
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import Any

import grpc
import pytest

from authz.transport import calls as module
from authz.transport.calls import Call, Calls, RefusedCall
from authz.turns import in_turns
from tests.torture.wire import DATA, END_HEADERS, END_STREAM, HEADERS, RESET, SETTINGS, frame, greeted, headers
from tests.unit.test_turns import busy

SERVICE, METHOD = "envoy.service.auth.v3.Authorization", "Check"  # what `headers` asks for
CHECK, LATER, WATCH = f"/{SERVICE}/{METHOD}", "/test.Test/Later", "/test.Test/Watch"
MOST_BYTES = 1000
MOST_CALLS = 300
CALLS, TIMES = 1500, 4
INITIAL_WINDOW_SIZE = 4
LEAKED = 96  # bytes, by grpc.aio, a call
CANCEL = struct.pack(">I", 8)


class Stand:
    """A server of a few methods, and a client."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.gate = asyncio.Event()
        self.seen: list[Call] = []
        self.raises: Callable[[], BaseException] | None = None  # a new one each time: it holds its call
        self.calls = Calls(
            {CHECK: self.echo, LATER: self.later},
            {WATCH: self.watch},
            options=[("grpc.max_receive_message_length", MOST_BYTES)],
            most_calls=MOST_CALLS,
        )
        self.port = self.calls.bind("127.0.0.1:0", None)

    async def echo(self, message: bytes, call: Call) -> bytes:
        if self.raises is not None:
            raise self.raises()
        self.left = call.time_remaining()
        return message

    async def later(self, message: bytes, _: Call) -> bytes:
        """Answer once the gate is open."""
        self.begun += 1
        try:
            await self.gate.wait()
        finally:
            self.ended += 1
        return await self.echo(message, _)

    async def watch(self, message: bytes, _: Call) -> AsyncGenerator[bytes, None]:
        """Send the message, and once more when the gate is open."""
        self.begun += 1
        try:
            yield message
            await self.gate.wait()
            yield await self.echo(message, _)
        finally:
            self.ended += 1

    @property
    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.enable_http_proxy", 0)])

    async def ask(self, message: bytes = b"hello", method: str = CHECK, seconds: float | None = 10) -> bytes:
        async with self.channel as channel:
            answer: bytes = await channel.unary_unary(method)(message, timeout=seconds)
            return answer

    async def refusal(self, message: bytes = b"hello", method: str = CHECK) -> tuple[Any, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(message, method)
        return caught.value.code(), caught.value.details() or ""

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not done():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)

    async def nothing_is_left(self) -> None:
        await self.until(lambda: not self.calls.under_way and not self.calls._tasks and self.begun == self.ended)


@asynccontextmanager
async def serving(grace: float = 5) -> AsyncIterator[Stand]:
    stand = Stand()
    stand.calls.start()
    try:
        yield stand
        await stand.nothing_is_left()
    finally:
        await stand.calls.stop(grace)


async def test_a_call_is_answered() -> None:
    async with serving() as stand:
        assert await stand.ask(bytes(MOST_BYTES)) == bytes(MOST_BYTES)
        assert await stand.ask(bytes(1)) == bytes(1)


async def test_a_call_knows_how_long_its_caller_waits() -> None:
    async with serving() as stand:
        await stand.ask(seconds=70)
        assert 60 < stand.left < 71  # gRPC rounds it up
        await stand.ask(seconds=None)
        assert stand.left > 1e9


async def test_many_at_a_time_get_each_its_own() -> None:
    async with serving() as stand, stand.channel as channel:
        asked = [str(number).encode() for number in range(250)]
        echo, later = channel.unary_unary(CHECK), channel.unary_unary(LATER)
        waiting = [asyncio.ensure_future(later(message)) for message in asked[::5]]
        assert await asyncio.gather(*(echo(message) for message in asked)) == asked
        stand.gate.set()
        assert await asyncio.gather(*waiting) == asked[::5]


async def test_a_call_to_nobody_is_refused() -> None:
    async with serving() as stand:
        assert await stand.refusal(method="/test.Test/Nothing") == (grpc.StatusCode.UNIMPLEMENTED, "no such method")


async def test_what_is_too_large_is_refused() -> None:
    async with serving() as stand:
        code, _ = await stand.refusal(bytes(MOST_BYTES + 1))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", [CHECK, LATER, WATCH])
async def test_a_call_without_a_message_is_refused(method: str) -> None:
    async with serving() as stand, stand.channel as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.stream_unary(method)(iter(()), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert caught.value.details() == "a call has one message"


@pytest.mark.parametrize("method", [CHECK, LATER, WATCH])
async def test_a_method_may_refuse(method: str) -> None:
    async with serving() as stand, stand.channel as channel:
        stand.raises = lambda: RefusedCall(grpc.StatusCode.NOT_FOUND, "not here")
        stand.gate.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in channel.unary_stream(method)(b"hello", timeout=10):
                pass
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "not here")


@pytest.mark.parametrize(
    ("method", "error"),
    [
        *((method, error) for method in (CHECK, LATER, WATCH) for error in (ValueError, asyncio.CancelledError)),
        *((CHECK, error) for error in (KeyboardInterrupt, SystemExit)),  # in a task, asyncio lets them end the process
    ],
)
async def test_a_method_that_fails_is_an_error_to_its_caller_and_to_nobody_else(
    method: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(module.log, "error", lambda text, **_: told.append(text))
    async with serving() as stand, stand.channel as channel:
        stand.raises = error
        stand.gate.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in channel.unary_stream(method)(b"hello", timeout=10):
                pass
        is_cancelled = method == WATCH and error is asyncio.CancelledError
        assert caught.value.code() is (grpc.StatusCode.CANCELLED if is_cancelled else grpc.StatusCode.INTERNAL)
        assert told == ([] if is_cancelled else ["internal error: a call was refused"])
        stand.raises = None
        assert await stand.ask() == b"hello"


async def test_whatever_else_fails_cuts_the_call_off(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(module.log, "exception", told.append)
    async with serving() as stand:
        monkeypatch.setattr(Call, "answer", lambda *_: 1 / 0)
        assert (await stand.refusal())[0] is grpc.StatusCode.CANCELLED
        monkeypatch.undo()
        assert await stand.ask() == b"hello"
    assert told == ["internal error: a call was cut off"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        *((Call, name) for name in ("read", "answer", "when_given_up", "_end", "_start", "_ended")),
        *((Calls, name) for name in ("_arrived", "_ask_for_a_call", "_answer", "_go_on", "_done", "_fail")),
        (module, "_rest"),
    ],
)
@pytest.mark.parametrize("method", [CHECK, LATER])
async def test_whatever_fails_once_nobody_gets_a_wrong_answer_and_the_next_gets_the_right_one(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, method: str
) -> None:
    monkeypatch.setattr(module.log, "exception", lambda *_, **__: None)
    monkeypatch.setattr(module.log, "error", lambda *_, **__: None)
    right, failed = getattr(owner, name), False

    def fails_once(*arguments: Any, **named: Any) -> Any:
        nonlocal failed
        if not failed:
            failed = True
            raise ValueError
        return right(*arguments, **named)

    async with serving() as stand:
        stand.gate.set()
        assert await stand.ask(method=method) == b"hello"
        monkeypatch.setattr(owner, name, fails_once)
        for _ in range(2):  # gRPC's core may still know the right one
            with suppress(grpc.aio.AioRpcError):
                assert await stand.ask(b"first", method, seconds=0.2) == b"first"
        assert await stand.ask(b"next", method) == b"next"
        monkeypatch.undo()
        stand.begun = stand.ended = 0
        stand.calls.idle.clear()  # where it was `_ended` that failed, its call is still there


async def test_a_call_may_survive_the_failure_of_what_it_waited_for() -> None:
    async def twice(message: bytes, _: Call) -> bytes:
        for _ in range(2):
            failing = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.01, failing.set_exception, ZeroDivisionError())
            with pytest.raises(ZeroDivisionError):
                await failing
        return message

    async with serving() as stand:
        stand.calls._methods = {LATER.encode(): partial(stand.calls._answer, twice)}
        assert await stand.ask(method=LATER) == b"hello"


async def test_a_call_given_up_may_wait_for_its_own_end() -> None:
    async def slow_to_end(_: bytes, __: Call) -> bytes:
        stand.begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            stand.ended += 1
        raise AssertionError

    async with serving() as stand:
        stand.calls._methods = {LATER.encode(): partial(stand.calls._answer, slow_to_end)}
        with pytest.raises(grpc.aio.AioRpcError):
            await stand.ask(method=LATER, seconds=0.1)
        await stand.until(lambda: stand.begun == stand.ended == 1)


@pytest.mark.parametrize("place", ["_next", "_more_may_come"])
async def test_a_failure_between_calls_ends_nothing(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    told: list[str] = []
    monkeypatch.setattr(module.log, "exception", told.append)
    async with serving() as stand:
        assert await stand.ask() == b"hello"
        with monkeypatch.context() as broken:
            broken.setattr(stand.calls, place, lambda *_: 1 / 0)
            asking = asyncio.create_task(stand.ask())
            await stand.until(lambda: bool(told))
        assert await asking == b"hello"
    assert set(told) == {"internal error: events of gRPC's were lost"}


async def test_a_stream_goes_on_until_its_end() -> None:
    async with serving() as stand, stand.channel as channel:
        watch = channel.unary_stream(WATCH)(b"hello")
        assert await watch.read() == b"hello"
        assert await stand.ask() == b"hello"
        stand.gate.set()
        assert await watch.read() == b"hello"
        assert await watch.read() is grpc.aio.EOF  # type: ignore[attr-defined]
        assert await watch.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("method", [LATER, WATCH])
async def test_nothing_waits_for_a_caller_who_has_gone(method: str) -> None:
    async with serving() as stand, stand.channel as channel:
        watches = [channel.unary_stream(method)(b"hello", timeout=0.3 if number % 2 else None) for number in range(20)]
        tasks = [asyncio.ensure_future(watch.read()) for watch in watches]
        await stand.until(lambda: stand.begun >= len(watches))
        for watch in watches[::2]:
            watch.cancel()
        await stand.nothing_is_left()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_of_too_many_calls_the_rest_is_refused_at_once() -> None:
    async with serving() as stand, stand.channel as channel:
        later = channel.unary_unary(LATER)
        waiting = [asyncio.ensure_future(later(b"hello")) for _ in range(MOST_CALLS)]
        await stand.until(lambda: stand.begun >= MOST_CALLS)
        assert await stand.refusal() == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls at a time")
        stand.gate.set()
        assert await asyncio.gather(*waiting) == [b"hello"] * MOST_CALLS
        await stand.nothing_is_left()
        assert await stand.ask() == b"hello"


def only_begun(stream: int) -> bytes:
    """Send no message."""
    return frame(HEADERS, END_HEADERS, stream, headers(0))


def half_sent(stream: int) -> bytes:
    """Send half a message."""
    return only_begun(stream) + frame(DATA, 0, stream, b"\0" + struct.pack(">I", MOST_BYTES) + bytes(MOST_BYTES // 2))


def not_taken(stream: int) -> bytes:
    """Ask, and leave the answer no room."""
    return only_begun(stream) + frame(DATA, END_STREAM, stream, b"\0" + struct.pack(">I", 5) + b"hello")


@pytest.mark.parametrize("begins", [only_begun, half_sent, not_taken])
async def test_calls_that_nobody_works_on_make_room_for_others(begins: Callable[[int], bytes]) -> None:
    streams = range(1, MOST_CALLS, 2)
    no_room = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)) if begins is not_taken else b""
    async with serving() as stand, AsyncExitStack() as held:
        for _ in range(3):
            connection = held.enter_context(greeted(stand.port))
            connection.sendall(no_room + b"".join(begins(stream) for stream in streams))
        await stand.until(lambda: stand.calls.under_way > MOST_CALLS - 10)
        for _ in range(50):
            assert await stand.ask() == b"hello"
        assert MOST_CALLS - 10 < stand.calls.under_way < MOST_CALLS + 10  # those that nobody needed are still there
        await held.aclose()
        await stand.nothing_is_left()
        assert not stand.calls.idle


@pytest.mark.parametrize("method", [CHECK, LATER])
@pytest.mark.parametrize("nothing", [None, b"", "text", bytearray(b"bytes"), 0])
async def test_what_is_no_answer_is_not_sent(monkeypatch: pytest.MonkeyPatch, method: str, nothing: Any) -> None:
    """To Envoy an empty message is an OK."""
    monkeypatch.setattr(module.log, "exception", lambda *_, **__: None)
    monkeypatch.setattr(module.log, "error", lambda *_, **__: None)

    async def answers(_: bytes, __: Call) -> Any:
        if method == LATER:
            await asyncio.sleep(0.01)
        return nothing

    async with serving() as stand:
        stand.calls._methods = {method.encode(): partial(stand.calls._answer, answers)}
        assert (await stand.refusal(method=method))[0] in (grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)


async def test_calls_under_way_end_before_the_server_does() -> None:
    async with serving() as stand:
        waiting = asyncio.create_task(stand.ask(method=LATER))
        await stand.until(lambda: stand.begun > 0)
        stopping = asyncio.create_task(stand.calls.stop(5))
        await asyncio.sleep(0.1)
        assert not stopping.done()
        stand.gate.set()
        assert await waiting == b"hello"
        await stopping
        assert (await stand.refusal())[0] is grpc.StatusCode.UNAVAILABLE


async def test_those_that_do_not_end_are_cut_off() -> None:
    async with serving() as stand:
        waiting = asyncio.create_task(stand.refusal(method=LATER))
        await stand.until(lambda: stand.begun > 0)
        began = time.monotonic()
        await stand.calls.stop(0.2)
        assert time.monotonic() - began < 3
        code, _ = await waiting
        assert code in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


async def test_a_call_ends_once_and_says_nothing_after_the_server() -> None:
    """gRPC's core ends the process of whoever does otherwise."""
    kept: list[Call] = []

    async def keep(message: bytes, call: Call) -> bytes:
        kept.append(call)
        return message

    async with serving() as stand:
        stand.calls._methods = {CHECK.encode(): partial(stand.calls._answer, keep)}
        assert await stand.ask() == b"hello"
        for _ in range(3):
            kept[0].answer(b"again")
            kept[0].end(grpc.StatusCode.OK)
        assert await stand.ask(b"other") == b"other"
        begun = Call(stand.calls, kept.pop()._core, 0.0)
        await stand.calls.stop(0)
        with pytest.raises(ConnectionError):
            begun.answer(b"too late")
        del begun
        kept.clear()


async def test_a_server_may_end_that_never_began() -> None:
    await Stand().calls.stop(0)


async def test_an_address_that_is_taken_is_an_error() -> None:
    async with serving() as stand:
        other = Calls({}, {}, options=[("grpc.so_reuseport", 0)], most_calls=1)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{stand.port}"):
            other.bind(f"127.0.0.1:{stand.port}", None)


async def test_the_loop_is_free_while_nobody_calls_and_has_its_turns_while_many_do() -> None:
    async with serving() as stand, stand.channel as channel:
        echo = channel.unary_unary(CHECK)
        await echo(b"hello")
        await asyncio.sleep(0.1)
        began = time.perf_counter()
        for _ in range(100):
            await asyncio.sleep(0)
        assert time.perf_counter() - began < 100 * module.LINGER_SECONDS / 2
        rounds = 0

        async def count() -> None:
            nonlocal rounds
            while True:
                await asyncio.sleep(0)
                rounds += 1

        counting = asyncio.create_task(count())
        for _ in range(20):
            await asyncio.gather(*(echo(b"hello") for _ in range(50)))
        counting.cancel()
        assert rounds > 50


async def test_long_work_does_not_wait_for_calls_that_may_come() -> None:
    async with serving() as stand, stand.channel as channel:
        echo = channel.unary_unary(CHECK)
        await echo(b"hello")  # the connection is there
        waits: list[float] = []
        real = stand.calls._next

        def seen(seconds: float) -> Any:
            waits.append(seconds)
            return real(seconds)

        stand.calls._next = seen  # type: ignore[method-assign]
        work = asyncio.create_task(in_turns(lambda: busy(60.0)))
        while waits.count(0.0) <= 10:  # a machine that stands still for a moment answers few calls in it
            assert not work.done()
            assert await echo(b"hello") == b"hello"
        work.cancel()
        await asyncio.wait({work})
        waits.clear()
        await echo(b"hello")
        await stand.until(lambda: module.LINGER_SECONDS in waits)


def reset(stream: int) -> bytes:
    """Take a call back at once."""
    return frame(RESET, 0, stream, CANCEL)


def oversized(stream: int) -> bytes:
    """Begin a message that is too large."""
    return frame(DATA, 0, stream, b"\0" + struct.pack(">I", 10 * MOST_BYTES) + bytes(100))


def whole(stream: int) -> bytes:
    """Ask, and wait for nothing."""
    return frame(DATA, END_STREAM, stream, b"\0" + struct.pack(">I", 1) + b"1")


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
@pytest.mark.parametrize("rest", [reset, oversized, whole])
def test_a_call_leaves_nothing_however_it_ends(rest: Callable[[int], bytes]) -> None:
    async def scene() -> int:
        async with serving() as stand:
            in_use = []
            for _ in range(TIMES):
                await misuse(stand.port, CALLS, rest)
                in_use.append(bytes_in_use())
            assert await stand.ask() == b"hello"
        return min(after - before for before, after in pairwise(in_use))  # what is kept for later grows no further

    assert asyncio.run(scene()) < CALLS * LEAKED / 3
