"""What `make mutants` found out: mutants.json by module, its table, and its row in the table of `make torture`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

RESULT: Final = Path(__file__).parent.parent.parent / "mutants.json"
LEAST: Final = 95.0  # percent


def former() -> dict[str, Any]:
    """Give the figures of former runs, by module."""
    rows: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    return rows


def table(rows: Mapping[str, Any]) -> str:
    lines = ["| module | mutants | met | killed | mean the same | survived |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [f"| {module} | {' | '.join(map(str, _figures([one])))} |" for module, one in rows.items()]
    lines.append(f"| all | {' | '.join(map(str, _figures(list(rows.values()))))} |")
    lines.append(f"\n{share_killed(list(rows.values())):.1f} % killed, at least {LEAST:.0f} %")
    return "\n".join(lines)


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    summed = [sum(one[name] for one in rows) for name in ("mutants", "met", "killed", "same")]
    return [*summed, sum(len(one["survivors"]) for one in rows)]


def share_killed(rows: Sequence[Mapping[str, Any]]) -> float:
    """Give the percentage, of those that are other programs at all."""
    met = sum(one["met"] - one["same"] for one in rows)
    return 100 * sum(one["killed"] for one in rows) / met if met else 0.0


def as_promise(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Give the row of `make torture`'s table that stands for all modules."""
    mutants, met, killed, same, survived = _figures(list(rows.values()))
    share = share_killed(list(rows.values()))
    figure = {
        "what": f"mutants killed of {met - same}, in {len(rows)} pure modules",
        "measured": f"{share:.1f} % ({killed}; {survived} survived, {same} mean the same)",
        "limit": f"≥ {LEAST:.0f} %",
        "held": share >= LEAST,
    }
    dates = [one["date"] for one in rows.values()]
    return {"promise": "tests would notice", "date": min(dates), "share": met / mutants, "figures": [figure]}
