"""Which tests can notice a fault: those that run its line. The module's own file comes first, then the quickest.

Some lines are run by nearly every test. After the own file a mutant meets others only as long as they may be expected
to take MOST_SECONDS together: thousands of them, and the quickest of each file before the second one of any, because
another file looks for something else.

One run of every test, with coverage.py watching, tells which test runs which line. What runs while modules are imported
and tests are collected is told apart: a fault there may be built into a table before any test starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from coverage import Coverage

from tests.mutants.collected import Collected, memories
from tests.mutants.faults import Mutant, file_of

LONGEST_SECONDS: Final = 1.5  # a test that takes longer is left out
MOST_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Net:
    """What the first run told. Sets of tests are bits of a number: bit 5 is test 5."""

    tests: Mapping[str, Mapping[int, int]]  # by module and line
    files: Sequence[str]  # by test
    seconds: Sequence[float]
    failed: Sequence[int]
    early: Mapping[str, frozenset[int]]  # by module: lines that ran before the first test

    def tests_for(self, mutant: Mutant) -> list[int]:
        lines = self.tests[mutant.module]
        return self._ordered(mutant.module, (lines.get(line, 0) for line in mutant.lines))

    def tests_of(self, module: str) -> list[int]:
        """Give every test that runs a line of the module, and its own file's, which may only look at its constants."""
        own = sum(1 << number for number, file in enumerate(self.files) if file == own_file(module))
        return self._ordered(module, (*self.tests[module].values(), own))

    def runs_early(self, mutant: Mutant) -> bool:
        return not self.early[mutant.module].isdisjoint(mutant.lines)

    def _ordered(self, module: str, sets: Iterable[int]) -> list[int]:
        together = 0
        for one in sets:
            together |= one
        good = [number for number in range(len(self.seconds)) if together >> number & 1 and self._is_good(number)]
        good.sort(key=self.seconds.__getitem__)
        file = own_file(module)
        own = [number for number in good if self.files[number] == file]
        others = self._one_of_each_first([number for number in good if self.files[number] != file])
        spent = accumulate(self.seconds[number] for number in others)
        return own + [number for number, seconds in zip(others, spent, strict=True) if seconds <= MOST_SECONDS]

    def _one_of_each_first(self, tests: Sequence[int]) -> list[int]:
        firsts = {self.files[number]: number for number in reversed(tests)}
        return sorted(tests, key=lambda number: firsts[self.files[number]] != number)

    def _is_good(self, number: int) -> bool:
        return self.seconds[number] <= LONGEST_SECONDS and number not in self.failed


def own_file(module: str) -> str:
    return f"test_{module.rpartition('.')[2]}.py"


def watch(modules: Sequence[str]) -> Coverage:
    """Give a coverage that looks at these modules alone and reads and writes no file."""
    files = [str(file_of(module)) for module in modules]
    return Coverage(data_file=None, config_file=False, include=files, messages=False)


def lines_seen(coverage: Coverage, modules: Sequence[str]) -> dict[str, frozenset[int]]:
    data = coverage.get_data()
    return {module: frozenset(data.lines(str(file_of(module))) or ()) for module in modules}


def spread(collected: Collected, modules: Sequence[str], early: Mapping[str, frozenset[int]]) -> Net:
    """Run every test once, watched. Memories are emptied before each, so that it runs what it would run alone."""
    coverage = watch(modules)
    caches = memories()
    started: list[float] = []

    def before(number: int) -> None:
        for cache in caches:
            cache.cache_clear()
        coverage.switch_context(str(number))
        started.append(time.perf_counter())

    coverage.start()
    failed = list(collected.run(range(len(collected.items)), before))
    coverage.stop()
    ends = [*started[1:], time.perf_counter()]
    seconds = [end - start for start, end in zip(started, ends, strict=True)]
    files = [item.path.name for item in collected.items]
    return Net({module: _bits(coverage, module) for module in modules}, files, seconds, failed, early)


def _bits(coverage: Coverage, module: str) -> dict[int, int]:
    contexts = coverage.get_data().contexts_by_lineno(str(file_of(module)))
    return {line: sum(1 << int(one) for one in set(names) if one) for line, names in contexts.items()}
