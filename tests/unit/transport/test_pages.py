"""What each form of a denial says, and that nothing a client sends can break out of it."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.model import Guidance, Reason
from authz.policy.refusals import MAX_GUIDANCE_BYTES
from authz.settings.templates import Template
from authz.transport.pages import _LOCK, _MARK, Page, Refusal, denial_page
from tests.support.policies import request

STATUSES = [400, 401, 403, 404, 503]
ACCEPT = {"json": "application/json", "html": "text/html", "txt": "text/plain"}
GUIDANCE = Guidance("Payroll is for <finance>.", "Ask\nAnn & Bob.")
TOLD = Refusal(403, "r-1", "app.example.com", Reason.CLAIM_UNAUTHORIZED, GUIDANCE)


def page(refusal: Refusal, form: str, templates: dict[str, Template] | None = None) -> Page:
    header = {"content-type": "application/grpc"} if form == "grpc" else {"accept": ACCEPT[form]}
    return denial_page(request(header), refusal, templates or {})


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("reason", [None, Reason.CLAIM_UNAUTHORIZED], ids=["silent", "with its reason"])
def test_every_status_has_a_page_in_every_form(status: int, reason: Reason | None) -> None:
    refusal = Refusal(status, "r-1", "", reason)
    body = json.loads(page(refusal, "json").body)
    assert body == {"error": refusal.title, "request_id": "r-1", **({"reason": reason} if reason else {})}
    html, text, grpc = (page(refusal, form).body for form in ("html", "txt", "grpc"))
    assert f"<title>{status} {refusal.title.capitalize()}</title>" in html
    assert text.startswith(f"{status} {refusal.title.capitalize()}\n\n{refusal.sentence}\n")
    for told in (html, text):
        assert ("claim-unauthorized" in told) is (reason is not None)
        assert "r-1" in told
    assert grpc == body["error"] + (f": {reason}" if reason else "")


def test_the_author_is_heard_in_every_form() -> None:
    body = json.loads(page(TOLD, "json").body)
    assert (body["explanation"], body["remediation"]) == GUIDANCE
    html = page(TOLD, "html").body
    assert "<h2>Why</h2>\n<p>Payroll is for &lt;finance&gt;.</p>" in html
    assert "<h2>What you can do</h2>\n<p>Ask\nAnn &amp; Bob.</p>" in html
    assert page(TOLD, "txt").body.splitlines()[3:] == [
        "Why: Payroll is for <finance>.",
        "What you can do: Ask",
        "Ann & Bob.",
        "Reason: claim-unauthorized",
        "Request id: r-1",
    ]
    assert page(TOLD, "grpc").body == "forbidden: claim-unauthorized: Payroll is for <finance>.: Ask Ann & Bob."


def test_other_scripts_are_told_as_they_were_written() -> None:
    refusal = TOLD._replace(guidance=Guidance("Nur für Zürich, 東京", ""))
    assert "Nur für Zürich, 東京" in page(refusal, "json").body


@pytest.mark.parametrize("status", STATUSES)
def test_a_lock_stands_for_who_may_not_and_a_mark_for_what_went_wrong(status: int) -> None:
    html = page(Refusal(status), "html").body
    assert (html.count(f'd="{_LOCK}"'), html.count(f'd="{_MARK}"')) == ((1, 0) if status in {401, 403} else (0, 1))


def test_what_is_not_told_leaves_no_trace() -> None:
    silent = Refusal(403)
    assert "Why" not in page(silent, "html").body
    assert "Request id" not in page(silent, "html").body
    assert page(silent, "txt").body.count("\n") == 3
    assert json.loads(page(silent, "json").body) == {"error": "forbidden", "request_id": ""}


def test_each_form_says_what_it_is() -> None:
    types = {form: page(TOLD, form).content_type for form in ("json", "html", "txt", "grpc")}
    assert types == {
        "json": "application/json",
        "html": "text/html; charset=utf-8",
        "txt": "text/plain; charset=utf-8",
        "grpc": "text/plain; charset=utf-8",
    }


# --- HTML ------------------------------------------------------------------------------------------------------------


def test_the_page_loads_and_runs_nothing_but_its_own_style() -> None:
    html = page(TOLD, "html")
    style = html.body.partition("<style>")[2].partition("</style>")[0]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert html.policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    assert not re.search(r"<script|<link|<img|src=|href=|style=|url\(|@import|https?:", html.body)


class Reader(HTMLParser):
    """Checks that elements are closed in order and collects what a screen reader meets."""

    VOID = frozenset({"meta", "path", "!doctype"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: dict[str, dict[str, str | None]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes[tag] = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize("status", STATUSES)
def test_the_page_is_accessible(status: int) -> None:
    reader = Reader()
    reader.feed(page(TOLD._replace(status=status), "html").body)
    assert reader.open == ["html"]  # whose end tag may be left out
    assert reader.attributes["html"]["lang"] == "en"
    assert 'name="viewport" content="width=device-width,initial-scale=1"' in page(TOLD, "html").body
    assert reader.seen.count("h1") == reader.seen.count("main") == reader.seen.count("title") == 1
    assert [tag for tag in reader.seen if re.fullmatch(r"h\d", tag)] == ["h1", "h2", "h2"]
    assert reader.attributes["svg"]["aria-hidden"] == "true"


def test_colours_have_contrast_in_both_schemes() -> None:
    body = page(TOLD, "html").body
    schemes = [dict(re.findall(r"--(\w+):(#[0-9a-f]+)", part)) for part in body.split("@media")]
    assert len(schemes) == 2
    for colours in schemes:
        for front, back in (("text", "card"), ("soft", "card"), ("mark", "tint")):
            assert contrast(colours[front], colours[back]) >= 4.5, (front, back)


def contrast(one: str, other: str) -> float:
    """Give the contrast ratio of WCAG 2.2."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("form", ["html", "json", "txt"])
@pytest.mark.parametrize("filling", ["x", "&", "'", '"', "é", "€", "\n", "😀"])
def test_the_longest_page_is_not_cut_by_envoy(status: int, form: str, filling: str) -> None:
    longest = next(
        text
        for length in range(MAX_GUIDANCE_BYTES, 0, -1)
        if len(escaped(text := filling * length)) <= MAX_GUIDANCE_BYTES
    )
    reason = max(Reason, key=lambda reason: len(reason.value))
    refusal = Refusal(status, '"' * 128, "h" * 255, reason, Guidance(longest, longest))
    assert len(page(refusal, form).body.encode()) < 4000


def escaped(text: str) -> bytes:
    return text.replace("&", "&amp;").replace("'", "&#x27;").replace('"', "&quot;").encode()


HOSTILE = ["<script>alert(1)</script>", '"}', "</p>", "'\"><img/src=x>", "{{host}}", "{title}", "\\", "%s"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_breaks_out_of_a_page(hostile: str) -> None:
    refusal = Refusal(403, hostile, hostile, None, Guidance(hostile, hostile))
    html = page(refusal, "html").body
    plain = page(Refusal(403, "i", "h", None, Guidance("e", "r")), "html").body
    assert html.count("<") == plain.count("<")
    assert unescape(html).count(hostile) >= 3
    body = json.loads(page(refusal, "json").body)
    assert (body["request_id"], body["explanation"], body["remediation"]) == (hostile, hostile, hostile)


# --- Templates -------------------------------------------------------------------------------------------------------


def test_a_template_of_the_status_goes_before_the_one_for_all() -> None:
    own, common = Template("html", ("own",), ()), Template("html", ("common",), ())
    templates = {"403.html": own, "error.html": common}
    assert page(TOLD, "html", templates).body == "own"
    assert page(TOLD._replace(status=401), "html", templates).body == "common"
    assert page(TOLD, "json", templates).content_type == "application/json"
    assert json.loads(page(TOLD, "json", templates).body)["error"] == "forbidden"
    assert page(TOLD, "grpc", templates).body.startswith("forbidden: ")


def test_a_template_in_html_may_bring_styles_and_pictures_of_its_own() -> None:
    template = Template("html", ("own",), ())
    assert "style-src 'unsafe-inline'; img-src data:;" in page(TOLD, "html", {"error.html": template}).policy
    assert "script-src" not in page(TOLD, "html", {"error.html": template}).policy


EVERY = ("status", "title", "sentence", "request_id", "host", "reason", "explanation", "remediation")


@pytest.mark.parametrize("form", ["html", "json", "txt"])
def test_every_placeholder_is_filled(form: str) -> None:
    template = Template(form, ("", *("|" * (len(EVERY) - 1)), ""), EVERY)
    filled = page(TOLD._replace(host="<h>"), form, {f"403.{form}": template}).body
    sentence = TOLD.sentence
    assert (
        filled
        == {
            "html": f"403|Forbidden|{sentence}|r-1|&lt;h&gt;|claim-unauthorized|Payroll is for &lt;finance&gt;.|"
            "Ask\nAnn &amp; Bob.",
            "json": f"403|forbidden|{sentence}|r-1|<h>|claim-unauthorized|Payroll is for <finance>.|Ask\\nAnn & Bob.",
            "txt": f"403|Forbidden|{sentence}|r-1|<h>|claim-unauthorized|Payroll is for <finance>.|Ask\nAnn & Bob.",
        }[form]
    )


@given(*(st.text(alphabet=st.characters(codec="utf-8")) for _ in range(4)))
def test_whatever_is_filled_in_a_json_template_stays_json(request_id: str, host: str, why: str, what: str) -> None:
    template = Template("json", ('{"s": ', ', "v": "', " ", " ", " ", '"}'), (
        "status", "request_id", "host", "explanation", "remediation",
    ))  # fmt: skip
    refusal = Refusal(401, request_id, host, None, Guidance(why, what))
    assert json.loads(page(refusal, "json", {"error.json": template}).body) == {
        "s": 401,
        "v": f"{request_id} {host} {why} {what}",
    }
