"""JSON that two programs could read differently is not read."""

from __future__ import annotations

import pytest

from authz.identity.strict_json import parse_json


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, 2.5, "x", true, null]}', {"a": [1, 2.5, "x", True, None]}),
        (b' \t\r\n{"a":1}\n', {"a": 1}),
        ('"ä€"'.encode(), "ä€"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (b"[]", []),
    ],
    ids=["an object", "blanks around it", "UTF-8", "a surrogate pair", "a list"],
)
def test_one_value_is_read(data: bytes, value: object) -> None:
    assert parse_json(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  ",
        b'{"a": 1, "a": 1}',
        b'[{"a": 1, "a": 2}]',
        b'{"a": NaN}',
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[-1e999]",
        b"{} {}",
        b"{}x",
        b"\xef\xbb\xbf{}",
        b"\xa0{}",
        b'"\xff"',
        rb'"\ud800"',
        rb'"\uD800"',
        rb'{"\udc00": 1}',
        b"[" * 100_000,
        b"[" + b"1" * 5_000 + b"]",
        b"{'a': 1}",
        b"[1,]",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_anything_else_is_not(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever its words, which nobody is shown
        parse_json(data)
