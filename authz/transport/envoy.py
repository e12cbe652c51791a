"""CheckRequest → Request, Decision → CheckResponse. Protobuf starts and stops here.

Envoy takes an empty answer, and any answer whose outer code is 0, for an allow (measured, Envoy 1.40). So all start as
copies of what `_head` makes, with its code, and a denial's comes from a table that holds no 0. Identity headers are set
or removed on every allow, public routes too: one we do not mention would reach the upstream as the client sent it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, TypeAlias

from authz.identity.credentials import TokenPlace, headers_with_tokens, without_cookies
from authz.model import (
    NO_GUIDANCE,
    TOKEN_REASONS,
    Allow,
    Decision,
    Deny,
    Principal,
    Reason,
    Request,
    http_status,
)
from authz.pb import external_auth_pb2 as pb
from authz.policy.refusals import Redirects
from authz.policy.remembered import Remembered
from authz.settings.templates import Template
from authz.transport.header_values import Unfit, header_value
from authz.transport.pages import Refusal, denial_page
from authz.transport.redirects import redirect_target

OK: Final = 0
GRPC_CODE: Final[Mapping[int, int]] = {400: 3, 401: 16, 403: 7, 404: 7, 503: 14}
"""google.rpc.Code by HTTP status: INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE."""

FOUND: Final = 302
MAX_SCOPE_LENGTH: Final = 1024  # characters that a challenge may name; a longer list is left out whole

_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")


def to_request(check: pb.CheckRequest, client_ip_header: str | None = None) -> Request:
    """Translate Envoy's message. Every field is optional there; an absent one is empty here."""
    attributes = check.attributes
    http = attributes.request.http
    headers = _headers(http)
    extensions = attributes.context_extensions
    return Request(
        method=http.method,
        host=http.host,
        path=http.path,
        headers=headers,
        source_ip=client_address(attributes.source.address.socket_address.address, headers, client_ip_header),
        route_id=extensions["route"] if "route" in extensions else None,  # noqa: SIM401 - a protobuf map is no dict
        certificate=attributes.source.certificate,
        scheme=http.scheme,
    )


def _headers(http: pb.AttributeContext.HttpRequest) -> Mapping[str, tuple[str, ...]]:
    """Give the headers by lower-case name, from whichever of the two encodings Envoy was told to use.

    Nearly always every name is in lower case, as Envoy sends them, and stands there once.
    """
    raw = http.header_map.headers
    if raw:
        by_name = {entry.key: entry for entry in raw}
        names = "\n".join(by_name)
        if len(by_name) == len(raw) and _are_lower(names):
            return _RawHeaders(by_name, names)
    elif _are_lower("\n".join(http.headers)):
        return {name: (value,) for name, value in http.headers.items()}
    pairs = ((entry.key, _value(entry)) for entry in raw) if raw else http.headers.items()
    apart: dict[str, list[str]] = {}
    for key, value in pairs:
        apart.setdefault(_lower(key), []).append(value)
    return {name: tuple(values) for name, values in apart.items()}


def _are_lower(names: str) -> bool:
    return names.isascii() and names == names.lower()


class _RawHeaders(Mapping[str, tuple[str, ...]]):
    """Headers that each stand there once; a value is read when somebody asks for it, and few are asked for."""

    __slots__ = ("_entries", "names")

    def __init__(self, entries: Mapping[str, pb.HeaderValue], names: str) -> None:
        """`names`: all of them, a line each."""
        self._entries = entries
        self.names = names

    def __getitem__(self, name: str) -> tuple[str, ...]:
        return (_value(self._entries[name]),)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - any default, as Mapping says
        """As a dictionary's; the inherited one pays for an exception where there is no such header."""
        entry = self._entries.get(name)
        return default if entry is None else (_value(entry),)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _value(entry: pb.HeaderValue) -> str:
    """Read a value as UTF-8, which answers are written in: cookies that are written back must be what they were.

    A value that is no UTF-8 is read as Latin-1 (RFC 9110 section 5.5), whole. Written back, its lone bytes arrive as
    UTF-8, since a text of protobuf can hold nothing else; in its other encoding Envoy makes each of them a `!`.
    """
    raw = entry.raw_value
    if not raw:
        return entry.value
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _lower(name: str) -> str:
    return name.lower() if name.isascii() else name  # `K` (Kelvin) would become `k`


def client_address(peer: str, headers: Mapping[str, tuple[str, ...]], header: str | None) -> str:
    """Give the TCP peer, or what the configured header says; a header that holds no single address is no address."""
    if header is None:
        return peer
    values = headers.get(header, ())
    if len(values) != 1:
        return ""
    try:
        return str(ip_address(values[0]))
    except ValueError:
        return ""


def request_id_of(request: Request) -> str:
    """Give `x-request-id` where it is fit to be shown; empty otherwise."""
    value = request.header("x-request-id")
    return value if _REQUEST_ID.fullmatch(value) else ""


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """What the configuration says about answers."""

    identity_headers: Sequence[tuple[str, Sequence[str]]]  # lower-case header → claims, the first that is there
    pass_identity_headers: bool = True
    hide_credentials: bool = False
    tokens: Sequence[TokenPlace] = ()  # every place of a token, for `hide_credentials`
    issuers: frozenset[str] = frozenset()  # whose tokens are hidden wherever they stand
    max_header_bytes: int = 8192
    show_error_details: bool = False
    denied_redirect: Redirects = ()
    denied_pages: Mapping[str, Template] = field(default_factory=dict)  # by file name, such as `403.html`


IdentityValues: TypeAlias = Sequence[tuple[str, str | Unfit]]
"""Each identity header with its value, or why it has none."""

MAX_KNOWN_PRINCIPALS: Final = 1024


class Answer(NamedTuple):
    """What goes back to Envoy, and which identity headers had a value that cannot be a header value."""

    response: pb.CheckResponse
    headers_omitted: tuple[str, ...] = ()


class Stamp(NamedTuple):
    """What every answer says about itself in its dynamic metadata."""

    decision_id: str
    policy_revision: str = ""


class Answers:
    """Builds every answer there is."""

    def __init__(self, settings: AnswerSettings) -> None:
        self._settings = settings
        self._names = frozenset(name for name, _ in settings.identity_headers)
        self._forms = frozenset(map(_cgi_form, self._names))
        self._no_identity: IdentityValues = tuple((name, Unfit.ABSENT) for name, _ in settings.identity_headers)
        # What an allow's answer holds of its request are the names to remove, and those are known by their characters.
        self._has_plain_names = _are_plain("\n".join(self._names))
        self._keeps = not settings.hide_credentials and self._has_plain_names
        self._redirects_of_all = dict(settings.denied_redirect)
        self._known: dict[int, tuple[Principal, IdentityValues]] = {}
        self._token_headers = tuple(place.name for place in settings.tokens if place.kind == "header")
        self._token_cookies = tuple(place.name for place in settings.tokens if place.kind == "cookie")

    def serialized(
        self, request: Request, decision: Decision, stamp: Stamp, host: str = ""
    ) -> tuple[bytes, tuple[str, ...]]:
        """Give the answer as bytes, and the headers omitted."""
        answer = self.answer(request, decision, stamp, host)
        return answer.response.SerializeToString(), answer.headers_omitted

    def again(
        self, request: Request, remembered: Remembered, stamp: Stamp, host: str = ""
    ) -> tuple[bytes, tuple[str, ...]]:
        """Do the same for a decision that comes again; an allow's answer is written once and kept where the allow is.

        Messages written one after the other are one message (protobuf, "Last One Wins"), whose embedded messages and
        maps are joined; so a kept answer needs nothing but the new `decision_id` behind it.
        """
        decision = remembered.decision
        if isinstance(decision, Deny) or not self._keeps or _has_aliases(request):
            return self.serialized(request, decision, stamp, host)
        if remembered.answer is None:
            remembered.answer = self.serialized(request, decision, stamp._replace(decision_id=""))
        data, omitted = remembered.answer
        return data + _decision_id(stamp.decision_id), omitted

    def answer(self, request: Request, decision: Decision, stamp: Stamp, host: str = "") -> Answer:
        """Build the answer to one request; `host` is the canonical host name, empty when it could not be read."""
        match decision:
            case Allow():
                return self._allow(request, decision, stamp)
            case Deny():  # pragma: no branch - the last kind there is
                return Answer(self._deny(request, decision, stamp, host))

    def _allow(self, request: Request, allow: Allow, stamp: Stamp) -> Answer:
        to_set: dict[str, str] = {}
        to_remove: dict[str, None] = {}  # a set that keeps its order
        passes = allow.route.pass_identity_headers
        if passes is None:
            passes = self._settings.pass_identity_headers
        principal = allow.principal if passes else None
        omitted = []
        for name, value in self._no_identity if principal is None else self._identity(principal):
            if isinstance(value, str):
                to_set[name] = value
                continue
            if value is Unfit.OMITTED:
                omitted.append(name)
            to_remove[name] = None
        to_remove.update(dict.fromkeys(self._twins(request)))
        if self._settings.hide_credentials:
            self._hide_credentials(request, to_set, to_remove)
        response = _response(allow, stamp, _allowed_head(_summary(OK, allow, stamp), tuple(to_set)))
        ok = response.ok_response
        for option, value in zip(ok.headers, to_set.values(), strict=True):
            option.header.value = value
        # Envoy removes after it sets: a name in both would be gone.
        ok.headers_to_remove.extend([name for name in to_remove if name not in to_set])
        return Answer(response, tuple(omitted))

    def _identity(self, principal: Principal) -> IdentityValues:
        """Give the identity headers' values; worked out once for a principal that comes again from the token cache.

        The principal is held beside its values, so that its address cannot become another's while it is the key.
        """
        known = self._known.get(id(principal))
        if known is not None and known[0] is principal:
            return known[1]
        values = tuple(
            (name, header_value(principal, claims, self._settings.max_header_bytes))
            for name, claims in self._settings.identity_headers
        )
        if len(self._known) >= MAX_KNOWN_PRINCIPALS:
            self._known.clear()
        self._known[id(principal)] = (principal, values)
        return values

    def _twins(self, request: Request) -> Iterable[str]:
        """Give the request's headers that CGI-style upstreams read as one of ours: `x_auth_subject` and kin."""
        if self._has_plain_names and not _has_aliases(request):
            return ()
        return (name for name in request.headers if _cgi_form(name) in self._forms and name not in self._names)

    def _hide_credentials(self, request: Request, to_set: dict[str, str], to_remove: dict[str, None]) -> None:
        issuers = self._settings.issuers
        to_remove.update(dict.fromkeys((*self._token_headers, *headers_with_tokens(request, issuers))))
        remaining = without_cookies(request, self._token_cookies, issuers)
        if remaining:
            to_set.setdefault("cookie", remaining)
        elif remaining is not None:
            to_remove["cookie"] = None

    def _deny(self, request: Request, deny: Deny, stamp: Stamp, host: str) -> pb.CheckResponse:
        status = http_status(deny.reason)
        # The same code for a redirect, because the decision is the same.
        response = _response(deny, stamp, _head(_summary(GRPC_CODE[status], deny, stamp)))
        denied = response.denied_response
        location = redirect_target(request, status, self._redirects(deny))
        if location is None:
            page = denial_page(request, self._refusal(request, deny, status, host), self._settings.denied_pages)
            challenge = _challenge(status, deny, host)
            denied.CopyFrom(_denied_head(status, page.content_type, page.policy, challenge))
            denied.body = page.body
        else:
            denied.status.code = FOUND
            for name, value in _redirect_headers(location):
                _set(denied.headers, name, value)
        return response

    def _redirects(self, deny: Deny) -> Mapping[int, str]:
        """Give where browsers are sent, by status; the route's word goes before the configuration's."""
        of_route = () if deny.route is None else deny.route.denied_redirect
        return dict((*self._settings.denied_redirect, *of_route)) if of_route else self._redirects_of_all

    def _refusal(self, request: Request, deny: Deny, status: int, host: str) -> Refusal:
        shows = self._settings.show_error_details or (deny.route is not None and deny.route.show_error_details)
        reason, guidance = (deny.reason, deny.guidance) if shows else (None, NO_GUIDANCE)
        return Refusal(status, request_id_of(request), host, reason, guidance)


NOBODY: Final = Request("", "", "", {})
"""Stands for a request that was not read."""


class StandingDenial:
    """A denial that was written before anybody asked, so that nothing is left that could fail."""

    def __init__(self, answers: Answers, deny: Deny) -> None:
        self.data, _ = answers.serialized(NOBODY, deny, Stamp(""))

    def with_id(self, decision_id: str) -> bytes:
        """Give it with a `decision_id`, which replaces the empty one."""
        return self.data + _decision_id(decision_id)


class _Summary(NamedTuple):
    """What answers have in common that say the same of the same route."""

    code: int
    decision: str
    reason: str
    route: str
    policy_revision: str


def _summary(code: int, decision: Decision, stamp: Stamp) -> _Summary:
    word = "allow" if isinstance(decision, Allow) else "deny"
    route = "" if decision.route is None else decision.route.label
    return _Summary(code, word, decision.reason.value, route, stamp.policy_revision)


# What is read below was written once, because to write it takes longer than all else of an answer. There are a handful
# for each route; nothing that a request could choose is part of it, or strangers could fill the memory.
_HEADS: Final = 1024


@lru_cache(maxsize=_HEADS)
def _head(summary: _Summary) -> pb.CheckResponse:
    """Give what every answer starts with: outer code and dynamic metadata. Only to be copied from."""
    response = _made()
    response.status.code = summary.code
    for name in ("decision", "reason", "route", "policy_revision"):
        response.dynamic_metadata.fields[name].string_value = getattr(summary, name)
    return response


@lru_cache(maxsize=_HEADS)
def _allowed_head(summary: _Summary, to_set: tuple[str, ...]) -> pb.CheckResponse:
    """Give an allow's answer with the names of the headers that it sets, without their values. Only to be copied."""
    response = _made(_head(summary))
    ok = response.ok_response
    ok.SetInParent()  # also when it is empty
    for name in to_set:
        _set(ok.headers, name, "")
    return response


def _made(like: pb.CheckResponse | None = None) -> pb.CheckResponse:
    """Make an answer, which is done here alone. One that is like no other has no code yet, which means allow."""
    response = pb.CheckResponse()
    if like is not None:
        response.CopyFrom(like)
    return response


def _response(decision: Decision, stamp: Stamp, head: pb.CheckResponse) -> pb.CheckResponse:
    """Start every answer: what it has in common with others, its id, and the caller."""
    response = _made(head)
    fields = response.dynamic_metadata.fields
    fields["decision_id"].string_value = stamp.decision_id
    principal = decision.principal
    if principal is not None:
        fields["subject"].string_value = principal.subject
        fields["client_id"].string_value = principal.client_id
    return response


@lru_cache(maxsize=256)  # a handful for each host; to write one takes half as long as a whole denial
def _denied_head(status: int, content_type: str, policy: str, challenge: str | None) -> pb.DeniedHttpResponse:
    """Give a denial without its body. Only to be copied from."""
    denied = pb.DeniedHttpResponse()
    denied.status.code = status
    _set(denied.headers, "content-type", content_type)
    _set(denied.headers, "cache-control", "no-store")
    _set(denied.headers, "x-content-type-options", "nosniff")
    _set(denied.headers, "vary", "accept")
    if policy:
        _set(denied.headers, "content-security-policy", policy)
    if challenge is not None:
        _set(denied.headers, "www-authenticate", challenge)
    return denied


def _redirect_headers(location: str) -> Iterable[tuple[str, str]]:
    yield "location", location
    yield "cache-control", "no-store"
    yield "vary", "accept"


def _challenge(status: int, deny: Deny, host: str) -> str | None:
    error = _challenge_error(status, deny)
    return None if error is None else f'Bearer realm="{host}"{error}'


def _challenge_error(status: int, deny: Deny) -> str | None:
    """Give what follows the realm in a challenge (RFC 6750 section 3); None where there is no challenge."""
    if status == 401:  # RFC 9110 section 11.6.1 ties the header to it
        return ', error="invalid_token"' if deny.reason in TOKEN_REASONS else ""
    if status != 403 or Reason.SCOPE_UNAUTHORIZED not in deny.reasons:
        return None
    scope = "" if deny.route is None else " ".join(deny.route.scopes)
    named = f', scope="{scope}"' if 0 < len(scope) <= MAX_SCOPE_LENGTH else ""
    return f', error="insufficient_scope"{named}'


def _set(headers: object, name: str, value: str) -> None:
    """Set one header. `append` stays unset: Envoy then replaces every copy, and adds one where there is none."""
    option = headers.add()  # type: ignore[attr-defined]  # a repeated field of protobuf
    option.header.key = name
    option.header.value = value


def _has_aliases(request: Request) -> bool:
    """Tell whether some header's name could be another spelling of one with hyphens."""
    headers = request.headers
    return not _are_plain(headers.names if isinstance(headers, _RawHeaders) else "\n".join(headers))


_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-:\n"  # the colon is that of pseudo-headers


def _are_plain(names: str) -> bool:
    """Tell whether names, a line each, are of letters, digits and hyphens alone; the cheapest way there is."""
    return not names.encode().translate(None, _PLAIN)


def _decision_id(text: str) -> bytes:
    """Write `dynamic_metadata {fields {key: "decision_id" value {string_value: text}}}`, in fields 4, 1, 1, 2 and 3."""
    value = text.encode()
    entry = b"\x0a\x0bdecision_id\x12" + bytes((len(value) + 2, 0x1A, len(value))) + value
    return bytes((0x22, len(entry) + 2, 0x0A, len(entry))) + entry  # every length is below 128: one byte


_PUNCTUATION: Final = re.compile(r"[^a-z0-9:]")  # with a colon it is a pseudo-header, and those are nobody's twins


def _cgi_form(name: str) -> str:
    """Fold a name as lighttpd does: whatever is neither letter nor digit is an underscore."""
    return _PUNCTUATION.sub("_", name)
