"""A refusal comes again for the very token, while nothing that it rests on has changed; nobody is let in by it."""

from __future__ import annotations

from typing import Any

import pytest

from authz.errors import TokenError
from authz.identity.keys import KeySet
from authz.identity.refused import LASTING, RefusedTokens
from authz.identity.verified import fingerprint_of
from authz.model import TOKEN_REASONS, Reason

KEYS = KeySet({})
NOW = 1_000.0


class Current:
    """The keys that a pool has."""

    def __init__(self, keys: KeySet | None = KEYS) -> None:
        self.current = keys


def refused(refusals: RefusedTokens, token: str, now: float = NOW, kind: str = "credential") -> Reason | None:
    try:
        refusals.check(fingerprint_of(token), kind, now)
    except TokenError as error:
        return error.reason
    return None


def with_one(reason: Reason = Reason.TOKEN_SIGNATURE_INVALID, **changes: Any) -> tuple[RefusedTokens, Current]:
    refusals, current = RefusedTokens(**changes), Current()
    refusals.add(fingerprint_of("bad"), "credential", TokenError(reason, "why"), NOW, KEYS, current)
    return refusals, current


@pytest.mark.parametrize("reason", sorted(LASTING))
def test_the_same_token_is_refused_for_the_same_reason(reason: Reason) -> None:
    refusals, _ = with_one(reason)
    with pytest.raises(TokenError, match="why") as caught:
        refusals.check(fingerprint_of("bad"), "credential", NOW + 1)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("reason", "later", "detail"),
    [
        (Reason.TOKEN_EXPIRED, 0.9, "expired 2 s ago"),
        (Reason.TOKEN_EXPIRED, 1.0, "expired 2 s ago, when it was first refused 1 s before"),
        (Reason.TOKEN_EXPIRED, 60.0, "expired 2 s ago, when it was first refused 60 s before"),
        (Reason.TOKEN_SIGNATURE_INVALID, 60.0, "expired 2 s ago"),  # no other is about the time
    ],
)
def test_how_long_ago_it_expired_stays_true(reason: Reason, later: float, detail: str) -> None:
    refusals = RefusedTokens()
    refusals.add(fingerprint_of("bad"), "credential", TokenError(reason, "expired 2 s ago"), NOW, KEYS, Current())
    with pytest.raises(TokenError) as caught:
        refusals.check(fingerprint_of("bad"), "credential", NOW + later)
    assert caught.value.detail == detail


@pytest.mark.parametrize("reason", sorted({*TOKEN_REASONS, Reason.KEYS_UNAVAILABLE} - LASTING))
def test_what_may_turn_better_is_judged_every_time(reason: Reason) -> None:
    refusals, _ = with_one(reason)
    assert len(refusals) == 0


def test_another_token_or_the_same_in_another_place_is_judged() -> None:
    refusals, _ = with_one()
    assert refused(refusals, "bad2") is None
    assert refused(refusals, "bad", kind="beside") is None


def test_new_keys_end_it() -> None:
    refusals, current = with_one()
    current.current = KeySet({})
    assert refused(refusals, "bad") is None


def test_a_clock_set_back_ends_it() -> None:
    refusals, _ = with_one(Reason.TOKEN_EXPIRED)
    assert refused(refusals, "bad", NOW - 0.1) is None
    assert refused(refusals, "bad", NOW) is Reason.TOKEN_EXPIRED


def test_the_oldest_leaves_first_and_one_that_comes_again_is_new() -> None:
    refusals, _ = with_one(max_entries=2)
    error = TokenError(Reason.TOKEN_MALFORMED, "x")
    for token in ("second", "bad", "third"):
        refusals.add(fingerprint_of(token), "credential", error, NOW, None, None)
    assert len(refusals) == 2
    assert [refused(refusals, token) for token in ("second", "bad", "third")] == [None, error.reason, error.reason]
