"""Why a request is decided as it is: the same judgement, with every step kept.

`explain` judges through the functions that decide, so its outcome is the decision. `closest` picks the one condition
that a denied caller came nearest to, for the decision log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from authz.errors import TokenError
from authz.model import NO_GUIDANCE, Allow, Decision, Deny, Guidance, Json, Reason, http_status
from authz.node import shorten
from authz.policy.criteria import show_values
from authz.policy.criterion import Criterion, Facts
from authz.policy.decision import Block, Effect, join_blocks, judge_block, outcome
from authz.policy.near_misses import Hint, hint
from authz.policy.routes import Route


class Condition(NamedTuple):
    """One criterion and what became of it."""

    criterion: Criterion
    holds: bool  # the criterion itself, before `not` or `nor` turns it round
    reason: Reason
    found: tuple[Json, ...]
    hint: Hint | None  # only for one that does not hold


class JudgedBlock(NamedTuple):
    """One operator of one rule."""

    effect: Effect
    block: Block
    holds: bool
    conditions: tuple[Condition, ...]


class Explanation(NamedTuple):
    """A decision on a route, with its steps."""

    decision: Decision
    blocks: tuple[JudgedBlock, ...]


def explain(
    facts: Facts, route: Route, credential_error: TokenError | None = None, *, hints: bool = True
) -> Explanation:
    """Decide as `decide` does and keep every step; without `hints`, no near misses are looked for."""
    judged: list[JudgedBlock] = []
    effects = {}
    for effect, blocks in ((Effect.ALLOW, route.policy.allow), (Effect.DENY, route.policy.deny)):
        judgements = []
        for block in blocks:
            findings = [criterion.test(facts) for criterion in block.criteria]
            judgement = judge_block(block.operator, findings)
            judgements.append(judgement)
            conditions = tuple(
                Condition(
                    criterion,
                    holds,
                    reason,
                    tuple(criterion.look(facts)),
                    hint(criterion, facts, reason) if hints and not holds else None,
                )
                for criterion, (holds, reason) in zip(block.criteria, findings, strict=True)
            )
            judged.append(JudgedBlock(effect, block, judgement.holds, conditions))
        effects[effect] = join_blocks(judgements)
    decision = outcome(route, facts, effects[Effect.ALLOW], effects[Effect.DENY], credential_error)
    return Explanation(decision, tuple(judged))


def closest(
    facts: Facts, route: Route, credential_error: TokenError | None = None
) -> tuple[JudgedBlock, Condition] | None:
    """Give the condition that decided a denial, or that came nearest to letting the request in; None when none did."""
    return _likeliest(_nearest(facts, route, credential_error), facts)


def _nearest(
    facts: Facts, route: Route, credential_error: TokenError | None
) -> Sequence[tuple[JudgedBlock, Condition]]:
    """Give the conditions that `closest` chooses from: all that are equally near."""
    explanation = explain(facts, route, credential_error, hints=False)
    decision = explanation.decision
    if isinstance(decision, Allow):
        return ()
    reason = decision.reason
    if credential_error is not None and reason is credential_error.reason:
        reason = Reason.USER_UNAUTHENTICATED
    candidates = [
        (_distance(judged), judged, condition)
        for judged in explanation.blocks
        for condition in _deciding(judged, reason)
    ]
    if reason in _DECIDE_ANYWHERE:
        candidates = [candidate for candidate in candidates if candidate[2].reason is reason]
    nearest = min((distance for distance, _, _ in candidates), default=0)
    return [(judged, condition) for distance, judged, condition in candidates if distance == nearest]


def guidance_for(deny: Deny, facts: Facts, route: Route) -> Guidance:
    """Give what the author tells whoever is refused so.

    A policy's no is explained by the rule that decided: the deny rule that holds, else the allow rule that came
    closest; what it leaves unsaid, the route says. Where a caller is needed first, no rule has decided yet: the route's
    texts alone. Other refusals are not the author's.
    """
    status = http_status(deny.reason)
    if status not in (401, 403):
        return NO_GUIDANCE
    of_route = route.name.guidance
    blocks = (*route.policy.allow, *route.policy.deny)
    if status == 401 or not any(any(block.guidance) for block in blocks):
        return of_route
    tied = _nearest(facts, route, None)
    likeliest = _likeliest(tied, facts)
    candidates = tied if likeliest is None else (likeliest, *tied)
    of_rule = next((judged.block.guidance for judged, _ in candidates if any(judged.block.guidance)), NO_GUIDANCE)
    return Guidance(*(ours or theirs for ours, theirs in zip(of_rule, of_route, strict=True)))


MAX_HINTED: Final = 5
"""Conditions in which a denial looks for a near miss: the caller's values times the policy's are compared in each."""


def _likeliest(tied: Sequence[tuple[JudgedBlock, Condition]], facts: Facts) -> tuple[JudgedBlock, Condition] | None:
    """Give the first that nearly held, else the first."""
    for judged, condition in tied[:MAX_HINTED]:
        found = None if condition.holds else hint(condition.criterion, facts, condition.reason)
        if found is not None:
            return judged, condition._replace(hint=found)
    return tied[0] if tied else None


def _deciding(judged: JudgedBlock, reason: Reason) -> Sequence[Condition]:
    """Give the block's conditions that stand against the request."""
    inverted = judged.block.operator.inverts
    if judged.effect is Effect.ALLOW:
        anywhere = reason in _DECIDE_ANYWHERE  # whatever it does to its block, but only where it decides
        return [c for c in judged.conditions if c.holds is inverted or (anywhere and c.reason is reason)]
    # A deny that does not hold stands in nobody's way, but for the reasons that decide wherever they are.
    if not judged.holds and reason not in _DECIDE_ANYWHERE:
        return ()
    return [c for c in judged.conditions if (c.holds is not inverted) is judged.holds]


# Rule 5 of decision.py.
_DECIDE_ANYWHERE: Final = frozenset(
    {Reason.USER_UNAUTHENTICATED, Reason.CLIENT_CERTIFICATE_REQUIRED, Reason.INVALID_CLIENT_CERTIFICATE}
)


def _distance(judged: JudgedBlock) -> int:
    """Tell how many conditions of the block stand in the way; a deny that holds stands before everything."""
    if judged.effect is Effect.DENY:
        return -1 if judged.holds else 0
    inverted = judged.block.operator.inverts
    if not judged.block.operator.wants_all:
        return 1
    return sum(condition.holds is inverted for condition in judged.conditions)


def why(
    deny: Deny,
    facts: Facts | None,
    route: Route | None,
    credential_error: TokenError | None = None,
    *,
    show: bool = False,
) -> Mapping[str, Json]:
    """Give the decision log's `why` of a denial: what was wanted, where, and what was found; values only with `show`.

    Bounded, whatever the request holds.
    """
    if deny.reason in _WANTED:
        return {"condition": _WANTED[deny.reason], "found": shorten(deny.detail or deny.reason.value, 200)}
    if credential_error is not None and deny.reason is credential_error.reason:
        return {"condition": "a good token", "found": shorten(credential_error.detail, 200)}
    found = None if facts is None or route is None else closest(facts, route, credential_error)
    if facts is None or found is None:
        return {"condition": "a rule that allows", "found": "none on this route"}
    judged, condition = found
    criterion = condition.criterion
    turned = "not " if judged.block.operator.inverts else ""  # or it would read as the way in
    entry: dict[str, Json] = {
        "condition": shorten(f"{turned}{criterion.name}: {criterion.wanted}", 200),
        "effect": judged.effect.value,
        "policy": f"{criterion.source.file}:{criterion.source.line}",
        "found": _found(facts, condition, show),
    }
    if condition.hint is not None:
        entry["hint"] = condition.hint.long if show else condition.hint.short
    return entry


_WANTED: Final[Mapping[Reason, str]] = {
    Reason.ROUTE_NOT_FOUND: "a route for this host and path",
    Reason.REQUEST_MALFORMED: "a request that can only be read one way",
    Reason.POLICY_UNAVAILABLE: "a policy set",
    Reason.OVERLOADED: "time to decide",
    Reason.INTERNAL_ERROR: "a working service",
    Reason.PROXY_REFUSED: "a proxy that may ask",
}


def _found(facts: Facts, condition: Condition, show: bool) -> str:
    if condition.criterion.of_caller and facts.principal is None:
        return "nobody signed in"
    if show:
        return show_values(condition.found)
    count = len(condition.found)
    return "nothing" if not count else "1 value" if count == 1 else f"{count} values"
