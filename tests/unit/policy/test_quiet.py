from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from authz.errors import LoadError
from authz.policy import quiet
from authz.policy.parser import PolicyOptions, parse_policies
from authz.policy.quiet import LOADS, PORTION, THRESHOLDS, let_go, look_once, quietly
from tests.support.policies import policy_set


def test_the_collector_looks_at_small_portions_meanwhile() -> None:
    before = gc.get_threshold()
    with quietly():
        assert gc.get_threshold()[0] == PORTION
    assert gc.get_threshold() == before


def test_all_is_as_before_after_a_failure() -> None:
    before = gc.get_threshold(), list(gc.callbacks)
    with pytest.raises(KeyError), quietly():
        raise KeyError
    assert (gc.get_threshold(), gc.callbacks) == before


def test_loads_may_overlap() -> None:
    before = gc.get_threshold(), list(gc.callbacks)
    one, other = quietly(), quietly()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert gc.get_threshold()[0] == PORTION
    assert len(gc.callbacks) == len(before[1]) + 1
    other.__exit__(None, None, None)
    assert (gc.get_threshold(), gc.callbacks) == before


def test_what_was_loaded_is_out_of_the_collectors_sight() -> None:
    with quietly():
        kept = [[number] for number in range(3 * PORTION)]
    seen = {id(one) for one in gc.get_objects()}
    assert not seen.intersection(map(id, kept))


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


class Knot:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_is_not_kept_for_good() -> None:
    before = weakref.ref(Knot())
    with quietly():
        meanwhile = weakref.ref(Knot())
    assert before() is None
    assert meanwhile() is None


@pytest.mark.parametrize("looks", range(4))
def test_garbage_that_outlived_looks_before_a_load_is_not_kept_either(looks: int) -> None:
    gc.freeze()
    knots = [Knot()]
    for _ in range(looks):
        gc.collect(1)
    gone = weakref.ref(knots.pop())
    with quietly():
        pass
    assert gone() is None


def test_what_becomes_garbage_after_a_load_goes_after_some_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "MOST_OBJECTS", 10**9)  # other tests' objects are here, too
    with quietly():
        knots = [Knot()]
    gone = weakref.ref(knots[0])
    knots.clear()
    gc.collect()
    assert gone() is not None  # out of sight
    for _ in range(LOADS):
        with quietly():
            kept = [[number] for number in range(PORTION)]
    assert gone() is None
    seen = {id(one) for one in gc.get_objects()}
    assert not seen.intersection(map(id, kept))


def test_too_much_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "MOST_OBJECTS", 0)
    with quietly():
        knots = [Knot()]
    gone = weakref.ref(knots[0])
    knots.clear()
    for _ in range(2 * LOADS):
        with quietly():
            pass
    assert gone() is not None
    gc.unfreeze()
    gc.collect()


def test_a_load_leaves_no_garbage_behind() -> None:
    """Whether it is good or not; the collector need not look for any."""
    good = b"- {from: 'https://a.example', allowed_idp_claims: {'cognito:groups': [admins]}}\n"
    parse_policies([("a.yaml", good)], PolicyOptions())  # what is imported and compiled at first use
    gc.collect()
    gc.disable()
    try:
        parse_policies([("a.yaml", good)], PolicyOptions())
        with pytest.raises(LoadError):
            parse_policies([("a.yaml", good + b"- nonsense\n")], PolicyOptions())
        assert gc.collect() == 0
    finally:
        gc.enable()


class TestLookingOnce:
    @pytest.fixture(autouse=True)
    def looking_once(self) -> Iterator[None]:
        before = gc.get_threshold(), list(gc.callbacks)
        look_once()
        yield
        gc.set_threshold(*before[0])
        gc.callbacks[:] = before[1]

    def test_what_outlived_a_full_look_is_out_of_sight(self) -> None:
        kept = [[number] for number in range(10)]
        gc.collect()
        assert not {id(one) for one in gc.get_objects()}.intersection(map(id, kept))

    @pytest.mark.parametrize("generation", [0, 1])
    def test_what_outlived_a_short_look_is_not(self, generation: int) -> None:
        kept = [[number] for number in range(10)]
        gc.collect(generation)
        assert {id(one) for one in gc.get_objects()}.issuperset(map(id, kept))

    def test_garbage_is_found_as_ever(self) -> None:
        knot = weakref.ref(Knot())
        gc.collect()
        assert knot() is None

    def test_a_load_leaves_it_as_it_was(self) -> None:
        with quietly():
            pass
        assert gc.get_threshold() == THRESHOLDS
        self.test_what_outlived_a_full_look_is_out_of_sight()
