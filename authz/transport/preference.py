"""Which form of a refusal a client wants to read, as far as its headers tell."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final

from authz.model import Request


class Form(StrEnum):
    """How a refusal is written; the value is what a template's file name ends with."""

    JSON = "json"
    HTML = "html"
    TEXT = "txt"
    GRPC = "grpc"


def preferred_form(request: Request) -> Form:
    """Choose the form with the highest quality in `Accept` (RFC 9110 section 12.5.1); JSON, HTML, text in a tie."""
    if request.header("content-type").lower().startswith("application/grpc"):
        return Form.GRPC
    accept = request.header("accept")[:MAX_ACCEPT_LENGTH].lower()
    return _best(accept) if "text/" in accept else Form.JSON


MAX_ACCEPT_LENGTH: Final = 1024


@lru_cache(maxsize=256)  # of at most a kilobyte each; a handful of browsers send the same ones
def _best(accept: str) -> Form:
    qualities = _qualities(accept)
    return max(qualities, key=lambda form: qualities[form])  # the first of equals


_MEDIA: Final = {Form.JSON: "application/json", Form.HTML: "text/html", Form.TEXT: "text/plain"}


def _qualities(accept: str) -> dict[Form, float]:
    """Give the quality of each form: that of the most specific range that fits; 0 when none does."""
    best = dict.fromkeys(_MEDIA, (-1, 0.0))
    for part in accept.split(","):
        media, *parameters = (piece.strip(" \t") for piece in part.split(";"))
        quality = _q(parameters)
        for form, name in _MEDIA.items():
            is_json = form is Form.JSON and media.startswith("application/") and media.endswith("+json")
            specificity = 2 if is_json else {name: 2, f"{name.partition('/')[0]}/*": 1, "*/*": 0}.get(media, -1)
            if specificity >= 0:
                best[form] = max(best[form], (specificity, quality))
    return {form: quality for form, (_, quality) in best.items()}


_Q: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9}", re.ASCII)


def _q(parameters: list[str]) -> float:
    """Read `q=`; a range without one counts fully, one with a number that is none counts for nothing."""
    text = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), None)
    if text is None:
        return 1.0
    return min(float(text), 1.0) if _Q.fullmatch(text) else 0.0
