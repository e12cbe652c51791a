"""Every branch of the pure modules is taken by some test: each missed one would be an undecided decision.

`python -m tests.support.pure_coverage` after `pytest --cov`. Which modules are pure stands in pyproject.toml, where
import-linter holds them to it.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).parents[2]


def pure_files() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (pure,) = [contract for contract in contracts if contract["name"].startswith("pure modules")]
    return [f"{module.replace('.', '/')}.py" for module in pure["source_modules"]]


def main() -> int:
    coverage = Coverage(data_file=str(ROOT / ".coverage"))
    coverage.load()
    percent = coverage.report(include=pure_files(), show_missing=True, skip_covered=True)
    if percent < 100:
        print("the pure modules are not covered completely: add the missing situations, or delete what cannot happen")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
