"""How long one route with 50 criteria takes to decide (the goal is below 50 µs): `python tests/bench/micro_policy.py`.

Half of the criteria ask for groups and claims, the rest are of every other kind that needs no certificate. The caller
passes by the last one, so that nothing is spared; nothing would be anyway, because nothing short-circuits. Prints the
median and the 99th percentile of batches, for an allow, a denial and an anonymous caller, and for finding one route
among a thousand.
"""

from __future__ import annotations

import json
import statistics
import timeit
from collections.abc import Callable

from authz.model import Principal, Request
from authz.policy.criterion import Facts
from authz.policy.decision import decide
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.policy.path import Host, canonical_path
from authz.policy.routes import Route

NOW = 1_800_000_000.0
BATCH, BATCHES = 200, 100

KINDS = [
    {"user": {"in": ["mallory", "eve"]}},
    {"email": {"ends_with": "@partner.example"}},
    {"domain": "partner.example"},
    {"http_method": {"in": ["PUT", "DELETE"]}},
    {"http_path": {"starts_with": "/internal/", "not": "/internal/health"}},
    {"cors_preflight": True},
    {"source_ip": ["10.0.0.0/8", "192.168.0.0/16"]},
    {"date": {"before": "2026-01-01"}},
    {"day_of_week": {"days": "sat,sun", "timezone": "Europe/Berlin"}},
    {"time_of_day": {"timezone": "Europe/Berlin", "after": "22:00"}},
    {"scope": "orders/write"},
    {"client_id": "batch"},
    {"auth_age": {"max": "10m"}},
]
CLAIMS = [{"groups": f"group-{number}"} for number in range(20)] + [
    {f"claim/custom:level{number}": number} for number in range(50 - len(KINDS) - 21)
]
CRITERIA = [*KINDS, *CLAIMS, {"groups": "admins"}]


def policies(routes: list[dict[str, object]]) -> PolicySet:
    return parse_policies([("bench.yaml", json.dumps(routes).encode())], PolicyOptions())


def facts(principal: Principal | None) -> Facts:
    request = Request("GET", "a.example", "/orders/42?x=1", {"accept": ("*/*",)}, "203.0.113.7")
    return Facts(request, canonical_path(request.path), principal, NOW)


def principal(*groups: str) -> Principal:
    claims = {"cognito:groups": list(groups), "scope": "openid orders/read", "auth_time": int(NOW) - 3600}
    return Principal("alice", "https://issuer.example", "web", "access", claims, "alice@example.com")


def measure(what: str, once: Callable[[], object]) -> None:
    batches = sorted(1e6 * seconds / BATCH for seconds in timeit.repeat(once, number=BATCH, repeat=BATCHES))
    print(f"{what:48} {statistics.median(batches):7.1f} µs   p99 {batches[-2]:7.1f} µs")


def only_route(criteria: list[dict[str, object]]) -> Route:
    return policies([{"from": "https://a.example", "policy": {"allow": {"or": criteria}}}]).routes.routes[0]


def main() -> None:
    assert len(CRITERIA) == 50
    route = only_route(CRITERIA)
    admin, nobody = facts(principal("developers", "admins")), facts(None)
    measure("50 criteria, allowed by the last", lambda: decide(admin, route))
    measure("50 criteria, denied", lambda: decide(facts_of_carol, route))
    measure("50 criteria, anonymous", lambda: decide(nobody, route))
    one = only_route([{"groups": "admins"}])
    measure("1 criterion, allowed", lambda: decide(admin, one))
    many = policies([
        {"from": f"https://host-{number % 10}.example", "prefix": f"/{number}/"} for number in range(1_000)
    ]).routes  # fmt: skip
    host = Host("host-9.example", None)
    measure("the last of 1,000 routes on 10 hosts, by prefix", lambda: many.find(host, "/999/orders"))


facts_of_carol = facts(principal("developers"))

if __name__ == "__main__":
    main()
