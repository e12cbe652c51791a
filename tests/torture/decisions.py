"""A million requests, from the bytes of Envoy's message to the bytes of the answer, against the slow model.

The service is whole but for gRPC: Door, Authorizer, caches, compiled policies, answers, the decision log. The model is
tests/support/interpreter.py, written from the specification alone. Every process keeps one Door for all its policies,
callers and key rotations, and requests repeat with small changes, so that a cache that remembers by too little is seen.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from itertools import repeat
from multiprocessing import get_context
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from authz.audit import DecisionLog
from authz.authorizer import Authenticator, Authorizer, Issuer
from authz.errors import TokenError
from authz.identity.claims import ClaimShapes
from authz.identity.keys import KeySet
from authz.identity.verified import VerifiedTokens
from authz.lines import Line
from authz.metrics import Metrics
from authz.model import Reason
from authz.pb import external_auth_pb2 as pb
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.settings import DEFAULT_IDENTITY_HEADERS, DEFAULT_TOKENS
from authz.transport.check_response import Answers, AnswerSettings
from authz.transport.server import Door
from tests.support.check_request import check_request
from tests.support.interpreter import Caller, Outcome, Visit, interpret
from tests.support.user_pool import FakeUserPool, base64url
from tests.support.wild import Policies, changed, random_claims, random_moment, random_visit
from tests.torture.figures import Figure, Stand, at_least, none_of

if TYPE_CHECKING:
    from collections.abc import Iterator

DECISIONS = 1_000_000
PROCESSES = 2
VISITS_PER_POLICY = 120
HOLDERS = 150
FAR = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
EARLY = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
MAX_TOLD = 20  # disagreements that are kept to be shown
HOSTILE = {
    "x-auth-subject": "root",
    "x-auth-groups": "admins",
    "x-auth-email": "root@example.com",
    "x_auth_subject": "root",
    "cookie": "session=1",
    "x-request-id": "8c74b6aa",
}


class Keys:
    """Plays the KeyStore of a pool: two generations of keys, or none at all."""

    def __init__(self, *generations: FakeUserPool) -> None:
        self.sets = [KeySet(pool.keys) for pool in generations]
        self.current: KeySet | None = self.sets[0] if self.sets else None

    async def find(self, kid: str) -> tuple[KeySet, Any]:
        if self.current is None:
            raise TokenError(Reason.KEYS_UNAVAILABLE, "no keys")
        if kid not in self.current.keys:
            raise TokenError(Reason.TOKEN_KEY_UNKNOWN, "no such key")
        return self.current, self.current.keys[kid]


class Holder(NamedTuple):
    """Somebody with a token, and what must be thought of it."""

    token: str | None
    caller: Caller | None
    flaw: str | None = None  # the reason, whenever it is shown
    keys: KeySet | None = None  # it is known while its pool has these
    issued: float = EARLY
    expires: float = FAR

    def known_as(self, at: float, in_force: dict[str, KeySet | None]) -> Caller | str | None:
        if self.flaw is not None or self.caller is None:
            return self.flaw
        if in_force[self.caller.issuer] is not self.keys:
            return "token-key-unknown"
        if at >= self.expires:
            return "token-expired"
        return "token-not-yet-valid" if at < self.issued - 60 else self.caller


class Lines:
    """Plays the LineWriter and keeps the reasons of each decision until they are asked for."""

    def __init__(self) -> None:
        self._reasons: dict[str, list[str]] = {}

    def write(self, line: Line) -> None:
        record = json.loads(str(line))
        self._reasons[record["decision_id"]] = record["reasons"]

    def reasons(self, decision_id: str) -> list[str]:
        return self._reasons.pop(decision_id)


class Asked(NamedTuple):
    """A request, when it is asked, and what the answer must be."""

    number: int
    check: bytes
    visit: Visit
    thought: Caller | str | None
    wanted: Outcome


class House:
    """One Door with everything behind it, the issuers of its tokens, and the people who hold them."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 0.0
        self.policies: PolicySet | None = None
        self.pools = {issuer: pool_of(issuer) for issuer in ("https://one", "https://two")}
        self.later = {issuer: pool_of(issuer, rotations=1) for issuer in self.pools}
        self.keys = {issuer: Keys(self.pools[issuer], self.later[issuer]) for issuer in self.pools}
        self.lines = Lines()
        self.metrics = Metrics(version="0", wall=self._time)
        self.away = pool_of("https://away")
        self.door = self._door()
        self.families = [self._family() for _ in range(HOLDERS)] + [[Holder(None, None)]] * (HOLDERS // 10)

    def _time(self) -> float:
        return self.now

    def _door(self) -> Door:
        issuers = [
            Issuer(pool.trust(clients=frozenset({"web", "batch"})), self.keys[name])
            for name, pool in self.pools.items()
        ]  # type: ignore[arg-type]
        issuers.append(Issuer(self.away.trust(), Keys()))  # type: ignore[arg-type]
        authenticator = Authenticator(
            places=DEFAULT_TOKENS,
            issuers=issuers,
            verified=VerifiedTokens(max_entries=HOLDERS // 2, max_bytes=10_000_000),  # smaller than the crowd
            shapes=ClaimShapes(),
            observe=self.metrics,
        )
        return Door(
            authorizer=Authorizer(
                authenticator=authenticator, policies=lambda: self.policies, allow_path_parameters=False
            ),
            answers=Answers(AnswerSettings(identity_headers=DEFAULT_IDENTITY_HEADERS, tokens=DEFAULT_TOKENS)),
            decisions=DecisionLog(self.lines),  # type: ignore[arg-type]
            metrics=self.metrics,
            wall=self._time,
        )

    def _holder(self) -> Holder:
        """Sign one in; a third of them has something wrong with the token."""
        random = self.random
        issuer, use = random.choice(list(self.pools)), random.choice(["access", "id"])
        generation = random.choice([0] * 5 + [1])
        pool = (self.pools, self.later)[generation][issuer]
        subject = random.choice(["alice", "bob", "alice@example.com"])
        client = random.choice(["web", "batch"])
        more = random_claims(random)
        issued, expires = EARLY, FAR
        if random.random() < 0.2:
            issued = int(random_moment(random).timestamp())
        if random.random() < 0.2:
            expires = int(random_moment(random).timestamp())
        own = {"sub": subject, "iss": issuer, "token_use": use, "iat": issued, "exp": expires}
        own["client_id" if use == "access" else "aud"] = client
        claims = more | own
        caller = Caller(subject, issuer, client, use, claims)
        good = Holder(pool.mint(claims), caller, None, self.keys[issuer].sets[generation], issued, expires)
        return self._flawed(good, claims, pool) if random.random() < 0.12 else good

    def _family(self) -> list[Holder]:
        """Give one holder and, beside some, others whose tokens are nearly the same: what a cache may take for it."""
        good = self._holder()
        if good.token is None or good.caller is None or self.random.random() < 0.5:
            return [good]
        head, _, signature = good.token.rpartition(".")
        header, _, _ = head.partition(".")
        payload = base64url(json.dumps(good.caller.claims | {"cognito:groups": ["admins"], "x": 1}).encode())
        place = self.random.randrange(len(signature) - 2)
        other = signature[:place] + ("A" if signature[place] != "A" else "B") + signature[place + 1 :]
        # An unknown key is noticed before a bad signature, so these are bad in one way only.
        others = Holder(f"{header}.{payload}.{signature}", None, "forged", good.keys)
        changed = Holder(f"{head}.{other}", None, "forged", good.keys)
        return [good, good, others, changed]

    def crowd(self) -> list[Holder]:
        """Give who calls for a while."""
        return [holder for family in self.random.sample(self.families, 4) for holder in family]

    def _flawed(self, good: Holder, claims: dict[str, Any], pool: FakeUserPool) -> Holder:
        assert good.token is not None
        match self.random.randrange(6):
            case 0:
                return Holder(self.away.mint(claims | {"iss": "https://away"}), None, "keys-unavailable")
            case 1:
                return Holder(pool.mint(claims | {"iss": "https://else"}), None, "token-issuer-unknown")
            case 2:
                return Holder(pool.mint(claims, header={"alg": "none"}), None, "token-algorithm-refused")
            case 3:
                return Holder(good.token[:-1], None, "token-malformed")
            case 4:
                return Holder(good.token + "=", None, "token-malformed")
            case _:
                return Holder(pool.mint(claims, header={"crit": ["x"]}), None, "token-malformed")

    def thought_of(self, holder: Holder, at: float) -> Caller | str | None:
        in_force = {issuer: keys.current for issuer, keys in self.keys.items()}
        if holder.flaw == "forged":
            known = any(keys is holder.keys for keys in in_force.values())
            return "token-signature-invalid" if known else "token-key-unknown"
        return holder.known_as(at, in_force)

    def rotate(self) -> None:
        keys = self.keys[self.random.choice(list(self.keys))]
        keys.current = self.random.choices(keys.sets, [4, 1])[0]

    def message(self, visit: Visit, holder: Holder) -> bytes:
        hostile = {name: HOSTILE[name] for name in HOSTILE if self.random.random() < 0.1}
        check = check_request(
            method=visit.method,
            host=visit.host,
            path=visit.path,
            token=holder.token,
            headers={**visit.headers, **hostile},
            raw=self.random.random() < 0.5,
            source_ip=visit.ip,
            route=visit.route_id,
        )
        return check.SerializeToString()

    async def answer(self, asked: Asked) -> pb.CheckResponse:
        self.now = asked.visit.at.timestamp()
        return pb.CheckResponse.FromString(await self.door.check(asked.check))


def pool_of(issuer: str, rotations: int = 0) -> FakeUserPool:
    pool = FakeUserPool()
    pool.issuer = issuer
    for _ in range(rotations):
        pool.rotate()
    return pool


class Tally(NamedTuple):
    """What a process counted."""

    decisions: int
    policies: int
    outcomes: Counter[int]  # by the model's status
    disagreements: int
    wrong_allows: int
    wrong_identities: int
    told: list[str]


class Comparison:
    """Holds the answers of one house to the model, and counts."""

    def __init__(self, house: House, seed: int) -> None:
        self._house = house
        self._seed = seed
        self.outcomes: Counter[int] = Counter()
        self.disagreements = self.wrong_allows = self.wrong_identities = 0
        self.told: list[str] = []

    async def of(self, asked: Asked, routes: list[dict[str, Any]]) -> None:
        """Ask and compare."""
        answer = await self._house.answer(asked)
        wanted, thought, where = asked.wanted, asked.thought, f"seed {self._seed}, {asked.number}"
        self.outcomes[wanted.status] += 1
        given = outcome_of(answer, self._house)
        if given != wanted_of(wanted, self._house):
            self.disagreements += 1
            self.wrong_allows += answer.status.code == 0 and wanted.status != 200
            self.told.append(f"{where}: {given} instead of {wanted}: {asked.visit} {thought} {routes}")
        elif answer.status.code == 0 and not tells_who(answer, thought):
            self.wrong_identities += 1
            self.told.append(f"{where}: the wrong identity headers for {thought}: {answer}")


async def compare(seed: int, count: int) -> Tally:
    """Ask that many times and hold every answer to the model."""
    random = Random(seed)
    house, policies = House(random), Policies(random)
    comparison, written = Comparison(house, seed), 0
    routes: list[dict[str, Any]] = []
    visits: list[Visit] = []
    crowd: list[Holder] = []
    for number in range(count):
        is_new, rotates = number % VISITS_PER_POLICY == 0, random.random() < 0.01
        if is_new:
            routes, written = policies.routes(), written + 1
            house.policies = parse_policies([("policies/wild.yaml", json.dumps(routes).encode())], PolicyOptions())
            visits = [random_visit(random) for _ in range(6)]
            crowd = house.crowd()
            house.rotate()
        if rotates:
            house.rotate()
        which = random.randrange(len(visits))
        visit, holder = visits[which], random.choice(crowd)
        if random.random() < 0.6:
            visit = changed(random, visit)
            if random.random() < 0.1:
                visits[which] = visit
        thought = house.thought_of(holder, visit.at.timestamp())
        asked = Asked(number, house.message(visit, holder), visit, thought, interpret(routes, visit, thought))
        await comparison.of(asked, routes)
    return Tally(
        count,
        written,
        comparison.outcomes,
        comparison.disagreements,
        comparison.wrong_allows,
        comparison.wrong_identities,
        comparison.told[:MAX_TOLD],
    )


Seen = tuple[int, list[str], str, str]
"""Status, reasons, the first reason as Envoy is told it, the route's label."""


def outcome_of(answer: pb.CheckResponse, house: House) -> Seen:
    fields = answer.dynamic_metadata.fields
    status = 200 if answer.status.code == 0 else answer.denied_response.status.code
    reasons = house.lines.reasons(fields["decision_id"].string_value)
    return status, reasons, fields["reason"].string_value, fields["route"].string_value


def wanted_of(outcome: Outcome, house: House) -> Seen:
    assert house.policies is not None
    label = "" if outcome.route is None else house.policies.routes.routes[outcome.route].name.label
    return outcome.status, outcome.reasons, outcome.reasons[0], label


def tells_who(answer: pb.CheckResponse, thought: Caller | str | None) -> bool:
    """Hold the identity headers of an allow to the caller: its own, or removed."""
    told = {option.header.key: option.header.value for option in answer.ok_response.headers}
    removed = set(answer.ok_response.headers_to_remove)
    wanted: dict[str, str | None] = {"x-auth-subject": None, "x-auth-email": None}
    if isinstance(thought, Caller):
        wanted["x-auth-subject"] = thought.subject
        if thought.claims.get("email_verified") is True and isinstance(thought.claims["email"], str):
            wanted["x-auth-email"] = thought.claims["email"] or None
    return all(told.get(name) == value and (value is not None or name in removed) for name, value in wanted.items())


def run(seed: int, count: int) -> Tally:
    return asyncio.run(compare(seed, count))


def torture(stand: Stand) -> Iterator[Figure]:
    """Compare in two processes, from a seed that is told, so that a disagreement can be had again."""
    count = stand.count(DECISIONS)
    seed = int(os.environ.get("AUTHZ_SEED", "6"))
    share = -(-count // PROCESSES)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as processes:
        tallies = list(processes.map(run, [seed * 1000 + process for process in range(PROCESSES)], repeat(share)))
    for line in [line for tally in tallies for line in tally.told][:MAX_TOLD]:
        stand.tell(line)
    yield from figures(tallies)


def figures(tallies: list[Tally]) -> Iterator[Figure]:
    decisions = sum(tally.decisions for tally in tallies)
    outcomes = sum((tally.outcomes for tally in tallies), Counter[int]())
    policies = sum(tally.policies for tally in tallies)
    yield none_of(
        f"decisions on {policies:,} generated policies other than the slow model's (outcome, reasons, route)",
        sum(tally.disagreements for tally in tallies),
        decisions,
    )
    yield none_of("wrong allows", sum(tally.wrong_allows for tally in tallies), decisions)
    yield none_of(
        "allows with another's identity headers", sum(tally.wrong_identities for tally in tallies), outcomes[200]
    )
    yield at_least("of them allows", 100 * outcomes[200] / decisions, 10, "%")
