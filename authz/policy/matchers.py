"""What a criterion compares with: string matchers and list matchers, compiled once at load.

Comparison is exact: case, type (`5` is not `"5"`, `5` equals `5.0`, `true` is not `1`), no substring, no folding. A
matcher with several operators wants all of them; one with none is an error, because "all of nothing" would be true.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from authz.document import MAX_NUMBER_LENGTH
from authz.model import Json
from authz.node import Fields, Items, Node, Problems, Scalar, describe, shorten
from authz.policy.decision import Operator
from authz.policy.instead import LETS_IN, Place, did_you_mean, near_word, one_each, without_negation
from authz.reading import text_of

StringTest: TypeAlias = Callable[[str], bool]
ListTest: TypeAlias = Callable[[Sequence[Json]], bool]
ClaimValue: TypeAlias = str | int | float | bool


class StringMatcher(NamedTuple):
    """What one text must be."""

    test: StringTest
    wanted: str  # for people: "is `GET`"
    expects: tuple[ClaimValue, ...]  # the texts that it names, for near misses
    positive: StringTest | None  # what it wants, without what it excludes (`not`, `not_in`)
    negative: StringTest | None


class ListMatcher(NamedTuple):
    """What a list of claim values must hold."""

    test: ListTest
    wanted: str
    expects: tuple[ClaimValue, ...]


_ONE_TEXT: Mapping[str, tuple[str, Callable[[str], StringTest]]] = {
    "is": ("is", lambda wanted: lambda value: value == wanted),
    "not": ("is not", lambda wanted: lambda value: value != wanted),
    "starts_with": ("starts with", lambda wanted: lambda value: value.startswith(wanted)),
    "ends_with": ("ends with", lambda wanted: lambda value: value.endswith(wanted)),
    "contains": ("contains", lambda wanted: lambda value: wanted in value),
}
_MANY_TEXTS: Mapping[str, tuple[str, Callable[[Collection[str]], StringTest]]] = {
    "in": ("is one of", lambda wanted: lambda value: value in wanted),
    "not_in": ("is none of", lambda wanted: lambda value: value not in wanted),
}
_NEGATIVE = frozenset({"not", "not_in"})
STRING_OPERATORS = (*_ONE_TEXT, *_MANY_TEXTS)
LIST_OPERATORS = ("has", "is", "exclude")


class _Part(NamedTuple):
    operator: str
    test: StringTest
    wanted: str
    expects: tuple[str, ...]


def string_matcher(node: Node, name: str, problems: Problems, place: Place = LETS_IN) -> StringMatcher | None:
    """Compile a string matcher: a text (means `is`) or a map of operators. None after adding a problem.

    `name` is the criterion as written, and `place` where it stands, for messages.
    """
    what = f"`{name}`"
    match node:
        case Items():
            problems.error(node, _array_message(node, name, place, many=_IN_A_LIST))
            return None
        case Scalar():
            text = text_of(node, what, problems)
            return None if text is None else _joined([_one_text("is", text)])
        case Fields():  # pragma: no branch - the last kind there is
            parts = [_string_part(key, value, name, problems, place) for key, value in node.entries]
            if not parts:
                problems.error(node, f"{what}: found an empty map, expected one of {_names(STRING_OPERATORS)}")
            good = [part for part in parts if part is not None]
            return _joined(good) if good and len(good) == len(parts) else None


def _string_part(key: Scalar, value: Node, name: str, problems: Problems, place: Place) -> _Part | None:
    operator = key.text
    what = f"`{name}`: `{operator}`"
    if operator in _ONE_TEXT:
        if isinstance(value, Items):
            problems.error(value, _array_message(value, name, place, operator, many=_IN_A_LIST))
            return None
        text = text_of(value, what, problems)
        return None if text is None else _one_text(operator, text)
    if operator in _MANY_TEXTS:
        return _many_texts(operator, value, what, problems)
    hint = _string_hint(operator, place)
    problems.error(key, f"{what}: unknown operator, expected one of {_names(STRING_OPERATORS)}{hint}")
    return None


def _string_hint(operator: str, place: Place) -> str:
    if operator == "has":
        return "; a text has no members: write `is`"
    near = _NO_OPERATORS.get(operator) or near_word(operator, STRING_OPERATORS)
    if near is not None:
        return f"; did you mean `{near}`?"
    denied = without_negation(operator, STRING_OPERATORS)
    if denied is None:
        return ""
    rule = "deny: {not: […]}" if place.keeps_out else "deny: {or: […]}"
    return f"; write `{denied}` in a rule of its own instead, `{rule}`"


_NO_OPERATORS: Mapping[str, str] = {
    "nin": "not_in",
    **dict.fromkeys(("exclude", "has_not", "hasnt", "is_not", "isnt", "ne", "neq", "not_has", "not_is"), "not"),
}
"""Other languages' negations, and what they are in a string matcher."""


def _one_text(operator: str, text: str) -> _Part:
    words, build = _ONE_TEXT[operator]
    return _Part(operator, build(text), f"{words} `{shorten(text)}`", (text,))


def _many_texts(operator: str, node: Node, what: str, problems: Problems) -> _Part | None:
    if not isinstance(node, Items):
        problems.error(node, f"{what}: found {describe(node)}, expected a list: write [{_written(node)}]")
        return None
    if not node.items:
        if operator == "not_in":
            problems.error(node, f"{what}: an empty list excludes nobody: delete it or write whom to exclude")
            return None
        problems.warn(node.source, f"{what}: an empty list never matches: write what it is to match")
    texts = [text_of(item, what, problems) for item in node]
    if None in texts:
        return None
    wanted = tuple(text for text in texts if text is not None)
    words, build = _MANY_TEXTS[operator]
    listed = ", ".join(f"`{shorten(text)}`" for text in wanted)
    return _Part(operator, build(frozenset(wanted)), f"{words} {listed or 'nobody'}", wanted)


def _joined(parts: Sequence[_Part]) -> StringMatcher:
    positive = [part.test for part in parts if part.operator not in _NEGATIVE]
    negative = [part.test for part in parts if part.operator in _NEGATIVE]
    return StringMatcher(
        test=_all([part.test for part in parts]),
        wanted=" and ".join(part.wanted for part in parts),
        expects=tuple(text for part in parts if part.operator not in _NEGATIVE for text in part.expects),
        positive=_all(positive) if positive else None,
        negative=_all(negative) if negative else None,
    )


def _all(tests: Sequence[Callable[..., bool]]) -> Callable[..., bool]:
    if len(tests) == 1:
        return tests[0]
    return lambda value: all(test(value) for test in tests)


def any_of(matcher: StringMatcher) -> Callable[[Sequence[str]], bool]:
    """Give the test of a string matcher over several texts.

    Some text must satisfy what the matcher wants, and no text what it excludes: `{not: admin}` over two scopes means
    that neither is `admin`. No text at all satisfies nothing.
    """
    positive, negative = matcher.positive, matcher.negative

    def test(texts: Sequence[str]) -> bool:
        if not texts or (negative is not None and not all(map(negative, texts))):
            return False
        return positive is None or any(map(positive, texts))

    return test


def list_matcher(node: Node, name: str, problems: Problems, place: Place = LETS_IN) -> ListMatcher | None:
    """Compile a list matcher: a value (means `has`) or a map of operators. None after adding a problem.

    `name` and `place` as for `string_matcher`.
    """
    match node:
        case Items():
            problems.error(node, _array_message(node, name, place, many={}))
            return None
        case Scalar():
            value = claim_value(node, f"`{name}`", problems)
            return None if value is None else _list_joined([("has", value)])
        case Fields():  # pragma: no branch - the last kind there is
            return _list_operators(node, name, problems, place)


def _list_operators(node: Fields, name: str, problems: Problems, place: Place) -> ListMatcher | None:
    what = f"`{name}`"
    if not node.entries:
        problems.error(node, f"{what}: found an empty map, expected one of {_names(LIST_OPERATORS)}")
        return None
    parts: list[tuple[str, ClaimValue]] = []
    for key, value in node.entries:
        operator = key.text
        if operator not in LIST_OPERATORS:
            hint = _list_hint(operator, value, name, place)
            problems.error(
                key, f"{what}: `{operator}`: unknown operator, expected one of {_names(LIST_OPERATORS)}{hint}"
            )
            continue
        if isinstance(value, Items):
            problems.error(value, _array_message(value, name, place, operator, many={}))
            continue
        wanted = claim_value(value, f"{what}: `{operator}`", problems)
        if wanted is not None:
            parts.append((operator, wanted))
    return _list_joined(parts) if len(parts) == len(node.entries) else None


def _list_hint(operator: str, value: Node, name: str, place: Place) -> str:
    if operator in _NEGATIVE or operator in _NO_OPERATORS or without_negation(operator, STRING_OPERATORS) is not None:
        if not isinstance(value, Items):
            return "; did you mean `exclude`?"
        where = one_each([f"{{{name}: {{exclude: …}}}}", "…"], place, negative=True)
        return f"; that a list does not hold a value is asked with `exclude`: {where}"
    if operator in STRING_OPERATORS:
        where = one_each([f"{{{name}: …}}", "…"], place, negative=False)
        return f"; a list of claim values is asked with `has`: {where}"
    nested = f"; a nested claim is named with dots: `{name}.{shorten(operator)}`" if name.startswith("claim/") else ""
    return did_you_mean(operator, LIST_OPERATORS) or nested


def _list_joined(parts: Sequence[tuple[str, ClaimValue]]) -> ListMatcher:
    return ListMatcher(
        test=_all([_list_test(operator, wanted) for operator, wanted in parts]),
        wanted=" and ".join(f"{_LIST_WORDS[operator]} {show(wanted)}" for operator, wanted in parts),
        expects=tuple(wanted for operator, wanted in parts if operator != "exclude"),
    )


_LIST_WORDS = {"has": "has", "is": "is only", "exclude": "does not have"}


def _list_test(operator: str, wanted: ClaimValue) -> ListTest:
    holds = _holds(wanted)
    if operator == "has":
        return holds
    if operator == "is":
        return lambda values: len(values) == 1 and holds(values)
    return lambda values: not holds(values)


def _holds(wanted: ClaimValue) -> ListTest:
    """Test whether some value equals `wanted`, exactly and of the same JSON type."""
    if isinstance(wanted, str):
        return lambda values: wanted in values  # a text equals nothing but a text
    if isinstance(wanted, bool):
        return lambda values: any(value is wanted for value in values)
    return lambda values: any(
        value == wanted for value in values if isinstance(value, int | float) and not isinstance(value, bool)
    )


def claim_value(node: Node, what: str, problems: Problems) -> ClaimValue | None:
    """Read what a claim is compared with: text, number or boolean. None after adding a problem."""
    if isinstance(node, Scalar) and node.value not in (None, "") and not _is_unequal(node.value):
        return node.value
    found = "empty text" if isinstance(node, Scalar) and node.value == "" else describe(node)
    expected = "text, a number or a boolean"
    if isinstance(node, Fields):
        expected += ": a nested claim is named with dots (`a.b`)"
    elif isinstance(node, Scalar) and isinstance(node.value, float):
        kind = f"of at most {MAX_NUMBER_LENGTH} characters" if len(node.text) > MAX_NUMBER_LENGTH else "that is finite"
        expected = f"a number {kind}: write it in quotes if it is text"
    problems.error(node, f"{what}: found {found}, expected {expected}")
    return None


def _is_unequal(value: ClaimValue) -> bool:
    return isinstance(value, float) and (value != value or value in {float("inf"), float("-inf")})  # noqa: PLR0124 - NaN


def show(value: Json) -> str:
    """Write a value for people; text in backquotes, so that a number and its text look different."""
    if isinstance(value, str):
        return f"`{shorten(value)}`"
    if isinstance(value, bool):
        return "true" if value else "false"
    return shorten(str(value))


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _written(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else "…"


def _array_message(node: Items, name: str, place: Place, operator: str = "", *, many: Mapping[str, str]) -> str:
    """Say what to write for an array where one value is meant (Pomerium loads it and never matches).

    `many`: the operators that take a list, by those that take one value.
    """
    values = [item.text for item in node if isinstance(item, Scalar)] or ["…"]
    more = ["…"] if len(values) > 3 else []
    what = f"`{name}`: `{operator}`" if operator else f"`{name}`"
    if operator in many and place.operator is not Operator.OR:
        instead = f"write {{{name}: {{{many[operator]}: [{', '.join([*values[:3], *more])}]}}}}"
    else:
        bodies = [f"{{{operator}: {value}}}" if operator else value for value in values[:3]]
        choices = [f"{{{name}: {body}}}" for body in bodies]
        instead = one_each([*choices, *more], place, negative=operator in {"not", "exclude"})
    return f"{what}: found a list where one value is meant; {instead}"


_IN_A_LIST: Mapping[str, str] = {"": "in", "is": "in", "not": "not_in"}
