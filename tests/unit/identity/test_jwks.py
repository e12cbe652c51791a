"""The keys of an issuer, on a clock that the tests move: reading documents, sharing fetches, growing old, surviving."""

from __future__ import annotations

import asyncio
import inspect
import json
import selectors
import stat
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.errors import KeysError, TokenError
from authz.identity.fetch import MAX_DOCUMENT_BYTES, FetchError, FetchResult, KeyFile
from authz.identity.jwks import MAX_WAITERS, JwksSettings, KeyStore
from authz.identity.key_document import read_jwks
from authz.identity.shared_keys import SharedKeys
from authz.model import Reason
from authz.shared_memory import Dated
from tests.support.jwks_server import DROP, jwk, jwks, modulus, number
from tests.support.key_turns import turn_of_another_process

ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
URI = f"{ISSUER}/.well-known/jwks.json"
SETTINGS = JwksSettings()
HOUR = 3600.0
DAY = 24 * HOUR
PATIENCE = 5.0  # seconds, real ones

# --- The document ----------------------------------------------------------------------------------------------------

# RFC 7517 appendix A.1, the RSA key, and the EC key beside it.
RFC_7517 = b"""
{"keys":
  [
    {"kty":"EC", "crv":"P-256", "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
     "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "use":"enc", "kid":"1"},
    {"kty":"RSA",
     "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4\
n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6\
qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK\
nqDKgw",
     "e":"AQAB", "alg":"RS256", "kid":"2011-04-29"}
  ]
}""".replace(b"\\\n", b"")


def test_the_rsa_key_of_rfc_7517_is_read_and_the_ec_key_beside_it_left_out() -> None:
    keys, refused = read_jwks(RFC_7517)
    assert {kid: (key.key_size, key.public_numbers().e) for kid, key in keys.items()} == {"2011-04-29": (2048, 65537)}
    assert refused == ("key 1: `kty` is not RSA",)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(jwk(), id="as Cognito publishes it"),
        pytest.param(jwk(alg=DROP), id="without alg"),
        pytest.param(jwk(use=DROP), id="without use"),
        pytest.param(jwk(key_ops=["sign", "verify"]), id="key_ops holding verify"),
        pytest.param(jwk("k" * 256), id="kid of 256 characters"),
        pytest.param(jwk("ключ/../%00"), id="kid is opaque"),
        pytest.param(jwk(n=modulus(bits=8192)), id="8192 bits"),
        pytest.param(jwk(e=number((1 << 255) + 1)), id="exponent of 256 bits"),
        pytest.param(jwk(x5c=["foreign"], unknown={"a": 1}), id="members we do not read"),
    ],
)
def test_a_key_is_taken(key: dict[str, Any]) -> None:
    assert list(read_jwks(jwks(key)).keys) == [key["kid"]]


UNUSABLE = [
    pytest.param("text", "not an object", id="a text"),
    pytest.param(jwk(kid=DROP), "`kid` is not a text", id="no kid"),
    pytest.param(jwk(kid=7), "`kid` is not a text", id="kid is a number"),
    pytest.param(jwk(""), "`kid` is not a text", id="kid is empty"),
    pytest.param(jwk("k" * 257), "`kid` is not a text", id="kid of 257 characters"),
    pytest.param(jwk(kty="oct", k="c2VjcmV0"), "`kty` is not RSA", id="a secret"),
    pytest.param(jwk(kty="rsa"), "`kty` is not RSA", id="kty in lower case"),
    pytest.param(jwk(kty=DROP), "`kty` is not RSA", id="no kty"),
    pytest.param(jwk(alg="RS512"), "`alg` is not RS256", id="another algorithm"),
    pytest.param(jwk(alg=None), "`alg` is not RS256", id="alg is null"),
    pytest.param(jwk(use="enc"), "`use` is not sig", id="for encryption"),
    pytest.param(jwk(key_ops=["sign"]), "`key_ops` does not hold verify", id="key_ops without verify"),
    pytest.param(jwk(key_ops="verify"), "`key_ops` does not hold verify", id="key_ops is a text"),
    pytest.param(jwk(d="AQAB"), "private members", id="with the private exponent"),
    pytest.param(jwk(p="AQAB"), "private members", id="with a prime"),
    pytest.param(jwk(n=DROP), "not base64url", id="no modulus"),
    pytest.param(jwk(e=DROP), "not base64url", id="no exponent"),
    pytest.param(jwk(e=65537), "not base64url", id="exponent is a number"),
    pytest.param(jwk(n=modulus() + "="), "not base64url", id="padding"),
    pytest.param(jwk(n=modulus() + "\n"), "not base64url", id="line break after the modulus"),
    pytest.param(jwk(n=modulus().replace("A", "+", 1)), "not base64url", id="plain base64"),
    pytest.param(jwk(e="A"), "no RSA key", id="impossible base64 length"),
    pytest.param(jwk(e=number(65_538)), "no RSA key", id="even exponent"),
    pytest.param(jwk(n="AQ"), "no RSA key", id="modulus of one"),
    pytest.param(jwk(n=modulus(bits=2047)), "2047 bits", id="2047 bits"),
    pytest.param(jwk(n=modulus(bits=8193)), "8193 bits", id="8193 bits"),
    pytest.param(jwk(e=number(65_535)), "its exponent", id="exponent below 65537"),
    pytest.param(jwk(e=number((1 << 256) + 1)), "its exponent", id="exponent over 256 bits"),
]


@pytest.mark.parametrize(("key", "why"), UNUSABLE)
def test_an_unusable_key_is_left_out(key: Any, why: str) -> None:
    keys, refused = read_jwks(jwks(key, jwk("good", 1)))
    assert list(keys) == ["good"]
    assert refused[0].startswith("key 1: ")
    assert why in refused[0]


@pytest.mark.parametrize(("key", "why"), UNUSABLE)
def test_a_document_with_no_other_key_is_refused(key: Any, why: str) -> None:
    with pytest.raises(KeysError, match=f"no usable key; key 1: .*{why}"):
        read_jwks(jwks(key))


def test_of_many_unusable_keys_the_first_three_are_named() -> None:
    with pytest.raises(KeysError) as caught:
        read_jwks(jwks(1, 2, 3, 4))
    assert [part.partition(":")[0] for part in str(caught.value).split("; ")] == [
        "no usable key",
        "key 1",
        "key 2",
        "key 3",
    ]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        pytest.param(b"", "not strict JSON", id="nothing"),
        pytest.param(b"<!doctype html><title>Sign in</title>", "not strict JSON", id="HTML"),
        pytest.param(b'{"keys": [\xff]}', "not strict JSON", id="not UTF-8"),
        pytest.param(b"\xef\xbb\xbf" + jwks(jwk()), "not strict JSON", id="a byte order mark"),
        pytest.param(jwks(jwk()).decode().encode("utf-16"), "not strict JSON", id="UTF-16"),
        pytest.param(jwks(jwk())[:-1], "not strict JSON", id="cut off"),
        pytest.param(jwks(jwk()) + b"{}", "not strict JSON", id="two documents"),
        pytest.param(jwks(jwk(nan=float("nan"))), "not strict JSON", id="NaN"),
        pytest.param(jwks(jwk())[:-1] + b', "keys": []}', "not strict JSON", id="`keys` twice"),
        pytest.param(jwks(jwk()).replace(b'"e"', b'"kid"'), "not strict JSON", id="`kid` twice in a key"),
        pytest.param(b"[" * 60_000, "not strict JSON", id="endless nesting"),
        pytest.param(b'{"keys": ' + b"9" * 5_000 + b"}", "not strict JSON", id="a number beyond all limits"),
        pytest.param(b"[]", "not an object with a list", id="a list"),
        pytest.param(b"{}", "not an object with a list", id="no `keys`"),
        pytest.param(json.dumps({"keys": jwk()}).encode(), "not an object with a list", id="`keys` is one key"),
        pytest.param(jwks(), "no usable key", id="an empty set"),
        pytest.param(jwks(*(jwk(f"k{i}", i) for i in range(51))), "51 keys", id="51 keys"),
        pytest.param(jwks(jwk("one", 1), jwk("one", 2)), "key 2: its `kid` already", id="one kid for two keys"),
    ],
)
def test_a_document_is_refused_whole(document: bytes, why: str) -> None:
    with pytest.raises(KeysError, match=why):
        read_jwks(document)


def test_fifty_keys_are_read() -> None:
    assert len(read_jwks(jwks(*(jwk(f"k{i}", i) for i in range(50)))).keys) == 50


def test_the_same_key_twice_is_one_key() -> None:
    assert list(read_jwks(jwks(jwk("one"), jwk("one"))).keys) == ["one"]


def test_a_kid_shared_with_an_unusable_key_stands_for_the_usable_one() -> None:
    assert read_jwks(jwks(jwk("one", alg="RS512"), jwk("one"))).keys["one"].key_size == 2048


def test_the_keys_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        read_jwks(jwks(jwk())).keys["planted"] = None  # type: ignore[index]


def test_a_parser_that_gives_a_private_key_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authz.identity.key_document.RSAAlgorithm.from_jwk", lambda _: object())
    with pytest.raises(KeysError, match="not a public key"):
        read_jwks(jwks(jwk()))


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_members = st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "n", "e", "d", "x5c"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.binary() | st.dictionaries(_members, _json_values).map(lambda changes: jwks(jwk() | changes, changes)))
def test_any_bytes_are_keys_or_a_keys_error(document: bytes) -> None:
    try:
        keys = read_jwks(document).keys
    except KeysError:
        return
    assert keys


# --- The store, on virtual time --------------------------------------------------------------------------------------


class _Selector(selectors.DefaultSelector):
    """Never waits for time to pass: moves the loop's clock instead. Only threads are really waited for."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or self.loop.threads:
            return super().select(timeout)
        events = super().select(0)
        if not events:
            self.loop.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose hours last no time."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 1_000.0
        self.threads = 0
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, *args: Any) -> Any:
        self.threads += 1
        future = super().run_in_executor(*args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: object) -> None:
        self.threads -= 1


class FakeEndpoint:
    """Plays the Fetch: takes `seconds`, then gives the document or raises."""

    def __init__(self) -> None:
        self.answer: bytes | Exception = jwks(jwk("one", 1), jwk("two", 2))
        self.seconds = 0.1
        self.fetches: list[float] = []  # when each began

    async def __call__(self, uri: str, timeout_seconds: float) -> bytes:
        assert uri == URI
        self.fetches.append(asyncio.get_running_loop().time())
        await asyncio.sleep(min(self.seconds, timeout_seconds))
        if self.seconds > timeout_seconds:
            raise FetchError(FetchResult.ERROR_TIMEOUT, "too slow")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


DOWN = FetchError(FetchResult.ERROR_UNREACHABLE, "connection refused")


class Heard:
    """A KeyObserver that remembers."""

    def __init__(self) -> None:
        self.results: list[tuple[str, int]] = []
        self.restorations: list[tuple[int, float]] = []
        self.places: list[str] = []
        self.reasons: list[str] = []

    def fetched(self, issuer: str, result: FetchResult, keys: int) -> None:
        assert issuer == ISSUER
        self.results.append((str(result), keys))

    def restored(self, issuer: str, keys: int, fetched_at: float, place: str) -> None:
        assert issuer == ISSUER
        self.restorations.append((keys, fetched_at))
        self.places.append(place)

    def rejected(self, issuer: str, why: str) -> None:
        assert issuer == ISSUER
        self.reasons.append(why)


class World:
    """One store with everything handed in."""

    def __init__(self, settings: JwksSettings = SETTINGS) -> None:
        self.loop = asyncio.get_running_loop()
        self.endpoint = FakeEndpoint()
        self.heard = Heard()
        self.wall_offset = 1_700_000_000.0
        self.store = self.new_store(settings)

    def new_store(
        self,
        settings: JwksSettings,
        uri: str = URI,
        max_waiters: int = MAX_WAITERS,
        shared: SharedKeys | None = None,
    ) -> KeyStore:
        return KeyStore(
            issuer=ISSUER,
            uri=uri,
            settings=settings,
            fetch=self.endpoint,
            clock=self.loop.time,
            wall=self.wall,
            observe=self.heard,
            max_waiters=max_waiters,
            shared=shared,
        )

    def wall(self) -> float:
        return self.loop.time() + self.wall_offset

    async def running(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self.store.run())
        await asyncio.sleep(1)
        return task

    async def saved(self) -> None:
        await asyncio.gather(*self.store._saves)

    async def reason(self, kid: str) -> Reason | str:
        """Look for a kid: the kid when it is found, else the reason."""
        try:
            keys, key = await self.store.find(kid)
        except TokenError as error:
            return error.reason
        assert keys.keys[kid] is key
        return kid

    @property
    def kids(self) -> list[str] | None:
        current = self.store.current
        return None if current is None else list(current.keys)


def virtual(scenario: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the test on a loop of its own whose clock jumps; nothing may be left over."""

    def test(**fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(scenario(**fixtures))

    test.__name__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    test.__signature__ = inspect.signature(scenario)  # type: ignore[attr-defined]
    return test


@virtual
async def test_keys_are_there_after_the_prefetch() -> None:
    world = World()
    assert world.kids is None
    await world.running()
    assert world.kids == ["one", "two"]
    assert world.heard.results == [("ok", 2)]


@virtual
async def test_a_known_kid_is_found_without_waiting_while_a_fetch_hangs() -> None:
    world = World()
    await world.running()
    world.endpoint.seconds = 1.0
    world.store.refresh_now()
    await asyncio.sleep(0.5)
    before = world.loop.time()
    coroutine = world.store.find("one")
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)  # a single step: it never hands control back
    assert done.value.value[0] is world.store.current
    assert world.loop.time() == before


@virtual
async def test_the_periodic_refresh_comes_after_the_interval_or_up_to_a_fifth_before() -> None:
    """Never later: what a removed key signed is good until then."""
    world = World()
    await world.running()
    await asyncio.sleep(100 * 900)
    gaps = [later - earlier for earlier, later in zip(world.endpoint.fetches, world.endpoint.fetches[1:], strict=False)]
    assert len(gaps) >= 90
    assert min(gaps) >= 719.9
    assert max(gaps) <= 900.1
    assert len({round(gap) for gap in gaps}) > 10


@virtual
async def test_the_same_keys_keep_the_same_set() -> None:
    world = World()
    await world.running()
    first = world.store.current
    world.endpoint.answer = jwks(jwk("two", 2), jwk("one", 1))
    await asyncio.sleep(1_000)
    assert world.store.current is first
    assert world.heard.results == [("ok", 2), ("unchanged", 2)]


@virtual
async def test_a_rotated_and_a_removed_key_change_at_the_refresh() -> None:
    world = World()
    await world.running()
    first = world.store.current
    world.endpoint.answer = jwks(jwk("one", 7), jwk("three", 3))
    await asyncio.sleep(1_000)
    assert world.kids == ["one", "three"]
    assert world.store.current is not first
    assert world.store.current.keys["one"] != first.keys["one"]
    assert await world.reason("two") is Reason.TOKEN_KEY_UNKNOWN


@virtual
async def test_refresh_now_fetches_at_once_and_again_when_it_comes_during_a_fetch() -> None:
    world = World()
    await world.running()
    world.store.refresh_now()
    await asyncio.sleep(0.05)
    world.store.refresh_now()
    await asyncio.sleep(1)
    assert len(world.endpoint.fetches) == 3


@virtual
async def test_left_out_keys_are_said_once() -> None:
    world = World()
    world.endpoint.answer = jwks(jwk("one", 1), jwk("weak", n=modulus(bits=1024)))
    await world.running()
    await asyncio.sleep(3_000)
    assert world.heard.reasons == ["left out: key 2: 1024 bits, not 2048 to 8192"]


# --- Unknown kids


@virtual
async def test_a_new_kid_is_found_by_one_fetch() -> None:
    world = World()
    await world.running()
    world.endpoint.answer = jwks(jwk("new", 9))
    assert await world.reason("new") == "new"
    assert len(world.endpoint.fetches) == 2


@virtual
async def test_a_thousand_unknown_kids_cause_one_fetch_a_cooldown() -> None:
    world = World()
    await world.running()
    for fetches in (2, 3):
        answers = await asyncio.gather(*(world.reason(f"made up {i}") for i in range(1_000)))
        assert set(answers) == {Reason.TOKEN_KEY_UNKNOWN}
        assert await world.reason("one more") is Reason.TOKEN_KEY_UNKNOWN
        assert len(world.endpoint.fetches) == fetches
        await asyncio.sleep(30)


@virtual
async def test_only_so_many_wait_and_the_rest_are_answered_at_once() -> None:
    world = World()
    await world.running()
    world.endpoint.answer = jwks(jwk("new", 9))
    answers = await asyncio.gather(*(world.reason("new") for _ in range(MAX_WAITERS + 10)))
    assert answers.count("new") == MAX_WAITERS
    assert answers[MAX_WAITERS:] == [Reason.TOKEN_KEY_UNKNOWN] * 10


@virtual
async def test_fewer_wait_where_there_are_others_beside() -> None:
    world = World()
    world.store = world.new_store(SETTINGS, max_waiters=2)
    await world.running()
    world.endpoint.answer = jwks(jwk("new", 9))
    answers = await asyncio.gather(*(world.reason("new") for _ in range(3)))
    assert answers == ["new", "new", Reason.TOKEN_KEY_UNKNOWN]


@pytest.mark.parametrize(
    ("seconds", "fetches"),
    [
        pytest.param(29.9, 2, id="just before its end no second fetch"),
        pytest.param(30.0, 3, id="at its end one more"),
    ],
)
@virtual
async def test_the_cooldown_runs_from_the_start_of_the_fetch(seconds: float, fetches: int) -> None:
    world = World()
    await world.running()
    await world.reason("unknown")
    await asyncio.sleep(seconds - world.endpoint.seconds)
    await world.reason("unknown")
    assert len(world.endpoint.fetches) == fetches


@virtual
async def test_a_failed_fetch_starts_the_cooldown_too() -> None:
    world = World()
    await world.running()
    world.endpoint.answer = DOWN
    assert await world.reason("unknown") is Reason.TOKEN_KEY_UNKNOWN
    assert await world.reason("unknown") is Reason.TOKEN_KEY_UNKNOWN
    assert len(world.endpoint.fetches) == 2
    assert world.heard.results[-1] == ("error-unreachable", 2)


@virtual
async def test_the_periodic_fetch_is_joined_and_starts_no_cooldown() -> None:
    world = World()
    await world.running()
    world.store.refresh_now()
    await asyncio.sleep(0.05)
    assert await world.reason("unknown") is Reason.TOKEN_KEY_UNKNOWN
    assert len(world.endpoint.fetches) == 2
    assert await world.reason("unknown") is Reason.TOKEN_KEY_UNKNOWN
    assert len(world.endpoint.fetches) == 3


@virtual
async def test_the_prefetch_joins_the_fetch_of_a_request() -> None:
    world = World()
    waiting = asyncio.create_task(world.reason("one"))
    await asyncio.sleep(0)
    await world.running()
    assert await waiting == "one"
    assert len(world.endpoint.fetches) == 1


@virtual
async def test_a_waiter_waits_no_longer_than_the_timeout() -> None:
    world = World()
    world.endpoint.seconds = 1_000
    before = world.loop.time()
    assert await world.reason("one") is Reason.KEYS_UNAVAILABLE
    assert world.loop.time() - before == pytest.approx(2.0)


@virtual
async def test_a_cancelled_waiter_leaves_the_fetch_to_the_others() -> None:
    world = World()
    waiters = [asyncio.create_task(world.reason("one")) for _ in range(3)]
    await asyncio.sleep(0.05)
    waiters[0].cancel()  # it started the fetch
    assert await asyncio.gather(*waiters[1:]) == ["one", "one"]
    assert waiters[0].cancelled()
    assert len(world.endpoint.fetches) == 1
    assert world.store._waiters == 0


# --- Without keys


@virtual
async def test_an_issuer_without_keys_is_asked_every_five_seconds_whatever_the_cooldown_says() -> None:
    world = World()
    world.endpoint.answer = DOWN
    await world.running()
    assert await world.reason("one") is Reason.KEYS_UNAVAILABLE
    await asyncio.sleep(60)
    gaps = [later - earlier for earlier, later in zip(world.endpoint.fetches, world.endpoint.fetches[1:], strict=False)]
    assert len(gaps) >= 12
    assert max(gaps) <= 5.01
    assert min(gaps[2:]) >= 4.99  # the first was joined by who asked
    world.endpoint.answer = jwks(jwk("one", 1))
    await asyncio.sleep(5.2)
    assert await world.reason("one") == "one"
    assert world.heard.results[-1] == ("ok", 1)


@virtual
async def test_a_fetch_longer_than_five_seconds_is_followed_by_the_next_after_a_breath() -> None:
    world = World(replace(SETTINGS, timeout=timedelta(seconds=8)))
    world.endpoint.seconds = 100
    await world.running()
    await asyncio.sleep(20)
    assert world.endpoint.fetches == pytest.approx([1_000.0, 1_008.5, 1_017.0])


@virtual
async def test_a_thousand_requests_without_keys_are_answered_and_cause_one_fetch() -> None:
    world = World()
    world.endpoint.answer = DOWN
    assert set(await asyncio.gather(*(world.reason(f"k{i}") for i in range(1_000)))) == {Reason.KEYS_UNAVAILABLE}
    assert len(world.endpoint.fetches) == 1


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        pytest.param(DOWN, "error-unreachable", id="the endpoint is down"),
        pytest.param(b"<html>", "error-document", id="the endpoint serves HTML"),
        pytest.param(jwks(), "error-document", id="the endpoint serves an empty set"),
        pytest.param(jwks(jwk("one", 1), jwk("one", 2)), "error-document", id="one kid for two keys"),
        pytest.param(KeysError("some other source"), "error-document", id="a fetch that raises a plain KeysError"),
        pytest.param(RuntimeError("a defect"), "error-internal", id="a defect in the fetch"),
    ],
)
@virtual
async def test_a_failed_refresh_keeps_the_keys_until_they_are_too_old(answer: bytes | Exception, result: str) -> None:
    world = World()
    running = await world.running()
    first, fetched_at = world.store.current, world.loop.time() - 1
    world.endpoint.answer = answer
    world.store.refresh_now()
    await asyncio.sleep(fetched_at + DAY - world.loop.time() - 0.01)
    assert world.store.current is first
    assert set(world.heard.results[1:]) == {(result, 2)}
    await asyncio.sleep(0.02)
    assert world.store.current is None
    assert await world.reason("one") is Reason.KEYS_UNAVAILABLE
    await asyncio.sleep(10)
    assert world.heard.results[-1] == (result, 0)
    assert not running.done()
    assert "a defect" not in " ".join(world.heard.reasons)

    world.endpoint.answer = jwks(jwk("one", 1), jwk("two", 2))
    await asyncio.sleep(5)
    assert world.store.current is first  # the same keys: what was verified under them stays so


@virtual
async def test_after_a_failure_the_next_fetch_comes_after_the_cooldown_not_the_whole_interval() -> None:
    world = World()
    await world.running()
    world.endpoint.answer = DOWN
    world.store.refresh_now()
    await asyncio.sleep(31)
    assert len(world.endpoint.fetches) == 3
    assert world.endpoint.fetches[2] - world.endpoint.fetches[1] == pytest.approx(30)


@virtual
async def test_keys_that_would_be_too_old_before_the_refresh_are_fetched_then() -> None:
    world = World(replace(SETTINGS, refresh=timedelta(hours=1), max_stale=timedelta(minutes=10)))
    await world.running()
    await asyncio.sleep(605)
    assert len(world.endpoint.fetches) == 2
    assert world.kids == ["one", "two"]


@virtual
async def test_settings_of_zero_do_not_make_it_spin() -> None:
    world = World(replace(SETTINGS, refresh=timedelta(0)))
    await world.running()
    await asyncio.sleep(9)
    assert len(world.endpoint.fetches) <= 20


@virtual
async def test_a_jump_of_the_wall_clock_changes_nothing() -> None:
    world = World()
    await world.running()
    world.wall_offset += 10 * 365 * DAY
    assert world.kids == ["one", "two"]
    world.wall_offset -= 20 * 365 * DAY
    assert world.kids == ["one", "two"]


@virtual
async def test_cancelling_run_cancels_its_fetch() -> None:
    world = World()
    running = asyncio.create_task(world.store.run())
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait({running})
    await asyncio.sleep(0)
    assert running.cancelled()
    assert world.store._fetching is None
    assert world.heard.results == []


@virtual
async def test_cancelling_run_between_fetches_ends_it() -> None:
    world = World()
    running = await world.running()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()


# --- The cache file


def cached(folder: Path) -> JwksSettings:
    return replace(SETTINGS, cache_dir=folder / "keys")


async def saved_world(folder: Path) -> tuple[World, Path]:
    """Let one run fetch and save its keys; give the world and the file."""
    world = World(cached(folder))
    task = await world.running()
    await world.saved()
    task.cancel()
    await asyncio.wait({task})
    (file,) = (folder / "keys").iterdir()
    return world, file


def restart(world: World, folder: Path, uri: str = URI) -> None:
    world.heard = Heard()
    world.store = world.new_store(cached(folder), uri)
    world.store.load_cache()


@virtual
async def test_keys_survive_a_restart_and_their_age_goes_on(tmp_path: Path) -> None:
    world, _ = await saved_world(tmp_path)
    fetched_at = world.wall_offset + 1_000.1
    await asyncio.sleep(23 * HOUR)
    world.endpoint.answer = DOWN
    restart(world, tmp_path)
    assert world.kids == ["one", "two"]
    ((keys, at),) = world.heard.restorations
    assert (keys, at) == (2, pytest.approx(fetched_at))
    await world.running()
    await asyncio.sleep(fetched_at - world.wall_offset + DAY - world.loop.time() - 0.01)
    assert world.kids == ["one", "two"]
    await asyncio.sleep(0.02)
    assert world.kids is None


@virtual
async def test_the_file_is_private_and_its_name_tells_nothing(tmp_path: Path) -> None:
    world, file = await saved_world(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "cognito" not in file.name
    assert file.name.removesuffix(".json").isalnum()
    assert world.heard.reasons == []


@virtual
async def test_a_later_success_replaces_the_file(tmp_path: Path) -> None:
    world, file = await saved_world(tmp_path)
    world.endpoint.answer = jwks(jwk("three", 3))
    await world.running()
    await world.saved()
    restart(world, tmp_path)
    assert world.kids == ["three"]
    assert list(file.parent.iterdir()) == [file]


@virtual
async def test_saves_reach_the_disk_in_the_order_of_the_fetches(tmp_path: Path) -> None:
    world = World(cached(tmp_path))
    for number_ in range(5):
        world.store._save(jwks(jwk(f"k{number_}", number_)))
    await world.saved()
    restart(world, tmp_path)
    assert world.kids == ["k4"]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Make every save wait until the disk is back."""
    back, save = threading.Event(), KeyFile.save

    def slow(file: KeyFile, document: bytes, fetched_at: float) -> None:
        back.wait()
        save(file, document, fetched_at)

    monkeypatch.setattr(KeyFile, "save", slow)
    yield back
    back.set()


async def last_save(folder: Path) -> None:
    World(cached(folder)).store._save(jwks(jwk("one", 1)))
    await asyncio.sleep(0.05)


def test_the_end_waits_a_moment_for_a_save_so_that_no_half_file_stays(tmp_path: Path, disk: threading.Event) -> None:
    later = threading.Timer(0.3, disk.set)
    later.start()
    asyncio.run(last_save(tmp_path))
    (file,) = (tmp_path / "keys").iterdir()
    assert json.loads(file.read_text())["document"] == jwks(jwk("one", 1)).decode()
    later.join()


def test_a_disk_that_hangs_does_not_hold_up_the_end(tmp_path: Path, disk: threading.Event) -> None:
    rescue = threading.Timer(PATIENCE, disk.set)  # else a failure would hang, too
    rescue.start()
    asyncio.run(last_save(tmp_path))
    assert not disk.is_set()
    rescue.cancel()


def edited(**changes: Any) -> Callable[[Path], None]:
    def edit(file: Path) -> None:
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return edit


def moved_to_a_symlink(file: Path) -> None:
    file.rename(file.with_suffix(".real"))
    file.symlink_to(file.with_suffix(".real"))


def made_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        pytest.param(lambda file: file.write_bytes(b""), "not JSON", id="empty"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:-9]), "not JSON", id="cut off"),
        pytest.param(lambda file: file.write_bytes(b"[" * 100_000), "not JSON", id="endless nesting"),
        pytest.param(lambda file: file.write_bytes(b"\xff"), "not JSON", id="not UTF-8"),
        pytest.param(lambda file: file.write_bytes(b" " * 4 * MAX_DOCUMENT_BYTES + b" "), "more than", id="too large"),
        pytest.param(lambda file: file.write_text("[]"), "damaged", id="a list"),
        pytest.param(edited(issuer="https://elsewhere.example"), "another issuer", id="of another issuer"),
        pytest.param(edited(uri="https://elsewhere.example/jwks"), "another issuer", id="from another address"),
        pytest.param(edited(fetched_at="now"), "damaged", id="its time is a text"),
        pytest.param(edited(fetched_at=True), "damaged", id="its time is a boolean"),
        pytest.param(edited(fetched_at=float("nan")), "too old, or from the future", id="its time is NaN"),
        pytest.param(edited(fetched_at=1_700_000_000.0 + 10_000), "from the future", id="from the future"),
        pytest.param(edited(fetched_at=1_700_000_000.0 - DAY), "too old", id="older than max_stale"),
        pytest.param(edited(document="{}"), "not an object with a list", id="its document is no JWKS"),
        pytest.param(edited(document="\ud800"), "not strict JSON", id="its document has half a character"),
        pytest.param(lambda file: file.chmod(0o602), "others may have written", id="anybody may write it"),
        pytest.param(moved_to_a_symlink, "OSError", id="a symbolic link"),
        pytest.param(made_a_folder, "not a regular file|Is a directory", id="a folder"),
    ],
)
@virtual
async def test_a_bad_cache_file_is_ignored_and_said(tmp_path: Path, damage: Callable[[Path], None], why: str) -> None:
    world, file = await saved_world(tmp_path)
    damage(file)
    restart(world, tmp_path)
    assert world.kids is None
    (said,) = world.heard.reasons
    assert said.startswith("cache file ignored: ")
    assert any(word in said for word in why.split("|"))
    assert world.heard.restorations == []


@virtual
async def test_a_file_that_another_user_owns_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, file = await saved_world(tmp_path)
    monkeypatch.setattr("authz.identity.fetch.os.geteuid", lambda: file.stat().st_uid + 1)
    restart(world, tmp_path)
    assert world.kids is None


@virtual
async def test_a_file_of_an_earlier_address_is_ignored(tmp_path: Path) -> None:
    world, _ = await saved_world(tmp_path)
    restart(world, tmp_path, uri=URI + "?other")
    assert world.kids is None


@virtual
async def test_a_first_start_has_no_file_and_says_nothing(tmp_path: Path) -> None:
    world = World(cached(tmp_path))
    world.store.load_cache()
    assert world.kids is None
    assert world.heard.reasons == []


@virtual
async def test_without_a_folder_nothing_is_loaded() -> None:
    world = World()
    world.store.load_cache()
    assert world.kids is None


@virtual
async def test_left_out_keys_of_the_cache_file_are_said(tmp_path: Path) -> None:
    world, file = await saved_world(tmp_path)
    edited(document=jwks(jwk("one", 1), jwk("two", use="enc")).decode())(file)
    restart(world, tmp_path)
    assert world.kids == ["one"]
    assert world.heard.reasons == ["left out: key 2: `use` is not sig"]


def a_file_in_its_place(folder: Path) -> None:
    (folder / "keys").write_text("")


def a_folder_in_place_of_the_file(folder: Path) -> None:
    settings = cached(folder)
    file = KeyStore(
        issuer=ISSUER, uri=URI, settings=settings, fetch=FakeEndpoint(), clock=float, wall=float, observe=Heard()
    )._file
    assert file is not None
    file.path.mkdir(parents=True)
    (file.path / "inhabited").write_text("")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(a_file_in_its_place, id="a file stands where the folder should be"),
        pytest.param(a_folder_in_place_of_the_file, id="a folder stands where the file should be"),
    ],
)
@virtual
async def test_a_cache_that_cannot_be_written_is_said_and_does_no_harm(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path)
    world = World(cached(tmp_path))
    await world.running()
    await world.saved()
    assert world.kids == ["one", "two"]
    (said,) = world.heard.reasons
    assert said.startswith("cache file not written: ")
    assert not list(tmp_path.rglob("*.tmp"))  # noqa: ASYNC240 - a test may block its loop


# --- Beside other workers


class Workers:
    """Two stores that share what they know; in one process, so the lock holds neither of them back."""

    def __init__(self, memory: int, settings: JwksSettings = SETTINGS) -> None:
        self.first, self.second = self.all = World(settings), World(settings)
        self.shared = SharedKeys(memory, 0)
        self.second.endpoint = self.first.endpoint
        for world in self.all:
            world.store = world.new_store(settings, shared=self.shared)

    @property
    def fetches(self) -> int:
        return len(self.first.endpoint.fetches)

    @property
    def newest(self) -> bytes | None:
        fetched = self.shared.newest
        return None if fetched is None else fetched.document

    async def running(self) -> list[asyncio.Task[None]]:
        return [await world.running() for world in self.all]


@virtual
async def test_unknown_kids_make_all_workers_together_fetch_once_a_cooldown(memory: int) -> None:
    workers = Workers(memory)
    await workers.running()
    for fetches in (3, 4, 5):
        for _ in range(3):
            for world in workers.all:
                assert await world.reason("made up") is Reason.TOKEN_KEY_UNKNOWN
        assert workers.fetches == fetches
        await asyncio.sleep(30)


@virtual
async def test_a_new_key_that_one_worker_fetched_is_known_to_the_other(memory: int) -> None:
    workers = Workers(memory)
    await workers.running()
    workers.first.endpoint.answer = jwks(jwk("new", 9))
    assert await workers.first.reason("new") == "new"
    began = workers.first.endpoint.fetches[-1]
    await asyncio.sleep(10)
    assert await workers.second.reason("new") == "new"
    assert workers.fetches == 3
    assert workers.second.heard.restorations == [(1, began + workers.second.wall_offset)]
    assert workers.second.heard.places == ["another worker"]


@virtual
async def test_who_takes_over_may_ask_when_the_others_cooldown_ends_not_a_whole_one_later(memory: int) -> None:
    workers = Workers(memory)
    await workers.running()
    await workers.first.reason("made up")
    await asyncio.sleep(29)
    await workers.second.reason("made up")
    assert workers.fetches == 3
    await asyncio.sleep(1)
    workers.first.endpoint.answer = jwks(jwk("new", 9))
    assert await workers.second.reason("new") == "new"
    assert workers.fetches == 4


@virtual
async def test_a_fetch_that_failed_is_not_tried_by_the_other_worker(memory: int) -> None:
    workers = Workers(memory)
    await workers.running()
    workers.first.endpoint.answer = DOWN
    for world in workers.all:
        assert await world.reason("made up") is Reason.TOKEN_KEY_UNKNOWN
    assert workers.fetches == 3
    assert workers.second.heard.reasons == []


@virtual
async def test_the_periodic_fetch_is_each_workers_own(memory: int) -> None:
    """What another one fetched may be old: a key that was taken back must be gone after `refresh`."""
    workers = Workers(memory)
    await workers.running()
    workers.first.endpoint.answer = jwks(jwk("two", 2))
    await workers.first.reason("made up")
    await asyncio.sleep(15 * 60)
    assert workers.second.kids == ["two"]
    assert workers.fetches == 5


@pytest.mark.parametrize("has_heard", [True, False], ids=["which is known", "which nobody has told it of"])
@virtual
async def test_an_older_document_replaces_no_newer_one(memory: int, has_heard: bool) -> None:
    """Ours was on its way when another worker asked later and was answered sooner."""
    workers = Workers(memory)
    await workers.running()
    first, second = workers.all
    first.endpoint = first.store._fetch = FakeEndpoint()
    first.endpoint.seconds = 1.5
    slow = asyncio.create_task(first.store._refresh())
    await asyncio.sleep(1)
    second.endpoint.answer = jwks(jwk("new", 9))
    assert await second.reason("new") == "new"
    if has_heard:
        first.store._take_over(workers.shared)
    await slow
    assert workers.newest == jwks(jwk("new", 9))  # for whoever asks next
    if has_heard:
        assert first.kids == ["new"]
        assert first.heard.results[-1] == ("unchanged", 1)  # of the keys in force


@pytest.mark.parametrize(
    ("hours", "kids"),
    [
        pytest.param(23.9, ["one", "two"], id="not too old"),
        pytest.param(24.1, None, id="too old"),
    ],
)
@virtual
async def test_a_worker_that_starts_again_has_what_the_others_have(
    memory: int, hours: float, kids: list[str] | None
) -> None:
    workers = Workers(memory)
    began = workers.second.loop.time() - hours * HOUR
    workers.shared.newest = Dated(jwks(jwk("one", 1), jwk("two", 2)), began)
    workers.second.store.load_cache()
    assert workers.second.kids == kids


@virtual
async def test_what_another_worker_has_goes_before_the_cache_file(memory: int, tmp_path: Path) -> None:
    world, _ = await saved_world(tmp_path)
    workers = Workers(memory, cached(tmp_path))
    workers.shared.newest = Dated(jwks(jwk("newer", 3)), world.loop.time() - 1)
    workers.second.store.load_cache()
    assert workers.second.kids == ["newer"]


@virtual
async def test_a_document_from_the_future_is_not_taken(memory: int) -> None:
    workers = Workers(memory)
    workers.shared.newest = Dated(jwks(jwk("one", 1)), workers.first.loop.time() + 1)
    workers.second.store.load_cache()
    assert workers.second.kids is None


@virtual
async def test_a_worker_that_hangs_in_its_turn_keeps_nobody_waiting(memory: int) -> None:
    workers = Workers(memory)
    await workers.running()
    with turn_of_another_process(memory, 0):
        before = workers.first.loop.time()
        assert await workers.first.reason("made up") is Reason.TOKEN_KEY_UNKNOWN
        assert workers.first.loop.time() - before == pytest.approx(2.0, abs=0.05)
        assert await workers.first.reason("made up") is Reason.TOKEN_KEY_UNKNOWN  # at once: it cools down
        assert workers.first.loop.time() - before == pytest.approx(2.0, abs=0.05)
        assert await workers.first.reason("one") == "one"
        assert workers.fetches == 2
    await asyncio.sleep(30)
    assert await workers.first.reason("made up") is Reason.TOKEN_KEY_UNKNOWN
    assert workers.fetches == 3


@virtual
async def test_a_defect_in_a_turn_is_told(memory: int) -> None:
    workers = Workers(memory)
    await workers.running()
    workers.shared.newest = Dated(b"no keys", workers.first.loop.time())
    workers.shared.last_turn = workers.first.loop.time()
    await workers.first.reason("made up")
    assert workers.first.heard.reasons == ["fetch failed: KeysError"]


def test_the_defaults_are_those_of_the_interface() -> None:
    assert (
        JwksSettings(
            refresh=timedelta(minutes=15),
            cooldown=timedelta(seconds=30),
            timeout=timedelta(seconds=2),
            max_stale=timedelta(hours=24),
            cache_dir=None,
        )
        == SETTINGS
    )


def test_the_numbers_of_a_key_are_those_of_the_document() -> None:
    key = read_jwks(jwks(jwk("one", 5))).keys["one"]
    assert key.public_numbers() == RSAPublicNumbers(65_537, (1 << 2047) + 11)
