"""What `authz test` says: a table for people, JSON for programs, JUnit's XML for build servers.

Values may be shown here: they are the test's own, nobody's token. Control characters are not: a test file must not be
able to write to a terminal what it likes, and XML cannot hold them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from xml.etree import ElementTree as ET

from rich.console import Console
from rich.text import Text

from authz.model import Allow, Deny, Source, http_status
from authz.policy.criteria import show_values
from authz.policy.explanation import Condition, JudgedBlock
from authz.workbench.checks import Check, outcome_text, route_label
from authz.workbench.coverage import Kind, Share
from authz.workbench.explain import JOINED
from authz.workbench.policy_tests import FileReport, Report
from authz.workbench.problems import printable

_KIND_NAMES: Final = {Kind.ROUTE: "routes", Kind.CRITERION: "criteria"}


# --- for people ---------------------------------------------------------------------------------------------------


def print_table(report: Report, console: Console) -> None:
    """Print files, failures with their explanation, coverage, and the sum as the last line."""
    for line, style in _table(report):
        # soft_wrap: who reads it from a file or a pipe gets each line whole
        console.print(Text(printable(line), style=style), soft_wrap=True)


def _table(report: Report) -> Iterator[tuple[str, str]]:
    """Give each line with its style."""
    for number, file in enumerate(report.files):
        good = not file.failed
        if number and report.files[number - 1].failed:
            yield "", ""
        yield f"{_mark(good)} {file.file}  {file.passed}/{len(file.checks)}", "green" if good else "bold red"
        for check in file.checks:
            if not check.passed:
                yield from _failure(check)
    yield "", ""
    yield from _coverage(report)
    yield "", ""
    counts = f"{report.passed} passed, {report.failed} failed"
    yield counts, "bold green" if report.ok else "bold red"


def _failure(check: Check) -> Iterator[tuple[str, str]]:
    yield "", ""
    yield f"  ✗ {_place(check.row.source)}  {check.row.name}", "red"
    for difference in check.differences:
        yield f"      - {difference.expected}", "red"
        yield f"      + {difference.got}", "green"
    for line in explanation_lines(check):
        yield f"    {line}", ""


def _coverage(report: Report) -> Iterator[tuple[str, str]]:
    coverage = report.coverage
    shares = ", ".join(f"{name} {coverage.share(kind)}" for kind, name in _KIND_NAMES.items())
    yield f"coverage: {shares}", "green" if not coverage.missing else "yellow"
    for item in coverage.missing:
        yield f"  {_place(item.source)}  {item.kind} {item.label}: never {' nor '.join(item.missing)}", "yellow"
    if not report.is_covered:
        yield f"✗ {_below_threshold(report)}", "red"


def _below_threshold(report: Report) -> str:
    return f"the coverage is below {report.coverage_threshold:g} %, for routes or for criteria"


def explanation_lines(check: Check) -> Iterator[str]:
    """Tell who asked for what, which route judged it, and what became of each criterion."""
    row = check.row
    yield f"{row.who}: {row.asked}, at {_time(row.now)}"
    error = check.visit.credential_error
    if error is not None:
        yield f"the token is not good: {error.reason} ({error.detail}); judged as nobody"
    if check.explanation is None or check.visit.route is None:
        decision = check.visit.decision
        yield f"no route was judged: {decision.detail if isinstance(decision, Deny) else ''}"
        return
    yield f"route {route_label(check.visit)} ({_place(check.visit.route.source)})"
    if not check.explanation.blocks:
        yield "  has no rule: it denies everyone"
    for judged in check.explanation.blocks:
        block = judged.block
        yield f"  {_mark(judged.holds)} {judged.effect}, {JOINED[block.operator]} ({_place(block.source)})"
        for condition in judged.conditions:
            yield from _condition(condition, check)


def _condition(condition: Condition, check: Check) -> Iterator[str]:
    criterion = condition.criterion
    nobody = criterion.of_caller and check.visit.principal is None
    found = "nobody signed in" if nobody else show_values(condition.found)
    said = f"wants: {criterion.wanted}; found: {found}"
    yield f"    {_mark(condition.holds)} {criterion.name}  {said} ({_place(criterion.source)})"
    if condition.hint is not None:
        yield f"        {condition.hint.long}"


def _mark(good: bool) -> str:
    return "✓" if good else "✗"


def _place(source: Source) -> str:
    return f"{source.file}:{source.line}"


def _time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")


# --- for programs -------------------------------------------------------------------------------------------------


def json_report(report: Report) -> str:
    """Write everything as JSON. Fields are added, never renamed."""
    content = {
        "ok": report.ok,
        "passed": report.passed,
        "failed": report.failed,
        "files": [_file_fields(file) for file in report.files],
        "coverage": _coverage_fields(report),
    }
    return json.dumps(content, indent=2)


def _file_fields(file: FileReport) -> Mapping[str, Any]:
    return {
        "file": file.file,
        "passed": file.passed,
        "failed": file.failed,
        "tests": [_check_fields(check) for check in file.checks],
    }


def _check_fields(check: Check) -> Mapping[str, Any]:
    row, visit = check.row, check.visit
    decision = visit.decision
    return {
        "name": row.name,
        "line": row.source.line,
        "column": row.source.column,
        "as": row.who,
        "request": row.asked,
        "now": _time(row.now),
        "passed": check.passed,
        "expected": str(row.expected),
        "got": {
            "outcome": "allow" if isinstance(decision, Allow) else "deny",
            "status": http_status(decision.reason) if isinstance(decision, Deny) else None,
            "reasons": list(decision.reasons),
            "route": route_label(visit),
            "policy": None if visit.route is None else _place(visit.route.source),
            "set": check.headers.set,
            "removed": check.headers.removed,
        },
        "differences": [difference._asdict() for difference in check.differences],
        "explanation": [] if check.explanation is None else [_block_fields(b) for b in check.explanation.blocks],
    }


def _block_fields(judged: JudgedBlock) -> Mapping[str, Any]:
    return {
        "effect": judged.effect,
        "operator": judged.block.operator,
        "at": _place(judged.block.source),
        "holds": judged.holds,
        "criteria": [
            {
                "criterion": condition.criterion.name,
                "at": _place(condition.criterion.source),
                "holds": condition.holds,
                "reason": condition.reason,
                "wanted": condition.criterion.wanted,
                "found": list(condition.found),
                "hint": None if condition.hint is None else condition.hint.long,
            }
            for condition in judged.conditions
        ],
    }


def _coverage_fields(report: Report) -> Mapping[str, Any]:
    coverage = report.coverage
    return {
        **{name: _share_fields(coverage.share(kind)) for kind, name in _KIND_NAMES.items()},
        "missing": [
            {
                "kind": item.kind,
                "name": item.label,
                "file": item.source.file,
                "line": item.source.line,
                "column": item.source.column,
                "never": list(item.missing),
            }
            for item in coverage.missing
        ],
        "threshold": report.coverage_threshold,
        "reached": report.is_covered,
    }


def _share_fields(share: Share) -> Mapping[str, Any]:
    return {"seen": share.seen, "possible": share.possible, "percent": share.percent}


# --- for build servers --------------------------------------------------------------------------------------------


def junit_report(report: Report) -> str:
    """Write JUnit's XML: a suite a file, a case a row, and one more suite when a coverage threshold is set."""
    root = ET.Element("testsuites", name="authz test", tests=str(report.passed + report.failed), time="0")
    failures = report.failed
    for file in report.files:
        suite = _suite(root, file.file, len(file.checks), file.failed)
        for check in file.checks:
            case = _case(suite, check.row.name, file.file)
            case.set("line", str(check.row.source.line))
            if not check.passed:
                _fail(case, _short_failure(check), "\n".join(_long_failure(check)))
    if report.coverage_threshold is not None:
        failures += not report.is_covered
        root.set("tests", str(report.passed + report.failed + 1))
        suite = _suite(root, "coverage", 1, int(not report.is_covered))
        case = _case(suite, f"routes and criteria reach {report.coverage_threshold:g} %", "coverage")
        if not report.is_covered:
            _fail(case, _below_threshold(report), "\n".join(line for line, _ in _coverage(report)))
    root.set("failures", str(failures))
    root.set("errors", "0")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False)


def _suite(root: ET.Element, name: str, tests: int, failures: int) -> ET.Element:
    counts = {"tests": str(tests), "failures": str(failures), "errors": "0", "skipped": "0", "time": "0"}
    return ET.SubElement(root, "testsuite", {"name": printable(name), **counts})


def _case(suite: ET.Element, name: str, file: str) -> ET.Element:
    return ET.SubElement(
        suite,
        "testcase",
        {"name": printable(name), "classname": printable(file), "file": printable(file), "time": "0"},
    )


def _fail(case: ET.Element, message: str, text: str) -> None:
    failure = ET.SubElement(case, "failure", {"message": printable(message), "type": "expectation"})
    failure.text = "\n".join(map(printable, text.split("\n")))


def _short_failure(check: Check) -> str:
    first = check.differences[0]
    return f"expected {first.expected}, got {first.got}"


def _long_failure(check: Check) -> Iterator[str]:
    yield _place(check.row.source)
    for difference in check.differences:
        yield f"- {difference.expected}"
        yield f"+ {difference.got}"
    yield f"decided: {outcome_text(check.visit)}"
    yield from explanation_lines(check)
