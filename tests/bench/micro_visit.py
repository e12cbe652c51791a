"""How long one whole visit takes, from bytes to bytes, without gRPC: `python -m tests.bench.micro_visit`.

The service is built as `authz serve` builds it, with ten routes and the keys in a file; its log goes to /dev/null. What
the floor of `make bench` costs beside it is gRPC's own work.
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
from tests.bench import messages
from tests.support.user_pool import FakeUserPool

BATCH: Final = 100
BATCHES: Final = 100
GRPC_PREFIX: Final = 5  # bytes


async def main() -> None:
    pool = messages.new_pool()
    token = messages.reader(pool)
    known = messages.message(token)[GRPC_PREFIX:]
    strange = messages.message(messages.stranger(pool))[GRPC_PREFIX:]
    new = [messages.message(messages.reader(pool))[GRPC_PREFIX:] for _ in range(BATCH * BATCHES)]
    for decisions in ("denied", "all"):
        writer = LineWriter(os.open(os.devnull, os.O_WRONLY))
        with tempfile.TemporaryDirectory() as folder:
            service = await start(Path(folder), pool, decisions, writer)
            await measure(f"allowed, log of {decisions}", service, [known] * BATCH * BATCHES)
            await measure(f"denied, log of {decisions}", service, [strange] * BATCH * BATCHES)
            if decisions == "denied":
                await measure("allowed, a new token each time", service, new)
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


async def measure(what: str, service: Service, asked: Iterable[bytes]) -> None:
    """Print the median and the 99th percentile of batches."""
    rest = iter(asked)
    batches = []
    for _ in range(BATCHES):
        batch = [next(rest) for _ in range(BATCH)]
        started = time.perf_counter()
        for data in batch:
            await service.door.check(data)
        batches.append(1e6 * (time.perf_counter() - started) / BATCH)
        await asyncio.sleep(0.02)  # lets the writer of lines empty its queue
    batches.sort()
    print(f"{what:48} {median(batches):7.1f} µs   p99 {batches[-2]:7.1f} µs")


if __name__ == "__main__":
    asyncio.run(main())
