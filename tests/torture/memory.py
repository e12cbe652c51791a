"""Memory is bounded: what tokens that nobody saw before, and reloads, leave behind in the process.

Each token is signed here, 0.3 ms of a core each, while others are being asked: 200,000 good ones and as many forged
ones, ten times what the service remembers, take about three minutes; a million of each would take a quarter of an hour.
Growth is that of the memory which is the process's alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from typing import Final

from cryptography.hazmat.primitives import serialization

from tests.bench import messages
from tests.bench.messages import _sign_share as sign_share
from tests.bench.replay import replay
from tests.bench.servers import Service
from tests.support.user_pool import FakeUserPool
from tests.torture.asking import resident_mb
from tests.torture.figures import Figure, Stand, at_most, none_of

SHARE: Final = 1_000  # tokens
GROWTH_MB: Final = 64
FRESH_MB: Final = 90
RELOAD_GROWTH_MB: Final = 8  # the allocator's own noise: 500 routes take about 2 MB, a leak of each set 600 MB
RELOADED_ROUTES: Final = 500
PATIENCE: Final = 20.0


def tokens(pool: FakeUserPool, count: int) -> Iterator[Sequence[str]]:
    """Sign so many different tokens, in shares, on another core."""
    pem = pool.access_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    sizes = [min(SHARE, count - start) for start in range(0, count, SHARE)]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as signers:
        yield from signers.map(sign_share, repeat(pem), sizes)


def server_pid(service: Service) -> int:
    """Give the process id of `authz serve` itself, which has taken its tether's place."""
    return service._process.pid


class Growth:
    """What so many tokens came to."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.asked = self.denied = 0
        self.fresh = self.most = resident_mb(pid)

    def ask(self, port: int, shares: Iterator[Sequence[str]]) -> None:
        for share in shares:
            run = replay(port, map(messages.message, share))
            self.asked += run.answers
            self.denied += run.denied
            self.most = max(self.most, resident_mb(self._pid))


def torture(stand: Stand) -> Iterator[Figure]:
    """About four minutes."""
    pool = messages.new_pool()
    with Service(stand.folder / "tokens", pool, decisions="none") as service:
        yield from token_figures(service, pool, stand.count(200_000))
    with Service(stand.folder / "reloads", pool, RELOADED_ROUTES, decisions="none") as service:
        yield from reload_figures(service, max(40, stand.count(300)))


def token_figures(service: Service, pool: FakeUserPool, count: int) -> Iterator[Figure]:
    """Distinct good tokens, then distinct forged ones."""
    growth = Growth(server_pid(service))
    fresh = service.resident_mb
    yield at_most("memory of a fresh process", fresh, FRESH_MB, "MB")
    growth.ask(service.port, tokens(pool, count))
    good, good_denied, after_good = growth.asked, growth.denied, growth.most
    yield none_of("good tokens refused", good_denied, good)
    yield at_most(f"growth by {good:,} different good tokens", after_good - growth.fresh, GROWTH_MB, "MB")
    growth.ask(service.port, ([*map(messages.forged, share)] for share in tokens(pool, count)))
    forged, denied = growth.asked - good, growth.denied - good_denied
    yield none_of("forged tokens let in", forged - denied, forged)
    yield at_most(f"… and by {forged:,} different forged ones", growth.most - growth.fresh, GROWTH_MB, "MB")


def reload_figures(service: Service, times: int) -> Iterator[Figure]:
    """Reloads of 500 routes, after the first third as warm-up."""
    pid = server_pid(service)
    sizes = []
    for number in range(times):
        routes = RELOADED_ROUTES + 1 + number % 2
        service.policy_file.write_text(messages.policies(routes), encoding="utf-8")
        until = time.monotonic() + PATIENCE
        while service.loaded_at(routes) is None:
            if time.monotonic() > until:
                yield Figure("reloads of 500 routes", f"number {number} did not come into force", "all", held=False)
                return
            time.sleep(0.02)
        sizes.append(resident_mb(pid))
    third = times // 3
    warm, last = sizes[third : 2 * third], sizes[2 * third :]
    growth = max(0.0, min(last) - min(warm))
    yield at_most(f"growth by {times} reloads of {RELOADED_ROUTES} routes, warm", growth, RELOAD_GROWTH_MB, "MB")
