"""`make mutants` says how much the tests notice, so it must notice itself: here with small modules and a few tests."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, SimpleNamespace

import pytest

from tests.mutants import faults, placing, processes
from tests.mutants.__main__ import SURVIVORS
from tests.mutants.collected import SLACK_SECONDS, SLACK_TIMES, alarm
from tests.mutants.faults import Mutant, mutants_of, mutated
from tests.mutants.net import LONGEST_SECONDS, MOST_SECONDS, Net
from tests.mutants.placing import Swap, compile_tree
from tests.mutants.processes import Fate, each, forked, one
from tests.mutants.report import as_promise, share_killed, table
from tests.torture.__main__ import render

SOURCE = '''
from __future__ import annotations
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never

if TYPE_CHECKING:
    import ast

LIMIT: Final = 8


@dataclass(frozen=True, slots=True)
class Box:
    """A thing that holds 3."""

    size: int = field(default=2, repr=False)

    def fits(self, other: Box | None = None) -> bool:
        return other is not None and other.size < self.size


def checker(limit: int):
    def check(value: int) -> int:
        if value > limit:
            raise ValueError(value)
        return value

    return check


check = checker(LIMIT)
'''

DECLARING = '''
from typing import Protocol


class Shape(Protocol):
    @property
    def size(self) -> int:
        """How large it is."""
'''


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(faults, "source_of", {"authz.box": SOURCE}.__getitem__)
    return "authz.box"


def living(module: str) -> SimpleNamespace:
    names: dict[str, object] = {"__name__": __name__}
    exec(compile_tree(faults.parse(module), module), names)
    return SimpleNamespace(**names)


def whats(module: str) -> set[str]:
    return {f"{mutant.where}: {mutant.what}" for mutant in mutants_of(module)}


def test_each_fault_is_named_by_its_function_and_statement(module: str) -> None:
    answer = "return other is not None and other.size < self.size"
    field = "size: int = field(default=2, repr=False)"
    assert whats(module) == {
        ": `8` became `9` in `LIMIT: Final = 8`",
        f"Box: `2` became `3` in `{field}`",
        f"Box: `False` became `True` in `{field}`",
        f"Box.fits: `{answer}` became `return None`",
        f"Box.fits: `{answer[7:]}` became `{answer[7:].replace('and', 'or')}` in `{answer}`",
        f"Box.fits: `other is not None` became `other is None` in `{answer}`",
        f"Box.fits: `other.size < self.size` became `other.size <= self.size` in `{answer}`",
        "checker.check: `if value > limit:` became `if not value > limit:`",
        "checker.check: `value > limit` became `value >= limit` in `if value > limit:`",
        "checker.check: `raise ValueError(value)` became `pass`",
        "checker.check: `return value` became `return None`",
        "checker: `return check` became `return None`",
    }


def test_what_no_behaviour_can_show_is_left_out(module: str) -> None:
    assert not [what for what in whats(module) if "TYPE_CHECKING" in what or "frozen" in what or "slots" in what]


def test_the_same_words_twice_in_a_function_have_two_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "source_of", {"authz.pair": "PAIR = (1, 1)"}.__getitem__)
    assert [mutant.key for mutant in mutants_of("authz.pair")] == [
        "authz.pair (top): `1` became `2` in `PAIR = (1, 1)`",
        "authz.pair (top): `1` became `2` in `PAIR = (1, 1)` (number 2)",
    ]


def test_every_mutant_of_a_module_is_another_program(module: str) -> None:
    original = ast.dump(faults.parse(module))
    dumps = [ast.dump(mutated(mutant)) for mutant in mutants_of(module)]
    assert original not in dumps
    assert len(set(dumps)) == len(dumps)


def test_a_fault_knows_the_lines_that_a_test_must_run(module: str) -> None:
    lines = SOURCE.splitlines()
    assert lines[find(module, "other.size < self").line - 1].strip().startswith("return other is not None")
    assert [*find(module, "`if value > limit").lines] == [lines.index("        if value > limit:") + 1]


def find(module: str, words: str) -> Mutant:
    return next(mutant for mutant in mutants_of(module) if words in mutant.what)


class TestSwap:
    """A mutant is put into the functions that live."""

    def test_a_method_changes_for_whoever_holds_it(self, module: str) -> None:
        box = living(module)
        fits = box.Box(3).fits
        assert put(module, "other.size < self.size` became `other.size <= self", box.Box.fits)
        assert fits(box.Box(3))

    def test_a_closure_changes_too(self, module: str) -> None:
        box = living(module)
        assert put(module, "`value > limit` became", box.checker, box.check)
        with pytest.raises(ValueError, match="8"):
            box.check(8)

    def test_a_closure_that_would_need_other_variables_is_for_afresh(self, module: str) -> None:
        box = living(module)
        assert not put(module, "`if value > limit", lambda: box.check)

    @pytest.mark.parametrize("words", ["`8` became `9`", "`2` became `3`"])
    def test_what_no_function_holds_is_for_afresh(self, module: str, words: str) -> None:
        box = living(module)
        assert not put(module, words, box.Box.fits, box.checker, box.check)

    def test_what_only_declares_is_no_function(self, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
        assert swap(module, living(module).Box.fits).has_functions
        monkeypatch.setattr(faults, "source_of", {module: DECLARING}.__getitem__)
        assert not swap(module, living(module).Shape.size.fget).has_functions

    def test_a_wrecked_module_raises(self, module: str) -> None:
        box = living(module)
        swap(module, box.Box.fits, box.check).wreck()
        for call in (box.Box(1).fits, lambda: box.check(1)):
            with pytest.raises(AssertionError, match="wrecked"):
                call()

    def test_a_renewed_module_does_what_it_did(self, module: str) -> None:
        box = living(module)
        swap(module, box.Box.fits, box.check).renew()
        assert (box.Box(1).fits(box.Box(0)), box.check(8)) == (True, 8)


def swap(module: str, *functions: FunctionType) -> Swap:
    return Swap(module, {function.__code__: [function] for function in functions})


def put(module: str, words: str, *functions: FunctionType) -> bool:
    return swap(module, *functions).put(find(module, words))


def test_afresh_loads_the_fault_and_finds_nothing_else(module: str) -> None:
    finder = placing.Afresh(module, mutated(find(module, "`8` became `9`")))
    assert finder.find_spec("authz.other", None) is None
    spec = finder.find_spec(module, None)
    assert spec is not None
    assert spec.loader is not None
    loaded = SimpleNamespace()
    exec(spec.loader.get_code(module), loaded.__dict__)  # type: ignore[attr-defined]
    assert loaded.LIMIT == 9


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")  # Python 3.12, under xdist
class TestProcesses:
    """A mutant that hangs or crashes is killed; what breaks in the machinery is told, and is no kill."""

    def test_a_fate_is_how_the_process_ends(self) -> None:
        ways: dict[str, Callable[[], Fate]] = {
            "lives": lambda: Fate.SURVIVED,
            "fails": lambda: Fate.KILLED,
            "dies": lambda: os.kill(os.getpid(), 9),  # type: ignore[dict-item,return-value]
        }
        fates = dict(each(ways, lambda way: ways[way](), processes=2))
        assert fates == {"lives": Fate.SURVIVED, "fails": Fate.KILLED, "dies": Fate.KILLED}

    def test_a_defect_ends_the_run_and_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with (tmp_path / "told").open("w") as told, monkeypatch.context() as patch:
            patch.setattr(processes, "PERSON", told)
            with pytest.raises(RuntimeError, match="the machinery failed at 1"):
                dict(each([1], lambda _: 1 / 0, processes=1))  # type: ignore[arg-type,return-value]
        assert "ZeroDivisionError" in (tmp_path / "told").read_text()

    def test_a_value_comes_back(self) -> None:
        assert forked(lambda deliver: deliver({"a": 1})) == {"a": 1}

    def test_a_process_that_tells_nothing_is_a_defect(self) -> None:
        with pytest.raises(RuntimeError, match="told nothing"):
            forked(lambda _deliver: None)

    def test_a_test_that_loops_is_ended(self) -> None:
        def loop() -> Fate:
            alarm({0: -SLACK_SECONDS / SLACK_TIMES + 0.001})(0)
            while True:
                pass

        assert one(loop) is Fate.KILLED


def test_the_share_leaves_out_what_is_the_same_program() -> None:
    rows = {"authz.box": {"mutants": 50, "met": 20, "killed": 18, "same": 1, "survivors": ["authz.box:3 f: x"]}}
    assert share_killed([*rows.values()]) == pytest.approx(100 * 18 / 19)
    assert "| authz.box | 50 | 20 | 18 | 1 | 1 |" in table(rows)
    assert "94.7 % killed" in table(rows)


def test_the_table_of_all_promises_has_a_row_for_it() -> None:
    row = {"date": "2026-11-25", "mutants": 40, "met": 40, "killed": 38, "same": 1, "survivors": ["x"]}
    rendered = render({"14": as_promise({"authz.box": row, "authz.lid": {**row, "date": "2026-11-24"}})})
    assert rendered.splitlines()[-1] == (
        "| 14 | tests would notice | mutants killed of 78, in 2 pure modules "
        "| 97.4 % (76; 2 survived, 2 mean the same) | ≥ 95 % | yes | 2026-11-24 |"
    )


def test_every_excuse_has_a_reason() -> None:
    lines = [line for line in SURVIVORS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    excused = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert excused
    assert all(lines[number + 1 : number + 2] and lines[number + 1].startswith("    ") for number in excused)


def test_after_the_own_file_the_quickest_of_each_file_comes_first() -> None:
    files = ["test_other.py", "test_other.py", "test_third.py", "test_box.py", "test_slow.py"]
    seconds = [0.1, 0.2, 0.3, 0.4, LONGEST_SECONDS + 1]
    net = Net({"authz.box": {7: 0b11111}}, files, seconds, failed=(), early={})
    assert net.tests_of("authz.box") == [3, 0, 2, 1]


def test_no_more_tests_than_fit_the_time() -> None:
    count = 2 * int(MOST_SECONDS)
    net = Net({"authz.box": {7: 2**count - 1}}, [f"test_{n}.py" for n in range(count)], [1.0] * count, (), {})
    assert len(net.tests_of("authz.box")) == MOST_SECONDS
