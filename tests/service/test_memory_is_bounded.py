"""The parts of the torture's row 12 in short: that they run, and what they find beside the size of things."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import messages
from tests.bench.servers import Service
from tests.torture import memory, soak


def test_new_and_forged_tokens_and_reloads(tmp_path: Path) -> None:
    pool = messages.new_pool()
    with Service(tmp_path / "service", pool, memory.RELOADED_ROUTES, decisions="none") as service:
        figures = [*memory.token_figures(service, pool, 100), *memory.reload_figures(service, 3)]
    assert [figure for figure in figures if not figure.held] == []


def test_a_soak_of_seconds_allows_nothing_wrong(tmp_path: Path) -> None:
    figures = list(soak.soak(tmp_path, 4.0, remembered=100, rate=60))
    found = {figure.what: figure for figure in figures}
    assert found["wrong allows in the soak"].held
    assert len([what for what in found if what.startswith("growth of")]) == 4  # one process, then a family of three


def test_a_slope_is_what_it_grows_by_in_an_hour_once_warm() -> None:
    warming = [(second, 50.0) for second in range(100)]
    growing = [(second, 80.0 + second / 3600) for second in range(100, 300)]
    assert soak.slope([*warming, *growing]) == pytest.approx(1.0)
    assert soak.slope([(float(second), 90.0 - second) for second in range(300)]) == 0.0
