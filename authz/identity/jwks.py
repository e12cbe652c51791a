"""The keys of an issuer: fetched, shared, cooled down, kept when the endpoint is down, dropped when too old.

Rules
- A document that is refused (`key_document.py`) leaves the old keys.
- A request never waits for the network, except for a `kid` we do not know, and then for the one shared fetch.
- Unknown kids cause at most one fetch a `cooldown`, failed ones included: anyone can make up a `kid`. The workers of
  one service count as one, and take over what another one of them fetched (`shared_keys.py`).
- A key that left the document is gone with the next fetch. No fetch for `max_stale`: no keys.
- Ages are measured on the monotonic clock. The wall clock only dates the cache file.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from authz.errors import KeysError, TokenError
from authz.identity.fetch import Fetch, FetchError, FetchResult, KeyFile
from authz.identity.key_document import read_jwks
from authz.identity.keys import KeySet
from authz.identity.own_threads import in_own_thread
from authz.identity.shared_keys import SharedKeys
from authz.model import Reason
from authz.shared_memory import Dated

MAX_WAITERS: Final = 32
"""Calls that may wait for keys, in all pools and workers together: half of those that the samples' circuit breaker lets
through, or strangers with unknown keys could shut everybody else out for as long as the endpoints hang."""

_RETRY_WITHOUT_KEYS_SECONDS: Final = 5.0
_MIN_PAUSE_SECONDS: Final = 0.5  # whatever the settings say, the endpoint gets some rest
_LAST_SAVE_SECONDS: Final = 1.0  # the process ends without a save that takes longer: its disk hangs
_JITTER: Final = 0.2  # processes that started together must not fetch together; never later than `refresh` says


@dataclass(frozen=True, slots=True)
class JwksSettings:
    """How keys are fetched and kept: `jwks:` of the configuration."""

    refresh: timedelta = timedelta(minutes=15)
    cooldown: timedelta = timedelta(seconds=30)  # least time between two fetches an unknown kid can cause
    timeout: timedelta = timedelta(seconds=2)  # of one fetch, and the longest that a request waits for one
    max_stale: timedelta = timedelta(hours=24)
    cache_dir: Path | None = None


class KeyObserver(Protocol):
    """What metrics and the log hear about keys. Must neither block nor raise.

    Called on the event loop, but for what `load_cache` tells, in whichever thread that runs.
    """

    def fetched(self, issuer: str, result: FetchResult, keys: int) -> None:
        """Note that a fetch ended; `ok` and `unchanged` are successes. `keys`: how many the issuer has now."""

    def restored(self, issuer: str, keys: int, fetched_at: float, place: str) -> None:
        """Note that keys came from this place instead of the endpoint; wall-clock seconds of their fetch."""

    def rejected(self, issuer: str, why: str) -> None:
        """Note for the log why a fetch, a single key or the cache file was not good. Holds no secret."""


class KeyStore:
    """The keys of one user pool. Lives on one event loop; `run` keeps it fresh."""

    def __init__(
        self,
        *,
        issuer: str,
        uri: str,
        settings: JwksSettings,
        fetch: Fetch,
        clock: Callable[[], float],  # monotonic seconds
        wall: Callable[[], float],  # seconds since 1970
        observe: KeyObserver,
        max_waiters: int = MAX_WAITERS,
        shared: SharedKeys | None = None,  # with other workers
    ) -> None:
        self.issuer = issuer
        self._max_waiters = max_waiters
        self._uri = uri
        self._settings = settings
        self._timeout = settings.timeout.total_seconds()
        self._fetch = fetch
        self._clock = clock
        self._wall = wall
        self._observe = observe
        self._shared = shared
        self._file = KeyFile(settings.cache_dir, issuer, uri) if settings.cache_dir else None

        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")  # when that fetch began, on the monotonic clock
        self._stale_at = float("-inf")
        self._cool_at = float("-inf")  # an unknown kid may cause a fetch from then on
        self._fetching: asyncio.Task[None] | None = None
        self._turn: asyncio.Task[None] | None = None  # what an unknown kid causes where workers share
        self._waiters = 0
        self._wake = asyncio.Event()
        self._saves: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly
        self._one_save = asyncio.Lock()

    @property
    def current(self) -> KeySet | None:
        """The keys to verify with; None when there never were any, or none came for `max_stale`."""
        return self._keys if self._clock() < self._stale_at else None

    async def find(self, kid: str) -> tuple[KeySet, RSAPublicKey]:
        """Give the key and the set it belongs to. Waits only for an unknown kid, and at most `timeout`.

        Raises TokenError: `token-key-unknown` while the issuer has keys, else `keys-unavailable`.
        """
        if found := self._look_up(kid):
            return found
        await self._wait_for_fetch()
        if found := self._look_up(kid):
            return found
        if self.current is None:
            raise TokenError(Reason.KEYS_UNAVAILABLE, "there are no keys of the issuer, or they are too old")
        raise TokenError(Reason.TOKEN_KEY_UNKNOWN, "the issuer has no key with the token's kid")

    def load_cache(self) -> None:
        """Take the keys of another worker or an earlier run, if not too old. It blocks: call it before serving."""
        try:
            if self._shared is not None:
                self._take_over(self._shared)
            if self._file is not None and self.current is None:
                self._restore(self._file)
        except KeysError as error:
            self._observe.rejected(self.issuer, f"cache file ignored: {error}")

    async def run(self) -> None:
        """Fetch now and then periodically, until cancelled. An issuer without keys is asked every 5 s at least."""
        try:
            while True:
                self._wake.clear()
                started, before = self._clock(), self._fetched_at
                # `wait` neither raises what the fetch raised nor cancels it.
                await asyncio.wait({self._fetching or self._start_fetch()})
                await self._sleep(self._pause(started, succeeded=self._fetched_at > before))
        finally:
            for task in (self._fetching, self._turn):
                if task is not None:
                    task.cancel()

    def refresh_now(self) -> None:
        """Let `run` fetch at once."""
        self._wake.set()

    def _look_up(self, kid: str) -> tuple[KeySet, RSAPublicKey] | None:
        current = self.current
        key = None if current is None else current.keys.get(kid)
        return None if current is None or key is None else (current, key)

    async def _wait_for_fetch(self) -> None:
        """Wait for the fetch in flight or for a new one. Returns at once where neither is allowed."""
        if self._waiters >= self._max_waiters:
            return
        awaited = self._turn or self._fetching
        if awaited is None:
            now = self._clock()
            if now < self._cool_at:
                return
            self._cool_at = now + self._settings.cooldown.total_seconds()
            awaited = self._start_fetch() if self._shared is None else self._start_turn(self._shared)
        self._waiters += 1
        try:
            # Not `wait_for`: a caller that gives up must not cancel the fetch that others wait for.
            await asyncio.wait({awaited}, timeout=self._timeout)
        finally:
            self._waiters -= 1

    def _start_fetch(self) -> asyncio.Task[None]:
        self._fetching = asyncio.create_task(self._refresh(), name="authz-jwks-fetch")
        self._fetching.add_done_callback(self._fetch_ended)
        return self._fetching

    def _start_turn(self, shared: SharedKeys) -> asyncio.Task[None]:
        self._turn = asyncio.create_task(self._take_turn(shared), name="authz-jwks-turn")
        self._turn.add_done_callback(self._turn_ended)
        return self._turn

    async def _take_turn(self, shared: SharedKeys) -> None:
        """Fetch, unless an unknown kid made another worker do so within the cooldown: then take what it got."""
        cooldown = self._settings.cooldown.total_seconds()
        async with shared.turn(self._timeout) as ours:
            now = self._clock()
            cool_at = shared.last_turn + cooldown
            if now < cool_at <= now + cooldown:
                self._cool_at = cool_at
                self._take_over(shared)
            elif ours:
                shared.last_turn = now
                await asyncio.wait({self._fetching or self._start_fetch()})

    def _turn_ended(self, task: asyncio.Task[None]) -> None:
        self._turn = None
        self._tell_of_a_defect(task)

    def _fetch_ended(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        self._tell_of_a_defect(task)

    def _tell_of_a_defect(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            # Only a defect gets here. It must neither end `run` nor pass in silence.
            self._failed(FetchResult.ERROR_INTERNAL, type(error).__name__)

    async def _refresh(self) -> None:
        began = self._clock()
        try:
            document = await self._fetch(self._uri, self._timeout)
            keys, refused = read_jwks(document)
        except FetchError as error:
            self._failed(error.result, str(error))
        except KeysError as error:
            self._failed(FetchResult.ERROR_DOCUMENT, str(error))
        else:
            result = self._take(keys, began)
            self._observe.fetched(self.issuer, result, self._in_force())
            if result is FetchResult.OK:  # said once, not at each refresh
                self._report(refused)
            self._keep(Dated(document, began))

    def _take(self, keys: Mapping[str, RSAPublicKey], fetched_at: float) -> FetchResult:
        """Make these the keys. Equal ones keep the generation, and with it every token verified under it."""
        if fetched_at < self._fetched_at <= self._clock():  # another worker's came while ours was on its way
            return FetchResult.UNCHANGED
        self._fetched_at = fetched_at
        self._stale_at = self._fetched_at + self._settings.max_stale.total_seconds()
        if self._keys is not None and self._keys.keys == keys:
            return FetchResult.UNCHANGED
        self._keys = KeySet(keys)
        return FetchResult.OK

    def _in_force(self) -> int:
        current = self.current
        return 0 if current is None else len(current.keys)

    def _failed(self, result: FetchResult, why: str) -> None:
        self._observe.fetched(self.issuer, result, self._in_force())
        self._observe.rejected(self.issuer, f"fetch failed: {why}")

    def _report(self, refused: Iterable[str]) -> None:
        for why in refused:
            self._observe.rejected(self.issuer, f"left out: {why}")

    def _pause(self, started: float, *, succeeded: bool) -> float:
        """Seconds until the next fetch of `run`, whose last one started then, or was joined."""
        now = self._clock()
        refresh = self._settings.refresh.total_seconds()
        if now >= self._stale_at:
            due = started + min(refresh, _RETRY_WITHOUT_KEYS_SECONDS)
        elif not succeeded:  # try again soon, long before the keys are too old
            soon = max(self._settings.cooldown.total_seconds(), _RETRY_WITHOUT_KEYS_SECONDS)
            due = min(started + min(refresh, soon), self._stale_at)
        else:
            jitter = random.uniform(1 - _JITTER, 1)  # noqa: S311 - spreads load, guards nothing
            due = min(self._fetched_at + refresh * jitter, self._stale_at)
        return max(due - now, _MIN_PAUSE_SECONDS)

    async def _sleep(self, seconds: float) -> None:
        """Sleep until then, or until `refresh_now`."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _restore(self, file: KeyFile) -> None:
        cached = file.load()
        if cached is None:
            return
        age = self._wall() - cached.fetched_at
        if not 0 <= age < self._settings.max_stale.total_seconds():
            raise KeysError("it is too old, or from the future")
        keys, refused = read_jwks(cached.document)
        self._take(keys, self._clock() - age)
        self._observe.restored(self.issuer, len(keys), cached.fetched_at, "cache_dir")
        self._report(refused)

    def _take_over(self, shared: SharedKeys) -> None:
        """Take what another worker fetched, if it is newer than what we have and not too old."""
        newest, now = shared.newest, self._clock()
        too_old = now - self._settings.max_stale.total_seconds()
        if newest is None or not max(self._fetched_at, too_old) < newest.began <= now:
            return
        keys, _ = read_jwks(newest.document)  # what is left out of it, the other one told
        if self._take(keys, newest.began) is FetchResult.OK:
            at = self._wall() - (now - newest.began)
            self._observe.restored(self.issuer, len(keys), at, "another worker")

    def _keep(self, fetched: Dated) -> None:
        """Keep it for the other workers and the next start, unless one that was asked for later is there."""
        if self._shared is not None:
            newest = self._shared.newest
            if newest is not None and fetched.began < newest.began <= self._clock():
                return
            self._shared.newest = fetched
        self._save(fetched.document)

    def _save(self, document: bytes) -> None:
        """Save in a task of its own: whoever waits for the keys does not wait for the disk."""
        if self._file is not None:
            task = asyncio.create_task(self._write(self._file, document, self._wall()), name="authz-jwks-save")
            self._saves.add(task)
            task.add_done_callback(self._saves.discard)

    async def _write(self, file: KeyFile, document: bytes, fetched_at: float) -> None:
        try:
            async with self._one_save:  # in the order they came, so that the newest stays
                saving = in_own_thread(partial(file.save, document, fetched_at))
                try:
                    await asyncio.shield(saving)
                except asyncio.CancelledError:  # at the end of the process, which would cut it off
                    await asyncio.wait({saving}, timeout=_LAST_SAVE_SECONDS)
                    saving.cancel()
                    raise
        except KeysError as error:
            self._observe.rejected(self.issuer, f"cache file not written: {error}")
