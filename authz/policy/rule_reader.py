"""Who may pass a route: its plain keys form one allow rule joined by or; the PPL rules of `policy:` stand beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from authz.breath import breathe
from authz.model import Guidance
from authz.node import Fields, Items, Node, Problems, describe, shorten
from authz.policy.criteria import compile_criterion
from authz.policy.criterion import CriteriaContext, Criterion
from authz.policy.decision import Block, Effect, Operator, Policy
from authz.policy.instead import LETS_IN, Place, did_you_mean, is_negation
from authz.policy.plain_keys import plain_criteria
from authz.policy.refusals import GUIDANCE_KEYS, read_guidance

_OPERATORS: Final = tuple(operator.value for operator in Operator)


class RuleReader:
    """Reads the rules of routes; what is wrong is added to `problems`, and read past."""

    def __init__(self, problems: Problems, context: CriteriaContext) -> None:
        self._problems = problems
        self._context = context

    def read(self, node: Fields, what: str) -> Policy:
        """Read the plain keys and `policy:` of one route, called `what` in problems."""
        blocks: dict[Effect, list[Block]] = {Effect.ALLOW: [], Effect.DENY: []}
        compiled = self._compile(plain_criteria(node, what, self._problems), what, LETS_IN)
        if compiled:
            blocks[Effect.ALLOW].append(Block(Operator.OR, compiled, node.source))
        rules = node.get("policy")
        if rules is not None:
            self._read_rules(rules, what, blocks)
        return Policy(tuple(blocks[Effect.ALLOW]), tuple(blocks[Effect.DENY]))

    def _read_rules(self, node: Node, what: str, blocks: Mapping[Effect, list[Block]]) -> None:
        for rules in node.items if isinstance(node, Items) else (node,):
            if not isinstance(rules, Fields):
                self._problems.error(rules, f"{what}: `policy`: found {describe(rules)}, expected `allow:` or `deny:`")
                continue
            guidance = read_guidance(rules, f"{what}: `policy`", self._problems)
            self._refuse_lone_guidance(rules, what)
            for key, body in rules.entries:
                if key.text in blocks:
                    effect = Effect(key.text)
                    blocks[effect].extend(self._body(body, f"{what}: `{key.text}`", guidance, effect))
                elif key.text not in GUIDANCE_KEYS:
                    hint = "; did you mean `deny`?" if is_negation(key.text) else did_you_mean(key.text, blocks)
                    self._problems.error(
                        key, f"{what}: `policy`: unknown effect `{shorten(key.text)}`, expected `allow` or `deny`{hint}"
                    )

    def _refuse_lone_guidance(self, rules: Fields, what: str) -> None:
        keys = [key for key, _ in rules.entries]
        if keys and all(key.text in GUIDANCE_KEYS for key in keys):
            self._problems.error(
                keys[0], f"{what}: `policy`: `{keys[0].text}` without a rule: write it beside `allow:` or `deny:`"
            )

    def _body(self, node: Node, what: str, guidance: Guidance, effect: Effect) -> list[Block]:
        if not isinstance(node, Fields):
            self._problems.error(
                node, f"{what}: found {describe(node)}, expected `and`, `or`, `not` or `nor` with a list"
            )
            return []
        if all(isinstance(criteria, Items) and not criteria.items for _, criteria in node.entries):
            message = "no criteria, so it holds for nobody: delete it, or write some, such as `or: [groups: admins]`"
            self._problems.warn(node.source, f"{what}: {message}")
        blocks = []
        for key, criteria in node.entries:
            if key.text == "action":  # tolerated by Pomerium, without effect
                continue
            if key.text not in _OPERATORS:
                hint = did_you_mean(key.text, _OPERATORS)
                if key.text in GUIDANCE_KEYS:
                    hint = f": write `{key.text}` beside `allow:` or `deny:`, not inside"
                self._problems.error(
                    key, f"{what}: unknown operator `{shorten(key.text)}`, expected `and`, `or`, `not` or `nor`{hint}"
                )
                continue
            if not isinstance(criteria, Items):
                self._problems.error(
                    criteria,
                    f"{what}: `{key.text}`: found {describe(criteria)}, expected a list of criteria, such as "
                    "`- groups: admins`",
                )
                continue
            operator = Operator(key.text)
            # A deny must hold where it cannot be known whether it does, and an allow must not.
            compiled = self._compile(criteria.items, what, Place(effect, operator))
            if compiled:
                block = Block(operator, compiled, key.source, rule=node.source, guidance=guidance)
                blocks.append(block)
        return blocks

    def _compile(self, nodes: Sequence[Node], what: str, place: Place) -> tuple[Criterion, ...]:
        problems = Problems()
        compiled = []
        for node in nodes:
            breathe()
            criterion = compile_criterion(node, problems, self._context, place)
            if criterion is not None:
                compiled.append(criterion)
        self._problems += [problem._replace(message=f"{what}: {problem.message}") for problem in problems]
        return tuple(compiled)
