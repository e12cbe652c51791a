"""Policies, callers and requests in the words of a test, without a token or a file.

decide_text(POLICY, principal(groups=["admins"]))            text → Decision, as a request to app.example.com/
decide_text(POLICY, None, method="POST", path="/orders")     nobody; any field of a Request by its name
decide_text(POLICY, header={"origin": "https://x.test"})     headers, each a text or a list of texts
route_with("allowed_users: [a]")                             one route's text around the keys under test
policy_set(POLICY), find(set, "https://app.example.com/x")   the compiled set, and which route it finds
problems_of(POLICY)                                          what the author of a broken policy reads
compiled("claim/x: a"), judge("claim/x: a", facts(…))        one criterion alone
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from textwrap import dedent, indent
from typing import Any, Final

from authz.document import parse
from authz.errors import LoadError, Problem, TokenError
from authz.identity.claims import address_of
from authz.model import Decision, Json, Principal, Request
from authz.node import Problems
from authz.policy.criteria import compile_criterion
from authz.policy.criterion import CriteriaContext, Criterion, Facts, Finding
from authz.policy.decision import decide
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.policy.path import canonical_host, canonical_path, check_method
from authz.policy.routes import Route

NOW: Final = 1_800_000_000  # 2027-01-15 08:00:00 UTC, a Friday
ISSUER: Final = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
SUBJECT: Final = "0a1b2c3d-1111-4222-8333-444455556666"
CLIENT: Final = "304a12ktcc5djt9d7enj6dsjkg"
HOST: Final = "app.example.com"
FILE: Final = "policies/app.yaml"


def principal(
    claims: Mapping[str, Json] | None = None,
    *,
    groups: Sequence[str] | None = None,
    email: str | None = None,
    verified: bool = True,
    token_use: str = "access",
    subject: str = SUBJECT,
    client_id: str = CLIENT,
    issuer: str = ISSUER,
) -> Principal:
    """Make a caller as `identity/` would; an unverified e-mail is in the claims and does not count."""
    signed: dict[str, Json] = {"sub": subject, "iss": issuer, "token_use": token_use, **(claims or {})}
    if groups is not None:
        signed["cognito:groups"] = list(groups)
    if email is not None:
        signed |= {"email": email, "email_verified": verified}
    address, is_unverified = address_of(signed, trust_unverified=False)
    return Principal(
        subject=subject,
        issuer=issuer,
        client_id=client_id,
        token_use=token_use,
        claims=signed,
        email=address,
        email_is_unverified=is_unverified,
    )


def request(header: Mapping[str, str | Sequence[str]] | None = None, **fields: Any) -> Request:
    """Make a GET of `/` on app.example.com; `header` maps names to a text or to several."""
    headers = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in (header or {}).items()}
    start = Request(method="GET", host=HOST, path="/", headers=headers, source_ip="192.0.2.7")
    return start._replace(**fields)


def facts(caller: Principal | None = None, now: float = NOW, **fields: Any) -> Facts:
    """Make what a criterion may look at. Raises RequestError for a path that is refused."""
    asked = request(**fields)
    return Facts(asked, canonical_path(asked.path), caller, now)


def policy_set(text: str, file: str = FILE, options: PolicyOptions | None = None) -> PolicySet:
    """Compile one file's text. Raises LoadError."""
    return parse_policies([(file, dedent(text).encode())], options or PolicyOptions())


def problems_of(text: str, options: PolicyOptions | None = None) -> list[str]:
    """Give the problems of one file as `line:column: message`; those that load give their warnings."""
    try:
        found: Sequence[Problem] = policy_set(text, options=options).warnings
    except LoadError as error:
        found = error.problems
    return [str(problem).removeprefix(f"{FILE}:") for problem in found]


def heads(problems: Iterable[str]) -> list[str]:
    """Cut what to write instead off each problem: the exact words are held by tests/cases/policy_errors."""
    return [_ADVICE.split(problem)[0] for problem in problems]


_ADVICE: Final = re.compile(r", expected |: write |; write |: delete |; did you mean |, whose |: neither |; if ")


def route_with(keys: str) -> str:
    """Write a file of one route on app.example.com with the given keys."""
    return f"- from: https://{HOST}\n" + indent(dedent(keys).strip("\n"), "  ") + "\n"


def ppl(rules: str) -> str:
    """Write a file of one route on app.example.com with the given PPL rules."""
    return route_with("policy:\n" + indent(dedent(rules).strip("\n"), "  "))


def find(policies: PolicySet, host: str = HOST, path: str = "/") -> Route | None:
    """Find the route of a host (perhaps with a port) and a path, both as a client sends them."""
    return policies.routes.find(canonical_host(host), canonical_path(path))


def decide_text(
    text: str,
    caller: Principal | None = None,
    *,
    now: float = NOW,
    credential_error: TokenError | None = None,
    options: PolicyOptions | None = None,
    **fields: Any,
) -> Decision:
    """Decide one request by a file's text. Fails when no route takes the request."""
    asked = request(**fields)
    check_method(asked.method)
    route = find(policy_set(text, options=options), asked.host, asked.path)
    assert route is not None, "no route takes the request"
    return decide(Facts(asked, canonical_path(asked.path), caller, now), route, credential_error)


def compiled(text: str, context: CriteriaContext | None = None) -> Criterion:
    """Compile one criterion, written as in a rule's list."""
    problems = Problems()
    node = parse(text.encode(), "criterion", problems)
    assert node is not None, problems
    criterion = compile_criterion(node, problems, context or CriteriaContext())
    assert criterion is not None, problems
    assert not problems.errors, problems
    return criterion


def judge(text: str, known: Facts, context: CriteriaContext | None = None) -> Finding:
    """Judge one criterion, written as in a rule's list."""
    return compiled(text, context).test(known)
