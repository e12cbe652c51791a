"""What the service writes down of its decisions: one line each, and nothing secret in it.

Three rules hold here. A line never waits: a blocked or broken stdout costs lines, which are counted, never a decision.
A line is one physical line, whatever a request put into it (log_line.py). And no line holds a token or a header value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from json.encoder import encode_basestring_ascii
from typing import Final, Literal, NamedTuple, TypeAlias

from authz.lines import LineWriter
from authz.log_line import LINE, MAX_TEXT, Fields, LogFormat, bounded, encode_json, rfc3339, short
from authz.model import Decision, Deny, Json, Reason, http_status

LoggedDecisions: TypeAlias = Literal["all", "denied", "none"]

MAX_PATH: Final = 2048  # characters, as the next one
MAX_HOST: Final = 256


class DecisionRecord(NamedTuple):
    """What the decision log tells of one decision; no token, no header value, no claim but `subject` and `client_id`.

    An empty text counts as none. The last three are written only when there is something to write.
    """

    now: float  # wall clock, seconds since the epoch
    decision_id: str
    request_id: str | None
    decision: Literal["allow", "deny"]
    reasons: Sequence[Reason]
    route: str | None
    policy: str | None  # file:line
    policy_revision: str | None
    method: str
    host: str
    path: str
    source_ip: str | None
    subject: str | None
    client_id: str | None
    token_use: str | None
    duration_us: int
    detail: str = ""
    headers_omitted: Sequence[str] = ()  # names of identity headers whose value could not be sent
    why: Fields | None = None


def unread(denied: Deny, decision_id: str, now: float) -> DecisionRecord:
    """Give the record of a call that was denied (wall-clock seconds) before anybody looked into it."""
    return DecisionRecord(
        now=now,
        decision_id=decision_id,
        request_id=None,
        decision="deny",
        reasons=denied.reasons,
        route=None,
        policy=None,
        policy_revision=None,
        method="",
        host="",
        path="",
        source_ip=None,
        subject=None,
        client_id=None,
        token_use=None,
        duration_us=0,
        detail=denied.detail,
    )


_WANTED: Final[Mapping[LoggedDecisions, frozenset[str]]] = {
    "all": frozenset({"allow", "deny"}),
    "denied": frozenset({"deny"}),
    "none": frozenset(),
}


class DecisionLog:
    """Writes one line a decision, of the kinds that `decisions` asks for."""

    def __init__(
        self,
        writer: LineWriter,
        *,
        decisions: LoggedDecisions = "all",
        format: LogFormat = "json",  # noqa: A002 - the word of the configuration
    ) -> None:
        self._writer = writer
        self._kinds = _WANTED[decisions]
        self._text = _decision_json if format == "json" else partial(_decision_text, LINE[format])

    def wanted(self, decision: Decision) -> bool:
        """Tell whether a record of this decision would be written, so that none is built in vain."""
        return ("deny" if isinstance(decision, Deny) else "allow") in self._kinds

    def record(self, entry: DecisionRecord) -> None:
        """Write the entry as one line, if its kind is wanted. Never blocks."""
        if entry.decision in self._kinds:
            self._writer.write(_DecisionLine(entry, self._text))


class _DecisionLine:
    """A line whose text is made when it is written; of its characters, those count that a request can add to."""

    __slots__ = ("_entry", "_text")

    def __init__(self, entry: DecisionRecord, text: Callable[[DecisionRecord], str]) -> None:
        self._entry = entry
        self._text = text

    def __str__(self) -> str:
        return self._text(self._entry)

    def __len__(self) -> int:
        entry = self._entry
        return _USUAL_SIZE + len(entry.method) + len(entry.host) + len(entry.path)


_USUAL_SIZE: Final = 600  # characters of a line beside those three


def _decision_fields(entry: DecisionRecord) -> Fields:
    fields: dict[str, Json] = {
        "time": rfc3339(entry.now),
        "level": _decision_level(entry),
        "msg": "decision",
        "decision_id": short(entry.decision_id),
        "request_id": short(entry.request_id),
        "decision": entry.decision,
        "reasons": list(entry.reasons),
        "route": short(entry.route),
        "policy": short(entry.policy),
        "policy_revision": short(entry.policy_revision),
        "method": short(entry.method),
        "host": short(_without_userinfo(entry.host), MAX_HOST),
        "path": short(_without_query(entry.path), MAX_PATH),
        "source_ip": short(entry.source_ip),
        "subject": short(entry.subject),
        "client_id": short(entry.client_id),
        "token_use": short(entry.token_use),
        "duration_us": entry.duration_us,
    }
    if entry.detail:
        fields["detail"] = short(entry.detail)
    if entry.headers_omitted:
        fields["headers_omitted"] = bounded(entry.headers_omitted, MAX_TEXT)
    if entry.why is not None:
        fields["why"] = bounded(entry.why, MAX_TEXT)
    return fields


def _decision_text(line: Callable[[Fields], str], entry: DecisionRecord) -> str:
    return line(_decision_fields(entry))


def _decision_json(entry: DecisionRecord) -> str:
    """Give the same line as `json_line(_decision_fields(entry))`, which a test compares it with, in half the time."""
    reasons = '","'.join(entry.reasons)  # words of a closed list: nothing in them to escape
    detail = f',"detail":{_quoted(entry.detail)}' if entry.detail else ""
    omitted = f',"headers_omitted":{_bounded_json(entry.headers_omitted)}' if entry.headers_omitted else ""
    why = "" if entry.why is None else f',"why":{_why_json(entry.why)}'
    return (
        f'{{"time":"{rfc3339(entry.now)}","level":"{_decision_level(entry)}","msg":"decision"'
        f',"decision_id":{_quoted(entry.decision_id)},"request_id":{_quoted(entry.request_id)}'
        f',"decision":"{entry.decision}","reasons":["{reasons}"]'
        f',"route":{_known(entry.route)},"policy":{_known(entry.policy)}'
        f',"policy_revision":{_known(entry.policy_revision)},"method":{_known(entry.method)}'
        f',"host":{_known(_without_userinfo(entry.host))}'
        f',"path":{_quoted(_without_query(entry.path), MAX_PATH)},"source_ip":{_known(entry.source_ip)}'
        f',"subject":{_known(entry.subject)},"client_id":{_known(entry.client_id)}'
        f',"token_use":{_known(entry.token_use)},"duration_us":{entry.duration_us}{detail}{omitted}{why}}}'
    )


_WHY: Final = frozenset({"condition", "effect", "policy", "found", "hint"})  # explanation.py


def _why_json(why: Fields) -> str:
    """Write its few texts, most of which come again and again."""
    texts = {name: text for name, text in why.items() if name in _WHY and type(text) is str and text}
    if len(texts) < len(why):
        return _bounded_json(why)
    return "{" + ",".join([f'"{name}":{_known(text)}' for name, text in texts.items()]) + "}"


def _bounded_json(value: Json) -> str:
    return encode_json(bounded(value, MAX_TEXT))


def _quoted(text: str | None, limit: int = MAX_TEXT) -> str:
    shown = short(text, limit)
    return "null" if shown is None else encode_basestring_ascii(shown)


def _known(text: str | None) -> str:
    """Do the same for a text that comes again and again; long ones are nobody's habit and must not fill the memory."""
    return _quoted(text) if text is None or len(text) > MAX_TEXT else _quoted_before(text)


_quoted_before: Final = lru_cache(maxsize=1024)(_quoted)


def _decision_level(entry: DecisionRecord) -> str:
    """Give `warning` to a denial that is our failure (503), `info` to what policies and tokens decided."""
    ours = entry.decision == "deny" and any(http_status(reason) == 503 for reason in entry.reasons[:1])
    return "warning" if ours else "info"


def _without_query(path: str) -> str:
    """Cut the query and fragment: tokens travel there (RFC 6750 section 2.3), also in paths that we refuse."""
    return path.partition("?")[0].partition("#")[0]


def _without_userinfo(host: str) -> str:
    """Cut `user:password@`: such a host is refused, and its password must not reach the log by that."""
    return host.rpartition("@")[2]
