"""What the fuzzers start from: the situations that people wrote down in tests/cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cases.test_decisions import SITUATIONS, read_request
from tests.fuzz.targets import GOOD_HEADER, GOOD_TOKEN, ROUTES, good_claims
from tests.support.check_request import check_request

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = Path(__file__).parent.parent / "cases"


def seeds(target: str) -> Iterator[bytes]:
    """Give each once."""
    found = {"token": _tokens, "policies": _policies, "path": _paths, "wire": _wire}[target]()
    yield from dict.fromkeys(found)


def _tokens() -> Iterator[bytes]:
    yield GOOD_TOKEN.encode()
    more = [
        {},
        {"nbf": 1},
        {"aud": ["x"]},
        {"email": "a@b", "email_verified": True},
        {"exp": 1},
        {"x": 1.5},
        {"jti": "x"},
    ]
    for claims in more:
        yield GOOD_HEADER + b"\n" + json.dumps(good_claims() | claims).encode()
    own = good_claims() | {"token_use": "id", "aud": "web"}
    yield b'{"kid":"k","alg":"RS256","typ":"JWT","x5c":["x"],"jku":"https://x"}\n' + json.dumps(own).encode()
    yield b'{"kid":"k","alg":"none","crit":["b64"],"b64":false}\n{"\\ud800":NaN}'


def _policies() -> Iterator[bytes]:
    yield ROUTES.encode()
    for group in {id(case.values[0]): case.values[0] for case in SITUATIONS}.values():
        yield group.policies.encode()
    for file in sorted((CASES / "policy_errors").glob("*.txt")):
        yield from file.read_bytes().split(b"\n\n")


def _paths() -> Iterator[bytes]:
    for case in SITUATIONS:
        request, _ = read_request(case.values[1].request)
        yield f"{request.host}\n{request.path}".encode()


def _wire() -> Iterator[bytes]:
    for path in ("/public", "/admin", "/office", "/a%2fb", "/%61dmin?x=1"):
        for raw in (False, True):
            for token in (None, GOOD_TOKEN):
                yield check_request(path=path, token=token, raw=raw, source_ip="10.1.2.3").SerializeToString()
    headers = {"cookie": ["a=1", "b=2"], "accept": "text/html", "x-auth-subject": "root", "x-request-id": "7"}
    yield check_request(path="/admin", token=GOOD_TOKEN, headers=headers, route="admins").SerializeToString()
    yield check_request(
        method="OPTIONS", host="x.example.com:8443", headers={"accept": "application/grpc"}
    ).SerializeToString()
