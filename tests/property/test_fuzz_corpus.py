"""What the fuzzers found worth keeping, once more, without a fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_every_file_of_the_corpus_keeps_the_targets_promise(target: str) -> None:
    files = sorted((CORPUS / target).iterdir())
    assert len(files) >= 10
    for file in files:
        TARGETS[target](file.read_bytes())
