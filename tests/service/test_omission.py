"""Nothing is allowed by omission: a short run of what `make torture` does at length."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.faulty_service import FAULTS
from tests.torture import omission

REPLAYS: Final = 500


async def test_whatever_call_raises_the_answer_denies_or_is_the_right_allow(tmp_path: Path) -> None:
    done, wrong = await omission.inject(tmp_path, REPLAYS)
    assert not wrong
    assert sum(done.values()) == REPLAYS
    assert min(done.values(), default=0) > 0
    assert len(done) > 20


def test_the_judge_knows_what_must_not_be() -> None:
    deny = omission.Kind(lambda: b"", 7, "groups-unauthorized")
    allow = omission.Kind(lambda: b"", 0, "groups-ok")
    right = omission.pb.CheckResponse(ok_response={"headers_to_remove": ["x-auth-subject"]})
    bare = omission.pb.CheckResponse(ok_response={})
    good_status = omission.pb.CheckResponse(status={"code": 7}, denied_response={"status": {"code": 200}})
    judged = [
        omission.judge(b"", deny, right),
        omission.judge(RuntimeError(), deny, right),
        omission.judge(right.SerializeToString(), deny, right),
        omission.judge(bare.SerializeToString(), allow, right),
        omission.judge(omission.pb.CheckResponse(status={"code": 7}).SerializeToString(), deny, right),
        omission.judge(good_status.SerializeToString(), deny, right),
    ]
    assert judged == [
        "an empty answer",
        "RuntimeError escaped",
        "an allow for what must be denied",
        "another allow than the right one",
        "a code and no denial",
        "a denial with a good status",
    ]
    assert omission.judge(right.SerializeToString(), allow, right) is None


@pytest.mark.e2e
@pytest.mark.parametrize("fault", ["panicking in its authorizer", "failing in its answers", "failing outside its door"])
def test_a_real_envoy_lets_nothing_through_when_the_service_is(fault: str, tmp_path: Path) -> None:
    assert fault in FAULTS
    statuses = [status for _, status in omission.through_a_real_envoy(tmp_path, {fault: FAULTS[fault]})]
    assert set(statuses) == {503}
