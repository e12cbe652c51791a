"""Lines of decisions are never waited for, always one physical line, and never hold a secret."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.audit import DecisionLog, DecisionRecord, _decision_fields, _decision_json
from authz.lines import Line
from authz.log_line import json_line
from authz.model import Allow, Deny, Reason, RouteName, Source
from tests.support.written_lines import Lines

CANARY = "canary-eyJhbGciOi"
ROUTE = RouteName("admin", Source("policies/admin.yaml", 3, 3))
RECORD = DecisionRecord(
    now=1_790_000_000.0625,
    decision_id="d-1",
    request_id="r-1",
    decision="deny",
    reasons=(Reason.CLAIM_UNAUTHORIZED, Reason.EMAIL_UNAUTHORIZED),
    route="admin",
    policy="policies/admin.yaml:3",
    policy_revision="abc123",
    method="GET",
    host="admin.example.com",
    path="/a?token=" + CANARY,
    source_ip="192.0.2.1",
    subject="11111111-2222",
    client_id="app",
    token_use="access",
    duration_us=123,
)
AS_JSON = {
    "time": "2026-09-21T14:13:20.062Z",
    "level": "info",
    "msg": "decision",
    "decision_id": "d-1",
    "request_id": "r-1",
    "decision": "deny",
    "reasons": ["claim-unauthorized", "email-unauthorized"],
    "route": "admin",
    "policy": "policies/admin.yaml:3",
    "policy_revision": "abc123",
    "method": "GET",
    "host": "admin.example.com",
    "path": "/a",
    "source_ip": "192.0.2.1",
    "subject": "11111111-2222",
    "client_id": "app",
    "token_use": "access",
    "duration_us": 123,
}


@pytest.fixture
def lines() -> Lines:
    return Lines()


def log_of(lines: Lines, **options: Any) -> DecisionLog:
    return DecisionLog(lines, **options)  # type: ignore[arg-type]


def test_a_json_line_has_exactly_the_promised_fields_in_their_order(lines: Lines) -> None:
    log_of(lines).record(RECORD)
    assert lines.last == AS_JSON
    assert list(lines.last) == list(AS_JSON)


@pytest.mark.parametrize("field", ["method", "host", "path"])
def test_what_a_request_adds_to_a_line_counts_against_the_bound_of_the_queue(field: str) -> None:
    sizes: list[int] = []

    class Scales:
        def write(self, line: Line) -> None:
            sizes.append(len(line))

    log = DecisionLog(Scales())  # type: ignore[arg-type]
    log.record(RECORD._replace(**{field: ""}))
    log.record(RECORD._replace(**{field: "a" * 60_000}))
    assert sizes[1] - sizes[0] == 60_000
    assert sizes[0] > 500


WORDS = st.one_of(st.text(max_size=300), st.sampled_from(["\ud800", 'a"b\\', "\u2028", "user:p@h", "/a?b#c"]))
TEXTS = st.none() | WORDS


@given(
    record=st.builds(
        RECORD._replace,
        now=st.floats(0, 4e9),
        request_id=TEXTS,
        route=TEXTS,
        method=WORDS,
        host=WORDS,
        path=WORDS,
        subject=TEXTS,
        decision=st.sampled_from(["allow", "deny"]),
        reasons=st.lists(st.sampled_from(list(Reason)), min_size=1, max_size=3),
        duration_us=st.integers(0, 10**9),
        detail=st.just("") | WORDS,
        headers_omitted=st.lists(st.sampled_from(["x-auth-email", "x-auth-groups"]), max_size=2),
        why=st.none()
        | st.dictionaries(TEXTS.map(str), TEXTS | st.floats() | st.lists(TEXTS))
        | st.dictionaries(
            st.sampled_from(["condition", "effect", "policy", "found", "hint"]), TEXTS | st.just("x" * 300)
        ),
    )
)
def test_the_quick_way_writes_the_same_line(record: DecisionRecord) -> None:
    assert _decision_json(record) == json_line(_decision_fields(record))


def test_what_is_not_known_is_null(lines: Lines) -> None:
    unknown: dict[str, Any] = dict.fromkeys(
        ("request_id", "route", "policy", "policy_revision", "source_ip", "subject", "client_id", "token_use")
    )
    log_of(lines).record(RECORD._replace(**{**unknown, "source_ip": ""}))
    assert lines.last == {**AS_JSON, **unknown}


def test_optional_facts_are_written_when_given(lines: Lines) -> None:
    why: dict[str, Any] = {"criterion": "claim/groups", "found": [1, 2.5, None, True, {"a": float("inf")}]}
    log_of(lines).record(RECORD._replace(detail="no group", headers_omitted=["x-auth-groups"], why=why))
    assert lines.last["detail"] == "no group"
    assert lines.last["headers_omitted"] == ["x-auth-groups"]
    assert lines.last["why"] == {"criterion": "claim/groups", "found": [1, 2.5, None, True, {"a": "inf"}]}


def test_an_explanation_is_bounded_in_every_direction(lines: Lines) -> None:
    deep: Any = "bottom"
    for _ in range(100):
        deep = [deep]
    why = {"text": "x" * 10_000, "list": list(range(10_000)), "deep": deep, "k" * 1000: 1}
    log_of(lines).record(RECORD._replace(why=why))
    assert lines.last["why"]["text"] == "x" * 255 + "…"
    assert lines.last["why"]["list"] == list(range(100))
    assert lines.last["why"]["deep"] == [[["…"]]]
    assert lines.last["why"]["k" * 255 + "…"] == 1


@pytest.mark.parametrize(
    ("decision", "reason", "level"),
    [
        pytest.param("allow", Reason.CLAIM_OK, "info", id="an allow is information"),
        pytest.param("deny", Reason.TOKEN_EXPIRED, "info", id="a 401 is information"),
        pytest.param("deny", Reason.ROUTE_NOT_FOUND, "info", id="a 404 is information"),
        pytest.param("deny", Reason.KEYS_UNAVAILABLE, "warning", id="a 503 is a warning"),
        pytest.param("deny", Reason.INTERNAL_ERROR, "warning", id="our own error is a warning"),
    ],
)
def test_level(lines: Lines, decision: Any, reason: Reason, level: str) -> None:
    log_of(lines).record(RECORD._replace(decision=decision, reasons=(reason,)))
    assert lines.last["level"] == level


@pytest.mark.parametrize(
    ("field", "limit"), [("path", 2048), ("host", 256), ("method", 256), ("request_id", 256), ("subject", 256)]
)
def test_a_text_is_cut_and_marked_at_its_limit(lines: Lines, field: str, limit: int) -> None:
    log_of(lines).record(RECORD._replace(**{field: "a" * limit}))
    assert lines.last[field] == "a" * limit
    log_of(lines).record(RECORD._replace(**{field: "a" * (limit + 1)}))
    assert lines.last[field] == "a" * (limit - 1) + "…"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("path", f"/x?access_token={CANARY}", id="a query"),
        pytest.param("path", f"/x#access_token={CANARY}", id="a fragment"),
        pytest.param("host", f"user:{CANARY}@example.com", id="userinfo before the host"),
    ],
)
@pytest.mark.parametrize("style", ["json", "text"])
def test_a_place_where_credentials_travel_is_cut_off(lines: Lines, field: str, value: str, style: str) -> None:
    log_of(lines, format=style).record(RECORD._replace(**{field: value}))
    assert CANARY not in lines.lines[-1]


HOSTILE = [
    pytest.param('/x\n{"decision":"allow"}', id="a line feed"),
    pytest.param("/x\r\x1b[2J\x00", id="control characters"),
    pytest.param("/x\u2028\u2029\x85", id="line separators of Unicode"),
    pytest.param("/x\u202eevil", id="a mark that reorders text"),
    pytest.param("/x\ud800", id="half a surrogate pair"),
    pytest.param('/x" decision=allow', id="a quote"),
    pytest.param("/x decision=allow reasons=claim-ok", id="blanks and an equals sign"),
]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_json_line_stays_one_line_of_ascii(lines: Lines, path: str) -> None:
    log_of(lines).record(RECORD._replace(path=path))
    assert lines.lines[-1].isascii()
    assert lines.lines[-1].isprintable()
    assert lines.last["decision"] == "deny"
    assert lines.last["path"] == path.replace("\ud800", "?")


@pytest.mark.parametrize("path", HOSTILE)
def test_a_text_line_stays_one_line_and_its_fields_cannot_be_forged(lines: Lines, path: str) -> None:
    log_of(lines, format="text").record(RECORD._replace(path=path))
    assert lines.lines[-1].isprintable()
    assert lines.lines[-1].startswith("2026-09-21T14:13:20.062Z info decision deny reasons=claim-unauthorized,")
    if any(character in path for character in ' "'):
        assert ' path="/x' in lines.lines[-1]


def test_a_text_line_reads_well(lines: Lines) -> None:
    log_of(lines, format="text").record(RECORD._replace(request_id=None, why={"criterion": "claim/a b"}))
    assert lines.lines[-1] == (
        "2026-09-21T14:13:20.062Z info decision deny reasons=claim-unauthorized,email-unauthorized route=admin "
        "policy=policies/admin.yaml:3 policy_revision=abc123 method=GET host=admin.example.com path=/a "
        "source_ip=192.0.2.1 subject=11111111-2222 client_id=app token_use=access duration_us=123 "
        'why={"criterion":"claim/a b"} decision_id=d-1'
    )


@pytest.mark.parametrize(
    ("decisions", "allow", "deny"),
    [
        pytest.param("all", True, True, id="all decisions are wanted"),
        pytest.param("denied", False, True, id="only denials are wanted"),
        pytest.param("none", False, False, id="none is wanted"),
    ],
)
def test_wanted(lines: Lines, decisions: str, allow: bool, deny: bool) -> None:
    log = log_of(lines, decisions=decisions)
    assert log.wanted(Allow(ROUTE, (Reason.CLAIM_OK,))) is allow
    assert log.wanted(Deny(Reason.NO_RULE)) is deny
    log.record(RECORD._replace(decision="allow", reasons=(Reason.CLAIM_OK,)))
    log.record(RECORD)
    assert len(lines.lines) == allow + deny
