"""Logs cannot hurt: a short run of what `make torture` does at length."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.torture import logs

CHECKS: Final = 300


@pytest.mark.parametrize("output", logs.OUTPUTS)
def test_decisions_keep_coming_and_every_line_is_written_or_counted(output: str, tmp_path: Path) -> None:
    written = logs.decide_with(output, tmp_path / output, CHECKS)
    assert written.wrong == 0
    assert written.read + written.dropped >= CHECKS
    assert (written.dropped > 0) == (output != "blocked")  # a blocked one holds 10,000 lines before it loses any


@pytest.mark.parametrize("voice", logs.VOICES[:2], ids=lambda voice: f"{voice['level']}, {voice['format']}")
def test_a_canary_is_never_written(voice: Mapping[str, str], tmp_path: Path) -> None:
    searched = logs.search(tmp_path, voice, every=3)
    assert searched.found == []
    assert searched.requests > 300


@pytest.mark.parametrize("fault", logs.QUOTING)
def test_nor_when_an_exception_quotes_the_request(fault: str, tmp_path: Path) -> None:
    searched = logs.search(tmp_path, logs.VOICES[0], fault, every=30)
    assert searched.found == []
    assert searched.requests > 30


def test_nor_by_the_tools_for_people(tmp_path: Path) -> None:
    assert logs.search_tools(tmp_path, every=4).found == []


def test_what_the_configuration_asks_for_is_found(tmp_path: Path) -> None:
    voice = {**logs.VOICES[0], "explain_values": True}
    assert logs.search(tmp_path, voice).found


def test_the_search_would_find_it() -> None:
    word = logs.canary()
    encoded = [logs.base64.urlsafe_b64encode(b"x" * shift + word.encode() + b"yz").decode() for shift in range(3)]
    for text in (word, word.upper(), *encoded):
        assert logs.leaks(word, f"before {text} after")
    assert not logs.leaks(word, f"before {logs.canary()} after")
