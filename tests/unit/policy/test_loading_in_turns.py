"""Loading stands aside at every value, whatever the set looks like; so no set holds the requests up for long."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from authz import turns
from authz.identity.revocations import parse_revocations
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies, revision_of
from authz.policy.quiet import let_go

COUNT = 300


def repeated(line: str) -> bytes:
    return "".join(line % number for number in range(COUNT)).encode()


ROUTES = repeated("- {from: 'https://a%d.example', allow_any_authenticated_user: true}\n")
USERS = b"- from: https://a.example\n  allowed_users:\n" + repeated("  - user%d@example.com\n")
CRITERIA = b"- from: https://a.example\n  policy:\n    allow:\n      or:\n" + repeated("      - groups: g%d\n")
PATTERNS = repeated("- {from: 'https://a.example', regex: '/%d/[a-z]+', allow_any_authenticated_user: true}\n")


def parsed(data: bytes) -> PolicySet:
    return parse_policies([("a.yaml", data)], PolicyOptions())


async def breaths(monkeypatch: pytest.MonkeyPatch, job: Callable[[], object]) -> int:
    """Count how often the job stood aside, where every breath ends a turn."""
    counted = 0

    def stand_aside() -> None:
        nonlocal counted
        counted += 1

    with monkeypatch.context() as patch:
        patch.setattr(turns, "perf_counter", lambda: 0.0)
        patch.setattr(turns, "TURN_SECONDS", 0.0)
        patch.setattr(turns.os, "sched_yield", stand_aside)
        await turns.in_turns(job)
    return counted


@pytest.mark.parametrize(
    ("data", "at_least"),
    [(ROUTES, 10), (USERS, 4), (CRITERIA, 4), (PATTERNS, 10)],
    ids=["routes", "users", "rules", "regex"],
)
async def test_policies(monkeypatch: pytest.MonkeyPatch, data: bytes, at_least: int) -> None:
    assert await breaths(monkeypatch, lambda: parsed(data)) > at_least * COUNT


async def test_revocations(monkeypatch: pytest.MonkeyPatch) -> None:
    data = repeated("- sub: s%d\n")
    assert await breaths(monkeypatch, lambda: parse_revocations([("r.yaml", data)])) > 5 * COUNT


@pytest.mark.parametrize("data", [ROUTES, USERS, CRITERIA])
async def test_letting_go(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    sets = [parsed(data)]
    assert await breaths(monkeypatch, lambda: let_go(sets)) >= COUNT


async def test_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(3 << 20)
    assert await breaths(monkeypatch, lambda: revision_of([("a.yaml", data)])) >= 48


def test_pieces_hash_as_the_whole() -> None:
    long = bytes(range(256)) * 1024
    assert revision_of([("a.yaml", long)]) != revision_of([("a.yaml", long[:-1] + b"x")])
    assert revision_of([("a.yaml", b"")]) != revision_of([("a.yaml", b"\0")])
