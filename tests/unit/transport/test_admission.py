"""What is too late is refused with `overloaded`, counted every time, told once a second; nothing else is touched."""

from __future__ import annotations

from typing import Any

import pytest

from authz.transport.admission import LEAST_SECONDS_LEFT, is_too_late
from tests.support.check_request import check_request
from tests.support.running_service import reply_of
from tests.unit.transport.test_server import Stand, broken, pb

OVERLOADED = (503, 14, "overloaded")


class Call:
    """Plays gRPC's context of a call."""

    def __init__(self, seconds_left: float | None) -> None:
        self._left = seconds_left

    def time_remaining(self) -> float | None:
        return self._left


@pytest.mark.parametrize(
    ("seconds_left", "expected"),
    [
        pytest.param(None, False, id="a caller that waits for ever"),
        pytest.param(0.25, False, id="Envoy's usual timeout"),
        pytest.param(LEAST_SECONDS_LEFT, False, id="just enough"),
        pytest.param(LEAST_SECONDS_LEFT - 1e-9, True, id="just too little"),
        pytest.param(0.0, True, id="the deadline has passed"),
    ],
)
def test_a_call_is_too_late_when_next_to_nothing_is_left(seconds_left: float | None, expected: bool) -> None:
    assert is_too_late(seconds_left) is expected


async def _asked(stand: Stand, seconds_left: float | None) -> Any:
    data = check_request(path="/public").SerializeToString()
    return reply_of(pb.CheckResponse.FromString(await stand.door.check(data, Call(seconds_left))))


async def test_a_call_in_time_is_decided_as_ever() -> None:
    assert (await _asked(Stand(), 0.25)).code == 0


async def test_a_late_call_is_denied_and_not_worked_on() -> None:
    stand = Stand(authorizer=broken("authorize", AssertionError("worked on")))
    answer = await _asked(stand, 0.0)
    assert answer.verdict == OVERLOADED
    assert stand.count('authz_decisions_total{decision="deny",reason="overloaded",route=""}') == 1
    (line,) = stand.lines.written
    assert line["decision_id"] == answer.metadata["decision_id"]
    assert (line["decision"], line["reasons"], line["level"]) == ("deny", ["overloaded"], "warning")


async def test_lines_are_bounded_and_the_next_one_tells_of_the_others() -> None:
    time = [0.0]
    stand = Stand(clock=lambda: time[0])
    for _ in range(100):
        await _asked(stand, 0.0)
    time[0] = 1.0
    await _asked(stand, 0.0)
    assert stand.count('authz_decisions_total{decision="deny",reason="overloaded",route=""}') == 101
    first, second = (line["detail"] for line in stand.lines.written)
    assert "more" not in first
    assert second.endswith("99 more since the line before")


async def test_answers_do_not_share_an_id() -> None:
    stand = Stand()
    first, second = await _asked(stand, 0.0), await _asked(stand, 0.0)
    assert first.metadata["decision_id"] != second.metadata["decision_id"]
