"""gRPC's server without grpc.aio: one completion queue, which the event loop serves itself.

grpc.aio hands each event of a call from a thread of gRPC's to the event loop, several times a call, and that costs more
than all the rest (`make bench`). Here whoever takes an event also works on it. While calls come, the event loop's own
thread waits for them, for a few milliseconds at most, so that everything else on the loop has its turn. When none has
come for that long, a thread waits in its place, and the loop is free.

What answers a call is a coroutine, and nearly always one that waits for nothing: its first step is its last, and no
task is made. One that does wait, for keys, goes on as a task, and ends early when its caller gives up.

Whatever fails, nobody is let in: a call that is let go unanswered is cancelled by gRPC's core, which is an error to
Envoy. `grpc._cython.cygrpc` is the layer under grpc.aio and grpc.server, and promises nothing to others: all that is
taken from it is in this module, and tests/unit/transport/test_calls.py tells when it is no longer as we know it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from time import perf_counter
from types import coroutine
from typing import Any, Final, TypeAlias

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs leave it out

from authz.turns import is_under_way

LINGER_SECONDS: Final = 0.002  # after a call the event loop's thread waits so long for the next one
TURN_SECONDS: Final = 0.001  # of calls, then everything else has its turn
LONG_AGO: Final = 0.0  # seconds since 1970; for "now", gRPC waits up to a millisecond
LONGEST_WAIT_SECONDS: Final = 1.0  # of the thread: a process that ends must not wait long for it
SECONDS_AFTER_A_FAILURE: Final = 0.1

log: Final = logging.getLogger("authz")


class RefusedCall(Exception):  # noqa: N818 - an answer to the caller, and no failure
    """A call that ends with this status, and without an answer."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(details)
        self.code = code


class Call:
    """A call under way: from when gRPC hands it over until its last byte is written, or nobody holds it any more."""

    __slots__ = ("_calls", "_core", "_deadline", "_hears_of_its_end", "_is_over", "_said")

    def __init__(self, calls: Calls, core: Any, deadline: float) -> None:  # noqa: ANN401 - cygrpc has no types
        """`deadline`: seconds since 1970."""
        self._calls, self._core, self._deadline = calls, core, deadline
        self._said = False  # anything: then gRPC's initial metadata are on their way
        self._hears_of_its_end = False
        self._is_over = False
        calls.under_way += 1

    def __del__(self) -> None:
        self._calls.under_way -= 1

    def time_remaining(self) -> float:
        """Give the seconds until the caller gives up; some hundred billion years, if it never does."""
        return self._deadline - time.time()

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Give what the handshake found out about the peer."""
        return {name.decode(): values for name, values in cygrpc.auth_context(self._core).items()}

    def read(self, then: Callable[[Call, bytes | None], None]) -> None:
        """Read the one message; None: there is none, it is too large, or the call was cut off."""

        def ended(event: Any) -> None:  # noqa: ANN401
            self._calls.idle.pop(self, None)
            then(self, event.batch_operations[0].message())

        self._core.start_server_batch((cygrpc.ReceiveMessageOperation(0),), ended)
        self._calls.idle[self] = None

    def when_given_up(self, then: Callable[[], object]) -> None:
        """Call that when the caller has gone before the answer."""

        def ended(event: Any) -> None:  # noqa: ANN401
            if event.batch_operations[0].cancelled():
                then()

        self._hears_of_its_end = True
        self._core.start_server_batch((cygrpc.ReceiveCloseOnServerOperation(0),), ended)

    def answer(self, message: bytes) -> None:
        """Send the one answer, and end well. Raises TypeError for what is none.

        gRPC would send None as an empty message, whose status, to Envoy, is OK: it would let the request in.
        """
        if type(message) is not bytes or not message:
            raise TypeError(f"no answer: {type(message).__name__}")
        self._end((cygrpc.SendMessageOperation(message, 0),), 0, b"")

    def end(self, code: grpc.StatusCode, details: str = "") -> None:
        """End with this status."""
        self._end((), code.value[0], details.encode())

    def cut_off(self) -> None:
        """End it at once, whatever it waits for."""
        self._calls.idle.pop(self, None)
        self._core.cancel(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "too many calls at a time")

    async def write(self, message: bytes) -> None:
        """Send one of several messages. Raises ConnectionError when the caller has gone."""
        written = asyncio.get_running_loop().create_future()

        def ended(event: Any) -> None:  # noqa: ANN401
            if not written.done():
                written.set_result(event.success)

        self._start((cygrpc.SendMessageOperation(message, 0),), ended)
        if not await written:
            raise ConnectionError("the caller has gone")

    def _end(self, message: Sequence[Any], code: int, details: bytes) -> None:
        if self._is_over:
            return
        status = cygrpc.SendStatusFromServerOperation(None, code, details, 0)
        heard = () if self._hears_of_its_end else (cygrpc.ReceiveCloseOnServerOperation(0),)
        self._start((*message, status, *heard), self._ended)
        self._calls.idle[self] = None
        self._is_over = True

    def _start(self, operations: Sequence[Any], ended: Callable[[Any], None]) -> None:
        if self._calls.are_closed:  # where gRPC's core would end the process
            raise ConnectionError("the server has stopped")
        beginning = () if self._said else (cygrpc.SendInitialMetadataOperation(None, 0),)
        self._core.start_server_batch((*beginning, *operations), ended)
        self._said = True

    def _ended(self, _event: object) -> None:
        """Be what the core holds until it is done with the call."""
        self._calls.idle.pop(self, None)


Unary: TypeAlias = Callable[[bytes, Call], Coroutine[Any, Any, bytes]]
"""A message becomes an answer; RefusedCall: it does not. It begins in the task that serves everybody: what speaks of
the current task, as `asyncio.timeout` does, would speak of that one."""
Streaming: TypeAlias = Callable[[bytes, Call], AsyncGenerator[bytes, None]]
"""A message becomes answers, one after the other."""


class Calls:
    """A server of some methods, each known by its path on the wire."""

    def __init__(
        self,
        unary: Mapping[str, Unary],
        streaming: Mapping[str, Streaming],
        *,
        options: Iterable[tuple[str, int]],
        most_calls: int,
    ) -> None:
        """`options` are gRPC's channel arguments; of more than `most_calls` at a time the rest is refused.

        Not the newest, where some are idle: whoever may connect could hold as many, and shut everybody else out.
        """
        self.under_way = 0  # calls
        # Calls whose callers have yet to send the message, or to take the answer; the oldest first.
        self.idle: dict[Call, None] = {}
        self.are_closed = False  # and nothing can be sent any more
        self._methods: Mapping[bytes, Callable[[Call, bytes | None], None]] = {
            **{path.encode(): partial(self._answer, method) for path, method in unary.items()},
            **{path.encode(): partial(self._stream, method) for path, method in streaming.items()},
        }
        self._most_calls = most_calls
        self._queue = cygrpc.CompletionQueue()
        self._core = cygrpc.Server(tuple(options), False)  # False: not configured by xDS
        self._core.register_completion_queue(self._queue)
        self._tasks: set[asyncio.Task[Any]] = set()  # the loop itself holds tasks weakly
        self._serving: asyncio.Task[None] | None = None
        self._is_asking = False  # gRPC's core for the next call
        self._stopping = False
        self._stopped = asyncio.Event()  # no call is under way, and none will be
        self._is_over = False
        self._last = 0.0  # event's time, as perf_counter tells it

    def bind(self, target: str, credentials: grpc.ServerCredentials | None) -> int:
        """Give the port. Raises OSError, with no reason, when it cannot be had."""
        try:
            if credentials is None:
                port: int = self._core.add_http2_port(target.encode())
            else:
                port = self._core.add_http2_port(target.encode(), credentials._credentials)  # type: ignore[attr-defined]  # noqa: SLF001
        except RuntimeError:  # it names gRPC's variables, and no cause
            port = 0
        if port == 0:
            raise OSError(f"cannot listen on {target}")
        return port

    def start(self) -> None:
        """Listen, and answer from now on."""
        self._core.start()
        self._ask_for_a_call()
        self._serving = asyncio.get_running_loop().create_task(self._serve(), name="authz-grpc")

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, let those that were handed to us end, and cut off those that have not."""
        serving, self._serving = self._serving, None
        if serving is None:
            return
        self._stopping = True
        self._core.shutdown(self._queue, lambda _event: self._stopped.set())
        try:
            async with asyncio.timeout(grace_seconds):
                await self._stopped.wait()
        except TimeoutError:
            self._core.cancel_all_calls()
            await self._stopped.wait()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.are_closed = True
        self._core.destroy()
        self._queue.shutdown()
        await serving

    async def _serve(self) -> None:
        with ThreadPoolExecutor(1, "authz-grpc") as thread:
            while not self._is_over:
                try:
                    await self._serve_until_none_comes(thread)
                except Exception:  # or nobody would be answered any more
                    log.exception("internal error: events of gRPC's were lost")
                    await asyncio.sleep(SECONDS_AFTER_A_FAILURE)

    async def _serve_until_none_comes(self, thread: ThreadPoolExecutor) -> None:
        if not (self._is_asking or self._stopping):  # asking failed
            self._ask_for_a_call()
        event = await asyncio.get_running_loop().run_in_executor(thread, self._next, LONGEST_WAIT_SECONDS)
        if event is None:
            return
        self._take(event)
        del event  # it holds its call, which would be under way until the next one comes
        self._last = perf_counter()
        more = True
        while more:
            more = self._more_may_come()
            await asyncio.sleep(0)

    def _more_may_come(self) -> bool:
        """Wait once, take what is there, and tell whether the thread of the event loop is to wait for more.

        Once: a call comes in two events, and a turn of everything else, between these, would delay its answer.
        """
        # Long work on this loop stands aside for calls that are there, and not for those that may come. Meanwhile
        # no thread waits in our place: it would have to wait for the interpreter's lock, too.
        is_busy = is_under_way()
        event = self._next(0.0 if is_busy else LINGER_SECONDS)
        now = perf_counter()
        if event is None:
            return is_busy or now - self._last < LINGER_SECONDS
        ends = now + TURN_SECONDS
        while event is not None:
            self._take(event)
            self._last = perf_counter()
            event = self._next(0.0) if self._last < ends else None
        return True

    def _next(self, seconds: float) -> Any | None:  # noqa: ANN401
        """Wait so long for an event, or not at all; None: there was none, or the server is over."""
        event = self._queue.poll(time.time() + seconds if seconds else LONG_AGO)
        if event.tag is not None:
            return event
        self._is_over = self._is_over or event.completion_type == cygrpc.CompletionType.queue_shutdown
        return None

    def _take(self, event: Any) -> None:  # noqa: ANN401
        """Go on with the call that this event belongs to. If that fails, it is let go, which cuts it off."""
        try:
            if isinstance(event, cygrpc.RequestCallEvent):
                self._is_asking = False
            event.tag(event)
        except BaseException:  # or nobody would be answered any more
            log.exception("internal error: a call was cut off")

    def _ask_for_a_call(self) -> None:
        self._core.request_call(self._queue, self._queue, self._arrived)
        self._is_asking = True

    def _arrived(self, event: Any) -> None:  # noqa: ANN401
        if not self._stopping:
            self._ask_for_a_call()
        if not event.success:  # the server stops
            return
        call = Call(self, event.call, event.call_details.deadline)
        method = self._methods.get(event.call_details.method)
        if self.under_way > self._most_calls and self.idle:
            next(iter(self.idle)).cut_off()
        elif self.under_way > self._most_calls:
            call.end(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls at a time")
            return
        if method is None:
            call.end(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        else:
            call.read(method)

    def _answer(self, method: Unary, call: Call, message: bytes | None) -> None:
        if message is None:
            call.end(grpc.StatusCode.UNIMPLEMENTED, "a call has one message")
            return
        answering = method(message, call)
        try:
            waits_for = answering.send(None)
        except StopIteration as answered:
            call.answer(answered.value)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller is told no
            self._fail(call, error)
        else:
            self._go_on(call, self._answer_later(call, _rest(waits_for, answering)))

    async def _answer_later(self, call: Call, answering: Coroutine[Any, Any, bytes]) -> None:
        call.answer(await answering)

    def _stream(self, method: Streaming, call: Call, message: bytes | None) -> None:
        if message is None:
            call.end(grpc.StatusCode.UNIMPLEMENTED, "a call has one message")
        else:
            self._go_on(call, self._write(call, method(message, call)))

    async def _write(self, call: Call, answers: AsyncGenerator[bytes, None]) -> None:
        async with aclosing(answers):
            async for answer in answers:
                await call.write(answer)
        call.end(grpc.StatusCode.OK)

    def _go_on(self, call: Call, work: Coroutine[Any, Any, None]) -> None:
        """Do the work for a call in a task, as long as its caller waits."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, call))
        call.when_given_up(task.cancel)

    def _done(self, call: Call, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            call.end(grpc.StatusCode.CANCELLED)  # whose caller has gone, mostly
        elif (error := task.exception()) is not None:
            self._fail(call, error)

    def _fail(self, call: Call, error: BaseException) -> None:
        if isinstance(error, RefusedCall):
            call.end(error.code, str(error))
            return
        if not isinstance(error, ConnectionError):
            log.error("internal error: a call was refused", exc_info=error)
        call.end(grpc.StatusCode.INTERNAL)


@coroutine
def _rest(waits_for: Any, begun: Coroutine[Any, Any, bytes]) -> Generator[Any, Any, bytes]:  # noqa: ANN401
    """Be, for a task, what is left of a coroutine that was begun without one, and waits for that future."""
    try:
        while True:
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - what it waited for has failed, or it is cancelled: its to say
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(None)
    except StopIteration as answered:
        answer: bytes = answered.value
        return answer
