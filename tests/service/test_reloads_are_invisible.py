"""Policies saved in every way, well and badly, while the service is asked: row 3 of the torture in short."""

from __future__ import annotations

from pathlib import Path

from tests.torture import reloads


def test_every_way_of_saving_well_and_badly(tmp_path: Path) -> None:
    outcome = reloads.run(tmp_path, 50, rate=100, quiet_seconds=0.2)  # every kind at least once
    assert [figure for figure in reloads.untimed(outcome) if not figure.held] == []


def test_a_mixture_would_be_seen() -> None:
    judge = reloads.Judge()
    for name, version in (("a", 1), ("b", 2)):
        judge.hear(answered(name, version, "odd", revision="one"))
    assert judge.mixed == [{1, 2}]
    assert judge.unlike == ["b odd: claim-ok by version 2"]


def answered(name: str, version: int, group: str, *, revision: str) -> reloads.Answer:
    response = reloads.pb.CheckResponse()
    told = {"route": f"{name}-{version}", "policy_revision": revision, "reason": "claim-ok"}
    for key, value in told.items():
        response.dynamic_metadata.fields[key].string_value = value
    return reloads.Answer(f"{name} {group}", 0.0, 0.001, response.SerializeToString())
