"""The faults: what is changed in a module, one change a mutant.

A mutant is made from the syntax tree: a comparison turned round, a condition negated, `and` for `or`, a constant
changed, a return value lost, a raise or a call's effect removed. Left out is what no behaviour can show, and this list
should stay short:

- annotations and `if TYPE_CHECKING`: they never run;
- the flags of `@dataclass` (`frozen`, `slots`, `kw_only`): mypy holds callers to them, and no answer depends on one;
- `assert_never(…)`: mypy proves that it is not reached;
- `return False` as `return None`: both are false to whoever asks, and mypy knows the type. `return True` is tried.
"""

from __future__ import annotations

import ast
import copy
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent.parent

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


@dataclass(frozen=True)
class Mutant:
    """One fault, and where it is: the number of its node in the tree, and the number of the change to that node."""

    module: str
    line: int
    where: str  # the function, by its qualified name; "" at the top of the module
    what: str
    lines: range  # of the statement: a test that runs none of them cannot notice
    node: int
    change: int

    @property
    def key(self) -> str:
        """Its name in survivors.txt: without the line, which moves."""
        return f"{self.module} {self.where or '(top)'}: {self.what}"

    @property
    def name(self) -> str:
        return f"{self.module}:{self.line} {self.where or '(top)'}: {self.what}"


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
        case ast.Return(value=ast.Constant(value=bool() | None)):
            pass  # the constant is changed
        case ast.Return(value=ast.expr()):
            yield ast.Return(ast.Constant(None))
        case ast.Raise():
            yield ast.Pass()
        case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):
            pass
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()


def _with(node: Any, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def mutants_of(module: str) -> list[Mutant]:
    tree = parse(module)
    untold = _untold(tree)
    places = _places(tree)
    found = []
    said: Counter[str] = Counter()
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in untold:
            continue
        for change, changed in enumerate(changes(node)):
            where, statement, lines = places[id(node)]
            what = _what(node, changed, statement)
            said[where + what] += 1
            if said[where + what] > 1:  # such as the second 1 of a statement
                what += f" (number {said[where + what]})"
            found.append(Mutant(module, getattr(node, "lineno", 0), where, what, lines, number, change))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.node))


def _what(node: ast.AST, changed: ast.AST, statement: ast.AST) -> str:
    was, now, whole = (_first_line(part) for part in (node, changed, statement))
    return f"`{was}` became `{now}`" + ("" if was == whole else f" in `{whole}`")


def _first_line(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).partition("\n")[0]


def mutated(mutant: Mutant) -> ast.Module:
    """Give the module's tree with the fault in it; lines stay where they were."""
    tree = parse(mutant.module)
    old = next(node for number, node in enumerate(ast.walk(tree)) if number == mutant.node)
    new = copy.deepcopy(list(changes(old))[mutant.change])
    return ast.fix_missing_locations(_Replace(old, new).visit(tree))


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.copy_location(self._new, node) if node is self._old else self.generic_visit(node)


_FLAGS: Final = ("frozen", "slots", "kw_only")


def _untold(tree: ast.AST) -> set[int]:
    """Give the nodes that no behaviour can show; the docstring above says which and why."""
    parts: list[ast.AST] = []
    untold: set[int] = set()
    for node in ast.walk(tree):
        parts += [part for part in (getattr(node, "annotation", None), getattr(node, "returns", None)) if part]
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            untold.add(id(node))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "dataclass":
            parts += [flag.value for flag in node.keywords if flag.arg in _FLAGS]
    return untold | {id(inner) for part in parts for inner in ast.walk(part)}


def _places(tree: ast.Module) -> dict[int, tuple[str, ast.AST, range]]:
    """Give each node's function, statement, and the lines on which the statement's own part stands."""
    places: dict[int, tuple[str, ast.AST, range]] = {}

    def visit(node: ast.AST, where: str, statement: ast.AST, lines: range) -> None:
        if isinstance(node, ast.stmt):
            statement, lines = node, _own_lines(node)
        elif isinstance(node, ast.match_case):  # a pattern is no statement, and a Match can be long
            lines = range(node.pattern.lineno, node.body[0].lineno + 1)
        places[id(node)] = where, statement, lines
        inside = f"{where}.{node.name}".lstrip(".") if isinstance(node, _NAMED) else where
        for child in ast.iter_child_nodes(node):
            visit(child, inside, statement, lines)

    visit(tree, "", tree, range(0))
    return places


_NAMED: Final = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _own_lines(statement: ast.stmt) -> range:
    """Give the lines without those of the statements inside."""
    inner: list[Any] = getattr(statement, "body", []) or [case.pattern for case in getattr(statement, "cases", [])]
    last = inner[0].lineno - 1 if inner else statement.end_lineno or statement.lineno
    return range(statement.lineno, max(last, statement.lineno) + 1)


def parse(module: str) -> ast.Module:
    return ast.parse(source_of(module))


@cache
def source_of(module: str) -> str:
    """Give the text, as it was when it was first asked for: an editor may be at work beside us."""
    return file_of(module).read_text(encoding="utf-8")


def file_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def pure_modules() -> list[str]:
    """Give the modules that the contract in pyproject.toml names."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(one["source_modules"] for one in contracts if one["name"].startswith("pure modules"))
