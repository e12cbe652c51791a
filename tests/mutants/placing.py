"""Two ways to put a mutant in place.

`Swap` gives the living functions of an imported module other code: whoever imported them by name meets the mutant, and
nothing is imported or collected again. It reaches what stands in a function's body. `Afresh` loads the module from the
mutated tree when it is first imported: slower, for everything else.
"""

from __future__ import annotations

import ast
import gc
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from types import CodeType, FunctionType
from typing import Any, Final

from tests.mutants.faults import Mutant, file_of, mutated, parse

Key = tuple[str, int, int]  # qualified name, first line, and which of several lambdas on it


def _declared() -> None:
    """Do nothing, as what stands in a Protocol."""


_DECLARED: Final = _declared.__code__.co_code


class Swap:
    """The living functions of a module, by their code."""

    def __init__(self, module: str, functions: Mapping[CodeType, list[FunctionType]]) -> None:
        self._module = module
        self._codes = codes(compile_tree(parse(module), module))
        self._living = {key: functions.get(code, []) for key, code in self._codes.items()}

    @property
    def has_functions(self) -> bool:
        """A module of constants has none, and what only declares is none: no test runs it, so none would fail.

        All mutants of such a module must be there from the import on.
        """
        return any(one.__code__.co_code != _DECLARED for living in self._living.values() for one in living)

    def put(self, mutant: Mutant) -> bool:
        """Say whether it could be put in place so."""
        return self._replace(codes(compile_tree(mutated(mutant), self._module)))

    def renew(self) -> None:
        """Put the same code in place once more: what every test must pass."""
        for key, code in codes(compile_tree(parse(self._module), self._module)).items():
            for function in self._living[key]:
                function.__code__ = code

    def wreck(self) -> None:
        """Let every function raise: what no test may pass."""
        for functions in self._living.values():
            for function in functions:
                function.__code__ = _wrecked(function.__code__)

    def _replace(self, new: Mapping[Key, CodeType]) -> bool:
        changed = [key for key, code in self._codes.items() if new.get(key) != code]
        found = [(function, new.get(key)) for key in changed for function in self._living[key]]
        if not any(code is not None for _, code in found):
            return False
        if any(code is None or code.co_freevars != function.__code__.co_freevars for function, code in found):
            return False
        for function, code in found:
            assert code is not None
            function.__code__ = code
        return True


def swaps(modules: Sequence[str]) -> dict[str, Swap]:
    """Find the living functions of these modules."""
    by_file: dict[str, dict[CodeType, list[FunctionType]]] = {str(file_of(module)): {} for module in modules}
    for found in gc.get_objects():
        if isinstance(found, FunctionType) and found.__code__.co_filename in by_file:
            by_file[found.__code__.co_filename].setdefault(found.__code__, []).append(found)
    return {module: Swap(module, by_file[str(file_of(module))]) for module in modules}


def compile_tree(tree: ast.Module, module: str) -> CodeType:
    return compile(tree, str(file_of(module)), "exec", dont_inherit=True)


def codes(code: CodeType) -> dict[Key, CodeType]:
    """Give the code of every function in it, at any depth."""
    found: dict[Key, CodeType] = {}
    count: Counter[tuple[str, int]] = Counter()
    for inner in _inside(code):
        place = (inner.co_qualname, inner.co_firstlineno)
        found[*place, count[place]] = inner
        count[place] += 1
    return found


def _inside(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inside(constant)


def _wrecked(code: CodeType) -> CodeType:
    def wrecked(*_arguments: Any, **_named: Any) -> None:
        raise AssertionError("wrecked")

    return wrecked.__code__.replace(co_freevars=code.co_freevars)


class Afresh(MetaPathFinder):
    """Finds one module, and loads it from a tree; never from or to a cache."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        self._module, self._tree = module, tree

    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        loader = _Loader(fullname, compile_tree(self._tree, fullname))
        return spec_from_file_location(fullname, file_of(fullname), loader=loader)


class _Loader(SourceFileLoader):
    def __init__(self, module: str, code: CodeType) -> None:
        super().__init__(module, str(file_of(module)))
        self._code = code

    def get_code(self, _fullname: str) -> CodeType:
        return self._code


def install(finder: Afresh) -> None:
    sys.meta_path.insert(0, finder)
