"""One line an event: what the service and its libraries tell through Python's `logging`, and nothing secret in it.

No line holds the message of an exception: of a failure the type and the place are told, of another library's message
only its template.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final

from authz.lines import LineWriter
from authz.log_line import LINE, Fields, LogFormat, bounded, rfc3339, short
from authz.model import Json

MAX_EVENT_TEXT: Final = 2048  # characters: a message of our own names files and what to write instead
MAX_FRAMES: Final = 20
MAX_CAUSES: Final = 4


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
    root.handlers[:] = [_LineOutput(writer, LINE[format])]
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
    fields: dict[str, Json] = {"time": rfc3339(record.created), "level": record.levelname.lower()}
    if _is_own(record):
        fields["msg"] = short(_message(record), MAX_EVENT_TEXT)
        for name, value in getattr(record, "fields", {}).items():
            fields.setdefault(name, bounded(value, MAX_EVENT_TEXT))
    else:
        fields["msg"] = short(_template(record), MAX_EVENT_TEXT)
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
