"""What to write instead of operators in each other, and of lists: the advice means what was written."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from authz.policy.decision import Effect, Operator
from authz.policy.instead import Place, near_word, nested, one_each

ALLOW, DENY = Effect.ALLOW, Effect.DENY
AND, OR, NOT, NOR = Operator
JOINED: dict[Operator, Callable[[list[bool]], bool]] = {
    AND: all,
    OR: any,
    NOT: lambda truths: not any(truths),
    NOR: lambda truths: not all(truths),
}
BOTH = list(product((False, True), repeat=3))  # the rest of the rule, and two criteria


def means(outer: Operator, inner: Operator, told: Callable[[bool, bool, bool], bool]) -> bool:
    """Tell whether what was told is what the nested operator says, whatever holds."""
    return all(JOINED[outer]([rest, JOINED[inner]([a, b])]) is told(rest, a, b) for rest, a, b in BOTH)


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize(("outer", "inner"), list(product(Operator, Operator)))
def test_an_operator_in_a_list_is_told_what_means_the_same(effect: Effect, outer: Operator, inner: Operator) -> None:
    told = nested(inner, Place(effect, outer))
    hold, inside = JOINED[outer], JOINED[inner]
    if told == f"write the criteria of `{inner}` into this list":
        assert means(outer, inner, lambda rest, a, b: hold([rest, a, b]))
    elif told.startswith("write a second rule"):
        second = next(op for op in Operator if f"`{effect}: {{{op}: […]}}`" in told)
        assert means(outer, inner, lambda rest, a, b: hold([rest]) or JOINED[second]([a, b]))
    elif told.startswith("rules are joined by or, so a second one would only let in more"):
        assert effect is ALLOW
        denied = next(op for op in Operator if f"keep the rest, and add `deny: {{{op}: […]}}`" in told)
        assert means(outer, inner, lambda rest, a, b: hold([rest]) and not JOINED[denied]([a, b]))
    elif told == f"write the rule once for each criterion of `{inner}`, with the rest in each":
        assert means(outer, inner, lambda rest, a, b: hold([rest, a]) or hold([rest, b]))
    else:
        turned = next(op for op in (AND, OR) if told.startswith(f"write `{op}` instead of `{inner}`, with its cond"))
        assert means(outer, inner, lambda rest, a, b: hold([rest, JOINED[turned]([not a, not b])]))
        assert inside([True, True]) is False


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("operator", Operator)
def test_a_list_of_values_is_told_what_means_the_same(operator: Operator, negative: bool) -> None:
    """One of them is there, or with a negative operator none of them."""
    told = one_each(["A", "B"], Place(ALLOW, operator), negative=negative)
    hold = JOINED[operator]

    def meant(rest: bool, a: bool, b: bool) -> bool:
        return hold([rest, (a or b) is not negative])

    def same(written: Callable[[bool, bool, bool], bool]) -> bool:
        turned = [(rest, a is not negative, b is not negative) for rest, a, b in BOTH]
        return all(meant(*case) is written(*each) for case, each in zip(BOTH, turned, strict=True))

    if told == "write one criterion a value, in the same list: A, B":
        assert same(lambda rest, a, b: hold([rest, a, b]))
    elif told == "write the rule once for each value, with the rest in each: A, B":
        assert same(lambda rest, a, b: hold([rest, a]) or hold([rest, b]))
    else:
        block = next(op for op in Operator if told == f"write {op}: [A, B]")
        assert same(lambda rest, a, b: hold([rest]) or JOINED[block]([a, b]))


@pytest.mark.parametrize(("outer", "inner", "told"), [
    (AND, OR, "deny: {not: […]}` with the list of `or`"),
    (AND, AND, "write the criteria of `and` into this list"),
    (NOT, NOT, "deny: {not: […]}` with the list of `not`"),
    (OR, AND, "write a second rule, `allow: {and: […]}`"),
    (NOR, NOR, "write a second rule, `allow: {and: […]}` with the list of `nor`"),
])  # fmt: skip
def test_in_an_allow_the_rest_is_kept(outer: Operator, inner: Operator, told: str) -> None:
    assert nested(inner, Place(ALLOW, outer)).endswith(told)


@pytest.mark.parametrize(("outer", "inner", "told"), [
    (AND, OR, "write the rule once for each criterion of `or`, with the rest in each"),
    (NOT, AND, "write the rule once for each criterion of `and`, with the rest in each"),
    (AND, NOT, "write `and` instead of `not`, with its conditions turned around"),
    (NOT, NOR, "write `or` instead of `nor`, with its conditions turned around"),
    (NOR, OR, "write a second rule, `deny: {not: […]}` with the list of `or`"),
])  # fmt: skip
def test_in_a_deny_the_rule_is_repeated_or_turned(outer: Operator, inner: Operator, told: str) -> None:
    assert nested(inner, Place(DENY, outer)) == told


@pytest.mark.parametrize(("word", "known", "near"), [
    ("hasnt", "has", None),
    ("hass", "has", "has"),
    ("not_groups", "groups", None),
    ("valid_client_certificate", "invalid_client_certificate", None),
    ("exlude", "exclude", "exclude"),
    ("Not-In", "not_in", "not_in"),
])  # fmt: skip
def test_a_word_is_never_said_to_mean_its_opposite(word: str, known: str, near: str | None) -> None:
    assert near_word(word, [known]) == near
