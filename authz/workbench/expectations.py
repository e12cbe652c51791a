"""A policy test file's text → its rows, or all its mistakes with their places. `policy_tests.py` tells the format.

A row that asserts no outcome, or one that contradicts itself, is a mistake: a test that cannot fail, or cannot pass,
says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from math import isfinite
from typing import Final, NamedTuple

from authz.document import parse
from authz.model import TOKEN_REASONS, Json, Reason, Request, Source
from authz.node import Fields, Items, Node, Problems, Scalar, describe, shorten
from authz.reading import boolean_of, did_you_mean, list_of, parse_instant, text_of
from authz.workbench.expected import Expected, read_expected
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
ALWAYS_THERE: Final[Mapping[str, str]] = {
    "sub": "a token",
    "iss": "a token",
    "token_use": "a token",
    "client_id": "an access token",
    "aud": "an ID token",
}
"""The claims that no principal lacks, and which tokens have them."""
CREDENTIAL_ERRORS: Final = TOKEN_REASONS | {Reason.KEYS_UNAVAILABLE}
_SHORT_KEYS: Final = ("as", "request", "expect")
_SHORT_ROW: Final = "[WHO, METHOD URL, EXPECTED]"
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Row(NamedTuple):
    """One test: who asks for what, and what is expected."""

    source: Source
    name: str
    who: str
    claims: Mapping[str, Json] | None  # as written; None for nobody
    asked: str  # METHOD URL, as written
    request: Request  # without its certificate, which stands in another file
    names_address: bool  # whether it says what `source_ip` sees; else a configured header may
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
        return tuple(self._texts(node, "`policies`"))

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
            if key.text not in ALWAYS_THERE:
                continue
            if isinstance(value, Scalar) and value.value is None:
                token = ALWAYS_THERE[key.text]
                self._problems.error(value, f"{name}: {token} always has it, so `null` cannot take it away: delete it")
            else:
                text_of(value, name, self._problems)
        token_use = claims.get("token_use", "access")
        if isinstance(token_use, str) and token_use not in ("access", "id"):
            self._problems.error(node, f"{what}: `token_use`: found `{shorten(token_use)}`, expected `access` or `id`")
        if token_use == "id" and "client_id" in claims:  # noqa: S105 - a kind of token
            self._problems.error(node, f"{what}: an ID token has no `client_id`: it names its app client in `aud`")
        return claims

    def _json(self, node: Node, what: str) -> Json:
        if isinstance(node, Fields):
            return {key.text: self._json(value, f"{what}.{key.text}") for key, value in node.entries}
        if isinstance(node, Items):
            return [self._json(item, what) for item in node]
        if isinstance(node.value, float) and not isfinite(node.value):
            self._problems.error(node, f"{what}: found {describe(node)}, which no token can hold")
            return None
        return node.value

    # --- one row --------------------------------------------------------------------------------------------------

    def _row(self, node: Node) -> Row | None:
        fields = self._long_form(node)
        if fields is None:
            return None
        self._refuse_unknown(fields, ROW_KEYS, "a test")
        name = self._text(fields, "name")
        who = self._text(fields, "as")
        claims = None if who is None else self._principal(who)
        token_error = self._token_error(fields)
        certificate = self._text(fields, "certificate")
        now = fields.get("now")
        moment = self._now if now is None else self._time(now, "`now`")
        asked = self._required_text(fields, "request", "GET https://HOST/PATH")
        request = None if asked is None else self._request(fields, asked)
        expected = self._expected(fields)
        if asked is None or request is None or expected is None:
            return None
        caller = ANONYMOUS if who is None else who.text
        caller = caller if token_error is None else f"{caller} ({token_error})"
        return Row(
            source=node.source,
            name=f"{caller} {asked.text} → {expected}" if name is None else name.text,
            who=caller,
            claims=claims,
            asked=asked.text,
            request=request,
            names_address=fields.get("source_ip") is not None,
            certificate=certificate,
            now=moment,
            token_error=token_error,
            expected=expected,
        )

    def _long_form(self, node: Node) -> Fields | None:
        """Write the short form `[who, request, expected]` as the map it stands for."""
        if isinstance(node, Fields):
            return node
        if isinstance(node, Items) and len(node.items) == len(_SHORT_KEYS):
            keys = [Scalar(item.source, key, key) for key, item in zip(_SHORT_KEYS, node.items, strict=True)]
            return Fields(node.source, tuple(zip(keys, node.items, strict=True)))
        found = f"a list of {len(node.items)}" if isinstance(node, Items) and node.items else describe(node)
        self._problems.error(node, f"a test: found {found}, expected {_SHORT_ROW} or a map")
        return None

    def _principal(self, who: Scalar) -> Mapping[str, Json] | None:
        if who.text == ANONYMOUS:
            return None
        if who.text not in self._principals:
            hint = did_you_mean(who.text, (*self._principals, ANONYMOUS)) or ": name it under `principals:`"
            self._problems.error(who, f"unknown principal `{shorten(who.text)}`{hint}")
        return self._principals.get(who.text)

    def _token_error(self, fields: Fields) -> Reason | None:
        written = self._text(fields, "token_error")
        if written is None:
            return None
        if written.text in CREDENTIAL_ERRORS:
            return Reason(written.text)
        hint = did_you_mean(written.text, CREDENTIAL_ERRORS) or ", expected a token's reason such as `token-expired`"
        self._problems.error(written, f"`token_error`: found {describe(written)}{hint}")
        return None

    def _request(self, fields: Fields, asked: Scalar) -> Request | None:
        headers = {
            name: tuple(
                text
                for item in (value.items if isinstance(value, Items) else (value,))
                if (text := self._header_text(item, f"`headers`: `{name}`")) is not None
            )
            for name, value in self._header_map(fields, "headers")
        }
        source_ip = self._address(fields)
        route_id = self._text(fields, "route_id")
        method, _, url = asked.text.partition(" ")
        try:
            _, host, path = split_url(url.strip(" "))
        except InputError as error:
            self._problems.error(asked, f"`request`: found {describe(asked)}, expected METHOD URL: {error}")
            return None
        return Request(
            method=method,
            host=host,
            path=path,
            headers=headers,
            source_ip=source_ip,
            route_id=None if route_id is None else route_id.text,
        )

    def _address(self, fields: Fields) -> str:
        written = self._text(fields, "source_ip")
        if written is None:
            return DEFAULT_SOURCE_IP
        try:
            ip_address(written.text)
        except ValueError:
            self._problems.error(written, f"`source_ip`: found {describe(written)}, expected an IP address")
        return written.text

    # --- what is expected -----------------------------------------------------------------------------------------

    def _expected(self, fields: Fields) -> Expected | None:
        written = self._required_text(fields, "expect", "allow, or 403 claim-unauthorized")
        expected = None if written is None else read_expected(written, self._problems)
        route = self._text(fields, "route")
        headers_set = tuple(
            (name, text)
            for name, value in self._header_map(fields, "set")
            if (text := self._header_text(value, f"`set`: `{name}`")) is not None
        )
        removed = fields.get("removed")
        headers_removed = tuple(
            item.text.lower()
            for item in (() if removed is None else self._texts(removed, "`removed`"))
            if self._is_header_name(item, "`removed`")
        )
        both = sorted({name for name, _ in headers_set} & set(headers_removed))
        if both:
            self._problems.error(
                fields, f"`set` and `removed` both name `{both[0]}`: a header is either set or removed"
            )
        if expected is None or written is None:
            return None
        if not expected.allowed and (headers_set or headers_removed):
            self._problems.error(written, "`set` and `removed` need `expect: allow`: a denied request goes nowhere")
        return expected._replace(route=route, headers_set=headers_set, headers_removed=headers_removed)

    # --- plain values ---------------------------------------------------------------------------------------------

    def _refuse_unknown(self, fields: Fields, known: Sequence[str], what: str) -> None:
        for key, _ in fields.entries:
            if key.text not in known:
                hint = did_you_mean(key.text, known) or f", expected one of {', '.join(known)}"
                self._problems.error(key, f"{what}: unknown key `{shorten(key.text)}`{hint}")

    def _text(self, fields: Fields, key: str) -> Scalar | None:
        value = fields.get(key)
        return None if value is None else next(self._texts(Items(value.source, (value,)), f"`{key}`"), None)

    def _required_text(self, fields: Fields, key: str, example: str) -> Scalar | None:
        """Read one value as it is written: an expected `403` is no number here."""
        value = fields.get(key)
        if isinstance(value, Scalar) and value.text.strip():
            return value
        found = "is missing" if value is None else f"found {describe(value)}"
        self._problems.error(fields if value is None else value, f"`{key}`: {found}: write {key}: {example}")
        return None

    def _texts(self, node: Node, what: str) -> Iterator[Scalar]:
        for item in list_of(node, what, self._problems):
            if text_of(item, what, self._problems) is not None and isinstance(item, Scalar):
                yield item

    def _header_map(self, fields: Fields, key: str) -> Iterator[tuple[str, Node]]:
        """Give a map's entries under header names in lower case."""
        value = fields.get(key)
        if value is not None and not isinstance(value, Fields):
            self._problems.error(value, f"`{key}`: found {describe(value)}, expected a map of header names and values")
        for name, entry in value.entries if isinstance(value, Fields) else ():
            if self._is_header_name(name, f"`{key}`"):
                yield name.text.lower(), entry

    def _is_header_name(self, node: Scalar, what: str) -> bool:
        good = _HEADER_NAME.fullmatch(node.text) is not None
        if not good:
            self._problems.error(node, f"{what}: `{shorten(node.text)}` is no header name")
        return good

    def _header_text(self, node: Node, what: str) -> str | None:
        """Read a header's value, which may look like a number."""
        if isinstance(node, Scalar) and node.value is not None:
            return node.text
        self._problems.error(node, f"{what}: found {describe(node)}, expected text")
        return None

    def _time(self, node: Node, what: str) -> float:
        """Give seconds since 1970. A time without its offset would mean another one on another machine."""
        try:
            moment = parse_instant(node.text if isinstance(node, Scalar) else "")
            if moment.tzinfo is not None:
                return moment.astimezone(UTC).timestamp()
        except (ValueError, OverflowError):
            pass
        expected = "expected a time with its offset such as 2026-01-31T12:00:00Z"
        self._problems.error(node, f"{what}: found {describe(node)}, {expected}")
        return DEFAULT_NOW
