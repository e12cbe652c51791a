"""Nothing is allowed by omission: every call on the request path made to raise in turn.

A visit is recorded once: each call that the package's code makes or receives, Python's and C's alike, and each return
from C, while the service (built as `authz serve` builds it) answers one message. Then the visit is played again, once a
recorded call and kind of exception, with that call made to raise. The answer must be a deny with a code, or the very
allow that is right; it must be an answer at all; and the next visit must be decided as if nothing had happened.

CancelledError and GeneratorExit are not injected: with them the caller has gone, and nobody waits for an answer.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import logging
import random
import sys
import time
import uuid
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from itertools import chain, islice
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, Self

import authz
from authz.authorizer import Authorizer
from authz.demo.stand import envoy_binary
from authz.pb import external_auth_pb2 as pb
from tests.bench import through_envoy
from tests.bench.servers import Server
from tests.support.check_request import check_request
from tests.support.faulty_service import FAULTS, FaultyService
from tests.support.ports import free_ports
from tests.support.user_pool import FakeUserPool
from tests.support.whole_service import keys_of, whole_service
from tests.torture.figures import Figure, Stand, none_of

REPLAYS: Final = 30_000
LONGEST: Final = 140.0  # seconds; a slower machine plays fewer of them, every call once before any is played again
PACKAGE: Final = str(Path(authz.__file__).parent)


class Panic(BaseException):
    """As pyo3's PanicException, which `cryptography` can raise: not an Exception."""


def _undecodable() -> UnicodeDecodeError:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "injected")


EXCEPTIONS: Final[Mapping[str, Callable[[], BaseException]]] = {
    "RuntimeError": RuntimeError,
    "KeyError": lambda: KeyError("injected"),
    "UnicodeDecodeError": _undecodable,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "TypeError": TypeError,
    "OSError": OSError,
    "TimeoutError": TimeoutError,
    "StopIteration": StopIteration,
    "Panic": Panic,
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
}

POLICIES: Final = """
- {from: 'https://app.example.com', path: /public, allow_public_unauthenticated_access: true}
- from: https://app.example.com
  path: /but-banned
  policy: [{allow: {or: [{accept: true}]}}, {deny: {or: [{groups: banned}]}}]
- {from: 'https://app.example.com', path: /closed, policy: {allow: {or: [{groups: nobody-is-in-it}]}}}
- {from: 'https://app.example.com', path: /email, policy: {allow: {or: [{email: alice@example.com}]}}}
- {from: 'https://app.example.com', path: /admins, policy: {allow: {or: [{groups: admins}]}}}
- from: https://app.example.com
  path: /many
  policy:
    allow:
      and:
        - http_method: {in: [GET, POST]}
        - http_path: {starts_with: /ma}
        - source_ip: [192.0.2.0/24, '2001:db8::/32']
        - date: {after: '2020-01-01', before: '2200-01-01', timezone: Europe/Berlin}
        - day_of_week: {days: '*', timezone: Asia/Kolkata}
        - time_of_day: {after: '00:00', timezone: America/New_York}
        - auth_age: {max: 24h}
        - scope: openid
        - claim/cognito:groups: admins
    deny: {or: [{claim/level: '9'}, {groups: banned}, {source_ip: 203.0.113.0/24}]}
"""


class Kind(NamedTuple):
    """A kind of visit: how its message is made, and what becomes of it when nothing breaks."""

    message: Callable[[], bytes]
    code: int
    reason: str


class Replay(NamedTuple):
    """One visit with a fault in it."""

    kind: str
    place: int
    exception: str


class Found(NamedTuple):
    """Something that must not be."""

    what: str
    replay: Replay
    site: str


# --- Raising at a call -----------------------------------------------------------------------------------------------


class Tracer:
    """Counts the events of the package's code on this thread; raises at one of them when it is told to."""

    def __init__(self, place: int = -1, make: Callable[[], BaseException] | None = None) -> None:
        self.sites: list[str] = []
        self._place = place
        self._make = make
        self._task = asyncio.current_task()

    def __enter__(self) -> Self:
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, argument: Any) -> None:
        inside = frame.f_code.co_filename.startswith(PACKAGE)
        caller = frame.f_back
        called = event == "call" and caller is not None and caller.f_code.co_filename.startswith(PACKAGE)
        # A Python function's return is skipped: the profiler also hears it when an exception passes.
        if not (inside or called) or event in {"return", "c_exception"} or frame.f_code.co_name == "__del__":
            return
        self.sites.append(f"{event} {_name(frame, argument)}")
        if self._make is not None and len(self.sites) - 1 == self._place:
            error = self._make()
            if isinstance(error, SystemExit | KeyboardInterrupt) and asyncio.current_task() is not self._task:
                error = Panic()  # outside the visit's own task these two end the event loop: that is what they are for
            raise error  # CPython stops profiling then, so it is raised once


def _name(frame: FrameType, argument: Any) -> str:
    code = frame.f_code
    called = f" of {argument.__name__}" if callable(argument) else ""
    return f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}{called}"


# --- The visits ------------------------------------------------------------------------------------------------------


class Ground:
    """The service, without a port, and the messages that it is asked."""

    def __init__(self, folder: Path) -> None:
        self.pool = FakeUserPool(clock=time.time)
        self._folder = folder
        self._known = self.pool.token(groups=["admins"])
        self.kinds: Mapping[str, Kind] = self._kinds()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Have the service with its keys."""
        settings = {
            "tokens": [{"header": "authorization"}, {"cookie": "BearerToken"}],
            "enrich_from": {"header": "x-auth-id-token"},
            "hide_credentials": True,
            "denied_redirect": {401: "https://example.com/sign-in?return={url}"},
        }
        logging.getLogger("asyncio").disabled = True  # it tells of each fault in a task
        try:
            async with whole_service(self._folder, POLICIES, self.pool, settings) as self.service:
                self._keys = keys_of(self.service)
                self._keys._fetch = self._fetch  # what an unknown kid causes is on the request path too
                yield
        finally:
            logging.getLogger("asyncio").disabled = False

    async def _fetch(self, uri: str, timeout: float) -> bytes:  # noqa: ASYNC109 - the port's own signature
        return self.pool.jwks()

    def _kinds(self) -> Mapping[str, Kind]:
        """Messages are made anew each time, with a token never seen: nothing is remembered from the replay before."""

        def fresh(path: str, token: Callable[[], str] | None = None, **more: Any) -> Callable[[], bytes]:
            return lambda: check_request(
                path=path, token=None if token is None else token(), **more
            ).SerializeToString()

        def admin(**claims: Any) -> str:
            return self.pool.token(groups=["admins"], jti=str(uuid.uuid4()), **claims)

        def banned() -> str:
            return self.pool.token(groups=["admins", "banned"], jti=str(uuid.uuid4()))

        def expired() -> str:
            return admin(exp=int(time.time()) - 1)

        def forged() -> str:
            head, _, signature = admin().rpartition(".")
            return f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"

        def enriched() -> bytes:
            id_token = self.pool.id_token(jti=str(uuid.uuid4()))
            headers = {"x-auth-id-token": id_token, "cookie": "a=1; BearerToken=x; b=2"}
            return check_request(path="/email", token=admin(), headers=headers).SerializeToString()

        html = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        return {
            "allow": Kind(fresh("/admins?a=1", admin), 0, "groups-ok"),
            "allow, token known": Kind(fresh("/admins", lambda: self._known), 0, "groups-ok"),
            "allow, many criteria": Kind(fresh("/many", admin), 0, "http-method-ok"),
            "allow, enriched": Kind(enriched, 0, "email-ok"),
            "allow, public": Kind(fresh("/public"), 0, "accept"),
            "banned where all may": Kind(fresh("/but-banned", banned), 7, "groups-ok"),
            "banned, many criteria": Kind(fresh("/many", banned), 7, "groups-ok"),
            "deny": Kind(fresh("/closed", admin, raw=False), 7, "groups-unauthorized"),
            "deny, HTML page": Kind(fresh("/closed", admin, headers=html), 7, "groups-unauthorized"),
            "nobody": Kind(fresh("/admins"), 16, "user-unauthenticated"),
            "nobody, redirect": Kind(fresh("/admins", headers=html), 16, "user-unauthenticated"),
            "token malformed": Kind(fresh("/admins", lambda: f"{admin()}!"), 16, "token-malformed"),
            "token expired": Kind(fresh("/admins", expired), 16, "token-expired"),
            "token forged": Kind(fresh("/admins", forged), 16, "token-signature-invalid"),
            "token of another app": Kind(
                fresh("/admins", lambda: admin(client_id="other")), 16, "token-client-refused"
            ),
            "token ambiguous": Kind(
                fresh("/admins", headers={"authorization": ["Bearer a", "Bearer b"]}), 16, "token-ambiguous"
            ),
            "unknown kid": Kind(
                fresh("/admins", lambda: admin(header={"kid": str(uuid.uuid4())})), 16, "token-key-unknown"
            ),
            "no route": Kind(fresh("/nowhere", admin), 7, "route-not-found"),
            "path malformed": Kind(fresh("/admins/../public", admin), 3, "request-malformed"),
            "no CheckRequest": Kind(lambda: b"\xff\xff\xff", 3, "request-malformed"),
            "already failing": Kind(fresh("/admins", admin), 14, "internal-error"),
        }

    async def visit(self, kind: str) -> tuple[bytes | BaseException, Tracer]:
        """Visit without a fault, and record."""
        return await self._visit(kind, Tracer())

    async def replay(self, replay: Replay) -> tuple[bytes | BaseException, Tracer]:
        """Visit with the fault."""
        return await self._visit(replay.kind, Tracer(replay.place, EXCEPTIONS[replay.exception]))

    async def _visit(self, kind: str, tracer: Tracer) -> tuple[bytes | BaseException, Tracer]:
        data = self.kinds[kind].message()
        self._keys._cool_at = float("-inf")
        # Its own call is gRPC's; what is in it is ours. Driven in this task, so that every step is seen.
        with _failing_if(kind == "already failing"), tracer:
            check = self.service.door.check(data, None)
            try:
                return await check, tracer
            except BaseException as error:  # noqa: BLE001 - that it escaped is what we look for
                return error, tracer


@contextmanager
def _failing_if(failing: bool) -> Iterator[None]:
    """Break the authorizer, so that the way of a failure is the one that is recorded."""
    right = Authorizer.authorize

    async def wrong(*_: object) -> None:
        raise RuntimeError

    if failing:
        Authorizer.authorize = wrong  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Authorizer.authorize = right  # type: ignore[method-assign]


# --- What is wrong ---------------------------------------------------------------------------------------------------


def judge(answer: bytes | BaseException, kind: Kind, right: pb.CheckResponse) -> str | None:
    """Say what is wrong with an answer to a visit into which something was injected; None: nothing."""
    if isinstance(answer, BaseException):
        return f"{type(answer).__name__} escaped"
    if not isinstance(answer, bytes) or not answer:
        return "an empty answer"
    response = pb.CheckResponse.FromString(answer)
    if response.status.code == 0:
        if kind.code != 0:
            return "an allow for what must be denied"
        return None if timeless(response) == timeless(right) else "another allow than the right one"
    if response.WhichOneof("http_response") != "denied_response":
        return "a code and no denial"
    return None if response.denied_response.status.code >= 300 else "a denial with a good status"


def timeless(response: pb.CheckResponse) -> bytes:
    """Give an answer without what differs from visit to visit."""
    copy = pb.CheckResponse()
    copy.CopyFrom(response)
    copy.dynamic_metadata.fields.pop("decision_id", None)
    return copy.SerializeToString(deterministic=True)


def told(answer: bytes | BaseException) -> str:
    """Tell an answer in a few words."""
    if isinstance(answer, BaseException):
        return f"{type(answer).__name__} escaped"
    response = pb.CheckResponse.FromString(answer)
    return f"code {response.status.code}, {response.dynamic_metadata.fields['reason'].string_value}"


async def inject(folder: Path, count: int, longest: float = LONGEST, seed: int = 6) -> tuple[Counter[str], list[Found]]:
    """Play that many replays, every recorded call once among the first; give how many of a kind, and what was wrong."""
    ground = Ground(folder)
    async with ground.open():
        await ground.visit("allow, token known")
        return await _inject(ground, count, time.monotonic() + longest, random.Random(seed))


async def _inject(ground: Ground, count: int, until: float, chance: random.Random) -> tuple[Counter[str], list[Found]]:
    rights: dict[str, pb.CheckResponse] = {}
    replays: list[list[Replay]] = [[] for _ in EXCEPTIONS]  # every place once in each list
    names = list(EXCEPTIONS)
    own = 1  # the first event is gRPC's call of the door itself
    for name, kind in ground.kinds.items():
        for _ in range(2):  # the first fills caches
            answer, tracer = await ground.visit(name)
        right = pb.CheckResponse.FromString(answer)
        found = right.status.code, right.dynamic_metadata.fields["reason"].string_value
        assert found == (kind.code, kind.reason), (name, found)
        rights[name] = right
        for turn, part in enumerate(replays):
            part += [Replay(name, at, names[(at + turn) % len(names)]) for at in range(own, len(tracer.sites))]
    for part in replays:
        chance.shuffle(part)
    done: Counter[str] = Counter()
    wrong: list[Found] = []
    with _quiet():
        for replay in islice(chain.from_iterable(replays), count):
            if time.monotonic() > until:
                break
            right = rights[replay.kind]
            answer, tracer = await ground.replay(replay)
            done[replay.kind] += 1
            site = tracer.sites[replay.place] if replay.place < len(tracer.sites) else "nowhere"
            if fault := judge(answer, ground.kinds[replay.kind], right):
                wrong.append(Found(fault, replay, site))
            after, _ = await ground.visit(replay.kind)
            if isinstance(after, BaseException) or timeless(pb.CheckResponse.FromString(after)) != timeless(right):
                wrong.append(Found(f"the next visit: {told(after)}", replay, site))
    return done, wrong


@contextmanager
def _quiet() -> Iterator[None]:
    """Say nothing of coroutines that, by a fault, were never awaited, and of generators that failed when closed."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook


# --- Through a real Envoy --------------------------------------------------------------------------------------------


def through_a_real_envoy(folder: Path, faults: Mapping[str, str] = FAULTS) -> Iterator[tuple[str, int]]:
    """Give the status of each request that was asked through Envoy of a service with each of the faults."""
    pool = FakeUserPool(clock=time.time)
    for number, fault in enumerate(faults):
        with FaultyService(folder / f"service-{number}", pool, fault=fault) as service:
            ports = free_ports(2)
            configuration = through_envoy.configuration(
                "authz", port=ports, admin=ports + 1, service=service.port, pool=pool
            )
            file = folder / f"envoy-{number}.json"
            file.write_text(json.dumps(configuration))
            options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
            with Server(folder / f"envoy-{number}", [envoy_binary(), "-c", file, *options]) as envoy:
                envoy.wait_until(lambda port=ports: ask(port + 1, "/ready") == 200)
                # The health check must have seen the service; 503 without asking would prove nothing.
                envoy.wait_until(lambda port=ports: _is_asked(port + 1))
                for token in (pool.token(groups=["orders-readers"]), pool.token(), None):
                    for path in ("/service-9/orders/42", "/nowhere", "/service-9/%2e%2e/"):
                        yield fault, ask(ports, path, token)
                if service.asked == 0:
                    raise AssertionError(f"nobody asked the service that is {fault}")


def _is_asked(admin: int) -> bool:
    return ask_text(admin, "/clusters?format=json")[1].count('"health_status"') > 0 and (
        '"failed_active_health_check": true' not in ask_text(admin, "/clusters?format=json")[1]
    )


def ask(port: int, path: str, token: str | None = None) -> int:
    return ask_text(port, path, token)[0]


def ask_text(port: int, path: str, token: str | None = None) -> tuple[int, str]:
    """Send one GET; 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {"host": "app.example.com"} | ({} if token is None else {"authorization": f"Bearer {token}"})
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):  # on loopback a socket can meet itself, while nobody listens
        return 0, ""
    finally:
        connection.close()


# --- The figures -----------------------------------------------------------------------------------------------------


def torture(stand: Stand) -> Iterator[Figure]:
    """Give the figures of promise 2."""
    inside = stand.folder / "inside"
    inside.mkdir()
    done, wrong = asyncio.run(inject(inside, stand.count(REPLAYS)))
    for found in wrong[:20]:
        stand.tell(f"    {found}")
    tries = sum(done.values())
    what = (
        f"exits that neither deny nor give the right allow, with any call of {len(done)} kinds of visits made to raise"
    )
    yield none_of(what, len({found.replay for found in wrong}), tries)
    outside = stand.folder / "outside"
    outside.mkdir()
    statuses = list(through_a_real_envoy(outside))
    allowed = [status for _, status in statuses if status not in {400, 401, 403, 404, 503}]
    yield none_of(f"passed by a real Envoy, the service broken in {len(FAULTS)} ways", len(allowed), len(statuses))
