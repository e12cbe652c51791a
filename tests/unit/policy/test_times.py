"""The time criteria at their boundaries, in their zones."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.document import parse
from authz.node import Problems
from authz.policy.decision import Operator
from authz.policy.times import (
    TimeCriterion,
    date_criterion,
    day_of_week_criterion,
    parse_time,
    time_of_day_criterion,
)
from tests.support.policies import heads

COMPILE = {"date": date_criterion, "day_of_week": day_of_week_criterion, "time_of_day": time_of_day_criterion}


def read(kind: str, text: str) -> tuple[TimeCriterion | None, list[str]]:
    problems = Problems()
    node = parse(f"- {text}".encode(), "t", problems)
    found = COMPILE[kind](node.items[0], problems)  # type: ignore[union-attr]
    return found, [str(problem).removeprefix("t:") for problem in problems]


def good(kind: str, text: str) -> TimeCriterion:
    criterion, problems = read(kind, text)
    assert problems == []
    assert criterion is not None
    return criterion


def at(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


# --- date ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criterion", "now", "holds"),
    [
        ("{after: 2026-02-01}", "2026-01-31T23:59:59.999Z", False),
        ("{after: 2026-02-01}", "2026-02-01T00:00:00Z", True),
        ("{before: 2026-02-01}", "2026-01-31T23:59:59.999Z", True),
        ("{before: 2026-02-01}", "2026-02-01T00:00:00Z", False),
        ("{after: 2026-02-01, before: 2026-02-02}", "2026-02-01T12:00:00Z", True),
        ("{after: 2026-02-01, before: 2026-02-02}", "2026-02-02T00:00:00Z", False),
        ("{after: 2026-02-01T08:00:00Z}", "2026-02-01T08:00:00Z", True),
        ("{after: 2026-02-01T08:00:00+02:00}", "2026-02-01T06:00:00Z", True),
        ("{after: 2026-02-01T08:00:00+02:00}", "2026-02-01T05:59:59Z", False),
        ("{after: 2026-02-01, timezone: Asia/Tokyo}", "2026-01-31T15:00:00Z", True),
        ("{after: 2026-02-01, timezone: Asia/Tokyo}", "2026-01-31T14:59:59Z", False),
        ("{after: 2026-02-01T00:00:00Z, timezone: Asia/Tokyo}", "2026-01-31T15:00:00Z", False),
        ("{after: 2026-07-01, timezone: Europe/Berlin}", "2026-06-30T22:00:00Z", True),  # summer time
        ("{after: 2026-07-01, timezone: Europe/Berlin}", "2026-06-30T21:59:59Z", False),
        ("{after: 20260201}", "2026-02-01T00:00:00Z", True),
        ("{after: 0001-01-01, timezone: Asia/Tokyo}", "2026-02-01T00:00:00Z", True),
        ("{before: 9999-12-31T23:59:59, timezone: America/Los_Angeles}", "2026-02-01T00:00:00Z", True),
        ("{before: 9999-12-31T23:59:59-23:59}", "2026-02-01T00:00:00Z", True),
    ],
)
def test_after_includes_its_instant_and_before_does_not(criterion: str, now: str, holds: bool) -> None:
    assert good("date", criterion).test(at(now)) is holds


def test_a_date_says_what_it_wants_and_what_the_clock_said() -> None:
    both = good("date", "{after: 2026-02-01, before: 2026-03-01, timezone: Asia/Tokyo}")
    assert both.wanted == "from 2026-02-01T00:00:00+09:00 and before 2026-03-01T00:00:00+09:00"
    assert both.found(at("2026-02-01T00:00:00Z")) == "2026-02-01T09:00:00+09:00"
    assert good("date", "{before: 2026-03-01}").wanted == "before 2026-03-01T00:00:00+00:00"


ISO = "ISO 8601 such as 2026-01-31 or 2026-01-31T08:00:00Z"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("2026-01-31", ["1:3: `date`: found text `2026-01-31`, expected a map with after, before, timezone"]),
        ("{}", ["1:3: `date`: neither `after` nor `before`: it would always hold; write one of them"]),
        (
            "{timezone: UTC}",
            ["1:3: `date`: neither `after` nor `before`: it would always hold; write one of them"],
        ),
        ("{after: soon}", [f"1:11: `date`: `after`: found text `soon`, expected {ISO}"]),
        ("{after: 2026-02-30}", [f"1:11: `date`: `after`: found text `2026-02-30`, expected {ISO}"]),
        ("{before: [2026-02-01]}", [f"1:12: `date`: `before`: found a list, expected {ISO}"]),
        (
            "{after: 2026-01-01, before: soon}",
            [f"1:31: `date`: `before`: found text `soon`, expected {ISO}"],
        ),
        (
            "{after: soon, before: soon, timezone: Mars}",
            [
                "1:41: `date`: `timezone`: unknown time zone `Mars`: write one such as Europe/Berlin or UTC",
                f"1:11: `date`: `after`: found text `soon`, expected {ISO}",
                f"1:25: `date`: `before`: found text `soon`, expected {ISO}",
            ],
        ),
        ("{after: 2026-01-01, timezone: 5}", [
            "1:33: `date`: `timezone`: found `5` (a number), expected text: write '5' in quotes"
        ]),
        ("{afer: 2026-01-01}", [
            "1:4: `date`: unknown key `afer`; did you mean `after`?",
            "1:3: `date`: neither `after` nor `before`: it would always hold; write one of them",
        ]),
    ],
)  # fmt: skip
def test_a_wrong_date_says_why(text: str, problems: list[str]) -> None:
    criterion, said = read("date", text)
    assert criterion is None
    assert heads(said) == heads(problems)


@pytest.mark.parametrize(
    "zone",
    ["", "Europe", "../UTC", "/etc/localtime", "\\0", ".", "x" * 5000, "zone.tab", "Europe/Berlin ", "europe/berlin/x"],
)
def test_whatever_is_no_time_zone_is_a_problem(zone: str) -> None:
    criterion, problems = read("date", f'{{after: 2026-01-01, timezone: "{zone}"}}')
    assert criterion is None
    assert len(problems) == 1
    assert "`date`: `timezone`: " in problems[0]
    assert len(problems[0]) < 200


@pytest.mark.parametrize("text", ["{after: 2026-02-01, before: 2026-02-01}", "{after: 2026-02-02, before: 2026-02-01}"])
def test_a_date_that_never_holds_loads_with_a_warning(text: str) -> None:
    criterion, problems = read("date", text)
    assert problems == ["1:3: warning: `date`: never holds, because `after` is not before `before`: swap the two"]
    assert criterion is not None
    assert not criterion.test(at("2026-02-01T00:00:00Z"))


# --- day_of_week -----------------------------------------------------------------------------------------------------

FRIDAY = "2026-01-30T12:00:00Z"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("'*'", True),
        ("fri", True),
        ("Friday", True),
        ("FRI", True),
        ("mon", False),
        ("mon,fri", True),
        ("'mon, fri'", True),
        ("mon-fri", True),
        ("monday - friday", True),
        ("sat-sun", False),
        ("thu-sat", True),
        ("sat-mon", False),
        ("sun-fri", True),
        ("fri-fri", True),
        ("sat-thu", False),
        ("mon,sat-sun", False),
        ("{days: fri}", True),
        ("{days: fri, timezone: UTC}", True),
    ],
)
def test_days_are_named_listed_or_a_range(text: str, holds: bool) -> None:
    assert good("day_of_week", text).test(at(FRIDAY)) is holds


def test_a_day_begins_in_its_zone() -> None:
    saturday = good("day_of_week", "{days: sat, timezone: Asia/Tokyo}")
    assert not saturday.test(at("2026-01-30T14:59:59Z"))
    assert saturday.test(at("2026-01-30T15:00:00Z"))
    assert saturday.wanted == "day is sat (Asia/Tokyo)"
    assert saturday.found(at("2026-01-30T15:00:00Z")) == "saturday"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[fri, sat]", ["1:3: `day_of_week`: found a list, expected one text"]),
        ("5", ["1:3: `day_of_week`: found `5` (a number), expected text: write '5' in quotes"]),
        *(
            (text, [f"1:3: `day_of_week`: found text `{text}`, expected `*`, days (`mon,wed`) or a range (`mon-fri`)"])
            for text in ("frei", "mo", "mon,", "mon-", "mon-wed-fri", "mon-fry", "fri*", "mon wed")
        ),
        ("{timezone: UTC}", ["1:3: `day_of_week`: `days` is missing: write days: mon-fri"]),
        ("{days: fri, zone: UTC}", ["1:15: `day_of_week`: unknown key `zone`"]),
        ("{days: fri, timezone: Mars}", [
            "1:25: `day_of_week`: `timezone`: unknown time zone `Mars`: write one such as Europe/Berlin or UTC"
        ]),
    ],
)  # fmt: skip
def test_a_wrong_day_says_why(text: str, problems: list[str]) -> None:
    assert heads(read("day_of_week", text)[1]) == heads(problems)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[fri, sat]", "write fri,sat"),
        ("[]", "write mon,tue"),
        ("[[fri]]", "write mon,tue"),
    ],
)
def test_a_list_of_days_is_told_what_to_write(text: str, hint: str) -> None:
    assert read("day_of_week", text) == (None, [f"1:3: `day_of_week`: found a list, expected one text: {hint}"])


def test_a_key_like_no_other_is_told_which_there_are() -> None:
    assert read("day_of_week", "{days: fri, weekend: 1}")[1] == [
        "1:15: `day_of_week`: unknown key `weekend`, expected `days`, `timezone`"
    ]


def test_a_map_is_needed_where_keys_are_wanted() -> None:
    assert read("time_of_day", "09:00") == (
        None,
        ["1:3: `time_of_day`: found text `09:00`, expected a map with timezone, after, before"],
    )


# --- time_of_day -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criterion", "now", "holds"),
    [
        ("{timezone: UTC, after: 09:00, before: 17:00}", "08:59:59.999", False),
        ("{timezone: UTC, after: 09:00, before: 17:00}", "09:00:00", True),
        ("{timezone: UTC, after: 09:00, before: 17:00}", "16:59:59.999", True),
        ("{timezone: UTC, after: 09:00, before: 17:00}", "17:00:00", False),
        ("{timezone: UTC, after: 09:00}", "23:59:59", True),
        ("{timezone: UTC, before: 09:00}", "00:00:00", True),
        ("{timezone: UTC, before: 0:00}", "00:00:00", False),
        ("{timezone: UTC, after: 0:00}", "00:00:00", True),
        ("{timezone: UTC, after: 5 PM}", "16:59:59", False),
        ("{timezone: UTC, after: 2:20:00}", "02:20:00", True),
        ("{timezone: Asia/Tokyo, after: 09:00, before: 10:00}", "00:30:00", True),
        ("{timezone: Asia/Tokyo, after: 09:00, before: 10:00}", "09:30:00", False),
    ],
)
def test_both_bounds_lie_on_one_day(criterion: str, now: str, holds: bool) -> None:
    assert good("time_of_day", criterion).test(at(f"2026-01-30T{now}Z")) is holds


def test_a_time_of_day_says_what_it_wants_and_what_the_clock_said() -> None:
    hours = good("time_of_day", "{timezone: Asia/Tokyo, after: 9 AM, before: 5 PM}")
    assert hours.wanted == "from 09:00:00 and before 17:00:00 (Asia/Tokyo)"
    assert hours.found(at("2026-01-30T00:30:01Z")) == "09:30:01"
    assert good("time_of_day", "{timezone: UTC, after: 9 AM}").wanted == "from 09:00:00 (UTC)"
    assert good("time_of_day", "{timezone: UTC, before: 9 AM}").wanted == "before 09:00:00 (UTC)"


TIMES = "a time such as 15:04, 15:04:05 or 3:04 PM"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("{after: 09:00}", [
            "1:3: `time_of_day`: `timezone` is missing: write timezone: Europe/Berlin, or UTC"
        ]),
        ("{timezone: UTC}", [
            "1:3: `time_of_day`: neither `after` nor `before`: it would always hold; write one of them"
        ]),
        ("{timezone: UTC, after: 9}", [
            f"1:26: `time_of_day`: `after`: found `9` (a number), expected {TIMES}"
        ]),
        ("{timezone: UTC, after: 9 AM, before: [17:00]}", [
            f"1:40: `time_of_day`: `before`: found a list, expected {TIMES}"
        ]),
        ("{timezone: Mars, after: 25:00, bfore: 1 AM}", [
            "1:34: `time_of_day`: unknown key `bfore`; did you mean `before`?",
            "1:14: `time_of_day`: `timezone`: unknown time zone `Mars`: write one such as Europe/Berlin or UTC",
            f"1:27: `time_of_day`: `after`: found text `25:00`, expected {TIMES}",
        ]),
    ],
)  # fmt: skip
def test_a_wrong_time_of_day_says_why(text: str, problems: list[str]) -> None:
    criterion, said = read("time_of_day", text)
    assert criterion is None
    assert heads(said) == heads(problems)


@pytest.mark.parametrize(("after", "before"), [("22:00", "06:00"), ("09:00", "09:00")])
def test_a_night_loads_with_a_warning_and_never_holds(after: str, before: str) -> None:
    criterion, problems = read("time_of_day", f"{{timezone: UTC, after: {after}, before: {before}}}")
    assert problems == [
        (
            "1:3: warning: `time_of_day`: never holds, because `after` is not before `before` on the same day; "
            f"for a night write two rules, one with {{after: {after}:00}}, one with {{before: {before}:00}}, "
            "and whatever else must hold in both"
        )
    ]
    assert criterion is not None
    assert not any(criterion.test(at(f"2026-01-30T{hour:02}:00:00Z")) for hour in range(24))


@pytest.mark.parametrize(
    ("operator", "where"), [(Operator.NOT, "in this list"), (Operator.NOR, "in a rule of its own, under `not`")]
)
def test_a_night_under_not_is_two_criteria_and_no_second_rule(operator: Operator, where: str) -> None:
    problems = Problems()
    node = parse(b"{timezone: UTC, after: 22:00, before: 06:00}", "t", problems)
    assert node is not None
    time_of_day_criterion(node, problems, operator)
    assert [str(problem) for problem in problems] == [
        (
            f"t:1:1: warning: `time_of_day`: never holds, and so is always met under `{operator}`, because `after` is "
            f"not before `before` on the same day; for a night write two criteria {where}, one with "
            "{after: 22:00:00}, one with {before: 06:00:00}"
        )
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15:04", time(15, 4)),
        ("3:04 PM", time(15, 4)),
        ("3:04PM", time(15, 4)),
        ("3:04pm", time(15, 4)),
        ("3 PM", time(15)),
        ("3PM", time(15)),
        ("3 AM", time(3)),
        ("1 AM", time(1)),
        ("12 AM", time(0)),
        ("12:30 PM", time(12, 30)),
        ("15:04:05", time(15, 4, 5)),
        ("15:04:05.5", time(15, 4, 5, 500_000)),
        ("15:04:05.123456", time(15, 4, 5, 123_456)),
        ("3:04:05 PM", time(15, 4, 5)),
        ("0:00", time(0)),
        ("23:59:59", time(23, 59, 59)),
        *(
            (text, None)
            for text in ("", "3", "15", "24:00", "12:60", "12:00:60", "13 PM", "0:30 AM", "15:4", "3  PM", "3 XM",
                         "15:04:05.", "15:04:05.1234567", "-1:00", "٣:00", "3:04 P", " 3:04", "3:04\n")
        ),
    ],
)  # fmt: skip
def test_a_time_of_day_has_pomeriums_forms(text: str, expected: time | None) -> None:
    assert parse_time(text) == expected


@given(st.text(alphabet="0123456789:.aApPmM ", max_size=12))
def test_any_text_is_a_time_of_day_or_none(text: str) -> None:
    assert parse_time(text) is None or text[0].isdigit()
