"""`make mutants`: would the tests notice? Small faults are put into the pure modules, one at a time.

    python -m tests.mutants [MODULE …] [--at-most N] [--processes N] [--tests PATH …]

A mutant is killed when a test of tests/unit or tests/cases fails that runs the changed line (faults.py says what is
changed, running.py how it meets the tests). The survivors that mean the same as the original stand in survivors.txt,
with the reason. `--at-most` takes an even sample of each module's mutants. The figures, with their date, go to
mutants.json; a run of some modules keeps those of the others. `--tests` takes fewer tests, for whoever is writing one:
an answer in seconds, which is printed and not kept. Exit codes: 0 ≥ 95 % killed, 1 less.

mutmut and cosmic-ray start pytest anew for every mutant; a fork of collected tests takes a hundredth of that.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.mutants.collected import FOLDERS
from tests.mutants.faults import Mutant, mutants_of, pure_modules
from tests.mutants.processes import Fate, tell
from tests.mutants.report import LEAST, RESULT, former, share_killed, table
from tests.mutants.running import meet_afresh, meet_in_template

SURVIVORS: Final = Path(__file__).parent / "survivors.txt"


def main() -> int:
    options = _options()
    modules = options.modules or pure_modules()
    mutants = {module: mutants_of(module) for module in modules}
    met = {module: sampled(some, options.at_most) for module, some in mutants.items()}
    started = time.monotonic()
    fates = meet(met, options.tests, options.processes)
    rows = former()
    known = known_survivors()
    for module in modules:
        survived = [mutant for mutant in met[module] if fates[mutant] is Fate.SURVIVED]
        rows[module] = row(len(mutants[module]), len(met[module]), survived, known)
    if options.tests == FOLDERS:
        RESULT.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    mine = {module: rows[module] for module in modules}
    print(table(mine))
    for line in (name for one in mine.values() for name in one["survivors"]):
        print(f"survived: {line}")
    for key in sorted(idle_excuses(known, met, fates) if options.at_most is None else ()):
        print(f"survivors.txt excuses what was killed or is no mutant any more: {key}")
    tell(f"{(time.monotonic() - started) / 60:.0f} minutes")
    return 0 if share_killed(list(mine.values())) >= LEAST else 1


def meet(mutants: Mapping[str, Sequence[Mutant]], tests: Sequence[str], processes: int) -> dict[Mutant, Fate]:
    meeting = meet_in_template(mutants, tests, processes)
    for name in meeting.failed:
        tell(f"fails without any mutant, and was left out: {name}")
    afresh = [mutant for mutant, fate in meeting.fates.items() if fate is Fate.AFRESH]
    tell(f"{len(afresh)} mutants are met from the import on")
    return {**meeting.fates, **dict(meet_afresh(afresh, meeting.tests, processes))}


def row(mutants: int, met: int, survived: Sequence[Mutant], known: set[str]) -> dict[str, Any]:
    survivors = [mutant.name for mutant in survived if mutant.key not in known]
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "mutants": mutants,
        "met": met,
        "killed": met - len(survived),
        "same": len(survived) - len(survivors),
        "survivors": survivors,
    }


def sampled(mutants: list[Mutant], at_most: int | None) -> list[Mutant]:
    """Give an even sample."""
    if at_most is None or len(mutants) <= at_most:
        return mutants
    return [mutants[number * len(mutants) // at_most] for number in range(at_most)]


def known_survivors() -> set[str]:
    """Give those that mean the same: each a mutant's key, the lines of its reason indented below."""
    lines = SURVIVORS.read_text(encoding="utf-8").splitlines() if SURVIVORS.is_file() else []
    return {line for line in lines if line and not line.startswith(("#", " "))}


def idle_excuses(known: set[str], met: Mapping[str, Sequence[Mutant]], fates: Mapping[Mutant, Fate]) -> set[str]:
    """Give the lines of survivors.txt about these modules that excuse nobody."""
    survived = {mutant.key for some in met.values() for mutant in some if fates[mutant] is Fate.SURVIVED}
    return {key for key in known - survived if key.partition(" ")[0] in met}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="default: every pure module")
    parser.add_argument("--at-most", type=int, help="mutants of a module, an even sample")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--tests", nargs="+", metavar="PATH", default=FOLDERS, help="only these, as pytest names them")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
