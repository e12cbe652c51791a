from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import cast

import pytest

from authz import supervisor
from authz.channel import MISSING
from authz.gathering import read_exposition
from authz.output import Output
from authz.settings import Settings
from authz.supervisor import Supervisor, Worker, ending


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")]
)
def test_an_ending_is_told_in_words(code: int, words: str) -> None:
    assert ending(code) == words


class Silent:
    """A worker that is up and never answers."""

    index = 0

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.up.set()
        self.signals: list[signal.Signals] = []

    async def ask(self, _question: bytes, _seconds: float) -> None:
        await asyncio.sleep(0)

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)


async def test_a_worker_that_does_not_answer_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "PROBE_SECONDS", 0.0)
    worker = Silent()
    settings = Settings(policies=Path("policies"), inline=False, pools=(), workers=2)
    await asyncio.wait_for(Supervisor(settings, Output())._probe(cast("Worker", worker)), 10)
    assert worker.signals == [signal.SIGKILL]
    assert "a worker does not answer and is ended" in caplog.text


class Deaf(Silent):
    """A worker that answers once, then closes its end of the channel, and stays."""

    async def ask(self, _question: bytes, _seconds: float) -> bytes:  # type: ignore[override]
        await asyncio.sleep(0)
        self.up.clear()
        return b"[]"


async def test_a_worker_that_stays_without_a_channel_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PROBE_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "HUNG_SECONDS", 0.05)
    worker = Deaf()
    settings = Settings(policies=Path("policies"), inline=False, pools=(), workers=2)
    probing = asyncio.create_task(Supervisor(settings, Output())._probe(cast("Worker", worker)))
    await asyncio.sleep(0.01)
    assert worker.signals == []  # it may be ending
    await asyncio.wait_for(probing, 10)
    assert worker.signals == [signal.SIGKILL]


async def test_a_worker_that_never_comes_up_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "START_SECONDS", 0.01)
    worker = Silent()
    worker.up.clear()
    settings = Settings(policies=Path("policies"), inline=False, pools=(), workers=2)
    await asyncio.wait_for(Supervisor(settings, Output())._probe(cast("Worker", worker)), 10)
    assert worker.signals == [signal.SIGKILL]
    assert "a worker does not come up and is ended" in caplog.text


class Counting(Silent):
    """A worker that counted five decisions, and ends while that is read."""

    def __init__(self) -> None:
        super().__init__()
        self.pid: int | None = 1

    async def ask(self, question: bytes, _seconds: float = 0.0) -> bytes:  # type: ignore[override]
        await asyncio.sleep(0)
        return b"[]" if question == MISSING else b"# TYPE d_total counter\nd_total 5.0\n"


async def test_what_a_worker_counted_before_its_end_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Counting()
    settings = Settings(policies=Path("policies"), inline=False, pools=(), workers=2)
    watching = Supervisor(settings, Output())
    watching._workers = [cast("Worker", worker)]
    assert b"d_total 5.0" in (await watching.exposition())[0]

    def read_late(text: str) -> object:
        watching._gathering.ended("0")
        worker.pid = None
        return read_exposition(text)

    monkeypatch.setattr(supervisor, "read_exposition", read_late)
    assert b"d_total 5.0" in (await watching.exposition())[0]


class Starting:
    """A worker that cannot be told anything before it has started."""

    index = 0

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.has_started = False

    def signal(self, number: signal.Signals) -> None:
        if self.has_started and number is signal.SIGTERM:
            self.told.set()

    async def live(self) -> None:
        await asyncio.sleep(0.05)
        self.has_started = True
        await self.told.wait()


async def test_a_worker_that_is_just_being_started_is_told_to_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "TELL_SECONDS", 0.01)
    worker = Starting()
    watching = Supervisor(Settings(policies=Path("policies"), inline=False, pools=(), workers=2), Output())
    watching._workers = [cast("Worker", worker)]
    await asyncio.wait_for(watching._end([asyncio.create_task(worker.live())]), 5)


class Ending:
    """A worker that is up and ends with each of the codes in turn, at once; then it stays."""

    index = 0

    def __init__(self, *codes: int) -> None:
        self.up = asyncio.Event()
        self.up.set()
        self.stays = asyncio.Event()
        self._codes = iter(codes)

    async def ask(self, _question: bytes, _seconds: float) -> bytes:
        return b"[]"

    async def live(self) -> int:
        for code in self._codes:
            return code
        self.stays.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize(
    ("code", "level", "seconds"),
    [
        pytest.param(0, "INFO", 0.0, id="told to end"),
        pytest.param(-signal.SIGTERM, "INFO", 0.0, id="told to end before it could listen to signals"),
        pytest.param(-signal.SIGKILL, "ERROR", 0.01, id="killed"),
        pytest.param(1, "ERROR", 0.01, id="failed"),
    ],
)
async def test_a_worker_that_was_told_to_end_is_replaced_without_a_pause_or_an_alarm(
    code: int, level: str, seconds: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_DELAY_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "authz")
    worker = Ending(code, code)
    watching = Supervisor(Settings(policies=Path("policies"), inline=False, pools=(), workers=2), Output())
    watching._all_up = True
    keeping = asyncio.create_task(watching._keep(cast("Worker", worker)))
    await asyncio.wait_for(worker.stays.wait(), 5)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    ends = [record for record in caplog.records if record.message == "a worker ended, another one is started"]
    assert [record.levelname for record in ends] == [level, level]
    assert [record.fields["after_seconds"] for record in ends] == [0.0, seconds]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        pytest.param(-signal.SIGKILL, 1, id="killed, for want of memory perhaps"),
        pytest.param(3, 0, id="which has told why itself"),
    ],
)
async def test_a_worker_that_ends_at_the_start_ends_everything_and_not_without_a_word(
    code: int, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    watching = Supervisor(Settings(policies=Path("policies"), inline=False, pools=(), workers=2), Output())
    await asyncio.wait_for(watching._keep(cast("Worker", Ending(code))), 5)
    assert watching._stop.is_set()
    assert watching._exit_code == max(code, 1)
    words = [record.message for record in caplog.records]
    assert words == ["a worker ended while all were started, and so do we"] * told
