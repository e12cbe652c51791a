"""What workers have in force: what was found last or nothing, each kind for itself."""

from __future__ import annotations

import pytest

from authz.identity.fetch import MAX_DOCUMENT_BYTES
from authz.identity.shared_keys import SharedKeys
from authz.policy import shared_files
from authz.policy.files import PolicyFile
from authz.policy.shared_files import MAX_BYTES, Kept, SharedFiles
from authz.shared_memory import Dated, Shared

SHUT = (PolicyFile("policies/a.yaml", b"shut"), PolicyFile("policies/b\udcff.yaml", b""))
OPEN = (PolicyFile("policies/a.yaml", b"open\xff\n"),)
LARGEST = (PolicyFile("a.yaml", b"x" * (MAX_BYTES - 28)),)


@pytest.fixture
def workers(memory: int) -> list[SharedFiles]:
    return [SharedFiles(Shared(memory, worker, 3), 0) for worker in range(3)]


def test_in_the_beginning_nothing_is_known(workers: list[SharedFiles]) -> None:
    assert workers[0].newest() is None


def test_all_have_what_was_found_last_whoever_wrote_last(workers: list[SharedFiles]) -> None:
    workers[1].keep(SHUT, 2.0)
    workers[2].keep(OPEN, 1.0)
    assert [worker.newest() for worker in workers] == [Kept(SHUT, 2.0)] * 3
    workers[2].keep(OPEN, 3.0)
    assert [worker.newest() for worker in workers] == [Kept(OPEN, 3.0)] * 3


def test_kinds_do_not_meet(memory: int, workers: list[SharedFiles]) -> None:
    others = [SharedFiles(Shared(memory, worker, 3), 1) for worker in range(3)]
    workers[2].keep(LARGEST, 1.0)
    assert others[0].newest() is None
    others[0].keep(SHUT, 2.0)
    assert (workers[0].newest(), others[2].newest()) == (Kept(LARGEST, 1.0), Kept(SHUT, 2.0))


def test_workers_do_not_meet(workers: list[SharedFiles]) -> None:
    workers[2].keep(SHUT, 2.0)
    workers[1].keep(LARGEST, 1.0)
    assert workers[0].newest() == Kept(SHUT, 2.0)
    workers[1].keep(LARGEST, 3.0)
    workers[2].keep(SHUT, 2.0)
    assert workers[0].newest() == Kept(LARGEST, 3.0)


def test_keys_and_files_do_not_meet(memory: int, workers: list[SharedFiles]) -> None:
    largest = Dated(bytes(MAX_DOCUMENT_BYTES), 1.0)
    end = max(pool for pool in range(10_000) if SharedKeys(memory, pool)._start < shared_files._START)
    keys = [SharedKeys(memory, pool) for pool in (0, end)]
    for one in keys:
        one.newest = largest
    workers[0].keep(SHUT, 2.0)
    assert [one.newest for one in keys] == [largest] * 2
    assert end == 9_999


def test_where_the_newest_is_too_large_no_older_one_takes_its_place(workers: list[SharedFiles]) -> None:
    workers[0].keep(OPEN, 1.0)
    workers[1].keep((*LARGEST, *SHUT), 2.0)
    assert workers[0].newest() is None


def test_what_cannot_be_read_is_none(workers: list[SharedFiles]) -> None:
    """Another version may have been put in the place of ours under a supervisor that runs."""
    for document in (b"?", b"", shared_files.marshal.dumps(7)[:1], shared_files.marshal.dumps([(1, 2, 3)])):
        workers[0]._ours.write(Dated(document, 1.0))
        assert workers[1].newest() is None
