"""The time criteria: `date`, `day_of_week`, `time_of_day`.

Each names its time zone (UTC when it does not, except that a time of day must say where) and is judged at the
request's one `now`. `after` includes its instant, `before` does not, so that two rules can meet without a gap.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from authz.node import Fields, Items, Node, Problems, Scalar, describe, shorten
from authz.policy.decision import Operator
from authz.reading import did_you_mean, parse_instant, text_of

TimeTest: TypeAlias = Callable[[float], bool]


class TimeCriterion(NamedTuple):
    """When a time criterion holds."""

    test: TimeTest  # wall-clock seconds since 1970
    wanted: str
    found: Callable[[float], str]  # what the clock said, in the criterion's zone


_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_NUMBERS: Final = {name[:length]: number for number, name in enumerate(_DAYS) for length in (3, len(name))}


def date_criterion(node: Node, problems: Problems) -> TimeCriterion | None:
    """Compile `{after: ISO-8601, before: ISO-8601, timezone: ZONE}`; a date without an offset is in the zone or UTC."""
    fields = _fields(node, "date", ("after", "before", "timezone"), problems)
    if fields is None:
        return None
    zone = _zone(fields.get("timezone"), "date", problems)
    after = _instant(fields.get("after"), "after", zone or UTC, problems)
    before = _instant(fields.get("before"), "before", zone or UTC, problems)
    if zone is None or not _has_bound(node, fields, "date", problems) or _unread(fields, after, before):
        return None
    if after is not None and before is not None and after >= before:
        problems.warn(node.source, "`date`: never holds, because `after` is not before `before`: swap the two")
    first = after.timestamp() if after else float("-inf")
    last = before.timestamp() if before else float("inf")
    return TimeCriterion(
        test=lambda now: first <= now < last,
        wanted=_between(after.isoformat() if after else None, before.isoformat() if before else None),
        found=lambda now: _local(now, zone).isoformat(timespec="seconds"),
    )


def day_of_week_criterion(node: Node, problems: Problems) -> TimeCriterion | None:
    """Compile `*`, `mon,wed` or `mon-fri`, bare (UTC) or as `{days: …, timezone: ZONE}`."""
    days: Node | None = node
    zone: tzinfo | None = UTC
    if isinstance(node, Fields):
        _check_keys(node, "day_of_week", ("days", "timezone"), problems)
        zone = _zone(node.get("timezone"), "day_of_week", problems)
        days = node.get("days")
        if days is None:
            problems.error(node, "`day_of_week`: `days` is missing: write days: mon-fri")
    if isinstance(days, Items):
        written = ",".join(item.text for item in days if isinstance(item, Scalar)) or "mon,tue"
        problems.error(days, f"`day_of_week`: found a list, expected one text: write {shorten(written)}")
        return None
    text = None if days is None else text_of(days, "`day_of_week`", problems)
    if days is None or text is None or zone is None:
        return None
    numbers = _day_numbers(text)
    if numbers is None:
        problems.error(
            days, f"`day_of_week`: found {describe(days)}, expected `*`, days (`mon,wed`) or a range (`mon-fri`)"
        )
        return None
    in_zone = zone
    return TimeCriterion(
        test=lambda now: _local(now, in_zone).weekday() in numbers,
        wanted=f"day is {text} ({in_zone})",
        found=lambda now: _DAYS[_local(now, in_zone).weekday()],
    )


def _day_numbers(text: str) -> frozenset[int] | None:
    if text == "*":
        return frozenset(range(7))
    numbers: set[int] = set()
    for part in text.lower().split(","):
        first, dash, last = part.strip(" ").partition("-")
        start = _DAY_NUMBERS.get(first.strip(" "))
        end = _DAY_NUMBERS.get(last.strip(" ")) if dash else start
        if start is None or end is None:
            return None
        numbers.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(numbers)


def time_of_day_criterion(node: Node, problems: Problems, operator: Operator = Operator.OR) -> TimeCriterion | None:
    """Compile `{timezone: ZONE, after: TIME, before: TIME}`; both bounds lie on one day.

    `operator`: that of its block, for messages.
    """
    fields = _fields(node, "time_of_day", ("timezone", "after", "before"), problems)
    if fields is None:
        return None
    if fields.get("timezone") is None:
        problems.error(node, "`time_of_day`: `timezone` is missing: write timezone: Europe/Berlin, or UTC")
    zone = _zone(fields.get("timezone"), "time_of_day", problems)
    after = _time(fields.get("after"), "after", problems)
    before = _time(fields.get("before"), "before", problems)
    bounded = _has_bound(node, fields, "time_of_day", problems)
    if fields.get("timezone") is None or zone is None or not bounded or _unread(fields, after, before):
        return None
    if after is not None and before is not None and after >= before:
        problems.warn(node.source, f"`time_of_day`: never holds, {_for_a_night(after, before, operator)}")
    first, last = after or time.min, before

    def test(now: float) -> bool:
        clock = _local(now, zone).time()
        return first <= clock and (last is None or clock < last)

    return TimeCriterion(
        test=test,
        wanted=f"{_between(str(after) if after else None, str(before) if before else None)} ({zone})",
        found=lambda now: f"{_local(now, zone):%H:%M:%S}",
    )


def _for_a_night(after: time, before: time, operator: Operator) -> str:
    why = "because `after` is not before `before` on the same day"
    first, second = f"{{after: {after}}}", f"{{before: {before}}}"
    if not operator.inverts:
        rules = f"two rules, one with {first}, one with {second}, and whatever else must hold in both"
        return f"{why}; for a night write {rules}"
    where = "in this list" if operator is Operator.NOT else "in a rule of its own, under `not`"
    return (
        f"and so is always met under `{operator}`, {why}; for a night write two criteria {where}, one with {first}, "
        f"one with {second}"
    )


_TIME = re.compile(
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,6}))?)?)?"
    r"(?: ?(?P<half>[AaPp])[Mm])?",
    re.ASCII,
)


def parse_time(text: str) -> time | None:
    """Read `3:04 PM`, `3PM`, `15:04`, `15:04:05.5`; None when it is no time of day."""
    match = _TIME.fullmatch(text)
    if match is None or (match["minute"] is None and match["half"] is None):
        return None
    hour = int(match["hour"])
    if match["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match["half"] in "Pp" else 0)
    fraction = int((match["fraction"] or "0").ljust(6, "0"))
    try:
        return time(hour, int(match["minute"] or 0), int(match["second"] or 0), fraction)
    except ValueError:
        return None


def _time(node: Node | None, key: str, problems: Problems) -> time | None:
    if node is None:
        return None
    found = parse_time(node.text) if isinstance(node, Scalar) else None
    if found is None:
        problems.error(
            node, f"`time_of_day`: `{key}`: found {describe(node)}, expected a time such as 15:04, 15:04:05 or 3:04 PM"
        )
    return found


def _instant(node: Node | None, key: str, zone: tzinfo, problems: Problems) -> datetime | None:
    if node is None:
        return None
    text = node.text if isinstance(node, Scalar) else ""
    try:
        instant = parse_instant(text)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=zone)
    except ValueError:
        problems.error(
            node,
            f"`date`: `{key}`: found {describe(node)}, expected ISO 8601 such as 2026-01-31 or 2026-01-31T08:00:00Z",
        )
        return None
    return instant


def _zone(node: Node | None, name: str, problems: Problems) -> tzinfo | None:
    if node is None:
        return UTC
    text = text_of(node, f"`{name}`: `timezone`", problems)
    if text is None:
        return None
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError; a folder's name is an OSError
        problems.error(
            node, f"`{name}`: `timezone`: unknown time zone `{shorten(text)}`: write one such as Europe/Berlin or UTC"
        )
        return None


def _fields(node: Node, name: str, known: tuple[str, ...], problems: Problems) -> Fields | None:
    if not isinstance(node, Fields):
        problems.error(node, f"`{name}`: found {describe(node)}, expected a map with {', '.join(known)}")
        return None
    _check_keys(node, name, known, problems)
    return node


def _check_keys(fields: Fields, name: str, known: tuple[str, ...], problems: Problems) -> None:
    for key, _ in fields.entries:
        if key.text not in known:
            hint = did_you_mean(key.text, known) or f", expected {', '.join(f'`{word}`' for word in known)}"
            problems.error(key, f"`{name}`: unknown key `{shorten(key.text)}`{hint}")


def _has_bound(node: Node, fields: Fields, name: str, problems: Problems) -> bool:
    if fields.get("after") is None and fields.get("before") is None:
        problems.error(node, f"`{name}`: neither `after` nor `before`: it would always hold; write one of them")
        return False
    return True


def _unread(fields: Fields, after: object, before: object) -> bool:
    """Tell whether a bound is written and could not be read."""
    return (after is None and fields.get("after") is not None) or (before is None and fields.get("before") is not None)


def _between(after: str | None, before: str | None) -> str:
    return " and ".join(part for part in (after and f"from {after}", before and f"before {before}") if part)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=8)
def _utc(now: float) -> datetime:
    return _EPOCH + timedelta(seconds=now)


def _local(now: float, zone: tzinfo) -> datetime:
    return _utc(now).astimezone(zone)
