"""What is written by hand is the message that protobuf writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.model import Allow, Deny, Principal, Reason, RouteName, Source
from authz.pb import external_auth_pb2 as pb
from authz.transport.answer_heads import (
    GRPC_CODE,
    allowed,
    body_bytes,
    decision_id_bytes,
    denied,
    redirected,
    refused_head,
    set_header,
)
from authz.transport.wire import field
from tests.support.policies import principal

NAMES = st.text("abc-", max_size=40)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.builds("x".__mul__, st.integers(0, 40_000))


@given(
    st.dictionaries(NAMES, TEXTS, max_size=4),
    st.lists(NAMES, max_size=3).map(tuple),
    st.lists(TEXTS, max_size=3),
    st.none() | st.builds(lambda subject, client: principal(subject=subject)._replace(client_id=client), TEXTS, TEXTS),
    st.text("0123456789abcdef", max_size=16),
    st.text(max_size=5),
)
def test_an_allow_is_what_protobuf_writes(
    to_set: dict[str, str],
    absent: tuple[str, ...],
    to_remove: list[str],
    caller: Principal | None,
    revision: str,
    label: str,
) -> None:
    allow = Allow(RouteName(label, Source("a.yaml", 1, 1)), (Reason.USER_OK,), caller)
    response = pb.CheckResponse()
    response.status.code = 0
    response.ok_response.SetInParent()
    for name, text in to_set.items():
        set_header(response.ok_response.headers, name, text)
    response.ok_response.headers_to_remove.extend([*absent, *to_remove])
    said = {"decision": "allow", "reason": "user-ok", "route": label, "policy_revision": revision, "decision_id": "d-1"}
    if caller is not None:
        said |= {"subject": caller.subject, "client_id": caller.client_id}
    for name, text in said.items():
        response.dynamic_metadata.fields[name].string_value = text
    written = allowed(allow, revision, to_set, absent, to_remove) + decision_id_bytes("d-1")
    assert pb.CheckResponse.FromString(written) == response


@given(
    st.sampled_from(sorted(GRPC_CODE)),
    st.tuples(TEXTS, st.sampled_from(["", "default-src 'none'"]), st.none() | TEXTS, TEXTS) | TEXTS,
    st.none() | st.builds(lambda subject: principal(subject=subject), TEXTS),
    st.none() | st.text(max_size=5).map(lambda label: RouteName(label, Source("a.yaml", 1, 1))),
)
def test_a_denial_is_what_protobuf_writes(
    status: int, sent: tuple[str, str, str | None, str] | str, caller: Principal | None, route: RouteName | None
) -> None:
    response = pb.CheckResponse()
    response.status.code = GRPC_CODE[status]
    refused = response.denied_response
    if isinstance(sent, str):
        refused.status.code = 302
        headers = {"location": sent, "cache-control": "no-store", "vary": "accept"}
        written = redirected(sent)
    else:
        content_type, policy, challenge, body = sent
        refused.status.code, refused.body = status, body
        headers = {"content-type": content_type, "cache-control": "no-store", "x-content-type-options": "nosniff"}
        headers |= {"vary": "accept"} | ({"content-security-policy": policy} if policy else {})
        headers |= {} if challenge is None else {"www-authenticate": challenge}
        written = refused_head(status, content_type, policy, challenge) + body_bytes(body)
    for name, text in headers.items():
        set_header(refused.headers, name, text)
    said = {"decision": "deny", "reason": "no-rule", "route": "" if route is None else route.label}
    said |= {"policy_revision": "rev", "decision_id": "d-1"}
    said |= {} if caller is None else {"subject": caller.subject, "client_id": caller.client_id}
    for name, text in said.items():
        response.dynamic_metadata.fields[name].string_value = text
    data = denied(Deny(Reason.NO_RULE, (), route, caller), "rev", status, written) + decision_id_bytes("d-1")
    assert pb.CheckResponse.FromString(data) == response


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152])
def test_a_field_is_what_protobuf_writes(length: int) -> None:
    text = "x" * length
    assert field(b"\x1a", text.encode()) == (pb.DeniedHttpResponse(body=text).SerializeToString() or b"\x1a\0")


@pytest.mark.parametrize("place", ["subject", "client_id", "header"])
def test_what_utf8_cannot_hold_is_an_error(place: str) -> None:
    caller = principal() if place == "header" else principal()._replace(**{place: "\udc80"})
    allow = Allow(RouteName("r", Source("a.yaml", 1, 1)), (Reason.USER_OK,), caller)
    with pytest.raises(ValueError, match="surrogates"):
        allowed(allow, "rev", {"x": "\udc80" if place == "header" else ""}, ())
