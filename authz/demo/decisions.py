"""The service's log while it is written: decisions by their request id, and a listener for all that happens."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

Record: TypeAlias = Mapping[str, Any]

_KEPT: Final = 1000


class Decisions:
    """Reads the JSON lines of `authz serve`; `listen` is given every record."""

    def __init__(self, listen: Callable[[Record], None] | None = None) -> None:
        self.refusals = 0  # how often a policy set did not load
        self._listen = listen
        self._by_request: OrderedDict[str, Record] = OrderedDict()
        self._changed = asyncio.Event()

    def add(self, line: str) -> None:
        """Take one line; what is no JSON object is none of ours."""
        try:
            record = json.loads(line)
        except ValueError:
            return
        if not isinstance(record, dict):
            return
        self.refusals += str(record.get("msg", "")).startswith("policies refused")
        if request_id := record.get("request_id"):
            self._by_request[request_id] = record
            if len(self._by_request) > _KEPT:
                self._by_request.popitem(last=False)
        self._changed.set()
        if self._listen is not None:
            self._listen(record)

    async def of(self, request_id: str, seconds: float = 2.0) -> Record | None:
        """Give the decision about a request; its line may come a moment after its answer."""
        await self._until(lambda: request_id in self._by_request, seconds)
        return self._by_request.get(request_id)

    async def next_refusal(self, before: int) -> bool:
        """Wait until more policy sets were refused than `before`."""
        await self._until(lambda: self.refusals > before, 2.0)
        return self.refusals > before

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
