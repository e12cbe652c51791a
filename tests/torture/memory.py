"""Memory is bounded: what tokens that nobody saw before, and reloads, leave behind in the process.

A million good tokens, each signed here while others are being asked, and a million with a signature that is none: fifty
times what the service remembers, in about ten minutes. Growth is that of the memory which is the process's alone.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from cryptography.hazmat.primitives import serialization

from tests.bench import messages
from tests.bench.messages import sign_share
from tests.bench.replay import replay
from tests.bench.servers import Service
from tests.support.user_pool import FakeUserPool
from tests.torture.asking import resident_mb
from tests.torture.figures import Figure, Stand, at_most, none_of

TOKENS: Final = 1_000_000  # of each kind
SHARE: Final = 1_000  # tokens
SIGNERS: Final = 2  # to sign takes longer than to be asked
AHEAD: Final = 8  # shares
GROWTH_MB: Final = 64
FRESH_MB: Final = 90
RELOAD_GROWTH_MB: Final = 8  # the allocator's own noise: 500 routes take about 2 MB, a leak of each set 600 MB
RELOADED_ROUTES: Final = 500
PATIENCE: Final = 20.0


def tokens(pool: FakeUserPool, count: int) -> Iterator[Sequence[str]]:
    """Sign so many different tokens, in shares, on whatever core has time; never many more than are asked for."""
    pem = pool.access_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    sizes = [min(SHARE, count - start) for start in range(0, count, SHARE)]
    with ProcessPoolExecutor(SIGNERS, mp_context=get_context("spawn")) as signers:
        signing: deque[Future[list[str]]] = deque()
        for size in sizes:
            signing.append(signers.submit(sign_share, pem, size))
            if len(signing) > AHEAD:
                yield signing.popleft().result()
        for share in signing:
            yield share.result()


def unsigned(pool: FakeUserPool, count: int) -> Iterator[Sequence[str]]:
    """Give so many different tokens that are good but for their signature, in shares."""
    head, payload, signature = messages.reader(pool).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    size = len(signature) * 3 // 4
    for start in range(0, count, SHARE):
        yield [
            f"{head}.{_encoded(json.dumps(claims | {'jti': str(number)}).encode())}.{_encoded(os.urandom(size))}"
            for number in range(start, min(count, start + SHARE))
        ]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


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
    """About ten minutes."""
    pool = messages.new_pool()
    with Service(stand.folder / "tokens", pool, decisions="none") as service:
        yield from token_figures(service, pool, stand.count(TOKENS))
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
    growth.ask(service.port, unsigned(pool, count))
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
