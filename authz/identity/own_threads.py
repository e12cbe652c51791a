"""Blocking work on keys, each piece of it in a daemon thread of its own.

A disk or a name server can hang for hours, and a thread that waits for one cannot be ended. `asyncio.to_thread` has a
few threads for everybody, policies, revocations and metrics among them, and the end of the process waits for all of
them. A thread of these takes nobody's place, and nobody waits for it in the end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _OwnThreads(Executor):
    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        future: Future[_T] = Future()
        future.set_running_or_notify_cancel()  # it cannot be called back
        work = partial(_settle, future, partial(fn, *args, **kwargs))
        threading.Thread(target=work, name="authz-keys", daemon=True).start()
        return future


def _settle(future: Future[_T], work: Callable[[], _T]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - whoever waits for the work must hear of it
        future.set_exception(error)
    else:
        future.set_result(result)


_OWN_THREADS = _OwnThreads()


def in_own_thread(work: Callable[[], _T]) -> asyncio.Future[_T]:
    """Begin the work now. To cancel the future ends the waiting, not the work."""
    return asyncio.get_running_loop().run_in_executor(_OWN_THREADS, work)


class OneAtATime:
    """Work on sources, of which any may hang: no second piece is begun while one on the same source is under way."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}

    async def run(self, source: Hashable, work: Callable[[], _T]) -> _T:
        """Wait for what is under way on the source, then do the work. It may never come: the caller has a deadline."""
        while (earlier := self._under_way.get(source)) is not None:
            await asyncio.wait({earlier})  # its outcome is not ours: it may be older than we were asked
        ours = in_own_thread(work)
        self._under_way[source] = ours
        ours.add_done_callback(lambda _: self._under_way.pop(source, None))
        return await asyncio.shield(ours)  # a caller that gives up must not let the next one begin

    def close(self) -> None:
        """Wait for nothing any more. What hangs is left to itself."""
        while self._under_way:
            _, future = self._under_way.popitem()
            future.cancel()
