"""Token, key and time to a Principal, or a TokenError that carries its Reason.

In two steps, because the key is chosen in between: `peek` reads just enough of an unverified token to choose its pool
and key; `verify` checks the signature and then every claim. Only what `verify` returns may be trusted.

    peek    1  at most 64 KiB
            2  exactly three parts (RFC 7515 section 7.1), each in canonical base64url: no padding, no foreign
               character, no stray bits in the last character, so that one token has one spelling
            3  the header is strict JSON, `alg` is RS256, there is no `crit`, `kid` is text. `jku`, `jwk`, `x5u`, `x5c`
               and their like are never used (RFC 8725 section 3.10), but must be of their JSON type
            4  the payload is strict JSON and `iss` is text
    verify  5  the issuer is one of the pool's, compared whole
            6  RSA key of at least 2048 bits, and the signature over the parts as they were sent
            7  every required claim is there, and every claim has its JSON type
            8  `token_use` is one that the pool accepts
            9  the app client is one that the pool accepts: `client_id` of an access token, `aud` of an ID token
           10  the times: before `exp`, not before `nbf`, `iat` at most a minute ahead

Strict JSON is what `strict_json.py` reads; header and payload are objects.
Of the claims that are not required, those that RFC 7519 gives a type must have it; the others are not checked here:
policies compare them exactly, with their types.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from authz.errors import TokenError
from authz.identity.claims import address_of
from authz.identity.strict_json import parse_json
from authz.model import MAX_CLAIM_SECONDS, MAX_CLOCK_AHEAD, Json, Principal, Reason, SignedClaims

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

# Characters. A user may be in 100 groups with names of 128 letters: 18,000 characters where a letter is one byte, some
# 50,000 where it is three. Envoy lets 60 KiB of headers through, unless told otherwise. The worst token of that length
# that a stranger can make takes 2.5 ms to read.
MAX_TOKEN_LENGTH: Final = 64 * 1024
MIN_KEY_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class UserPool:
    """What a token of one Cognito user pool must be like."""

    issuers: tuple[str, ...]
    clients: frozenset[str] | None  # app client ids; None: every client, because `any` was written out
    token_use: frozenset[str]  # of `access` and `id`
    leeway: float  # seconds of tolerance for exp and nbf
    trust_unverified_email: bool
    label: str  # the pool id, or the first issuer


class UnverifiedToken(NamedTuple):
    """What `peek` read. None of it is true yet; `issuer` and `kid` serve to choose a key, the rest is for `verify`."""

    issuer: str
    kid: str
    signing_input: bytes
    signature: bytes
    unverified_claims: Mapping[str, Json]

    def __repr__(self) -> str:
        """Show nothing: all of it is a credential or was written by a stranger."""
        return "UnverifiedToken(…)"


class Verified(NamedTuple):
    """A principal, and the seconds since 1970 for which that holds: `valid_from <= now < valid_until`."""

    principal: Principal
    valid_from: float
    valid_until: float


def peek(token: str) -> UnverifiedToken:
    """Read an unverified token far enough to choose its key: steps 1 to 4.

    TokenError: `token-malformed`, `token-algorithm-refused`, or `token-issuer-unknown` without an issuer.
    """
    # 1
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenError(Reason.TOKEN_MALFORMED, f"{len(token)} characters long, at most {MAX_TOKEN_LENGTH}")
    # 2
    header, payload, signature, signing_input = _parts(token)
    signature_bytes = _decode(signature, "signature")
    # 3
    kid = _kid(header)
    # 4
    unverified_claims = _parse_object(_decode(payload, "payload"), "payload")
    issuer = unverified_claims.get("iss")
    if not isinstance(issuer, str):
        raise TokenError(Reason.TOKEN_ISSUER_UNKNOWN, "`iss` is missing or not text")
    return UnverifiedToken(issuer, kid, signing_input, signature_bytes, unverified_claims)


def verify(unverified: UnverifiedToken, key: RSAPublicKey, pool: UserPool, now: float) -> Verified:
    """Check signature and claims at `now` (seconds since 1970): steps 5 to 10. `key` is the pool's, under this kid.

    TokenError: `token-issuer-unknown`, `token-signature-invalid`, `token-claim-invalid`, `token-use-refused`,
    `token-client-refused`, `token-expired`, `token-not-yet-valid`.
    """
    # 5
    if unverified.issuer not in pool.issuers:
        raise TokenError(Reason.TOKEN_ISSUER_UNKNOWN, f"the issuer is not one of pool {pool.label}")
    # 6
    _check_signature(unverified, key)
    return _check_claims(unverified, pool, now)


def error_but_for_the_signature(unverified: UnverifiedToken, pool: UserPool, now: float) -> TokenError | None:
    """Tell what else would refuse this token, were its signature good. It makes nobody known: for explanations only."""
    try:
        _check_claims(unverified, pool, now)
    except TokenError as error:
        return error
    return None


def _check_claims(unverified: UnverifiedToken, pool: UserPool, now: float) -> Verified:
    claims: SignedClaims = unverified.unverified_claims
    # 7
    subject, token_use = _text(claims, "sub"), _text(claims, "token_use")
    exp, iat = _seconds(claims, "exp"), _seconds(claims, "iat")
    nbf = _seconds(claims, "nbf") if "nbf" in claims else None
    _check_optional(claims)
    client_claim = _CLIENT_CLAIM.get(token_use)
    client_id = _text(claims, client_claim) if client_claim else ""
    # 8
    if not client_claim or token_use not in pool.token_use:
        accepted = ", ".join(sorted(pool.token_use))
        raise TokenError(Reason.TOKEN_USE_REFUSED, f"token_use is `{_printable(token_use)}`, accepted: {accepted}")
    # 9
    if pool.clients is not None and client_id not in pool.clients:
        raise TokenError(Reason.TOKEN_CLIENT_REFUSED, f"`{client_claim}` is not an app client of pool {pool.label}")
    # 10
    valid_from = iat - MAX_CLOCK_AHEAD if nbf is None else max(nbf - pool.leeway, iat - MAX_CLOCK_AHEAD)
    valid_until = exp + pool.leeway
    if not now < valid_until:  # so written that a time that is no number passes neither check
        raise TokenError(Reason.TOKEN_EXPIRED, f"expired {now - exp:.0f} s ago")
    if not valid_from <= now:
        raise TokenError(Reason.TOKEN_NOT_YET_VALID, f"not valid for another {valid_from - now:.0f} s")
    email, email_is_unverified = address_of(claims, trust_unverified=pool.trust_unverified_email)
    principal = Principal(subject, unverified.issuer, client_id, token_use, claims, email, email_is_unverified, iat)
    return Verified(principal, valid_from, valid_until)


# Access tokens carry no `aud`, or the URL of a resource; ID tokens carry no `client_id`.
# docs.aws.amazon.com/cognito: "Verifying JSON web tokens".
_CLIENT_CLAIM: Final[Mapping[str, str]] = {"access": "client_id", "id": "aud"}


def _parts(token: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Give header, payload and signature as they were sent, and the first two together."""
    try:
        raw = token.encode("ascii")
    except UnicodeEncodeError:
        raise TokenError(Reason.TOKEN_MALFORMED, "a character outside ASCII") from None
    signing_input, _, signature = raw.rpartition(b".")
    header, dot, payload = signing_input.partition(b".")
    if not dot or b"." in payload:
        raise TokenError(Reason.TOKEN_MALFORMED, f"{token.count('.') + 1} parts instead of 3")
    return header, payload, signature, signing_input


# base64url to base64; what base64 knows and base64url does not becomes foreign to both.
_TO_BASE64: Final = bytes.maketrans(b"-_+/=", b"+/!!!")

# By length modulo 4: the padding to add, and the last characters whose unused bits are zero. One left over is none.
_ENDINGS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
    (b"", b""),
    (b"==", b"AQgw"),
    (b"=", b"AEIMQUYcgkosw048"),
)


def _decode(part: bytes, what: str) -> bytes:
    """Decode canonical base64url (RFC 4648 section 5, RFC 7515 section 2)."""
    padding, last_characters = _ENDINGS[len(part) % 4]
    if part[-1:] not in last_characters:
        raise TokenError(Reason.TOKEN_MALFORMED, f"the {what} is not canonical base64url")
    try:
        return binascii.a2b_base64(part.translate(_TO_BASE64) + padding, strict_mode=True)
    except binascii.Error:
        raise TokenError(Reason.TOKEN_MALFORMED, f"the {what} is not base64url") from None


@lru_cache(maxsize=64)  # a pool signs with two headers; errors are not kept
def _kid(part: bytes) -> str:
    """Check the header and give its kid, an opaque text."""
    header = _parse_object(_decode(part, "header"), "header")
    if header.get("alg") != "RS256":
        raise TokenError(Reason.TOKEN_ALGORITHM_REFUSED, "`alg` is not RS256")
    if "crit" in header:
        raise TokenError(Reason.TOKEN_MALFORMED, "`crit` asks for an extension, and we know none")
    if header.get("b64", True) is not True:  # RFC 7797: other bytes than those we check would be signed
        raise TokenError(Reason.TOKEN_MALFORMED, "`b64` is not true")
    for name, has_its_type in _UNUSED_MEMBERS.items():
        if name in header and not has_its_type(header[name]):
            raise TokenError(Reason.TOKEN_MALFORMED, f"`{name}` is not of its type")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise TokenError(Reason.TOKEN_MALFORMED, "`kid` is missing or not text")
    return kid


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_url(value: Json) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://"))


def _is_object(value: Json) -> bool:
    return isinstance(value, dict)


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


# RFC 7515 section 4.1. Cognito sends none of them, so a wrong one is nobody's mistake.
_UNUSED_MEMBERS: Final[Mapping[str, Callable[[Json], bool]]] = {
    **dict.fromkeys(("typ", "cty", "x5t", "x5t#S256"), _is_text),
    **dict.fromkeys(("jku", "x5u"), _is_url),
    "jwk": _is_object,
    "x5c": _are_texts,
}


def _check_signature(unverified: UnverifiedToken, key: RSAPublicKey) -> None:
    if key.key_size < MIN_KEY_BITS:  # key_document.py refuses such keys too; this is the last door
        raise TokenError(Reason.TOKEN_SIGNATURE_INVALID, f"the key has less than {MIN_KEY_BITS} bits")
    try:
        key.verify(unverified.signature, unverified.signing_input, _PADDING, _HASH)
    except InvalidSignature:
        raise TokenError(Reason.TOKEN_SIGNATURE_INVALID, "the signature does not match") from None


_PADDING: Final = PKCS1v15()
_HASH: Final = SHA256()


def _text(claims: SignedClaims, name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise TokenError(Reason.TOKEN_CLAIM_INVALID, f"`{name}` is missing, empty or not text")
    return value


def _seconds(claims: SignedClaims, name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or abs(value) > MAX_CLAIM_SECONDS:  # not isinstance: true is an int to it
        raise TokenError(Reason.TOKEN_CLAIM_INVALID, f"`{name}` is missing or not a whole number of seconds")
    return value


def _check_optional(claims: SignedClaims) -> None:
    """Check the types that RFC 7519 sections 4.1.3 and 4.1.7 give to claims that Cognito may leave out."""
    audience = claims.get("aud", "")
    if not _is_text(audience) and not _are_texts(audience):
        raise TokenError(Reason.TOKEN_CLAIM_INVALID, "`aud` is neither text nor a list of texts")
    if not _is_text(claims.get("jti", "")):
        raise TokenError(Reason.TOKEN_CLAIM_INVALID, "`jti` is not text")


def _printable(text: str) -> str:
    """Make a text that others wrote fit for a log: short, ASCII, no control characters."""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:20])


def _parse_object(data: bytes, what: str) -> dict[str, Json]:
    """Read strict JSON that is an object."""
    try:
        value = parse_json(data)
    except ValueError:
        raise TokenError(Reason.TOKEN_MALFORMED, f"the {what} is not strict JSON") from None
    if type(value) is not dict:
        raise TokenError(Reason.TOKEN_MALFORMED, f"the {what} is not a JSON object")
    return value
