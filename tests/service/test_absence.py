"""Cognito may be away: a short run of what `make torture` does at length."""

from __future__ import annotations

from pathlib import Path

from tests.torture import absence
from tests.torture.absence import ALLOWED, UNAVAILABLE


async def test_known_keys_serve_for_a_day_then_503_then_all_is_well(tmp_path: Path) -> None:
    day = await absence.a_day(tmp_path, step=1800.0)
    assert dict(day.within) == {ALLOWED: 3 * 48}
    assert dict(day.after) == {UNAVAILABLE: 3 * 4}
    assert dict(day.back) == {ALLOWED: 3}
    assert day.failed_fetches >= 52


def test_a_cold_start_denies_and_recovers_by_itself(tmp_path: Path) -> None:
    start = absence.cold_start(tmp_path, wait=0.0)
    assert start.away == {UNAVAILABLE}
    assert start.then == ALLOWED


def test_a_restart_meanwhile_lives_on_the_cache(tmp_path: Path) -> None:
    assert dict(absence.restart(tmp_path / "restart", checks=5)) == {ALLOWED: 5}
