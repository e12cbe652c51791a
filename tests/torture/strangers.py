"""Strangers cannot starve friends: unknown kids beside a slow keys endpoint, while known tokens are checked.

The strangers' tokens look right and are of the right issuer; each has a kid that nobody has seen. Friends and strangers
ask at their own rates from one thread, or on two cores the ones would be measured waiting for the others'. The service
has a worker for each core, and keeps it there; both kinds ask all of them, as Envoy would. Whoever asks needs a part of
a core, too. What the machine carries is found first: where 5,000 strangers a second are more than that share of it,
fewer come.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench import messages
from tests.bench.servers import Service
from tests.support.jwks_server import Answer, JwksServer
from tests.support.user_pool import FakeUserPool
from tests.torture import cores
from tests.torture.figures import Figure, Stand, at_most, none_of
from tests.torture.wire import Calls, Crowd, ask_beside, ask_closely, ask_steadily, fates

STRANGERS: Final = 5_000  # a second
FRIENDS: Final = 200  # a second
SECONDS: Final = 60.0
SHARE: Final = 0.6  # of what all workers can answer, where that is less than 5,000
MOST_WORKERS: Final = 2  # more would prove nothing more
AT_ONCE: Final = 4  # strangers, as a proxy's thread writes what has gathered
SLOW: Final = 1.5  # seconds until the keys endpoint answers


class Meeting(NamedTuple):
    """What became of both, and how often keys were asked for."""

    friends: Calls
    strangers: Calls
    fetches: int


def torture(stand: Stand) -> Iterator[Figure]:
    """Give the figures of promise 5."""
    pool = messages.new_pool()
    with _endpoint(pool) as endpoint, _service(stand.folder / "service", pool, endpoint) as service:
        seconds = max(2.0, SECONDS * min(1.0, stand.share))
        friend = [messages.message(messages.reader(pool))]
        endpoint.answer = Answer(pool.jwks(), delay=SLOW)
        ports = service.ports
        for port in ports:
            ask_closely(port, unknown(pool, 2), seconds=SLOW, in_flight=2)  # the cooldown begins
        capacity = ask_closely(ports, unknown(pool, 20_000), seconds=2.0)
        rate = int(min(STRANGERS, SHARE * capacity))
        stand.tell(f"  {capacity:,.0f} unknown kids a second are answered at most; {rate:,} are sent")
        ask_steadily(ports, friend, rate=FRIENDS, seconds=1, connections=len(ports))
        alone = ask_steadily(ports, friend, rate=FRIENDS, seconds=max(2.0, seconds / 3), connections=len(ports))
        meeting = meet(ports, pool, endpoint, friend=friend, rate=rate, seconds=seconds)
        stand.tell(f"  friends {dict(fates(meeting.friends))}, strangers {dict(fates(meeting.strangers))}")
    yield from counted(meeting, seconds)
    beside_what = f"{rate:,} unknown kids/s ({rate / capacity:.0%} of what {len(ports)} workers can answer)"
    yield at_most(f"p99 of known tokens beside {beside_what}", meeting.friends.at(0.99), 1.5 * alone.at(0.99), "ms")
    stand.tell(f"  median of friends {meeting.friends.at(0.5):.2f} ms, alone {alone.at(0.5):.2f} ms")


def _endpoint(pool: FakeUserPool) -> JwksServer:
    return JwksServer(Answer(pool.jwks()), poll_interval=0.5)  # in the process of those who measure


@contextmanager
def _service(folder: Path, pool: FakeUserPool, endpoint: JwksServer) -> Iterator[Service]:
    """Run it with a worker on each core."""
    all_cores = sorted(os.sched_getaffinity(0))[:MOST_WORKERS]
    with Service(folder, pool, jwks_uri=endpoint.uri, workers=len(all_cores)) as service:
        for core, pid in zip(all_cores, service.worker_pids(), strict=True):
            cores.keep(pid, {core})
        yield service


def meet(
    ports: Sequence[int],
    pool: FakeUserPool,
    endpoint: JwksServer,
    *,
    friend: Sequence[bytes],
    rate: int,
    seconds: float,
) -> Meeting:
    """Let friends and strangers ask at the same time."""
    before = len(endpoint.requests)
    connections = len(ports)
    crowd = Crowd(unknown(pool, int(rate * seconds) + 1), rate, max(2, connections), at_once=AT_ONCE)
    friends, strangers = ask_beside(ports, [Crowd(friend, FRIENDS, connections), crowd], seconds=seconds)
    return Meeting(friends, strangers, len(endpoint.requests) - before)


def counted(meeting: Meeting, seconds: float) -> Iterator[Figure]:
    """Give the figures that no clock of the machine can spoil."""
    friends, strangers = meeting.friends, meeting.strangers
    yield none_of("known tokens refused beside unknown kids", friends.sent - friends.allowed, friends.sent)
    yield none_of("unknown kids allowed", strangers.allowed, strangers.sent)
    # One may be due at the start and another at the end of each minute.
    allowed = 2 * max(1, round(seconds / 60))
    yield at_most(f"fetches of keys that unknown kids caused in {seconds:.0f} s", meeting.fetches, allowed)


def unknown(pool: FakeUserPool, count: int) -> Sequence[bytes]:
    """Give messages with tokens of kids that nobody has seen, each another one."""
    return _renamed(*_template(pool), count)


def _template(pool: FakeUserPool) -> tuple[bytes, bytes]:
    token = pool.token(header={"kid": _kid()}, **messages.claims(pool, messages.READERS))
    return messages.message(token), token.partition(".")[0].encode()


def _renamed(template: bytes, head: bytes, count: int) -> Sequence[bytes]:
    """Put a new kid into the token: the message stays as long as it was."""
    header = json.loads(base64.urlsafe_b64decode(head + b"=="))
    before, after = template.split(head)
    made = []
    for _ in range(count):
        text = json.dumps(header | {"kid": _kid()}, separators=(",", ":")).encode()
        made.append(before + base64.urlsafe_b64encode(text).rstrip(b"=") + after)
    assert not made or len(made[0]) == len(template)
    return made


def _kid() -> str:
    return secrets.token_urlsafe(33)
