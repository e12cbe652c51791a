"""The clock may jump: ten years either way, back by an hour, over a leap second, through DST. No wrong allow, no hang.

The whole service in this process, its clocks in our hand: the wall clock that tokens and policies are judged by, the
monotonic one that keys are aged by. Every visit is at another instant, in no order. What must come out is worked out
anew each time, for times of day and dates by the interpreter of tests/support, which shares no code with the service.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from authz.errors import KeysError
from authz.pb import external_auth_pb2 as pb
from authz.service import Service
from tests.support.check_request import check_request
from tests.support.interpreter import clock_of, fits_date, fits_day, fits_time
from tests.support.running_service import reply_of
from tests.support.user_pool import NOW, FakeUserPool
from tests.support.whole_service import keys_of, whole_service
from tests.torture.figures import Figure, Stand, at_most, none_of

TIMED: Final = 30_000  # decisions by time criteria
TOKENS: Final = 20_000  # decisions by tokens' times
DAY: Final = 24 * 3600
YEAR: Final = 365.25 * DAY
LEEWAY: Final = 30
MAX_AGE: Final = 900
HANGS: Final = 1.0  # seconds; a visit takes a tenth of a millisecond

ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "Australia/Lord_Howe")
LEAP_SECONDS: Final = (1483228800, 1435708800, 1341100800)  # POSIX time says this second twice
CRITERIA: Final[Sequence[dict[str, Any]]] = [
    *(
        {"time_of_day": {"timezone": zone, **bounds}}
        for zone in ZONES
        for bounds in (
            {"after": "02:00"},
            {"before": "3:00 AM"},
            {"after": "01:30", "before": "02:30"},
            {"after": "23:59:59"},
            {"before": "00:00:01"},
        )
    ),
    *({"day_of_week": {"days": days, "timezone": zone}} for zone in ZONES for days in ("mon-fri", "sun", "sat-mon")),
    *(
        {"date": {"timezone": zone, **bounds}}
        for zone in ZONES
        for bounds in (
            {"after": "2026-03-29", "before": "2026-10-25"},
            {"after": "2027-01-01"},
            {"before": "2028-02-29T12:00:00"},
            {"after": "2017-01-01T00:00:00Z", "before": "2037-01-01"},
        )
    ),
]
FITS: Final = {"time_of_day": fits_time, "day_of_week": fits_day, "date": fits_date}


class Outcome(NamedTuple):
    """How many visits were decided, which of them wrongly, and the longest."""

    visits: int
    wrong: list[str]
    longest: float  # seconds


class _Clocks:
    """The service, and the clocks that it looks at."""

    def __init__(self, service: Service, pool: FakeUserPool) -> None:
        self.wall: float = NOW
        self.monotonic = 1_000.0
        self.longest = 0.0
        self.fetched: list[bool] = []  # whether each fetch succeeded
        self.away = False
        self._pool = pool
        self._door = service.door
        self.keys = keys_of(service)
        service.door._wall = lambda: self.wall
        self.keys._clock = lambda: self.monotonic
        self.keys._wall = lambda: self.wall
        self.keys._fetch = self._fetch

    async def _fetch(self, uri: str, timeout: float) -> bytes:  # noqa: ASYNC109 - the port's own signature
        self.fetched.append(not self.away)
        if self.away:
            raise KeysError("away")
        return self._pool.jwks()

    async def refresh(self) -> None:
        await asyncio.wait({self.keys._start_fetch()})

    async def ask(self, data: bytes) -> tuple[int, str]:
        """Ask now, whenever that is: status and reason."""
        started = time.perf_counter()
        answer = await self._door.check(data)
        self.longest = max(self.longest, time.perf_counter() - started)
        reply = reply_of(pb.CheckResponse.FromString(answer))
        return reply.status, reply.reason


def _policies() -> str:
    routes = [
        {"from": "https://app.example.com", "path": f"/{number}", "policy": {"allow": {"or": [criterion]}}}
        for number, criterion in enumerate(CRITERIA)
    ]
    routes += [
        {"from": "https://app.example.com", "path": "/any", "allow_any_authenticated_user": True},
        {
            "from": "https://app.example.com",
            "path": "/recent",
            "policy": {"allow": {"and": [{"auth_age": {"max": "15m"}}]}},
        },
    ]
    return json.dumps(routes)


@asynccontextmanager
async def _clocks(folder: Path) -> AsyncIterator[tuple[_Clocks, FakeUserPool]]:
    pool = FakeUserPool()
    trust = {"user_pool": pool.pool_id, "clients": [pool.client_id], "token_use": ["access"], "leeway": f"{LEEWAY}s"}
    cognito = [{**trust, "jwks_uri": (folder / "jwks.json").as_uri()}]
    settings = {"cognito": cognito, "log": {"decisions": "none"}}
    async with whole_service(folder, _policies(), pool, settings) as service:
        clocks = _Clocks(service, pool)
        await clocks.refresh()
        yield clocks, pool


# --- Times of day, days and dates ------------------------------------------------------------------------------------


def edges() -> list[float]:
    """Give the instants at which something changes: DST, midnight in every zone, leap seconds, days that are rare."""
    found: list[float] = [*LEAP_SECONDS]
    for zone in map(ZoneInfo, ZONES):
        for year in (2016, 2026, 2027, 2028, 2037):
            found += _changes(zone, year)
            for month, day in ((1, 1), (3, 1), (10, 25), (12, 31)):
                midnight = datetime(year, month, day, tzinfo=zone)
                found += [(midnight + timedelta(hours=hours)).timestamp() for hours in (0, 1, 2, 3, 12)]
        found.append(datetime(2028, 2, 29, 12, tzinfo=zone).timestamp())
        found.append(datetime(2026, 3, 29, tzinfo=zone).timestamp())
    return found


def _changes(zone: ZoneInfo, year: int) -> Iterator[float]:
    """Give the hours of that year in which the zone's offset changes, to the half hour."""
    start = datetime(year, 1, 1, tzinfo=UTC)
    halves = [start + timedelta(minutes=30 * number) for number in range(366 * 48)]
    for before, after in itertools.pairwise(halves):
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            yield after.timestamp()


def _own_edges(name: str, data: dict[str, str]) -> list[float]:
    """Give the instants that the criterion itself names: its dates, or its times on days of DST and on another."""
    bounds = [data[key] for key in ("after", "before") if key in data]
    zone = ZoneInfo(data["timezone"])
    if name == "date":
        dates = map(datetime.fromisoformat, bounds)
        return [(date if date.tzinfo else date.replace(tzinfo=zone)).timestamp() for date in dates]
    days = [datetime(2026, 3, 29), datetime(2026, 10, 25), datetime(2026, 11, 1), datetime(2027, 1, 15)]  # noqa: DTZ001
    clocks = [clock_of(bound) for bound in bounds]
    return [datetime.combine(day, clock, zone).timestamp() for day in days for clock in clocks]


STEPS: Final = (0, -0.000001, 0.000001, -0.5, 1, -1, 1800, -1800, 3600, -3600, DAY, -DAY, 10 * YEAR, -10 * YEAR)


async def times(folder: Path, count: int, seed: int = 11) -> Outcome:
    """Decide by time criteria at so many instants, around the edges, in no order."""
    chance, instants = random.Random(seed), edges()
    wrong = []
    async with _clocks(folder) as (clocks, _):
        asked = [check_request(path=f"/{number}").SerializeToString() for number in range(len(CRITERIA))]
        for _ in range(count):
            number = chance.randrange(len(CRITERIA))
            [(name, data)] = CRITERIA[number].items()
            own = chance.random() < 0.5
            clocks.wall = chance.choice((_own_edges(name, data) if own else None) or instants)
            clocks.wall += chance.choice(STEPS[:6] if own else STEPS)
            at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=clocks.wall)
            word = name.replace("_", "-")
            right = (200, f"{word}-ok") if FITS[name](data, at) else (403, f"{word}-unauthorized")
            found = await clocks.ask(asked[number])
            if found != right:
                wrong.append(f"{CRITERIA[number]} at {at.isoformat()}: {found}, not {right}")
        return Outcome(count, wrong, clocks.longest)


# --- Tokens' times ---------------------------------------------------------------------------------------------------


class _Dated(NamedTuple):
    """A token and its times, in seconds since 1970."""

    token: str
    iat: int
    exp: int
    nbf: int | None
    auth_time: int

    def right(self, path: str, now: float) -> tuple[int, str]:
        """Say what must become of it, by the rules of the README alone."""
        if now >= self.exp + LEEWAY:
            return 401, "token-expired"
        if now < self.iat - 60 or (self.nbf is not None and now < self.nbf - LEEWAY):
            return 401, "token-not-yet-valid"
        if path == "/recent":
            recent = -60 <= now - self.auth_time <= MAX_AGE
            return (200, "auth-age-ok") if recent else (403, "auth-age-unauthorized")
        return 200, "user-ok"


def _dated(pool: FakeUserPool, chance: random.Random) -> _Dated:
    iat = NOW + chance.randrange(-DAY, DAY)
    exp = iat + chance.choice([300, 3600, DAY])
    nbf = None if chance.random() < 0.5 else iat + chance.randrange(-120, 300)
    auth_time = iat - chance.choice([0, 0, 300, 3600])
    more = {} if nbf is None else {"nbf": nbf}
    return _Dated(pool.token(iat=iat, exp=exp, auth_time=auth_time, **more), iat, exp, nbf, auth_time)


JUMPS: Final = (0, 0, 1, -1, 59, -59, -60, -61, 29, 30, 31, -29, -30, -31, MAX_AGE, -3600, 3600, 10 * YEAR, -10 * YEAR)
FRACTIONS: Final = (0, 0, 0.001, -0.001, 0.5)


async def token_times(folder: Path, count: int, seed: int = 11) -> Outcome:
    """Decide by tokens' times, new ones and remembered ones, while the wall clock jumps."""
    chance = random.Random(seed)
    wrong = []
    async with _clocks(folder) as (clocks, pool):
        tokens = [_dated(pool, chance) for _ in range(max(20, count // 50))]
        for _ in range(count):
            one, path = chance.choice(tokens), chance.choice(["/any", "/recent"])
            edge = chance.choice([one.iat, one.exp, one.nbf or one.iat, one.auth_time, NOW])
            clocks.wall = edge + chance.choice(JUMPS) + chance.choice(FRACTIONS)
            right = one.right(path, clocks.wall)
            found = await clocks.ask(check_request(path=path, token=one.token).SerializeToString())
            if found != right:
                wrong.append(f"{one[1:]} at {clocks.wall}: {found}, not {right}")
        return Outcome(count, wrong, clocks.longest)


# --- No time at all, and keys ----------------------------------------------------------------------------------------


ABSURD: Final = (0.0, -1.0, -1e9, -1e11, 1e11, 1e12, 1e18, 1e300, -1e300, math.inf, -math.inf, math.nan)


async def absurd(folder: Path) -> Outcome:
    """Read clocks that cannot be right: nobody's token holds then, whether it was seen before or not."""
    wrong, visits = [], 0
    async with _clocks(folder) as (clocks, pool):
        known = check_request(path="/any", token=pool.token()).SerializeToString()
        assert (await clocks.ask(known)) == (200, "user-ok")
        for now in ABSURD:
            new = check_request(path="/any", token=pool.token(jti=str(now))).SerializeToString()
            for data in (known, new):
                clocks.wall = now
                found = await clocks.ask(data)
                visits += 1
                if found[0] not in {401, 503}:
                    wrong.append(f"at {now}: {found}")
                clocks.wall = NOW
                if (after := await clocks.ask(data)) != (200, "user-ok"):
                    wrong.append(f"after {now}: {after}")
        return Outcome(visits, wrong, clocks.longest)


async def keys(folder: Path, count: int, seed: int = 11) -> Outcome:
    """Age keys: the wall clock's jumps change nothing, the monotonic clock's alone; and no pause is too long."""
    chance = random.Random(seed)
    wrong = []
    async with _clocks(folder) as (clocks, pool):
        clocks.away, fetched_at = True, clocks.monotonic
        data = check_request(path="/any", token=pool.token(exp=NOW + 40 * DAY)).SerializeToString()
        for _ in range(count):
            clocks.monotonic += chance.choice([0, 1, 30, 900, 3600, DAY, 10 * YEAR]) * chance.random()
            if chance.random() < 0.3:
                clocks.away = False
                clocks.wall = NOW + chance.choice([0, -3600, 10 * YEAR, -10 * YEAR])
                await clocks.refresh()
                clocks.away, fetched_at = True, clocks.monotonic
            if chance.random() < 0.5:
                clocks.wall = NOW + chance.choice([10 * YEAR, -10 * YEAR, -3600])
                await clocks.refresh()
            clocks.wall = NOW
            pause = clocks.keys._pause(clocks.monotonic - chance.random() * 2, succeeded=chance.random() < 0.5)
            fresh = clocks.monotonic - fetched_at < DAY
            right = (200, "user-ok") if fresh else (503, "keys-unavailable")
            found = await clocks.ask(data)
            if found != right or not 0.5 <= pause <= 1.1 * 900:
                wrong.append(f"{clocks.monotonic - fetched_at} s after the last fetch: {found}, pause {pause}")
        return Outcome(count, wrong, clocks.longest)


# --- The figures -----------------------------------------------------------------------------------------------------


def torture(stand: Stand) -> Iterator[Figure]:
    """Give the figures of promise 11."""
    folders = [stand.folder / name for name in ("times", "tokens", "absurd", "keys")]
    for folder in folders:
        folder.mkdir()
    parts = {
        "decided wrongly by time of day, day or date, around DST, leap seconds and ± 10 years": asyncio.run(
            times(folders[0], stand.count(TIMED))
        ),
        "decided wrongly by exp, nbf, iat or auth_age while the clock jumps": asyncio.run(
            token_times(folders[1], stand.count(TOKENS))
        ),
        "allowed by a clock that cannot be right, or wrong after it": asyncio.run(absurd(folders[2])),
        "keys that the wall clock made older or younger, or too long a pause": asyncio.run(
            keys(folders[3], stand.count(5_000))
        ),
    }
    for what, outcome in parts.items():
        for line in outcome.wrong[:5]:
            stand.tell(f"    {line}")
        yield none_of(what, len(outcome.wrong), outcome.visits)
    yield at_most("the longest visit while the clock jumps", max(one.longest for one in parts.values()), HANGS, "s")
