"""What a refused client reads: JSON by default, HTML for who prefers it, a short text for gRPC.

The body says what happened and gives the request id; the reason is told only where the route or the configuration
says `show_error_details: true`. HTML needs no script and nothing from outside.
"""

from __future__ import annotations

import json
from html import escape
from typing import Final, NamedTuple

from authz.model import Reason, Request

_TITLES: Final = {
    400: "bad request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not found",
    503: "service unavailable",
}
_SENTENCES: Final = {
    400: "This address or request cannot be judged safely, so it was not passed on.",
    401: "You are not signed in, or your sign-in has expired. Sign in and try again.",
    403: "You are signed in, but you may not go here. Ask whoever runs this application for access.",
    404: "There is nothing at this address.",
    503: "We cannot tell right now whether you may pass. Try again in a moment.",
}


class Page(NamedTuple):
    """A body and how to label it."""

    content_type: str
    body: str
    policy: str = ""  # content-security-policy


def denial_page(request: Request, status: int, request_id: str, reason: Reason | None) -> Page:
    """Write the body of a denial in the form that the client prefers."""
    title = _TITLES[status]
    if request.header("content-type").startswith("application/grpc"):
        return Page("text/plain; charset=utf-8", title if reason is None else f"{title}: {reason}")
    if prefers_html(request.header("accept")):
        return Page("text/html; charset=utf-8", _html(status, title, request_id, reason), _HTML_POLICY)
    body = {"error": title, "request_id": request_id}
    if reason is not None:
        body["reason"] = reason.value
    return Page("application/json", json.dumps(body) + "\n")


def prefers_html(accept: str) -> bool:
    """Tell whether an Accept header ranks HTML above JSON (RFC 9110 section 12.5.1)."""
    if "text/" not in accept.lower():
        return False
    return _quality(accept, "text", "html") > _quality(accept, "application", "json")


def _quality(accept: str, kind: str, subtype: str) -> float:
    """Give the quality of the most specific range that fits; 0 when none does."""
    best, quality = -1, 0.0
    for part in accept[:1024].lower().split(","):
        media, *parameters = [piece.strip(" \t") for piece in part.split(";")]
        specificity = {f"{kind}/{subtype}": 2, f"{kind}/*": 1, "*/*": 0}.get(media, -1)
        if specificity > best:
            best, quality = specificity, _q(parameters)
    return quality


def _q(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


_HTML_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_HTML: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{status} {title}</title>
<style>
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 36rem; margin: 15vh auto; padding: 0 1.5rem }}
h1 {{ font-size: 1.5rem }}
small {{ opacity: .75 }}
</style>
<main>
<h1>{status} {title}</h1>
<p>{sentence}</p>
{details}</main>
"""


def _html(status: int, title: str, request_id: str, reason: Reason | None) -> str:
    details = "" if reason is None else f"<p>Reason: <code>{reason}</code></p>\n"
    if request_id:
        details += f"<p><small>Request <code>{escape(request_id)}</code></small></p>\n"
    return _HTML.format(status=status, title=title.capitalize(), sentence=_SENTENCES[status], details=details)
