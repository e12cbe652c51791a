"""What loads, and probably does not do what its author thinks: warnings and notes, never errors.

Each says what was found, why it matters and what to write. This room looks at routes and rules; `criterion_advice.py`
looks at criteria, `pattern_advice.py` at hosts and paths, `shadows.py` at routes that others hide, `spellings.py` at
paths that can be written in two ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from authz.breath import breathe
from authz.errors import Problem, Severity
from authz.model import Source
from authz.node import Scalar
from authz.policy.criterion import Criterion
from authz.policy.criterion_advice import AcceptedTokens, Advice, CriterionAdviser
from authz.policy.decision import Block, Effect, Operator, Policy
from authz.policy.instead import OPPOSITE
from authz.policy.pattern_advice import advise_on_host, advise_on_path
from authz.policy.routes import Route
from authz.policy.shadows import shadow_warnings
from authz.policy.spellings import spelling_warnings
from authz.policy.truth_advice import Clash, always_one, contradicts_itself, never_together


def advise(routes: Sequence[Route], accepted: AcceptedTokens, *, checks_certificates: bool) -> list[Problem]:
    """Give the warnings and notes for a whole set. `checks_certificates`: there is a `client_certificate_ca:`."""
    advice = Advice()
    adviser = _RouteAdviser(advice, CriterionAdviser(advice, accepted, checks_certificates=checks_certificates))
    for route in routes:
        breathe()
        adviser.look_at(route)
    return [
        *advice.problems(),
        *shadow_warnings(routes, lets_everyone_in),
        *spelling_warnings(routes, lets_everyone_in),
    ]


def lets_everyone_in(route: Route) -> bool:
    """Tell whether nobody needs to sign in: something always allows, and nothing else asks for a caller."""
    policy = route.policy
    asks = _identity_denials(policy) or any(map(_always_asks, policy.allow))
    return is_public(policy) and not asks and _certificate_in_an_allow(policy) is None


def is_public(policy: Policy) -> bool:
    """Tell whether some allow block holds for everyone."""
    return any(constant_truth(block) is True for block in policy.allow)


_CERTIFICATE: Final = "invalid_client_certificate"


def _certificate_in_an_allow(policy: Policy) -> Criterion | None:
    """Give the criterion that lets nobody in and denies whoever has no good certificate (rule 5 of decision.py)."""
    for block in policy.allow:
        found = next((criterion for criterion in block.criteria if criterion.name == _CERTIFICATE), None)
        if found is not None and not block.operator.inverts:
            return found
    return None


def _identity_denials(policy: Policy) -> list[Criterion]:
    return [criterion for block in policy.deny for criterion in block.criteria if criterion.of_caller]


def _asks(block: Block) -> Criterion | None:
    """Give the criterion by which an allow block that holds asks for a sign-in (rule 5 of decision.py).

    Under `not` and `nor` a criterion on the caller counts as met where nobody signed in, and its reason is kept.
    """
    if not block.operator.inverts or constant_truth(block) is False:
        return None
    return next((criterion for criterion in block.criteria if criterion.of_caller), None)


def _always_asks(block: Block) -> bool:
    """Tell whether an allow block asks for a sign-in whatever the request is: under `not`, others could stop it."""
    others = [criterion for criterion in block.criteria if not criterion.of_caller and criterion.name != "reject"]
    return _asks(block) is not None and (block.operator is Operator.NOR or not others)


_CONSTANTS: Final[Mapping[str, bool]] = {"accept": True, "reject": False}


def constant_truth(block: Block) -> bool | None:
    """Give what the block always is, whatever the request; None when that depends on it."""
    inverts = block.operator.inverts
    known = [_CONSTANTS.get(criterion.name) for criterion in block.criteria]
    members = [None if truth is None else truth is not inverts for truth in known]
    decisive = not block.operator.wants_all  # one such member decides
    if decisive in members:
        return decisive
    return None if None in members else not decisive


_SIGNED_IN: Final = "authenticated_user"


def _lets_signed_in_in(block: Block) -> bool:
    """Tell whether an allow block holds for every signed-in caller, because it asks nothing else of one."""
    if block.operator is Operator.OR:
        return any(criterion.name == _SIGNED_IN for criterion in block.criteria)
    return block.operator is Operator.AND and all(criterion.name in _ASKS_NO_MORE for criterion in block.criteria)


_ASKS_NO_MORE: Final = frozenset({_SIGNED_IN, "accept"})


def _first_that_asks_more(policy: Policy) -> tuple[Criterion, Block] | None:
    """Give the first allow criterion on the caller that is not met by each who signed in."""
    for block in policy.allow:
        is_open = _lets_signed_in_in(block)
        for criterion in block.criteria:
            if criterion.of_caller and not (is_open and criterion.name == _SIGNED_IN):
                return criterion, block
    return None


class _RouteAdviser:
    """Looks at routes one by one."""

    def __init__(self, advice: Advice, criteria: CriterionAdviser) -> None:
        self._advice = advice
        self._warn = advice.warn
        self._criteria = criteria

    def look_at(self, route: Route) -> None:
        """Advise on a route, its rules and its criteria."""
        what = f"route `{route.name.label}`"
        advise_on_host(self._advice, route.host, route.source, what)
        advise_on_path(self._advice, route.path, route.path.source or route.source, what)
        misplaced = _certificate_in_an_allow(route.policy)
        if misplaced is not None:
            self._warn(
                misplaced.source,
                f"{what}: `{_CERTIFICATE}` in an allow lets nobody in, and denies whoever has no good certificate: "
                f"write `deny: {{or: [{{{_CERTIFICATE}: true}}]}}` instead",
            )
        else:
            self._public(route.policy, what)
            self._signed_in(route.policy, what)
        for effect, blocks in ((Effect.ALLOW, route.policy.allow), (Effect.DENY, route.policy.deny)):
            self._joined_by_or(effect, blocks, what)
            for block in blocks:
                self._block(effect, block, what)
                for criterion in block.criteria:
                    breathe()
                    if contradicts_itself(criterion):
                        found = "its operators never hold together: delete one"
                        self._warn(criterion.source, f"{what}: `{criterion.name}`: {found}")
                    if not _is_plain_user(criterion, block):
                        self._criteria.look_at(
                            criterion,
                            f"{what}: {_called(criterion, block)}",
                            plain=block.rule is None,
                            lets_in=None if block.operator.inverts else effect is Effect.ALLOW,
                        )

    def _public(self, policy: Policy, what: str) -> None:
        denials = _identity_denials(policy)
        asking = [(block, asked) for block in policy.allow if (asked := _asks(block)) is not None]
        has_preflights = any(c.name == "cors_preflight" for block in policy.allow for c in block.criteria)
        if denials and is_public(policy):
            self._warn(
                denials[0].source,
                f"{what}: the deny rule's `{denials[0].name}` asks everyone to sign in, so the route is not public: "
                "give what is denied a route of its own above this one, or delete the public access",
            )
        elif denials and has_preflights:
            self._warn(
                denials[0].source,
                f"{what}: the deny rule's `{denials[0].name}` asks for a sign-in, and a CORS preflight never carries "
                "a token, so preflights are answered 401: turn it into a condition of the allow rule",
            )
        for block, asked in asking[:1]:
            what_asks = f"{what}: `{asked.name}` under `{block.operator}`"
            if is_public(policy):
                whom = "everyone" if _always_asks(block) else "whoever meets the rest"
                self._warn(
                    asked.source,
                    f"{what_asks} asks {whom} to sign in, so the route is not public: delete the public access, or "
                    "the rule",
                )
            elif has_preflights and not denials:
                turned = "and" if block.operator is Operator.NOT else "or"
                self._warn(
                    asked.source,
                    f"{what_asks} asks for a sign-in, and a CORS preflight never carries a token, so preflights are "
                    f"answered 401: write `{turned}`, and turn the condition around with `not` or `exclude` in its "
                    "matcher",
                )
        if is_public(policy):
            useless = [
                criterion
                for block in policy.allow
                if block.rule is not None and _asks(block) is None
                for criterion in block.criteria
                if criterion.name != "accept"
            ]
            if useless:
                self._warn(
                    useless[0].source,
                    f"{what}: `{useless[0].name}` has no effect, because allow rules are joined by or and another one "
                    "lets everyone in: delete it, or the public access",
                )

    def _signed_in(self, policy: Policy, what: str) -> None:
        opener = next(filter(_lets_signed_in_in, policy.allow), None)
        found = None if opener is None or is_public(policy) else _first_that_asks_more(policy)
        if opener is not None and found is not None:
            criterion, block = found
            rule = "" if block.operator is Operator.OR else "the rule with "
            key = f"`{_SIGNED_IN}` at {opener.source}" if opener.rule else f"`{_PLAIN_KEYS[_SIGNED_IN]}`"
            self._warn(
                criterion.source,
                f"{what}: {rule}{_called(criterion, block)} has no effect, because allow rules are joined by or and "
                f"{key} lets every signed-in user in: delete that if only some of them may pass, or else this",
                other=opener.source if opener.rule else None,
            )

    def _joined_by_or(self, effect: Effect, blocks: Sequence[Block], what: str) -> None:
        rules: dict[Source, dict[Operator, Block]] = {}
        for block in blocks:
            if block.rule is not None:
                rules.setdefault(block.rule, {}).setdefault(block.operator, block)
        for rule in rules.values():
            if len(rule) > 1:
                kept = min(rule, key=list(Operator).index)
                others = [operator for operator in rule if operator is not kept]
                found = " and ".join(f"`{operator}`" for operator in rule)
                self._warn(
                    next(iter(rule.values())).source,
                    f"{what}: `{effect}`: {found} in one rule are joined by or: {_instead(effect, kept, others)}",
                )

    def _block(self, effect: Effect, block: Block, what: str) -> None:
        if constant_truth(block) is False:
            names = ", ".join(f"`{criterion.name}`" for criterion in block.criteria if criterion.name in _CONSTANTS)
            if effect is Effect.DENY:
                why = "so the rule denies nobody: to deny everyone write `deny: {or: [{accept: true}]}`"
            else:
                why = "so it allows nobody: delete it"
            self._warn(block.source, f"{what}: `{effect}`: `{block.operator}` with {names} never holds, {why}")
        if block.operator in (Operator.AND, Operator.NOR) and (clash := never_together(block)) is not None:
            self._never_together(effect, block, clash, what)
        elif (always := always_one(block)) is not None:
            self._warn(
                always.source,
                f"{what}: `{always.name}` or the one above it {_ALWAYS[effect]}: if both must hold, write `and`",
            )
        elif block.operator is Operator.NOR and effect is Effect.ALLOW and _are_several(block):
            message = "`nor` holds unless all of its criteria hold: if none of them may, write `not`"
            self._warn(block.source, f"{what}: `{effect}`: {message}", Severity.NOTE)

    def _never_together(self, effect: Effect, block: Block, clash: Clash, what: str) -> None:
        """Warn of two values of the same thing, of which a request has one."""
        name = clash.criterion.name
        if block.operator is Operator.NOR:
            always = f"so `nor` {_ALWAYS[effect]}: if none may hold, write `not`"
            found = f"`{name}` and the one above it never hold together, {always}"
        else:
            listed = f"{{{name}: {{in: [{', '.join(sorted(clash.either))}]}}}}"
            instead = listed if clash.either else "two rules, and whatever else must hold in both"
            found = (
                f"`{name}` never holds together with the one above it, because a request has one value: for either "
                f"write {instead}"
            )
        self._warn(clash.criterion.source, f"{what}: {found}")


def _are_several(block: Block) -> bool:
    """Tell whether a block has several criteria; with `accept` beside it, one is what its author means."""
    return len(block.criteria) > 1 and not any(criterion.name in _CONSTANTS for criterion in block.criteria)


_ALWAYS: Final[Mapping[Effect, str]] = {
    Effect.ALLOW: "always holds, and so keeps nobody out",
    Effect.DENY: "always holds, and so lets nobody in",
}


def _is_plain_user(criterion: Criterion, block: Block) -> bool:
    """Tell whether this is the e-mail half of an entry of `allowed_users` that is no address."""
    return (
        block.rule is None
        and criterion.name == "email"
        and isinstance(criterion.data, Scalar)
        and "@" not in criterion.data.text
    )


def _called(criterion: Criterion, block: Block) -> str:
    """Name a criterion as its author wrote it: the plain keys are criteria too."""
    if block.rule is None:
        kind, _, claim = criterion.name.partition("/")
        key = _PLAIN_KEYS.get(kind)
        if key is not None:
            return f"`{key}`: `{claim}`" if claim else f"`{key}`"
    return f"`{criterion.name}`"


_PLAIN_KEYS: Final[Mapping[str, str]] = {
    _SIGNED_IN: "allow_any_authenticated_user",
    "claim": "allowed_idp_claims",
    "domain": "allowed_domains",
    "email": "allowed_users",
    "user": "allowed_users",
}


def _instead(effect: Effect, kept: Operator, others: Sequence[Operator]) -> str:
    """Say what to write for several operators in one rule that are all meant to hold."""
    if effect is Effect.DENY:
        return (
            "each of them denies on its own; if all must hold, write one operator and turn the conditions around with "
            "`not` or `exclude` in their matchers; if any may, write one rule for each"
        )
    denials = ", ".join(f"`deny: {{{OPPOSITE[other]}: […]}}` with the list of `{other}`" for other in others)
    return (
        f"each of them allows on its own, so nobody is kept out by the other; if all must hold, keep `{kept}` and "
        f"write {denials}; if any may, write one rule for each"
    )
