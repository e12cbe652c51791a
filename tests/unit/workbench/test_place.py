"""A field that is spelled both ways at once: Envoy takes either, and then either counts."""

from __future__ import annotations

import pytest

from authz.document import parse
from authz.node import Problems
from authz.workbench.doctor.place import Place, written_twice


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("{max_age: 1, maxAge: 2}", [("maxAge", "max_age")], id="both"),
        pytest.param("{maxAge: 1, max_age: 2}", [("max_age", "maxAge")], id="the later one is told"),
        pytest.param("{max_age: 1, min_age: 2}", [], id="two fields"),
        pytest.param("{max_age: 1, maxAge: null}", [], id="null is nothing"),
        pytest.param("{max_age: null, maxAge: 1}", [], id="nothing before the other"),
        pytest.param("{a: {max_age: 1, maxAge: 2}}", [("a.maxAge", "max_age")], id="in a message"),
        pytest.param("{a: [{b: 1}, {max_age: 1, maxAge: 2}]}", [("a[1].maxAge", "max_age")], id="in a list"),
        pytest.param("{filter_metadata: {max_age: 1, maxAge: 2}}", [], id="keys that are no fields"),
        pytest.param("{contextExtensions: {max_age: 1, maxAge: 2}}", [], id="keys that are no fields, in camel case"),
    ],
)
def test_a_field_that_is_written_twice(text: str, told: list[tuple[str, str]]) -> None:
    node = parse(text.encode(), "envoy.yaml", Problems())
    assert node is not None
    found = written_twice(Place(node, node.source))
    assert [(place.path.removeprefix("."), other) for place, other in found] == told
