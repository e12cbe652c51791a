"""How long a token takes to verify, and to be known again: `python -m tests.bench.micro_tokens`.

The goal is 35 µs for a Cognito access token of 1.1 KB, of which RSA itself (RS256, 2,048 bits) is about 17 µs. The
verification is the one that requests go through: peek, key by kid, signature, claims.
"""

from __future__ import annotations

import base64
from types import SimpleNamespace

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from authz.identity.cognito import Verified, peek, verify
from authz.identity.key_document import read_jwks
from authz.identity.keys import KeySet
from authz.identity.verified import VerifiedTokens, fingerprint_of
from tests.bench import messages
from tests.bench.micro_policy import measure


def main() -> None:
    pool = messages.new_pool()
    token, now = messages.reader(pool), pool.clock()
    trust = pool.trust(token_use=frozenset({"access"}))
    keys = KeySet(read_jwks(pool.jwks()).keys)

    def verified() -> Verified:
        unverified = peek(token)
        return verify(unverified, keys.keys[unverified.kid], trust, now)

    signed, _, last = token.rpartition(".")
    signature, public = base64.urlsafe_b64decode(last + "=="), pool.access_key.public_key()
    scheme, digest = padding.PKCS1v15(), hashes.SHA256()
    measure("RSA alone", lambda: public.verify(signature, signed.encode(), scheme, digest))
    measure("verify an access token", verified)
    measure("the same by PyJWT", lambda: jwt.decode(token, public, ["RS256"], issuer=pool.issuer))
    known = VerifiedTokens(max_entries=10, max_bytes=100_000)
    known.add(fingerprint_of(token), verified(), keys, SimpleNamespace(current=keys), len(token))
    assert known.find(fingerprint_of(token), now) is not None
    measure("know a verified token again", lambda: known.find(fingerprint_of(token), now))


if __name__ == "__main__":
    main()
