"""What workers know together: whole or not at all, and each issuer's for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from math import inf

from authz.identity.fetch import MAX_DOCUMENT_BYTES
from authz.identity.shared_keys import SharedKeys
from authz.shared_memory import Dated
from tests.support.key_turns import turn_of_another_process

ONE = Dated(b'{"keys": []}', 5.25)
LARGEST = Dated(os.urandom(MAX_DOCUMENT_BYTES), 6.0)


def test_in_the_beginning_nothing_is_known(memory: int) -> None:
    for index in (0, 7):
        shared = SharedKeys(memory, index)
        assert (shared.newest, shared.last_turn) == (None, -inf)


def test_what_one_writes_another_reads(memory: int) -> None:
    shared = SharedKeys(memory, 1)
    for fetched in (LARGEST, ONE):
        shared.newest = fetched
        shared.last_turn = fetched.began + 1
        again = SharedKeys(memory, 1)
        assert (again.newest, again.last_turn) == (fetched, fetched.began + 1)


def test_issuers_do_not_meet(memory: int) -> None:
    all_shared = [SharedKeys(memory, index) for index in range(3)]
    for index, shared in enumerate(all_shared):
        shared.newest = Dated(LARGEST.document, index)
        shared.last_turn = index + 1
    assert [shared.newest for shared in all_shared] == [Dated(LARGEST.document, index) for index in range(3)]
    assert [shared.last_turn for shared in all_shared] == [1, 2, 3]


async def test_whoever_ends_in_its_turn_leaves_it_to_the_next(memory: int) -> None:
    shared = SharedKeys(memory, 3)
    with turn_of_another_process(memory, 3) as other:
        async with shared.turn(0.1) as ours:
            assert not ours
        async with SharedKeys(memory, 2).turn(0.1) as ours:
            assert ours
        other.kill()
        async with shared.turn(5) as ours:
            assert ours


async def test_a_turn_is_ours_alone_until_its_end(memory: int) -> None:
    shared = SharedKeys(memory, 3)
    async with shared.turn(0.1) as ours:
        assert ours
        assert not another_process_may(memory, 3)
        assert another_process_may(memory, 4)
    assert another_process_may(memory, 3)


def another_process_may(memory: int, index: int) -> bool:
    take = f"import fcntl; fcntl.lockf({memory}, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, {index})"
    ended = subprocess.run([sys.executable, "-c", take], check=False, pass_fds=[memory], capture_output=True)
    return ended.returncode == 0


def test_without_memory_nothing_is_known_and_nothing_fails() -> None:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.close(descriptor)
    shared = SharedKeys(descriptor, 0)
    shared.newest, shared.last_turn = ONE, 1.0
    assert (shared.newest, shared.last_turn) == (None, -inf)
