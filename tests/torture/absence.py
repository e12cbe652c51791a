"""Cognito may be away: known keys serve for a day, then nothing is guessed, and the way back is short.

The day passes on a clock that is moved, minute by minute, with the service in this process; starts and restarts are
real processes beside a real endpoint that refuses connections.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from authz.identity.fetch import FetchError, FetchResult
from authz.pb import external_auth_pb2 as pb
from authz.service import Service
from tests.support.check_request import check_request
from tests.support.jwks_server import Answer, JwksServer
from tests.support.running_service import RunningService, reply_of
from tests.support.user_pool import NOW, FakeUserPool
from tests.support.whole_service import keys_of, whole_service
from tests.torture.figures import Figure, Stand, at_most, none_of

DAY: Final = 24 * 3600
POLICY: Final = "- {from: 'https://app.example.com', allow_any_authenticated_user: true}\n"
ALLOWED: Final = (200, 0, "user-ok")
UNAVAILABLE: Final = (503, 14, "keys-unavailable")
STARTS: Final = 8
RETRY_LIMIT: Final = 5.5  # seconds: the promised five, and what the measurement itself may take


class Day(NamedTuple):
    """What became of good tokens, by verdict: within the day without the endpoint, after it, and when it is back."""

    within: Counter[tuple[int, int, str]]
    after: Counter[tuple[int, int, str]]
    back: Counter[tuple[int, int, str]]
    failed_fetches: int


class _Moved:
    """The service under clocks that are moved, and an endpoint that is away."""

    def __init__(self, service: Service) -> None:
        self.seconds = 0.0
        self.away = True
        self.failed = 0
        self.pool = FakeUserPool(clock=lambda: NOW + self.seconds)
        self._service = service
        self._keys = keys_of(service)
        self._keys._clock = lambda: self.seconds
        self._keys._wall = lambda: NOW + self.seconds
        self._keys._fetch = self._fetch
        service.door._wall = lambda: NOW + self.seconds
        self._old = self.pool.token(exp=NOW + 3 * DAY)  # remembered from its first visit on

    async def _fetch(self, uri: str, timeout: float) -> bytes:  # noqa: ASYNC109 - the port's own signature
        if self.away:
            self.failed += 1
            raise FetchError(FetchResult.ERROR_UNREACHABLE, "away")
        return self.pool.jwks()

    async def refresh(self) -> None:
        """Do what the periodic refresh does."""
        await asyncio.wait({self._keys._start_fetch()})

    async def verdicts(self) -> list[tuple[int, int, str]]:
        """Ask with a token that was seen before, two new ones, and one whose kid nobody knows, which counts not."""
        new = [self.pool.token(jti=str(uuid.uuid4())) for _ in range(2)]
        await self._ask(self.pool.token(header={"kid": str(uuid.uuid4())}))
        return [await self._ask(token) for token in (self._old, *new)]

    async def _ask(self, token: str) -> tuple[int, int, str]:
        data = check_request(token=token).SerializeToString()
        return reply_of(pb.CheckResponse.FromString(await self._service.door.check(data))).verdict


async def a_day(folder: Path, step: float) -> Day:
    """Let a day and an hour pass without the endpoint, in steps of so many seconds."""
    async with whole_service(folder, POLICY, FakeUserPool(), {"log": {"decisions": "none"}}) as service:
        moved = _Moved(service)
        moved.away = False
        await moved.refresh()
        moved.away = True
        within: Counter[tuple[int, int, str]] = Counter()
        after: Counter[tuple[int, int, str]] = Counter()
        for number in itertools.count(1):
            moved.seconds = min(number * step, DAY - 0.001)  # the last moment, too
            await moved.refresh()
            within.update(await moved.verdicts())
            if number * step >= DAY:
                break
        for seconds in (DAY, DAY + 0.001, DAY + 60, DAY + 3600):
            moved.seconds = seconds
            await moved.refresh()
            after.update(await moved.verdicts())
        moved.away = False
        await moved.refresh()
        return Day(within, after, Counter(await moved.verdicts()), moved.failed)


class ColdStart(NamedTuple):
    """A start without keys: verdicts while the endpoint is away, seconds from its return to ready, the verdict then."""

    away: set[tuple[int, int, str]]
    ready_after: float
    then: tuple[int, int, str]


def cold_start(folder: Path, wait: float) -> ColdStart:
    """Start without keys; so many seconds later the endpoint returns."""
    pool = FakeUserPool(clock=time.time)
    with JwksServer(Answer(pool.jwks())) as endpoint:
        endpoint.stop()
        try:
            with RunningService(folder, POLICY, pools=[pool], jwks_uri=endpoint.uri, wait=False) as service:
                service.wait_for_line("fetch failed")
                away = {service.check(check_request(token=pool.token())).verdict for _ in range(3)}
                away |= {(status, 14, "keys-unavailable") for status in (service.get("/readyz")[0],)}
                time.sleep(wait)  # nobody asks meanwhile: whoever asked would have a fetch started
                started = time.monotonic()
                endpoint.start()
                service.wait_for(lambda: service.get("/readyz")[0] == 200, "readiness")
                seconds = time.monotonic() - started
                return ColdStart(away, seconds, service.check(check_request(token=pool.token())).verdict)
        finally:
            if endpoint._stopping.is_set():  # the block's own end stops it once more
                endpoint.start()


def restart(folder: Path, checks: int) -> Counter[tuple[int, int, str]]:
    """Start with the endpoint, end, and start again without it; give the verdicts of good tokens then."""
    pool = FakeUserPool(clock=time.time)
    settings = {"jwks": {"cache_dir": str(folder / "cache")}}
    folder.mkdir()
    (folder / "first").mkdir()
    (folder / "second").mkdir()
    with JwksServer(Answer(pool.jwks())) as endpoint:
        with RunningService(
            folder / "first", POLICY, pools=[pool], jwks_uri=endpoint.uri, settings=settings
        ) as service:
            service.wait_for(lambda: list((folder / "cache").glob("*.json")), "the cache file")
            service.stop()
        endpoint.answer = Answer(hang_up=True)
        with RunningService(
            folder / "second", POLICY, pools=[pool], jwks_uri=endpoint.uri, settings=settings
        ) as service:
            tokens = [pool.token(jti=str(uuid.uuid4())) for _ in range(checks)]
            return Counter(service.check(check_request(token=token)).verdict for token in tokens)


def torture(stand: Stand) -> Iterator[Figure]:
    """Give the figures of promise 4."""
    folder = _made(stand.folder / "day")
    day = asyncio.run(a_day(folder, max(60.0, DAY / stand.count(1440))))
    asked = day.within.total()
    what = f"good tokens refused while the endpoint is away for 24 h ({day.failed_fetches:,} fetches failed)"
    yield none_of(what, asked - day.within[ALLOWED], asked)
    yield none_of("answers other than 503 after 24 h", day.after.total() - day.after[UNAVAILABLE], day.after.total())
    yield none_of("refused once it is back", day.back.total() - day.back[ALLOWED], day.back.total())
    chance = random.Random(4)
    waits = [chance.uniform(0, 5) for _ in range(stand.count(STARTS))]
    starts = [cold_start(_made(stand.folder / f"cold-{number}"), wait) for number, wait in enumerate(waits)]
    wrong = sum(start.away != {UNAVAILABLE} or start.then != ALLOWED for start in starts)
    yield none_of("cold starts that answered anything but 503, or were not right afterwards", wrong, len(starts))
    longest = max(start.ready_after for start in starts)
    yield at_most("from the endpoint's return to ready, the longest", longest, RETRY_LIMIT, "s")
    verdicts = restart(stand.folder / "restart", stand.count(500))
    refused = verdicts.total() - verdicts[ALLOWED]
    yield none_of("refused after a restart while it is away, with cache_dir", refused, verdicts.total())


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
