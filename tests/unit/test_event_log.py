"""Lines of events are always one physical line, and never hold a secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from authz.event_log import configure_logging
from tests.support.written_lines import Lines

CANARY = "canary-eyJhbGciOi"


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def clean_logging() -> Iterator[None]:
    """Put Python's process-wide logging back as it was."""
    root, own, access = logging.getLogger(), logging.getLogger("authz"), logging.getLogger("aiohttp.access")
    before = root.handlers[:], root.level, own.level, access.disabled
    yield
    root.handlers[:], root.level, own.level, access.disabled = before
    root.setLevel(before[1])  # clears the cache of levels


@pytest.mark.usefixtures("clean_logging")
class TestLogging:
    @pytest.fixture(autouse=True)
    def configured(self, lines: Lines) -> None:
        configure_logging(lines, "info", "json")  # type: ignore[arg-type]

    def test_our_event_is_one_line_with_its_fields(self, lines: Lines) -> None:
        logging.getLogger("authz.policy").info("policies %s", "loaded", extra={"fields": {"routes": 3, "level": "x"}})
        assert set(lines.last) == {"time", "level", "msg", "routes"}
        assert lines.last["msg"] == "policies loaded"
        assert lines.last["level"] == "info"
        assert lines.last["routes"] == 3
        assert len(lines.lines) == 1

    def test_what_is_below_the_level_is_not_written(self, lines: Lines) -> None:
        logging.getLogger("authz").debug("detail")
        assert lines.lines == []

    def test_debug_shows_our_details(self, lines: Lines) -> None:
        configure_logging(lines, "DEBUG", "json")  # type: ignore[arg-type]
        logging.getLogger("authz").debug("detail")
        logging.getLogger("asyncio").debug("theirs")
        assert [json.loads(line)["msg"] for line in lines.lines] == ["detail"]

    def test_the_text_format_is_for_people(self, lines: Lines) -> None:
        configure_logging(lines, "info", "text")  # type: ignore[arg-type]
        logging.getLogger("authz").warning("two\nlines", extra={"fields": {"empty": "", "file": "a b", "none": None}})
        assert lines.lines[-1].partition(" ")[2] == 'warning two\\u000alines empty="" file="a b"'

    def test_a_message_whose_arguments_do_not_fit_shows_its_template(self, lines: Lines) -> None:
        logging.getLogger().handlers[:] = [logging.getLogger().handlers[0]]  # pytest's own would raise
        logging.getLogger("authz").info("%d routes", "three")
        assert lines.last["msg"] == "%d routes"

    def test_a_failure_tells_types_and_places_but_no_message(self, lines: Lines) -> None:
        local_secret = CANARY
        try:
            try:
                int(local_secret)
            except ValueError as error:
                raise RuntimeError(local_secret) from error
        except RuntimeError:
            logging.getLogger("authz").exception("it broke")
        assert CANARY not in lines.lines[-1]
        assert lines.last["exception"] == "RuntimeError"
        assert lines.last["caused_by"] == ["ValueError"]
        assert lines.last["frames"][0].endswith("in test_a_failure_tells_types_and_places_but_no_message")

    def test_a_failure_without_a_cause_and_an_endless_one_are_both_told(self, lines: Lines) -> None:
        logging.getLogger("authz").error("plain", exc_info=KeyError(CANARY))
        assert "caused_by" not in lines.last
        assert lines.last["frames"] == []
        first, second = KeyError(), ValueError()
        first.__cause__, second.__cause__ = second, first
        logging.getLogger("authz").error("loop", exc_info=first)
        assert lines.last["caused_by"] == ["ValueError", "KeyError", "ValueError", "KeyError"]
        hidden = KeyError()
        hidden.__context__, hidden.__suppress_context__ = ValueError(), True
        logging.getLogger("authz").error("from None", exc_info=hidden)
        assert "caused_by" not in lines.last

    def test_no_failure_at_hand_is_no_failure_told(self, lines: Lines) -> None:
        logging.getLogger("authz").error("nothing", exc_info=True)  # noqa: LOG014 - the point
        assert "exception" not in lines.last

    @pytest.mark.parametrize(
        ("message", "arguments", "shown"),
        [
            pytest.param("bad request %s", (CANARY,), "bad request %s", id="values stay out"),
            pytest.param(f"task failed\nfuture: {CANARY}", (), "task failed", id="later lines stay out"),
            pytest.param(ValueError(CANARY), (), "ValueError", id="an exception as the message is named"),
        ],
    )
    def test_another_library_speaks_without_its_values(
        self, lines: Lines, message: Any, arguments: tuple[str, ...], shown: str
    ) -> None:
        logging.getLogger("asyncio").error(message, *arguments)
        assert CANARY not in lines.lines[-1]
        assert lines.last["msg"] == shown
        assert lines.last["logger"] == "asyncio"

    def test_the_access_log_of_aiohttp_is_silent(self, lines: Lines) -> None:
        logging.getLogger("aiohttp.access").error("GET /")
        assert lines.lines == []
