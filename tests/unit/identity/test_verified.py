from __future__ import annotations

import pytest

from authz.identity.cognito import Verified, peek, verify
from authz.identity.keys import KeySet
from authz.identity.verified import BYTES_PER_CHARACTER, ENTRY_BYTES, VerifiedTokens, fingerprint_of
from authz.model import Principal
from tests.support.user_pool import LIFETIME, NOW, FakeUserPool


class Situation:
    """A pool, its key set in force, and one verified token."""

    def __init__(self) -> None:
        self.pool = FakeUserPool()
        self.keys = KeySet(self.pool.keys)
        self.current: KeySet | None = self.keys
        self.token = self.pool.token()
        self.verified = self.verify(self.token)

    def verify(self, token: str) -> Verified:
        unverified = peek(token)
        return verify(unverified, self.pool.keys[unverified.kid], self.pool.trust(), NOW)

    def remember(self, tokens: VerifiedTokens, token: str, beside: str = "") -> None:
        tokens.add(fingerprint_of(token, beside), self.verified, self.keys, self, len(token + beside))


def find(tokens: VerifiedTokens, token: str, now: float, beside: str = "") -> Principal | None:
    return tokens.find(fingerprint_of(token, beside), now)


@pytest.fixture
def situation() -> Situation:
    return Situation()


@pytest.fixture
def tokens(situation: Situation) -> VerifiedTokens:
    tokens = VerifiedTokens(max_entries=3, max_bytes=1_000_000)
    situation.remember(tokens, situation.token)
    return tokens


def test_a_token_added_is_found(situation: Situation, tokens: VerifiedTokens) -> None:
    assert find(tokens, situation.token, NOW) is situation.verified.principal


@pytest.mark.parametrize(
    ("now", "is_found"),
    [
        pytest.param(NOW - 61, False, id="before a minute before iat"),
        pytest.param(NOW - 60, True, id="a minute before iat"),
        pytest.param(NOW + LIFETIME - 1, True, id="a second before exp"),
        pytest.param(NOW + LIFETIME, False, id="exp itself"),
        pytest.param(float("nan"), False, id="no number"),
    ],
)
def test_is_found_only_within_its_times(
    situation: Situation, tokens: VerifiedTokens, now: float, is_found: bool
) -> None:
    assert (find(tokens, situation.token, now) is not None) is is_found
    assert len(tokens) == is_found  # and dropped when met otherwise


@pytest.mark.parametrize("place", [0, 50, -1], ids=["header", "payload", "signature"])
def test_another_spelling_is_another_token(situation: Situation, tokens: VerifiedTokens, place: int) -> None:
    characters = list(situation.token)
    characters[place] = "A" if characters[place] != "A" else "Q"
    assert find(tokens, "".join(characters), NOW) is None
    assert len(tokens) == 1


def test_the_fingerprint_is_the_whole_hash_of_each_token() -> None:
    """Cut short, strangers could look for a token that falls together with somebody's. `printf a | sha256sum`."""
    a = bytes.fromhex("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")
    b = bytes.fromhex("3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d")
    assert fingerprint_of("a") == a
    assert fingerprint_of("a", "b") == a + b


def test_a_new_key_set_forgets_what_the_old_one_verified(situation: Situation, tokens: VerifiedTokens) -> None:
    situation.current = KeySet(situation.pool.keys)  # the same keys, another generation
    assert find(tokens, situation.token, NOW) is None
    situation.current = situation.keys
    assert find(tokens, situation.token, NOW) is None  # gone, not hidden


def test_no_key_set_in_force_forgets_too(situation: Situation, tokens: VerifiedTokens) -> None:
    situation.current = None
    assert find(tokens, situation.token, NOW) is None


def test_adding_again_under_a_new_key_set_replaces_the_old_entry(situation: Situation, tokens: VerifiedTokens) -> None:
    situation.keys = situation.current = KeySet(situation.pool.keys)
    situation.remember(tokens, situation.token)
    assert find(tokens, situation.token, NOW) is situation.verified.principal
    assert len(tokens) == 1


def test_the_one_unused_for_longest_leaves_first(situation: Situation, tokens: VerifiedTokens) -> None:
    for name in ("b", "c"):
        situation.remember(tokens, name)
    assert find(tokens, situation.token, NOW) is not None
    situation.remember(tokens, "d")
    assert [name for name in (situation.token, "b", "c", "d") if find(tokens, name, NOW)] == [situation.token, "c", "d"]


def test_bytes_are_bounded(situation: Situation) -> None:
    tokens = VerifiedTokens(max_entries=1000, max_bytes=2 * (ENTRY_BYTES + 10 * BYTES_PER_CHARACTER))
    for number in range(5):
        situation.remember(tokens, f"{number:010}")
    assert len(tokens) == 2
    situation.remember(tokens, "x" * 16_000)  # larger than all there is
    assert len(tokens) == 0
    for number in range(5):
        situation.remember(tokens, f"{number:010}")
    assert len(tokens) == 2  # the count of bytes did not drift


def test_adding_again_counts_its_bytes_once(situation: Situation) -> None:
    tokens = VerifiedTokens(max_entries=10, max_bytes=2 * (ENTRY_BYTES + 10 * BYTES_PER_CHARACTER))
    for _ in range(5):
        situation.remember(tokens, "a" * 10)
    situation.remember(tokens, "b" * 10)
    assert len(tokens) == 2


def test_no_entries_allowed_remembers_nothing(situation: Situation) -> None:
    tokens = VerifiedTokens(max_entries=0, max_bytes=1_000_000)
    situation.remember(tokens, situation.token)
    assert find(tokens, situation.token, NOW) is None


def test_what_no_utf_8_can_hold_is_unknown(tokens: VerifiedTokens) -> None:
    assert find(tokens, "\ud800", NOW) is None


def test_shows_nothing(situation: Situation, tokens: VerifiedTokens) -> None:
    assert repr(next(iter(tokens._entries.values()))) == "_Entry(…)"
    assert situation.token not in repr(vars(tokens))


class TestTwoTokens:
    """An access token and the ID token beside it."""

    @pytest.mark.parametrize(
        ("token", "beside"),
        [("access", ""), ("id", ""), ("access", "other"), ("other", "id"), ("id", "access"), ("accessid", "")],
    )
    def test_neither_is_found_without_the_other(self, situation: Situation, token: str, beside: str) -> None:
        tokens = VerifiedTokens(max_entries=3, max_bytes=1_000_000)
        situation.remember(tokens, "access", "id")
        assert find(tokens, "access", NOW, "id") is situation.verified.principal
        assert find(tokens, token, NOW, beside) is None
        assert len(tokens) == 1

    def test_one_alone_is_not_found_as_two(self, situation: Situation) -> None:
        tokens = VerifiedTokens(max_entries=3, max_bytes=1_000_000)
        situation.remember(tokens, "access")
        assert find(tokens, "access", NOW, "id") is None

    def test_both_are_counted_in_bytes(self, situation: Situation) -> None:
        tokens = VerifiedTokens(max_entries=9, max_bytes=ENTRY_BYTES + 10 * BYTES_PER_CHARACTER)
        situation.remember(tokens, "x" * 5, "y" * 5)
        assert len(tokens) == 1
        situation.remember(tokens, "x" * 5, "y" * 6)
        assert len(tokens) == 0
