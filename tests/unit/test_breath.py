from __future__ import annotations

from authz.breath import LongWork, breathe


class Short(LongWork):
    """Work whose every turn has ended."""

    def turn_has_ended(self) -> bool:
        return True


def job() -> str:
    for _ in range(3):
        breathe()
    return "done"


def test_work_whose_turn_has_not_ended_goes_on() -> None:
    assert LongWork(job).switch() == "done"


def test_work_whose_turn_has_ended_goes_on_when_it_is_called_again() -> None:
    work = Short(job)
    for _ in range(3):
        work.switch()
        assert not work.dead
    assert work.switch() == "done"
    assert work.dead


def test_outside_of_long_work_it_is_nothing() -> None:
    assert job() == "done"
