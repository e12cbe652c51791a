"""Lines are written whole and in order, and never waited for; what is lost is counted."""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from authz.lines import _PAUSE_SECONDS, LineWriter


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for the writer's thread: at most five seconds, mostly some milliseconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:  # the test closed it
            continue


def fill(descriptor: int) -> int:
    """Write until the pipe takes no more; give the number of bytes. Leaves it blocking."""
    os.set_blocking(descriptor, False)
    total = 0
    for size in (65536, 1):
        while True:
            try:
                total += os.write(descriptor, b"." * size)
            except BlockingIOError:
                break
    os.set_blocking(descriptor, True)
    return total


def read_exactly(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(descriptor, size - len(data))
    return data


def test_lines_are_written_whole_and_in_order(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    for number in range(100):
        writer.write(f"line {number}")
    writer.close(5)
    os.close(pipe[1])
    assert os.read(pipe[0], 65536) == b"".join(b"line %d\n" % number for number in range(100))
    assert writer.dropped == 0


def test_a_line_feed_in_a_line_and_half_a_character_do_no_harm(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    writer.write("a\nb \ud800 é")
    writer.close(5)
    assert os.read(pipe[0], 100) == "a\\nb \\ud800 é\n".encode()


def test_a_blocked_output_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    filled = fill(pipe[1])
    told: list[int] = []
    writer = LineWriter(pipe[1], max_lines=10, on_drop=told.append)
    writer.write("first")
    wait_until(lambda: not writer._lines)  # the thread took it and hangs in the write
    longest = 0.0
    for number in range(1000):
        before = time.perf_counter()
        writer.write(f"line {number}")
        longest = max(longest, time.perf_counter() - before)
    assert longest < 1.0  # it would be for ever
    assert writer.dropped == 990
    assert told == [1] * 990

    read_exactly(pipe[0], filled)  # the reader is back: what was kept arrives, and later lines too
    wait_until(lambda: not writer._lines)
    writer.write("later")
    writer.close(5)
    expected = b"first\n" + b"".join(b"line %d\n" % number for number in range(10)) + b"later\n"
    assert read_exactly(pipe[0], len(expected)) == expected


def test_closing_a_blocked_output_takes_no_longer_than_told(pipe: tuple[int, int]) -> None:
    filled = fill(pipe[1])
    writer = LineWriter(pipe[1])
    writer.write("x")
    before = time.monotonic()
    writer.close(0.01)
    assert time.monotonic() - before < 2
    read_exactly(pipe[0], filled)  # let the thread end before the pipe is closed
    writer.close(5)
    assert read_exactly(pipe[0], 2) == b"x\n"


def test_the_queue_is_bounded_in_bytes(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], max_bytes=10)
    writer.write("0123456789")
    assert writer.dropped == 1
    writer.write("012345678")
    writer.close(5)
    assert read_exactly(pipe[0], 10) == b"012345678\n"
    assert writer.dropped == 1


class Made:
    """A line whose text is made, or fails, when it is written."""

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails
        self.threads: list[str] = []

    def __len__(self) -> int:
        return 5

    def __str__(self) -> str:
        self.threads.append(threading.current_thread().name)
        if self._fails:
            raise RuntimeError("canary")
        return "made up of\nmore than five"


def test_the_text_of_a_line_is_made_by_the_thread_and_bounded_by_what_it_says_of_itself(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], max_bytes=11)
    line = Made()
    with writer._changed:  # the thread takes nothing meanwhile
        writer.write(line)
        assert (line.threads, writer.dropped) == ([], 0)
        writer.write("12345")  # one too many: each has its line feed
    writer.close(5)
    assert line.threads == ["authz-log"]
    assert read_exactly(pipe[0], 27) == b"made up of\\nmore than five\n"
    assert writer.dropped == 1


def test_a_line_whose_text_cannot_be_made_is_counted_and_told_and_the_next_is_written(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    writer = LineWriter(pipe[1])
    writer.write(Made(fails=True))
    wait_until(lambda: writer.dropped == 1)
    writer.write("next")
    writer.close(5)
    assert read_exactly(pipe[0], 5) == b"next\n"
    assert writer.dropped == 1
    assert [record.getMessage() for record in caplog.records] == ["internal error: a line of the log could not be made"]


def test_a_failure_that_cannot_even_be_told_does_not_end_the_log(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("authz.lines.log.exception", fails)
    writer = LineWriter(pipe[1])
    writer.write(Made(fails=True))
    wait_until(lambda: writer.dropped == 1)
    writer.write("next")
    writer.close(5)
    os.set_blocking(pipe[0], False)
    assert os.read(pipe[0], 100) == b"next\n"


def test_many_lines_are_written_without_a_pause_in_between(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    started = time.perf_counter()
    with writer._changed:
        for _ in range(1600):  # a hundred batches
            writer.write("x")
    read_exactly(pipe[0], 3200)
    assert time.perf_counter() - started < 100 * _PAUSE_SECONDS
    writer.close(5)


def test_a_closed_reader_costs_lines_not_the_process(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    writer = LineWriter(pipe[1])
    writer.write("one")
    wait_until(lambda: writer.dropped == 1)
    writer.write("two")  # it is still there, and tries
    wait_until(lambda: writer.dropped == 2)
    writer.close(5)


def test_a_full_disk_costs_lines() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    writer = LineWriter(descriptor)
    writer.write("one")
    writer.write("two")
    writer.close(5)
    os.close(descriptor)
    assert writer.dropped == 2


def test_a_closed_output_costs_lines(pipe: tuple[int, int]) -> None:
    os.close(pipe[1])
    writer = LineWriter(pipe[1])
    writer.write("one")
    writer.close(5)
    assert writer.dropped == 1


def test_a_line_after_the_end_is_counted_and_not_written(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    writer.close(5)
    writer.close(5)
    writer.write("late")
    assert writer.dropped == 1


def test_a_non_blocking_output_is_waited_for_by_the_thread_alone(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, real = threading.Event(), select.poll

    def poll() -> Any:
        waits.set()
        return real()

    monkeypatch.setattr("authz.lines.select.poll", poll)
    filled = fill(pipe[1])
    os.set_blocking(pipe[1], False)
    writer = LineWriter(pipe[1])
    writer.write("patient")
    assert waits.wait(5)
    read_exactly(pipe[0], filled)
    writer.close(5)
    assert read_exactly(pipe[0], 8) == b"patient\n"
    assert writer.dropped == 0


def test_after_a_torn_line_the_next_begins_on_its_own(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int | OSError] = [len("one\ntorn"), OSError(28, "full"), OSError(28, "full")]
    real = os.write

    def torn_write(descriptor: int, data: bytes) -> int:
        answer = answers.pop(0) if answers else len(data)
        if isinstance(answer, OSError):
            raise answer
        return real(descriptor, data[:answer])

    monkeypatch.setattr("authz.lines.os.write", torn_write)
    writer = LineWriter(pipe[1])
    with writer._changed:  # the thread waits until both are there, and takes them as one batch
        writer.write("one")
        writer.write("torn line")
    wait_until(lambda: writer.dropped == 1)
    writer.write("lost")
    wait_until(lambda: writer.dropped == 2)
    writer.write("next")
    writer.close(5)
    os.close(pipe[1])
    assert os.read(pipe[0], 100) == b"one\ntorn\nnext\n"


def test_many_threads_lose_no_line(pipe: tuple[int, int]) -> None:
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 1024 * 1024)
    writer = LineWriter(pipe[1])
    threads = [threading.Thread(target=lambda: [writer.write("0123456789") for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close(5)
    assert writer.dropped == 0
    assert read_exactly(pipe[0], 44_000) == b"0123456789\n" * 4000
