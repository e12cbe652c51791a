"""Who else judges tokens: PyJWT and joserfc as a careful author would call them, and why we are stricter than they."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import jwt
from joserfc import jwt as jose
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry

from authz.errors import TokenError
from authz.identity.cognito import Verified, peek, verify
from tests.support.user_pool import NOW, FakeUserPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POOL = FakeUserPool()
TRUST = POOL.trust()


def judge(token: str) -> Verified | None:
    """Ours. None: refused. Anything but a TokenError escapes and fails the test."""
    try:
        unverified = peek(token)
        key = POOL.keys.get(unverified.kid)
        return None if key is None else verify(unverified, key, TRUST, NOW)
    except TokenError:
        return None


# The oracles: PyJWT and joserfc as a careful author would call them, who then looks at token_use and the client.


@contextlib.contextmanager
def stopped_clock() -> Iterator[None]:
    """PyJWT asks the clock itself; joserfc is told."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(NOW, tz or UTC)

    with mock.patch("jwt.api_jwt.datetime", Stopped):
        yield


def pyjwt(token: str) -> bool:
    try:
        key = POOL.keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token, key, algorithms=["RS256"], issuer=POOL.issuer, options={"verify_aud": False, "verify_iss": True}
        )
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, RecursionError):
        return False  # some of these escape by mistake; refused is what counts
    return is_for_us(claims)


JOSE_KEYS = {kid: RSAKey.import_key(key) for kid, key in POOL.keys.items()}
# RFC 7515 section 4: header members that are not understood must be ignored.
JOSE_REGISTRY = JWSRegistry(algorithms=["RS256"], strict_check_header=False)
JOSE_REGISTRY.max_header_length = 64 * 1024  # its 512 is no rule of an RFC; we cap the whole token


def joserfc(token: str) -> bool:
    try:
        kid = read(token).header["kid"]
        claims = jose.decode(token, JOSE_KEYS[kid], registry=JOSE_REGISTRY).claims
        jose.JWTClaimsRegistry(now=NOW, leeway=0, iss={"essential": True, "value": POOL.issuer}).validate(claims)
    except (JoseError, KeyError, TypeError, ValueError, RecursionError, AttributeError):
        return False
    return is_for_us(claims)


def is_for_us(claims: dict[str, Any]) -> bool:
    use = claims.get("token_use")
    client_claim = {"access": "client_id", "id": "aud"}.get(use) if isinstance(use, str) else None
    return client_claim is not None and claims.get(client_claim) == POOL.client_id


# What we refuse and an oracle may accept, and why it is right to. Judged without our own code, on a lenient reading.


class Read(NamedTuple):
    token: str
    raw: tuple[bytes, bytes]  # header, payload
    header: dict[str, Any]
    claims: dict[str, Any]
    names_twice: bool


def read(token: str) -> Read:
    names_twice = False

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal names_twice
        names_twice |= len(dict(pairs)) < len(pairs)
        return dict(pairs)

    raw = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")[:2]]
    header, claims = (json.loads(part, object_pairs_hook=note) for part in raw)
    return Read(token, (raw[0], raw[1]), header, claims, names_twice)


def is_plain_utf_8(raw: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        return "\0" not in raw.decode() and not raw.startswith(b"\xef\xbb\xbf")
    return False


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def is_surrogate(value: Any) -> bool:
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)


def is_whole_seconds(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


TIMES = ("exp", "iat", "nbf")
TEXT_MEMBERS = ("typ", "cty", "jku", "x5u", "x5t", "x5t#S256")
URL_MEMBERS = ("jku", "x5u")

STRICTER: dict[str, Callable[[Read], bool]] = {
    # A cap comes before any work on what a stranger sent.
    "longer than 64 KiB": lambda it: len(it.token) > 64 * 1024,
    # RFC 7515 section 2: no padding. One token has one spelling, or deny-lists and caches can be walked around.
    "padding": lambda it: "=" in it.token,
    # RFC 8725 section 3.7: UTF-8 only. json.loads guesses UTF-16 and UTF-32 and lets surrogates through.
    "JSON in another encoding": lambda it: not all(map(is_plain_utf_8, it.raw)),
    # RFC 7519 section 4: unique names, or the last one. Another reader of the token may take the first.
    "a name twice": lambda it: it.names_twice,
    # No JSON (RFC 8259 section 6), and it compares like nothing else.
    "a number that is none": lambda it: any(map(is_not_finite, leaves([it.header, it.claims]))),
    # Cannot be written to a log or a header.
    "a lone surrogate": lambda it: any(map(is_surrogate, leaves([it.header, it.claims]))),
    # RFC 7515 section 4.1.11: an empty list is not allowed, and we understand no extension, `b64` included.
    "crit": lambda it: "crit" in it.header,
    "b64 that is not true": lambda it: it.header.get("b64", True) is not True,
    # RFC 7515 section 4.1 gives them types. Cognito sends none of them.
    "an unused header of another type": lambda it: (
        any(not isinstance(it.header.get(name, ""), str) for name in TEXT_MEMBERS)
        or any(not it.header.get(name, "https:").startswith("http") for name in URL_MEMBERS)
        or not isinstance(it.header.get("jwk", {}), dict)
        or not isinstance(it.header.get("x5c", []), list)
        or not all(isinstance(item, str) for item in it.header.get("x5c", []))
    ),
    # A token without an end would be good for ever; Cognito always says both, and who it is about.
    "exp or iat is missing": lambda it: not {"exp", "iat"} <= it.claims.keys(),
    "sub is missing or empty": lambda it: it.claims.get("sub", "") == "",
    # Cognito's are whole seconds. int() takes texts, Arabic digits, booleans, and drops fractions.
    "a time that is not whole seconds": lambda it: any(
        name in it.claims and not is_whole_seconds(it.claims[name]) for name in TIMES
    ),
    # 10**400 overflows where it meets a float.
    "a time beyond 2**53": lambda it: any(
        is_whole_seconds(it.claims.get(name)) and abs(it.claims[name]) > 2**53 for name in TIMES
    ),
    # RFC 7519 section 4.1.3. PyJWT does not look when it is told not to compare it.
    "aud that is neither text nor texts": lambda it: (
        not isinstance(it.claims.get("aud", ""), str)
        and not (isinstance(it.claims["aud"], list) and all(isinstance(item, str) for item in it.claims["aud"]))
    ),
}


def is_wider_on_purpose(it: Read) -> bool:
    """Cognito's clock is often a second ahead of ours; both oracles refuse its fresh tokens then."""
    return isinstance(it.claims["iat"], int) and 0 < it.claims["iat"] - NOW <= 60


def why_stricter(it: Read) -> set[str]:
    return {name for name, applies in STRICTER.items() if applies(it)}


def compare(token: str) -> None:
    """Fail on every disagreement that is not explained."""
    ours, theirs = judge(token) is not None, {"PyJWT": pyjwt(token), "joserfc": joserfc(token)}
    if ours and not all(theirs.values()):
        assert is_wider_on_purpose(read(token)), f"we accept what {theirs} do not: {read(token)}"
    if not ours and any(theirs.values()):
        assert why_stricter(read(token)), f"we refuse what {theirs} accept: {read(token)}"
