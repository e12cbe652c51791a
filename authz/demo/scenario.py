"""`authz demo --once`: what is asked through Envoy, what is expected, what came.

A row counts as good when status, reason, the path that was judged and the headers that reached the upstream are all
as expected: a denial for another reason is a failure here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
from yarl import URL

from authz.demo.decisions import Decisions
from authz.demo.processes import StandError
from authz.model import Reason

NOBODY: Final = "nobody"
FORCE_SECONDS: Final = 1.0  # a saved policy must be in force by then


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request and what is expected of it."""

    who: str  # whose token, or nobody
    to: str  # host and path as sent
    status: int
    reason: Reason | None  # none: Envoy answers by itself
    note: str = ""
    sends: Mapping[str, str] = field(default_factory=dict)  # further headers
    judged: str = ""  # the path that was decided on, where it is not the one sent
    receives: Mapping[str, str | None] = field(default_factory=dict)  # headers at the upstream; none: not there


ALICE, BOB, CAROL, MACHINE = "alice", "bob", "carol", "machine"
_ADMIN, _DEV, _WWW, _ACCOUNT = "admin.localhost/", "dev.localhost/", "www.localhost/", "www.localhost/account"
_NO = Reason.CLAIM_UNAUTHORIZED
_SPOOF: Final = {
    "x-auth-subject": "root",
    "x-auth-groups": "admins",
    "x-auth-anything": "yes",
    "x.auth.groups": "admins",
}
_GONE: Final[Mapping[str, str | None]] = {"x-auth-anything": None, "x.auth.groups": None}

CASES: Final[Sequence[Case]] = (
    Case(who=ALICE, to=_ADMIN, status=200, reason=Reason.CLAIM_OK, receives={"x-auth-groups": "admins"}),
    Case(who=BOB, to=_ADMIN, status=403, reason=_NO),
    Case(who=CAROL, to=_ADMIN, status=403, reason=_NO),
    Case(who=ALICE, to=_DEV, status=200, reason=Reason.CLAIM_OK),
    Case(who=BOB, to=_DEV, status=200, reason=Reason.CLAIM_OK, receives={"x-auth-groups": "developers"}),
    Case(who=CAROL, to=_DEV, status=403, reason=_NO),
    Case(who=NOBODY, to=_ADMIN, status=401, reason=Reason.USER_UNAUTHENTICATED),
    Case(who=NOBODY, to=_WWW, status=200, reason=Reason.ACCEPT, note="public"),
    Case(who=NOBODY, to=_ACCOUNT, status=401, reason=Reason.USER_UNAUTHENTICATED),
    Case(who=CAROL, to=_ACCOUNT, status=200, reason=Reason.USER_OK, receives={"x-auth-groups": None}),
    Case(who="alice, expired", to=_ADMIN, status=401, reason=Reason.TOKEN_EXPIRED),
    Case(who="alice, tampered", to=_ADMIN, status=401, reason=Reason.TOKEN_SIGNATURE_INVALID),
    Case(who="alice, another app", to=_ADMIN, status=401, reason=Reason.TOKEN_CLIENT_REFUSED),
    Case(who="alice, another pool", to=_ADMIN, status=401, reason=Reason.TOKEN_ISSUER_UNKNOWN),
    Case(who="alice's ID token", to=_ADMIN, status=401, reason=Reason.TOKEN_USE_REFUSED),
    Case(who="alice, expired", to=_WWW, status=200, reason=Reason.ACCEPT, note="public: a bad token is none"),
    Case(who=MACHINE, to="api.localhost/orders/7", status=200, reason=Reason.CLAIM_OK),
    Case(who=ALICE, to="api.localhost/orders/7", status=403, reason=_NO),
    Case(who=MACHINE, to="api.localhost/invoices", status=404, reason=Reason.ROUTE_NOT_FOUND),
    Case(who=ALICE, to="nowhere.localhost/", status=404, reason=Reason.ROUTE_NOT_FOUND),
    Case(
        who=NOBODY,
        to="www.localhost//account",
        status=401,
        reason=Reason.USER_UNAUTHENTICATED,
        judged="/account",
        note="Envoy merges slashes",
    ),
    Case(
        who=NOBODY,
        to="www.localhost/x/../account",
        status=401,
        reason=Reason.USER_UNAUTHENTICATED,
        judged="/account",
        note="Envoy removes dots",
    ),
    Case(who=NOBODY, to="www.localhost/x%2faccount", status=400, reason=None, note="Envoy refuses it"),
    Case(
        who=BOB,
        to=_DEV,
        status=200,
        reason=Reason.CLAIM_OK,
        note="says he is root",
        sends=_SPOOF,
        receives={"x-auth-subject": BOB, "x-auth-groups": "developers", **_GONE},
    ),
    Case(
        who=CAROL,
        to=_ACCOUNT,
        status=200,
        reason=Reason.USER_OK,
        note="says she is in admins",
        sends=_SPOOF,
        receives={"x-auth-subject": CAROL, "x-auth-groups": None, **_GONE},
    ),
    Case(
        who=NOBODY,
        to=_WWW,
        status=200,
        reason=Reason.ACCEPT,
        note="says they are root",
        sends=_SPOOF,
        receives={"x-auth-subject": None, "x-auth-groups": None, **_GONE},
    ),
)


class Answer(NamedTuple):
    """What came of a request."""

    status: int
    reason: Reason | None = None
    judged: str = ""
    received: Mapping[str, Sequence[str]] | None = None  # the upstream's headers; none: it was not reached
    detail: str = ""

    def __str__(self) -> str:
        """Write status and reason, as the table shows them."""
        return f"{self.status} {self.reason or '(Envoy itself)'}"


class Row(NamedTuple):
    """One line of the table."""

    request: str
    expected: str
    got: str
    problems: Sequence[str]  # nothing: good


class Client:
    """Asks through Envoy and finds out what was decided."""

    def __init__(
        self, http: aiohttp.ClientSession, envoy_port: int, decisions: Decisions, tokens: Mapping[str, str]
    ) -> None:
        self._http = http
        self._envoy = f"http://127.0.0.1:{envoy_port}"
        self._decisions = decisions
        self._tokens = tokens

    async def ask(self, case: Case) -> Answer:
        """Send the request as it is written: no client may tidy its path up."""
        host, slash, path = case.to.partition("/")
        headers = {"host": host, **case.sends}
        if case.who != NOBODY:
            headers["authorization"] = f"Bearer {self._tokens[case.who]}"
        url = URL(f"{self._envoy}{slash}{path}", encoded=True)
        async with self._http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=10)) as response:
            body = _json_object(await response.text())
            received = body.get("headers") if response.status == 200 else None
            request_id = body.get("request_id") if received is None else received.get("x-request-id", [""])[0]
            decision = await self._decisions.of(request_id) if request_id else None
            if decision is None:
                return Answer(response.status, received=received)
            return Answer(
                status=response.status,
                reason=Reason(decision["reasons"][0]),
                judged=decision["path"],
                received=received,
                detail=decision.get("detail") or "",
            )


def _json_object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def tamper(token: str) -> str:
    """Change one character in the middle of the signature."""
    middle = (token.rindex(".") + len(token)) // 2
    return token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]


def judge(case: Case, answer: Answer, subjects: Mapping[str, str]) -> Row:
    """Hold the answer against what was expected; `subjects` gives the name of each `sub`."""
    expected = str(Answer(case.status, case.reason))
    problems = [] if str(answer) == expected else [f"{answer} {answer.detail}".rstrip()]
    judged = case.judged or case.to[case.to.index("/") :]
    if answer.judged not in {"", judged}:
        problems.append(f"judged as {answer.judged}, expected {judged}")
    if case.status == 200:
        problems += _header_problems(case.receives, answer.received or {}, subjects)
    note = f" ({case.note})" if case.note else ""
    return Row(f"{case.who} → {case.to}{note}", expected, str(answer), problems)


def _header_problems(
    wanted: Mapping[str, str | None], received: Mapping[str, Sequence[str]], subjects: Mapping[str, str]
) -> Sequence[str]:
    problems = []
    for name, value in wanted.items():
        got = [subjects.get(one, one) for one in received.get(name, ())]
        if got != ([] if value is None else [value]):
            problems.append(f"the upstream received {name}: {got or 'nothing'}, expected {value or 'nothing'}")
    return problems


async def play(client: Client, decisions: Decisions, policies: Path, subjects: Mapping[str, str]) -> AsyncIterator[Row]:
    """Ask everything once, then edit a policy in that folder, then break it."""
    for case in CASES:
        yield judge(case, await client.ask(case), subjects)
    yield await _edited(client, policies / "10-admin.yaml")
    yield await _broken(client, decisions, policies / "10-admin.yaml", subjects)


_LET_IN: Final = Case(who=BOB, to=_ADMIN, status=200, reason=Reason.CLAIM_OK)


async def _edited(client: Client, file: Path) -> Row:
    """Let developers in by an edit, and measure how long the old answer stands."""
    _add_developers(file)
    saved = time.monotonic()
    answer = await client.ask(_LET_IN)
    while answer.status != _LET_IN.status and time.monotonic() < saved + 3 * FORCE_SECONDS:
        await asyncio.sleep(0.02)
        answer = await client.ask(_LET_IN)
    seconds = time.monotonic() - saved
    row = judge(_LET_IN, answer, {})
    late = [f"in force after {seconds:.2f} s"] if seconds > FORCE_SECONDS else []
    return row._replace(
        request=f"{row.request} (developers added to {file.name})",
        expected=f"{row.expected} in ≤ {FORCE_SECONDS:.0f} s",
        got=f"{row.got} in {seconds:.2f} s",
        problems=[*row.problems, *late],
    )


def _add_developers(file: Path) -> None:
    before = file.read_text(encoding="utf-8")
    after = before.replace("[admins]", "[admins, developers]")
    if after == before:
        raise StandError(f"{file.name} does not name [admins]: the scenario edits the sample policies")
    file.write_text(after, encoding="utf-8")


async def _broken(client: Client, decisions: Decisions, file: Path, subjects: Mapping[str, str]) -> Row:
    """Save nonsense: it must be refused, and the old policy must stand."""
    refusals = decisions.refusals
    _spoil(file)
    refused = await decisions.next_refusal(refusals)
    row = judge(_LET_IN, await client.ask(_LET_IN), subjects)
    unheard = [] if refused else ["the service did not report the broken file"]
    return row._replace(
        request=f"{row.request} ({file.name} broken: the last good one stays)",
        problems=[*row.problems, *unheard],
    )


def _spoil(file: Path) -> None:
    file.write_text("- from: http://admin.localhost\n  allow_everybody: true\n", encoding="utf-8")
