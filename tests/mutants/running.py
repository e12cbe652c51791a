"""Mutants meet the tests, each in a forked process alone.

One process, the template, imports everything and collects every test once. A mutant in a function's body is a fork of
it; tens of milliseconds. The others, and those whose line runs before any test does, are forks of a process that has
imported none of us, and collect again; some seconds.

A process that dies or hangs has killed its mutant. A defect in this machinery must not: it ends the run.
"""

from __future__ import annotations

import ast
import gc
import os
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Never

from tests.mutants.collected import Collected, alarm, collect, memories
from tests.mutants.faults import Mutant, mutated, parse
from tests.mutants.net import Net, lines_seen, own_file, spread, watch
from tests.mutants.placing import Afresh, install, swaps
from tests.mutants.processes import Fate, each, forked, one, silence, tell

MEMORY_BYTES: Final = 4 * 1024**3
MOST_UNSTEADY: Final = 3  # tests
IMPORT_SECONDS: Final = 6.0  # ten times that, of the processor, and the import hangs


@dataclass(frozen=True)
class Tests:
    """The tests that met a module's mutants, in their order, by name: another process numbers them otherwise."""

    seconds: Mapping[str, float]

    def of_file(self, name: str) -> Tests:
        return Tests({test: seconds for test, seconds in self.seconds.items() if f"/{name}::" in test})

    def __or__(self, other: Tests) -> Tests:
        both = {**self.seconds, **other.seconds}
        return Tests({name: both[name] for name in sorted(both, key=both.__getitem__)})


@dataclass(frozen=True)
class FirstMeeting:
    """What the template tells."""

    fates: Mapping[Mutant, Fate]
    tests: Mapping[str, Tests]  # by module
    failed: Sequence[str]  # tests that fail without any mutant, and were left out


def meet_in_template(mutants: Mapping[str, Sequence[Mutant]], paths: Sequence[str], processes: int) -> FirstMeeting:
    """Collect once, and let each mutant meet the tests that run its line."""
    modules = list(mutants)

    def template(deliver: Callable[[Any], Never]) -> None:
        silence()
        early = watch(modules)
        early.start()

        def then(collected: Collected) -> Never:
            early.stop()
            seen = lines_seen(early, modules)
            tell(f"{len(collected.items)} tests: which of them runs which line?")
            net: Net = forked(lambda deliver: deliver(spread(collected, modules, seen)))
            deliver(_Template(collected, net, modules).meet_all(mutants, processes))

        raise RuntimeError(f"pytest could not collect the tests: {collect(paths, then)}")

    meeting: FirstMeeting = forked(template)
    return meeting


class _Template:
    """The tests, collected, and the living functions."""

    def __init__(self, collected: Collected, net: Net, modules: Sequence[str]) -> None:
        self._collected, self._net = collected, net
        self._caches, self._swaps = memories(), swaps(modules)

    def meet_all(self, mutants: Mapping[str, Sequence[Mutant]], processes: int) -> FirstMeeting:
        gc.freeze()
        tests = {module: self._named(self._net.tests_of(module)) for module in mutants}
        numbers = {number for module in mutants for number in self._net.tests_of(module)}
        in_order = sorted(numbers, key=self._net.seconds.__getitem__)
        self._leave_out(forked(lambda deliver: deliver(self._renew(in_order))))
        fates: dict[Mutant, Fate] = {}
        for module, some in mutants.items():
            if self._swaps[module].has_functions:
                expect(f"{module} was wrecked", Fate.KILLED, one(lambda module=module: self._wreck(module)))
            fates |= dict(each(some, self._meet, processes))
            here = [fates[mutant] for mutant in some]
            told = ", ".join(f"{fate.name.lower()} {here.count(fate)}" for fate in Fate if fate in here)
            tell(f"{module}: {told}")
            for mutant in some:
                if fates[mutant] is Fate.SURVIVED:
                    tell(f"  survived: {mutant.name}")
        return FirstMeeting(fates, tests, [self._collected.items[number].nodeid for number in self._net.failed])

    def _meet(self, mutant: Mutant) -> Fate:
        if not self._swaps[mutant.module].put(mutant):
            return Fate.AFRESH
        fate = self._run(self._net.tests_for(mutant))
        return Fate.AFRESH if fate is Fate.SURVIVED and self._net.runs_early(mutant) else fate

    def _renew(self, numbers: Sequence[int]) -> list[int]:
        """Put the same code in place, and give the tests that fail nevertheless."""
        for swap in self._swaps.values():
            swap.renew()
        return list(self._failures(numbers))

    def _leave_out(self, failed: Sequence[int]) -> None:
        """A test that fails now and then kills what it does not see; of many, the cause is the machinery."""
        names = ", ".join(self._collected.items[number].nodeid for number in failed)
        if len(failed) > MOST_UNSTEADY:
            raise RuntimeError(f"nothing was changed, and these tests failed: {names}")
        self._net = replace(self._net, failed=[*self._net.failed, *failed])

    def _wreck(self, module: str) -> Fate:
        self._swaps[module].wreck()
        return self._run(self._net.tests_of(module))

    def _run(self, numbers: Sequence[int]) -> Fate:
        return outcome(self._failures(numbers))

    def _failures(self, numbers: Sequence[int]) -> Iterable[int]:
        for cache in self._caches:
            cache.cache_clear()
        limit = alarm(dict(enumerate(self._net.seconds)))  # a fork inherits no timers
        return self._collected.run(numbers, limit)

    def _named(self, numbers: Sequence[int]) -> Tests:
        return Tests({self._collected.items[number].nodeid: self._net.seconds[number] for number in numbers})


def meet_afresh(mutants: Sequence[Mutant], tests: Mapping[str, Tests], processes: int) -> Iterator[tuple[Mutant, Fate]]:
    """Import, collect and run, with the mutant there from the start."""
    modules = sorted({mutant.module for mutant in mutants})
    if not modules:
        return
    preload()
    whole = Tests({})
    for module in modules:
        whole |= tests[module]
    expect("nothing was changed", Fate.SURVIVED, one(lambda: _afresh({m: parse(m) for m in modules}, whole)))
    broken = {modules[0]: ast.parse("raise AssertionError('wrecked')")}
    expect(f"{modules[0]} was wrecked", Fate.KILLED, one(lambda: _afresh(broken, tests[modules[0]])))
    own = {module: tests[module].of_file(own_file(module)) for module in modules}
    for module in modules:
        fate = one(lambda module=module: _afresh({module: parse(module)}, own[module]))
        expect(f"nothing was changed in {module}", Fate.SURVIVED, fate)
    survivors = []
    # A few tests are collected in a second, all of them in five.
    for mutant, fate in each(mutants, lambda mutant: _afresh(_tree_of(mutant), own[mutant.module]), processes):
        if fate is Fate.SURVIVED:
            survivors.append(mutant)
        else:
            yield mutant, fate
    yield from each(survivors, lambda mutant: _afresh(_tree_of(mutant), tests[mutant.module]), processes)


def _tree_of(mutant: Mutant) -> Mapping[str, ast.Module]:
    return {mutant.module: mutated(mutant)}


def _afresh(trees: Mapping[str, ast.Module], tests: Tests) -> Fate:
    if not tests.seconds:
        return Fate.SURVIVED
    silence()
    for module, tree in trees.items():
        install(Afresh(module, tree))

    def then(collected: Collected) -> Never:
        numbers = {item.nodeid: number for number, item in enumerate(collected.items)}
        seconds = {numbers[name]: seconds for name, seconds in tests.seconds.items() if name in numbers}
        os._exit(outcome(collected.run(list(seconds), alarm(seconds))))

    alarm({0: IMPORT_SECONDS})(0)
    with suppress(Exception):
        collect(sorted({name.partition("::")[0] for name in tests.seconds}), then)
    return Fate.KILLED


def preload() -> None:
    """Import what takes time and is no part of us."""
    for name in ("pytest", "hypothesis", "jwt", "joserfc.jwt", "cryptography.x509", "re2", "yaml", "aiohttp"):
        __import__(name)


def outcome(failures: Iterable[int]) -> Fate:
    """Stop at the first failure. Whatever escapes from a test is one."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        return Fate.SURVIVED if next(iter(failures), None) is None else Fate.KILLED
    except BaseException:  # noqa: BLE001 - a mutant may raise anything
        return Fate.KILLED


def expect(what: str, fate: Fate, found: Fate) -> None:
    if found is not fate:
        raise RuntimeError(f"{what}, and the tests were expected to end with {fate.name}, not with {found.name}")
