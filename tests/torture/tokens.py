"""Half a million mutated tokens: we accept none that the strictest of PyJWT, joserfc and our rules refuses.

Some are changed after they were signed: of those only the unchanged token itself may be known. Some are signed over odd
headers and claims: those may be good, and both libraries say whether they are. What we refuse and one of them accepts
must be one of the reasons written down in tests/support/oracles.py, so that nobody good is turned away either.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.oracles import POOL, compare, joserfc, judge, pyjwt, stopped_clock
from tests.support.user_pool import DROP, NOW, base64url
from tests.torture.figures import Figure, Stand, at_least, none_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOKENS = 500_000
PROCESSES = 2
SIGNED = 0.4  # this share is signed after the change; signing takes most of the time
UNASKED = 0.8  # of what was changed and is refused, the oracles are asked about the rest only: PyJWT is slow
MAX_TOLD = 20

CLAIM_NAMES = [
    "iss",
    "sub",
    "exp",
    "iat",
    "nbf",
    "token_use",
    "client_id",
    "aud",
    "jti",
    "email",
    "email_verified",
    "x",
]
MEMBERS = ["typ", "cty", "jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "zip", "kid", "alg", "x"]
ODD: Sequence[Any] = [
    *(DROP, "", "x", "none", "RS256", "HS256", "access", "id", True, False, None, 0, -1, 1.5, 1e300, 2**53, 2**53 + 1),
    *([], {}, ["x"], [1], {"x": 1}, POOL.client_id, POOL.issuer, POOL.issuer + "/", [POOL.client_id], [POOL.issuer]),
    *("\ud800", "\0", "é", "x" * 300, "http://x", "https://x"),
]
RAW = [
    b'"x":1,"x":2',
    b'"sub":"root"',
    b'"x":NaN',
    b'"x":1e999',
    b'"x":"\\ud800"',
    b'"exp":9e9',
    b'"x":"\xff"',
    b'"x":{}',
]
ALPHABET = "ABCXYZabcxyz0189-_+/=. \n%é\0"


class Tally(NamedTuple):
    """What a process counted."""

    tokens: int
    changed: int  # after they were signed
    accepted: int  # of those signed after the change
    wrong_accepts: int
    unexplained: int  # refused by us alone, and no reason written down
    told: list[str]


class Mutations:
    """Makes tokens that are nearly good."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.good = [
            POOL.token(groups=["admins"]),
            POOL.token(sub="another"),
            POOL.id_token(),
            POOL.machine_token(),
            POOL.federated_id_token(),
        ]

    def changed(self) -> str:
        """Give a token that was changed after it was signed, once to three times."""
        token = self.random.choice(self.good)
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            token = self._changed(token)
        return token

    def _changed(self, token: str) -> str:
        random = self.random
        place = random.randrange(len(token) + 1)
        parts = token.split(".")
        match random.randrange(9):
            case 0:  # one bit
                place = min(place, len(token) - 1)
                return token[:place] + chr(ord(token[place]) ^ (1 << random.randrange(8))) + token[place + 1 :]
            case 1:  # one character
                return token[:place] + random.choice(ALPHABET) + token[place + 1 :]
            case 2:  # one more
                return token[:place] + random.choice(ALPHABET) * random.choice([1, 2, 4]) + token[place:]
            case 3:  # some less
                return token[:place] + token[place + random.randint(1, 40) :]
            case 4:  # a part of another
                others = random.choice(self.good).split(".")
                number = random.randrange(min(3, len(parts)))
                return ".".join([*parts[:number], others[number], *parts[number + 1 :]])
            case 5:  # the parts in another order, or another number
                random.shuffle(parts)
                return ".".join(parts[: random.randint(1, 4)])
            case 6:  # the last character of a part: stray bits
                number = random.randrange(len(parts))
                last = random.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
                return ".".join([*parts[:number], parts[number][:-1] + last, *parts[number + 1 :]])
            case 7:  # another header over the same signature
                header = {"alg": random.choice(["none", "HS256", "RS256", "rs256"]), "kid": random.choice(["", "x"])}
                return ".".join([base64url(json.dumps(header).encode()), *parts[1:]])
            case _:  # other claims over the same signature
                claims = POOL.access_claims(groups=["admins"]) | {random.choice(CLAIM_NAMES): "x"}
                return ".".join([parts[0], base64url(json.dumps(claims).encode()), *parts[2:]])

    def signed(self) -> str:
        """Give a token with a good signature over something odd."""
        random = self.random
        kind = random.randrange(10)
        if kind == 0:
            return self._raw()
        odd = {name: self._value() for name in random.sample(CLAIM_NAMES, random.choice([1, 1, 2]))}
        if kind == 1:
            header = {name: self._value() for name in random.sample(MEMBERS, random.choice([1, 1, 2]))}
            return POOL.token(header=header)
        return POOL.token(**odd) if kind < 6 else POOL.id_token(**odd)

    def _value(self) -> Any:
        near = self.random.randint(NOW - 70, NOW + 70)
        return self.random.choice([*ODD, near, near, near, str(near), float(near), near + 0.5])

    def _raw(self) -> str:
        """Sign bytes that are no strict JSON, or in another encoding."""
        claims = json.dumps(POOL.access_claims()).encode()
        header = POOL.header()
        match self.random.randrange(4):
            case 0:
                return POOL.sign(header, claims[:-1] + b"," + self.random.choice(RAW) + b"}")
            case 1:
                encoding = self.random.choice(["utf-16", "utf-16-le", "utf-32-be", "utf-8-sig", "utf-8"])
                return POOL.sign(header, claims.decode().encode(encoding))
            case 2:
                return POOL.sign(header[:-1] + b"," + self.random.choice(RAW) + b"}", claims)
            case _:
                place = self.random.randrange(len(claims))
                return POOL.sign(header, claims[:place] + self.random.randbytes(1) + claims[place + 1 :])


def run(seed: int, count: int) -> Tally:
    """Judge that many."""
    random = Random(seed)
    mutations = Mutations(random)
    changed = accepted = wrong = unexplained = 0
    told: list[str] = []
    with stopped_clock():
        for _ in range(count):
            is_signed = random.random() < SIGNED
            token = mutations.signed() if is_signed else mutations.changed()
            ours = judge(token) is not None
            changed += not is_signed
            accepted += is_signed and ours
            if ours and not is_signed and token not in mutations.good:
                wrong += 1
                told.append(f"accepted as it was never signed: {token}")
            if not is_signed and not ours and random.random() < UNASKED:
                continue  # refused as it should be
            try:
                compare(token)
            except AssertionError as error:
                wrong += ours
                unexplained += not ours
                told.append(f"{error}: ours {ours}, PyJWT {pyjwt(token)}, joserfc {joserfc(token)}: {token}")
    return Tally(count, changed, accepted, wrong, unexplained, told[:MAX_TOLD])


def torture(stand: Stand) -> Iterator[Figure]:
    """Judge in two processes."""
    share = -(-stand.count(TOKENS) // PROCESSES)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as processes:
        tallies = list(processes.map(run, range(PROCESSES), repeat(share)))
    for line in [line for tally in tallies for line in tally.told][:MAX_TOLD]:
        stand.tell(line)
    yield from figures(tallies)


def figures(tallies: Sequence[Tally]) -> Iterator[Figure]:
    total = sum(tally.tokens for tally in tallies)
    signed = total - sum(tally.changed for tally in tallies)
    wrong = sum(tally.wrong_accepts for tally in tallies)
    yield none_of("mutated tokens accepted that PyJWT, joserfc or our rules refuse", wrong, total)
    yield none_of(
        "mutated tokens refused by us alone without a written reason", sum(t.unexplained for t in tallies), total
    )
    share = 100 * sum(tally.accepted for tally in tallies) / max(1, signed)
    yield at_least("well signed odd tokens that are good", share, 5, "%")
