"""Where a refused browser is sent, and that nothing in a request can choose the place."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.transport.redirects import is_navigation, redirect_target
from tests.support.policies import request

SIGN_IN = {401: "https://login.example.com/start?lang=en&return={url}"}
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def target(header: dict[str, str] | None = None, targets: dict[int, str] = SIGN_IN, **fields: Any) -> str | None:
    return redirect_target(request(BROWSER | (header or {}), **fields), 401, targets)


def returned(location: str | None) -> str:
    """Read the refused address back as the sign-in page would."""
    assert location is not None
    return parse_qs(urlsplit(location).query)["return"][0]


def test_a_browser_is_sent_to_the_target_with_the_refused_address() -> None:
    assert target(path="/a?b=c&d=e%20f#") == (
        "https://login.example.com/start?lang=en&return=https%3A%2F%2Fapp.example.com%2Fa%3Fb%3Dc%26d%3De%2520f%23"
    )


def test_a_status_without_a_target_has_a_page() -> None:
    assert redirect_target(request(BROWSER), 403, SIGN_IN) is None


@pytest.mark.parametrize(
    ("header", "method"),
    [
        ({}, "GET"),
        ({}, "HEAD"),
        ({"sec-fetch-mode": "navigate"}, "GET"),
        ({"accept": "text/html"}, "GET"),
    ],
    ids=["an old browser", "a HEAD", "a navigation", "HTML alone"],
)
def test_who_navigates_is_sent(header: dict[str, str], method: str) -> None:
    assert is_navigation(request(BROWSER | header, method=method))
    assert target(header, method=method) is not None


@pytest.mark.parametrize(
    ("header", "method"),
    [
        ({}, "POST"),
        ({}, "PUT"),
        ({}, "DELETE"),
        ({}, "OPTIONS"),
        ({"accept": "application/json"}, "GET"),
        ({"accept": "*/*"}, "GET"),
        ({"accept": ""}, "GET"),
        ({"accept": "text/plain"}, "GET"),
        ({"accept": "text/html, application/json"}, "GET"),
        ({"content-type": "application/grpc"}, "GET"),
        ({"content-type": "application/grpc-web+proto"}, "GET"),
        ({"x-requested-with": "XMLHttpRequest"}, "GET"),
        ({"sec-fetch-mode": "cors"}, "GET"),
        ({"sec-fetch-mode": "no-cors"}, "GET"),
        ({"sec-fetch-mode": "same-origin"}, "GET"),
        ({"sec-fetch-mode": "websocket"}, "GET"),
        ({"sec-fetch-mode": "navigate,cors"}, "GET"),
    ],
)
def test_programs_are_answered_where_they_are(header: dict[str, str], method: str) -> None:
    assert not is_navigation(request(BROWSER | header, method=method))
    assert target(header, method=method) is None


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("https", "app.example.com", "https://app.example.com"),
        ("http", "app.example.com", "http://app.example.com"),
        ("", "app.example.com", "https://app.example.com"),
        ("javascript", "app.example.com", "https://app.example.com"),
        ("https", "App.Example.COM.", "https://app.example.com"),
        ("https", "app.localhost:10443", "https://app.localhost:10443"),
        ("https", "[::1]:80", "https://[::1]:80"),
    ],
)
def test_the_refused_address_is_canonical(scheme: str, host: str, origin: str) -> None:
    assert returned(target(scheme=scheme, host=host, path="/x")) == f"{origin}/x"


@pytest.mark.parametrize("host", ["", "a,b", "a b", "user@a", "a/b", "a\r\nx: y"])
def test_without_a_clear_host_there_is_a_page(host: str) -> None:
    assert target(host=host) is None


def test_a_long_address_becomes_the_front_page_and_not_half_an_address() -> None:
    room = 4096 - len("https%3A%2F%2Fapp.example.com%2F")
    assert returned(target(path="/" + "a" * room)) == "https://app.example.com/" + "a" * room
    for too_long in ("a" * (room + 1), "a" * 5_000, "%20" * 20_000):
        assert returned(target(path=f"/{too_long}")) == "https://app.example.com/"


@pytest.mark.parametrize("length", [4096, 4097])
def test_an_address_that_is_only_short_enough_before_it_is_encoded_becomes_the_front_page(length: int) -> None:
    path = "/".ljust(length - len("https://app.example.com"), "a")
    assert target(path=path) == "https://login.example.com/start?lang=en&return=https%3A%2F%2Fapp.example.com%2F"


@pytest.mark.parametrize(
    ("where", "host", "path"),
    [
        ("/sign-in?return={url}", "app.example.com", "/sign-in"),
        ("/sign-in?return={url}", "app.example.com", "/sign-in?return=x"),
        ("/sign-in#{url}", "app.example.com", "/sign-in"),
        ("https://App.example.com/sign-in", "app.example.com", "/sign-in"),
        ("https://app.example.com?u={url}", "app.example.com", "/"),
        ("https://app.localhost:8443/in", "app.localhost:8443", "/in?a"),
        ("https://app.example.com:443/sign-in", "app.example.com", "/sign-in"),
        ("https://app.example.com:443?u={url}", "app.example.com", "/"),
        ("https://app.example.com:443/sign-in", "app.example.com:443", "/sign-in"),
        ("https://app.example.com/sign-in", "app.example.com:443", "/sign-in"),
        ("https://app.example.com./sign-in", "app.example.com", "/sign-in"),
        ("https://App.Example.com.:443/sign-in", "app.example.com.", "/sign-in"),
        ("https://app.example.com/sign-in", "App.example.com.:443", "/sign-in"),
        ("http://localhost:80/in", "localhost", "/in"),
        ("http://localhost/in", "localhost:80", "/in"),
        ("https://[0:0::1]/in", "[::1]:443", "/in"),
        ("https://app.example.com/%73ign-in", "app.example.com", "/sign-in"),
        ("https://app.example.com/a/../sign-in", "app.example.com", "/sign-in"),  # browsers make that of it
        ("/sign-in;v=1", "app.example.com", "/sign-in;v=2"),
    ],
)
def test_a_refused_sign_in_page_is_not_sent_to_itself(where: str, host: str, path: str) -> None:
    assert target(targets={401: where}, host=host, path=path) is None


def test_the_scheme_before_a_proxy_that_ends_tls_does_not_matter() -> None:
    where = {401: "https://app.example.com/sign-in"}
    for host in ("app.example.com", "app.example.com:443"):
        assert target(targets=where, scheme="http", host=host, path="/sign-in") is None


@pytest.mark.parametrize(
    ("where", "host", "path"),
    [
        ("/sign-in?return={url}", "app.example.com", "/sign-in/x"),
        ("https://login.example.com/", "app.example.com", "/"),
        ("https://app.localhost:8443/in", "app.localhost", "/in"),
        ("https://app.localhost/in", "app.localhost:8443", "/in"),
        ("https://app.example.com/in", "app.example.com:80", "/in"),
        ("http://localhost/in", "localhost:443", "/in"),
        ("/sign-in", "app.example.com", "/orders;v=1"),
        ("/sign-in;v=1", "app.example.com", "/orders"),
    ],
)
def test_another_page_is_sent_there(where: str, host: str, path: str) -> None:
    assert target(targets={401: where}, host=host, path=path) is not None


@given(*(st.text(max_size=60) for _ in range(4)))
def test_a_location_is_the_configured_place_whatever_the_request_holds(
    host: str, path: str, scheme: str, referer: str
) -> None:
    for where in ("https://login.example.com/start?return={url}", "/start#{url}", "/start"):
        location = target({"referer": referer}, {401: where}, host=host, path=path, scheme=scheme)
        fixed = target({"referer": referer}, {401: where}, path=path, scheme=scheme)
        for found in (location, fixed):
            if found is not None:
                assert found.startswith(where.partition("{url}")[0])
                assert re.fullmatch("[!-~]+", found)
                assert re.fullmatch("[A-Za-z0-9._~%-]*", found.removeprefix(where.partition("{url}")[0]))
