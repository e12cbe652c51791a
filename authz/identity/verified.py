"""The bounded memory of tokens that were verified before.

Rules: the key is SHA-256 of the whole token: anything less (a signature, a `jti`) can stand beside other claims. Where
an ID token stood beside it, the key is that of both, so that neither can be had without the other.
An entry holds only while its own times hold and while its pool still has the very key set it was verified under; it
knows whom to ask which one is current, so nobody can forget to. Refusals are in `refused.py`. There is no lock: one
event loop owns it. What depends on the route is decided after it.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import Final, NamedTuple, NewType

from authz.identity.cognito import Verified
from authz.identity.keys import KeySet, KeySource
from authz.model import Principal

# Bytes that a remembered token costs, measured with tracemalloc: the entry and its key, then the parsed claims, which
# grow with the token. An estimate on the high side for what Cognito issues.
ENTRY_BYTES: Final = 1536
BYTES_PER_CHARACTER: Final = 3

Fingerprint = NewType("Fingerprint", bytes)
"""32 bytes for one token and 64 for two, so that no two are one."""


def fingerprint_of(token: str, beside: str = "") -> Fingerprint:
    """Give that of a token, or of two: `beside` is the ID token that stood beside it."""
    # `surrogatepass`: a stranger's text may hold what UTF-8 cannot, and must be unknown here rather than an error.
    digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
    return Fingerprint(digest + sha256(beside.encode("utf-8", "surrogatepass")).digest() if beside else digest)


class VerifiedTokens:
    """At most `max_entries` tokens and about `max_bytes` of memory; the one unused for longest leaves first."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[Fingerprint, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, fingerprint: Fingerprint, now: float) -> Principal | None:
        """Give the principal of a token verified before, if that still holds at `now` (seconds since 1970).

        An entry that holds no more is dropped.
        """
        entry = self._entries.get(fingerprint)
        if entry is None:
            return None
        principal, valid_from, valid_until = entry.verified
        if valid_from <= now < valid_until and entry.source.current is entry.keys:
            self._entries.move_to_end(fingerprint)
            return principal
        self._drop(fingerprint)
        return None

    def add(
        self, fingerprint: Fingerprint, verified: Verified, keys: KeySet, source: KeySource, characters: int
    ) -> None:
        """Remember a token that was verified under `keys`; `source` knows which keys its pool has from now on.

        `characters`: the token's length. Of two tokens, both were verified under `keys`, `verified` is what they came
        to together, and so is the length.
        """
        size = ENTRY_BYTES + BYTES_PER_CHARACTER * characters
        self._drop(fingerprint)
        self._entries[fingerprint] = _Entry(verified, keys, source, size)
        self._bytes += size
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, fingerprint: Fingerprint) -> None:
        entry = self._entries.pop(fingerprint, None)
        if entry is not None:
            self._bytes -= entry.size


class _Entry(NamedTuple):
    verified: Verified
    keys: KeySet
    source: KeySource
    size: int

    def __repr__(self) -> str:
        """Show nothing: it was a credential."""
        return "_Entry(…)"
