"""Durations as Go writes them (package time, ParseDuration) to seconds as protobuf writes them."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

WANTED_DURATION: Final = "expected a duration such as 30s, 1.5s or 1m30s"
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS: Final = {
    "ns": Decimal("1e-9"), "us": Decimal("1e-6"), "µs": Decimal("1e-6"), "μs": Decimal("1e-6"), "ms": Decimal("1e-3"),
    "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600),
}  # fmt: skip
_MAX_SECONDS: Final = Decimal(2**63 - 1).scaleb(-9)  # Go counts nanoseconds in 64 bits


def seconds_of(text: str) -> str | None:
    """Give `90s` for `1m30s` and `1.5s` for `1500ms`; None for what Go does not read, and below zero.

    Envoy counts milliseconds, and none means forever: a fraction of one becomes one.
    """
    number = text.removeprefix("+")
    parts = list(_PART.finditer(number))
    if number != "0" and (not parts or "".join(part[0] for part in parts) != number):
        return None
    seconds = sum((Decimal(part[1]) * _SECONDS[part[2]] for part in parts), Decimal(0))
    if seconds > _MAX_SECONDS:
        return None
    whole = seconds.quantize(Decimal("0.001"), ROUND_CEILING)
    return f"{whole:f}".rstrip("0").rstrip(".") + "s"
