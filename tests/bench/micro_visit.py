"""How long one whole visit takes, from bytes to bytes, without gRPC: `python -m tests.bench.micro_visit`.

The service is built as `authz serve` builds it, with ten routes and the keys in a file; its log goes to /dev/null. What
the floor of `make bench` costs beside it is gRPC's own work. "Together" is how a rush is decided: in groups, step by
step (`authz/transport/rush.py`).
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Final

from authz.lines import LineWriter
from authz.metrics import Metrics
from authz.service import Service
from authz.settings import load_settings
from authz.transport.event_loop import EventLoop
from authz.transport.rush import ENOUGH
from tests.bench import messages
from tests.support.user_pool import FakeUserPool

BATCH: Final = 96
BATCHES: Final = 100
GRPC_PREFIX: Final = 5  # bytes


async def main() -> None:
    pool = messages.new_pool()
    token = messages.reader(pool)
    known = messages.message(token)[GRPC_PREFIX:]
    strange = messages.message(messages.stranger(pool))[GRPC_PREFIX:]
    tokens = messages.sign_readers(pool, 2 * BATCH * BATCHES)
    new = [messages.message(signed)[GRPC_PREFIX:] for signed in tokens]
    for decisions in ("denied", "all"):
        writer = LineWriter(os.open(os.devnull, os.O_WRONLY))
        with tempfile.TemporaryDirectory() as folder:
            service = await start(Path(folder), pool, decisions, writer)
            await measure(f"allowed, log of {decisions}", service, [known] * BATCH * BATCHES)
            await measure(f"allowed, log of {decisions}, together", service, [known] * BATCH * BATCHES, ENOUGH)
            await measure(f"denied, log of {decisions}", service, [strange] * BATCH * BATCHES)
            if decisions == "denied":
                await measure("allowed, a new token each time", service, new[::2])
                await measure("allowed, a new token each time, together", service, new[1::2], ENOUGH)
            await service._fetch.close()
        writer.close(timeout=2.0)


async def start(folder: Path, pool: FakeUserPool, decisions: str, writer: LineWriter) -> Service:
    """Build the service and have it fetch its keys; nothing listens."""
    (folder / "jwks.json").write_bytes(pool.jwks())
    (folder / "routes.yaml").write_text(messages.policies(10))
    trust = {"user_pool": pool.pool_id, "clients": [pool.client_id], "token_use": ["access"]}
    configuration = {
        "admin": "off",
        "policies": "routes.yaml",
        "cognito": [{**trust, "jwks_uri": (folder / "jwks.json").as_uri()}],
        "log": {"decisions": decisions},
    }
    (folder / "authz.yaml").write_text(json.dumps(configuration))
    settings = load_settings(folder / "authz.yaml", environ={}, overrides={})
    service = Service(settings, writer=writer, metrics=Metrics(version="0", wall=time.time))
    service.policies.load()
    fetching = asyncio.create_task(service._issuers[0].keys.run())
    while service._missing():  # noqa: ASYNC110 - keys have no event to wait for
        await asyncio.sleep(0.01)
    fetching.cancel()
    with suppress(asyncio.CancelledError):
        await fetching
    return service


class Call:
    """Plays gRPC's context of a call that is in no hurry."""

    def time_remaining(self) -> float | None:
        return None


async def measure(what: str, service: Service, asked: Iterable[bytes], together: int = 1) -> None:
    """Print the median and the 99th percentile of batches; `together`: so many come at once."""
    rest, check, call = iter(asked), service.door.check, Call()
    batches = []
    for _ in range(BATCHES):
        groups = [[next(rest) for _ in range(together)] for _ in range(BATCH // together)]
        started = time.perf_counter()
        for group in groups:
            if together == 1:
                await check(group[0])
            else:
                await asyncio.gather(*[check(data, call) for data in group])
        batches.append(1e6 * (time.perf_counter() - started) / BATCH)
        await asyncio.sleep(0.02)  # lets the writer of lines empty its queue
    batches.sort()
    print(f"{what:48} {median(batches):7.1f} µs   p99 {batches[-2]:7.1f} µs")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(main())
