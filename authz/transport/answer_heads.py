"""What an answer starts with: its code, what it says about itself, and the headers that many answers share.

Envoy takes an empty answer, and any answer whose outer code is 0, for an allow (measured, Envoy 1.40). So answers are
made here alone: all start with what `_head` makes, with its code, and a denial's comes from a table that holds no 0.

Messages written one after the other are one message (protobuf, "Last One Wins"), whose embedded messages and maps are
joined, and whose repeated fields follow each other. So an answer is a head that is kept, and what is written behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from authz.model import Allow, Decision, Deny, Principal
from authz.pb import external_auth_pb2 as pb
from authz.transport.wire import field

OK: Final = 0
FOUND: Final = 302
GRPC_CODE: Final[Mapping[int, int]] = {400: 3, 401: 16, 403: 7, 404: 7, 503: 14}
"""google.rpc.Code by HTTP status: INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE."""


class Stamp(NamedTuple):
    """What every answer says about itself in its dynamic metadata."""

    decision_id: str
    policy_revision: str = ""


def allowed(
    allow: Allow,
    policy_revision: str,
    to_set: Mapping[str, str],
    absent: tuple[str, ...],
    to_remove: Iterable[str] = (),
) -> bytes:
    """Write an allow's answer, all but its `decision_id`. Raises ValueError for text that UTF-8 cannot hold.

    It sets these headers and removes the others; `absent` are names that no request chose. What follows the head is
    written by hand, which takes less time than protobuf does: a caller who comes for the first time waits for it.
    """
    headers = [
        field(b"\x12", field(b"\x0a", _name(name) + field(b"\x12", text.encode()))) for name, text in to_set.items()
    ]
    headers += [field(b"\x2a", name.encode()) for name in to_remove]
    head = _allowed_head(_summary(OK, allow), absent)
    return head + field(b"\x1a", b"".join(headers)) + _about(allow.principal, policy_revision)


def denied(deny: Deny, policy_revision: str, status: int, refused: bytes) -> bytes:
    """Write a denial's answer, all but its `decision_id`.

    `status`: the HTTP status of its reason; `refused`: what the client gets, by `refused_head` or `redirected`.
    """
    head = _head(_summary(GRPC_CODE[status], deny))
    return head + field(b"\x12", refused) + _about(deny.principal, policy_revision)


class _Summary(NamedTuple):
    """What answers have in common that say the same of the same route."""

    code: int
    decision: str
    reason: str
    route: str


def _summary(code: int, decision: Decision) -> _Summary:
    word = "allow" if isinstance(decision, Allow) else "deny"
    route = "" if decision.route is None else decision.route.label
    return _Summary(code, word, decision.reason.value, route)


# What is read below was written once, because to write it takes longer than all else of an answer. There are a handful
# for each route. Nothing that a request could choose is part of it, nor anything that a reload changes: strangers or
# reloads would fill the memory.
_HEADS: Final = 1024


@lru_cache(maxsize=_HEADS)
def _head(summary: _Summary) -> bytes:
    """Write what every answer starts with: outer code and dynamic metadata."""
    response = pb.CheckResponse()
    response.status.code = summary.code
    for name in ("decision", "reason", "route"):
        response.dynamic_metadata.fields[name].string_value = getattr(summary, name)
    return response.SerializeToString()


@lru_cache(maxsize=_HEADS)
def _allowed_head(summary: _Summary, absent: tuple[str, ...]) -> bytes:
    """Write what an allow's answer starts with, which removes the headers that have no value."""
    return _head(summary) + field(b"\x1a", b"".join([field(b"\x2a", name.encode()) for name in absent]))


@lru_cache(maxsize=256)  # a handful for each host
def refused_head(status: int, content_type: str, policy: str, challenge: str | None) -> bytes:
    """Write what a client gets, without its body."""
    response = pb.DeniedHttpResponse()
    response.status.code = status
    set_header(response.headers, "content-type", content_type)
    set_header(response.headers, "cache-control", "no-store")
    set_header(response.headers, "x-content-type-options", "nosniff")
    set_header(response.headers, "vary", "accept")
    if policy:
        set_header(response.headers, "content-security-policy", policy)
    if challenge is not None:
        set_header(response.headers, "www-authenticate", challenge)
    return response.SerializeToString()


def body_bytes(text: str) -> bytes:
    """Write the body that follows `refused_head`. Raises ValueError for text that UTF-8 cannot hold."""
    return field(b"\x1a", text.encode())


def redirected(location: str) -> bytes:
    """Write what a browser gets that is sent elsewhere."""
    response = pb.DeniedHttpResponse()
    response.status.code = FOUND
    set_header(response.headers, "location", location)
    set_header(response.headers, "cache-control", "no-store")
    set_header(response.headers, "vary", "accept")
    return response.SerializeToString()


def set_header(headers: object, name: str, value: str) -> None:
    """Set one header. `append` stays unset: Envoy then replaces every copy, and adds one where there is none."""
    option = headers.add()  # type: ignore[attr-defined]  # a repeated field of protobuf
    option.header.key = name
    option.header.value = value


def decision_id_bytes(text: str) -> bytes:
    """Write `dynamic_metadata {fields {key: "decision_id" value {string_value: text}}}`, in fields 4, 1, 1, 2 and 3."""
    value = text.encode()
    entry = b"\x0a\x0bdecision_id\x12" + bytes((len(value) + 2, 0x1A, len(value))) + value
    return bytes((0x22, len(entry) + 2, 0x0A, len(entry))) + entry  # every length is below 128: one byte


def _about(principal: Principal | None, policy_revision: str) -> bytes:
    """Write what else an answer says about itself: the policy, and the caller."""
    entries = _revision(policy_revision)
    if principal is not None:
        entries += _entry(_SUBJECT, principal.subject) + _client(principal.client_id)
    return field(b"\x22", entries)


_SUBJECT, _CLIENT, _REVISION = (field(b"\x0a", key) for key in (b"subject", b"client_id", b"policy_revision"))


def _entry(key: bytes, text: str) -> bytes:
    """Write `fields {key: … value {string_value: text}}` of dynamic metadata."""
    return field(b"\x0a", key + field(b"\x12", field(b"\x1a", text.encode())))


@lru_cache(maxsize=4)
def _revision(text: str) -> bytes:
    return _entry(_REVISION, text)


@lru_cache(maxsize=64)  # app clients, of verified tokens
def _client(text: str) -> bytes:
    return _entry(_CLIENT, text)


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    """Write the `key` of a header that the configuration names."""
    return field(b"\x0a", name.encode())
