"""A key set is its generation, not what it holds."""

from __future__ import annotations

from authz.identity.keys import KeySet
from tests.support.user_pool import FakeUserPool


def test_the_same_keys_of_another_generation_are_another_set() -> None:
    keys = FakeUserPool().keys
    assert KeySet(keys) != KeySet(keys)


def test_shows_no_key() -> None:
    assert repr(KeySet(FakeUserPool().keys)) == "KeySet()"
