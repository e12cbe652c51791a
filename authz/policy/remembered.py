"""Decisions that may be given again without judging again.

Rules: a decision is remembered only on a route whose every criterion is `lasting`, so that it depends on nothing but
the policy and the principal; one memory belongs to one policy set. The key is the identity of route and principal,
which the entry keeps alive and compares: no other route and no other caller can ever be taken for them. A principal
comes from the verified tokens, which are asked anew on every visit: an expired token or a changed key gives no
principal, and so finds nothing here. Whoever presents a bad token gets what nobody gets; where a caller is needed, what
is wrong with the token is the reason, and such denials are remembered apart: strangers make as many as they like.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from authz.model import Json, Reason

if TYPE_CHECKING:
    from authz.errors import TokenError
    from authz.model import Decision, Principal
    from authz.policy.routes import Route

MAX_ENTRIES: Final = 4096
MAX_REFUSED: Final = 1024


class Remembered:
    """A decision, the route and principal it is about, and places for what was made of it."""

    __slots__ = ("answer", "decision", "principal", "route", "why")

    def __init__(self, route: Route, principal: Principal | None, decision: Decision) -> None:
        """ValueError for a route where it could come to something else another time."""
        if not route.policy.lasting:
            raise ValueError("this route's decisions depend on more than the principal")
        self.route = route
        self.principal = principal
        self.decision = decision
        self.answer: tuple[bytes, tuple[str, ...]] | None = None
        """What `Answers` wrote of an allow, all but its `decision_id`, and the identity headers omitted; or nothing."""
        self.why: Mapping[str, Json] | None = None
        """What the decision log tells of a denial; None: nothing yet."""


class RememberedDecisions:
    """At most `max_entries` of them; all are forgotten when there are too many, for judging again costs little."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._entries: dict[tuple[int, int], Remembered] = {}
        self._refused: dict[tuple[int, Reason, str], Remembered] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, route: Route, principal: Principal | None) -> Remembered | None:
        """Give what this very principal got on this very route."""
        entry = self._entries.get((id(route), id(principal)))
        if entry is None or entry.route is not route or entry.principal is not principal:
            return None
        return entry

    def add(self, route: Route, principal: Principal | None, decision: Decision) -> Remembered:
        """Remember a decision. ValueError for a route where it could come to something else another time."""
        entry = Remembered(route, principal, decision)
        if len(self._entries) >= self._max_entries:
            self._entries.clear()
        self._entries[id(route), id(principal)] = entry
        return entry

    def find_refused(self, route: Route, error: TokenError) -> Remembered | None:
        """Give what whoever presented such a token got on this very route."""
        entry = self._refused.get((id(route), error.reason, error.detail))
        return None if entry is None or entry.route is not route else entry

    def add_refused(self, route: Route, error: TokenError, decision: Decision) -> Remembered:
        """Remember what a token of which this is wrong comes to. ValueError as above."""
        entry = Remembered(route, None, decision)
        if len(self._refused) >= MAX_REFUSED:
            self._refused.clear()
        self._refused[id(route), error.reason, error.detail] = entry
        return entry
