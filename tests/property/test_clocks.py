"""The clock may jump: a short run of what `make torture` does at length."""

from __future__ import annotations

from pathlib import Path

from tests.torture import clocks


async def test_times_of_day_days_and_dates_are_right_at_their_edges(tmp_path: Path) -> None:
    assert (await clocks.times(tmp_path, 3_000)).wrong == []


async def test_a_tokens_times_hold_whether_it_is_remembered_or_not(tmp_path: Path) -> None:
    assert (await clocks.token_times(tmp_path, 2_000)).wrong == []


async def test_a_clock_that_cannot_be_right_lets_nobody_in(tmp_path: Path) -> None:
    outcome = await clocks.absurd(tmp_path)
    assert (outcome.wrong, outcome.visits) == ([], 2 * len(clocks.ABSURD))


async def test_the_wall_clock_makes_no_key_older_or_younger(tmp_path: Path) -> None:
    assert (await clocks.keys(tmp_path, 300)).wrong == []


def test_the_edges_hold_the_changes_of_the_clocks() -> None:
    edges = clocks.edges()
    assert {1774746000.0, 1792890000.0} <= set(edges)  # date -d '2026-03-29 01:00 UTC' +%s, and 2026-10-25 01:00 UTC
