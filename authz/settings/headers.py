"""Where tokens are found, and which headers upstreams get: `tokens`, `identity_headers` and what Pomerium calls it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from authz.errors import Severity
from authz.identity.credentials import TokenPlace
from authz.node import Fields, Items, Node, Problems, Scalar, describe
from authz.reading import text_of
from authz.settings.types import DEFAULT_IDENTITY_HEADERS, IdentityHeaders, Settings
from authz.settings.values import Section, claim_names_of, map_of, section_of

# RFC 9110 section 5.6.2; a cookie's name is the same (RFC 6265 section 4.1.1).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _cookie(node: Node, name: str, problems: Problems) -> str | None:
    text = text_of(node, name, problems)
    if text is not None and not _TOKEN.fullmatch(text):
        problems.error(node, f"{name}: found {describe(node)}, expected a name of letters, digits and `-`")
        return None
    return text


def header_of(node: Node, name: str, problems: Problems) -> str | None:
    """Read a header's name, in lower case."""
    text = _cookie(node, name, problems)
    return None if text is None else text.lower()


def tokens_of(node: Node, name: str, problems: Problems) -> tuple[TokenPlace, ...] | None:
    """Read the places of tokens, in the order in which they are looked at."""
    if not isinstance(node, Items) or not node.items:
        expected = "a list of places, such as - header: authorization"
        problems.error(node, f"{name}: found {describe(node)}, expected {expected}")
        return None
    places: list[TokenPlace] = []
    for number, item in enumerate(node):
        place = _token_place(item, f"{name}[{number}]", problems, "expected one: start another entry with `-`")
        if place in places:
            problems.error(item, f"{name}[{number}]: the {place.kind} `{place.name}` is there twice: delete one")
        elif place is not None:
            places.append(place)
    return tuple(places)


def enrich_from_of(node: Node, name: str, problems: Problems) -> TokenPlace | None:
    """Read the one place of the ID token that adds its claims to an access token."""
    return _token_place(node, name, problems, "expected one, such as {header: x-auth-id-token}")


def refuse_useless_enrichment(root: Section, settings: Settings) -> None:
    """Refuse an `enrich_from` that could never add a claim."""
    node, place = root.node("enrich_from"), settings.enrich_from
    if node is None or place is None:
        return
    if place in settings.tokens:
        message = f"the {place.kind} `{place.name}` is in `tokens` too: an ID token that adds claims is no credential"
        root.problems.error(node, f"enrich_from: {message}; delete it from one of them")
    if settings.pools and not any("access" in pool.pool.token_use for pool in settings.pools):
        message = "it adds claims to access tokens, and no user pool accepts them"
        root.problems.error(node, f"enrich_from: {message}: write `token_use: [access]`, or delete this")


def _token_place(node: Node, name: str, problems: Problems, advice: str) -> TokenPlace | None:
    section = section_of(node, name, ("header", "cookie"), problems)
    if section is None:
        return None
    header = section.read("header", _token_header, None)
    cookie = section.read("cookie", _cookie, None)
    kinds = [kind for kind in ("header", "cookie") if section.node(kind) is not None]
    if len(kinds) == 2 or not section.fields.entries:
        found = "`header` and `cookie` together" if kinds else "neither `header` nor `cookie`"
        problems.error(node, f"{name}: found {found}, {advice}")
    if header is not None:
        return TokenPlace("header", header)
    return None if cookie is None else TokenPlace("cookie", cookie)


def _token_header(node: Node, name: str, problems: Problems) -> str | None:
    header = header_of(node, name, problems)
    if header == "cookie":
        problems.error(
            node, f"{name}: the header `cookie` holds many values: write `cookie: <its name>` for one of them"
        )
        return None
    return header


_HOP_BY_HOP: Final = "it belongs to one connection (RFC 9110 section 7.6.1)"
_REFUSED_HEADERS: Final[Mapping[str, str]] = {
    "connection": _HOP_BY_HOP,
    "keep-alive": _HOP_BY_HOP,
    "proxy-authenticate": _HOP_BY_HOP,
    "proxy-authorization": _HOP_BY_HOP,
    "proxy-connection": _HOP_BY_HOP,
    "te": _HOP_BY_HOP,
    "trailer": _HOP_BY_HOP,
    "transfer-encoding": _HOP_BY_HOP,
    "upgrade": _HOP_BY_HOP,
    "host": "it decides where the request goes",
    "content-length": "it decides where the request ends",
    "authorization": "it holds the caller's credential",
    "cookie": "it holds the caller's cookies",
}


_PUNCTUATION: Final = re.compile(r"[^a-z0-9]")


def _folded(header: str) -> str:
    """Fold names that some servers cannot tell apart: for CGI's heirs all but letters and digits is one character."""
    return _PUNCTUATION.sub("-", header)


def _identity_headers(node: Node, name: str, problems: Problems) -> IdentityHeaders | None:
    fields = map_of(node, name, "of headers to claims, such as {x-auth-user: sub}", problems)
    if fields is None:
        return None
    headers: dict[str, tuple[str, ...]] = {}
    owners: dict[str, str] = {}  # folded name → as it was written
    for key, value in fields.entries:
        claims = claim_names_of(value, f"{name}.{key.text}", problems)
        header = _identity_header(key, name, problems)
        if header is None or claims is None:
            continue
        owner = owners.setdefault(_folded(header), key.text)
        if owner != key.text:
            problems.error(key, f"{name}.{key.text}: the same header as `{owner}`: delete one")
        headers[header] = claims
    return tuple(headers.items())


def _identity_header(node: Scalar, name: str, problems: Problems) -> str | None:
    if node.text.startswith(":"):
        problems.error(node, f"{name}.{node.text}: refused, because Envoy lets nobody set a pseudo-header")
        return None
    header = header_of(node, name, problems)
    why = None if header is None else _REFUSED_HEADERS.get(_folded(header))
    if why:
        problems.error(node, f"{name}.{node.text}: refused, because {why}: use another header")
        return None
    return header


POMERIUM_CLAIMS: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    ("groups",): ("cognito:groups", "groups"),
    ("user",): ("user", "sub"),
}
"""What is in every JWT of Pomerium's, and where Cognito's tokens have it: the first that is there counts."""


def _pomerium_headers(node: Node, name: str, problems: Problems) -> IdentityHeaders | None:
    """Read Pomerium's `jwt_claims_headers`: a map as ours, or claim names that each give `x-pomerium-claim-<name>`.

    `groups` and `user` are what Pomerium means by them.
    """
    headers = _written_headers(node, name, problems)
    if headers is None:
        return None
    # A list of several claims is no Pomerium's: it says itself where to look.
    return tuple((header, POMERIUM_CLAIMS.get(claims, claims)) for header, claims in headers)


def _written_headers(node: Node, name: str, problems: Problems) -> IdentityHeaders | None:
    if isinstance(node, Fields):
        return _identity_headers(node, name, problems)
    items: Sequence[Node]
    if isinstance(node, Items):
        items = node.items
    elif isinstance(node.value, str):
        items = [Scalar(node.source, word, word) for word in re.split(r"[, \t]+", node.value) if word]
    else:
        problems.error(node, f"{name}: found {describe(node)}, expected a map of headers to claims")
        return None
    headers: dict[str, tuple[str, ...]] = {}
    for item in items:
        claim = text_of(item, name, problems)
        if claim is None:
            continue
        header = f"x-pomerium-claim-{claim.lower()}"
        if not _TOKEN.fullmatch(claim):
            advice = f"write a map, {name}: {{x-pomerium-claim-…: {claim}}}"
            problems.error(item, f"{name}: `x-pomerium-claim-{claim}` is not a possible header name: {advice}")
        elif header in headers:
            problems.error(item, f"{name}: `{header}` is there twice: delete one")
        else:
            headers[header] = (claim,)
    return tuple(headers.items())


def read_identity_headers(root: Section) -> IdentityHeaders:
    """Read `identity_headers`, or what Pomerium has for it."""
    ours = root.read("identity_headers", _identity_headers, DEFAULT_IDENTITY_HEADERS)
    theirs = root.node("jwt_claims_headers")
    if theirs is None:
        return ours
    headers = root.read("jwt_claims_headers", _pomerium_headers, DEFAULT_IDENTITY_HEADERS)
    if root.node("identity_headers") is not None:
        root.problems.error(
            theirs, "jwt_claims_headers: `identity_headers` is there too and means the same: delete one"
        )
    if root.node("pass_identity_headers") is None:
        message = "without `pass_identity_headers` they are passed on here, and not by Pomerium: write it out"
        root.problems.warn(theirs.source, f"jwt_claims_headers: {message}", Severity.NOTE)
    return headers


def refuse_shared_headers(root: Section, settings: Settings) -> None:
    """Refuse an identity header that is looked into for something else: it is overwritten."""
    identity = {_folded(header) for header, _ in settings.identity_headers}
    tokens = [place.name for place in settings.tokens if place.kind == "header"]
    id_token = settings.enrich_from
    inputs = [("tokens", header) for header in tokens] + [
        ("enrich_from", id_token.name if id_token is not None and id_token.kind == "header" else ""),
        ("client_ip_header", settings.client_ip_header or ""),
    ]
    for key, header in inputs:
        node = root.node(key)
        if node is not None and _folded(header) in identity:
            message = f"`{header}` is an identity header too, and those are overwritten: use another name for one"
            root.problems.error(node, f"{key}: {message}")
