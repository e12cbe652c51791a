"""The event loop under gRPC: uvloop's, on which no batch of gRPC's operations leaks.

grpc.aio frees what a batch holds only where its future is awaited to a good end (grpc/grpc issue 43360, still so in
1.85). So every message refused for its size, and every call reset before its message came, would leave 96 bytes for
good: most of what `make soak` saw memory grow by, and a megabyte a second for whoever resets 10,000 calls a second.

Here a batch that failed ends well: gRPC looks next whether a message came, finds none, and lets the call go, as it
does otherwise. And a task that waits for a batch is cancelled when that has ended, which is soon: the call is over.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

import uvloop

# gRPC keeps both to itself; tests/unit/transport/test_event_loop.py tells when they are called otherwise.
_BATCH: Final = "execute_batch"
_BATCH_ERROR: Final = "ExecuteBatchError"


class _Future(asyncio.Future[Any]):
    __slots__ = ()

    def set_exception(self, exception: type | BaseException, /) -> None:
        if type(exception).__name__ == _BATCH_ERROR:
            self.set_result(None)
        else:
            super().set_exception(exception)


class _Task(asyncio.Task[Any]):
    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ANN401 - as asyncio has it
        waiter: asyncio.Future[Any] | None = self._fut_waiter  # type: ignore[attr-defined]  # typeshed leaves it out
        if waiter is None or _innermost(self.get_coro()) != _BATCH:
            return super().cancel(msg)
        waiter.add_done_callback(lambda _: self.cancel(msg))  # after the step in which gRPC frees the batch
        return True


def _innermost(coroutine: object) -> str:
    """Name the coroutine that waits for something that is none."""
    name = ""
    while coroutine is not None:
        name = getattr(coroutine, "__name__", name)
        coroutine = getattr(coroutine, "cr_await", None)
    return name


class EventLoop(uvloop.Loop):
    """uvloop: between a call's bytes and our code is the event loop, and gRPC wakes it several times a call."""

    def __init__(self) -> None:
        super().__init__()
        # Not methods: each call asks for half a dozen, and so no line of Python stands between.
        self.create_future = partial(_Future, loop=self)  # type: ignore[method-assign]
        self.create_task = partial(_Task, loop=self)  # type: ignore[method-assign]
