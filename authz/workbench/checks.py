"""One row of a policy test: judged through the authorizer itself, and compared with what it expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from authz.authorizer import Authenticator, Authorizer, Visit
from authz.model import Allow, Deny, http_status
from authz.policy.explanation import Explanation, explain
from authz.policy.parser import PolicySet
from authz.transport.answer_heads import Stamp
from authz.transport.check_response import Answers
from authz.workbench.expectations import Row
from authz.workbench.expected import Expected
from authz.workbench.ground import Ground


class HeaderChanges(NamedTuple):
    """What an allowed request's headers become."""

    set: Mapping[str, str]
    removed: tuple[str, ...]


class Difference(NamedTuple):
    """One thing that is not as expected."""

    expected: str
    got: str


class Check(NamedTuple):
    """One row after its judgement. It passed if there is no difference."""

    row: Row
    visit: Visit
    headers: HeaderChanges
    differences: tuple[Difference, ...]
    explanation: Explanation | None  # None when no route was judged

    @property
    def passed(self) -> bool:
        """Whether all is as expected."""
        return not self.differences


async def check(row: Row, policies: PolicySet, ground: Ground, caller: Authenticator) -> Check:
    """Judge one row. `caller` says who is calling."""
    authorizer = Authorizer(
        authenticator=caller,
        policies=lambda: policies,
        allow_path_parameters=ground.allow_path_parameters,
    )
    visit = await authorizer.authorize(row.request, row.now)
    explanation = None
    if visit.route is not None and visit.facts is not None:
        explanation = explain(visit.facts, visit.route, visit.credential_error)
    headers = _header_changes(row, visit, ground)
    return Check(row, visit, headers, tuple(_differences(row.expected, visit, headers)), explanation)


def _header_changes(row: Row, visit: Visit, ground: Ground) -> HeaderChanges:
    if not isinstance(visit.decision, Allow):
        return HeaderChanges({}, ())
    answer = Answers(ground.answers).answer(row.request, visit.decision, Stamp(decision_id=""))
    ok = answer.response.ok_response
    return HeaderChanges({option.header.key: option.header.value for option in ok.headers}, tuple(ok.headers_to_remove))


# --- comparing ----------------------------------------------------------------------------------------------------


def outcome_text(visit: Visit) -> str:
    """Write what was decided as an expectation would: `403 claim-unauthorized`."""
    decision = visit.decision
    outcome = str(http_status(decision.reason)) if isinstance(decision, Deny) else "allow"
    return " ".join((outcome, *decision.reasons))


def route_label(visit: Visit) -> str | None:
    """Give the label of the route that was judged."""
    return None if visit.route is None else visit.route.name.label


def _differences(expected: Expected, visit: Visit, headers: HeaderChanges) -> Iterator[Difference]:
    if not _is_as_expected(expected, visit):
        yield Difference(str(expected), outcome_text(visit))
    label = route_label(visit)
    if expected.route is not None and expected.route.text != label:
        yield Difference(f"route {expected.route.text}", "no route" if label is None else f"route {label}")
    for name, value in expected.headers_set:
        if headers.set.get(name) != value:
            yield Difference(f"set {name}: {value}", _fate(name, headers))
    for name in expected.headers_removed:
        if name not in headers.removed:
            yield Difference(f"removed {name}", _fate(name, headers))


def _is_as_expected(expected: Expected, visit: Visit) -> bool:
    decision = visit.decision
    if isinstance(decision, Allow) is not expected.allowed:
        return False
    if expected.status is not None and http_status(decision.reason) != expected.status:
        return False
    reasons = expected.reasons
    return not reasons or (reasons[0] is decision.reason and set(reasons) <= set(decision.reasons))


def _fate(name: str, headers: HeaderChanges) -> str:
    if name in headers.set:
        return f"set {name}: {headers.set[name]}"
    return f"removed {name}" if name in headers.removed else f"{name} is left as it came"
