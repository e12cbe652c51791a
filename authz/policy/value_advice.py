"""Values that nothing can equal, and endings that a stranger's name can have too.

Under `not` and its like such a value opens a door in silence, where under `is` it only keeps one shut. So every value
is looked at, whatever its operator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from unicodedata import category

from authz.errors import RequestError
from authz.node import shorten
from authz.policy.path import check_method

NEGATIVE: Final = frozenset({"not", "not_in", "exclude"})
"""The operators that hold for whatever is not named."""


def odd_value(kind: str, operator: str, text: str, *, plain: bool) -> str | None:
    """Say why nothing equals a value of a criterion, and what to write; None when something may.

    `kind`: the criterion's name without its claim; `plain`: it stands in `allowed_users` and its like.
    """
    shown = f"`{shorten(text)}`"
    instead = _without_star(kind, operator, text, plain=plain) if "*" in (text[:1], text[-1:]) else None
    if instead is not None:
        return f"the `*` in {shown} is an ordinary character here: {instead}"
    hidden = None if text.isascii() else _hardly_seen(text)
    if hidden is not None:
        return hidden
    if kind in _COMPARED_WHOLE and text != text.strip():
        return f"{shown} begins or ends with a blank, and values are compared whole: leave the blank out"
    several = _SEVERAL.get(kind)
    if several is not None and _BETWEEN.search(text):
        return f"{shown} is {several}: write each by itself, [{', '.join(_BETWEEN.split(text)[:3])}]"
    if kind == "user" and "@" in text and not plain:
        return f"{shown} is nobody, because the user id is the claim `sub` and never an address: write `email: {text}`"
    if kind == "http_method" and text == text.upper() and not _is_method(text):
        return f"{shown} is no request's method: write a method's name, such as `DELETE`"
    return None


def _hardly_seen(text: str) -> str | None:
    bare = unquoted(text)
    if bare is not None:
        quotes = "are part of the value, because YAML knows plain ones only"
        return f"the quotes around `{shorten(text)}` {quotes}: write `{shorten(bare)}`"
    visible = "".join(f"\\u{ord(char):04x}" if category(char) == _INVISIBLE else char for char in text)
    if visible != text:
        return f"`{shorten(visible)}` holds a character that nobody sees: leave it out, unless it is meant"
    return None


def unquoted(text: str) -> str | None:
    """Give what stands between a word processor's quotes; None where there are none around the text."""
    return text[1:-1] if len(text) > 2 and text[0] in _QUOTES and text[-1] in _QUOTES else None


_QUOTES: Final = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a"


def _is_method(text: str) -> bool:
    try:
        check_method(text)
    except RequestError:
        return False
    return True


def look_alike(kind: str, operator: str, text: str) -> str | None:
    """Say who else has a domain or an address like this one, and what to write; None when nobody does."""
    shown = f"`{shorten(text)}`"
    if kind == "domain" and operator == "ends_with" and not text.startswith("."):
        return f"`evil-{text}` ends with {shown} too: write {{in: [{text}]}}, or {{ends_with: .{text}}}"
    if kind == "domain" and operator in ("contains", "starts_with"):
        return f"a stranger can have a domain that {_WORDS[operator]} {shown}: write {{in: […]}} with whole domains"
    if kind == "email" and operator == "ends_with" and "@" not in text and not text.startswith("."):
        return f"`eve@evil-{text}` ends with {shown} too: write {{ends_with: '@{text}'}}"
    if kind == "email" and operator == "contains" and text.startswith("@"):
        return f"`eve{text}.evil.example` holds {shown} too: write `domain: {text[1:] or 'DOMAIN'}`"
    return None


_WORDS: Final[Mapping[str, str]] = {"contains": "contains", "starts_with": "starts with"}
_BETWEEN: Final = re.compile(r"\s*,\s*|\s+")
_COMPARED_WHOLE: Final = frozenset({"user", "email", "domain", "claim", "groups", "client_id", "issuer", "scope"})
_INVISIBLE: Final = "Cf"  # Unicode's format characters, such as U+200B
_SEVERAL: Final[Mapping[str, str]] = {
    "http_method": "no request's method",
    "scope": "no scope, because scopes are told apart by blanks",
    "domain": "no domain",
    "email": "no e-mail address",
    "client_id": "no app client",
    "token_use": "no use of a token",
}


def _without_star(kind: str, operator: str, text: str, *, plain: bool) -> str | None:
    """Say what to write for a value with a star; None where stars mean what they say."""
    if kind in ("user", "email"):
        domain = text.removeprefix("*@")
        if plain:
            return _FOR_MANY_PLAINLY
        if domain != text and "*" not in domain:
            return f"write `domain: {domain}`"
        return "write `domain: DOMAIN` for a whole domain, or `authenticated_user: true` for whoever signed in"
    if kind == "domain":
        return "write {ends_with: .DOMAIN}" + (" under `policy:`" if plain else "")
    if kind in _BY_PREFIX and operator in NEGATIVE:
        return "write {starts_with: …} in a deny rule"
    return _BY_PREFIX.get(kind) or _ONE_BY_ONE.get(kind)


_FOR_MANY_PLAINLY: Final = (
    "write `allowed_domains` for a whole domain, or `allow_any_authenticated_user: true` for everyone"
)
_BY_PREFIX: Final[Mapping[str, str]] = {"scope": "write {starts_with: …}", "http_path": "write {starts_with: …}"}
_ONE_BY_ONE: Final[Mapping[str, str]] = {
    "claim": "write each value",
    "groups": "write each group",
    "client_id": "write each app client",
    "http_method": "write each method",
}
