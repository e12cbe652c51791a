"""Decision → CheckResponse. Protobuf starts again here.

Identity headers are set or removed on every allow, public routes too: one we do not mention would reach the upstream as
the client sent it. What an answer starts with, its code above all, `answer_heads.py` makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Final, NamedTuple, TypeAlias

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
from authz.transport.answer_heads import (
    Stamp,
    allowed,
    body_bytes,
    decision_id_bytes,
    denied,
    redirected,
    refused_head,
)
from authz.transport.check_request import NOBODY, are_plain, has_aliases, request_id_of
from authz.transport.header_values import Unfit, header_value
from authz.transport.pages import Refusal, denial_page
from authz.transport.preference import Form, preferred_form
from authz.transport.redirects import redirect_target

MAX_SCOPE_LENGTH: Final = 1024  # characters that a challenge may name; a longer list is left out whole


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
MAX_KEPT_DENIALS: Final = 512  # a page is some 3 KB, one by a template 64 KB at most


class Answer(NamedTuple):
    """What goes back to Envoy, and which identity headers had a value that cannot be a header value."""

    response: pb.CheckResponse
    headers_omitted: tuple[str, ...] = ()


class Answers:
    """Builds every answer there is."""

    def __init__(self, settings: AnswerSettings) -> None:
        self._settings = settings
        self._names = frozenset(name for name, _ in settings.identity_headers)
        self._forms = frozenset(map(_cgi_form, self._names))
        self._no_identity: IdentityValues = tuple((name, Unfit.ABSENT) for name, _ in settings.identity_headers)
        # What an allow's answer holds of its request are the names to remove, and those are known by their characters.
        self._has_plain_names = are_plain("\n".join(self._names))
        self._keeps = not settings.hide_credentials and self._has_plain_names
        self._redirects_of_all = dict(settings.denied_redirect)
        self._known: dict[int, tuple[Principal, IdentityValues]] = {}
        self._kept: dict[tuple[int, str, Form, str, int], _KeptDenial] = {}
        self._token_headers = tuple(place.name for place in settings.tokens if place.kind == "header")
        self._token_cookies = tuple(place.name for place in settings.tokens if place.kind == "cookie")

    def serialized(
        self, request: Request, decision: Decision, stamp: Stamp, host: str = ""
    ) -> tuple[bytes, tuple[str, ...]]:
        """Give the answer to one request, and the identity headers omitted: their value cannot be a header value.

        `host` is the canonical host name, empty when it could not be read.
        """
        if isinstance(decision, Allow):
            data, omitted = self._allow(request, decision, stamp.policy_revision, self._known_identity)
        else:
            data, omitted = self._deny(request, decision, stamp.policy_revision, host), ()
        return data + decision_id_bytes(stamp.decision_id), omitted

    def again(
        self, request: Request, remembered: Remembered, stamp: Stamp, host: str = ""
    ) -> tuple[bytes, tuple[str, ...]]:
        """Do the same for a decision that comes again; its answer is written once and kept, an allow's where that is.

        A kept answer needs nothing but the new `decision_id` behind it, and a denial's the request's id in it.
        """
        decision = remembered.decision
        if isinstance(decision, Deny):
            data = self._deny_again(request, decision, stamp.policy_revision, host)
            return data + decision_id_bytes(stamp.decision_id), ()
        if not self._keeps or has_aliases(request):
            return self.serialized(request, decision, stamp, host)
        if remembered.answer is None:
            remembered.answer = self._allow(request, decision, stamp.policy_revision, self._identity)
        data, omitted = remembered.answer
        return data + decision_id_bytes(stamp.decision_id), omitted

    def answer(self, request: Request, decision: Decision, stamp: Stamp, host: str = "") -> Answer:
        """Give the same as a message, for whoever looks into it."""
        data, omitted = self.serialized(request, decision, stamp, host)
        return Answer(pb.CheckResponse.FromString(data), omitted)

    def _allow(
        self, request: Request, allow: Allow, policy_revision: str, identity: Callable[[Principal], IdentityValues]
    ) -> tuple[bytes, tuple[str, ...]]:
        """Write all but the `decision_id`."""
        to_set: dict[str, str] = {}
        passes = allow.route.pass_identity_headers
        if passes is None:
            passes = self._settings.pass_identity_headers
        principal = allow.principal if passes else None
        absent, omitted = [], []
        for name, value in self._no_identity if principal is None else identity(principal):
            if isinstance(value, str):
                to_set[name] = value
                continue
            if value is Unfit.OMITTED:
                omitted.append(name)
            absent.append(name)
        to_remove = dict.fromkeys(self._twins(request))  # a set that keeps its order
        if self._settings.hide_credentials:
            self._hide_credentials(request, to_set, to_remove)
            absent = [name for name in absent if name not in to_set]
        # Envoy removes after it sets: a name in both would be gone.
        also = [name for name in to_remove if name not in to_set and name not in absent] if to_remove else ()
        return allowed(allow, policy_revision, to_set, tuple(absent), also), tuple(omitted)

    def _identity(self, principal: Principal) -> IdentityValues:
        longest = self._settings.max_header_bytes
        return [(name, header_value(principal, claims, longest)) for name, claims in self._settings.identity_headers]

    def _known_identity(self, principal: Principal) -> IdentityValues:
        """Give the identity headers' values; worked out once for a principal that comes again from the token cache.

        The principal is held beside its values, so that its address cannot become another's while it is the key.
        """
        known = self._known.get(id(principal))
        if known is not None and known[0] is principal:
            return known[1]
        if len(self._known) >= MAX_KNOWN_PRINCIPALS:
            self._known.clear()
        values = self._identity(principal)
        self._known[id(principal)] = (principal, values)
        return values

    def _twins(self, request: Request) -> Iterable[str]:
        """Give the request's headers that CGI-style upstreams read as one of ours: `x_auth_subject` and kin."""
        if self._has_plain_names and not has_aliases(request):
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

    def _deny(self, request: Request, deny: Deny, policy_revision: str, host: str) -> bytes:
        """Write all but the `decision_id`."""
        status = http_status(deny.reason)
        location = redirect_target(request, status, self._redirects(deny))
        if location is not None:  # the same code, because the decision is the same
            return denied(deny, policy_revision, status, redirected(location))
        shows = self._shows_details(deny)
        page = denial_page(request, _refusal(request, deny, status, host, shows), self._settings.denied_pages)
        head = refused_head(status, page.content_type, page.policy, _challenge(status, deny, host, shows))
        return denied(deny, policy_revision, status, head + body_bytes(page.body))

    def _deny_again(self, request: Request, deny: Deny, policy_revision: str, host: str) -> bytes:
        """Do the same; an answer that differs in nothing but the request's id is written once.

        It is written for another id, of the same length and drawn by lot, and cut where that stands.
        """
        request_id = request_id_of(request)
        key = id(deny), policy_revision, preferred_form(request), host, len(request_id)
        kept = self._kept.get(key)
        if kept is None or kept.deny is not deny:
            kept = _KeptDenial(deny, self._pieces(request, deny, policy_revision, host, len(request_id)))
            if len(self._kept) >= MAX_KEPT_DENIALS:
                self._kept.clear()
            self._kept[key] = kept
        if kept.pieces is None or not _PLAIN_ID.fullmatch(request_id):
            return self._deny(request, deny, policy_revision, host)
        return request_id.encode().join(kept.pieces)

    def _pieces(self, request: Request, deny: Deny, policy_revision: str, host: str, length: int) -> list[bytes] | None:
        """Give what stands around the request's id; None for an answer that depends on more of the request."""
        if http_status(deny.reason) in self._redirects(deny) or length < _LEAST_ID:
            return None
        other_id = token_hex(length)[:length]
        other = request._replace(headers={**request.headers, "x-request-id": (other_id,)})
        return self._deny(other, deny, policy_revision, host).split(other_id.encode())

    def _redirects(self, deny: Deny) -> Mapping[int, str]:
        """Give where browsers are sent, by status; the route's word goes before the configuration's."""
        of_route = () if deny.route is None else deny.route.denied_redirect
        return dict((*self._settings.denied_redirect, *of_route)) if of_route else self._redirects_of_all

    def _shows_details(self, deny: Deny) -> bool:
        return self._settings.show_error_details or (deny.route is not None and deny.route.show_error_details)


class _KeptDenial(NamedTuple):
    deny: Deny  # held, so that its address cannot become another's while it is part of the key
    pieces: list[bytes] | None


_PLAIN_ID: Final = re.compile(r"[0-9A-Za-z-]+")  # written alike in every form
_LEAST_ID: Final = 16  # characters; a shorter one drawn by lot could stand elsewhere in the answer, too


class StandingDenial:
    """A denial that was written before anybody asked, so that nothing is left that could fail."""

    def __init__(self, answers: Answers, deny: Deny) -> None:
        self.data, _ = answers.serialized(NOBODY, deny, Stamp(""))

    def with_id(self, decision_id: str) -> bytes:
        """Give it with a `decision_id`, which replaces the empty one."""
        return self.data + decision_id_bytes(decision_id)


def _refusal(request: Request, deny: Deny, status: int, host: str, shows: bool) -> Refusal:
    reason, guidance = (deny.reason, deny.guidance) if shows else (None, NO_GUIDANCE)
    return Refusal(status, request_id_of(request), host, reason, guidance)


def _challenge(status: int, deny: Deny, host: str, shows: bool) -> str | None:
    error = _challenge_error(status, deny, shows)
    return None if error is None else f'Bearer realm="{host}"{error}'


def _challenge_error(status: int, deny: Deny, shows: bool) -> str | None:
    """Give what follows the realm in a challenge (RFC 6750 section 3); None where there is no challenge.

    Which scopes would do is part of the policy: clients are told where they are told reasons.
    """
    if status == 401:  # RFC 9110 section 11.6.1 ties the header to it
        return ', error="invalid_token"' if deny.reason in TOKEN_REASONS else ""
    if status != 403 or Reason.SCOPE_UNAUTHORIZED not in deny.reasons:
        return None
    scope = " ".join(deny.route.scopes) if shows and deny.route is not None else ""
    named = f', scope="{scope}"' if 0 < len(scope) <= MAX_SCOPE_LENGTH else ""
    return f', error="insufficient_scope"{named}'


_PUNCTUATION: Final = re.compile(r"[^a-z0-9:]")  # with a colon it is a pseudo-header, and those are nobody's twins


def _cgi_form(name: str) -> str:
    """Fold a name as lighttpd does: whatever is neither letter nor digit is an underscore."""
    return _PUNCTUATION.sub("_", name)
