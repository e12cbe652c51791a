"""Where key documents come from: HTTPS, a file, and the copy that survives a restart.

Rules: one total deadline a fetch, the name look-up included; 64 KiB at most, counted while they arrive; status 200
alone, no redirects, cookies or compression; https, and plain http to loopback only. The host that serves the keys may
be broken or slow, so whatever it does ends as a KeysError. (aiohttp asks a second time, within the deadline, when the
host hangs up without a word.) Files are read and names looked up in threads of their own, one at a time
for each file and name, because both can hang. Only regular files are read: a pipe would hold its thread forever.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from authz.errors import KeysError
from authz.identity.own_threads import OneAtATime
from authz.loopback import is_loopback

MAX_DOCUMENT_BYTES: Final = 64 * 1024
_MAX_CACHE_FILE_BYTES: Final = 4 * MAX_DOCUMENT_BYTES  # a document as a JSON text, its quotes escaped

Fetch: TypeAlias = Callable[[str, float], Awaitable[bytes]]
"""(uri, timeout in seconds) → the document. Ends by the timeout, and raises nothing but KeysError."""


class FetchResult(StrEnum):
    """How a fetch ended: a closed list, the label `result` of `authz_jwks_fetches_total`."""

    OK = "ok"  # new keys
    UNCHANGED = "unchanged"  # the keys we have
    ERROR_TIMEOUT = "error-timeout"
    ERROR_UNREACHABLE = "error-unreachable"  # no connection, no file, or an address we refuse
    ERROR_STATUS = "error-status"  # not 200; a redirect is one of these
    ERROR_SIZE = "error-size"
    ERROR_DOCUMENT = "error-document"  # what came is no usable key document
    ERROR_INTERNAL = "error-internal"


class FetchError(KeysError):
    """The document could not be had. Its text holds nothing that the other side sent."""

    def __init__(self, result: FetchResult, detail: str) -> None:
        super().__init__(detail)
        self.result = result


class HttpFetch:
    """The real Fetch: `https://`, `http://` to loopback, and `file:///`. Close it when the service ends."""

    def __init__(self) -> None:
        self._sessions: dict[str, aiohttp.ClientSession] = {}  # one a scheme, made on first use inside the loop
        self._threads = OneAtATime()

    async def __call__(self, uri: str, timeout_seconds: float) -> bytes:
        """Fetch the document within the deadline. Raises FetchError."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._read(uri)
        except TimeoutError:
            raise FetchError(FetchResult.ERROR_TIMEOUT, f"no whole answer within {timeout_seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(FetchResult.ERROR_UNREACHABLE, _describe(error)) from None

    async def close(self) -> None:
        """Close every connection. A later fetch would open new ones."""
        while self._sessions:
            _, session = self._sessions.popitem()
            await session.close()
        self._threads.close()

    async def _read(self, uri: str) -> bytes:
        address = urlsplit(uri)
        if address.scheme == "file" and not address.netloc and address.path.startswith("/"):
            path = Path(url2pathname(address.path))
            return await self._threads.run(path, partial(_read_regular_file, path, MAX_DOCUMENT_BYTES))
        if not _is_safe(address):
            raise FetchError(FetchResult.ERROR_UNREACHABLE, "the address is not https, http to loopback, or file:///")
        return await self._get(uri, address.scheme)

    async def _get(self, uri: str, scheme: str) -> bytes:
        # A compressed body could be a bomb: none is asked for, and none is unpacked.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._session(scheme).get(uri, allow_redirects=False, headers=headers) as response:
            if response.status != 200:
                raise FetchError(FetchResult.ERROR_STATUS, f"status {response.status}")
            document = bytearray()
            async for chunk in response.content.iter_any():
                document += chunk
                if len(document) > MAX_DOCUMENT_BYTES:
                    raise FetchError(FetchResult.ERROR_SIZE, f"more than {MAX_DOCUMENT_BYTES} bytes")
            return bytes(document)

    def _session(self, scheme: str) -> aiohttp.ClientSession:
        if scheme not in self._sessions:
            self._sessions[scheme] = aiohttp.ClientSession(
                # A fetch comes every few minutes: a kept connection would only be found dead, and be retried.
                connector=aiohttp.TCPConnector(force_close=True, resolver=_Resolver(self._threads)),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # the deadline is ours, and covers all of it
                auto_decompress=False,
                trust_env=scheme == "https",  # a proxy has no business between us and loopback
            )
        return self._sessions[scheme]


class _Resolver(AbstractResolver):
    """The system's name look-up, as aiohttp's own resolver does it, but not in the threads that everybody shares."""

    def __init__(self, threads: OneAtATime) -> None:
        self._threads = threads

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give the host's addresses. Raises OSError, or ValueError for what can be no name."""
        return await self._threads.run((host, port, family), partial(_look_up, host, port, family))

    async def close(self) -> None:
        """Do nothing: the threads are HttpFetch's."""


_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            # Not `address[0]`, which lacks the interface of a link-local address.
            host=socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0],
            port=port,
            family=kind,
            proto=protocol,
            flags=_NUMERIC,
        )
        for kind, _, protocol, _, address in found
    ]


def _is_safe(address: SplitResult) -> bool:
    """Say whether nobody on the way can change the keys. The settings check it too; this is the second fence."""
    if address.scheme == "https":
        return bool(address.hostname)
    return address.scheme == "http" and is_loopback(address.hostname or "")


def _describe(error: Exception) -> str:
    """Name an error by its type and what our own system said. Other texts may quote the other side."""
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    said = getattr(cause, "strerror", None) or getattr(cause, "verify_message", None)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _read_regular_file(path: Path, limit: int, *, must_be_ours: bool = False) -> bytes:
    """Read a regular file of at most `limit` bytes. Raises OSError and FetchError."""
    no_follow = os.O_NOFOLLOW if must_be_ours else 0
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | no_follow)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - it is a descriptor, not a path
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FetchError(FetchResult.ERROR_UNREACHABLE, "not a regular file")
        if must_be_ours and not _is_ours(status):
            raise FetchError(FetchResult.ERROR_UNREACHABLE, "others may have written the file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FetchError(FetchResult.ERROR_SIZE, f"more than {limit} bytes")
    return data


def _is_ours(status: os.stat_result) -> bool:
    """Say whether we wrote the file and not everybody can. Whoever plants keys can sign every token.

    The group may write: Kubernetes gives it the right on every file of a volume with an `fsGroup`.
    """
    return status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWOTH


class CachedDocument(NamedTuple):
    """A key document of an earlier run."""

    document: bytes
    fetched_at: float  # wall-clock seconds since 1970


class KeyFile:
    """One issuer's key document in `cache_dir`. It blocks: only at start, or in a thread of its own.

    The name is a hash, because issuers are not file names. Issuer and address stand inside, so that a file of another
    configuration is not taken for ours.
    """

    def __init__(self, folder: Path, issuer: str, uri: str) -> None:
        self._issuer = issuer
        self._uri = uri
        self.path = folder / f"{hashlib.sha256(issuer.encode()).hexdigest()}.json"

    def load(self) -> CachedDocument | None:
        """Read what an earlier run saved; None when there is no file. Raises KeysError for one that is not ours."""
        try:
            data = _read_regular_file(self.path, _MAX_CACHE_FILE_BYTES, must_be_ours=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeysError(_describe(error)) from None
        try:
            content = json.loads(data.decode())
        except (ValueError, RecursionError):
            raise KeysError("it is not JSON") from None
        match content:
            case {"issuer": self._issuer, "uri": self._uri, "fetched_at": float(at), "document": str(document)}:
                return CachedDocument(document.encode(errors="replace"), at)
            case _:
                raise KeysError("it belongs to another issuer or address, or is damaged")

    def save(self, document: bytes, fetched_at: float) -> None:
        """Replace the file, so that a reader sees the old or the new one. Raises KeysError."""
        content = {
            "issuer": self._issuer,
            "uri": self._uri,
            "fetched_at": float(fetched_at),
            "document": document.decode(),
        }
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self.path, json.dumps(content, ensure_ascii=False).encode())
        except OSError as error:
            raise KeysError(_describe(error)) from None


def _replace(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")  # made with mode 0600
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - it is a descriptor, not a path
            file.write(data)
            file.flush()
            os.fsync(descriptor)  # else a power cut could leave an empty file under the new name
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
