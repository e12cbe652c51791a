"""Broken policies, each beside the exact text that its author will read. `policy_errors/README.md` says how."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from authz.errors import LoadError
from authz.policy.parser import PolicyOptions, parse_policies

FOLDER = Path(__file__).parent / "policy_errors"
CASE = re.compile(r"^=== (?:\[(?P<tag>[a-z_0-9-]+)\] )?(?P<sentence>.*)\n(?P<body>(?s:.*?))(?=^=== |\Z)", re.MULTILINE)
FILE = re.compile(r"^>>> (?P<name>.*)\n(?P<text>(?s:.*?))(?=^>>> |\Z)", re.MULTILINE)


class Broken(NamedTuple):
    """One case: the files, how they are read, and what is said of them."""

    files: list[tuple[str, bytes]]
    options: PolicyOptions
    message: str


def cases() -> Iterator[object]:
    for path in sorted(FOLDER.glob("*.txt")):
        for match in CASE.finditer(path.read_text(encoding="utf-8")):
            case = read_case(match["tag"], match["body"])
            yield pytest.param(case, id=f"{path.stem}: {match['sentence']}")


def read_case(tag: str | None, body: str) -> Broken:
    text, _, message = ("\n" + body).rpartition("\n---\n")
    text = f"{text}\n".removeprefix("\n")
    named = [(match["name"], match["text"]) for match in FILE.finditer(text)] or [("orders.yaml", text)]
    encoding = "latin-1" if tag == "latin-1" else "utf-8"
    files = [(name, content.encode(encoding)) for name, content in named]
    return Broken(files, PolicyOptions(require_end=tag == "require_end"), message.strip("\n"))


CASES = list(cases())


@pytest.mark.parametrize("broken", CASES)
def test_message(broken: Broken) -> None:
    with pytest.raises(LoadError) as caught:
        parse_policies(broken.files, broken.options)

    assert str(caught.value) == broken.message


def test_there_are_as_many_cases_as_promised() -> None:
    assert len(CASES) >= 60


def test_every_message_says_where_and_is_one_line() -> None:
    lines = [line for case in CASES for line in case.values[0].message.splitlines()]  # type: ignore[attr-defined]
    assert [line for line in lines if not re.match(r"[a-z/]+\.yaml:[1-9]\d*:[1-9]\d*: \S", line)] == []
