"""What a row of a policy test asserts: `403 claim-unauthorized` and what may stand beside it.

Words that assert no outcome are refused, and so are words that contradict each other: a test that cannot fail, or
cannot pass, says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from authz.model import Reason, http_status
from authz.node import Problems, Scalar, shorten
from authz.reading import did_you_mean


class Expected(NamedTuple):
    """What a row asserts. The first reason is the decision's `reason`, further ones are among its `reasons`."""

    allowed: bool
    status: int | None = None
    reasons: tuple[Reason, ...] = ()
    route: Scalar | None = None  # the route's label; its place is kept, because it is compared with the policies later
    headers_set: tuple[tuple[str, str], ...] = ()
    headers_removed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write it as in the file: `403 claim-unauthorized`."""
        outcome = "allow" if self.allowed else "deny" if self.status is None else str(self.status)
        return " ".join((outcome, *self.reasons))


def read_expected(written: Scalar, problems: Problems) -> Expected | None:
    """Read `allow`, `deny` or a status, and reasons. None after adding a problem."""
    outcomes: list[bool] = []
    statuses: list[int] = []
    reasons: list[Reason] = []
    unknown = False
    for word in written.text.replace(",", " ").split():
        if word in _OUTCOMES:
            outcomes.append(_OUTCOMES[word])
        elif word in _STATUSES:
            statuses.append(_STATUSES[word])
        elif word in _REASONS:
            reasons.append(_REASONS[word])
        else:
            unknown = True
            problems.error(written, f"`expect`: unknown word `{shorten(word)}`{_word_hint(word)}")
    if unknown:
        return None
    contradiction = _contradiction(outcomes, statuses, reasons)
    if contradiction:
        problems.error(written, f"`expect`: `{shorten(written.text)}`: {contradiction}")
        return None
    return Expected(True in outcomes, statuses[0] if statuses else None, tuple(reasons))


_OUTCOMES: Final[Mapping[str, bool]] = {"allow": True, "deny": False}
_STATUSES: Final = {str(http_status(reason)): http_status(reason) for reason in Reason}
_REASONS: Final = {reason.value: reason for reason in Reason}


def _word_hint(word: str) -> str:
    if word.isdecimal():
        return f", expected `allow` or one of {', '.join(sorted(_STATUSES))}"
    return did_you_mean(word, (*_OUTCOMES, *_REASONS)) or ": write allow, deny or a status, then reasons"


_NEVER_ALLOWS: Final = frozenset(reason for reason in Reason if http_status(reason) != 403) | {Reason.NO_RULE}


def _contradiction(outcomes: Sequence[bool], statuses: Sequence[int], reasons: Sequence[Reason]) -> str | None:
    """Say why no decision can be like this, or that the outcome is missing; None when all is well."""
    if not outcomes and not statuses:
        return "the outcome is missing: write allow, deny or a status before the reason"
    if len(outcomes) > 1 or len(statuses) > 1 or len(set(reasons)) < len(reasons):
        return "write one outcome, one status, and each reason once"
    allowed = True in outcomes
    if allowed and statuses:
        return f"contradicts itself: {statuses[0]} is a denial"
    if allowed:
        never = next((reason for reason in reasons if reason in _NEVER_ALLOWS), None)
        return f"contradicts itself: `{never}` never allows" if never else None
    if statuses and reasons and http_status(reasons[0]) != statuses[0]:
        return f"contradicts itself: `{reasons[0]}` is answered with {http_status(reasons[0])}"
    return None
