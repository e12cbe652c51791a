from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.errors import TokenError
from authz.identity.credentials import (
    MAX_COOKIES,
    Credential,
    TokenPlace,
    find_credential,
    headers_with_tokens,
    without_cookies,
)
from authz.model import Reason, Request
from tests.support.user_pool import FakeUserPool, rsa_key

AUTHORIZATION = TokenPlace("header", "authorization")
OTHER = TokenPlace("header", "x-other-token")
COOKIE = TokenPlace("cookie", "BearerToken")
PLACES = (AUTHORIZATION, OTHER, COOKIE)


def request(**headers: str | tuple[str, ...]) -> Request:
    values = {name.replace("_", "-"): (value,) if isinstance(value, str) else value for name, value in headers.items()}
    return Request("GET", "example.com", "/", values)


def found(sent: Request) -> tuple[str, TokenPlace] | None:
    credential = find_credential(sent, PLACES)
    return None if credential is None else (credential.token, credential.place)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(request(authorization="Bearer A"), ("A", AUTHORIZATION), id="the ordinary Bearer"),
        pytest.param(request(authorization="bEARER A"), ("A", AUTHORIZATION), id="the scheme in any case"),
        pytest.param(request(authorization="Bearer   A"), ("A", AUTHORIZATION), id="several blanks between"),
        pytest.param(request(authorization="Bearer\tA"), ("A", AUTHORIZATION), id="a tab between"),
        pytest.param(request(authorization=" \tBearer A\t "), ("A", AUTHORIZATION), id="blanks around"),
        pytest.param(request(authorization="Bearer A\xa0B"), ("A\xa0B", AUTHORIZATION), id="exotic blanks stay"),
        pytest.param(request(), None, id="nothing at all"),
        pytest.param(request(authorization=()), None, id="a header without values"),
        pytest.param(request(authorization=""), None, id="an empty Authorization"),
        pytest.param(request(authorization=" \t"), None, id="a blank Authorization"),
        pytest.param(request(authorization="Basic dTpw"), None, id="another scheme holds no token"),
        pytest.param(request(authorization="Bearer\x0bA"), None, id="a vertical tab ends no scheme"),
        pytest.param(request(authorization="Bearers A"), None, id="a scheme that only begins like Bearer"),
        pytest.param(request(authorization='Digest a="b", c="d"'), None, id="Digest may hold commas"),
        pytest.param(
            request(authorization="Basic x", x_other_token="B"), ("B", OTHER), id="Basic, then the next place"
        ),
        pytest.param(
            request(authorization='Digest a="b", c="d"', x_other_token="B"), ("B", OTHER), id="Digest, then the next"
        ),
        pytest.param(
            request(authorization="Bearer A", x_other_token="B", cookie="BearerToken=C"),
            ("A", AUTHORIZATION),
            id="the first place that holds something counts",
        ),
        pytest.param(request(x_other_token=" B "), ("B", OTHER), id="another header: the whole value"),
        pytest.param(request(x_other_token="Bearer B"), ("Bearer B", OTHER), id="another header knows no scheme"),
        pytest.param(request(x_other_token="", cookie="BearerToken=C"), ("C", COOKIE), id="an empty other header"),
        pytest.param(request(cookie="a=1; BearerToken=C; b=2"), ("C", COOKIE), id="a cookie among others"),
        pytest.param(request(cookie="a=1,BearerToken=C,b=2"), ("C", COOKIE), id="cookie headers joined with commas"),
        pytest.param(request(cookie=("a=1", "BearerToken=C")), ("C", COOKIE), id="the second cookie header"),
        pytest.param(request(cookie="BearerToken=C; BearerToken=C"), ("C", COOKIE), id="one token twice"),
        pytest.param(request(cookie=("BearerToken=C", "BearerToken=C")), ("C", COOKIE), id="one token in two headers"),
        pytest.param(request(cookie="BearerToken=; BearerToken=C"), ("C", COOKIE), id="an empty cookie beside it"),
        pytest.param(request(cookie='BearerToken="C"'), ("C", COOKIE), id="a quoted cookie"),
        pytest.param(request(cookie='BearerToken=""C""'), ('"C"', COOKIE), id="unquoted once only"),
        pytest.param(request(cookie='BearerToken="'), ('"', COOKIE), id="a single quote is no pair"),
        pytest.param(request(cookie="BearerToken = C"), ("C", COOKIE), id="blanks around the equals sign"),
        pytest.param(request(cookie="BearerToken=C=="), ("C==", COOKIE), id="equals signs in the value"),
        pytest.param(request(cookie="BearerToken=C,D"), ("C,D", COOKIE), id="a comma that begins no cookie"),
        pytest.param(request(cookie="bearertoken=C"), None, id="cookie names keep their case"),
        pytest.param(request(cookie="XBearerToken=C"), None, id="a cookie whose name ends alike"),
        pytest.param(request(cookie="a=BearerToken=C"), None, id="the name in another cookie's value"),
        pytest.param(request(cookie='BearerToken=""'), None, id="an empty quoted cookie"),
        pytest.param(request(cookie="BearerToken"), None, id="a cookie without a value"),
        pytest.param(request(cookie=";,; ,"), None, id="separators only"),
    ],
)
def test_finds(sent: Request, expected: tuple[str, TokenPlace] | None) -> None:
    assert found(sent) == expected


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(request(authorization=("Bearer A", "Bearer B")), Reason.TOKEN_AMBIGUOUS, id="two Authorizations"),
        pytest.param(request(authorization=("Bearer A", "Bearer A")), Reason.TOKEN_AMBIGUOUS, id="the same one twice"),
        pytest.param(request(authorization=("Basic x", "Bearer A")), Reason.TOKEN_AMBIGUOUS, id="Basic and Bearer"),
        pytest.param(request(authorization=("Basic x", "Basic y")), Reason.TOKEN_AMBIGUOUS, id="two without Bearer"),
        pytest.param(request(authorization=("", "Bearer A")), Reason.TOKEN_AMBIGUOUS, id="an empty one beside it"),
        pytest.param(request(authorization="Bearer A,Bearer B"), Reason.TOKEN_AMBIGUOUS, id="two lines joined"),
        pytest.param(request(authorization="Bearer A, bearer B"), Reason.TOKEN_AMBIGUOUS, id="joined with a blank"),
        pytest.param(
            request(authorization="Basic x,\tBEARER A"), Reason.TOKEN_AMBIGUOUS, id="Basic joined with Bearer"
        ),
        pytest.param(request(authorization="Bearer A,Basic x"), Reason.TOKEN_AMBIGUOUS, id="Bearer joined with Basic"),
        pytest.param(request(authorization="Bearer A,"), Reason.TOKEN_AMBIGUOUS, id="a comma at the end"),
        pytest.param(request(authorization=",Bearer A"), Reason.TOKEN_AMBIGUOUS, id="a comma at the start"),
        pytest.param(request(authorization="Bearer,A"), Reason.TOKEN_AMBIGUOUS, id="a comma for a blank"),
        pytest.param(request(authorization="Bearer"), Reason.TOKEN_MALFORMED, id="Bearer alone"),
        pytest.param(request(authorization="Bearer \t "), Reason.TOKEN_MALFORMED, id="Bearer and blanks"),
        pytest.param(request(authorization="Bearer A B"), Reason.TOKEN_MALFORMED, id="two words after Bearer"),
        pytest.param(request(authorization="Bearer A\tB"), Reason.TOKEN_MALFORMED, id="two words with a tab between"),
        pytest.param(request(authorization="Bearer Bearer A"), Reason.TOKEN_MALFORMED, id="Bearer twice"),
        pytest.param(
            request(authorization="Bearer", x_other_token="B"), Reason.TOKEN_MALFORMED, id="no way round a bad place"
        ),
        pytest.param(request(x_other_token=("A", "B")), Reason.TOKEN_AMBIGUOUS, id="another header twice"),
        pytest.param(request(x_other_token="A,B"), Reason.TOKEN_AMBIGUOUS, id="another header with a comma"),
        pytest.param(request(x_other_token=","), Reason.TOKEN_AMBIGUOUS, id="another header that is a comma"),
        pytest.param(request(cookie="BearerToken=A; BearerToken=B"), Reason.TOKEN_AMBIGUOUS, id="two cookies"),
        pytest.param(request(cookie="BearerToken=A,BearerToken=B"), Reason.TOKEN_AMBIGUOUS, id="two joined cookies"),
        pytest.param(request(cookie=("BearerToken=A", "BearerToken=B")), Reason.TOKEN_AMBIGUOUS, id="in two headers"),
        pytest.param(
            request(cookie="BearerToken=A; BearerToken =B"), Reason.TOKEN_AMBIGUOUS, id="a blank after a name"
        ),
    ],
)
def test_refuses(sent: Request, reason: Reason) -> None:
    with pytest.raises(TokenError) as caught:
        find_credential(sent, PLACES)
    assert caught.value.reason is reason


@pytest.mark.parametrize("separator", [";", "; ", ",x="])
@pytest.mark.parametrize("lines", [1, 3])
def test_more_cookies_than_browsers_send_are_not_looked_through(separator: str, lines: int) -> None:
    """Anybody can send thirty thousand, and each takes time."""
    some = MAX_COOKIES // lines
    rest = MAX_COOKIES - some * (lines - 1)
    headers = [separator.join(["x=1"] * some)] * (lines - 1) + [
        separator.join(["BearerToken=A", *["x=1"] * (rest - 1)])
    ]
    assert found(request(cookie=tuple(headers))) == ("A", COOKIE)
    assert without_cookies(request(cookie=tuple(headers)), ["BearerToken"]) not in ("", None)
    headers[0] += f"{separator}x=1"
    with pytest.raises(TokenError, match="more than 512 cookies") as raised:
        found(request(cookie=tuple(headers)))
    assert raised.value.reason is Reason.TOKEN_AMBIGUOUS
    assert without_cookies(request(cookie=tuple(headers)), ["BearerToken"]) == "", "a token could be left"


def test_cookies_that_cannot_be_a_token_are_left_alone_however_many_they_are() -> None:
    sent = request(cookie=";".join(["x=1"] * 10_000))
    assert found(sent) is None
    assert without_cookies(sent, ["BearerToken"], ["https://issuer"]) is None


def test_asks_only_the_configured_places_in_their_order() -> None:
    sent = request(authorization="Bearer A", x_other_token="B", cookie="BearerToken=C")
    assert find_credential(sent, ()) is None
    assert find_credential(sent, (COOKIE, AUTHORIZATION)) == Credential("C", COOKIE)


def test_shows_no_token() -> None:
    credential = Credential("secret", COOKIE)
    assert repr(credential) == "Credential(cookie BearerToken)"
    with pytest.raises(TokenError) as caught:
        find_credential(request(authorization="Bearer secret secret"), PLACES)
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        pytest.param(request(), None, id="no cookie header"),
        pytest.param(request(cookie="a=1; b=2"), None, id="nothing to remove"),
        pytest.param(request(cookie="BearerToken=C"), "", id="nothing is left"),
        pytest.param(request(cookie="a=1; BearerToken=C; b=2"), "a=1; b=2", id="one of three"),
        pytest.param(request(cookie="a=1,BearerToken=C,b=2"), "a=1; b=2", id="one of three joined with commas"),
        pytest.param(request(cookie=("a=1", "BearerToken=C", "b=2")), "a=1; b=2", id="one of three headers"),
        pytest.param(request(cookie="BearerToken=C; a=1; BearerToken=D"), "a=1", id="every occurrence"),
        pytest.param(request(cookie="BearerToken =C; a=1"), "a=1", id="a blank before the equals sign"),
        pytest.param(request(cookie="BearerToken=C; a=1;; "), "a=1", id="empty cookies are dropped"),
        pytest.param(request(cookie="BearerToken=C,D; theme=a,b"), "theme=a,b", id="commas stay in their values"),
        pytest.param(request(cookie="BearerToken; a=1"), "a=1", id="a cookie without a value"),
        pytest.param(
            request(cookie='BearerToken=C; info={"id":1,"sig":"YQ=="}'),
            'info={"id":1,"sig":"YQ=="}',
            id="JSON after it",
        ),
        pytest.param(
            request(cookie='info={"id":1,"sig":"YQ=="}; BearerToken=C'), 'info={"id":1,"sig":"YQ=="}', id="JSON before"
        ),
        pytest.param(
            request(cookie=("a=1; BearerToken=C", "b=2,c=3", "d=4, e=5")), "a=1; b=2,c=3; d=4, e=5", id="another header"
        ),
        pytest.param(request(cookie="b=2,c=3"), None, id="a comma that may begin a cookie, and nothing to remove"),
        pytest.param(
            request(cookie="a=1,b=2,BearerToken=C,c=3,d=4"),
            "a=1,b=2; c=3,d=4",
            id="only where it stood is a cookie's end",
        ),
        pytest.param(request(cookie="BearerToken=C, a=1 ,BearerToken=D"), "a=1", id="first and last of three joined"),
        pytest.param(request(cookie="a=1, BearerToken =C\t,b=2"), "a=1; b=2", id="blanks at the joints"),
        pytest.param(request(cookie="a=1; ,BearerToken=C"), "a=1", id="nothing before the comma"),
    ],
)
def test_without_cookies(sent: Request, left: str | None) -> None:
    assert without_cookies(sent, {"BearerToken"}) == left


POOL = FakeUserPool()
OURS = POOL.id_token()
STRANGERS = POOL.token(iss="https://elsewhere.example")


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        pytest.param(OURS, True, id="an ID token"),
        pytest.param(POOL.token(), True, id="an access token"),
        pytest.param(POOL.token(exp=1), True, id="an expired one: clocks differ"),
        pytest.param(POOL.token(key=rsa_key("forger")), True, id="a forged one: upstreams may not look"),
        pytest.param(f"bearer {OURS}", True, id="after a scheme"),
        pytest.param(f'"{OURS}"', True, id="in quotes"),
        pytest.param(f'{{"id_token":"{OURS}"}}', True, id="within JSON"),
        pytest.param(f"https://app.example.com/?id_token={OURS}&a=b", True, id="within a URL"),
        pytest.param(f"%7B%22id_token%22%3A%22{OURS}%22%7D", True, id="within JSON, percent-encoded"),
        pytest.param(f"https://a.example/?next=%252Fcb%253Fid_token%253D{OURS}", True, id="within a URL in a URL"),
        pytest.param(f"next%25253D{OURS}", True, id="percent-encoded three times"),
        pytest.param(f'{{"a":"\\n{OURS}"}}', True, id="behind a line end in JSON"),
        pytest.param(f'{{"a":"\\u0022{OURS}"}}', True, id="behind an escape in JSON"),
        pytest.param(f"v1.{OURS}", True, id="after a word and a dot"),
        pytest.param(f"eyJ2IjoxfQ.{OURS}", True, id="after a word like a header and a dot"),
        pytest.param(f"eyJ2IjoxfQ.eyJ2IjoxfQ.{OURS}", True, id="after two such words"),
        pytest.param(f"{STRANGERS}.{OURS}", True, id="after another one and a dot"),
        pytest.param(f"{STRANGERS},{OURS}", True, id="after another one"),
        pytest.param(STRANGERS, False, id="somebody else's"),
        pytest.param(OURS[:-1], False, id="cut off by a character"),
        pytest.param(f"x{OURS}", False, id="within a word"),
        pytest.param("eyJh.eyJi." + "e" * 342, False, id="nothing that can be read"),
        pytest.param("app.example.com", False, id="a host"),
        pytest.param("", False, id="nothing"),
    ],
)
class TestTokensWhereverTheyStand:
    def test_in_a_header(self, value: str, holds: bool) -> None:
        sent = request(accept="*/*", x_copy=("a", value), user_agent="a.b.c")
        assert list(headers_with_tokens(sent, {POOL.issuer})) == (["x-copy"] if holds else [])
        assert list(headers_with_tokens(sent, ())) == []

    def test_in_a_cookie(self, value: str, holds: bool) -> None:
        value = value.replace(",", "%2C")
        sent = request(cookie=("a=1", f"copy={value}; b=2"))
        assert without_cookies(sent, (), {POOL.issuer}) == ("a=1; b=2" if holds else None)


# Joints of cookies, blanks among them, and what may stand between; `@` is a token of ours, wherever it stands.
BITS = ("@", "BearerToken=", "BearerToken", "copy=", "a", "b=2", "c=d,e", "=", '"', "é", ";", "; ", ",", ", ", "\t,")


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.lists(st.sampled_from(BITS), max_size=12).map("".join), max_size=3))
def test_no_token_is_ever_left_and_nothing_else_is_lost(headers: list[str]) -> None:
    sent = request(cookie=tuple(header.replace("@", OURS) for header in headers))
    left = without_cookies(sent, {"BearerToken"}, {POOL.issuer})
    if left is None:
        left = ";".join(sent.headers["cookie"])
    assert not list(headers_with_tokens(request(x=left), {POOL.issuer}))
    assert find_credential(request(cookie=left), (COOKIE,)) is None
    for cookie in ";".join(headers).split(";"):
        if "@" not in cookie and "BearerToken" not in cookie:
            assert cookie.strip(" \t") in left


def test_cookies_and_pseudo_headers_are_no_headers_to_remove() -> None:
    sent = Request("GET", "h", "/", {"cookie": (f"a={OURS}",), ":path": (f"/?t={OURS}",)})
    assert list(headers_with_tokens(sent, {POOL.issuer})) == []


@pytest.mark.parametrize(
    "hostile",
    [
        "eyJ" * 20_000,
        "eyJ." * 15_000,
        "eyJa.a." * 8_000,
        "%eyeyJ" * 10_000,
        "-." * 30_000,
        "eyJa." * 12_000,
        f"eyJ{'a' * 342}." * 173,
    ],
)
def test_the_search_is_linear_in_hostile_headers(hostile: str) -> None:
    """Sixty kilobytes, Envoy's largest: a quadratic search would take minutes and run into the test's time limit."""
    for _ in range(20):
        assert list(headers_with_tokens(request(x=hostile), {POOL.issuer})) == []
