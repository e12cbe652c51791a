"""A small Cognito of our own: it mints tokens in Cognito's exact shapes, and every kind of wrong one.

    pool = FakeUserPool()
    pool.token(groups=["admins"])                  a good access token of a person
    pool.id_token(email="a@example.com")           a good ID token
    pool.machine_token(scope="orders/read")        of a client-credentials grant
    pool.federated_token(), .federated_id_token()  of somebody who came through Auth0
    pool.token(exp=NOW)                            one part broken: any claim by its name
    pool.token(**{"cognito:groups": "admins"})     … also those that are no Python names
    pool.token(sub=DROP)                           … or left out
    pool.token(header={"alg": "none"})             another header: merged into kid and alg, DROP drops
    pool.token(key=rsa_key("other"))               signed by somebody else
    pool.sign(b'{"alg":…}', b'{"exp":…}')          any bytes, well signed
    pool.trust()                                   what authz must know to accept all of these
    pool.keys, pool.jwks()                         its public keys, and the document that publishes them
    await pool.fetch(uri, timeout)                 the document as a `Fetch`; `pool.down = True` makes it fail
    pool.rotate()                                  new keys; the old ones are gone from the document

The clock stands at NOW unless one is handed in: `FakeUserPool(clock=time.time)` for a real server. Keys are made once a
process for each name, because making one takes a tenth of a second.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from authz.errors import KeysError
from authz.identity.cognito import UserPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

NOW: Final = 1_800_000_000  # 2027-01-15, the time at which tests stand still
LIFETIME: Final = 3600  # seconds, Cognito's default


class _Drop:
    def __repr__(self) -> str:
        return "DROP"  # stands in test ids


DROP: Final = _Drop()
"""As the value of a claim or header member: leave it out."""

ALICE: Final = "0a1b2c3d-1111-4222-8333-444455556666"
"""The `sub` of the person to whom tokens are given by default."""


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Give the private key of that name, always the same one within a process."""
    del name  # it only tells keys apart
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def kid_of(key: rsa.RSAPrivateKey) -> str:
    """Name a key as Cognito does: 44 characters, the standard base64 of 32 bytes (`+`, `/` and `=` included)."""
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


def base64url(data: bytes) -> str:
    """Encode as a token's part: URL alphabet, no padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(key: rsa.RSAPrivateKey, **overrides: Any) -> dict[str, Any]:
    """Describe the public half as a JWKS entry in Cognito's shape; DROP leaves a member out."""
    numbers = key.public_key().public_numbers()
    entry = {
        "alg": "RS256",
        "e": base64url(numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8)),
        "kid": kid_of(key),
        "kty": "RSA",
        "n": base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)),
        "use": "sig",
    }
    return _merged(entry, overrides)


def sign(header: bytes, payload: bytes, key: rsa.RSAPrivateKey) -> str:
    """Make a compact token of any bytes, with a good signature over them."""
    signing_input = f"{base64url(header)}.{base64url(payload)}"
    signature = key.sign(signing_input.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signing_input}.{base64url(signature)}"


class FakeUserPool:
    """One user pool with one app client, two keys and a clock."""

    def __init__(
        self,
        region: str = "eu-west-1",
        pool_id: str | None = None,
        client_id: str = "304a12ktcc5djt9d7enj6dsjkg",
        clock: Callable[[], float] = lambda: NOW,
    ) -> None:
        self.pool_id = pool_id or f"{region}_AbCdEfGhI"
        self.client_id = client_id
        self.issuer = f"https://cognito-idp.{region}.amazonaws.com/{self.pool_id}"
        self.jwks_uri = f"{self.issuer}/.well-known/jwks.json"
        self.clock = clock
        self.down = False  # true: `fetch` fails
        self.fetches = 0  # how often `fetch` was called
        self._rotations = 0

    # Keys: Cognito signs access tokens with one and ID tokens with the other, and never says which is which.

    @property
    def access_key(self) -> rsa.RSAPrivateKey:
        """Sign access tokens with it."""
        return rsa_key(f"{self.issuer} access {self._rotations}")

    @property
    def id_key(self) -> rsa.RSAPrivateKey:
        """Sign ID tokens with it."""
        return rsa_key(f"{self.issuer} id {self._rotations}")

    @property
    def keys(self) -> Mapping[str, rsa.RSAPublicKey]:
        """The public keys by kid."""
        return {kid_of(key): key.public_key() for key in (self.access_key, self.id_key)}

    def jwks(self, *more: Mapping[str, Any]) -> bytes:
        """Publish the keys, and further entries after them."""
        return json.dumps({"keys": [jwk(self.access_key), jwk(self.id_key), *more]}).encode()

    async def fetch(self, uri: str, timeout: float) -> bytes:  # noqa: ASYNC109 - the port's own signature
        """Answer in place of the network."""
        del timeout
        self.fetches += 1
        if self.down or uri != self.jwks_uri:
            raise KeysError("the pool is down" if self.down else "no such document")
        return self.jwks()

    def rotate(self) -> None:
        """Replace both keys."""
        self._rotations += 1

    def trust(self, **overrides: Any) -> UserPool:
        """Give the settings that accept every good token of this pool; overrides by the names of UserPool."""
        settings: dict[str, Any] = {
            "issuers": (self.issuer,),
            "clients": frozenset({self.client_id}),
            "token_use": frozenset({"access", "id"}),
            "leeway": 0.0,
            "trust_unverified_email": False,
            "label": self.pool_id,
        }
        return UserPool(**(settings | overrides))

    # Tokens. `groups` left out or empty: no `cognito:groups` claim, as in Cognito.

    def token(
        self,
        *,
        groups: Iterable[str] = (),
        now: float | None = None,
        header: Mapping[str, Any] | None = None,
        key: rsa.RSAPrivateKey | None = None,
        **overrides: Any,
    ) -> str:
        """Mint a person's access token."""
        claims = self.access_claims(groups=groups, now=now)
        return self.mint(_merged(claims, overrides), header=header, key=key)

    def id_token(
        self,
        *,
        groups: Iterable[str] = (),
        now: float | None = None,
        header: Mapping[str, Any] | None = None,
        key: rsa.RSAPrivateKey | None = None,
        **overrides: Any,
    ) -> str:
        """Mint a person's ID token: with a verified e-mail address, and signed with the other key."""
        claims = self.id_claims(groups=groups, now=now)
        return self.mint(_merged(claims, overrides), header=header, key=key or self.id_key)

    def machine_token(
        self,
        *,
        scope: str = "orders/read",
        now: float | None = None,
        header: Mapping[str, Any] | None = None,
        key: rsa.RSAPrivateKey | None = None,
        **overrides: Any,
    ) -> str:
        """Mint the access token of a client-credentials grant: its subject is the client, it has no username."""
        claims = {
            "sub": self.client_id,
            "token_use": "access",
            "scope": scope,
            **self._times(now),
            "iss": self.issuer,
            "version": 2,
            "jti": "9c2f6f2e-0000-4000-8000-00000000000a",
            "client_id": self.client_id,
        }
        return self.mint(_merged(claims, overrides), header=header, key=key)

    def federated_token(self, *, provider: str = "Auth0", user_id: str = "auth0|5f7c8ec7", **options: Any) -> str:
        """Mint the access token of somebody who signed in at another identity provider."""
        groups = [self._provider_group(provider), *options.pop("groups", ())]
        return self.token(groups=groups, **{"username": f"{provider}_{user_id}", **options})

    def federated_id_token(self, *, provider: str = "Auth0", user_id: str = "auth0|5f7c8ec7", **options: Any) -> str:
        """Mint the ID token of the same person. Mapped e-mail addresses are unverified."""
        groups = [self._provider_group(provider), *options.pop("groups", ())]
        identity = {
            "userId": user_id,
            "providerName": provider,
            "providerType": "OIDC",
            "issuer": None,
            "primary": "true",
            "dateCreated": "1706286467123",
        }
        claims = {
            "cognito:username": f"{provider}_{user_id}",
            "identities": [identity],
            "email_verified": False,
        }
        return self.id_token(groups=groups, **{**claims, **options})

    def access_claims(self, *, groups: Iterable[str] = (), now: float | None = None) -> dict[str, Any]:
        """Give the claims of `token()`."""
        return {
            "sub": ALICE,
            **_group_claim(groups),
            "iss": self.issuer,
            "version": 2,
            "client_id": self.client_id,
            "origin_jti": "5f0c1f7e-0000-4000-8000-000000000001",
            "event_id": "7d1e3c7a-0000-4000-8000-000000000002",
            "token_use": "access",
            "scope": "openid profile email",
            **self._times(now),
            "jti": "9c2f6f2e-0000-4000-8000-000000000003",
            "username": "alice",
        }

    def id_claims(self, *, groups: Iterable[str] = (), now: float | None = None) -> dict[str, Any]:
        """Give the claims of `id_token()`."""
        return {
            "at_hash": "wJHLHh4n_ZkcnBkzjVKCmA",
            "sub": ALICE,
            **_group_claim(groups),
            "email_verified": True,
            "iss": self.issuer,
            "cognito:username": "alice",
            "origin_jti": "5f0c1f7e-0000-4000-8000-000000000001",
            "aud": self.client_id,
            "event_id": "7d1e3c7a-0000-4000-8000-000000000002",
            "token_use": "id",
            **self._times(now),
            "jti": "9c2f6f2e-0000-4000-8000-000000000004",
            "email": "alice@example.com",
        }

    def mint(
        self,
        claims: Mapping[str, Any],
        *,
        header: Mapping[str, Any] | None = None,
        key: rsa.RSAPrivateKey | None = None,
    ) -> str:
        """Sign these claims and no others, by default as an access token."""
        key = key or self.access_key
        members = _merged({"kid": kid_of(key), "alg": "RS256"}, header or {})
        return sign(_json(members), _json(claims), key)

    def sign(self, header: bytes, payload: bytes, key: rsa.RSAPrivateKey | None = None) -> str:
        """Sign any bytes, by default with the key of access tokens."""
        return sign(header, payload, key or self.access_key)

    def header(self) -> bytes:
        """Give the header of a good access token, as bytes for `sign`."""
        return _json({"kid": kid_of(self.access_key), "alg": "RS256"})

    def _times(self, now: float | None) -> dict[str, int]:
        issued = int(self.clock() if now is None else now)
        return {"auth_time": issued, "exp": issued + LIFETIME, "iat": issued}

    def _provider_group(self, provider: str) -> str:
        return f"{self.pool_id}_{provider}"


def _group_claim(groups: Iterable[str]) -> dict[str, Sequence[str]]:
    names = list(groups)
    return {"cognito:groups": names} if names else {}


def _merged(members: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**members, **overrides}.items() if value is not DROP}


def _json(value: Mapping[str, Any]) -> bytes:
    """Write JSON as Cognito does: nothing between, slashes escaped."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode()
