"""The tests' own ports: two tests that run side by side must not be given the same one."""

from __future__ import annotations

import random
import subprocess
import sys

from tests.support.ports import OURS, free_ports
from tests.support.running_service import REPOSITORY

FOUR_OF = (
    "from tests.support.ports import free_ports; print(*[free_ports(1, {}) for _ in range(4)], flush=True); input()"
)


def test_a_port_is_given_once_while_its_holder_lives() -> None:
    first = random.randrange(5_000, OURS.start - 9)
    eight = range(first, first + 9)  # its last one begins no pair, so it is never given
    other = subprocess.Popen(
        [sys.executable, "-c", FOUR_OF.format(eight)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdin is not None
        assert other.stdout is not None
        theirs = {int(port) for port in other.stdout.readline().split()}
        ours = {free_ports(1, eight) for _ in range(4)}
        other.stdin.write("\n")
    assert theirs | ours == set(eight[:-1])
