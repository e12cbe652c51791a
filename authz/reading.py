"""A node read as what is expected in its place, and the words for what was found instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from authz.node import Fields, Items, Node, Problems, Scalar, describe, shorten


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Give "; did you mean `x`?" when a known word is near, else nothing."""
    near = nearest(word, known)
    return "" if near is None else f"; did you mean `{near}`?"


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """Give the known word that is most like this one, if any is like it."""
    folded = {name.lower().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=cutoff)
    return folded[near[0]] if near else None


def text_of(node: Node, what: str, problems: Problems) -> str | None:
    """Read non-empty text; None after adding a problem."""
    if isinstance(node, Scalar) and isinstance(node.value, str) and node.value:
        return node.value
    hint = f": write '{shorten(node.text)}' in quotes" if isinstance(node, Scalar) and node.text else ""
    problems.error(node, f"{what}: found {describe(node)}, expected text{hint}")
    return None


def boolean_of(node: Node, what: str, problems: Problems) -> bool | None:
    """Read a boolean; None after adding a problem."""
    if isinstance(node, Scalar) and isinstance(node.value, bool):
        return node.value
    problems.error(node, f"{what}: found {describe(node)}, expected `true` or `false`")
    return None


def list_of(node: Node, what: str, problems: Problems) -> Sequence[Node]:
    """Read a list, or a single scalar as a list of one; a scalar with a comma is a problem, as is anything else."""
    if isinstance(node, Items):
        return node.items
    if isinstance(node, Fields) or node.value is None:
        problems.error(node, f"{what}: found {describe(node)}, expected a list")
        return ()
    if isinstance(node.value, str) and "," in node.value:
        entries = ", ".join(part.strip() for part in node.value.split(","))
        problems.error(node, f"{what}: found {describe(node)}, one text with a comma: write a list, [{entries}]")
        return ()
    return (node,)


# ISO 8601, as Python reads it, but for what else it lets stand between date and time: in `2026-01-31+01:00` and
# `2026-01-31-05` it takes the offset for a time of day.
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d(-?\d)?)([T ]\d\d.*)?", re.ASCII | re.IGNORECASE)


def parse_instant(text: str) -> datetime:
    """Read a date, or a date and a time, perhaps with an offset (else it has no `tzinfo`). Raises ValueError."""
    if not _INSTANT.fullmatch(text):
        raise ValueError(f"not ISO 8601: {shorten(text)}")
    return datetime.fromisoformat(text.upper())


_DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read `500ms`, `5s`, `15m`, `24h` or `1h30m`. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"not a duration: {shorten(text)}")
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
