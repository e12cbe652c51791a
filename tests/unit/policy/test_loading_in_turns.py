"""Loading stands aside at every value, whatever the set looks like; so no set holds the requests up for long."""

from __future__ import annotations

from hashlib import sha256

import pytest

from authz.identity.revocations import parse_revocations
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies, revision_of
from authz.policy.quiet import let_go
from tests.support.breaths import breaths

COUNT = 12


def repeated(line: str) -> bytes:
    return "".join(line % number for number in range(COUNT)).encode()


ROUTES = repeated("- {from: 'https://a%d.example', allow_any_authenticated_user: true}\n")
USERS = b"- from: https://a.example\n  allowed_users:\n" + repeated("  - user%d@example.com\n")
CRITERIA = b"- from: https://a.example\n  policy:\n    allow:\n      or:\n" + repeated("      - groups: g%d\n")
TOGETHER = CRITERIA.replace(b"or:", b"and:")
PATTERNS = repeated("- {from: 'https://a.example', regex: '/%d/[a-z]+', allow_any_authenticated_user: true}\n")
WILDCARDS = ROUTES.replace(b"//a", b"//*.a")


def parsed(data: bytes) -> PolicySet:
    return parse_policies([("a.yaml", data)], PolicyOptions())


@pytest.mark.parametrize(
    ("data", "at_least"),
    [(ROUTES, 21), (USERS, 11), (CRITERIA, 10), (TOGETHER, 11), (PATTERNS, 24), (WILDCARDS, 21)],
    ids=["routes", "users", "rules", "rules of several", "regex", "wildcards"],
)
def test_policies(data: bytes, at_least: int) -> None:
    assert breaths(lambda: parsed(data)) >= at_least * COUNT


def test_revocations() -> None:
    data = repeated("- sub: s%d\n")
    assert breaths(lambda: parse_revocations([("r.yaml", data)])) >= 4 * COUNT


@pytest.mark.parametrize("data", [ROUTES, USERS, CRITERIA])
def test_letting_go(data: bytes) -> None:
    loading = breaths(lambda: parsed(data))
    assert breaths(lambda: let_go([parsed(data)])) >= loading + COUNT


def test_hashing() -> None:
    data = bytes(3 << 20)
    assert breaths(lambda: revision_of([("a.yaml", data)])) >= 48


def test_pieces_hash_as_the_whole() -> None:
    data = bytes(range(256)) * 1024
    assert revision_of([("a.yaml", data)]) == sha256(b"a.yaml\x00262144\x00" + data).hexdigest()[:16]
