"""Whoever was let in is let in no more: a key that left the set, an entry that came into the list.

The service is real, its keys come from an endpoint that the test changes, its list lies in a folder that the test
writes. Every token was let in before, twice, so that it is remembered: a memory must not outlive a revocation. Whoever
is not meant stays let in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from authz.identity.revocations import RevocationList, parse_revocations
from authz.model import Principal
from tests.support.check_request import check_request
from tests.support.jwks_server import Answer, JwksServer
from tests.support.running_service import RunningService
from tests.support.user_pool import FakeUserPool, jwk, rsa_key
from tests.torture.figures import Figure, Stand, at_most, none_of

REFRESH: Final = 1.0  # seconds
LONG_LIST: Final = 100_000
LONGEST_WAIT: Final = 10.0  # seconds until what must happen is given up
AFTERWARDS: Final = 10  # times that each revoked token is shown
LIFETIME_OF_ENTRY: Final = 3.0  # seconds
MAX_RATIO: Final = 2.0  # of a check's cost; a loop over the entries would have a ratio of 10,000
POLICY: Final = "- {from: 'https://app.example.com', allow_any_authenticated_user: true}\n"

Entry = dict[str, str]


def torture(stand: Stand) -> Iterator[Figure]:
    """Put every way of revoking to the test."""
    yield from removed_key(stand.folder / "key", stand.count(2000))
    for entries in (10, stand.count(LONG_LIST)):
        yield from listed(stand.folder / f"list-{entries}", stand.count(2000), entries)
    yield from expiring(stand.folder / "expiring")
    yield cost(stand.count(LONG_LIST), stand.count(100_000))


# --- a key that left the set


def removed_key(folder: Path, count: int) -> Iterator[Figure]:
    """Take a key out of the published set, with so many tokens of it remembered."""
    folder.mkdir()
    pool, gone = FakeUserPool(clock=time.time), rsa_key("to be removed")
    tokens = [pool.token(sub=f"person-{number}", key=gone) for number in range(count)]
    unseen = [pool.token(sub=f"stranger-{number}", key=gone) for number in range(count)]
    with JwksServer(Answer(pool.jwks(jwk(gone)))) as server:
        settings = {"jwks": {"refresh": f"{REFRESH:g}s"}, "log": {"decisions": "none"}}
        with RunningService(folder, POLICY, pools=[pool], jwks_uri=server.uri, settings=settings) as service:
            yield everyone("a removed key's tokens refused before", service, tokens)
            server.answer = Answer(pool.jwks())
            removed = time.monotonic()
            until(lambda: not allowed(service, tokens[0]))
            last_accept = time.monotonic() - removed
            time.sleep(max(0.0, removed + REFRESH + 1 - time.monotonic()))
            late = accepts(service, [*tokens, *unseen])
            yield at_most("a removed key's tokens accepted for", last_accept, REFRESH + 1, "s")
            yield none_of("… accepted after refresh + 1 s, remembered and new ones", late, 2 * count)
            yield everyone("the other key's tokens refused", service, [pool.token() for _ in range(count)])


# --- an entry that came into the list


class Meant(NamedTuple):
    """An entry, tokens that it means, and tokens that only look like them."""

    entry: Entry
    tokens: Sequence[str]
    others: Sequence[str]


def kinds(pool: FakeUserPool, other: FakeUserPool, each: int) -> dict[str, Meant]:
    """Give an entry of each kind, with so many tokens."""
    now = time.time()
    before, after = {"now": now - 120}, {"now": now - 30}

    def several(mint: Callable[..., str], **claims: Any) -> list[str]:
        return [mint(jti=f"{number}", **claims) for number in range(each)]

    everyone_else = several(pool.token, sub="bystander", username="bystander", origin_jti="bystander")
    person = {"sub": "old-and-new", "username": "old-and-new", "origin_jti": "old-and-new"}
    return {
        "sub": Meant({"sub": "eve"}, several(pool.token, sub="eve"), everyone_else),
        "username": Meant(
            {"username": "Mallory"},
            [*several(pool.token, username="Mallory"), *several(pool.id_token, **{"cognito:username": "Mallory"})],
            several(pool.token, username="mallory"),
        ),
        "origin_jti": Meant({"origin_jti": "stolen"}, several(pool.token, origin_jti="stolen"), everyone_else),
        "client_id": Meant({"client_id": other.client_id}, several(other.token), everyone_else),
        "sub and client_id": Meant(
            {"sub": "machine", "client_id": pool.client_id},
            several(pool.token, sub="machine"),
            several(pool.token, sub="machine-2"),
        ),
        "sub and issued_before": Meant(
            {"sub": "old-and-new", "issued_before": written(now - 60)},
            several(pool.token, **person, **before),
            several(pool.token, **person, **after),
        ),
        "issued_before": Meant(
            {"issued_before": written(now - 60)},
            several(pool.token, sub="anybody", **before),
            several(pool.token, sub="anybody", **after),
        ),
    }


def listed(folder: Path, count: int, entries: int) -> Iterator[Figure]:
    """Write one entry of each kind beside so many others, one after the other."""
    pool = FakeUserPool(clock=time.time)
    other = FakeUserPool(pool_id="eu-west-1_SecondOne", client_id="second-client", clock=time.time)
    beside = f"beside {entries:,} others"
    with list_of(folder, [pool, other], filler(entries)) as service:
        tries = [Try(service, folder, meant) for meant in kinds(pool, other, max(1, count // 20)).values()]
    meant, others = sum(len(one.meant.tokens) for one in tries), sum(len(one.meant.others) for one in tries)
    refused = sum(one.refused_before for one in tries)
    yield none_of(f"an entry of any kind {beside}: refused before it came", refused, 2 * (meant + others))
    slowest = max(one.seconds for one in tries)
    yield at_most(f"an entry of any kind {beside}: from its save to the first refusal", slowest, 1.0, "s")
    late = sum(one.accepted_after for one in tries)
    yield none_of(f"an entry of any kind {beside}: accepted after that", late, AFTERWARDS * meant)
    yield none_of(
        f"an entry of any kind {beside}: others refused", sum(one.others_refused for one in tries), 2 * others
    )


class Try:
    """What became of the tokens of one entry, which is gone again at the end."""

    def __init__(self, service: RunningService, folder: Path, meant: Meant) -> None:
        self.meant = meant
        known = meant.tokens[0]
        self.refused_before = refusals(service, [*meant.tokens, *meant.others], times=2)
        write(folder, [meant.entry])
        saved = time.monotonic()
        until(lambda: not allowed(service, known))
        self.seconds = time.monotonic() - saved
        self.accepted_after = accepts(service, meant.tokens, times=AFTERWARDS)
        self.others_refused = refusals(service, meant.others, times=2)
        write(folder, [])
        until(lambda: allowed(service, known))


def expiring(folder: Path) -> Iterator[Figure]:
    """Write an entry that ends soon, and ask until well after."""
    pool = FakeUserPool(clock=time.time)
    token = pool.token()
    with list_of(folder, [pool], "[]\n") as service:
        assert allowed(service, token)
        ends = time.time() + LIFETIME_OF_ENTRY
        write(folder, [{"sub": "somebody else"}, {"origin_jti": sign_in_of(pool), "expires": written(ends)}])
        until(lambda: not allowed(service, token))
        early = checks = 0
        while time.time() < ends - 0.1:  # a check takes its time: near the end it may be decided after it
            early, checks = early + allowed(service, token), checks + 1
        until(lambda: allowed(service, token))
        yield none_of("accepted before the entry expires", early, checks)
        yield at_most("an expired entry counts for another", max(0.0, time.time() - ends), 1.0, "s")


def sign_in_of(pool: FakeUserPool) -> str:
    return str(pool.access_claims()["origin_jti"])


# --- what a check costs


def cost(long: int, checks: int) -> Figure:
    """Compare a check against ten entries with one against many; half of the callers are revoked."""
    short = seconds_of(revocations_of(10), 10, checks)
    return at_most(
        f"a check with {long:,} entries costs, of one with 10",
        seconds_of(revocations_of(long), long, checks) / short,
        MAX_RATIO,
        "×",
    )


def revocations_of(entries: int) -> RevocationList:
    return parse_revocations([("list.yaml", filler(entries).encode())])


def seconds_of(revocations: RevocationList, entries: int, checks: int) -> float:
    """Give the seconds that so many checks take, at best: what else the machine does is not measured."""
    now = time.time()
    callers = [caller(number % (2 * entries)) for number in range(0, 200 * 7919, 7919)]
    assert {revocations.find(one, now) is not None for one in callers} == {True, False}
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for number in range(checks):
            revocations.find(callers[number % 200], now)
        best = min(best, time.perf_counter() - started)
    return best


def caller(number: int) -> Principal:
    claims = {"username": "alice", "origin_jti": "sign-in"}
    return Principal(f"person-{number}", "https://issuer", "client", "access", claims, issued_at=time.time())


# --- asking and writing


def everyone(what: str, service: RunningService, tokens: Sequence[str]) -> Figure:
    """Ask for all of them, twice: the second time they are remembered. Nobody may be refused."""
    return none_of(what, refusals(service, tokens, times=2), 2 * len(tokens))


def accepts(service: RunningService, tokens: Iterable[str], times: int = 1) -> int:
    return sum(allowed(service, token) for token in tokens for _ in range(times))


def refusals(service: RunningService, tokens: Sequence[str], times: int) -> int:
    return times * len(tokens) - accepts(service, tokens, times)


def allowed(service: RunningService, token: str) -> bool:
    return service.check(check_request(token=token)).code == 0


def until(holds: Callable[[], bool]) -> None:
    """Ask again and again. Raises TimeoutError for what does not come."""
    deadline = time.monotonic() + LONGEST_WAIT
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing changed for {LONGEST_WAIT:g} s")
        time.sleep(0.005)


@contextmanager
def list_of(folder: Path, pools: Sequence[FakeUserPool], others: str) -> Iterator[RunningService]:
    """Run the service with a folder of two lists: a long one that stays, and one that `write` writes."""
    lists = folder / "revocations"
    lists.mkdir(parents=True)
    (lists / "10-long.yaml").write_text(others)
    write(folder, [])
    settings = {"revocations": "revocations", "log": {"decisions": "none"}}
    with RunningService(folder, POLICY, pools=pools, settings=settings) as service:
        yield service


def write(folder: Path, entries: Sequence[Entry]) -> None:
    """Write the list as careful tools do: beside it, then renamed."""
    lines = [", ".join(f"{name}: {value}" for name, value in entry.items()) for entry in entries]
    file = folder / "revocations" / "20-now.yaml"
    draft = file.with_name(".draft")
    draft.write_text("".join(f"- {{{line}}}\n" for line in lines) or "[]\n")
    draft.replace(file)


def filler(entries: int) -> str:
    return "".join(f"- sub: person-{number}\n" for number in range(entries))


def written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
