"""What the fuzzers call: each target takes any bytes, and raises only when a promise is broken.

The module needs no atheris, so that `make test` can replay the corpus, and nothing in it is random: the corpus must
mean the same tomorrow. Where there is an independent reading (tests/support/interpreter.py), both must agree.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature

from authz.audit import DecisionLog
from authz.authorizer import Authenticator, Authorizer, Issuer
from authz.errors import LoadError, Problem, RequestError, TokenError
from authz.identity.claims import ClaimShapes
from authz.identity.cognito import UserPool, Verified, peek, verify
from authz.identity.keys import KeySet
from authz.identity.verified import VerifiedTokens
from authz.lines import Line
from authz.metrics import Metrics
from authz.model import Reason
from authz.pb import external_auth_pb2 as pb
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.policy.path import canonical_host, canonical_path
from authz.settings import DEFAULT_IDENTITY_HEADERS, DEFAULT_TOKENS
from authz.transport.check_response import Answers, AnswerSettings
from authz.transport.server import Door
from tests.support.interpreter import safe_host, safe_path
from tests.support.user_pool import ALICE, NOW, base64url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ISSUER: Final = "https://pool"
CLIENT: Final = "web"
KID: Final = "k"
SIGNATURE: Final = b"good"
POOL: Final = UserPool((ISSUER,), frozenset({CLIENT}), frozenset({"access", "id"}), 0.0, False, "pool")


class PlainKey:
    """Plays an RSA key whose signature anybody can write, so that a fuzzer comes past it."""

    key_size = 2048

    def verify(self, signature: bytes, *_: object) -> None:
        if signature != SIGNATURE:
            raise InvalidSignature


def token_of(header: bytes, payload: bytes, signature: bytes = SIGNATURE) -> str:
    return ".".join(map(base64url, (header, payload, signature)))


def good_claims() -> dict[str, Any]:
    return {
        "sub": ALICE,
        "iss": ISSUER,
        "client_id": CLIENT,
        "token_use": "access",
        "iat": NOW,
        "exp": NOW + 60,
        "cognito:groups": ["admins"],
    }


GOOD_HEADER: Final = json.dumps({"kid": KID, "alg": "RS256"}).encode()
GOOD_TOKEN: Final = token_of(GOOD_HEADER, json.dumps(good_claims()).encode())


def token(data: bytes) -> None:
    """Two lines are a header and a payload that are signed well; one line is the token as it stands."""
    header, newline, payload = data.partition(b"\n")
    text = token_of(header, payload) if newline else data.decode("utf-8", "surrogateescape")
    verified = judged(text)
    if verified is None:
        return
    principal, valid_from, valid_until = verified
    assert valid_from <= NOW < valid_until
    assert principal.subject
    assert isinstance(principal.subject, str)
    assert (principal.issuer, principal.client_id) == (ISSUER, CLIENT)
    assert principal.token_use in ("access", "id")
    assert principal.email is None or principal.claims["email_verified"] is True
    assert text.rpartition(".")[2] == base64url(SIGNATURE)
    assert all(char.isascii() and (char.isalnum() or char in "-_.") for char in text)


def judged(text: str) -> Verified | None:
    try:
        unverified = peek(text)
        return verify(unverified, PlainKey(), POOL, NOW) if unverified.kid == KID else None  # type: ignore[arg-type]
    except TokenError:
        return None


def policies(data: bytes) -> None:
    """Any text is a PolicySet, the same one each time, or all its mistakes with their places."""
    first, problems = loaded(data)
    if first is None:
        assert problems
        assert all(str(problem) and min(problem.source[1:]) >= 1 for problem in problems)
        return
    assert first.routes.routes
    again = parse_policies([("policies/case.yaml", data)], PolicyOptions())
    assert again.revision == first.revision
    assert len(again.routes.routes) == len(first.routes.routes)


def loaded(data: bytes) -> tuple[PolicySet | None, Sequence[Problem]]:
    try:
        return parse_policies([("policies/case.yaml", data)], PolicyOptions()), ()
    except LoadError as error:
        return None, error.problems


def path(data: bytes) -> None:
    """A host and a path, a line each: one reading, the independent one's, and reading it again changes nothing."""
    raw_host, _, raw_path = data.decode("latin-1").partition("\n")
    found = canonical(canonical_path, raw_path)
    assert found == safe_path(raw_path), f"{raw_path!r}: {found!r}, and the slow reading is {safe_path(raw_path)!r}"
    for allowed in (False, True):
        try:
            once = canonical_path(raw_path, allow_parameters=allowed)
        except RequestError:
            continue
        assert canonical_path(once, allow_parameters=allowed) == once
        assert canonical_path(once) == once
    host = canonical(canonical_host, raw_host)
    assert (host and tuple(host)) == safe_host(raw_host), f"{raw_host!r}: {host!r}"
    if host is not None:
        assert canonical_host(host.name if host.port is None else f"{host.name}:{host.port}") == host


def canonical(read: Callable[[str], Any], raw: str) -> Any:
    try:
        return read(raw)
    except RequestError:
        return None


ROUTES: Final = """
- {from: 'https://app.example.com', prefix: /public, allow_public_unauthenticated_access: true}
- {from: 'https://app.example.com', id: admins, prefix: /admin, allowed_idp_claims: {cognito:groups: [admins]}}
- {from: 'https://app.example.com', prefix: /office, policy: {allow: {and: [{source_ip: 10.0.0.0/8}, {accept: true}]}}}
- {from: 'https://*.example.com', policy: {allow: {or: [{scope: orders/read}, {user: bob}]}}}
"""


class Keys:
    """Plays the KeyStore."""

    def __init__(self) -> None:
        self.current = KeySet({KID: PlainKey()})  # type: ignore[dict-item]

    async def find(self, kid: str) -> tuple[KeySet, Any]:
        if kid != KID:
            raise TokenError(Reason.TOKEN_KEY_UNKNOWN, "no such key")
        return self.current, self.current.keys[kid]


class Nowhere:
    """Plays the LineWriter: what is written must be one line of JSON."""

    def write(self, line: Line) -> None:
        assert json.loads(str(line))


def door() -> Door:
    metrics = Metrics(version="0", wall=lambda: NOW)
    found = parse_policies([("policies/wire.yaml", ROUTES.encode())], PolicyOptions())
    authenticator = Authenticator(
        places=DEFAULT_TOKENS,
        issuers=[Issuer(POOL, Keys())],  # type: ignore[arg-type]
        verified=VerifiedTokens(max_entries=100, max_bytes=1_000_000),
        shapes=ClaimShapes(),
        observe=metrics,
    )
    return Door(
        authorizer=Authorizer(authenticator=authenticator, policies=lambda: found, allow_path_parameters=False),
        answers=Answers(AnswerSettings(identity_headers=DEFAULT_IDENTITY_HEADERS, tokens=DEFAULT_TOKENS)),
        decisions=DecisionLog(Nowhere()),  # type: ignore[arg-type]
        metrics=metrics,
        wall=lambda: NOW,
    )


_LOOP: Final = asyncio.new_event_loop()
_DOOR: Final = door()


def wire(data: bytes) -> None:
    """Any bytes get an answer, never an internal error, and an allow only where somebody may pass."""
    answer = pb.CheckResponse.FromString(_LOOP.run_until_complete(_DOOR.check(data)))
    fields = answer.dynamic_metadata.fields
    assert fields["decision_id"].string_value
    assert fields["reason"].string_value not in ("", "internal-error")
    if answer.status.code != 0:
        assert answer.WhichOneof("http_response") == "denied_response"
        assert answer.denied_response.status.code in (400, 401, 403, 404, 503)
        assert fields["decision"].string_value == "deny"
        return
    assert answer.WhichOneof("http_response") == "ok_response"
    assert fields["decision"].string_value == "allow"
    assert may_pass(pb.CheckRequest.FromString(data)), data


def may_pass(check: pb.CheckRequest) -> bool:
    """Tell, from the message alone, whether an allow can be right."""
    attributes = check.attributes
    http = attributes.request.http
    host, judged_path = safe_host(http.host), safe_path(http.path)
    if host is None or judged_path is None:
        return False
    named = attributes.context_extensions.get("route")
    values = [http.headers.get("authorization", ""), *http.headers.values()]
    values += [(entry.raw_value or entry.value.encode()).decode("latin-1") for entry in http.header_map.headers]
    has_token = any(judged(value.split(" ")[-1].strip()) is not None for value in values)
    if host[0] == "app.example.com" and judged_path.startswith("/public") and named is None:
        return True
    if host[0] == "app.example.com" and judged_path.startswith("/office") and named is None:
        return attributes.source.address.socket_address.address.startswith(("10.", "::ffff:"))
    return has_token


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "token": token,
    "policies": policies,
    "path": path,
    "wire": wire,
}
