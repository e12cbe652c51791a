"""`make mutants`: would the tests notice? Small faults are put into the pure modules, one at a time.

    python -m tests.mutants [MODULE …] [--at-most N] [--processes N]

A mutant is killed when a test fails. It is made from the syntax tree (a comparison turned round, a condition negated,
`and` for `or`, a constant changed, a return value lost, a raise or a call's effect removed), lives in a forked process
alone, and meets the tests of its module. The survivors that mean the same as the original stand in survivors.txt, with
the reason. `--at-most` takes an even sample of each module's mutants. Exit codes: 0 ≥ 95 % killed, 1 less.

mutmut and cosmic-ray start pytest anew for every mutant; a fork after the imports takes a fraction of that.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent.parent
RESULT: Final = ROOT / "mutants.json"
SURVIVORS: Final = Path(__file__).parent / "survivors.txt"
SECONDS: Final = 60  # of the processor, so that a busy machine kills nobody; a mutant that loops for ever needs more
LEAST: Final = 95.0  # percent

# What tests a module beside the file of its own name in tests/unit.
DECISIONS: Final = "tests/cases/test_decisions.py"
ERRORS: Final = "tests/cases/test_policy_errors.py"
BESIDE: Final[Mapping[str, Sequence[str]]] = {
    "policy": (DECISIONS, ERRORS),
    "identity": ("tests/unit/identity", "tests/unit/test_authorizer.py"),
    "transport": ("tests/unit/transport",),
    "settings": ("tests/unit/settings", "tests/unit/test_settings.py"),
    "": ("tests/unit/test_model.py", "tests/unit/test_document.py", "tests/unit/test_reasons.py", ERRORS),
}


class Mutant(NamedTuple):
    """One fault."""

    module: str
    line: int
    what: str
    source: str

    @property
    def name(self) -> str:
        return f"{self.module}:{self.line}: {self.what}"


SWAPS: Final[Mapping[type[ast.AST], type[ast.AST]]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Give every fault of one node."""
    match node:
        case ast.Compare(ops=[operator]) if type(operator) in SWAPS:
            yield _with(node, ops=[SWAPS[type(operator)]()])
        case ast.BoolOp():
            yield _with(node, op=SWAPS[type(node.op)]())
        case ast.BinOp() if type(node.op) in SWAPS:
            yield _with(node, op=SWAPS[type(node.op)]())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.If() | ast.IfExp() | ast.While():
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value + 1)
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield ast.Return(ast.Constant(None))
        case ast.Raise():
            yield ast.Pass()
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()


def _with(node: Any, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.copy_location(self._new, node) if node is self._old else self.generic_visit(node)


def mutants_of(module: str) -> Iterator[Mutant]:
    """Give every mutant of a module; annotations and TYPE_CHECKING never run, so they are left alone."""
    tree = ast.parse(file_of(module).read_text())
    plain = {
        id(inner)
        for node in ast.walk(tree)
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if part is not None
        for inner in ast.walk(part)
    }
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in plain or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            continue
        for change in changes(node):
            copied = copy.deepcopy(tree)
            old = next(found for number, found in enumerate(ast.walk(copied)) if number == place)
            # What a change holds of the original must not be shared with the tree that it goes into.
            mutated = ast.fix_missing_locations(_Replace(old, copy.deepcopy(change)).visit(copied))
            was, now = (ast.unparse(part).partition("\n")[0] for part in (node, ast.fix_missing_locations(change)))
            yield Mutant(module, getattr(node, "lineno", 0), f"`{was}` became `{now}`", ast.unparse(mutated))


def file_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def tests_of(module: str) -> list[str]:
    _, *folders, name = module.split(".")
    folder = folders[0] if folders else ""
    own = ROOT / "tests" / "unit" / folder / f"test_{name}.py"
    found = [str(own.relative_to(ROOT))] if own.is_file() else []
    return [*found, *BESIDE[folder]]


class _Source(SourceFileLoader):
    """Loads the module from the mutant's text, and never from or to a cache."""

    def __init__(self, mutant: Mutant) -> None:
        super().__init__(mutant.module, str(file_of(mutant.module)))
        self._mutant = mutant

    def get_code(self, fullname: str) -> Any:
        return compile(self._mutant.source, str(file_of(fullname)), "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        loader: Loader = _Source(self._mutant)
        return spec_from_file_location(fullname, file_of(fullname), loader=loader)


def survives(mutant: Mutant) -> bool:
    """Let the tests meet it, in a forked process. A hanging or dying one is killed."""
    child = os.fork()
    if child == 0:
        _meet(mutant)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _meet(mutant: Mutant) -> None:
    """Run the tests, and end with 0 where all of them pass."""
    code = 1
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        import pytest  # noqa: PLC0415 - loaded before the fork

        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        sys.meta_path.insert(0, _Finder(mutant))
        options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header"]
        code = int(pytest.main([*options, *tests_of(mutant.module)]))
    finally:
        os._exit(code)


def preload() -> None:
    """Import what takes time and is no part of us."""
    for name in ("pytest", "jwt", "joserfc.jwt", "cryptography.x509", "re2", "yaml"):
        __import__(name)


def pure_modules() -> list[str]:
    """Give the modules that the contract in pyproject.toml names."""
    import tomllib  # noqa: PLC0415

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(one["source_modules"] for one in contracts if one["name"].startswith("pure modules"))


def sampled(mutants: list[Mutant], at_most: int | None) -> list[Mutant]:
    """Give an even sample."""
    if at_most is None or len(mutants) <= at_most:
        return mutants
    return [mutants[number * len(mutants) // at_most] for number in range(at_most)]


def known_survivors() -> set[str]:
    """Give those that mean the same: `module: what`, without the line, which moves."""
    lines = SURVIVORS.read_text().splitlines() if SURVIVORS.is_file() else []
    return {line for line in lines if line and not line.startswith(("#", " "))}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="default: every pure module")
    parser.add_argument("--at-most", type=int, help="mutants of a module, an even sample")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    preload()
    rows = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    known = known_survivors()
    modules = options.modules or pure_modules()
    for module in modules:
        mutants = list(mutants_of(module))
        taken = sampled(mutants, options.at_most)
        if not survives(Mutant(module, 0, "nothing", file_of(module).read_text())):
            raise SystemExit(f"{module}: its tests fail as it is, so they say nothing about its mutants")
        with ThreadPoolExecutor(options.processes) as threads:
            survived = [one for one, lives in zip(taken, threads.map(survives, taken), strict=True) if lives]
        open_ones = [one.name for one in survived if f"{one.module}: {one.what}" not in known]
        same = len(survived) - len(open_ones)
        rows[module] = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "mutants": len(mutants),
            "met": len(taken),
            "killed": len(taken) - len(survived),
            "same": same,
            "survivors": open_ones,
        }
        RESULT.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        print(f"{module}: {len(taken) - len(survived)} of {len(taken)} killed", file=sys.stderr, flush=True)
        for name in open_ones:
            print(f"  survived: {name}", file=sys.stderr, flush=True)
    print(table({module: rows[module] for module in modules}))
    return 0 if share_killed([rows[module] for module in modules]) >= LEAST else 1


def table(rows: Mapping[str, Any]) -> str:
    lines = ["| module | mutants | met | killed | mean the same | survived |", "| --- | --- | --- | --- | --- | --- |"]
    for module, row in rows.items():
        cells = (row["mutants"], row["met"], row["killed"], row["same"], len(row["survivors"]))
        lines.append(f"| {module} | {' | '.join(map(str, cells))} |")
    lines.append(f"\n{share_killed(list(rows.values())):.1f} % killed, at least {LEAST:.0f} %")
    return "\n".join(lines)


def share_killed(rows: Sequence[Mapping[str, Any]]) -> float:
    """Give the percentage, of those that are other programs at all."""
    met = sum(row["met"] - row["same"] for row in rows)
    return 100 * sum(row["killed"] for row in rows) / met if met else 0.0


if __name__ == "__main__":
    sys.exit(main())
