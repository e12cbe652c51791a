from __future__ import annotations

import gc
import sys
import weakref

import pytest

from authz.policy.quiet import TURN_SECONDS, let_go, quietly
from tests.support.policies import policy_set


def test_turns_are_short_and_nothing_is_collected_meanwhile() -> None:
    before = sys.getswitchinterval()
    with quietly():
        assert sys.getswitchinterval() == pytest.approx(TURN_SECONDS)
        assert not gc.isenabled()
    assert sys.getswitchinterval() == pytest.approx(before)
    assert gc.isenabled()


def test_all_is_as_before_after_a_failure() -> None:
    before = sys.getswitchinterval()
    with pytest.raises(KeyError), quietly():
        raise KeyError
    assert sys.getswitchinterval() == pytest.approx(before)
    assert gc.isenabled()


def test_what_is_let_go_is_freed_without_the_collector() -> None:
    policies = policy_set("- {from: 'https://a.example', allowed_idp_claims: {'cognito:groups': [admins]}}\n")
    gone = weakref.ref(policies.routes.routes[0].policy.allow[0].criteria[0].test)
    sets = [policies]
    del policies
    gc.disable()
    try:
        let_go(sets)
        assert gone() is None  # no cycle keeps it: the collector, which no longer looks here, is not needed
    finally:
        gc.enable()
    assert sets == []


def test_garbage_of_before_is_not_kept_for_good() -> None:
    class Knot:
        """Refers to itself, so that only the collector frees it."""

    knot = Knot()
    knot.itself = knot  # type: ignore[attr-defined]
    gone = weakref.ref(knot)
    del knot
    with quietly():
        pass
    assert gone() is None
