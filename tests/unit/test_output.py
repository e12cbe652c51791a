from __future__ import annotations

import os
from pathlib import Path

import pytest

from authz import output
from authz.output import Output


def written(path: Path, *sources: list[bytes]) -> bytes:
    """Give what comes out when each source writes its pieces into a pipe of its own."""
    with path.open("wb") as file:
        output = Output(file.fileno())
        threads = []
        for pieces in sources:
            source, sink = os.pipe()
            threads.append(output.copy_from(source))
            with os.fdopen(sink, "wb", buffering=0) as pipe:
                for piece in pieces:
                    pipe.write(piece)
        for thread in threads:
            thread.join(10)
    return path.read_bytes()


class TestOutput:
    def test_a_line_that_comes_in_pieces_is_written_whole(self, tmp_path: Path) -> None:
        assert written(tmp_path / "out", [b"on", b"e\ntw", b"o\n"]) == b"one\ntwo\n"

    def test_half_a_line_of_who_was_killed_is_left_out(self, tmp_path: Path) -> None:
        out = written(tmp_path / "out", [b"one\ntw"], [b"three\n"])  # of two workers either may be first
        assert sorted(out.splitlines(keepends=True)) == [b"one\n", b"three\n"]

    def test_lines_wait_for_an_output_that_takes_nothing_now(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(output, "_RETRY_SECONDS", 0.001)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        full = 0
        try:
            while True:
                full += os.write(writing, b"x" * 4096)
        except BlockingIOError:
            pass
        source, sink = os.pipe()
        copying = Output(writing).copy_from(source)
        os.write(sink, b"line\n")
        os.close(sink)
        with os.fdopen(reading, "rb") as out:
            assert out.read(full) == b"x" * full
            assert out.read(5) == b"line\n"
            copying.join(10)
            os.close(writing)
