"""Which form of a refusal a client wants to read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.transport.preference import Form, preferred_form
from tests.support.policies import request

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (BROWSER, Form.HTML),
        ("text/html", Form.HTML),
        ("Text/HTML", Form.HTML),
        ("text/*", Form.HTML),
        ("text/html;charset=utf-8", Form.HTML),
        ("text/html ; q=0.5", Form.HTML),
        ("application/json;q=0.5, text/html", Form.HTML),
        ("text/html;q=0.9, application/json;q=0.8", Form.HTML),
        ("text/*;q=0.9, */*;q=0.1", Form.HTML),
        ("text/html, text/plain", Form.HTML),
        ("text/plain, text/html", Form.HTML),
        ("text/html;level=1;q=0.6, application/*;q=0.5", Form.HTML),
        ("application/*, application/json;q=0.1, text/html;q=0.5", Form.HTML),  # the most specific range counts
        ("*/*, application/*;q=0.4, text/*;q=0.5", Form.HTML),
        ("x" * 1014 + ",text/html", Form.HTML),  # 1,024 characters are read
        ("x" * 1015 + ",text/html", Form.JSON),
        ("application/problem+json;q=0.1, application/json, text/html", Form.JSON),  # either is JSON
        ("application/json;q=0.1, application/problem+json, text/html", Form.JSON),
        ("", Form.JSON),
        ("*/*", Form.JSON),
        ("application/json", Form.JSON),
        ("application/json, text/html", Form.JSON),
        ("application/problem+json, text/html", Form.JSON),
        ("application/problem+json;q=0.9, text/html", Form.HTML),
        ("text/html, */*", Form.JSON),
        ("text/html;q=0.5, application/json", Form.JSON),
        ("text/html;q=0", Form.JSON),
        ("text/csv", Form.JSON),
        ("text/html;q=x", Form.JSON),
        ("text/html;q=nan", Form.JSON),
        ("text/html;q=-1", Form.JSON),
        ("text/html;q=inf, application/json", Form.JSON),
        ("text/html;q=7, application/json", Form.JSON),
        ("x" * 2000 + ",text/html", Form.JSON),
        ("text/plain", Form.TEXT),
        ("text/plain;q=.9, */*;q=0.1", Form.TEXT),
        ("text/html;q=0, text/*", Form.TEXT),
        ("text/html;q=0.5, text/plain", Form.TEXT),
        ("text/plain;q=0.1, text/plain", Form.TEXT),
    ],
)
def test_the_form_with_the_highest_quality(accept: str, form: Form) -> None:
    assert preferred_form(request({"accept": accept})) is form


def test_several_accept_headers_are_one_list() -> None:
    assert preferred_form(request({"accept": ["application/json;q=0.5", "text/html"]})) is Form.HTML


@pytest.mark.parametrize("kind", ["application/grpc", "Application/GRPC+proto", "application/grpc-web"])
def test_a_grpc_call_is_one_whatever_it_accepts(kind: str) -> None:
    assert preferred_form(request({"content-type": kind, "accept": BROWSER})) is Form.GRPC


@given(st.text(alphabet="texhml/*;q=0.19, applicationjson", max_size=60))
def test_any_accept_header_is_answered(accept: str) -> None:
    preferred_form(request({"accept": accept}))
    preferred_form(request({"accept": f"text/html;{accept},text/*{accept}"}))
