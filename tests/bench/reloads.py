"""What a reload of 10,000 routes costs the requests that are being decided: `python -m tests.bench.reloads`.

A real `authz serve` is asked at a fixed rate (open loop: a late answer delays no question) while the policy file is
replaced, several times. Prints for quiet seconds and for those of a reload the median and the 99th percentile of the
answers' latency, and how long the new set took from its saving to its first decision (150 ms of that are the wait for
a file to keep still). The goals: p99 at most doubled, a set in force within 2 s. `make bench` measures them at 1,000/s;
this is for trying out a change.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import grpc

from authz.pb import external_auth_pb2 as pb
from tests.support.check_request import check_request
from tests.support.running_service import CHECK, RunningService
from tests.support.user_pool import FakeUserPool

RATE = 300  # questions a second: the asking process needs most of a core for more
ROUTES, ROUNDS, QUIET_SECONDS = 10_000, 5, 2.0
FIRST = "- {from: 'https://app.example.com', allow_any_authenticated_user: true}\n"


def policies(version: int) -> str:
    route = (
        "- {{from: 'https://h{}.example.com', prefix: /{}/{}, allowed_idp_claims: {{'cognito:groups': [admins]}}}}\n"
    )
    return FIRST + "".join(route.format(number % 100, number, version) for number in range(ROUTES))


class Asking:
    """Asks at the rate and keeps (when it asked, how long it took, the revision that decided)."""

    def __init__(self, channel: grpc.aio.Channel, question: bytes) -> None:
        self.answers: list[tuple[float, float, str]] = []
        self.refused = 0
        self._call = channel.unary_unary(CHECK)
        self._question = question
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        due = time.perf_counter()
        while True:
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._ask())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self) -> None:
        asked = time.perf_counter()
        try:
            response = pb.CheckResponse.FromString(await self._call(self._question))
        except grpc.aio.AioRpcError:
            self.refused += 1
            return
        revision = response.dynamic_metadata.fields["policy_revision"].string_value
        self.answers.append((asked, time.perf_counter() - asked, revision))

    @property
    def revision(self) -> str:
        return self.answers[-1][2] if self.answers else ""

    def latencies(self, start: float, end: float) -> list[float]:
        return sorted(took for asked, took, _ in self.answers if start <= asked < end)


async def measure(service: RunningService, question: bytes) -> None:
    async with grpc.aio.insecure_channel(service.target) as channel:
        asking = Asking(channel, question)
        task = asyncio.create_task(asking.run())
        await asyncio.sleep(1.0)
        rows = []
        for version in range(ROUNDS):
            start = time.perf_counter()
            await asyncio.sleep(QUIET_SECONDS)
            new = policies(version)
            await asyncio.sleep(0.1)
            saved, before = time.perf_counter(), asking.revision
            service.policy_file.write_text(new, encoding="utf-8")
            while asking.revision == before:  # noqa: ASYNC110 - what is asked is what is measured
                await asyncio.sleep(0.01)
            decided = time.perf_counter()
            await asyncio.sleep(0.3)  # what is left of the old set goes now
            quiet = asking.latencies(start, start + QUIET_SECONDS)
            busy = asking.latencies(saved, decided + 0.3)
            rows.append((*percentiles(quiet), *percentiles(busy), decided - saved))
            tell(
                "quiet p50 {:.2f} p99 {:.2f} ms, reload p50 {:.2f} p99 {:.2f} ms, in force after {:.2f} s".format(
                    *rows[-1]
                )
            )
        task.cancel()
        _, quiet_p99, _, busy_p99, in_force = (median(column) for column in zip(*rows, strict=True))
        tell(
            f"medians: p99 {quiet_p99:.2f} → {busy_p99:.2f} ms, {busy_p99 / quiet_p99:.1f} ×; "
            f"in force after {in_force:.2f} s"
        )
        tell(f"refused: {asking.refused}")


def tell(line: str) -> None:
    print(line, flush=True)


def percentiles(latencies: list[float]) -> tuple[float, float]:
    return latencies[len(latencies) // 2] * 1000, latencies[int(len(latencies) * 0.99)] * 1000


def main() -> None:
    pool = FakeUserPool(clock=time.time)
    question = check_request(token=pool.token()).SerializeToString()
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningService(Path(folder), FIRST, pools=[pool], settings={"log": {"decisions": "none"}}) as service,
    ):
        asyncio.run(measure(service, question))


if __name__ == "__main__":
    sys.exit(main())
