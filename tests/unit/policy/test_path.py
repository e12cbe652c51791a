"""Paths, hosts and methods: one form, or refused. The path table is reference/envoy.md section 3.1."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.errors import RequestError
from authz.policy.path import (
    Host,
    canonical_host,
    canonical_path,
    canonical_pattern,
    check_connection,
    check_method,
    decoded_path,
)

BLANK = "blank, a control byte or a byte outside ASCII"
DOTS = "a dot segment"
EMPTY = "an empty segment"
BACKSLASH = "a backslash or a fragment"
PARAMETERS = "`;` parameters"
BAD_ESCAPE = "`%` without two hex digits"
DOUBLE = "a doubly encoded character"
CONTROL = "an encoded control character"
NOT_UTF8 = "escapes that are not UTF-8"
NO_SLASH = "does not start with `/`"

REFUSED_PATHS = [
    # reference/envoy.md section 3.1, top to bottom
    ("/a/../b", DOTS),
    ("//a//b", EMPTY),
    ("/a\\b", BACKSLASH),
    ("/pub/%2e%2e/admin", "an encoded `.`"),
    ("/pub/..%2fadmin", "an encoded `/`"),
    ("/a%2fb", "an encoded `/`"),
    ("/a%5cb", "an encoded `\\`"),
    ("/pub/..;x/admin", DOTS),
    ("/pub/..%3b/admin", "an encoded `;`"),
    ("/a;x=1", PARAMETERS),
    ("/a/..%252fadmin", DOUBLE),
    ("/a%00b", CONTROL),
    ("/a#frag", BACKSLASH),
    ("/a%zz", BAD_ESCAPE),
    ("/a%0d%0ab", CONTROL),
    ("/caf\xe9", BLANK),
    ("/a b", BLANK),
    # dot segments
    ("/.", DOTS),
    ("/..", DOTS),
    ("/./a", DOTS),
    ("/a/.", DOTS),
    ("/a/..", DOTS),
    ("/../a", DOTS),
    ("/.;a", DOTS),
    ("/a/.;b/c", DOTS),
    ("/.%2e", "an encoded `.`"),
    ("/%2E", "an encoded `.`"),
    ("/a%2eb", "an encoded `.`"),
    # empty segments
    ("//", EMPTY),
    ("//admin", EMPTY),
    ("/a//", EMPTY),
    ("/a//b", EMPTY),
    # escapes
    ("/%", BAD_ESCAPE),
    ("/a%", BAD_ESCAPE),
    ("/a%2", BAD_ESCAPE),
    ("/%g0", BAD_ESCAPE),
    ("/%%30", BAD_ESCAPE),
    ("/%2%35", BAD_ESCAPE),
    ("/%u0041", BAD_ESCAPE),
    ("/%252e", DOUBLE),
    ("/%25%32%65", DOUBLE),
    ("/%2541", DOUBLE),
    ("/%2F", "an encoded `/`"),
    ("/%5C", "an encoded `\\`"),
    ("/%3B", "an encoded `;`"),
    ("/%01", CONTROL),
    ("/%1f", CONTROL),
    ("/%7f", CONTROL),
    ("/%C3", NOT_UTF8),
    ("/%E9", NOT_UTF8),
    ("/%C0%AE", NOT_UTF8),
    ("/%C0%AF", NOT_UTF8),
    ("/%E0%80%AF", NOT_UTF8),
    ("/%ED%A0%80", NOT_UTF8),
    # bytes
    ("/a\tb", BLANK),
    ("/a\r\nb", BLANK),
    ("/a\x00b", BLANK),
    ("/a\x7fb", BLANK),
    ("/\N{KELVIN SIGN}", BLANK),
    ("/\N{FULLWIDTH SOLIDUS}", BLANK),
    ("/a?b c", BLANK),
    ("/a?b\n", BLANK),
    ("/a\n", BLANK),
    # not an origin-form path
    ("", NO_SLASH),
    ("*", NO_SLASH),
    ("a", NO_SLASH),
    ("?a", NO_SLASH),
    ("http://app.example.com/", NO_SLASH),
    ("/a?x#y", "a fragment"),
    ("#", NO_SLASH),
]


@pytest.mark.parametrize(("raw", "why"), REFUSED_PATHS)
def test_a_path_that_two_programs_could_read_differently_is_refused(raw: str, why: str) -> None:
    with pytest.raises(RequestError) as raised:
        canonical_path(raw)
    assert why in str(raised.value)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        # reference/envoy.md section 3.1: what is forwarded as it is
        ("/%61dmin", "/admin"),
        ("/a%25", "/a%25"),
        ("/a%3Fb", "/a%3Fb"),
        ("/a%23b", "/a%23b"),
        ("/ADMIN", "/ADMIN"),
        ("/admin/", "/admin/"),
        ("/admin.", "/admin."),
        # RFC 3986 section 6.2.2
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/%73ecret", "/secret"),
        ("/%7E%2D%5f", "/~-_"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/%25zz", "/%25zz"),
        ("/.well-known", "/.well-known"),
        ("/...", "/..."),
        ("/a..b", "/a..b"),
        ("/a/..b", "/a/..b"),
        ("/a.json", "/a.json"),
        ("/a*b!$&'()+,=:@", "/a*b!$&'()+,=:@"),
        # what Envoy's `normalize_path` escapes before it asks us: RFC 3986 lets no path hold it as it is
        ('/a|b<>^`{}"[0]', "/a%7Cb%3C%3E%5E%60%7B%7D%22%5B0%5D"),
        ("/a%7bb%7D", "/a%7Bb%7D"),
        ("/a{%62", "/a%7Bb"),
        # the query is not looked at
        ("/a?", "/a"),
        ("/a?b=/../c//;%2e%zz", "/a"),
        ("/a?b?c", "/a"),
        ("/%61?%61", "/a"),
    ],
)
def test_a_path_gets_its_normal_form(raw: str, path: str) -> None:
    assert canonical_path(raw) == path


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/a;x=1", "/a"),
        ("/a;x=1/b;y", "/a/b"),
        ("/a;x=..", "/a"),
        ("/;x", "/"),
        ("/a/;x", "/a/"),
        ("/a", "/a"),
        ("/%61;%61", "/a"),
    ],
)
def test_parameters_are_removed_where_they_are_allowed(raw: str, path: str) -> None:
    assert canonical_path(raw, allow_parameters=True) == path


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("/..;x/a", DOTS),
        ("/a/.;", DOTS),
        ("/a;/../b", DOTS),
        ("/a/;x/b", EMPTY),
        ("/;x/;y", EMPTY),
        ("/a%3bx", "an encoded `;`"),
        ("//;", EMPTY),
    ],
)
def test_allowed_parameters_hide_nothing(raw: str, why: str) -> None:
    with pytest.raises(RequestError) as raised:
        canonical_path(raw, allow_parameters=True)
    assert why in str(raised.value)


LONG = 4096  # characters, as the module's description says


@pytest.mark.parametrize("rest", ["%20", "%41", "%e2%82%ac", ";a", "/.a"])
def test_a_long_path_is_read_only_in_its_plainest_form(rest: str) -> None:
    """To read escapes takes time for each of them, and anybody can send sixty thousand characters."""
    longest = "/" + "a" * (LONG - 1 - len(rest)) + rest
    canonical_path(longest, allow_parameters=True)
    with pytest.raises(RequestError, match="longer than 4096 characters and not in its plainest form"):
        canonical_path(f"/a{longest[1:]}", allow_parameters=True)


@pytest.mark.parametrize("query", ["", "?" + "%20" * 10_000])
def test_a_plain_path_may_be_as_long_as_envoy_lets_it_be(query: str) -> None:
    assert canonical_path("/" + "a/b" * 10_000 + query) == "/" + "a/b" * 10_000


def test_a_refusal_repeats_nothing_of_what_a_client_wrote() -> None:
    for raw, _ in REFUSED_PATHS:
        with pytest.raises(RequestError) as raised:
            canonical_path(raw.replace("a", "canary") + "?canary")
        assert "canary" not in str(raised.value)


PATHS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="/.;%25aefEF?#\\ ~\x00é", max_size=30).map("/".__add__),
    st.lists(
        st.sampled_from(["/", ".", "..", ";", "%2e", "%2F", "%61", "%25", "%C3", "%A9", "%zz", "a", "?", "\\"]),
        max_size=12,
    ).map(lambda parts: "/" + "".join(parts)),
)


@settings(max_examples=1000, deadline=None)
@given(PATHS, st.booleans())
def test_any_text_is_a_path_in_normal_form_or_a_request_error(raw: str, allow_parameters: bool) -> None:
    try:
        path = canonical_path(raw, allow_parameters=allow_parameters)
    except RequestError:
        return
    assert canonical_path(path) == path
    assert path.startswith("/")
    assert not set(path) & set(";\\#? ")
    segments = decoded_path(path).split("/")[1:]
    assert not {".", ".."} & set(segments)
    assert "" not in segments[:-1]


@settings(max_examples=300, deadline=None)
@given(PATHS)
def test_allowing_parameters_changes_no_path_without_them(raw: str) -> None:
    try:
        path = canonical_path(raw)
    except RequestError:
        return
    assert canonical_path(raw, allow_parameters=True) == path


@pytest.mark.parametrize(
    ("canonical", "decoded"),
    [("/a", "/a"), ("/caf%C3%A9", "/café"), ("/a%20b%3Fc", "/a b?c"), ("/%25", "/%"), ("/%C3%A9x/y", "/éx/y")],
)
def test_the_remaining_escapes_are_decoded(canonical: str, decoded: str) -> None:
    assert decoded_path(canonical) == decoded


# --- Hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "name", "port"),
    [
        ("app.example.com", "app.example.com", None),
        ("App.EXAMPLE.com", "app.example.com", None),
        ("app.example.com.", "app.example.com", None),
        ("app.example.com:443", "app.example.com", 443),
        ("app.example.com.:8443", "app.example.com", 8443),
        ("localhost", "localhost", None),
        ("a_b-c", "a_b-c", None),
        ("xn--caf-dma.example", "xn--caf-dma.example", None),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("[::1]", "[::1]", None),
        ("[0:0::0:1]:80", "[::1]", 80),
        ("[2001:DB8::A]", "[2001:db8::a]", None),
    ],
)
def test_a_host_gets_the_form_it_is_compared_in(raw: str, name: str, port: int | None) -> None:
    assert canonical_host(raw) == Host(name, port)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("", "one plain host name"),
        (".", "one plain host name"),
        ("a.test,b.test", "one plain host name"),
        ("a.test, b.test", "one plain host name"),
        ("user@a.test", "one plain host name"),
        ("user:pw@a.test", "one plain host name"),
        (" a.test", "one plain host name"),
        ("a.test ", "one plain host name"),
        ("a.test\n", "one plain host name"),
        ("a..test", "one plain host name"),
        (".a.test", "one plain host name"),
        ("a.test..", "one plain host name"),
        ("a.test/", "one plain host name"),
        ("a.test:", "one plain host name"),
        ("a.test:0", "one plain host name"),
        ("a.test:080", "one plain host name"),
        ("a.test:+80", "one plain host name"),
        ("a.test:８０", "one plain host name"),
        ("a.test:80:80", "one plain host name"),
        ("a.test:123456", "one plain host name"),
        ("a.test:65536", "the host's port is out of range"),
        ("[::1]:99999", "the host's port is out of range"),
        ("*.test", "one plain host name"),
        ("café.test", "one plain host name"),
        ("\N{KELVIN SIGN}.test", "one plain host name"),
        ("a%2etest", "one plain host name"),
        ("[::1", "one plain host name"),
        ("::1", "one plain host name"),
        ("[::1%eth0]", "one plain host name"),
        ("[:::1]", "not an IPv6 address"),
        ("[1.2.3.4]", "not an IPv6 address"),
        ("[" + "1:" * 120 + "]", "not an IPv6 address"),
        ("http://a.test", "one plain host name"),
    ],
)
def test_a_host_that_is_not_one_plain_host_is_refused(raw: str, why: str) -> None:
    with pytest.raises(RequestError) as raised:
        canonical_host(raw)
    assert why in str(raised.value)


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(max_size=20), st.text(alphabet="aA1.:-_[]@, *%é", max_size=20)))
def test_any_text_is_a_host_in_its_form_or_a_request_error(raw: str) -> None:
    try:
        host = canonical_host(raw)
    except RequestError:
        return
    written = host.name if host.port is None else f"{host.name}:{host.port}"
    assert canonical_host(written) == host
    assert host.name == host.name.lower()
    assert not set(host.name) & set(', @"\\*')  # fit for a realm in quotes


# --- Methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PROPFIND", "M-SEARCH", "X_Y", "VERSION-CONTROL", "A1"])
def test_an_upper_case_token_is_a_method(method: str) -> None:
    check_method(method)


@pytest.mark.parametrize(
    "method", ["", "get", "Get", "GET ", " GET", "GE T", "GET\n", "GET,POST", "GÉT", "GET/", "G(T"]
)
def test_anything_else_is_no_method(method: str) -> None:
    with pytest.raises(RequestError, match="not an upper-case token"):
        check_method(method)


# --- What policies write ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("/admin", "/admin"),
        ("/%61dmin", "/admin"),
        ("/café", "/caf%C3%A9"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/\U0001f600", "/%F0%9F%98%80"),
        ("/a/", "/a/"),
    ],
)
def test_a_policys_path_gets_the_form_of_a_requests_path(text: str, pattern: str) -> None:
    assert canonical_pattern(text) == pattern
    assert canonical_pattern(text, prefix=True) == pattern


@pytest.mark.parametrize("text", ["/", "/.", "/..", "/a/.", "/a/", "/adm", "/a%25"])
def test_a_prefix_may_end_inside_a_segment(text: str) -> None:
    assert canonical_pattern(text, prefix=True) == text


def test_a_path_may_not_unless_it_is_said_to_be_a_prefix() -> None:
    with pytest.raises(RequestError) as raised:
        canonical_pattern("/a/.")
    assert DOTS in str(raised.value)


@pytest.mark.parametrize(
    ("text", "prefix", "why"),
    [
        ("admin", False, NO_SLASH),
        ("", True, NO_SLASH),
        ("/a?b", False, "the query is not part of the path"),
        ("/a?", True, "the query is not part of the path"),
        ("/a//b", False, EMPTY),
        ("/a//", True, EMPTY),
        ("/a/../b", True, DOTS),
        ("/..", False, DOTS),
        ("/a b/ü", False, "a blank: write `%20` for it"),
        ("/ü b", True, "a blank: write `%20` for it"),
        ("/a\tb", False, "a control character"),
        ("/a\x7f", True, "a control character"),
        ("/a%2Fb", False, "an encoded `/`"),
        ("/a%", True, BAD_ESCAPE),
        ("/a%C3", True, NOT_UTF8),
        ("/a;b", True, PARAMETERS),
        ("/a#b", False, BACKSLASH),
    ],
)
def test_a_policys_path_that_no_request_can_match_is_refused(text: str, prefix: bool, why: str) -> None:
    with pytest.raises(RequestError) as raised:
        canonical_pattern(text, prefix=prefix)
    assert why in str(raised.value)


LONGEST = "a." * 120 + "b" * 15  # 255 characters


@pytest.mark.parametrize("port", ["", ":65535"])
def test_the_longest_host_is_read(port: str) -> None:
    assert canonical_host(LONGEST + port).name == LONGEST


@pytest.mark.parametrize("raw", [f"{LONGEST}b:65535", f"{LONGEST}{'b' * 7}", "a" * 60_000])
def test_a_longer_host_fills_no_memory(raw: str) -> None:
    with pytest.raises(RequestError, match="longer than 261 characters"):
        canonical_host(raw)


# --- The connection header -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["close"],
        ["Upgrade"],
        ["keep-alive, Upgrade,\tHTTP2-Settings"],
        ["keep-alive", "upgrade"],
        ["TE, close"],
    ],
)
def test_a_connection_header_that_names_no_header(values: list[str]) -> None:
    check_connection(values)


@pytest.mark.parametrize(
    "values",
    [
        ["x-auth-subject"],
        ["Upgrade, X-Auth-Groups"],
        ["upgrade", "authorization"],
        ["keep-alive,,cookie"],
        ["upgrade x-auth-subject"],
        ["\u212aeep-alive"],  # no K
    ],
)
def test_a_connection_header_that_would_take_headers_away_is_refused(values: list[str]) -> None:
    with pytest.raises(RequestError, match="names other headers"):
        check_connection(values)
