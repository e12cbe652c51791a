"""What keeps a certificate and a key from being a pair, each in its words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from authz.settings.key_pairs import why_no_pair
from tests.support.authority import Authority


@pytest.mark.parametrize("key", [
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
])  # fmt: skip
def test_keys_that_boringssl_can_use(key: Any) -> None:
    assert why_no_pair(*self_signed(key)) is None


@pytest.mark.parametrize("key", [
    ed25519.Ed25519PrivateKey.generate(),
    ed448.Ed448PrivateKey.generate(),
    ec.generate_private_key(ec.SECP521R1()),
    ec.generate_private_key(ec.SECP256K1()),
])  # fmt: skip
def test_keys_with_which_no_handshake_would_succeed(key: Any) -> None:
    assert why_no_pair(*self_signed(key)) == "a key of a kind that TLS here cannot use: expected RSA, P-256 or P-384"


def self_signed(key: Any) -> tuple[bytes, bytes]:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authz")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    without_hash = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    certificate = builder.sign(key, None if without_hash else hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), pem


def test_a_pair_and_what_is_none(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = (file.read_bytes() for file in authority.issue("one"))
    other_certificate, other_key = (file.read_bytes() for file in authority.issue("other"))
    assert why_no_pair(certificate, key) is None
    assert why_no_pair(certificate + other_certificate, key) is None  # the first is the server's own
    assert why_no_pair(other_certificate + certificate, key) == "the key of another certificate"
    assert why_no_pair(certificate, other_key) == "the key of another certificate"
    for nothing in (b"", b"-----BEGIN CERTIFICATE-----\n", certificate[:-60], key):
        assert why_no_pair(nothing, key) == "no usable certificate"
    for nothing in (b"", key[:-60], certificate):
        assert why_no_pair(certificate, nothing) == "no usable private key: expected PEM without a passphrase"
