"""Seeded random policies, callers and requests, for a million decisions; hypothesis would take days over them.

They use the words and the mixtures of tests/property/test_policies.py. Requests come again with small changes, because
what an answer may wrongly be remembered by shows only then.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.support.interpreter import Visit
from tests.support.vocabulary import (
    CLAIMS,
    GROUPS,
    HOSTS,
    METHODS,
    PATHS,
    REGEXES,
    REQUEST_HOSTS,
    REQUEST_PATHS,
    TEXTS,
    VALUES,
    ZONES,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

CLOCKS = ["02:00", "2:30 AM", "3AM", "12 PM", "17:00:30", "11:59:59.5", "12 am"]
DAYS = ["*", "mon", "sat,sun", "mon-fri", "Fri-mon", "sunday, tue-WED"]
NETWORKS = ["10.0.0.0/8", "10.1.2.3", "::/0", "0.0.0.0/0", "2001:db8::/32", "192.0.2.77/24"]
AFTER = ["2026-03-29", "2026-03-29T01:30:00Z", "2026-10-25T03:00:00+02:00"]
BEFORE = ["2026-03-30", "2026-10-25T01:00:00Z", "2027-01-01"]
ADDRESSES = ["10.1.2.3", "192.0.2.1", "::ffff:10.0.0.1", "2001:db8::1", ""]
MOMENTS = [
    datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 0, tzinfo=UTC),
    datetime(2027, 1, 15, 8, 0, tzinfo=UTC),
]
PREFLIGHT = {"origin": "https://x.example", "access-control-request-method": "PUT"}
LIKELY_HOSTS = ["a.example", "A.Example.", "a.example:8443", "b.example:443", "x.y.test", "c.example"]
LIKELY_PATHS = ["/", "/a", "/a", "/a/b?x=//", "/b", "/caf%c3%a9", "/%61"]


class Policies:
    """Writes routes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self._criteria: Sequence[Callable[[], dict[str, Any]]] = (
            lambda: self._one([{"accept": True}, {"reject": True}, {"authenticated_user": True}]),
            lambda: {"cors_preflight": True},
            lambda: {self._one(["user", "email", "domain"]): self._operators(TEXTS)},
            lambda: {"groups": self._list_operators(GROUPS)},
            lambda: {f"claim/{self._one(CLAIMS)}": self._list_operators(VALUES)},
            lambda: {"http_method": self._operators(METHODS)},
            lambda: {"http_path": self._operators(["/", "/a", "/café", "b", "%"])},
            lambda: {"source_ip": self._one([self._one(NETWORKS), self._some(NETWORKS, 0, 2)])},
            lambda: {"date": self._bounds(AFTER, BEFORE) | self._one([{}, {"timezone": self._one(ZONES)}])},
            lambda: {
                "day_of_week": self._one(
                    [
                        self._one(DAYS),
                        {"days": self._one(DAYS), "timezone": self._one(ZONES)},
                    ]
                )
            },
            lambda: {"time_of_day": self._bounds(CLOCKS, CLOCKS) | {"timezone": self._one(ZONES)}},
            lambda: {"scope": self._operators(["orders/read", "orders/write", "orders/"])},
            lambda: {"client_id": self._operators(["web", "batch"])},
            lambda: {"token_use": self._operators(["access", "id"])},
            lambda: {"issuer": self._operators(["https://one", "https://two"])},
            lambda: {"identity_provider": self._operators(["Auth0", "Okta", "A"])},
            lambda: {"auth_age": {"max": self._one(["30s", "15m", "24h"])}},
        )

    def routes(self) -> list[dict[str, Any]]:
        """Write one to six routes; half of the files are a single route for everything."""
        if self.random.random() < 0.5:
            return [{"from": "https://*"} | self._access()]
        found = [
            {"from": self._one(HOSTS)} | self._matcher() | self._access() for _ in range(self.random.randint(1, 6))
        ]
        for number, route in enumerate(found):
            if self.random.random() < 0.2:
                route["id"] = f"route-{number}"
        return found

    def _access(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        kind = self.random.random()
        if kind < 0.08:
            found["allow_public_unauthenticated_access"] = True
        elif kind < 0.35:
            found["allow_any_authenticated_user"] = True
        elif kind < 0.7:
            if self.random.random() < 0.7:
                found["allowed_users"] = self._one([self._one(TEXTS), self._some(TEXTS, 0, 3)])
            if self.random.random() < 0.3:
                found["allowed_domains"] = "example.com"
        if self.random.random() < 0.3:
            found["cors_allow_preflight"] = self.random.random() < 0.5
        if self.random.random() < 0.3:
            names = self._some(CLAIMS, 0, 3)
            found["allowed_idp_claims"] = {n: self._one([self._one(VALUES), self._some(VALUES, 0, 3)]) for n in names}
        if self.random.random() < 0.7:
            rules = [self._rule() for _ in range(self.random.choice([1, 1, 1, 2, 3]))]
            found["policy"] = rules[0] if len(rules) == 1 else rules
        return found

    def _rule(self) -> dict[str, Any]:
        effects = self._one([["allow"], ["allow"], ["allow"], ["deny"], ["allow", "deny"]])
        return {effect: self._body() for effect in effects}

    def _body(self) -> dict[str, Any]:
        names = self._some(["and", "or", "or", "not", "nor"], 1, 2)
        return {name: self._block() for name in names}

    def _block(self) -> list[dict[str, Any]]:
        return [self._one(self._criteria)() for _ in range(self.random.choice([1, 1, 2, 3, 4]))]

    def _matcher(self) -> dict[str, Any]:
        kind = self.random.randrange(5)
        path = self._one(PATHS)
        regex = self._one(REGEXES)
        return [{}, {"path": path}, {"prefix": path}, {"regex": regex}, {"path": path, "regex": regex}][kind]

    def _operators(self, values: Sequence[Any]) -> Any:
        if self.random.random() < 0.4:
            return self._one(values)
        found: dict[str, Any] = {}
        for name in self._some(["is", "not", "starts_with", "ends_with", "contains", "in", "not_in"], 1, 2):
            least = 1 if name == "not_in" else 0
            found[name] = self._some(values, least, 3) if name in ("in", "not_in") else self._one(values)
        return found

    def _list_operators(self, values: Sequence[Any]) -> Any:
        if self.random.random() < 0.5:
            return self._one(values)
        return {name: self._one(values) for name in self._some(["has", "is", "exclude"], 1, 2)}

    def _bounds(self, after: Sequence[str], before: Sequence[str]) -> dict[str, Any]:
        names = self._some(["after", "before"], 1, 2)
        return {name: self._one(after if name == "after" else before) for name in names}

    def _one(self, values: Sequence[Any]) -> Any:
        return self.random.choice(values)

    def _some(self, values: Sequence[Any], least: int, most: int) -> list[Any]:
        return self.random.sample(values, min(len(values), self.random.randint(least, most)))


def random_claims(random: Random) -> dict[str, Any]:
    """Give what a caller says beside who it is."""
    claims: dict[str, Any] = {}
    for name in random.sample([*CLAIMS, "a"], random.randint(0, 4)):
        claims[name] = _claim(random)
    if random.random() < 0.7:
        claims["email"] = random.choice([*TEXTS, "alice@example.com", "", 5])
        claims["email_verified"] = random.choice([True, True, True, False, "true"])
    claims |= random.choice([{}, {"cognito:groups": ["admins"]}, {"cognito:groups": ["developers", "one_Okta"]}])
    claims |= random.choice([{}, {"identities": "Auth0"}, {"identities": [{"providerName": "Auth0"}, {}, "Okta"]}])
    claims |= random.choice([{}, {"scope": "orders/read"}, {"scope": "orders/write orders/read"}, {"scope": ""}])
    claims |= random.choice([{}, {"auth_time": 1_800_000_000 - 60}, {"auth_time": "1800000000"}, {"auth_time": True}])
    return claims


def _claim(random: Random) -> Any:
    values = [*VALUES, None]
    kind = random.randrange(3)
    if kind == 0:
        return random.choice(values)
    if kind == 1:
        return [random.choice(values) for _ in range(random.randint(0, 3))]
    names = random.sample(["b", "b.c", "c"], random.randint(0, 2))
    return {name: random.choice([*VALUES, {"c": "x"}]) for name in names}


def random_moment(random: Random) -> datetime:
    """Give an edge of the policies' times, or any second between 2026 and the middle of 2027."""
    if random.random() < 0.5:
        return random.choice(MOMENTS)
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=random.randrange(516 * 86400))


def random_visit(random: Random) -> Visit:
    """Give a likely request."""
    return Visit(
        method=random.choice(METHODS),
        host=random.choice(LIKELY_HOSTS),
        path=random.choice(LIKELY_PATHS),
        headers=random.choice([{}, {}, PREFLIGHT, {"origin": ""}]),
        ip=random.choice(ADDRESSES),
        at=random_moment(random),
    )


def changed(random: Random, visit: Visit) -> Visit:
    """Give the request again with one thing changed, sometimes into what must be refused."""
    match random.randrange(7):
        case 0:
            return visit._replace(method=random.choice([*METHODS * 4, "get", "GE T"]))
        case 1:
            return visit._replace(host=random.choice([*LIKELY_HOSTS * 4, *REQUEST_HOSTS]))
        case 2:
            return visit._replace(path=random.choice([*LIKELY_PATHS * 4, *REQUEST_PATHS]))
        case 3:
            return visit._replace(headers=random.choice([{}, PREFLIGHT, {"origin": ""}]))
        case 4:
            return visit._replace(ip=random.choice(ADDRESSES))
        case 5:
            return visit._replace(at=random_moment(random))
        case _:
            return visit._replace(route_id=random.choice([*[None] * 8, "route-0", "route-1", "nothing"]))
