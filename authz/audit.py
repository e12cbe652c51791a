"""What the service writes down: one line a decision, one line an event, and nothing secret in either.

Three rules hold here. A line never waits: a blocked or broken stdout costs lines, which are counted, never a decision.
A line is one physical line, whatever a request put into it. And no line holds a token, a header value or the message of
an exception: of a failure the type and the place are told, of another library's message only its template.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from types import TracebackType
from typing import Final, Literal, NamedTuple, TypeAlias

from authz.lines import LineWriter
from authz.model import Decision, Deny, Json, Reason, http_status

LogFormat: TypeAlias = Literal["json", "text"]
Fields: TypeAlias = Mapping[str, Json]

MAX_PATH: Final = 2048  # characters, here and below
MAX_HOST: Final = 256
MAX_TEXT: Final = 256
MAX_EVENT_TEXT: Final = 2048  # a message of our own names files and what to write instead
MAX_ITEMS: Final = 100
MAX_DEPTH: Final = 4
MAX_FRAMES: Final = 20
MAX_CAUSES: Final = 4


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


_WANTED: Final[Mapping[str, frozenset[str]]] = {
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
        decisions: Literal["all", "denied", "none"] = "all",
        format: LogFormat = "json",  # noqa: A002 - the word of the configuration
    ) -> None:
        self._writer = writer
        self._kinds = _WANTED[decisions]
        self._line = _LINE[format]

    def wanted(self, decision: Decision) -> bool:
        """Tell whether a record of this decision would be written, so that none is built in vain."""
        return ("deny" if isinstance(decision, Deny) else "allow") in self._kinds

    def record(self, entry: DecisionRecord) -> None:
        """Write the entry as one line, if its kind is wanted. Never blocks."""
        if entry.decision in self._kinds:
            quickly = self._line is _json_line
            self._writer.write(_decision_json(entry) if quickly else self._line(_decision_fields(entry)))


def _decision_fields(entry: DecisionRecord) -> Fields:
    fields: dict[str, Json] = {
        "time": _rfc3339(entry.now),
        "level": _decision_level(entry),
        "msg": "decision",
        "decision_id": _short(entry.decision_id),
        "request_id": _short(entry.request_id),
        "decision": entry.decision,
        "reasons": list(entry.reasons),
        "route": _short(entry.route),
        "policy": _short(entry.policy),
        "policy_revision": _short(entry.policy_revision),
        "method": _short(entry.method),
        "host": _short(_without_userinfo(entry.host), MAX_HOST),
        "path": _short(_without_query(entry.path), MAX_PATH),
        "source_ip": _short(entry.source_ip),
        "subject": _short(entry.subject),
        "client_id": _short(entry.client_id),
        "token_use": _short(entry.token_use),
        "duration_us": entry.duration_us,
    }
    if entry.detail:
        fields["detail"] = _short(entry.detail)
    if entry.headers_omitted:
        fields["headers_omitted"] = _bounded(entry.headers_omitted, MAX_TEXT)
    if entry.why is not None:
        fields["why"] = _bounded(entry.why, MAX_TEXT)
    return fields


def _decision_json(entry: DecisionRecord) -> str:
    """Give the same line as `_json_line(_decision_fields(entry))`, which a test compares it with, in half the time."""
    reasons = '","'.join(entry.reasons)  # words of a closed list: nothing in them to escape
    detail = f',"detail":{_quoted(entry.detail)}' if entry.detail else ""
    omitted = f',"headers_omitted":{_bounded_json(entry.headers_omitted)}' if entry.headers_omitted else ""
    why = "" if entry.why is None else f',"why":{_bounded_json(entry.why)}'
    return (
        f'{{"time":"{_rfc3339(entry.now)}","level":"{_decision_level(entry)}","msg":"decision"'
        f',"decision_id":{_quoted(entry.decision_id)},"request_id":{_quoted(entry.request_id)}'
        f',"decision":"{entry.decision}","reasons":["{reasons}"]'
        f',"route":{_known(entry.route)},"policy":{_known(entry.policy)}'
        f',"policy_revision":{_known(entry.policy_revision)},"method":{_known(entry.method)}'
        f',"host":{_known(_without_userinfo(entry.host))}'
        f',"path":{_quoted(_without_query(entry.path), MAX_PATH)},"source_ip":{_known(entry.source_ip)}'
        f',"subject":{_known(entry.subject)},"client_id":{_known(entry.client_id)}'
        f',"token_use":{_known(entry.token_use)},"duration_us":{entry.duration_us}{detail}{omitted}{why}}}'
    )


def _bounded_json(value: Json) -> str:
    return _encode_json(_bounded(value, MAX_TEXT))


def _quoted(text: str | None, limit: int = MAX_TEXT) -> str:
    short = _short(text, limit)
    return "null" if short is None else encode_basestring_ascii(short)


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


def configure_logging(
    writer: LineWriter,
    level: str,
    format: LogFormat = "json",  # noqa: A002 - the word of the configuration
) -> None:
    """Send everything that Python's `logging` is given through the writer, and nowhere else.

    `level` is a standard level name in any case. Our own loggers (`authz` and below) may add facts with
    `extra={"fields": {…}}`. Other libraries speak from `warning` up, without the values of their messages; aiohttp's
    access log is silent.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    root.handlers[:] = [_LineOutput(writer, _LINE[format])]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger(_OWN).setLevel(number)
    logging.getLogger("aiohttp.access").disabled = True


_OWN: Final = "authz"


class _LineOutput(logging.Handler):
    """Turns a log record into one line of the writer."""

    def __init__(self, writer: LineWriter, line: Callable[[Fields], str]) -> None:
        super().__init__()
        self._writer = writer
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(self._line(_event_fields(record)))


def _event_fields(record: logging.LogRecord) -> Fields:
    fields: dict[str, Json] = {"time": _rfc3339(record.created), "level": record.levelname.lower()}
    if _is_own(record):
        fields["msg"] = _short(_message(record), MAX_EVENT_TEXT)
        for name, value in getattr(record, "fields", {}).items():
            fields.setdefault(name, _bounded(value, MAX_EVENT_TEXT))
    else:
        fields["msg"] = _short(_template(record), MAX_EVENT_TEXT)
        fields["logger"] = record.name
    if record.exc_info and record.exc_info[1] is not None:
        fields.update(_exception_fields(record.exc_info[1]))
    return fields


def _is_own(record: logging.LogRecord) -> bool:
    return record.name == _OWN or record.name.startswith(_OWN + ".")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (
        TypeError,
        ValueError,
        LookupError,
    ):  # arguments that do not fit the template: the template is better than nothing
        return str(record.msg)


def _template(record: logging.LogRecord) -> str:
    """Give another library's message without its values, for one of them may be a token.

    One line of it: asyncio puts the repr of a failed task below its first. And a text: some log the exception itself.
    """
    return record.msg.partition("\n")[0] if isinstance(record.msg, str) else type(record.msg).__name__


def _exception_fields(error: BaseException) -> Fields:
    """Tell an exception's type, place and causes; its message may hold what a request sent, its locals surely do."""
    fields: dict[str, Json] = {
        "exception": type(error).__name__,
        "frames": list(_frames(error.__traceback__))[-MAX_FRAMES:],
    }
    if causes := [type(cause).__name__ for cause in _causes(error)]:
        fields["caused_by"] = causes
    return fields


def _frames(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next


def _causes(error: BaseException) -> Iterator[BaseException]:
    for _ in range(MAX_CAUSES):
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None:
            return
        yield cause
        error = cause


_encode_json = json.JSONEncoder(separators=(",", ":")).encode  # ASCII alone: no line separator of any alphabet survives


def _json_line(fields: Fields) -> str:
    return _encode_json(fields)


_HEAD: Final = ("time", "level", "msg", "decision")  # written without their names
_TAIL: Final = ("decision_id", "request_id")  # long, and seldom what a reader looks for
_PLACED: Final = frozenset(_HEAD + _TAIL)


def _text_line(fields: Fields) -> str:
    names = [*(name for name in fields if name not in _PLACED), *_TAIL]
    head = [_printable(str(fields[name])) for name in _HEAD if name in fields]
    return " ".join([*head, *(f"{name}={_word(fields[name])}" for name in names if fields.get(name) is not None)])


_LINE: Final[Mapping[str, Callable[[Fields], str]]] = {"json": _json_line, "text": _text_line}


def _word(value: Json) -> str:
    """Write a value so that a blank or quote in it cannot pass for the next field."""
    if isinstance(value, Mapping):
        return _encode_json(value)
    if isinstance(value, str):
        text = _printable(value)
        return json.dumps(text, ensure_ascii=False) if not text or _NEEDS_QUOTES.search(text) else text
    if isinstance(value, Sequence):
        return ",".join(map(_word, value))
    return str(value)


_NEEDS_QUOTES: Final = re.compile(r'[\s"=,\\]')


def _printable(text: str) -> str:
    """Escape control characters, line separators and the marks that reorder text on a terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)


def _rfc3339(now: float) -> str:
    milliseconds = math.floor(now * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=4)  # thousands of decisions share one
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


def _short(text: str | None, limit: int = MAX_TEXT) -> str | None:
    """Give the text in at most `limit` characters, the last of them `…` when it was cut; nothing for nothing."""
    if not text:
        return None
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    # Half of a surrogate pair is no character, and readers of JSON stumble over it.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _bounded(value: Json, limit: int, depth: int = MAX_DEPTH) -> Json:
    """Give the value in a size that a log line can bear, and in numbers that JSON has."""
    if isinstance(value, str):
        return _short(value, limit) or ""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, int):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {_short(str(name)) or "": _bounded(item, limit, depth - 1) for name, item in items}
    return [_bounded(item, limit, depth - 1) for item in value[:MAX_ITEMS]]
