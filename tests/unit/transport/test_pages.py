"""Which form of a denial a client prefers, and what each says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.model import Reason
from authz.transport.pages import denial_page, prefers_html
from tests.support.policies import request

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("Text/HTML", True),
        ("text/*", True),
        ("text/html;charset=utf-8", True),
        ("text/html ; q=0.5", True),
        ("application/json;q=0.5, text/html", True),
        ("text/html;q=0.9, application/json;q=0.8", True),
        ("text/*;q=0.9, */*;q=0.1", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html, */*", False),
        ("text/html;q=0.5, application/json", False),
        ("text/html;q=0", False),
        ("text/html;q=0, text/*", False),
        ("text/plain", False),
        ("text/plain, */*;q=0.1", False),
        ("text/html;q=x", False),
        ("text/html;q=nan", False),
        ("text/html;q=-1", False),
        ("text/html;q=inf, application/json", False),
        ("text/html;level=1;q=0.6, application/*;q=0.5", True),
        ("x" * 2000 + ",text/html", False),
    ],
)
def test_html_for_who_ranks_it_above_json(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


@given(st.text(alphabet="texhml/*;q=0.19, applicationjson", max_size=60))
def test_any_accept_header_is_answered(accept: str) -> None:
    prefers_html(accept)
    prefers_html(f"text/html;{accept},text/*{accept}")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 503])
@pytest.mark.parametrize("reason", [None, Reason.CLAIM_UNAUTHORIZED], ids=["silent", "with its reason"])
def test_every_status_has_a_page_in_every_form(status: int, reason: Reason | None) -> None:
    page = denial_page(request(), status, "r-1", reason)
    body = json.loads(page.body)
    assert body.get("reason") == reason
    assert body["request_id"] == "r-1"
    html = denial_page(request({"accept": BROWSER}), status, "r-1", reason)
    assert f"<title>{status} {body['error'].capitalize()}</title>" in html.body
    assert ("claim-unauthorized" in html.body) is (reason is not None)
    assert "<code>r-1</code>" in html.body
    grpc = denial_page(request({"content-type": "application/grpc"}), status, "r-1", reason)
    assert grpc.body == body["error"] + (f": {reason}" if reason else "")
    assert (page.policy, grpc.policy) == ("", "")
    assert "'none'" in html.policy


def test_a_page_without_a_request_id_shows_none() -> None:
    assert "Request <code>" not in denial_page(request({"accept": BROWSER}), 403, "", None).body
    assert json.loads(denial_page(request(), 403, "", None).body) == {"error": "forbidden", "request_id": ""}
