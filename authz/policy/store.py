"""The policy set in force: its files followed, swapped whole, the last good set kept.

Rules: a set is taken only after every file of it has kept still for `settle`, and not if anything moved while it was
read, because a half-written policy often parses, with conditions missing. A set that does not load changes nothing; a
worker that starts while none does takes the one that others have in force (shared_files.py).
File events only wake the loop; what counts is the comparison of signatures, at least every `poll`, so that all works
where no event arrives. Requests read `PolicyStore.current`, which one assignment replaces: no lock, no half set.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from watchfiles import awatch

from authz.errors import LoadError, Problem
from authz.model import Source
from authz.policy.files import (
    FolderState,
    Listing,
    PolicyFile,
    PolicySource,
    changed_around,
    changed_within,
    cut_off,
    shown,
)
from authz.policy.shared_files import Kept, SharedFiles
from authz.turns import in_turns

LOAD_ATTEMPTS: Final = 20  # with 150 ms each: three seconds for a writer to finish while we start
EVENTS_RETRY: Final = timedelta(seconds=1)  # until the watcher is started again; the poll goes on meanwhile
COARSEST_TICK: Final = timedelta(seconds=2)  # of a file system's clock: NFS, ext3 and FAT hold 1 s or 2 s

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class StoreObserver(Protocol[T_contra]):
    """Hears what becomes of changed files. Called on the event loop; what it raises is dropped."""

    def reloaded(self, policies: T_contra) -> None:
        """Say that `policies` are in force now (`ok`)."""

    def taken_over(self, policies: T_contra, found_at: float) -> None:
        """Say that `policies`, which another worker found then (seconds since 1970), are in force from the start."""

    def refused(self, error: LoadError) -> None:
        """Say that the files do not load and the last good set stays in force (`error`)."""

    def mended(self, policies: T_contra) -> None:
        """Say that the files, after others that were refused, are again those of `policies`, in force all the time."""

    def stale_mount(self, path: Path) -> None:
        """Say that the mounted file was replaced outside (`stale-mount`); see `stale_mount_message`."""


def stale_mount_message(path: Path) -> str:
    """Tell an operator what happened to a single-file mount and what to do."""
    return f"{path} was replaced outside; this mount still shows the deleted file: mount the folder instead"


class Settling:
    """Decides from listings and times alone when the set is worth reading."""

    def __init__(self, settle: timedelta) -> None:
        self._settle = settle.total_seconds()
        self._seen: Listing | None = None
        self._since = 0.0
        self._judged: Listing | None = None

    def wait(self, listing: Listing, now: float) -> float | None:
        """Give the seconds the set must still keep still, 0 to read it now, None if it was judged already."""
        if listing != self._seen:
            self._seen, self._since = listing, now
        if listing == self._judged:
            return None
        return max(0.0, self._since + self._settle - now)

    def judged(self, listing: Listing) -> None:
        """Note that this set was read and taken or refused; it is not read again until it changes."""
        self._judged = listing

    def ask_again(self) -> None:
        """Forget what was judged, so that the set is read even if nothing seems to have changed."""
        self._judged = None


def internal_error(path: Path, setting: str, error: Exception) -> LoadError:
    """Make an unforeseen failure a refusal. Only its kind is told: its text may quote anything."""
    problem = f"internal error ({type(error).__name__}) while loading `{setting}`: please report it"
    return LoadError([Problem(Source(shown(str(path)), 1, 1), problem)])


def _concerns(path: Path, folders: Sequence[Path]) -> Callable[[object, str], bool]:
    """Let a busy parent folder not wake us, unless the set is a single file: then a link beside it may lead to it."""
    root = str(path.absolute())
    below = root + os.sep if len(folders) > 1 else ""
    return lambda _change, changed: changed == root or changed.startswith(below)


Events: TypeAlias = Callable[[Path, Sequence[Path], timedelta], AsyncGenerator[bool, None]]
"""(set, folders, interval) → True after a change in the folders, False after a quiet interval. May raise anything."""


async def file_events(path: Path, folders: Sequence[Path], interval: timedelta) -> AsyncGenerator[bool, None]:
    """Watch the folders, none of them recursively: a link below may lead to the whole disk."""
    changes = awatch(
        *folders,
        watch_filter=_concerns(path, folders),
        debounce=100,  # milliseconds; its own 1.6 s is longer than we may take for everything
        step=25,
        rust_timeout=int(interval.total_seconds() * 1000),
        yield_on_timeout=True,
        recursive=False,
    )
    async with aclosing(changes):
        async for change in changes:
            yield bool(change)


class PolicyStore(Generic[T]):
    """The policy set in force. `compile` turns files into a set and raises LoadError; it must breathe (breath.py)."""

    current: T | None
    """The set in force; immutable."""
    error: LoadError | None
    """Why the files as they are now are not in force; None while they are."""

    def __init__(
        self,
        path: Path,
        *,
        compile: Callable[[Sequence[PolicyFile]], T],  # noqa: A002 - the verb for it; the builtin is not used here
        observe: StoreObserver[T],
        setting: str = "policies",
        settle: timedelta = timedelta(milliseconds=150),
        poll: timedelta = timedelta(milliseconds=300),
        events: Events | None = file_events,
        shared: SharedFiles | None = None,
    ) -> None:
        """Messages call the path by its `setting`. `events` None: the poll alone; `shared`: with other workers."""
        self.current = None
        self.error = None
        self._found_at: float | None = None  # of what was taken over, seconds since 1970
        self._path = path
        self._source = PolicySource(path, setting)
        self._compile = compile
        self._observe = observe
        self._settle = settle
        self._poll = poll
        self._events = events
        self._shared = shared
        self._settling = Settling(settle)
        self._in_force: tuple[PolicyFile, ...] = ()
        self._refused: tuple[PolicyFile, ...] | None = None  # the content that `error` is about, if it could be read
        self._stale: frozenset[Path] = frozenset()
        self._folders: tuple[FolderState, ...] = ()
        self._asked = False
        self._woken = asyncio.Event()

    def load(self) -> T:
        """Load for the first time. Raises LoadError with every problem. Blocks while files are being written.

        Where the files do not load, what another worker has in force is taken over.
        """
        files = None
        try:
            listing, files, began = self._read_settled()
            known = self._newest()
            compiled = self._compiled(files, known.files if known else ())
        except LoadError as error:
            refused = error
        else:
            self._judged(listing)
            self._folders = listing.folders
            self._take(files, compiled)
            if self._shared is not None:
                self._shared.keep(files, began)
            return compiled
        kept = self._newest()
        if kept is None:
            raise refused
        taken = self._taken_over(kept, refused)
        self._refused, self.error = files, refused.with_traceback(None)
        return taken

    def _newest(self) -> Kept | None:
        return None if self._shared is None else self._shared.newest()

    def _taken_over(self, kept: Kept, refused: LoadError) -> T:
        try:
            compiled = self._compiled(kept.files, ())
        except LoadError:  # by another version of ours: what is wrong on the disk is what can be mended
            raise refused from None
        self._take(kept.files, compiled)
        self._found_at = time.time() - (time.monotonic() - kept.began)
        return compiled

    def tell_of_loaded(self) -> None:
        """Tell the observer what `load` put in force, once there is a log to tell."""
        if self.current is None:
            return
        with self._telling() as observe:
            if self._found_at is None:
                observe.reloaded(self.current)
            else:
                observe.taken_over(self.current, self._found_at)
            if self.error is not None:
                observe.refused(self.error)

    def reload_now(self) -> None:
        """Look at once, even if nothing seems to have changed, and report a refusal anew. For the loop's thread."""
        self._asked = True
        self._woken.set()

    async def watch(self) -> None:
        """Follow the files until cancelled. No error ends it."""
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                await self._rest(await self._turn())
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    def _read_settled(self) -> tuple[Listing, tuple[PolicyFile, ...], float]:
        for _ in range(LOAD_ATTEMPTS):
            began = time.monotonic()
            listing = self._source.look()
            if changed_within(listing, self._settle, time.time_ns()):
                time.sleep(self._settle.total_seconds())
            files = self._source.read_unmoved(listing)
            if files is not None:
                return listing, files, began
        place = Source(shown(str(self._path)), 1, 1)
        raise LoadError([Problem(place, "the files keep changing: start again when they are written")])

    def _compiled(self, files: tuple[PolicyFile, ...], before: tuple[PolicyFile, ...]) -> T:
        problems = cut_off(files, before)
        if problems:
            raise LoadError(problems)
        try:
            return self._compile(files)
        except LoadError:
            raise
        except Exception as error:
            raise internal_error(self._path, self._source.setting, error) from error

    async def _turn(self) -> float:
        """Look once and do what is due. Gives the seconds until the next look."""
        poll = self._poll.total_seconds()
        if self._asked:
            self._settling.ask_again()
        try:
            listing = await asyncio.to_thread(self._source.look)
            self._folders = listing.folders
            self._report_stale_mounts(listing)
            wait = self._settling.wait(listing, asyncio.get_running_loop().time())
            if wait is None:
                return poll
            if wait > 0:
                return min(wait, poll)
            return poll if await self._judge(listing) else 0.0
        except Exception as error:  # noqa: BLE001 - the loop must outlive what nobody foresaw; the old set stays
            self._settling.ask_again()
            self._refuse(None, internal_error(self._path, self._source.setting, error))
            return poll

    async def _judge(self, listing: Listing) -> bool:
        """Read a settled set and take or refuse it. False if it moved meanwhile."""
        asked, self._asked = self._asked, False
        began = time.monotonic()
        try:
            files = await asyncio.to_thread(self._source.read_unmoved, listing)
        except LoadError as error:
            self._settling.ask_again()  # a folder that comes back looks as it was: try at every look
            self._refuse(None, error, again=asked)
            return True
        if files is None:
            self._asked |= asked
            return False
        if files == self._in_force:
            # Another worker may have taken what was there in between, and died with it: now this is the last good set.
            await self._share(files, began)
            self._mend()
        elif files != self._refused or asked:
            await self._try(files, began, asked=asked)
        self._judged(listing)
        return True

    def _judged(self, listing: Listing) -> None:
        """Look at the set no more until it changes, once a change would show: a file system may count by seconds."""
        if changed_around(listing, COARSEST_TICK, time.time_ns()):
            self._settling.ask_again()
        else:
            self._settling.judged(listing)

    async def _try(self, files: tuple[PolicyFile, ...], began: float, *, asked: bool) -> None:
        try:
            compiled = await in_turns(lambda: self._compiled(files, self._in_force))
        except LoadError as error:
            self._refuse(files, error, again=asked)
            return
        self._take(files, compiled)
        await self._share(files, began)
        with self._telling() as observe:
            observe.reloaded(compiled)

    async def _share(self, files: tuple[PolicyFile, ...], began: float) -> None:
        if self._shared is not None:
            await asyncio.to_thread(self._shared.keep, files, began)

    def _take(self, files: tuple[PolicyFile, ...], compiled: T) -> None:
        self.current = compiled
        self._in_force = files
        self._refused = self.error = None

    def _mend(self) -> None:
        refused, self._refused, self.error = self.error, None, None
        if refused is not None and self.current is not None:
            with self._telling() as observe:
                observe.mended(self.current)

    def _refuse(self, files: tuple[PolicyFile, ...] | None, error: LoadError, *, again: bool = False) -> None:
        known = self.error is not None and self.error.problems == error.problems and self._refused == files
        self._refused, self.error = files, error.with_traceback(None)  # it holds all that was read of the set
        if again or not known:
            with self._telling() as observe:
                observe.refused(error)

    def _report_stale_mounts(self, listing: Listing) -> None:
        stale = frozenset(state.path for state in listing.files if state.links == 0)
        for path in sorted(stale - self._stale):
            with self._telling() as observe:
                observe.stale_mount(path)
        self._stale = stale

    @contextmanager
    def _telling(self) -> Iterator[StoreObserver[T]]:
        with suppress(Exception):  # a log that cannot be written must not stop reloads
            yield self._observe

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    async def _listen(self) -> None:
        """Wake the loop at file events. A watcher that fails or whose folders were replaced is started anew."""
        if self._events is None:
            return
        while True:
            with suppress(Exception):  # no inotify, no watches left, folder gone: the poll sees everything too
                await self._listen_to(self._events, self._folders)
            await asyncio.sleep(EVENTS_RETRY.total_seconds())

    async def _listen_to(self, events: Events, folders: tuple[FolderState, ...]) -> None:
        paths = [folder.path for folder in folders]
        async with aclosing(events(self._path, paths, self._poll)) as changes:
            async for changed in changes:
                if changed:
                    self._woken.set()
                if folders != self._folders:
                    return
