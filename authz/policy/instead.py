"""What to write instead of what a rule cannot hold. Whoever does as he is told must not turn the rule round.

A word of negation is never said to mean a word without one, nor the other way about. Rules of one effect are joined by
or, so a second rule is only told of where it means the same: under `and` it would let in more, or deny more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from authz.policy.decision import Effect, Operator
from authz.reading import nearest


class Place(NamedTuple):
    """The block in which a criterion stands."""

    effect: Effect
    operator: Operator

    @property
    def keeps_out(self) -> bool:
        """A criterion here keeps out whom it holds for."""
        return (self.effect is Effect.DENY) is not self.operator.inverts


LETS_IN: Final = Place(Effect.ALLOW, Operator.OR)
"""Where the criteria of the plain keys stand."""


NEGATION: Final = re.compile(
    "ban|block|den[iy]|disallow|exclud|forbid|not|prevent|reject|restrict|un(?!auth)|(?:do|does|has|is)_?not"
    "|(?:dont|doesnt|except|hasnt|invalid|isnt|nand|ne|nin|no|non|nor|without)(?:_|$)"
)


def is_negation(word: str) -> bool:
    """Tell whether a word begins with a negation."""
    return NEGATION.match(_folded(word)) is not None


def _folded(word: str) -> str:
    return word.lower().replace("-", "_").replace("'", "")


def near_word(word: str, known: Iterable[str]) -> str | None:
    """Give the known word that is nearest, if it is near and is not the opposite."""
    return nearest(word, [name for name in known if _may_mean(word, name)])


def _may_mean(word: str, name: str) -> bool:
    if is_negation(word) is is_negation(name):
        return True
    # `exlude` is a slip in `exclude`, and `valid_…` none in `invalid_…`: a slip seldom takes the first letter.
    return is_negation(name) and word[:1].lower() == name[:1]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Give "; did you mean `x`?" when a known word is near and not the opposite, else nothing."""
    near = near_word(word, known)
    return "" if near is None else f"; did you mean `{near}`?"


def without_negation(word: str, known: Iterable[str]) -> str | None:
    """Give the known word that a word denies, such as `groups` for `not_groups`."""
    rest = _PREFIX.sub("", _folded(word))
    return None if rest == _folded(word) else nearest(rest, [name for name in known if not is_negation(name)])


_PREFIX: Final = re.compile(
    "^(?:banned|blocked|denied|deny|doesnt|does_not|dont|do_not|except|excluded?|forbidden|non|not|no|without)_?"
)


def denial(place: Place, criterion: str) -> str:
    """Say how to add that a criterion must not hold where it would let in, and must where it would keep out."""
    return f"keep the rest, and add `deny: {{{'not' if place.keeps_out else 'or'}: [{{{criterion}}}]}}`"


OPPOSITE: Final[Mapping[Operator, Operator]] = {
    Operator.AND: Operator.NOR,
    Operator.OR: Operator.NOT,
    Operator.NOT: Operator.OR,
    Operator.NOR: Operator.AND,
}


def nested(inner: Operator, place: Place) -> str:
    """Say what to write instead of an operator inside the list of another."""
    effect, outer = place
    if (outer, inner) in _FLAT:
        return f"write the criteria of `{inner}` into this list"
    if outer is Operator.OR:
        return f"write a second rule, `{effect}: {{{inner}: […]}}`"
    if outer is Operator.NOR:
        return f"write a second rule, `{effect}: {{{OPPOSITE[inner]}: […]}}` with the list of `{inner}`"
    if effect is Effect.ALLOW:
        opposite = inner if outer.inverts else OPPOSITE[inner]
        return (
            "rules are joined by or, so a second one would only let in more: keep the rest, and add "
            f"`deny: {{{opposite}: […]}}` with the list of `{inner}`"
        )
    if (outer, inner) in _ONCE_EACH:
        return f"write the rule once for each criterion of `{inner}`, with the rest in each"
    turned = Operator.AND if inner is Operator.NOT else Operator.OR
    return f"write `{turned}` instead of `{inner}`, with its conditions turned around"


_FLAT: Final = frozenset({
    (Operator.AND, Operator.AND), (Operator.OR, Operator.OR), (Operator.NOT, Operator.OR), (Operator.NOR, Operator.AND),
})  # fmt: skip
_ONCE_EACH: Final = frozenset({(Operator.AND, Operator.OR), (Operator.NOT, Operator.AND)})


def one_each(criteria: Sequence[str], place: Place, *, negative: bool) -> str:
    """Say where to write one criterion for each value of a list; `negative`: each says what the value must not be.

    A list means any of its values, and with a negative operator none of them.
    """
    listed = ", ".join(criteria)
    block = (_OF_NONE if negative else _OF_ANY).get(place.operator)
    if block is not None:
        return f"write {block}: [{listed}]"
    if place.operator is (Operator.NOT if negative else Operator.AND):
        return f"write the rule once for each value, with the rest in each: {listed}"
    return f"write one criterion a value, in the same list: {listed}"


_OF_ANY: Final[Mapping[Operator, Operator]] = {Operator.OR: Operator.OR, Operator.NOR: Operator.NOT}
_OF_NONE: Final[Mapping[Operator, Operator]] = {Operator.OR: Operator.AND}
