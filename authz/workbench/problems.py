"""How problems of files are told: lines for people, JSON for programs, JUnit's XML for build servers.

Control characters never reach a terminal: a file that somebody else wrote must not be able to do there what it likes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from authz.errors import Problem, Severity


def printable(text: str) -> str:
    """Give one line that only shows something: what controls a terminal, or ends the line, is replaced."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "�" for char in text)


def problem_lines(problems: Sequence[Problem]) -> Iterator[str]:
    """Give each problem as `file:line:column: message`."""
    return (printable(str(problem)) for problem in problems)


def problem_fields(problems: Sequence[Problem]) -> dict[str, Any]:
    """Give what every verb's JSON says of problems."""
    return {
        "ok": not any(problem.severity is Severity.ERROR for problem in problems),
        "problems": [_fields(problem) for problem in problems],
    }


def _fields(problem: Problem) -> Mapping[str, Any]:
    return {
        "file": problem.source.file,
        "line": problem.source.line,
        "column": problem.source.column,
        "severity": problem.severity.value,
        "message": problem.message,
    }


def problem_report(problems: Sequence[Problem], output: str) -> str:
    """Tell why nothing was loaded, as `--output` wants it: `table`, `json` or `junit`."""
    if output == "json":
        return json.dumps(problem_fields(problems), indent=2)
    return _junit(problems) if output == "junit" else "\n".join(problem_lines(problems))


def _junit(problems: Sequence[Problem]) -> str:
    """Give one case a problem, each an error: no test was run."""
    counts = {"tests": str(len(problems)), "failures": "0", "errors": str(len(problems)), "time": "0"}
    root = ET.Element("testsuites", {"name": "authz test", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": "loading", **counts, "skipped": "0"})
    for problem in problems:
        file = printable(problem.source.file)
        names = {"name": printable(str(problem.source)), "classname": file, "file": file, "time": "0"}
        case = ET.SubElement(suite, "testcase", {**names, "line": str(problem.source.line)})
        ET.SubElement(case, "error", {"message": printable(problem.message), "type": "does not load"})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False)
