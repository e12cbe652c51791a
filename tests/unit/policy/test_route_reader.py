"""The routes of a file, one after the other. What is read of each is in tests/cases."""

from __future__ import annotations

from authz.document import parse
from authz.node import Problems
from authz.policy.criterion import CriteriaContext
from authz.policy.route_reader import RouteReader
from tests.support.breaths import breaths


def test_it_stands_aside_at_every_route() -> None:
    problems = Problems()
    document = parse(20 * b"- from: https://a.example\n", "a.yaml", problems)
    assert document is not None
    reader = RouteReader(problems, CriteriaContext(), shows_details=None)
    assert breaths(lambda: reader.read_file(document, inline=False)) >= 20
    assert not problems
