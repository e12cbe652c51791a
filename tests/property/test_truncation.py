"""A policy file cut off at any byte, by a writer that pauses there for longer than the store waits.

Each cut must be harmless: it does not load, or the store refuses it as cut off (the beginning of the version in force
that ends within a line), or it allows nothing that the whole file denied. What is left are cuts that nothing can
notice: the file ends with a line, is good YAML and says less, and what it says no more was a restriction. They are
listed below by their last line; with `require_end: true` there are none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from authz.errors import LoadError
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.policy.store import PolicyFile, cut_off
from tests.property.test_policies import decided
from tests.support.interpreter import Caller, Visit

REPOSITORY = Path(__file__).parents[2]

# One of everything whose loss could matter: conditions, denies, narrower routes before wider ones, lists of values.
DENIES_LAST = """\
- from: https://one.localhost
  policy:
    allow:
      and:
        - groups: admins
        - http_method: GET
        - source_ip: 10.0.0.0/8
    deny:
      or:
        - groups: suspended
        - http_path:
            starts_with: /internal
            not: /internal/health
"""
DENIES_FIRST = """\
- from: https://one.localhost
  policy:
    deny:
      or:
        - groups: suspended
    allow:
      and:
        - groups: admins
        - claim/tenant:
            has: acme
            exclude: bell
"""
NARROW_BEFORE_WIDE = """\
routes:
  - from: https://one.localhost
    prefix: /admin
    allowed_idp_claims:
      cognito:groups:
        - admins
        - sales
  - from: https://one.localhost
    allow_any_authenticated_user: true
  - from: https://*.localhost
    allow_public_unauthenticated_access: true
  - from: https://two.localhost
    allowed_users:
      - alice
"""
NARROWED_LATER = """\
- from: https://one.localhost
  allow_any_authenticated_user: true
  prefix: /a
- from: https://two.localhost
  allow_public_unauthenticated_access: true
  policy:
    - deny:
        nor:
          - http_method: GET
          - http_path: /a
"""
ONE_LINE_EACH = """\
- {from: https://one.localhost, prefix: /admin, allowed_idp_claims: {cognito:groups: [admins, sales]}}
- {from: https://one.localhost, policy: {allow: {and: [groups: admins, http_method: GET]}}}
- {from: https://*.localhost, policy: [{allow: {or: [accept: true]}}, {deny: {or: [http_method: POST]}}]}
"""

SAMPLES: Mapping[str, Mapping[str, bytes]] = {
    "denies last": {"a.yaml": DENIES_LAST.encode()},
    "denies first": {"a.yaml": DENIES_FIRST.encode()},
    "narrow before wide": {"a.yaml": NARROW_BEFORE_WIDE.encode()},
    "narrowed later": {"a.yaml": NARROWED_LATER.encode()},
    "one line each": {"a.yaml": ONE_LINE_EACH.encode()},
    "no line end at the end": {"a.yaml": DENIES_LAST.rstrip("\n").encode()},
    "Windows line ends": {"a.yaml": DENIES_FIRST.replace("\n", "\r\n").encode()},
    "a file before another": {"a.yaml": NARROW_BEFORE_WIDE.encode(), "b.yaml": ONE_LINE_EACH.encode()},
    "policies/": {
        path.name: path.read_bytes()
        for path in sorted((REPOSITORY / "policies").glob("*.yaml"))
        if not path.stem.endswith("_test")
    },
}
FILES = [(sample, name) for sample, files in SAMPLES.items() for name in files]

# The cuts that nothing can notice: (sample, file) → after which lines.
UNNOTICED: Mapping[tuple[str, str], list[int]] = {
    ("denies last", "a.yaml"): [5, 6, 7, 10],  # without the method; the address; the denies; the second deny
    ("denies first", "a.yaml"): [8, 10],  # without the claim; what the claim may not hold
    ("narrow before wide", "a.yaml"): [11],  # without the second host's own route, the wildcard takes it
    ("narrowed later", "a.yaml"): [2, 5, 9],  # without the prefix; the deny; the second condition of the deny
    ("no line end at the end", "a.yaml"): [5, 6, 7, 10],
    ("Windows line ends", "a.yaml"): [8, 10],
    ("a file before another", "a.yaml"): [2, 3, 6, 7, 8, 9, 11],  # without the own route, the next file's wildcard
    ("policies/", "60-rules.yaml"): [6, 7, 10, 11, 14],  # without a condition of the and; the denies; the second deny
    ("policies/", "70-methods.yaml"): [6, 10],  # without the method; the path
    ("policies/", "80-office.yaml"): [6, 7, 8],  # without the address; the days; the hours
}


@pytest.mark.parametrize(("sample", "name"), FILES)
def test_a_cut_within_a_line_is_refused(sample: str, name: str) -> None:
    whole = SAMPLES[sample][name]
    in_force = [PolicyFile(name, whole)]
    let_through = [
        end
        for end in range(1, len(whole))
        if not cut_off([PolicyFile(name, whole[:end])], in_force) and not whole[:end].endswith(b"\n")
    ]
    assert let_through == []


@pytest.mark.parametrize(("sample", "name"), FILES)
def test_a_cut_after_a_line_widens_access_only_where_nothing_can_notice(sample: str, name: str) -> None:
    whole, files = SAMPLES[sample][name], SAMPLES[sample]
    places = places_of(whole)
    allowed = allowed_by(load(files), places)

    widened = []
    for end in line_ends(whole):
        cut = load({**files, name: whole[:end]})
        if cut is not None and allowed_by(cut, places) - allowed:
            widened.append(whole[:end].count(b"\n"))

    assert widened == UNNOTICED.get((sample, name), [])


@pytest.mark.parametrize(("sample", "name"), FILES)
def test_no_cut_loads_where_the_end_is_marked(sample: str, name: str) -> None:
    whole = SAMPLES[sample][name].rstrip(b"\r\n") + b"\n# end"
    assert load({name: whole}, require_end=True) is not None
    assert load({name: whole + b"\n"}, require_end=True) is not None
    loaded = [end for end in range(len(whole)) if load({name: whole[:end]}, require_end=True) is not None]
    assert loaded == []


@pytest.mark.parametrize(("sample", "name"), FILES)
def test_the_requests_meet_every_route_with_both_answers(sample: str, name: str) -> None:
    """Without that, a lost condition would not show. A route that is public, or behind one, has but one answer."""
    whole = SAMPLES[sample][name]
    policies = load({name: whole})
    assert policies is not None
    answers = {
        (outcome.route, outcome.status == 200)
        for outcome in (decided(policies, visit, caller) for visit, caller in meetings(places_of(whole)))
        if outcome.route is not None
    }
    assert {route for route, _ in answers} == {route.index for route in policies.routes.routes}
    assert {allows for _, allows in answers} >= {True}


def line_ends(data: bytes) -> Iterator[int]:
    return (end for end in range(len(data)) if data[:end].endswith(b"\n"))


def load(files: Mapping[str, bytes], *, require_end: bool = False) -> PolicySet | None:
    try:
        return parse_policies(list(files.items()), PolicyOptions(require_end=require_end))
    except LoadError:
        return None


class Places(NamedTuple):
    """Where requests go: what a file names, and what it does not."""

    hosts: tuple[str, ...]
    paths: tuple[str, ...]


def places_of(data: bytes) -> Places:
    text = data.decode()
    hosts = re.findall(r"from: *https?://([a-z0-9.-]+)", text)
    paths = re.findall(r"(?:prefix|path|starts_with): *(/[^\s,}]+)", text)
    return Places((*sorted(set(hosts)), "x.localhost"), tuple(sorted({*paths, *PATHS})))


def allowed_by(policies: PolicySet | None, places: Places) -> frozenset[int]:
    """Give the numbers of the meetings that end with an allow."""
    assert policies is not None
    return frozenset(
        number
        for number, (visit, caller) in enumerate(meetings(places))
        if decided(policies, visit, caller).status == 200
    )


PATHS = ("/", "/a", "/internal/x", "/internal/health")
PREFLIGHT = {"origin": "https://x.example", "access-control-request-method": "PUT"}
FRIDAY_NOON = datetime(2027, 1, 15, 12, tzinfo=UTC)
SUNDAY_NIGHT = datetime(2027, 1, 17, 23, tzinfo=UTC)
JUST_NOW = int(FRIDAY_NOON.timestamp()) - 60
GROUPS = (["admins"], ["developers"], ["sales"], ["editors"], ["suspended", "admins"], ["suspended", "support"], [])


@cache
def meetings(places: Places) -> list[tuple[Visit, Caller | None]]:
    """Give every request with every caller: fixed, so that a cut changes nothing but the policy."""
    return [
        (Visit(method, host, path, headers, ip, at), caller)
        for method, headers in (("GET", {}), ("POST", {}), ("OPTIONS", PREFLIGHT))
        for host, path in product(*places)
        for ip, at in (("10.20.2.3", FRIDAY_NOON), ("192.0.2.1", FRIDAY_NOON), ("10.20.2.3", SUNDAY_NIGHT))
        for caller in callers()
    ]


def callers() -> list[Caller | None]:
    issuer = "https://one"
    people = [
        Caller("alice" if "admins" in groups else "bob", issuer, client, "access", {"cognito:groups": groups} | more)
        for groups in GROUPS
        for client, more in (
            ("shop-web", {"tenant": ["acme"], "auth_time": JUST_NOW}),
            ("notes-app", {"tenant": ["acme", "bell"], "scope": "notes/read"}),
        )
    ]
    machine = Caller("batch", issuer, "batch", "access", {"scope": "orders/read"})
    mail = {"email": "alice@example.com", "email_verified": True}
    return [None, machine, Caller("alice", issuer, "web", "id", mail), *people]
