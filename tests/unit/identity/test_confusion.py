"""One thing read as another: a public key as a secret, a document as a token, a pool's key as another pool's."""

from __future__ import annotations

import hashlib
import hmac
import json
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authz.errors import KeysError, TokenError
from authz.identity.cognito import peek, verify
from authz.identity.key_document import read_jwks
from authz.identity.keys import KeySet
from authz.identity.verified import VerifiedTokens, fingerprint_of
from authz.model import Reason
from tests.support.user_pool import NOW, FakeUserPool, base64url, jwk, kid_of

POOL = FakeUserPool()
KEY = POOL.access_key
NUMBERS = KEY.public_key().public_numbers()
ENTRY = jwk(KEY)


def public_bytes(encoding: Encoding, form: PublicFormat) -> bytes:
    return KEY.public_key().public_bytes(encoding, form)


PEM = public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
SECRETS = {
    "PEM": PEM,
    "PEM without its last line end": PEM.rstrip(),
    "PEM in PKCS 1": public_bytes(Encoding.PEM, PublicFormat.PKCS1),
    "DER": public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "DER in PKCS 1": public_bytes(Encoding.DER, PublicFormat.PKCS1),
    "the modulus": NUMBERS.n.to_bytes(256),
    "the modulus as text": str(ENTRY["n"]).encode(),
    "the entry of the key document": json.dumps(ENTRY).encode(),
    "SSH": public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    "nothing": b"",
}


def judge(token: str, pool: FakeUserPool = POOL) -> Reason | None:
    """Give why the token is refused by the pool, whose own key is chosen by kid."""
    try:
        unverified = peek(token)
        verify(unverified, pool.keys.get(unverified.kid, pool.access_key.public_key()), pool.trust(), NOW)
    except TokenError as error:
        return error.reason
    return None


def signed_with(secret: bytes, **header: Any) -> str:
    """Sign as HS256 does, whatever the header says."""
    head = json.dumps({"kid": kid_of(KEY), **header}).encode()
    signing_input = f"{base64url(head)}.{base64url(json.dumps(POOL.access_claims()).encode())}"
    return f"{signing_input}.{base64url(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_public_key_is_no_secret(secret: bytes) -> None:
    assert judge(POOL.token()) is None
    assert judge(signed_with(secret, alg="HS256")) is Reason.TOKEN_ALGORITHM_REFUSED
    assert judge(signed_with(secret, alg="RS256")) is Reason.TOKEN_SIGNATURE_INVALID


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512", "ES256", "ES384", "PS256", "EdDSA", "dir", "RSA-OAEP"])
def test_a_good_signature_under_the_name_of_another_algorithm(alg: str) -> None:
    assert judge(POOL.token(header={"alg": alg})) is Reason.TOKEN_ALGORITHM_REFUSED


def test_a_token_that_brings_its_own_key() -> None:
    stranger = FakeUserPool(pool_id="eu-west-1_Stranger1")
    brought = {"kid": kid_of(KEY), "jwk": jwk(stranger.access_key), "jku": "https://stranger.example/jwks.json"}
    assert judge(POOL.token(key=stranger.access_key, header=brought)) is Reason.TOKEN_SIGNATURE_INVALID


HEADER, PAYLOAD, SIGNATURE = POOL.token().split(".")
FORGED = base64url(json.dumps({**POOL.access_claims(), "sub": "root"}).encode())


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(json.dumps({"payload": PAYLOAD, "signatures": []}), id="no signatures at all"),
        pytest.param(
            json.dumps({"payload": PAYLOAD, "signatures": [{"protected": HEADER, "signature": SIGNATURE}]}),
            id="the general form",
        ),
        pytest.param(
            json.dumps({"payload": PAYLOAD, "protected": HEADER, "signature": SIGNATURE}), id="the flattened form"
        ),
        pytest.param(
            f'{{"{HEADER}.{FORGED}.":"","protected":"{HEADER}","payload":"{PAYLOAD}","signature":"{SIGNATURE}"}}',
            id="a form that is compact and JSON at once",
        ),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE}.{SIGNATURE}.{SIGNATURE}", id="five parts, as JWE has"),
        pytest.param("." * 5_000_000, id="millions of dots"),
    ],
)
def test_what_is_no_compact_token(token: str) -> None:
    assert judge(token) is Reason.TOKEN_MALFORMED


def test_a_kid_is_a_name_within_its_pool_only() -> None:
    other = FakeUserPool(pool_id="eu-west-1_Attacker1")
    name = kid_of(KEY)
    theirs = other.token(header={"kid": name})
    assert judge(theirs) is Reason.TOKEN_ISSUER_UNKNOWN, "their issuer, our kid, their key"
    ours = POOL.token(key=other.access_key, header={"kid": name})
    assert judge(ours) is Reason.TOKEN_SIGNATURE_INVALID, "our issuer, our kid, their key"
    keys = read_jwks(json.dumps({"keys": [jwk(other.access_key, kid=name)]}).encode()).keys
    with pytest.raises(TokenError) as caught:
        verify(peek(POOL.token()), keys[name], other.trust(), NOW)
    assert caught.value.reason is Reason.TOKEN_ISSUER_UNKNOWN, "their keys never speak for our issuer"


def test_a_remembered_signature_stands_for_no_other_claims() -> None:
    verified = VerifiedTokens(max_entries=10, max_bytes=1_000_000)
    keys = KeySet(POOL.keys)
    token = POOL.token()
    good = verify(peek(token), KEY.public_key(), POOL.trust(), NOW)
    verified.add(fingerprint_of(token), good, keys, SimpleNamespace(current=keys), len(token))
    assert verified.find(fingerprint_of(token), NOW) is not None
    assert verified.find(fingerprint_of(f"{HEADER}.{FORGED}.{SIGNATURE}"), NOW) is None
    assert judge(f"{HEADER}.{FORGED}.{SIGNATURE}") is Reason.TOKEN_SIGNATURE_INVALID


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"kty": "EC", "crv": "P-256", "kid": "k", "x": "AA", "y": "AA"}, id="an elliptic curve"),
        pytest.param({"kty": "EC", "crv": "sect571r1", "kid": "k", "x": "AA", "y": "AA"}, id="a curve without checks"),
        pytest.param({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "AA"}, id="an Edwards curve"),
        pytest.param({"kty": "oct", "kid": "k", "k": ""}, id="an empty secret"),
    ],
)
def test_only_rsa_keys_are_keys(entry: dict[str, str]) -> None:
    with pytest.raises(KeysError, match="no usable key"):
        read_jwks(json.dumps({"keys": [entry]}).encode())
    assert set(read_jwks(POOL.jwks(entry)).keys) == set(POOL.keys)
