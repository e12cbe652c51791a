"""Request to the presented token, or none, or an error when it is not clear which token is meant.

Rules: the places are asked in their configured order and the first one that holds something counts. Two programs must
never read two tokens from one place: several values, or a comma that could join several, are refused
(RFC 9110 section 5.3 lets any proxy join repeated fields with commas, and Envoy does so before it asks us). Only SP and
HTAB are blank (RFC 9110 section 5.6.3). Nothing here says whether a token is good.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Literal, NamedTuple

from authz.errors import TokenError
from authz.identity.cognito import peek
from authz.model import Reason, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence


class TokenPlace(NamedTuple):
    """Where a token may stand.

    A header's name is in lower case. `authorization` wants the scheme Bearer, in any case; of any other header the
    whole value is the token. A cookie's name keeps its case (RFC 6265 section 5.4).
    """

    kind: Literal["header", "cookie"]
    name: str


class Credential(NamedTuple):
    """A token as it was presented, nothing checked yet, and the place where it stood."""

    token: str
    place: TokenPlace

    def __repr__(self) -> str:
        """Name the place without the token."""
        return f"Credential({self.place.kind} {self.place.name})"


def find_credential(request: Request, places: Sequence[TokenPlace]) -> Credential | None:
    """Give what the first place that holds something holds; None when all are empty.

    TokenError: `token-ambiguous` when a place may hold several tokens or there are more than MAX_COOKIES cookies,
    `token-malformed` when `Bearer` is followed by no token or by several words.
    """
    for place in places:
        token = _token_in(request, place)
        if token:
            return Credential(token, place)
    return None


def without_cookies(request: Request, names: Collection[str], issuers: Collection[str] = ()) -> str | None:
    """Give the cookie header that is left without the named cookies and those that hold a token of the issuers.

    What is left is joined with `; `. Empty when nothing is left, or when there are more than MAX_COOKIES and one may be
    among them: nobody has so many, and to look through them takes time. None when there was nothing to remove and the
    header may stay as it is.

    Where no token stands beside it a comma stays, also one that could begin a cookie: `info={"id":1,"sig":"YQ=="}` is
    one. Envoy joins nothing with commas but several cookie headers of HTTP/1, which no browser sends (RFC 6265 section
    5.4), and with `encode_raw_headers` not even those.
    """

    def is_removed(cookie: str) -> bool:
        return _cookie_name(cookie) in names or _holds_token(cookie, issuers)

    headers = request.headers.get("cookie", ())
    if not any(mark in header for header in headers for mark in (*names, _TOKEN_START)):
        return None
    if _are_too_many(headers):
        return ""
    pieces = [bare for header in headers for piece in header.split(";") if (bare := piece.strip(_BLANKS))]
    left = [rest for piece in pieces for rest in _what_is_left(piece, is_removed)]
    return None if left == pieces else "; ".join(filter(None, (rest.strip(_BLANKS) for rest in left)))


def _what_is_left(piece: str, is_removed: Callable[[str], bool]) -> Iterable[str]:
    """Give what stands before, between and after the cookies that are removed; all of it when there is none."""
    if "," not in piece:  # nearly always
        return () if is_removed(piece) else (piece,)
    return (",".join(rest) for removed, rest in groupby(_JOINED.split(piece), is_removed) if not removed)


def headers_with_tokens(request: Request, issuers: Collection[str]) -> Sequence[str]:
    """Name the headers, other than cookies, that hold a token of one of the issuers, good or not.

    Envoy's oauth2 filter, applications and clients put copies of tokens where nobody looks for credentials.
    """
    return [
        name
        for name, values in request.headers.items()
        if name != "cookie" and not name.startswith(":") and any(_holds_token(value, issuers) for value in values)
    ]


# A compact RS256 token: its header is a JSON object, its signature has at least 2048 bits. So long a signature bounds
# how many a hostile header can hold, and one starts only where a word does, or behind an escape such as `%22`, `%2522`
# (an address in an address), `\n` or `\u0022`: linear in the header's length. What must stand in front is asked last,
# because a pattern that begins with a text is searched for five times as fast.
_TOKEN_START = "eyJ"  # noqa: S105 - `{"` in base64url, how every token begins
_IN_FRONT = (
    r"(?<![\w-]@)", "(?<=%[0-9A-Fa-f]{2}@)", "(?<=%25[0-9A-Fa-f]{2}@)", "(?<=%2525[0-9A-Fa-f]{2}@)",
    r"(?<=\\[bfnrt]@)", r"(?<=\\u[0-9A-Fa-f]{4}@)",
)  # fmt: skip
_STARTS = f"{_TOKEN_START}(?:{'|'.join(_IN_FRONT)})".replace("@", _TOKEN_START)
# Only that text is taken and the rest looked at: in `eyJ2IjoxfQ.eyJh….eyJz….…` a word, the token's header and its long
# payload look like a token, too, and to go on behind them would miss it. A part is looked at three times at most.
_COMPACT_TOKEN = re.compile(rf"{_STARTS}(?=([\w-]++\.[\w-]++\.[\w-]{{342,}}+))", re.ASCII)


def _holds_token(text: str, issuers: Collection[str]) -> bool:
    if _TOKEN_START not in text:  # nearly always, and a long text takes the search some time
        return False
    return any(_issuer(_TOKEN_START + rest) in issuers for rest in _COMPACT_TOKEN.findall(text))


def _issuer(token: str) -> str:
    try:
        return peek(token).issuer
    except TokenError:
        return ""


_BLANKS = " \t"


def _token_in(request: Request, place: TokenPlace) -> str:
    if place.kind == "cookie":
        return _cookie_token(request, place.name)
    values = request.headers.get(place.name)
    if values is None:
        return ""
    if len(values) > 1:
        raise TokenError(Reason.TOKEN_AMBIGUOUS, f"{len(values)} `{place.name}` headers")
    value = values[0] if values else ""
    return _bearer_token(value) if place.name == "authorization" else _whole_value(value, place.name)


def _bearer_token(value: str) -> str:
    if value.startswith("Bearer ") and (token := value[7:]) and not ("," in token or " " in token or "\t" in token):
        return token  # as nearly everybody writes it
    if "," in value:
        _refuse_joined_bearer(value)
        return ""  # another scheme alone; Digest separates its parameters with commas
    scheme, _, token = value.strip(_BLANKS).replace("\t", " ").partition(" ")
    if not _is_bearer(scheme):
        return ""
    token = token.lstrip(" ")
    if not token:
        raise TokenError(Reason.TOKEN_MALFORMED, "`Bearer` without a token")
    if " " in token:
        raise TokenError(Reason.TOKEN_MALFORMED, "more than one word after `Bearer`")
    return token


def _refuse_joined_bearer(value: str) -> None:
    """Refuse `Bearer A,Bearer B`, which is how two Authorization lines arrive, and all that looks like it."""
    if _JOINED_BEARER.search(value):
        raise TokenError(Reason.TOKEN_AMBIGUOUS, "a comma in an `authorization` header with a Bearer token")


_JOINED_BEARER = re.compile(r"(?:^|,)[ \t]*bearer", re.IGNORECASE | re.ASCII)


def _is_bearer(scheme: str) -> bool:
    # No character outside ASCII has a lower-case form among these six letters (the Kelvin sign is a K, not here).
    return scheme.lower() == "bearer"


def _whole_value(value: str, name: str) -> str:
    if "," in value:
        raise TokenError(Reason.TOKEN_AMBIGUOUS, f"a comma in the `{name}` header")
    return value.strip(_BLANKS)


# Envoy joins repeated cookie headers of HTTP/1 with a comma in its default encoding. A comma begins a new cookie only
# when a name and `=` follow: `theme=a,b` is one cookie.
_JOINED = re.compile(r",(?=[^;,=]*=)")
_COOKIE_END = re.compile(f";|{_JOINED.pattern}")


MAX_COOKIES = 512
"""Browsers keep at most 180 for a site (Chromium; Firefox 150), and send no more."""


def _are_too_many(headers: Sequence[str]) -> bool:
    left = MAX_COOKIES
    for header in headers:
        left -= len(_COOKIE_END.split(header, left + 1))
        if left < 0:
            return True
    return False


def _cookies(headers: Sequence[str]) -> Iterator[str]:
    """Give every cookie as `name=value`, from all cookie headers, blanks around it removed."""
    for header in headers:
        for cookie in _COOKIE_END.split(header):
            if bare := cookie.strip(_BLANKS):
                yield bare


def _cookie_name(cookie: str) -> str:
    return cookie.partition("=")[0].strip(_BLANKS)


def _cookie_token(request: Request, name: str) -> str:
    """Give the cookie's value. A browser sends one name twice when two paths or domains set it."""
    headers = request.headers.get("cookie", ())
    if not any(name in header for header in headers):
        return ""
    if _are_too_many(headers):
        raise TokenError(Reason.TOKEN_AMBIGUOUS, f"more than {MAX_COOKIES} cookies")
    values = {_cookie_value(cookie) for cookie in _cookies(headers) if _cookie_name(cookie) == name}
    values.discard("")
    if len(values) > 1:
        raise TokenError(Reason.TOKEN_AMBIGUOUS, f"{len(values)} different `{name}` cookies")
    return values.pop() if values else ""


def _cookie_value(cookie: str) -> str:
    value = cookie.partition("=")[2].strip(_BLANKS)
    is_quoted = len(value) >= 2 and value[0] == value[-1] == '"'
    return value[1:-1] if is_quoted else value
