"""The document that lists an issuer's keys, a JWKS (RFC 7517): from bytes to the keys that may verify a token.

Rule: a document is taken whole or refused whole. Only its unusable keys are left out one by one, as other issuers list
them beside ours (RFC 7517 section 5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm
from jwt.exceptions import PyJWTError

from authz.errors import KeysError
from authz.identity.strict_json import parse_json
from authz.model import Json

MAX_KEYS: Final = 50
MAX_KID_LENGTH: Final = 256
MIN_MODULUS_BITS: Final = 2048
MAX_MODULUS_BITS: Final = 8192  # the cost of a verification grows with it
MIN_EXPONENT: Final = 65_537
MAX_EXPONENT_BITS: Final = 256  # NIST FIPS 186-5, A.1.1

_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})  # RFC 7518 section 6.3.2
_BASE64URL = re.compile(r"[A-Za-z0-9_-]{1,1400}", re.ASCII)  # 8192 bits are 1366 characters


class KeyDocument(NamedTuple):
    """A JWKS (RFC 7517) as read: its usable keys by kid, at least one, and why the others are not."""

    keys: Mapping[str, RSAPublicKey]
    refused: tuple[str, ...]  # `key 2: …`, by place; no value of the document


def read_jwks(document: bytes) -> KeyDocument:
    """Read a JWKS and say which keys were left out. Raises KeysError when the whole document is refused."""
    keys: dict[str, RSAPublicKey] = {}
    refused = []
    for number, entry in enumerate(_entries(document), 1):
        try:
            kid, key = _usable(entry)
        except KeysError as unusable:
            refused.append(f"key {number}: {unusable}")
            continue
        if keys.setdefault(kid, key) != key:
            raise KeysError(f"key {number}: its `kid` already stands for another key")
    if not keys:
        raise KeysError("; ".join(["no usable key", *refused[:3]]))
    return KeyDocument(MappingProxyType(keys), tuple(refused))


def _entries(document: bytes) -> list[Json]:
    try:
        content = parse_json(document)
    except ValueError:
        raise KeysError("not strict JSON") from None
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise KeysError("not an object with a list `keys`")
    if len(entries) > MAX_KEYS:
        raise KeysError(f"{len(entries)} keys, at most {MAX_KEYS} are read")
    return entries


def _usable(entry: Json) -> tuple[str, RSAPublicKey]:
    """Give kid and key of an entry that may verify RS256. Raises KeysError with the first thing that speaks against."""
    if not isinstance(entry, dict):
        raise KeysError("not an object")
    kid = entry.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_LENGTH:
        raise KeysError(f"`kid` is not a text of 1 to {MAX_KID_LENGTH} characters")
    if entry.get("kty") != "RSA":
        raise KeysError("`kty` is not RSA")
    if entry.get("alg", "RS256") != "RS256":
        raise KeysError("`alg` is not RS256")
    if entry.get("use", "sig") != "sig":
        raise KeysError("`use` is not sig")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise KeysError("`key_ops` does not hold verify")
    if not _PRIVATE_MEMBERS.isdisjoint(entry):
        raise KeysError("it holds private members: whoever reads the document can sign")
    return kid, _public_key(entry.get("n"), entry.get("e"))


def _public_key(n: Json, e: Json) -> RSAPublicKey:
    # PyJWT's base64 skips foreign characters; two programs would read two numbers.
    if not all(isinstance(number, str) and _BASE64URL.fullmatch(number) for number in (n, e)):
        raise KeysError("`n` or `e` is not base64url")
    try:
        key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": n, "e": e})
    except (PyJWTError, ValueError, UnsupportedAlgorithm):
        raise KeysError("`n` and `e` are no RSA key") from None
    if not isinstance(key, RSAPublicKey):
        raise KeysError("not a public key")
    if not MIN_MODULUS_BITS <= key.key_size <= MAX_MODULUS_BITS:
        raise KeysError(f"{key.key_size} bits, not {MIN_MODULUS_BITS} to {MAX_MODULUS_BITS}")
    exponent = key.public_numbers().e  # that it is odd was checked when the key was made
    if exponent < MIN_EXPONENT or exponent.bit_length() > MAX_EXPONENT_BITS:
        raise KeysError(f"its exponent is below {MIN_EXPONENT} or over {MAX_EXPONENT_BITS} bits")
    return key
