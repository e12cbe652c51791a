"""What is asked: CheckRequests as Envoy sends them for a browser's API call, with Cognito access tokens of 1.1 KB.

Every message here is a gRPC message as it stands in an HTTP/2 DATA frame: a flag byte, four bytes of length, then the
protobuf (gRPC over HTTP/2, "Length-Prefixed-Message"). Tokens are signed in other processes: a quarter of a millisecond
each, and there are tens of thousands.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.check_request import HOST, check_request
from tests.support.user_pool import FakeUserPool

READERS: Final = "orders-readers"
BROWSER: Final = {
    "user-agent": (
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
    ),
    "accept": "application/json, text/plain, */*",
    "accept-language": "en-GB,en;q=0.9,de;q=0.8",
    "accept-encoding": "gzip, deflate, br, zstd",
    "cache-control": "no-cache",
    "cookie": "theme=dark; _ga=GA1.1.1204367912.1760000000; _ga_XYZ=GS2.1.s1760000000$o1$g1$t1760000100$j60",
    "origin": "https://app.example.com",
    "referer": "https://app.example.com/orders",
    "sec-ch-ua": '"Chromium";v="141", "Not?A_Brand";v="8"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "sec-fetch-dest": "empty",
    "sec-fetch-mode": "cors",
    "sec-fetch-site": "same-origin",
}
ADDED_BY_ENVOY: Final = {
    "x-forwarded-for": "192.0.2.7",
    "x-request-id": "8c74b6aa-6f0c-4f5e-9d0e-0c9a5f6f7d11",
}


def new_pool() -> FakeUserPool:
    """A user pool whose tokens are good now."""
    return FakeUserPool(clock=time.time)


def claims(pool: FakeUserPool, *groups: str) -> dict[str, Any]:
    """Claims as Cognito writes them for somebody who came through a provider: about 1.1 KB when signed."""
    return {
        "groups": [f"{pool.pool_id}_Google", *groups],
        "scope": "openid profile email orders/read",
        "sub": str(uuid.uuid4()),
        "jti": str(uuid.uuid4()),
    }


def reader(pool: FakeUserPool) -> str:
    """A token of somebody who may read orders."""
    return pool.token(**claims(pool, READERS))


def stranger(pool: FakeUserPool) -> str:
    """A good token of somebody whom every route refuses."""
    return pool.token(**claims(pool, "developers"))


def sign_readers(pool: FakeUserPool, count: int) -> Sequence[str]:
    """Sign that many different tokens, on all cores."""
    pem = pool.access_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    share = 1_000
    sizes = [min(share, count - start) for start in range(0, count, share)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as processes:
        return [token for part in processes.map(sign_share, repeat(pem), sizes) for token in part]


def sign_share(pem: bytes, count: int) -> list[str]:
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    pool = new_pool()
    return [pool.token(key=key, **claims(pool, READERS)) for _ in range(count)]


def forged(token: str) -> str:
    """The same token with one character of its signature changed."""
    at = len(token) - 100
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]


def path(routes: int) -> str:
    """A path that only the last of so many routes takes."""
    return f"/service-{routes - 1}/orders/42?page=2"


def policies(routes: int) -> str:
    """A policy file of that many one-line routes on one host."""
    rule = f"policy: {{allow: {{or: [{{groups: {READERS}}}]}}}}"
    return "".join(f"- {{from: https://{HOST}, prefix: /service-{number}/, {rule}}}\n" for number in range(routes))


def message(token: str, routes: int = 10, *, raw: bool = True) -> bytes:
    """One CheckRequest, ready for a DATA frame. `raw`: headers as `encode_raw_headers: true` gives them."""
    check = check_request(path=path(routes), token=token, headers={**BROWSER, **ADDED_BY_ENVOY}, raw=raw)
    return prefixed(check.SerializeToString())


def messages(tokens: Sequence[str]) -> Iterator[bytes]:
    """One message a token, made when it is needed."""
    return (message(token) for token in tokens)


def prefixed(data: bytes) -> bytes:
    """Put gRPC's five bytes before a message: not compressed, and its length."""
    return b"\0" + len(data).to_bytes(4, "big") + data
