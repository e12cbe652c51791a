"""What workers have in force: the newest of it or nothing, each kind for itself."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from authz.policy import shared_files
from authz.policy.files import PolicyFile
from authz.policy.shared_files import SharedFiles
from authz.shared_memory import Shared, shared_memory

SHUT = (PolicyFile("policies/a.yaml", b"shut"), PolicyFile("policies/b\udcff.yaml", b""))
OPEN = (PolicyFile("policies/a.yaml", b"open\xff\n"),)


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = shared_memory()
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def workers(memory: int) -> list[SharedFiles]:
    return [SharedFiles(Shared(memory, worker, 3), 0) for worker in range(3)]


def test_in_the_beginning_nothing_is_known(workers: list[SharedFiles]) -> None:
    assert workers[0].newest() is None


def test_all_have_what_was_read_last_whoever_wrote_last(workers: list[SharedFiles]) -> None:
    workers[1].keep(SHUT, 2.0)
    workers[2].keep(OPEN, 1.0)
    assert [worker.newest() for worker in workers] == [SHUT] * 3
    workers[2].keep(OPEN, 3.0)
    assert [worker.newest() for worker in workers] == [OPEN] * 3


def test_kinds_do_not_meet(memory: int, workers: list[SharedFiles]) -> None:
    others = [SharedFiles(Shared(memory, worker, 3), 1) for worker in range(3)]
    workers[2].keep(OPEN, 1.0)
    assert others[0].newest() is None
    others[0].keep(SHUT, 2.0)
    assert (workers[0].newest(), others[2].newest()) == (OPEN, SHUT)


def test_where_the_newest_cannot_be_kept_no_older_one_takes_its_place(
    workers: list[SharedFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers[0].keep(OPEN, 1.0)
    monkeypatch.setattr(workers[1]._ours, "_max_bytes", 10)
    workers[1].keep(SHUT, 2.0)
    assert workers[0].newest() is None


def test_a_set_may_be_as_large_as_is_said(memory: int) -> None:
    assert shared_files._SLOT_BYTES > shared_files.MAX_BYTES
    last, other = (SharedFiles(Shared(memory, worker, 2), 0) for worker in (1, 0))
    large = (PolicyFile("a.yaml", bytes(shared_files.MAX_BYTES - 100)),)
    last.keep(large, 1.0)
    assert other.newest() == large
