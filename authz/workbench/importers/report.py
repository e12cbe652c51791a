"""IMPORT.md: every setting of the source and what became of it, and what is still to be done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from authz.workbench.importers.ledger import Entry, Ledger, Outcome
from authz.workbench.importers.model import Import
from authz.workbench.problems import printable

REPORT_MARK: Final = "# Import of "


def report_text(
    imported: Import, source: PurePath, ledger: Ledger, todo: Sequence[str], rows: int, beside: Sequence[str]
) -> str:
    """Write IMPORT.md. No value of the source stands in it: some are secret. `beside`: files that are no import's."""
    counts = {outcome: sum(entry.outcome is outcome for entry in ledger.entries) for outcome in Outcome}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    return "\n".join(
        [
            f"{REPORT_MARK}{imported.program}'s `{printable(source.name)}`",
            "",
            f"{_count(len(imported.routes), 'route')}, {_count(rows, 'policy test')}; settings: {told or 'none'}.",
            "What is written here loaded, and its tests passed, before it was put in place. To look again:",
            "",
            "```sh",
            "authz check --config authz.yaml",
            "authz test --config authz.yaml",
            "envoy --mode validate -c envoy.yaml",
            "```",
            "",
            *_listed("What was there before", [_kept(name) for name in beside]),
            *_listed("Before it can run", todo),
            *_listed("What is decided differently", ledger.differences),
            "## Every setting",
            "",
            "| setting | line | outcome | where it went, or why not |",
            "| --- | --- | --- | --- |",
            *(_row(entry) for entry in sorted(ledger.entries, key=lambda entry: entry.source)),
            "",
        ]
    )


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _listed(title: str, items: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {item}" for item in items), ""] if items else []


def _row(entry: Entry) -> str:
    return f"| {_cell(f'`{entry.path}`')} | {entry.source.line} | {entry.outcome} | {_cell(entry.text)} |"


def _kept(name: str) -> str:
    return f"`{printable(name)}`: no import wrote it; it counts, and all of this loaded and was tested with it"


def _cell(text: str) -> str:
    return printable(text.replace("\n", " ")).replace("|", "\\|")
