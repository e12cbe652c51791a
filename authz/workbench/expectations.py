"""A policy test file's text → its rows, or all its mistakes with their places. `policy_tests.py` tells the format.

A row that asserts no outcome, or one that contradicts itself, is a mistake: a test that cannot fail, or cannot pass,
says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Final, NamedTuple, TypeVar

from authz.document import (
    Fields,
    Items,
    Node,
    Problems,
    Scalar,
    boolean_of,
    describe,
    did_you_mean,
    list_of,
    parse,
    shorten,
    text_of,
)
from authz.model import TOKEN_REASONS, Json, Reason, Request, Source, http_status
from authz.workbench.inputs import InputError, split_url

FILE_KEYS: Final = ("now", "policies", "trust_unverified_email", "principals", "tests")
ROW_KEYS: Final = (
    "as", "request", "expect", "headers", "source_ip", "certificate", "now", "route_id", "token_error",
    "route", "set", "removed", "name",
)  # fmt: skip
ANONYMOUS: Final = "anonymous"
DEFAULT_NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
DEFAULT_SOURCE_IP: Final = "192.0.2.1"  # RFC 5737: an address that is nobody's
TIME_CLAIMS: Final = frozenset({"iat", "exp", "nbf", "auth_time"})
CREDENTIAL_ERRORS: Final = TOKEN_REASONS | {Reason.KEYS_UNAVAILABLE}
_OUTCOMES: Final[Mapping[str, bool]] = {"allow": True, "deny": False}
_STATUSES: Final = frozenset(map(http_status, Reason))
_SHORT_ROW: Final = "[WHO, METHOD URL, EXPECTED]"
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

T = TypeVar("T")


class Expected(NamedTuple):
    """What a row asserts. The first reason is the decision's `reason`, further ones are among its `reasons`."""

    allowed: bool
    status: int | None = None
    reasons: tuple[Reason, ...] = ()
    route: Scalar | None = None  # the route's label; its place is kept, because it is compared with the policies later
    headers_set: tuple[tuple[str, str], ...] = ()
    headers_removed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Write it as in the file: `403 claim-unauthorized`."""
        outcome = "allow" if self.allowed else "deny" if self.status is None else str(self.status)
        return " ".join((outcome, *self.reasons))


class Row(NamedTuple):
    """One test: who asks for what, and what is expected."""

    source: Source
    name: str
    who: str
    claims: Mapping[str, Json] | None  # as written; None for nobody
    asked: str  # METHOD URL, as written
    request: Request  # without its certificate, which stands in another file
    certificate: Scalar | None  # path of a PEM file, relative to the test file
    now: float  # seconds since 1970
    token_error: Reason | None
    expected: Expected


class Expectations(NamedTuple):
    """What one test file says."""

    policies: tuple[Scalar, ...]  # paths relative to the test file; empty: the file's own folder
    trust_unverified_email: bool | None  # None: as the configuration says
    rows: tuple[Row, ...]


def read_expectations(data: bytes, file: str, problems: Problems) -> Expectations | None:
    """Read a test file. None, or rows that must not be used, after adding a problem."""
    document = parse(data, file, problems)
    if document is None:
        if not any(problem.source.file == file for problem in problems):
            problems.error(
                Scalar(Source(file, 1, 1), None, ""), f"the file holds nothing: write `tests: [{_SHORT_ROW}]`"
            )
        return None
    if not isinstance(document, Fields):
        problems.error(document, f"found {describe(document)}, expected a map with `tests:`")
        return None
    return _Reader(problems).file(document)


class _Reader:
    """Reads one file; every mistake goes to `problems`, and reading goes on."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._now = DEFAULT_NOW
        self._principals: dict[str, Mapping[str, Json]] = {}

    def file(self, document: Fields) -> Expectations:
        self._refuse_unknown(document, FILE_KEYS, "the test file")
        now = document.get("now")
        self._now = DEFAULT_NOW if now is None else self._time(now, "`now`")
        trust = document.get("trust_unverified_email")
        principals = document.get("principals")
        if principals is not None:
            self._read_principals(principals)
        return Expectations(
            policies=self._policies(document.get("policies")),
            trust_unverified_email=(
                None if trust is None else boolean_of(trust, "`trust_unverified_email`", self._problems)
            ),
            rows=self._rows(document),
        )

    def _policies(self, node: Node | None) -> tuple[Scalar, ...]:
        if node is None:
            return ()
        if isinstance(node, Items) and not node.items:
            self._problems.error(node, "`policies`: an empty list: name files, or delete it for the file's own folder")
        found = list_of(node, "`policies`", self._problems)
        return tuple(item for item in found if self._is_text(item, "`policies`") and isinstance(item, Scalar))

    def _rows(self, document: Fields) -> tuple[Row, ...]:
        tests = document.get("tests")
        if not isinstance(tests, Items) or not tests.items:
            found = "is missing" if tests is None else f"found {describe(tests)}"
            self._problems.error(tests or document, f"`tests`: {found}, expected a list of rows {_SHORT_ROW}")
            return ()
        rows = [self._row(node) for node in tests]
        return tuple(row for row in rows if row is not None)

    # --- principals -----------------------------------------------------------------------------------------------

    def _read_principals(self, node: Node) -> None:
        if not isinstance(node, Fields):
            self._problems.error(
                node, f"`principals`: found {describe(node)}, expected a map of names and their claims"
            )
            return
        for name, claims in node.entries:
            what = f"principal `{shorten(name.text)}`"
            if name.text == ANONYMOUS:
                self._problems.error(name, f"{what}: it is built in and means nobody: choose another name")
            elif not isinstance(claims, Fields):
                self._problems.error(
                    claims, f"{what}: found {describe(claims)}, expected a map of claims (`{{}}` for none)"
                )
            self._principals[name.text] = self._claims(claims, what) if isinstance(claims, Fields) else {}

    def _claims(self, node: Fields, what: str) -> Mapping[str, Json]:
        claims: dict[str, Json] = {}
        for key, value in node.entries:
            name = f"{what}: `{key.text}`"
            if key.text in TIME_CLAIMS and isinstance(value, Scalar) and isinstance(value.value, str):
                claims[key.text] = int(self._time(value, name))
                continue
            claims[key.text] = self._json(value, name)
            if key.text in ("sub", "iss", "client_id", "aud", "token_use"):
                self._is_text(value, name)
        token_use = claims.get("token_use", "access")
        if isinstance(token_use, str) and token_use not in ("access", "id"):
            self._problems.error(node, f"{what}: `token_use`: found `{shorten(token_use)}`, expected `access` or `id`")
        if token_use == "id" and "client_id" in claims:
            self._problems.error(node, f"{what}: an ID token has no `client_id`: it names its app client in `aud`")
        return claims

    def _json(self, node: Node, what: str) -> Json:
        match node:
            case Fields():
                return {key.text: self._json(value, f"{what}.{key.text}") for key, value in node.entries}
            case Items():
                return [self._json(item, what) for item in node]
            case Scalar(value=float() as number) if not isfinite(number):
                self._problems.error(node, f"{what}: found {describe(node)}, which no token can hold")
                return None
            case Scalar():
                return node.value

    # --- one row --------------------------------------------------------------------------------------------------

    def _row(self, node: Node) -> Row | None:
        if isinstance(node, Items):
            node = self._long_form(node)
        elif not isinstance(node, Fields):
            self._problems.error(node, f"a test: found {describe(node)}, expected {_SHORT_ROW} or a map")
            return None
        if node is None:
            return None
        self._refuse_unknown(node, ROW_KEYS, "a test")
        now = node.get("now")
        request = self._request(node)
        expected = self._expected(node)
        who = self._text(node, "as") or ANONYMOUS
        claims = self._principal(node, who)
        token_error = self._token_error(node)
        name = self._text(node, "name")
        certificate = node.get("certificate")
        row_now = self._now if now is None else self._time(now, "`now`")
        if request is None or expected is None:
            return None
        asked = self._text(node, "request") or ""
        return Row(
            source=node.source,
            name=name or f"{who if token_error is None else token_error} {asked} → {expected}",
            who=who if token_error is None else f"{who} ({token_error})",
            claims=claims,
            asked=asked,
            request=request,
            certificate=certificate if certificate is None or self._is_text(certificate, "`certificate`") else None,  # type: ignore[arg-type]  # text is a Scalar
            now=row_now,
            token_error=token_error,
            expected=expected,
        )

    def _long_form(self, node: Items) -> Fields | None:
        """Write the short form `[who, request, expected]` as the map it stands for."""
        if len(node.items) != 3:
            self._problems.error(node, f"a test: found a list of {len(node.items)}, expected {_SHORT_ROW} or a map")
            return None
        keys = (Scalar(item.source, key, key) for key, item in zip(ROW_KEYS, node.items, strict=False))
        return Fields(node.source, tuple(zip(keys, node.items, strict=True)))

    def _principal(self, node: Fields, who: str) -> Mapping[str, Json] | None:
        if who == ANONYMOUS:
            return None
        if who not in self._principals:
            known = (*self._principals, ANONYMOUS)
            place = node.get("as") or node
            self._problems.error(
                place, f"unknown principal `{shorten(who)}`: name it under `principals:`{did_you_mean(who, known)}"
            )
        return self._principals.get(who)

    def _token_error(self, node: Fields) -> Reason | None:
        value = node.get("token_error")
        if value is None:
            return None
        text = value.text if isinstance(value, Scalar) else ""
        if text in CREDENTIAL_ERRORS:
            return Reason(text)
        hint = did_you_mean(text, CREDENTIAL_ERRORS)
        self._problems.error(
            value, f"`token_error`: found {describe(value)}, expected a token's reason such as token-expired{hint}"
        )
        return None

    def _request(self, node: Fields) -> Request | None:
        written = node.get("request")
        if written is None:
            self._problems.error(node, "a test: `request` is missing: write request: GET https://HOST/PATH")
        text = self._text(node, "request")
        headers = self._headers(node)
        source_ip = self._text(node, "source_ip")
        route_id = self._text(node, "route_id")
        if written is None or text is None:
            return None
        method, _, url = text.partition(" ")
        try:
            _, host, path = split_url(url.strip(" "))
        except InputError as error:
            self._problems.error(written, f"`request`: found {describe(written)}, expected METHOD URL: {error}")
            return None
        return Request(method, host, path, headers, source_ip or DEFAULT_SOURCE_IP, route_id)

    def _headers(self, node: Fields) -> Mapping[str, tuple[str, ...]]:
        return {
            name: tuple(
                item.text
                for item in _items(value)
                if self._is_scalar(item, f"`headers`: `{name}`") and isinstance(item, Scalar)
            )
            for name, value in self._header_map(node, "headers")
        }

    def _header_map(self, node: Fields, key: str) -> Iterable[tuple[str, Node]]:
        """Give a map's entries under header names in lower case."""
        value = node.get(key)
        if value is None:
            return
        if not isinstance(value, Fields):
            self._problems.error(value, f"`{key}`: found {describe(value)}, expected a map of header names and values")
            return
        for name, entry in value.entries:
            if self._is_header_name(name, f"`{key}`"):
                yield name.text.lower(), entry

    def _is_header_name(self, node: Scalar, what: str) -> bool:
        if _HEADER_NAME.fullmatch(node.text):
            return True
        self._problems.error(node, f"{what}: `{shorten(node.text)}` is no header name")
        return False

    # --- what is expected -----------------------------------------------------------------------------------------

    def _expected(self, node: Fields) -> Expected | None:
        written = node.get("expect")
        if written is None:
            self._problems.error(node, "a test: `expect` is missing: write expect: allow, or 403 claim-unauthorized")
            return None
        if not isinstance(written, Scalar) or not written.text:
            self._problems.error(
                written, f"`expect`: found {describe(written)}, expected words such as `403 claim-unauthorized`"
            )
            return None
        words = self._words(written)
        route = node.get("route")
        if route is not None and not self._is_text(route, "`route`"):
            route = None
        headers_set = tuple(
            (name, value.text)
            for name, value in self._header_map(node, "set")
            if self._is_scalar(value, f"`set`: `{name}`") and isinstance(value, Scalar)
        )
        removed = node.get("removed")
        headers_removed = tuple(
            item.text.lower()
            for item in (() if removed is None else list_of(removed, "`removed`", self._problems))
            if self._is_text(item, "`removed`") and isinstance(item, Scalar) and self._is_header_name(item, "`removed`")
        )
        if words is None:
            return None
        if not words.allowed and (headers_set or headers_removed):
            self._problems.error(
                written,
                f"`expect`: `{written.text}` beside `set` or `removed`: only an allowed request goes on with headers",
            )
        both = sorted({name for name, _ in headers_set} & set(headers_removed))
        if both:
            self._problems.error(node, f"`set` and `removed` both name `{both[0]}`: a header is either set or removed")
        return words._replace(
            route=route if isinstance(route, Scalar) else None, headers_set=headers_set, headers_removed=headers_removed
        )

    def _words(self, written: Scalar) -> Expected | None:
        """Read `allow`, `deny` or a status, and reasons."""
        outcomes: list[bool] = []
        statuses: list[int] = []
        reasons: list[Reason] = []
        before = len(self._problems)
        for word in re.split(r"[\s,]+", written.text.strip(" ,")):
            if word in _OUTCOMES:
                outcomes.append(_OUTCOMES[word])
            elif word.isdecimal() and int(word) in _STATUSES:
                statuses.append(int(word))
            elif word in frozenset(Reason):
                reasons.append(Reason(word))
            else:
                self._unknown_word(written, word)
        if len(self._problems) > before:
            return None
        contradiction = _contradiction(outcomes, statuses, reasons)
        if contradiction:
            self._problems.error(written, f"`expect`: `{written.text}`: {contradiction}")
            return None
        allowed = outcomes[0] if outcomes else False
        return Expected(allowed, statuses[0] if statuses else None, tuple(reasons))

    def _unknown_word(self, written: Scalar, word: str) -> None:
        if word.isdecimal():
            statuses = ", ".join(map(str, sorted(_STATUSES)))
            hint = f", expected `allow` or one of {statuses}"
        else:
            hint = did_you_mean(word, (*_OUTCOMES, *Reason)) or ": write allow, deny or a status, and reasons"
        self._problems.error(written, f"`expect`: unknown word `{shorten(word)}`{hint}")

    # --- plain values ---------------------------------------------------------------------------------------------

    def _refuse_unknown(self, fields: Fields, known: Sequence[str], what: str) -> None:
        for key, _ in fields.entries:
            if key.text not in known:
                self._problems.error(key, f"{what}: unknown key `{shorten(key.text)}`{did_you_mean(key.text, known)}")

    def _text(self, node: Fields, key: str) -> str | None:
        value = node.get(key)
        return None if value is None else text_of(value, f"`{key}`", self._problems)

    def _is_text(self, node: Node, what: str) -> bool:
        return text_of(node, what, self._problems) is not None

    def _is_scalar(self, node: Node, what: str) -> bool:
        """Tell whether it is one value; a header's value may look like a number."""
        if isinstance(node, Scalar) and node.value is not None:
            return True
        self._problems.error(node, f"{what}: found {describe(node)}, expected text")
        return False

    def _time(self, node: Node, what: str) -> float:
        """Give seconds since 1970. A time without its offset would mean another one on another machine."""
        try:
            moment = datetime.fromisoformat(node.text if isinstance(node, Scalar) else "")
            if moment.tzinfo is not None:
                return moment.timestamp()
        except (ValueError, OverflowError):
            pass
        self._problems.error(
            node, f"{what}: found {describe(node)}, expected a time with its offset such as 2026-01-31T12:00:00Z"
        )
        return DEFAULT_NOW


def _items(node: Node) -> Sequence[Node]:
    return node.items if isinstance(node, Items) else (node,)


_NEVER_ALLOWS: Final = frozenset(reason for reason in Reason if http_status(reason) != 403) | {Reason.NO_RULE}


def _contradiction(outcomes: Sequence[bool], statuses: Sequence[int], reasons: Sequence[Reason]) -> str | None:
    """Say why no decision can be like this, or that the outcome is missing; None when all is well."""
    if not outcomes and not statuses:
        return "the outcome is missing: write allow, deny or a status before the reason"
    if len(outcomes) > 1 or len(statuses) > 1 or len(set(reasons)) < len(reasons):
        return "says the same thing twice: write one outcome, one status, and each reason once"
    allowed = True in outcomes
    if allowed and statuses:
        return f"contradicts itself: {statuses[0]} is a denial"
    if allowed:
        never = next((reason for reason in reasons if reason in _NEVER_ALLOWS), None)
        return f"contradicts itself: `{never}` never allows" if never else None
    if statuses and reasons and http_status(reasons[0]) != statuses[0]:
        return f"contradicts itself: `{reasons[0]}` is answered with {http_status(reasons[0])}"
    return None
