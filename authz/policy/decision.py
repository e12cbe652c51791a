"""(Facts, Route) → Decision. Pure: everything it needs is handed in.

How a policy is judged (Pomerium's policy language, PPL):

1. Every criterion gives a truth and a reason; nothing short-circuits.
2. `and`: all hold; `or`: any; `not`: none of them holds; `nor`: not all of them hold. Inversion flips the truth and
   keeps the reason.
3. A true block's reasons are those of its true members, a false one's those of its false members.
4. Blocks of one effect, in one rule or in several, are joined by or. No block at all is false, never true.
5. Outcome: a client-certificate problem among the reasons of deny: 403; `user-unauthenticated` among the reasons of
   allow or deny: 401 (or what was wrong with the credential); deny true: 403; allow true: allowed, but 403 where such a
   problem is among its reasons; else 403.
6. An address that Envoy does not tell, or a certificate that nobody can read, makes a deny hold and an allow not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from authz.errors import TokenError
from authz.model import NO_GUIDANCE, Allow, Decision, Deny, Guidance, Reason, Source

if TYPE_CHECKING:
    from authz.model import Principal, RouteName
    from authz.policy.criterion import Criterion, Facts, Finding
    from authz.policy.routes import Route


class Effect(StrEnum):
    """What a rule does when it holds."""

    ALLOW = "allow"
    DENY = "deny"


class Operator(StrEnum):
    """How the criteria of one block are joined, by Pomerium's names."""

    AND = "and"
    OR = "or"
    NOT = "not"
    NOR = "nor"

    @property
    def inverts(self) -> bool:
        """A criterion that holds is a member that does not."""
        return self in _INVERTS

    @property
    def wants_all(self) -> bool:
        """The block holds when all members do; otherwise one is enough."""
        return self in _WANTS_ALL


_WANTS_ALL: Final = frozenset({Operator.AND, Operator.NOT})
_INVERTS: Final = frozenset({Operator.NOT, Operator.NOR})


@dataclass(frozen=True, slots=True)
class Block:
    """One operator of one rule with its criteria, of which there is at least one."""

    operator: Operator
    criteria: tuple[Criterion, ...]
    source: Source
    rule: Source | None = None  # the PPL rule it is part of; None for the six plain keys
    guidance: Guidance = NO_GUIDANCE  # of that rule

    def __post_init__(self) -> None:
        if not self.criteria:
            raise ValueError("a block without criteria: nothing to check is not a pass")


@dataclass(frozen=True, slots=True)
class Policy:
    """The blocks of a route's rules, by effect. Empty means no."""

    allow: tuple[Block, ...] = ()
    deny: tuple[Block, ...] = ()
    lasting: bool = field(init=False, compare=False)
    """Every criterion is `lasting`: who was allowed once is always allowed under this policy."""

    def __post_init__(self) -> None:
        lasting = all(criterion.lasting for block in (*self.allow, *self.deny) for criterion in block.criteria)
        object.__setattr__(self, "lasting", lasting)


class Judgement(NamedTuple):
    """What a block or an effect came to."""

    holds: bool
    reasons: tuple[Reason, ...]


_NEITHER: Final = Judgement(holds=False, reasons=())


def judge_block(operator: Operator, findings: Sequence[Finding]) -> Judgement:
    """Join the findings of a block's criteria."""
    inverts = operator.inverts
    if len(findings) == 1:  # most often; all and any are the same then
        ((holds, reason),) = findings
        return Judgement(holds is not inverts, (reason,))
    members = [holds is not inverts for holds, _ in findings]
    truth = all(members) if operator.wants_all else any(members)
    reasons = [reason for (_, reason), member in zip(findings, members, strict=True) if member is truth]
    return Judgement(truth, _unique(reasons))


def judge_effect(blocks: Sequence[Block], facts: Facts) -> Judgement:
    """Join the blocks of one effect by or."""
    if not blocks:
        return _NEITHER
    return join_blocks(
        [judge_block(block.operator, [criterion.test(facts) for criterion in block.criteria]) for block in blocks]
    )


def join_blocks(judgements: Sequence[Judgement]) -> Judgement:
    """Join judged blocks by or; none at all is false without a reason."""
    if len(judgements) == 1:
        return judgements[0]
    truth = any(judgement.holds for judgement in judgements)
    return Judgement(truth, _unique([reason for holds, reasons in judgements if holds is truth for reason in reasons]))


def _unique(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    return tuple(reasons) if len(reasons) == 1 else tuple(dict.fromkeys(reasons))


def decide(facts: Facts, route: Route, credential_error: TokenError | None = None) -> Decision:
    """Decide one request on the route it belongs to.

    `credential_error` is what was wrong with the credential that was presented; `facts.principal` is None then, and
    the caller is judged as nobody: what needs no caller still passes, and where one is needed the error is the reason.
    """
    allow = judge_effect(route.policy.allow, facts)
    deny = judge_effect(route.policy.deny, facts)
    return outcome(route, facts, allow, deny, credential_error)


_CERTIFICATE_PROBLEMS: Final = frozenset({Reason.CLIENT_CERTIFICATE_REQUIRED, Reason.INVALID_CLIENT_CERTIFICATE})
_UNAUTHENTICATED: Final = Reason.USER_UNAUTHENTICATED


def outcome(
    route: Route, facts: Facts, allow: Judgement, deny: Judgement, credential_error: TokenError | None
) -> Decision:
    """Turn the two judgements into the decision, in the order of the module's rule 5."""
    principal = facts.principal
    name = route.name
    if _has_certificate_problem(deny):
        return _deny_certificate(deny, name, principal)
    asking = [judged.reasons for judged in (allow, deny) if _UNAUTHENTICATED in judged.reasons]
    if asking:
        others = _without(_unique([reason for reasons in asking for reason in reasons]), _UNAUTHENTICATED)
        denied = Deny(_UNAUTHENTICATED, others, name, principal)
        return denied if credential_error is None else blame(denied, credential_error)
    if deny.holds:
        return Deny(deny.reasons[0], deny.reasons[1:], name, principal)
    if allow.holds:
        if _has_certificate_problem(allow):  # whoever writes it there means to have the certificate checked
            return _deny_certificate(allow, name, principal)
        return Allow(name, allow.reasons, principal)
    if not allow.reasons:
        return Deny(Reason.NO_RULE, (), name, principal)
    return Deny(allow.reasons[0], allow.reasons[1:], name, principal)


def _has_certificate_problem(judged: Judgement) -> bool:
    return bool(judged.reasons) and not _CERTIFICATE_PROBLEMS.isdisjoint(judged.reasons)


def _deny_certificate(judged: Judgement, name: RouteName, principal: Principal | None) -> Deny:
    problem = next(reason for reason in judged.reasons if reason in _CERTIFICATE_PROBLEMS)
    return Deny(problem, _without(judged.reasons, problem), name, principal)


def blame(decision: Decision, error: TokenError) -> Decision:
    """Turn what nobody gets into what somebody with a bad credential gets: the error where a caller is needed."""
    if isinstance(decision, Deny) and decision.reason is _UNAUTHENTICATED:
        return decision._replace(reason=error.reason, principal=None, detail=error.detail)
    return decision


def _without(reasons: Sequence[Reason], first: Reason) -> tuple[Reason, ...]:
    return tuple(reason for reason in reasons if reason is not first)
