"""Claims → header values, for the identity headers that upstreams trust."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from authz.model import Json, Principal
from authz.policy.caller_criteria import claim_values


class Unfit(Enum):
    """Why a claim is no header value."""

    ABSENT = "absent"
    OMITTED = "omitted"  # there is a value and it cannot be a header value


def header_value(principal: Principal, claims: Sequence[str], max_bytes: int) -> str | Unfit:
    """Give the header value of the first of the claims that is there.

    Lists are joined with commas; a comma or percent sign inside a value is percent-encoded, so that `a,admins` cannot
    look like two groups. What cannot be a header value unchanged (control characters, outer blanks, nested values, too
    long) is omitted whole, never cut. An e-mail that does not count is none: upstreams trust this header.
    """
    held = principal.claims
    for name in claims:
        if name in held:
            value = held[name]
            if type(value) is str and name != "email" and len(value) <= max_bytes and _PLAIN.fullmatch(value):
                return value  # nearly always
            values = claim_values(held, name)
            break
        if "." in name and (values := claim_values(held, name)):
            break
    else:
        return Unfit.ABSENT
    if (not values and isinstance(held.get(name), Mapping)) or (name == "email" and principal.email is None):
        return Unfit.OMITTED
    texts = [_text(value) for value in values if value is not None]
    if None in texts:
        return Unfit.OMITTED
    joined = ",".join([text for text in texts if text])
    if not joined:
        return Unfit.ABSENT
    return joined if _is_fit(joined, max_bytes) else Unfit.OMITTED


def _text(value: Json) -> str | None:
    """Give one value as header text; None for a nested one."""
    if isinstance(value, str):
        return value.replace("%", "%25").replace(",", "%2C")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


_PLAIN: Final = re.compile(r"[!-$&-+\--~]+")  # of ASCII what stands for itself: all but blanks, `%` and `,`
_UNFIT: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]|^ | $|(?<=,) | (?=,)")


def _is_fit(value: str, max_bytes: int) -> bool:
    if value.isascii() and value.isprintable() and " " not in value:  # nearly always
        return len(value) <= max_bytes
    return _UNFIT.search(value) is None and len(value.encode("utf-8")) <= max_bytes
