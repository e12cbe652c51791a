"""Rules that never hold, or always do, because a request has one method, one address, one time.

`and` of two values that exclude each other never holds: such a deny shuts nobody out. `nor` of them, or `or` of their
negations, always holds: such an allow lets everybody in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import time
from itertools import combinations, islice, product
from typing import Any, Final, NamedTuple, cast

from authz.breath import breathe
from authz.node import Fields, Node, Problems, Scalar
from authz.policy.criterion import Criterion
from authz.policy.criterion_advice import EXACT, operands
from authz.policy.decision import Block, Operator
from authz.policy.matchers import string_matcher
from authz.policy.request_criteria import networks_of
from authz.policy.times import parse_time
from authz.policy.value_advice import NEGATIVE

SINGLE: Final = frozenset({"http_method", "http_path", "user", "email", "domain", "client_id", "token_use", "issuer"})
"""What a request has one of."""


class Clash(NamedTuple):
    """A criterion that never holds together with one above it."""

    criterion: Criterion
    either: frozenset[str] = frozenset()  # what `in` could list instead, where there is such a list


def never_together(block: Block) -> Clash | None:
    """Give the first criterion that cannot hold where those above it do."""
    wanted: dict[str, frozenset[str]] = {}
    for criterion in block.criteria:
        breathe()
        texts = _texts(criterion, EXACT) if criterion.name in SINGLE else frozenset[str]()
        before = wanted.get(criterion.name, texts)
        if texts and not before & texts:
            return Clash(criterion, before | texts)
        if texts:
            wanted[criterion.name] = before & texts
    return next((Clash(two) for one, two in _pairs(block.criteria) if _exclude_each_other(one, two)), None)


def always_one(block: Block) -> Criterion | None:
    """Give a criterion of an `or` that holds wherever one above it does not, for whoever has what they ask for."""
    if block.operator is not Operator.OR or not _has_operators(block.criteria):
        return None
    return next((two for one, two in _pairs(block.criteria) if _complete_each_other(one, two)), None)


def _has_operators(criteria: Sequence[Criterion]) -> bool:
    """Tell whether one of them is more than a bare value, which nothing completes but its negation."""
    for criterion in criteria:
        breathe()
        if isinstance(criterion.data, Fields):
            return True
    return False


def contradicts_itself(criterion: Criterion) -> bool:
    """Tell whether a criterion's own operators never hold together, as `{starts_with: /a, is: /b}`."""
    if not isinstance(criterion.data, Fields):
        return False
    if criterion.name in SINGLE:
        named = [value.text for operator, value in operands(criterion) if operator in EXACT]
        matcher = string_matcher(criterion.data, criterion.name, Problems())
        return bool(named) and matcher is not None and not any(map(matcher.test, named))
    if _is_list(criterion):
        values = {operator: value.value for operator, value in operands(criterion)}
        return "exclude" in values and values["exclude"] in (values.get("has"), values.get("is"))
    return False


def _pairs(criteria: Sequence[Criterion]) -> Iterator[tuple[Criterion, Criterion]]:
    """Give the pairs of one name; of many criteria only the first ones, or a long list would take quadratic time."""
    by_name: dict[str, list[Criterion]] = {}
    for criterion in criteria:
        breathe()
        by_name.setdefault(criterion.name, []).append(criterion)
    for same in by_name.values():
        yield from combinations(same[:_MAX_OF_A_NAME], 2)


_MAX_OF_A_NAME: Final = 8
_MAX_NETWORKS: Final = 200  # pairs; longer lists are nobody's slip


def _exclude_each_other(first: Criterion, second: Criterion) -> bool:
    if first.name == "source_ip":
        pairs = list(islice(product(_networks(first), _networks(second)), _MAX_NETWORKS + 1))
        return 0 < len(pairs) <= _MAX_NETWORKS and not any(one.overlaps(two) for one, two in pairs)
    if first.name == "time_of_day":
        return not _overlap(first, second)
    only, other = _texts(first, _ONLY), _texts(second, _ONLY)
    return _is_list(first) and bool(only and other) and not only & other


def _complete_each_other(first: Criterion, second: Criterion) -> bool:
    if first.name == "time_of_day":
        return _cover_the_day(first, second)
    if first.name not in SINGLE:
        return False
    unwanted, other = _texts(first, NEGATIVE), _texts(second, NEGATIVE)
    if unwanted and other:
        return not unwanted & other
    wanted, kept_out = (_texts(first, EXACT), other) if other else (_texts(second, EXACT), unwanted)
    return bool(wanted and kept_out) and kept_out <= wanted


_ONLY: Final = frozenset({"is"})


def _texts(criterion: Criterion, operators: frozenset[str]) -> frozenset[str]:
    if criterion.name not in SINGLE and not (_is_list(criterion) and isinstance(criterion.data, Fields)):
        return frozenset()
    found = list(operands(criterion))
    used = {operator for operator, _ in found}
    if len(used) != 1 or not used <= operators:
        return frozenset()
    return frozenset(value.text for _, value in found)


def _is_list(criterion: Criterion) -> bool:
    return criterion.name == "groups" or criterion.name.startswith("claim/")


def _networks(criterion: Criterion) -> Sequence[Any]:
    """Give the networks; those of IPv4 and of IPv6 overlap with none of the other."""
    return () if criterion.data is None else networks_of(criterion.data, Problems()) or ()


class _Hours(NamedTuple):
    zone: str
    after: time
    before: time | None  # None: until midnight


def _hours(criterion: Criterion) -> _Hours:
    """Give the bounds of a `time_of_day`; one that compiled has fields, and a zone."""
    fields = cast("Fields", criterion.data)
    zone = cast("Scalar", fields.get("timezone"))
    return _Hours(zone.text, _time(fields.get("after")) or time.min, _time(fields.get("before")))


def _time(node: Node | None) -> time | None:
    return parse_time(node.text) if isinstance(node, Scalar) else None


def _overlap(first: Criterion, second: Criterion) -> bool:
    """Tell whether there may be a time at which both hold."""
    one, two = _hours(first), _hours(second)
    if one.zone != two.zone:
        return True
    return all(
        before is None or after < before for after in (one.after, two.after) for before in (one.before, two.before)
    )


def _cover_the_day(first: Criterion, second: Criterion) -> bool:
    """Tell whether at every time one of them holds."""
    one, two = _hours(first), _hours(second)
    if one.zone != two.zone:
        return False
    early, late = sorted((one, two), key=lambda hours: hours.after)
    return early.after == time.min and late.before is None and (early.before is None or late.after <= early.before)
