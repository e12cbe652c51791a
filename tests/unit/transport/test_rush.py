from __future__ import annotations

import asyncio
from collections.abc import Callable

from authz.transport.rush import (
    ENOUGH,
    GAP_SECONDS,
    LONGEST_GAP_SECONDS,
    LONGEST_WAIT_SECONDS,
    ROUNDS,
    Rush,
)

FAST = GAP_SECONDS / 2
SLOW = GAP_SECONDS * 1.5
MANY = 100  # after so many gaps of one length, the mean is nearly that


def stopped() -> float:
    """A clock whose time a test does not care about."""
    return 0.0


def in_a_rush(clock: Callable[[], float] = stopped) -> tuple[Rush, float]:
    """Give one that has seen calls come fast and let them go, and the time of the last."""
    rush, now = Rush(clock), 0.0
    for _ in range(MANY):
        now += FAST
        rush.arrived(now)
    return rush, now


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_nobody_waits_while_calls_come_slowly() -> None:
    rush = Rush(stopped)
    assert all(rush.arrived(number * SLOW) is None for number in range(MANY))


async def test_the_first_calls_never_wait() -> None:
    rush = Rush(stopped)
    assert rush.arrived(0.0) is None
    assert rush.arrived(FAST) is None


async def test_in_a_rush_a_call_waits_for_the_next_ones_and_goes_when_none_comes() -> None:
    rush, now = in_a_rush()
    await rounds(2 * ROUNDS)
    turn = rush.arrived(now + FAST)
    assert turn is not None
    await rounds(ROUNDS - 1)
    assert not turn.done()
    await rounds(2)
    assert turn.done()


async def test_each_that_comes_gives_the_next_ones_time() -> None:
    rush, now = in_a_rush()
    await rounds(2 * ROUNDS)
    first = rush.arrived(now + FAST)
    await rounds(ROUNDS - 2)
    second = rush.arrived(now + 2 * FAST)
    assert first is not None
    assert second is not None
    await rounds(ROUNDS - 2)
    assert not first.done()
    await rounds(3)
    assert first.done()
    assert second.done()


async def test_enough_of_them_go_at_once() -> None:
    rush, now = in_a_rush()
    await rounds(2 * ROUNDS)
    turns = [rush.arrived(now + number * FAST) for number in range(1, ENOUGH + 1)]
    await rounds(2)
    assert all(turn is not None and turn.done() for turn in turns)


async def test_they_go_in_the_order_in_which_they_came() -> None:
    rush, now = in_a_rush()
    await rounds(2 * ROUNDS)
    order: list[int] = []

    async def call(number: int) -> None:
        turn = rush.arrived(now + number * FAST)
        assert turn is not None
        await turn
        order.append(number)

    await asyncio.gather(*(call(number) for number in range(1, 2 * ENOUGH)))
    assert order == sorted(order)
    assert len(order) == 2 * ENOUGH - 1


async def test_one_that_gives_up_takes_no_other_with_it() -> None:
    rush, now = in_a_rush()
    await rounds(2 * ROUNDS)
    kept, gone = rush.arrived(now + FAST), rush.arrived(now + 2 * FAST)
    assert kept is not None
    assert gone is not None
    gone.cancel()
    await kept
    assert gone.cancelled()


async def steps_of(rush: Rush) -> list[str]:
    """Let two calls take two steps each, and tell in which order they did."""
    taken: list[str] = []

    async def call(name: str) -> None:
        for number in "12":
            taken.append(name + number)
            await rush.step()

    await asyncio.gather(call("a"), call("b"))
    return taken


async def test_in_a_rush_each_step_is_taken_by_all_before_the_next() -> None:
    rush, _ = in_a_rush()
    assert await steps_of(rush) == ["a1", "b1", "a2", "b2"]


async def test_otherwise_a_call_takes_all_its_steps_at_once() -> None:
    assert await steps_of(Rush(stopped)) == ["a1", "a2", "b1", "b2"]


async def test_a_rush_ends() -> None:
    rush, now = in_a_rush()
    await rounds(2 * ROUNDS)
    held = 0
    for _ in range(MANY):
        now += SLOW
        held += rush.arrived(now) is not None
        await rounds(2 * ROUNDS)
    assert held < 20
    assert rush.arrived(now + SLOW) is None


async def test_a_pause_ends_it_and_the_next_rush_is_soon_seen() -> None:
    rush, now = in_a_rush()
    await rounds(2 * ROUNDS)
    now += 3600
    assert rush.arrived(now) is None
    seen = [rush.arrived(now + number * FAST) is not None for number in range(1, MANY)]
    assert seen.index(True) < 70
    assert LONGEST_GAP_SECONDS > GAP_SECONDS


def held_at(gap: float) -> list[bool]:
    """Tell of each call whether it waits, where calls come every `gap` seconds."""
    rush = Rush(stopped)
    return [rush.arrived(number * gap) is not None for number in range(MANY)]


async def test_a_thousand_calls_a_second_are_no_rush_and_fifteen_hundred_are_one() -> None:
    assert not any(held_at(1 / 1000))
    assert held_at(1 / 1500)[-1]


async def test_a_clock_that_stands_still_is_a_rush() -> None:
    rush = Rush(stopped)
    turns = [rush.arrived(1.0) for _ in range(MANY)]
    await rounds(2 * ROUNDS)
    assert turns[0] is None
    assert all(turn is None or turn.done() for turn in turns)
    assert turns[-1] is not None


async def test_nobody_waits_longer_than_that_however_slow_the_rounds_are() -> None:
    time = [0.0]
    rush, now = in_a_rush(lambda: time[0])
    await rounds(2 * ROUNDS)
    first = rush.arrived(now + FAST)
    assert first is not None
    time[0] = now + FAST + LONGEST_WAIT_SECONDS * 0.99
    await rounds(3)
    assert not first.done()
    second = rush.arrived(time[0])
    time[0] = now + FAST + LONGEST_WAIT_SECONDS
    await rounds(2)
    assert first.done()
    assert second is None or second.done()


async def test_a_clock_that_fails_leaves_nobody_waiting() -> None:
    def fails() -> float:
        raise OSError

    rush, now = in_a_rush(fails)
    turn = rush.arrived(now + FAST)
    assert turn is not None
    async with asyncio.timeout(1):
        await turn
