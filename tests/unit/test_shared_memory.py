"""What one process writes into shared memory another reads: whole, or not at all."""

from __future__ import annotations

import os
from math import inf

import pytest

from authz.shared_memory import HEAD_BYTES, Dated, Place

MOST = 1000
ONE = Dated(b"one", 5.25)
LARGEST = Dated(os.urandom(MOST), 6.0)


def test_in_the_beginning_there_is_nothing(memory: int) -> None:
    for start in (0, 1 << 40):
        place = Place(memory, start, MOST)
        assert (place.read(), place.began) == (None, -inf)


def test_what_one_writes_another_reads(memory: int) -> None:
    for dated in (LARGEST, ONE):
        Place(memory, 7, MOST).write(dated)
        place = Place(memory, 7, MOST)
        assert (place.read(), place.began) == (dated, dated.began)


def test_places_do_not_meet(memory: int) -> None:
    places = [Place(memory, 8 + index * (MOST + HEAD_BYTES), MOST) for index in range(3)]
    for index, place in enumerate(places, 1):
        place.write(Dated(LARGEST.document, index))
    assert [place.read() for place in places] == [Dated(LARGEST.document, index) for index in (1, 2, 3)]
    assert Place(memory, 0, MOST).read() is None


def test_half_of_a_document_is_none(memory: int) -> None:
    """A process may be killed inside a write: whatever byte is another one, nothing is read."""
    place = Place(memory, 0, MOST)
    place.write(ONE)
    for at in range(os.fstat(memory).st_size):
        before = os.pread(memory, 1, at)
        os.pwrite(memory, bytes([before[0] ^ 0x40]), at)
        assert place.read() is None
        os.pwrite(memory, before, at)
    assert place.read() == ONE
    for size in range(os.fstat(memory).st_size):
        os.ftruncate(memory, size)
        assert place.read() is None


def test_what_is_too_large_leaves_nothing_but_its_time(memory: int) -> None:
    place = Place(memory, 0, MOST)
    place.write(ONE)
    place.write(Dated(bytes(MOST + 1), 7.0))
    assert (place.read(), place.began) == (None, 7.0)


def test_what_finds_no_memory_leaves_nothing_but_its_time(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(memory, 0, MOST)
    place.write(ONE)
    write = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) > HEAD_BYTES:
            raise OSError("no space")
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    place.write(LARGEST)
    assert (place.read(), place.began) == (None, LARGEST.began)


def test_without_memory_nothing_is_known_and_nothing_fails() -> None:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.close(descriptor)
    place = Place(descriptor, 0, MOST)
    place.write(ONE)
    assert (place.read(), place.began) == (None, -inf)
