"""Which calls are worked on: those that can still be answered in time.

Rules
- Calls queue inside gRPC's core before any code of ours runs: it hands over one when we ask for one (calls.py). So the
  queue is bounded there: `QUEUE_OPTIONS`. What is above the bound is refused by the core at once, without a line of
  Python. That may hit a health check too: Envoy's circuit breaker must refuse earlier, as that of our samples does.
- What a call has left of its deadline is all that tells us how long it waited. A call that has next to nothing left is
  denied with `overloaded`: working on it would make the next ones late as well.
- Refusing costs next to nothing: the answer is built beforehand, and one a second is logged. Every one is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from authz.audit import DecisionLog, unread
from authz.metrics import Metrics
from authz.model import Deny, Reason
from authz.transport.check_response import StandingDenial

# Between the two, the core refuses the more the longer the queue is. One process decides some 5,000 calls a second:
# the longest queue is worth some 100 ms, which is less than Envoy's timeout.
QUEUE_OPTIONS: Final = (
    ("grpc.server.max_pending_requests", 384),
    ("grpc.server.max_pending_requests_hard_limit", 512),
)
LEAST_SECONDS_LEFT: Final = 0.005  # an answer must travel, too
SECONDS_BETWEEN_LINES: Final = 1.0


class Call(Protocol):
    """What is asked of gRPC's context of a call."""

    def time_remaining(self) -> float | None:
        """Give the seconds until the caller gives up; None: it never does."""


def is_too_late(seconds_left: float | None) -> bool:
    """Tell whether a call that has so much left of its deadline cannot be answered in time."""
    return seconds_left is not None and seconds_left < LEAST_SECONDS_LEFT


class Admission:
    """Refuses what is too late, counts it, and tells of it once a second."""

    def __init__(
        self,
        refusal: StandingDenial,
        *,
        decisions: DecisionLog,
        metrics: Metrics,
        wall: Callable[[], float],
        clock: Callable[[], float],  # seconds that never go back
    ) -> None:
        """`refusal`: the answer of `OVERLOADED`."""
        self._refusal = refusal
        self._decisions = decisions
        self._metrics = metrics
        self._wall = wall
        self._clock = clock
        self._silent_until = float("-inf")
        self._untold = 0

    def refuse(self, call: Call | None, decision_id: str) -> bytes | None:
        """Give the answer to a call that is not worked on, or None for one that is. The hot path: some 0.3 µs."""
        if call is None or not is_too_late(call.time_remaining()):
            return None
        self._metrics.decided(OVERLOADED, 0.0)
        self._tell(decision_id)
        return self._refusal.with_id(decision_id)

    def _tell(self, decision_id: str) -> None:
        now = self._clock()
        if now < self._silent_until or not self._decisions.wanted(OVERLOADED):
            self._untold += 1
            return
        more = f"; {self._untold} more since the line before" if self._untold else ""
        self._silent_until, self._untold = now + SECONDS_BETWEEN_LINES, 0
        denied = OVERLOADED._replace(detail=f"{OVERLOADED.detail}{more}")
        self._decisions.record(unread(denied, decision_id, self._wall()))


OVERLOADED: Final = Deny(Reason.OVERLOADED, detail="the call had waited until its deadline was all but over")
