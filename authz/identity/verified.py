"""The bounded memory of tokens that were verified before.

Rules: the key is SHA-256 of the whole token: anything less (a signature, a `jti`) can stand beside other claims. Where
an ID token stood beside it, the key is that of both, so that neither can be had without the other.
An entry holds only while its own times hold and while its pool still has the very key set it was verified under; it
carries the question "which one is current?" with it, so nobody can forget to ask. Refusals are in `refused.py`. There
is no lock: one event loop owns it. What depends on the route is decided after it.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.identity.cognito import Verified
    from authz.identity.jwks import KeySet
    from authz.model import Principal

# Bytes that a remembered token costs, measured with tracemalloc: the entry and its key, then the parsed claims, which
# grow with the token. An estimate on the high side for what Cognito issues.
ENTRY_BYTES: Final = 1536
BYTES_PER_CHARACTER: Final = 3


class VerifiedTokens:
    """At most `max_entries` tokens and about `max_bytes` of memory; the one unused for longest leaves first."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, token: str, now: float, beside: str = "") -> Principal | None:
        """Give the principal of a token verified before, if that still holds at `now` (seconds since 1970).

        `beside` is the ID token that was verified with it. An entry that holds no more is dropped.
        """
        digest = digest_of(token, beside)
        entry = self._entries.get(digest)
        if entry is None:
            return None
        principal, valid_from, valid_until = entry.verified
        if valid_from <= now < valid_until and entry.current() is entry.keys:
            self._entries.move_to_end(digest)
            return principal
        self._drop(digest)
        return None

    def add(
        self, token: str, verified: Verified, keys: KeySet, current: Callable[[], KeySet | None], beside: str = ""
    ) -> None:
        """Remember a token that was verified under `keys`; `current` gives the key set its pool has from now on.

        With `beside`: both tokens were verified under `keys`, and `verified` is what they came to together.
        """
        size = ENTRY_BYTES + BYTES_PER_CHARACTER * (len(token) + len(beside))
        digest = digest_of(token, beside)
        self._drop(digest)
        self._entries[digest] = _Entry(verified, keys, current, size)
        self._bytes += size
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self._bytes -= entry.size


class _Entry(NamedTuple):
    verified: Verified
    keys: KeySet
    current: Callable[[], KeySet | None]
    size: int

    def __repr__(self) -> str:
        """Show nothing: it was a credential."""
        return "_Entry(…)"


def digest_of(token: str, beside: str = "") -> bytes:
    """Give 32 bytes for one token and 64 for two, so that no two are one."""
    # `surrogatepass`: a stranger's text may hold what UTF-8 cannot, and must be unknown here rather than an error.
    digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
    return digest + sha256(beside.encode("utf-8", "surrogatepass")).digest() if beside else digest
