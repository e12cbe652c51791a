"""The bounded memory of tokens that were refused a moment ago, so that a flood of one bad token costs next to nothing.

Rules: only a refusal that cannot turn into anything better is kept: malformed, badly signed, expired. The others wait
for something that may come: a key, a time, a configuration. Whoever finds one here is refused; nobody is ever let in by
it. A refusal holds under the very key set it was made under, and not before the time at which it was made: a clock that
was set back makes an expired token a matter of judgement again. The key is SHA-256 of the whole token, beside what the
token was presented as.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from authz.errors import TokenError
from authz.identity.keys import KeySet, KeySource
from authz.identity.verified import Fingerprint
from authz.model import Reason

MAX_ENTRIES: Final = 10_000  # at some 400 bytes each

LASTING: Final = frozenset({Reason.TOKEN_MALFORMED, Reason.TOKEN_SIGNATURE_INVALID, Reason.TOKEN_EXPIRED})


class RefusedTokens:
    """At most `max_entries` refusals; the oldest leaves first."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        # A plain dict finds its oldest only behind the places of all that left before it.
        self._entries: OrderedDict[tuple[Fingerprint, str], _Refusal] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, fingerprint: Fingerprint, kind: str, now: float) -> None:
        """Raise the TokenError with which this token was refused before, if that still holds at `now`."""
        entry = self._entries.get((fingerprint, kind))
        if entry is not None and entry.since <= now and (entry.source is None or entry.source.current is entry.keys):
            before = now - entry.since
            when = f", when it was first refused {before:.0f} s before" if before >= 1 else ""
            raise TokenError(entry.reason, entry.detail + (when if entry.reason is Reason.TOKEN_EXPIRED else ""))

    def add(
        self,
        fingerprint: Fingerprint,
        kind: str,
        error: TokenError,
        now: float,
        keys: KeySet | None,
        source: KeySource | None,
    ) -> None:
        """Remember a refusal that lasts, made at `now` under `keys`; `source` knows the keys from now on.

        `kind` is what the token was presented as. Neither keys nor source: refused without any, as malformed ones are.
        """
        if error.reason not in LASTING:
            return
        key = fingerprint, kind
        self._entries.pop(key, None)
        self._entries[key] = _Refusal(error.reason, error.detail, now, keys, source)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


class _Refusal(NamedTuple):
    reason: Reason
    detail: str
    since: float
    keys: KeySet | None
    source: KeySource | None
