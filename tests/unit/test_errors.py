"""What is wrong with a file, and where: both places of a problem go by the same names."""

from __future__ import annotations

from authz.errors import Problem
from authz.model import Source

HERE, THERE = Source("p/a.yaml", 2, 3), Source("p/b.yaml", 1, 7)


def opened(source: Source) -> Source:
    return source._replace(file=f"etc/{source.file}")


def test_a_problem_is_placed_elsewhere() -> None:
    assert str(Problem(HERE, "bad: delete it").placed(opened)) == "etc/p/a.yaml:2:3: bad: delete it"


def test_with_the_second_place_that_its_message_names() -> None:
    problem = Problem(HERE, f"as at {THERE}: keep one", other=THERE).placed(opened)
    assert str(problem) == "etc/p/a.yaml:2:3: as at etc/p/b.yaml:1:7: keep one"
    assert str(problem.placed(opened)) == "etc/etc/p/a.yaml:2:3: as at etc/etc/p/b.yaml:1:7: keep one"
