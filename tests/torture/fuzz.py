"""The coverage-guided fuzzers, half a minute each: tests/fuzz/targets.py says what they look for.

Each runs in a process of its own from the corpus in the repository, two at a time. What one finds that breaks a promise
is kept in the working folder as `crash-…`: it becomes a file of the corpus together with the fix.
"""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.torture.figures import Figure, Stand, none_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGETS = ("token", "policies", "path", "wire")  # not imported: the service belongs into the children
SECONDS = 30
STARTING_SECONDS = 120  # importing and instrumenting all of it, beside other work
CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus"


class Run(NamedTuple):
    """What became of one fuzzer."""

    executions: int
    crashed: bool
    said: str


def torture(stand: Stand) -> Iterator[Figure]:
    with ThreadPoolExecutor(2) as pairs:
        runs = dict(zip(TARGETS, pairs.map(lambda target: fuzz(stand, target), TARGETS), strict=True))
    for target, run in runs.items():
        if run.crashed:
            stand.tell(run.said)
        yield none_of(f"crashes of the fuzzer of the {target}, of its executions", int(run.crashed), run.executions)


def fuzz(stand: Stand, target: str) -> Run:
    """Fuzz one target for its time. What it finds goes to a folder of its own, not into the repository."""
    found = stand.folder / target
    found.mkdir()
    seconds = stand.count(SECONDS)
    command = [sys.executable, "-m", "tests.fuzz", target, str(found), str(CORPUS / target)]
    command += [f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix=crash-{target}-"]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds + STARTING_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as expired:
        return Run(0, crashed=True, said=f"{target} hangs: {str(expired.stderr)[-2000:]}")
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", ended.stderr)
    return Run(int(executions[1]) if executions else 0, ended.returncode != 0, (ended.stdout + ended.stderr)[-4000:])
