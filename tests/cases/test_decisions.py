"""Situations as data: what the whole way from a request to its decision must answer, one line a situation.

A file of `decisions/` holds groups. A group is policies, what the configuration says (`options`), and a table:

    sentence | METHOD host/path[ name=value …] | caller | answer | reasons in their order | route

- `{20}` in a request stands for the character U+0020. The names are `at` (a time), `ip` (the TCP peer), `cert` (a file
  of `certificates/`), `route` (what Envoy's context_extensions name); any other is a request header.
- The caller is a name of `callers.yaml` or of the file's own `callers`, `-` for nobody, `!reason` for a bad token.
- The answer is `allow` or an HTTP status. The route's last column may be missing: then it is the group's `route`;
  `none` means that no route was found.

Every caller is a token that a user pool signed and our own code verified, so that `email_verified` and its kin count
as they do in production. What is expected was written from policy-language.md and from what Pomerium documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
import yaml

from authz.authorizer import Authorizer
from authz.errors import TokenError
from authz.identity.claims import ClaimShapes
from authz.identity.cognito import peek, verify
from authz.model import Allow, Principal, Reason, Request, http_status
from authz.policy.certificates import parse_authorities
from authz.policy.criterion import CriteriaContext
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from tests.support.user_pool import DROP, NOW, FakeUserPool

HERE = Path(__file__).parent
CERTIFICATES = HERE / "certificates"
POOL = FakeUserPool()
CALLERS: Mapping[str, Mapping[str, Any]] = yaml.safe_load((HERE / "callers.yaml").read_text())


class Situation(NamedTuple):
    """One line of a table."""

    sentence: str
    request: str
    caller: str
    answer: str
    reasons: tuple[str, ...]
    route: str


class Group(NamedTuple):
    """Policies as text, what the configuration says, and who may call."""

    policies: str
    options: Mapping[str, Any]
    callers: Mapping[str, Mapping[str, Any]]


def read_file(path: Path) -> Iterator[tuple[Group, Situation]]:
    content = yaml.safe_load(path.read_text())
    callers = {**CALLERS, **content.get("callers", {})}
    for group in content["groups"]:
        options = group.get("options", {})
        for line in group["situations"].splitlines():
            yield Group(group["policies"], options, callers), read_line(line, group.get("route", "none"))


@cache
def compile_policies(text: str, client_certificate_ca: str | None) -> PolicySet:
    authorities = (
        parse_authorities((CERTIFICATES / client_certificate_ca).read_bytes()) if client_certificate_ca else ()
    )
    options = PolicyOptions(context=CriteriaContext(authorities=authorities))
    return parse_policies([("policies/case.yaml", text.encode())], options)


def read_line(line: str, default_route: str) -> Situation:
    cells = [cell.strip() for cell in line.split(" | ")]
    sentence, request, caller, answer, reasons, *route = cells
    return Situation(sentence, request, caller, answer, tuple(reasons.split()), route[0] if route else default_route)


def read_request(text: str) -> tuple[Request, float]:
    target, *words = text.split(" ")[1:]
    facts = dict(unescape(word).split("=", 1) for word in words)
    host, slash, path = target.partition("/")
    at = datetime.fromisoformat(facts.pop("at")).timestamp() if "at" in facts else float(NOW)
    certificate = facts.pop("cert", "")
    request = Request(
        method=unescape(text.split(" ", maxsplit=1)[0]),
        host=unescape(host),
        path=unescape(slash + path),
        source_ip=facts.pop("ip", "203.0.113.7"),
        route_id=facts.pop("route", None),
        certificate=quote((CERTIFICATES / f"{certificate}.pem").read_text()) if certificate else "",
        headers={name: (value,) for name, value in facts.items()},
    )
    return request, at


def unescape(text: str) -> str:
    return re.sub(r"\{([0-9a-f]+)\}", lambda match: chr(int(match[1], 16)), text)


class Caller:
    """Stands where the authenticator stands: whoever calls was verified before."""

    def __init__(self, name: str, group: Group) -> None:
        self.name = name
        self.group = group

    async def authenticate(self, request: Request, now: float) -> Principal | None:
        del request, now
        if self.name == "-":
            return None
        if self.name.startswith("!"):
            raise TokenError(Reason(self.name[1:]), "not good")
        return signed_in(self.group, self.name)


def signed_in(group: Group, name: str) -> Principal:
    claims = tuple(sorted((claim, Claim(value)) for claim, value in group.callers[name].items()))
    principal = sign_in(claims, trust_unverified_email=group.options.get("trust_unverified_email", False))
    return ClaimShapes(group.options.get("claims", {})).shape(principal)


class Claim:
    """Any claim's value, hashable by how it is written."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return hash(repr(self.value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Claim) and repr(other.value) == repr(self.value)


@cache
def sign_in(caller: tuple[tuple[str, Claim], ...], *, trust_unverified_email: bool) -> Principal:
    """Mint the caller's token and verify it. `token` says of which kind it is, `without` which claims it lacks."""
    claims = {name: claim.value for name, claim in caller}
    mint = getattr(POOL, claims.pop("token", "token"))
    absent = dict.fromkeys(claims.pop("without", ()), DROP)
    unverified = peek(mint(**claims, **absent))
    pool = POOL.trust(trust_unverified_email=trust_unverified_email)
    return verify(unverified, POOL.keys[unverified.kid], pool, NOW).principal


SITUATIONS = [
    pytest.param(group, situation, id=f"{path.stem}: {situation.sentence}")
    for path in sorted((HERE / "decisions").glob("*.yaml"))
    for group, situation in read_file(path)
]


@pytest.mark.parametrize(("group", "situation"), SITUATIONS)
async def test_decision(group: Group, situation: Situation) -> None:
    request, now = read_request(situation.request)
    policies = compile_policies(group.policies, group.options.get("client_certificate_ca"))
    authorizer = Authorizer(
        authenticator=Caller(situation.caller, group),  # type: ignore[arg-type]  # plays the port
        policies=lambda: policies,
        allow_path_parameters=group.options.get("allow_path_parameters", False),
    )

    decision = (await authorizer.authorize(request, now)).decision

    answer = "allow" if isinstance(decision, Allow) else str(http_status(decision.reason))
    route = "none" if decision.route is None else decision.route.label
    assert (answer, tuple(decision.reasons), route) == (situation.answer, situation.reasons, situation.route)


def test_there_are_as_many_situations_as_promised() -> None:
    assert len(SITUATIONS) >= 250


def test_no_sentence_is_said_twice_in_a_file() -> None:
    names = [parameters.id for parameters in SITUATIONS]
    assert sorted(names) == sorted(set(names))


def test_every_reason_that_a_policy_or_a_token_can_give_is_expected_somewhere() -> None:
    said = {reason for parameters in SITUATIONS for reason in parameters.values[1].reasons}
    # No policy says them, nor does a token.
    elsewhere = {Reason.POLICY_UNAVAILABLE, Reason.OVERLOADED, Reason.INTERNAL_ERROR, Reason.PROXY_REFUSED}
    assert said == {reason.value for reason in Reason if reason not in elsewhere}
