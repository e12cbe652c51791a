"""What an endpoint for keys can do to us: the real HttpFetch against a server that fails in every way."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import aiohttp
import pytest

from authz.errors import TokenError
from authz.identity.fetch import MAX_DOCUMENT_BYTES, FetchError, FetchResult, HttpFetch, _Resolver
from authz.identity.jwks import JwksSettings, KeyStore
from authz.identity.own_threads import OneAtATime
from authz.model import Reason
from tests.support.jwks_server import Answer, JwksServer, jwk, jwks, modulus

ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
TIMEOUT = 5.0  # seconds; far more than any good answer takes here
SHORT = 0.3  # seconds; for answers that are late on purpose
SETTINGS = JwksSettings(timeout=timedelta(seconds=TIMEOUT))


@pytest.fixture
def server() -> Iterator[JwksServer]:
    with JwksServer(Answer(jwks(jwk("one", 1), jwk("two", 2)))) as server:
        yield server


@pytest.fixture
async def fetch() -> AsyncIterator[HttpFetch]:
    fetch = HttpFetch()
    yield fetch
    await fetch.close()


class Clock:
    """A clock the test moves."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


class Heard:
    """A KeyObserver that remembers the results."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.reasons: list[str] = []

    def fetched(self, issuer: str, result: FetchResult, keys: int) -> None:
        self.results.append(str(result))

    def restored(self, issuer: str, keys: int, fetched_at: float, place: str) -> None:
        self.results.append("restored")

    def rejected(self, issuer: str, why: str) -> None:
        self.reasons.append(why)


class Pool:
    """A store on the real network, with the clocks in the test's hand."""

    def __init__(self, fetch: HttpFetch, uri: str, settings: JwksSettings = SETTINGS) -> None:
        self.clock = Clock(1_000.0)
        self.wall = Clock(1_700_000_000.0)
        self.heard = Heard()
        self.store = KeyStore(
            issuer=ISSUER,
            uri=uri,
            settings=settings,
            fetch=fetch,
            clock=self.clock,
            wall=self.wall,
            observe=self.heard,
        )

    def pass_time(self, seconds: float) -> None:
        self.clock.seconds += seconds
        self.wall.seconds += seconds

    async def fetch_now(self) -> None:
        """Do what the periodic refresh does."""
        await asyncio.wait({self.store._start_fetch()})
        await asyncio.gather(*self.store._saves)

    async def look_for(self, kid: str) -> Reason | str:
        try:
            await self.store.find(kid)
        except TokenError as error:
            return error.reason
        return kid

    @property
    def kids(self) -> list[str] | None:
        current = self.store.current
        return None if current is None else list(current.keys)


# --- What a fetch makes of an answer ---------------------------------------------------------------------------------


async def test_a_good_answer_is_fetched_and_asked_for_plainly(server: JwksServer, fetch: HttpFetch) -> None:
    assert await fetch(server.uri, TIMEOUT) == server.answer.body
    ((path, headers),) = server.requests
    assert path == "/pool/.well-known/jwks.json"
    assert headers["Accept-Encoding"] == "identity"
    assert not {"Authorization", "Cookie"} & set(headers)


async def test_no_cookie_comes_back(server: JwksServer, fetch: HttpFetch) -> None:
    server.answer = replace(server.answer, headers={"Set-Cookie": "session=1; Path=/"})
    by_name = server.uri.replace("127.0.0.1", "localhost")  # aiohttp's own jar keeps none of an address
    await fetch(by_name, TIMEOUT)
    await fetch(by_name, TIMEOUT)
    assert "Cookie" not in server.requests[1][1]


async def test_a_document_of_exactly_64_kib_is_read(server: JwksServer, fetch: HttpFetch) -> None:
    server.answer = Answer(b" " * MAX_DOCUMENT_BYTES)
    assert len(await fetch(server.uri, TIMEOUT)) == MAX_DOCUMENT_BYTES


GOOD = jwks(jwk("one", 1))
TEN_MEGABYTES = b" " * 10_000_000


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        pytest.param(Answer(GOOD, status=500), FetchResult.ERROR_STATUS, id="500"),
        pytest.param(Answer(GOOD, status=404), FetchResult.ERROR_STATUS, id="404"),
        pytest.param(Answer(GOOD, status=203), FetchResult.ERROR_STATUS, id="203, changed by a proxy"),
        pytest.param(Answer(status=204), FetchResult.ERROR_STATUS, id="204"),
        pytest.param(Answer(GOOD, status=302, headers={"Location": "/"}), FetchResult.ERROR_STATUS, id="a redirect"),
        pytest.param(Answer(TEN_MEGABYTES), FetchResult.ERROR_SIZE, id="10 MB"),
        pytest.param(Answer(b" " * (MAX_DOCUMENT_BYTES + 1)), FetchResult.ERROR_SIZE, id="a byte over 64 KiB"),
        pytest.param(Answer(hang_up=True), FetchResult.ERROR_UNREACHABLE, id="it hangs up"),
        pytest.param(
            Answer(GOOD, headers={"Content-Length": str(len(GOOD) + 9)}), FetchResult.ERROR_UNREACHABLE, id="cut off"
        ),
        pytest.param(Answer(GOOD, headers={"Content-Length": "x"}), FetchResult.ERROR_UNREACHABLE, id="no HTTP at all"),
        pytest.param(Answer(GOOD, headers={"X": "x" * 100_000}), FetchResult.ERROR_UNREACHABLE, id="a huge header"),
    ],
)
async def test_a_bad_answer_is_refused(
    server: JwksServer, fetch: HttpFetch, answer: Answer, result: FetchResult
) -> None:
    server.answer = answer
    with pytest.raises(FetchError) as refused:
        await fetch(server.uri, TIMEOUT)
    assert refused.value.result is result
    # Neither followed nor tried again, but that aiohttp itself repeats a GET whose connection was closed.
    assert len(server.requests) == (2 if answer.hang_up else 1)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(GOOD, delay=60), id="a long silence"),
        pytest.param(Answer(GOOD, drip=0.05), id="a byte now and then, each in time"),
    ],
)
async def test_a_slow_answer_ends_at_the_deadline(server: JwksServer, fetch: HttpFetch, answer: Answer) -> None:
    server.answer = answer
    before = time.monotonic()
    with pytest.raises(FetchError) as refused:
        await fetch(server.uri, SHORT)
    assert refused.value.result is FetchResult.ERROR_TIMEOUT
    assert SHORT <= time.monotonic() - before < TIMEOUT


async def test_a_compressed_answer_is_not_unpacked(server: JwksServer, fetch: HttpFetch) -> None:
    server.answer = Answer(gzip.compress(TEN_MEGABYTES), headers={"Content-Encoding": "gzip"})
    assert len(await fetch(server.uri, TIMEOUT)) < MAX_DOCUMENT_BYTES


async def test_nobody_listens(server: JwksServer, fetch: HttpFetch) -> None:
    server.stop()
    try:
        with pytest.raises(FetchError, match=r"Connect call failed|refused") as refused:
            await fetch(server.uri, TIMEOUT)
    finally:
        server.start()
    assert refused.value.result is FetchResult.ERROR_UNREACHABLE


async def test_a_plain_port_where_tls_is_wanted(server: JwksServer, fetch: HttpFetch) -> None:
    with pytest.raises(FetchError) as refused:
        await fetch(server.uri.replace("http:", "https:"), TIMEOUT)
    assert refused.value.result is FetchResult.ERROR_UNREACHABLE
    assert server.requests == []


async def test_a_proxy_of_the_environment_is_for_https_only(
    server: JwksServer, fetch: HttpFetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JwksServer(Answer(status=500)) as proxy:
        address = proxy.uri.partition("/pool")[0]
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, address)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert await fetch(server.uri, TIMEOUT) == server.answer.body
        with pytest.raises(FetchError):
            await fetch("https://keys.invalid/jwks.json", TIMEOUT)  # the proxy knows no CONNECT


@pytest.mark.parametrize(
    "uri",
    [
        "http://keys.example/jwks.json",
        "http://127.0.0.1.keys.example/jwks.json",
        "http://localhost.keys.example/jwks.json",
        "http://10.0.0.1/jwks.json",
        "http://0.0.0.0/jwks.json",
        "http://[::1%lo]/jwks.json",
        "http://[::ffff:127.0.0.1]/jwks.json",
        "http://user@keys.example@127.0.0.1.nip.example/jwks.json",
        "http:///jwks.json",
        "https:///jwks.json",
        "https://[/jwks.json",
        "ftp://127.0.0.1/jwks.json",
        "file://keys.example/jwks.json",
        "file:jwks.json",
        "jwks.json",
        "",
    ],
)
async def test_an_unsafe_address_is_refused_before_any_connection(fetch: HttpFetch, uri: str) -> None:
    with pytest.raises(FetchError) as refused:
        await fetch(uri, TIMEOUT)
    assert refused.value.result is FetchResult.ERROR_UNREACHABLE
    assert fetch._sessions == {}


async def test_localhost_by_name_is_loopback(server: JwksServer, fetch: HttpFetch) -> None:
    assert await fetch(server.uri.replace("127.0.0.1", "localhost"), TIMEOUT) == server.answer.body


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNSPEC], ids=["IPv4", "either"])
async def test_names_are_looked_up_as_aiohttp_does_it(family: socket.AddressFamily) -> None:
    for host in ("localhost", "127.0.0.1"):
        wanted = await aiohttp.ThreadedResolver().resolve(host, 443, family)
        assert await _Resolver(OneAtATime()).resolve(host, 443, family) == wanted


async def test_a_name_server_that_hangs_is_a_timeout_and_is_not_asked_again(
    fetch: HttpFetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = [], threading.Event()

    def hang(host: str, *_: object, **__: object) -> NoReturn:
        asked.append(host)
        answered.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("authz.identity.fetch.socket.getaddrinfo", hang)
    try:
        for uri in ("https://keys.invalid/jwks.json", "https://keys.invalid/other.json"):
            with pytest.raises(FetchError) as refused:
                await fetch(uri, SHORT)
            assert refused.value.result is FetchResult.ERROR_TIMEOUT
        assert asked == ["keys.invalid"]
    finally:
        answered.set()
    with pytest.raises(FetchError, match="Temporary failure") as refused:
        await fetch("https://keys.invalid/jwks.json", TIMEOUT)
    assert refused.value.result is FetchResult.ERROR_UNREACHABLE


# --- Files -----------------------------------------------------------------------------------------------------------


async def test_a_file_is_read(tmp_path: Path, fetch: HttpFetch) -> None:
    (tmp_path / "my keys.json").write_bytes(GOOD)
    assert await fetch((tmp_path / "my keys.json").as_uri(), TIMEOUT) == GOOD


async def test_a_file_behind_a_symbolic_link_is_read_as_kubernetes_mounts_it(tmp_path: Path, fetch: HttpFetch) -> None:
    (tmp_path / "real.json").write_bytes(GOOD)
    (tmp_path / "jwks.json").symlink_to("real.json")
    assert await fetch((tmp_path / "jwks.json").as_uri(), TIMEOUT) == GOOD


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        pytest.param("missing", FetchResult.ERROR_UNREACHABLE, id="there is none"),
        pytest.param("folder", FetchResult.ERROR_UNREACHABLE, id="a folder"),
        pytest.param("pipe", FetchResult.ERROR_UNREACHABLE, id="a pipe that nobody writes"),
        pytest.param("large", FetchResult.ERROR_SIZE, id="a byte over 64 KiB"),
    ],
)
async def test_a_bad_file_is_refused(tmp_path: Path, fetch: HttpFetch, kind: str, result: FetchResult) -> None:
    path = tmp_path / "jwks.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b" " * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(FetchError) as refused:
        await fetch(path.as_uri(), TIMEOUT)
    assert refused.value.result is result


async def test_a_file_that_hangs_is_a_timeout_and_is_not_opened_again(
    tmp_path: Path, fetch: HttpFetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jwks.json").write_bytes(GOOD)
    opened, came_back, real = [], threading.Event(), os.open

    def hang(path: Path, flags: int) -> int:
        opened.append(path)
        came_back.wait()
        return real(path, flags)

    monkeypatch.setattr("authz.identity.fetch.os.open", hang)
    try:
        for _ in range(2):
            with pytest.raises(FetchError) as refused:
                await fetch((tmp_path / "jwks.json").as_uri(), SHORT)
            assert refused.value.result is FetchResult.ERROR_TIMEOUT
        assert opened == [tmp_path / "jwks.json"]
    finally:
        came_back.set()
    assert await fetch((tmp_path / "jwks.json").as_uri(), TIMEOUT) == GOOD


async def test_an_address_of_a_file_that_cannot_be_a_path_is_refused(fetch: HttpFetch) -> None:
    with pytest.raises(FetchError) as refused:
        await fetch("file:///jwks%00.json", TIMEOUT)
    assert refused.value.result is FetchResult.ERROR_UNREACHABLE


# --- What becomes of the keys ----------------------------------------------------------------------------------------

BROKEN = [
    pytest.param(Answer(b"", status=500), "error-status", id="500"),
    pytest.param(
        Answer(b"<!doctype html><p>Sign in", headers={"Content-Type": "text/html"}), "error-document", id="HTML"
    ),
    pytest.param(Answer(TEN_MEGABYTES), "error-size", id="10 MB"),
    pytest.param(Answer(GOOD, status=301, headers={"Location": "/elsewhere"}), "error-status", id="a redirect"),
    pytest.param(Answer(jwks()), "error-document", id="an empty set"),
    pytest.param(Answer(jwks(jwk("one", 1), jwk("one", 2))), "error-document", id="duplicate kids"),
    pytest.param(Answer(jwks(jwk("one", n=modulus(bits=1024)))), "error-document", id="a weak key alone"),
    pytest.param(Answer(GOOD, delay=60), "error-timeout", id="a silent endpoint"),
    pytest.param(Answer(GOOD, drip=0.05), "error-timeout", id="a dripping endpoint"),
    pytest.param(Answer(hang_up=True), "error-unreachable", id="an endpoint that hangs up"),
]
IMPATIENT = replace(SETTINGS, timeout=timedelta(seconds=SHORT))


@pytest.mark.parametrize(("answer", "result"), BROKEN)
async def test_at_the_start_it_means_no_keys_until_it_is_mended(
    server: JwksServer, fetch: HttpFetch, answer: Answer, result: str
) -> None:
    pool = Pool(fetch, server.uri, replace(SETTINGS, timeout=timedelta(seconds=1)) if "time" in result else SETTINGS)
    good, server.answer = server.answer, answer
    assert await pool.look_for("one") is Reason.KEYS_UNAVAILABLE
    await pool.fetch_now()
    assert pool.kids is None
    assert set(pool.heard.results) == {result}

    server.answer = good
    await pool.fetch_now()
    assert await pool.look_for("one") == "one"


@pytest.mark.parametrize(("answer", "result"), BROKEN)
async def test_later_it_leaves_the_old_keys_until_they_are_too_old(
    server: JwksServer, fetch: HttpFetch, answer: Answer, result: str
) -> None:
    pool = Pool(fetch, server.uri, IMPATIENT if "timeout" in result else SETTINGS)
    server.serve(jwk("one", 1), jwk("two", 2))
    await pool.fetch_now()
    first = pool.store.current
    server.answer = answer
    pool.pass_time(24 * 3600 - 1)
    await pool.fetch_now()
    assert pool.store.current is first
    assert pool.heard.results == ["ok", result]
    assert await pool.look_for("two") == "two"
    pool.pass_time(1)
    assert pool.store.current is None
    assert await pool.look_for("two") is Reason.KEYS_UNAVAILABLE


async def test_the_endpoint_is_down_at_the_start_and_comes_up(server: JwksServer, fetch: HttpFetch) -> None:
    server.stop()
    pool = Pool(fetch, server.uri)
    assert await pool.look_for("one") is Reason.KEYS_UNAVAILABLE
    server.start()
    await pool.fetch_now()
    assert await pool.look_for("one") == "one"
    assert pool.heard.results == ["error-unreachable", "ok"]


async def test_the_endpoint_goes_down_later(server: JwksServer, fetch: HttpFetch) -> None:
    pool = Pool(fetch, server.uri)
    await pool.fetch_now()
    server.stop()
    try:
        await pool.fetch_now()
        assert await pool.look_for("one") == "one"
        assert await pool.look_for("unknown") is Reason.TOKEN_KEY_UNKNOWN
    finally:
        server.start()
    assert pool.heard.results == ["ok", "error-unreachable", "error-unreachable"]


async def test_a_weak_key_beside_a_good_one_is_left_out(server: JwksServer, fetch: HttpFetch) -> None:
    server.serve(jwk("weak", n=modulus(bits=1024)), jwk("one", 1))
    pool = Pool(fetch, server.uri)
    await pool.fetch_now()
    assert pool.kids == ["one"]
    assert pool.heard.reasons == ["left out: key 1: 1024 bits, not 2048 to 8192"]


async def test_a_rotated_key_is_found_by_its_first_token(server: JwksServer, fetch: HttpFetch) -> None:
    pool = Pool(fetch, server.uri)
    await pool.fetch_now()
    server.serve(jwk("two", 2), jwk("three", 3))
    assert await pool.look_for("three") == "three"
    assert pool.kids == ["two", "three"]


async def test_a_removed_key_is_gone_with_the_next_fetch(server: JwksServer, fetch: HttpFetch) -> None:
    pool = Pool(fetch, server.uri)
    await pool.fetch_now()
    old, _ = await pool.store.find("one")
    server.serve(jwk("two", 2))
    await pool.fetch_now()
    assert await pool.look_for("one") is Reason.TOKEN_KEY_UNKNOWN
    assert pool.store.current is not old


async def test_a_key_replaced_under_its_kid_makes_a_new_generation(server: JwksServer, fetch: HttpFetch) -> None:
    pool = Pool(fetch, server.uri)
    await pool.fetch_now()
    old, old_key = await pool.store.find("one")
    server.serve(jwk("one", 9), jwk("two", 2))
    await pool.fetch_now()
    new, new_key = await pool.store.find("one")
    assert new is not old
    assert new_key != old_key


async def test_a_thousand_unknown_kids_cause_one_request_a_cooldown(server: JwksServer, fetch: HttpFetch) -> None:
    pool = Pool(fetch, server.uri)
    await pool.fetch_now()
    for round_ in (1, 2, 3):
        reasons = await asyncio.gather(*(pool.look_for(f"made up {i}") for i in range(1_000)))
        assert set(reasons) == {Reason.TOKEN_KEY_UNKNOWN}
        assert len(server.requests) == 1 + round_
        pool.pass_time(30)


async def test_a_thousand_unknown_kids_while_the_endpoint_hangs_wait_no_longer_than_the_timeout(
    server: JwksServer, fetch: HttpFetch
) -> None:
    pool = Pool(fetch, server.uri, IMPATIENT)
    await pool.fetch_now()
    server.answer = Answer(GOOD, delay=60)
    before = time.monotonic()
    reasons = await asyncio.gather(*(pool.look_for(f"made up {i}") for i in range(1_000)))
    assert set(reasons) == {Reason.TOKEN_KEY_UNKNOWN}
    assert time.monotonic() - before < TIMEOUT
    assert len(server.requests) == 2


async def test_keys_survive_a_restart_while_the_endpoint_is_down(
    server: JwksServer, fetch: HttpFetch, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, cache_dir=tmp_path)
    pool = Pool(fetch, server.uri, settings)
    await pool.fetch_now()
    server.answer = Answer(status=500)

    again = Pool(fetch, server.uri, settings)
    again.pass_time(23 * 3600)
    again.store.load_cache()
    await again.fetch_now()
    assert again.kids == ["one", "two"]
    assert again.heard.results == ["restored", "error-status"]
    again.pass_time(3600)
    assert again.kids is None

    late = Pool(fetch, server.uri, settings)
    late.pass_time(24 * 3600)
    late.store.load_cache()
    assert late.kids is None


async def test_run_fetches_at_the_start_and_when_it_is_told(server: JwksServer, fetch: HttpFetch) -> None:
    pool = Pool(fetch, server.uri)
    running = asyncio.create_task(pool.store.run())
    assert await pool.look_for("one") == "one"
    server.serve(jwk("three", 3))
    pool.store.refresh_now()
    async with asyncio.timeout(TIMEOUT):
        while pool.kids != ["three"]:  # noqa: ASYNC110 - the network gives no event
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
