"""Run a coverage-guided fuzzer: `python -m tests.fuzz TARGET [CORPUS…] [libFuzzer's options]`.

    python -m tests.fuzz seeds TARGET FOLDER     writes what a fuzzer starts from, taken from tests/cases

To renew the corpus: seeds, a run, then `-set_cover_merge=1 NEW OLD…`, which keeps the fewest files that reach as much.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["authz"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    if sys.argv[1] == "seeds":
        from tests.fuzz.seeds import seeds  # noqa: PLC0415 - needs pytest, which a fuzzer does not

        folder = Path(sys.argv[3])
        for number, seed in enumerate(seeds(sys.argv[2])):
            (folder / f"seed-{number:04}").write_bytes(seed)
        return
    name = sys.argv[1]
    itself = f"{sys.executable} -m tests.fuzz {name}"  # libFuzzer starts itself again to merge, through a shell
    atheris.Setup([itself, *sys.argv[2:]], TARGETS[name])
    atheris.Fuzz()


main()
