"""What the tests have seen of the policies: each route allowed and denied, each criterion true and false.

Only what can happen is asked for: `accept` is never false, a public route never denies. A criterion counts by the
place where it is written, so an entry of `allowed_users`, which is tried as user id and as e-mail, is one, and so is
what several routes share through a YAML alias. It counts before `not` or `nor` turns it round.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from authz.model import Allow, Source
from authz.policy.criterion import Criterion
from authz.policy.decision import Block
from authz.policy.explanation import Explanation
from authz.policy.parser import PolicySet
from authz.policy.routes import Route

_BOTH: Final = frozenset({True, False})
_CONSTANT: Final = {"accept": frozenset({True}), "reject": frozenset({False})}


class Kind(StrEnum):
    """What is covered."""

    ROUTE = "route"
    CRITERION = "criterion"


_OUTCOME_NAMES: Final = {Kind.ROUTE: {True: "allowed", False: "denied"}, Kind.CRITERION: {True: "true", False: "false"}}


class Covered(NamedTuple):
    """One route or criterion, with the outcomes it can have and those that were seen."""

    kind: Kind
    source: Source
    label: str
    possible: frozenset[bool]
    seen: frozenset[bool]

    @property
    def missing(self) -> tuple[str, ...]:
        """The outcomes that no test has seen."""
        names = _OUTCOME_NAMES[self.kind]
        return tuple(names[outcome] for outcome in (True, False) if outcome in self.possible - self.seen)


class Share(NamedTuple):
    """So many of so many outcomes."""

    seen: int
    possible: int

    @property
    def percent(self) -> float:
        """The share in per cent, never rounded up; all of nothing is everything."""
        return 100.0 if self.seen == self.possible else 100.0 * self.seen / self.possible

    def __str__(self) -> str:
        """Write `83 % (5/6)`; 100 % means all."""
        return f"{int(self.percent)} % ({self.seen}/{self.possible})"


class Coverage(NamedTuple):
    """What was seen of everything there is, in file order."""

    items: tuple[Covered, ...]

    def share(self, kind: Kind) -> Share:
        """Count the outcomes of the routes, or of the criteria."""
        items = [item for item in self.items if item.kind is kind]
        return Share(sum(len(item.seen) for item in items), sum(len(item.possible) for item in items))

    @property
    def missing(self) -> tuple[Covered, ...]:
        """What lacks an outcome."""
        return tuple(item for item in self.items if item.missing)

    def reaches(self, percent: float) -> bool:
        """Tell whether routes and criteria, each for itself, reach so many per cent."""
        return all(self.share(kind).percent >= percent for kind in Kind)


class CoverageRecord:
    """Collects what is seen."""

    def __init__(self) -> None:
        self._labels: dict[tuple[Kind, Source], str] = {}
        self._possible: dict[tuple[Kind, Source], frozenset[bool]] = {}
        self._seen: dict[tuple[Kind, Source], frozenset[bool]] = {}

    def expect(self, policies: PolicySet) -> None:
        """Ask for every route and criterion of the set."""
        for route in policies.routes.routes:
            self._add(Kind.ROUTE, route.source, route.name.label, _route_outcomes(route))
            for block in (*route.policy.allow, *route.policy.deny):
                for criterion in block.criteria:
                    self._add(Kind.CRITERION, criterion.source, criterion.name, _outcomes(criterion))

    def _add(self, kind: Kind, source: Source, label: str, possible: frozenset[bool]) -> None:
        key = (kind, source)
        known = self._labels.setdefault(key, label)
        if label not in known.split(" or "):
            self._labels[key] = f"{known} or {label}"
        self._possible[key] = self._possible.get(key, frozenset()) | possible

    def saw(self, route: Route, explanation: Explanation) -> None:
        """Take note of one decision."""
        self._note(Kind.ROUTE, route.source, isinstance(explanation.decision, Allow))
        held: dict[Source, bool] = {}
        for judged in explanation.blocks:
            for condition in judged.conditions:
                place = condition.criterion.source
                held[place] = held.get(place, False) or condition.holds
        for place, holds in held.items():
            self._note(Kind.CRITERION, place, holds)

    def _note(self, kind: Kind, source: Source, outcome: bool) -> None:
        key = (kind, source)
        self._seen[key] = self._seen.get(key, frozenset()) | {outcome}

    def coverage(self) -> Coverage:
        """Give what was collected."""
        items = []
        for (kind, source), possible in self._possible.items():
            seen = self._seen.get((kind, source), frozenset())
            items.append(Covered(kind, source, self._labels[kind, source], possible | seen, seen))
        return Coverage(tuple(sorted(items, key=lambda item: (item.source, item.kind is Kind.CRITERION))))


# --- which outcomes can be ----------------------------------------------------------------------------------------


def _outcomes(criterion: Criterion) -> frozenset[bool]:
    return _CONSTANT.get(criterion.name, _BOTH)


def _block_outcomes(block: Block) -> frozenset[bool]:
    inverts = block.operator.inverts
    members = [frozenset(outcome is not inverts for outcome in _outcomes(criterion)) for criterion in block.criteria]
    return _joined(members, all_needed=block.operator.wants_all)


def _route_outcomes(route: Route) -> frozenset[bool]:
    """Tell whether the route can allow (True) and deny (False)."""
    allow = _joined([_block_outcomes(block) for block in route.policy.allow], all_needed=False)
    deny = _joined([_block_outcomes(block) for block in route.policy.deny], all_needed=False)
    not_denied = frozenset(not outcome for outcome in deny)
    return _joined([allow, not_denied], all_needed=True)


def _joined(members: Sequence[frozenset[bool]], *, all_needed: bool) -> frozenset[bool]:
    """Give the outcomes of a conjunction (`all_needed`) or a disjunction of what has these outcomes each."""
    every, some = all_needed, not all_needed
    outcomes = set()
    if all(every in member for member in members):
        outcomes.add(every)
    if any(some in member for member in members):
        outcomes.add(some)
    return frozenset(outcomes)
