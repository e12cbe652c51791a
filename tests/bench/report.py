"""What was measured, beside what was to be reached: tables for people, JSON for programs.

A result is a list with one value a round. What is compared was measured in the same round, so a ratio is taken round by
round, and its median counts; the lowest and highest stand beside it. What could not be measured is said to be so, with
the reason, and its goal stays open: nothing here is an estimate.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple


class Reached(StrEnum):
    """What became of a goal."""

    YES = "reached"
    NO = "NOT reached"
    OPEN = "not measured"


@dataclass
class Results:
    """The values of all rounds by name, and why some names have none."""

    values: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # name, or its beginning → why
    scripts: dict[str, str] = field(default_factory=dict)  # what the micro-benchmarks printed

    def add(self, name: str, value: float) -> None:
        """Note the value of one more round."""
        self.values.setdefault(name, []).append(value)

    def miss(self, name: str, why: str) -> None:
        """Note why there are no values of this name, or of names that begin with it."""
        self.missing[name] = why

    def why_missing(self, name: str) -> str:
        """Say why there are no values of this name."""
        return next((why for start, why in self.missing.items() if name.startswith(start)), "this part did not run")


Measure = Callable[[Results], list[float]]


def plain(name: str) -> Measure:
    """The values of one name. A missing one raises KeyError with the name."""
    return lambda results: results.values[name]


def ratio(name: str, base: str) -> Measure:
    """The values of one name over those of another, round by round."""
    return lambda results: _pairwise(operator.truediv, results.values[name], results.values[base])


def difference(name: str, base: str) -> Measure:
    """The values of one name less those of another, round by round."""
    return lambda results: _pairwise(operator.sub, results.values[name], results.values[base])


def _pairwise(combine: Callable[[float, float], float], left: Sequence[float], right: Sequence[float]) -> list[float]:
    return [combine(one, other) for one, other in zip(left, right, strict=True)]


class Goal(NamedTuple):
    """One line of the table of goals."""

    what: str
    measure: Measure
    limit: float
    unit: str = "×"
    at_least: bool = True
    of: str = ""

    @property
    def text(self) -> str:
        """The goal as a person writes it."""
        return f"{'≥' if self.at_least else '≤'} {_number(self.limit)} {self.unit} {self.of}".rstrip()


GOALS: Final = (
    Goal("warm token, log of denials, metrics on", ratio("rate/denied", "rate/floor"), 0.90, of="floor"),
    Goal("the same, log of all decisions", ratio("rate/all", "rate/floor"), 0.80, of="floor"),
    Goal("1,000 distinct tokens", ratio("mix/thousand", "mix/one"), 0.95, of="one token"),
    Goal("every request a new token", ratio("mix/new", "mix/floor"), 0.60, of="floor"),
    Goal("verifying one token", plain("micro/verify an access token"), 35, "µs", at_least=False),
    Goal("decisions per CPU-second, against OPA's plugin", ratio("cpu/denied", "cpu/opa"), 3),
    Goal("against the usual way", ratio("rate/denied", "rate/usual"), 2.5),
    Goal("10,000 routes against 10", ratio("routes/10000", "routes/10"), 0.95),
    Goal(
        "added through Envoy at 1,000/s, p50",
        difference("envoy/authz/p50", "envoy/none/p50"), 0.6, "ms", at_least=False,
    ),
    Goal(
        "added through Envoy at 1,000/s, p99",
        difference("envoy/authz/p99", "envoy/none/p99"), 3, "ms", at_least=False,
    ),
    Goal("loading 10,000 routes, file written to in force", plain("reload/seconds"), 2, "s", at_least=False),
    Goal("p99 of checks meanwhile", ratio("reload/p99", "reload/normal p99"), 2, at_least=False, of="normal"),
    Goal("growth after 50,000 valid + 50,000 forged tokens", plain("memory/growth"), 64, "MB", at_least=False),
    Goal("a fresh process", plain("memory/fresh"), 90, "MB", at_least=False),
    Goal("start to ready, keys in cache_dir", plain("start/seconds"), 1.0, "s", at_least=False),
)  # fmt: skip

SERVERS: Final = (
    ("floor: constant bytes, grpc.aio", "floor"),
    ("constant bytes, this service's transport", "transport"),
    ("this service, log of denials", "denied"),
    ("this service, log of all decisions", "all"),
    ("this service, no log", "none"),
    ("the usual way: sync gRPC, PyJWT every time", "usual"),
    ("OPA's Envoy plugin", "opa"),
    ("OPA's Envoy plugin, told to remember verified tokens", "opa-knows"),
    ("floor, two processes", "floor2"),
    ("this service, two workers, log of denials", "two"),
)
MIXES: Final = (
    ("floor", "floor"),
    ("one token", "one"),
    ("1,000 distinct tokens", "thousand"),
    ("every request a new token", "new"),
    ("20 % denied, each of these logged", "fifth"),
)
ROUTES: Final = (("10 routes", "10"), ("1,000 routes", "1000"), ("10,000 routes", "10000"))
CHAINS: Final = (
    ("no authorization", "none"),
    ("jwt_authn (cache on) + RBAC", "native"),
    ("this service", "authz"),
    ("the floor in its place", "floor"),
)


class Row(NamedTuple):
    """A goal and what became of it."""

    goal: Goal
    values: Sequence[float]
    why_missing: str = ""

    @property
    def reached(self) -> Reached:
        """Judge by the median."""
        if not self.values:
            return Reached.OPEN
        middle = median(self.values)
        is_good = middle >= self.goal.limit if self.goal.at_least else middle <= self.goal.limit
        return Reached.YES if is_good else Reached.NO


def judge(results: Results, goals: Sequence[Goal] = GOALS) -> list[Row]:
    """Hold the results against the goals."""
    return [_row(goal, results) for goal in goals]


def _row(goal: Goal, results: Results) -> Row:
    try:
        return Row(goal, goal.measure(results))
    except KeyError as error:
        return Row(goal, (), results.why_missing(str(error.args[0])))


def render(results: Results, machine: Mapping[str, Any]) -> str:
    """Write everything as Markdown tables, readable in a terminal too."""
    warning = f" **{machine['warning']}**" if machine.get("warning") else ""
    about = (
        f"Machine: {machine['processor']}, {machine['cores']} cores; Python {machine['python']}, "
        f"grpcio {machine['grpcio']}, Envoy {machine['envoy']}; load before the run {machine['load']}.{warning}"
    )
    parts = [
        about,
        "Medians, and in brackets the lowest and highest of the rounds.",
        "### Goals",
        _table(["what", "goal", "measured", ""], [_goal_cells(row) for row in judge(results)]),
    ]
    for heading, prefix, table in _TABLES:
        if any(name.startswith(prefix) for name in results.values):
            parts += [f"### {heading}", table(results)]
    if results.missing:
        parts += ["### Not measured", _reasons(results.missing)]
    for script, output in results.scripts.items():
        parts += [f"### {script}", f"```text\n{output.rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _reasons(missing: Mapping[str, str]) -> str:
    """Write each reason once, with the names that it holds for."""
    names: dict[str, list[str]] = {}
    for name, why in missing.items():
        names.setdefault(why, []).append(name)
    return "\n".join(f"- {', '.join(several)}: {why}" for why, several in names.items())


def _goal_cells(row: Row) -> list[str]:
    measured = spread(row.values, row.goal.unit) if row.values else "not measured"
    return [row.goal.what, row.goal.text, measured, row.reached.value if row.values else "open"]


def _servers(results: Results) -> str:
    lines = []
    for label, name in SERVERS:
        rate, cpu = f"rate/{name}", f"cpu/{name}"
        lines.append([label, _cell(results, plain(rate)), _cell(results, plain(cpu)), _of(results, rate, "rate/floor")])
    return _table(["server", "requests/s", "decisions per CPU-second", "of the floor"], lines)


def _compared(results: Results, part: str, labels: Sequence[tuple[str, str]], base: str, heading: str) -> str:
    lines = [
        [label, _cell(results, plain(f"{part}/{name}")), _of(results, f"{part}/{name}", f"{part}/{base}")]
        for label, name in labels
    ]
    return _table(["", "requests/s", heading], lines)


def _mixes(results: Results) -> str:
    own = [value for name, values in results.values.items() if name.startswith("mix-generator/") for value in values]
    cost = f"\n\nThe generator itself took {spread(own, 'µs')} of processor time a request." if own else ""
    return _compared(results, "mix", MIXES, "floor", "of the floor") + cost


def _chains(results: Results) -> str:
    lines = []
    for label, name in CHAINS:
        cells = [label, _cell(results, plain(f"envoy/{name}/rate"))]
        cells += [_cell(results, plain(f"envoy/{name}/{point}"), " ms") for point in ("p50", "p99")]
        cells.append(_cell(results, plain(f"envoy/{name}/failed"), " %"))
        added = [difference(f"envoy/{name}/{point}", f"envoy/none/{point}") for point in ("p50", "p99")]
        lines.append([*cells, *(_cell(results, one, " ms") for one in added)])
    headings = ["filters", "requests/s", "p50 at 1,000/s", "p99 at 1,000/s", "failed", "added p50", "added p99"]
    return _table(headings, lines)


_TABLES: Final[Sequence[tuple[str, str, Callable[[Results], str]]]] = (
    ("Requests per second: one token, 10 routes", "rate/", _servers),
    (
        "Mixes of tokens (our own generator, so with a floor of its own)",
        "mix/",
        _mixes,
    ),
    (
        "Routes on one host, the last one asked for",
        "routes/",
        lambda results: _compared(results, "routes", ROUTES, "10", "of 10 routes"),
    ),
    ("Through Envoy, one Envoy worker; requests/s with 16 in flight", "envoy/", _chains),
)


def _of(results: Results, name: str, base: str) -> str:
    return _cell(results, ratio(name, base), " ×")


def _cell(results: Results, measure: Measure, unit: str = "") -> str:
    try:
        return spread(measure(results), unit.strip())
    except KeyError:
        return "not measured"


def spread(values: Sequence[float], unit: str = "") -> str:
    """Write median, lowest and highest."""
    text = f"{_number(median(values))} {unit}".rstrip()
    return text if len(values) == 1 else f"{text} ({_number(min(values))} to {_number(max(values))})"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [headings, *lines]
    widths = [max(len(row[place]) for row in rows) for place in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"

    return "\n".join([line(headings), f"| {' | '.join('-' * width for width in widths)} |", *map(line, lines)])


def write_json(path: Path, results: Results, machine: Mapping[str, Any]) -> None:
    """Write every value of every round, and the goals."""
    goals = [
        {
            "what": row.goal.what,
            "goal": row.goal.text,
            "values": list(row.values),
            "median": median(row.values) if row.values else None,
            "reached": row.reached.value,
            "why_not_measured": row.why_missing,
        }
        for row in judge(results)
    ]
    document = {
        "machine": dict(machine),
        "goals": goals,
        "values": results.values,
        "not_measured": results.missing,
        "scripts": results.scripts,
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
