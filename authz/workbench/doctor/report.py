"""What `authz doctor` says: lines for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from authz.errors import Severity
from authz.workbench.doctor.findings import Finding, FindingId
from authz.workbench.problems import printable


def json_report(findings: Sequence[Finding], *, is_file: bool) -> str:
    """Write every finding. `line` and `column` are those of a file; a running Envoy has paths alone."""
    return json.dumps({"ok": is_well(findings), "findings": [_fields(one, is_file) for one in findings]}, indent=2)


def _fields(one: Finding, is_file: bool) -> dict[str, object]:
    position = {"line": one.source.line, "column": one.source.column} if is_file else {}
    return {
        "id": one.id.value,
        "severity": one.severity.value,
        "file" if is_file else "address": one.source.file,
        **position,
        "path": one.path,
        "found": one.found,
        "fix": one.fix,
    }


def text_report(findings: Sequence[Finding], *, is_file: bool) -> list[str]:
    """Give the lines for people; the last one counts."""
    lines = []
    for one in findings:
        where = str(one.source) if is_file else one.path
        lines.append(f"{where}: {one.severity}: {one.id}: {one.found}")
        lines += [f"    {one.path}"] * is_file + [f"    fix: {one.fix}"]
    counts = [_count(findings, severity) for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE)]
    sum_ = ", ".join(count for count in counts if count) or "nothing that would undo a promise"
    unseen = ", not everything was seen" if any(one.id is FindingId.NOT_SEEN for one in findings) else ""
    return [*map(printable, lines), f"{'✓' if is_well(findings) else '✗'} {sum_}{unseen}"]


def _count(findings: Sequence[Finding], severity: Severity) -> str:
    number = sum(one.severity is severity for one in findings)
    return f"{number} {severity}{'' if number == 1 else 's'}" if number else ""


def is_well(findings: Sequence[Finding]) -> bool:
    """Tell whether nothing is an error."""
    return all(one.severity is not Severity.ERROR for one in findings)
