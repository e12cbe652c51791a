"""The short version of `make torture --only 1`: some thousands of what is a million there, in this process."""

from __future__ import annotations

import pytest

from authz import authorizer
from tests.torture import decisions


def test_no_decision_is_other_than_the_slow_models() -> None:
    tally = decisions.run(seed=1, count=4_000)
    assert tally.told == []
    assert [figure for figure in decisions.figures([tally]) if not figure.held] == []


@pytest.mark.parametrize(
    "sabotage",
    [
        pytest.param(lambda token, _="": token.split(".")[0].encode(), id="a cache that knows tokens by their header"),
        pytest.param(lambda token, _="": token.encode()[-20:], id="a cache that knows tokens by their end"),
        pytest.param(lambda token, _="": token.encode()[:-200], id="a cache that leaves out the signature"),
    ],
)
def test_a_cache_that_remembers_by_too_little_is_seen(sabotage: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorizer, "fingerprint_of", sabotage)
    tally = decisions.run(seed=2, count=3_000)
    assert tally.disagreements + tally.wrong_identities > 0
