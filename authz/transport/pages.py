"""What a refused client reads: JSON by default, HTML or plain text for who prefers it, a short text for gRPC.

Every form says what happened and gives the request id; the reason and the author's texts are told only where the
route or the configuration says `show_error_details: true`. Our page needs no script and nothing from outside, and
stays below the 4,096 bytes at which Envoy cuts bodies in our sample. `denied_pages` puts templates in its place.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from json.encoder import encode_basestring
from typing import Final, NamedTuple

from authz.model import NO_GUIDANCE, Guidance, Reason, Request
from authz.settings.templates import Template
from authz.transport.preference import Form, preferred_form


class Page(NamedTuple):
    """A body and how to label it."""

    content_type: str
    body: str
    policy: str = ""  # content-security-policy


class Refusal(NamedTuple):
    """What there is to tell. `reason` and `guidance` are empty where details are not shown."""

    status: int
    request_id: str = ""
    host: str = ""
    reason: Reason | None = None
    guidance: Guidance = NO_GUIDANCE

    @property
    def title(self) -> str:
        """The status in words."""
        return _TITLES[self.status]

    @property
    def sentence(self) -> str:
        """What happened and what to do about it."""
        words = _WORDS[self.status]
        return f"{words.happened} {words.advice}"


class _Words(NamedTuple):
    headline: str
    happened: str
    advice: str


_TITLES: Final = {
    400: "bad request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not found",
    503: "service unavailable",
}
_WORDS: Final = {
    400: _Words(
        "This request cannot be used",
        "It could be read in more than one way, so it was not passed on.",
        "Check the address, or go back and follow the link again.",
    ),
    401: _Words(
        "Sign in to continue",
        "You are not signed in, or your sign-in has expired.",
        "Sign in and try again.",
    ),
    403: _Words(
        "You do not have access",
        "This part of the application is not open to you.",
        "If you need it, ask whoever runs this application for access.",
    ),
    404: _Words(
        "There is nothing here",
        "No page has this address.",
        "Check the address for typing mistakes.",
    ),
    503: _Words(
        "We cannot let you in right now",
        "We could not find out whether you may pass.",
        "Try again in a moment.",
    ),
}


def denial_page(request: Request, refusal: Refusal, templates: Mapping[str, Template]) -> Page:
    """Write the body of a denial in the form that the client prefers. `templates` are named as their files are."""
    form = preferred_form(request)
    template = templates.get(f"{refusal.status}.{form}") or templates.get(f"error.{form}")
    if template is not None:
        return Page(_CONTENT_TYPES[form], _filled(template, refusal), _TEMPLATE_POLICY if form is Form.HTML else "")
    match form:
        case Form.HTML:
            return Page(_CONTENT_TYPES[form], _html(refusal), _HTML_POLICY)
        case Form.JSON:
            return Page(_CONTENT_TYPES[form], _json(refusal))
        case Form.TEXT:
            return Page(_CONTENT_TYPES[form], _text(refusal))
        case Form.GRPC:  # pragma: no branch - the last form there is
            return Page(_CONTENT_TYPES[form], _grpc(refusal))


_CONTENT_TYPES: Final = {
    Form.JSON: "application/json",
    Form.HTML: "text/html; charset=utf-8",
    Form.TEXT: "text/plain; charset=utf-8",
    Form.GRPC: "text/plain; charset=utf-8",
}


# --- the forms --------------------------------------------------------------------------------------------------


def _filled(template: Template, refusal: Refusal) -> str:
    title = refusal.title if template.kind == "json" else refusal.title.capitalize()
    return template.fill(
        {
            "status": str(refusal.status),
            "title": title,
            "sentence": refusal.sentence,
            "request_id": refusal.request_id,
            "host": refusal.host,
            "reason": refusal.reason or "",
            "explanation": refusal.guidance.explanation,
            "remediation": refusal.guidance.remediation,
        }
    )


def _json(refusal: Refusal) -> str:
    members = [("error", refusal.title), ("request_id", refusal.request_id)]
    if refusal.reason is not None:
        members.append(("reason", refusal.reason.value))
    members += ((key, text) for key, text in zip(Guidance._fields, refusal.guidance, strict=True) if text)
    return "{" + ", ".join(f'"{name}": {encode_basestring(text)}' for name, text in members) + "}\n"


def _grpc(refusal: Refusal) -> str:
    """Write what becomes `grpc-message`: one line."""
    parts = [refusal.title, refusal.reason or "", *refusal.guidance]
    return ": ".join(" ".join(part.split()) for part in parts if part)


def _text(refusal: Refusal) -> str:
    lines = [f"{refusal.status} {refusal.title.capitalize()}", "", refusal.sentence]
    lines += [f"{label}: {text}" for label, text in _details(refusal)]
    return "\n".join(lines) + "\n"


def _details(refusal: Refusal) -> Iterator[tuple[str, str]]:
    yield from (("Why", refusal.guidance.explanation),) if refusal.guidance.explanation else ()
    yield from (("What you can do", refusal.guidance.remediation),) if refusal.guidance.remediation else ()
    yield from (("Reason", refusal.reason.value),) if refusal.reason is not None else ()
    yield from (("Request id", refusal.request_id),) if refusal.request_id else ()


# --- HTML -------------------------------------------------------------------------------------------------------

# Every pair of colours has a contrast of 5.5 or more (WCAG 2.2 asks for 4.5), in both schemes.
_STYLE: Final = """
:root{color-scheme:light dark;
--bg:#f3f4f7;--card:#fff;--text:#1a1f29;--soft:#566072;--line:#e0e4ea;--mark:#3949ab;--tint:#eceefb}
@media(prefers-color-scheme:dark){:root{
--bg:#0e1116;--card:#171b22;--text:#e9ecf1;--soft:#a4adbc;--line:#2b323d;--mark:#a9b6ff;--tint:#242b42}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.25rem;
background:var(--bg);color:var(--text);font:1rem/1.6 system-ui,sans-serif}
main{width:100%;max-width:35rem;padding:clamp(1.5rem,6vw,3rem);
background:var(--card);border:1px solid var(--line);border-radius:1rem}
svg{display:block;width:3rem;padding:.65rem;border-radius:.8rem;color:var(--mark);background:var(--tint)}
h1{margin:1.25rem 0 .5rem;font-size:1.6rem;line-height:1.25}
p{margin:0 0 .5rem}
h2{margin:1.5rem 0 .25rem;font-size:1rem}
p,dd{overflow-wrap:anywhere;white-space:pre-line}
dl{margin:1.75rem 0 0;padding-top:1.25rem;border-top:1px solid var(--line);
display:grid;grid-template-columns:auto 1fr;gap:.25rem 1rem;font-size:.875rem;color:var(--soft)}
dd{margin:0;font-family:ui-monospace,monospace}
"""
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode("ascii")
_NOTHING_ELSE: Final = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HTML_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; {_NOTHING_ELSE}"
# A template brings its own styles and may hold its pictures in itself.
_TEMPLATE_POLICY: Final = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; {_NOTHING_ELSE}"

_LOCK: Final = "M7 11V8a5 5 0 0 1 10 0v3M5 11h14v10H5zM12 15v2"
_MARK: Final = "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M12 7.5V13M12 15.8v.7"
_HTML: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>{style}</style>
<main>
<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" aria-hidden="true">
<path d="{picture}"/></svg>
<h1>{headline}</h1>
<p>{happened}</p>
{sections}<dl>
{facts}</dl>
</main>
"""


def _html(refusal: Refusal) -> str:
    words = _WORDS[refusal.status]
    explanation, remediation = refusal.guidance
    sections = _section("Why", explanation) if explanation else ""
    sections += _section("What you can do", remediation or words.advice)
    facts = [("Status", f"{refusal.status} {refusal.title.capitalize()}")]
    facts += [(label, text) for label, text in _details(refusal) if label in ("Reason", "Request id")]
    return _HTML.format(
        title=f"{refusal.status} {refusal.title.capitalize()}",
        style=_STYLE,
        picture=_LOCK if refusal.status in (401, 403) else _MARK,
        headline=words.headline,
        happened=words.happened,
        sections=sections,
        facts="".join(f"<dt>{label}</dt><dd>{escape(text)}</dd>\n" for label, text in facts),
    )


def _section(heading: str, text: str) -> str:
    return f"<h2>{heading}</h2>\n<p>{escape(text)}</p>\n"
