"""TLS: who comes in by a handshake and who does not, and certificates that are swapped while everybody asks.

A swap that fails to be taken, a call that fails during one, or a stranger that comes in during one is a promise broken.
Two in five swaps put files there that are no pair.
"""

from __future__ import annotations

import itertools
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc

from tests.support.authority import Pair, install, replace
from tests.support.tls_port import ALLOWED, SPIFFE, Port, channel_check, der, handshake, s_client, server_certificate
from tests.torture.figures import Figure, Stand, none_of

CALLERS = 2


def torture(stand: Stand) -> Iterator[Figure]:
    port = Port(stand.folder, allowed_sans=ALLOWED)
    with port.service:
        yield from strangers(port, stand.count(300))
        yield from versions(port, stand.count(50))
        yield from swaps(port, stand.count(1000))
        yield from revocations(port, stand.count(50))


def strangers(port: Port, rounds: int) -> Iterator[Figure]:
    """Ask with every kind of certificate, a handshake each."""
    listed = [port.envoy, port.clients.issue("named", dns=["envoy.internal"])]
    unlisted = [
        port.clients.issue("stranger"),
        port.clients.issue("other", dns=["a.envoy.internal"], uris=["spiffe://x"]),
    ]
    unknown = [None, port.foreign.issue("envoy", uris=[SPIFFE]), port.servers.issue("envoy", uris=[SPIFFE])]
    refused = sum(_verdict(port, own) != "allow" for _ in range(rounds) for own in listed)
    yield none_of("listed proxies refused, a handshake each", refused, rounds * len(listed))
    answered = sum(_verdict(port, own) != "proxy-refused" for _ in range(rounds) for own in unlisted)
    yield none_of("proxies that are not listed answered otherwise than by a deny", answered, rounds * len(unlisted))
    entered = sum(_verdict(port, own) != "no handshake" for _ in range(rounds) for own in unknown)
    yield none_of("callers without a certificate of client_ca let in", entered, rounds * len(unknown))


def versions(port: Port, rounds: int) -> Iterator[Figure]:
    """Shake hands with every version there is."""
    new = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    target = port.service.target
    refused = sum(not _shakes_hands(port, version) for _ in range(rounds) for version in new)
    yield none_of("handshakes with TLS 1.2 and 1.3 refused", refused, rounds * len(new))
    old = "-tls1", "-tls1_1"
    taken = sum("Cipher is (NONE)" not in s_client(target, port.envoy, one) for _ in range(rounds) for one in old)
    yield none_of("handshakes with TLS 1.0 and 1.1 taken", taken, rounds * len(old))


def swaps(port: Port, count: int) -> Iterator[Figure]:
    """Swap the certificates while callers ask, over an open connection and over one for each call."""
    good = [port.servers.issue(f"good-{number}") for number in range(8)]
    load = Load(port)
    not_shown = shown_broken = 0
    broken = 0
    with load:
        for number, pair in zip(range(count), itertools.cycle(good), strict=False):
            if number % 5 < 3:
                install(pair, port.files)
                not_shown += server_certificate(port.service.target, port.envoy) != der(pair.certificate)
                in_force = pair
            else:
                broken += 1
                _break(port.files, good[(number + 3) % len(good)], number)
                shown_broken += server_certificate(port.service.target, port.envoy) != der(in_force.certificate)
                install(in_force, port.files)
    yield none_of("certificate swaps that the next handshake did not show", not_shown, count - broken)
    yield none_of("broken pairs that changed what is shown", shown_broken, broken)
    yield none_of("checks failed while certificates were swapped", load.failed, load.asked)
    yield none_of("strangers let in while certificates were swapped", load.entered, load.strangers)


def revocations(port: Port, rounds: int) -> Iterator[Figure]:
    """Take the clients' authority back and give it again."""
    entered = refused = 0
    for _ in range(rounds):
        replace(port.foreign.file, port.client_ca)
        entered += _verdict(port, port.envoy) != "no handshake"
        replace(port.clients.file, port.client_ca)
        refused += _verdict(port, port.envoy) != "allow"
    yield none_of("clients let in whose authority had been taken back", entered, rounds)
    yield none_of("clients refused whose authority was there again", refused, rounds)


class Load:
    """Callers in threads: over an open connection, over one for each call, and a stranger that must not come in."""

    def __init__(self, port: Port) -> None:
        self.asked = self.failed = self.strangers = self.entered = 0
        self._port = port
        self._foreign = port.foreign.issue("during", uris=[SPIFFE])
        self._stop = threading.Event()
        self._counting = threading.Lock()
        work = [self._over_one_connection, *[self._over_many] * CALLERS, self._as_stranger]
        self._threads = [threading.Thread(target=one) for one in work]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _over_one_connection(self) -> None:
        while True:
            failed = True
            with suppress(grpc.RpcError):
                failed = channel_check(self._port.service.channel).status.code != 0
            self._count(failed)
            if self._stop.wait(0.002):
                return

    def _over_many(self) -> None:
        while True:
            self._count(_verdict(self._port, self._port.envoy) != "allow")
            if self._stop.wait(0.002):
                return

    def _as_stranger(self) -> None:
        while True:
            entered = _verdict(self._port, self._foreign) != "no handshake"
            self.strangers += 1
            self.entered += entered
            if self._stop.wait(0.01):
                return

    def _count(self, failed: bool) -> None:
        with self._counting:
            self.asked += 1
            self.failed += failed


def _verdict(port: Port, own: Pair | None) -> str:
    """Ask over a connection of its own."""
    try:
        reply = port.ask(own)
    except grpc.RpcError as error:
        return "no handshake" if error.code() is grpc.StatusCode.UNAVAILABLE else error.code().name
    return "allow" if reply.code == 0 else reply.reason


def _shakes_hands(port: Port, version: ssl.TLSVersion) -> bool:
    try:
        return handshake(port.service.target, port.envoy, version)[0] == version.name.replace("_", ".")
    except OSError:
        return False


def _break(files: Pair, other: Pair, number: int) -> None:
    """Make the files no pair, each time in another way."""
    ways = (
        lambda: replace(other.key, files.key),
        lambda: files.key.write_bytes(b""),
        lambda: _cut(files.certificate),
        files.certificate.unlink,
    )
    ways[number % len(ways)]()


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
