"""What keeps a certificate and a key from being a pair, each in its words."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from authz.settings.key_pairs import _can_be_used, why_no_pair
from tests.support.authority import Authority
from tests.support.user_pool import rsa_key

OF_NO_USE = "a key of a kind that TLS here cannot use: expected RSA up to 8192 bits, P-256 or P-384"


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
    assert why_no_pair(*self_signed(key)) == OF_NO_USE


def test_a_key_for_pss_signatures_alone_is_none_for_tls_here() -> None:
    """As `openssl genpkey -algorithm RSA-PSS` makes it: an RSA key under another name (RFC 4055 section 1.2)."""
    certificate, key = self_signed(rsa_key("one"), Encoding.DER)
    rsa_encryption = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
    rsassa_pss = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x00"
    assert certificate.count(rsa_encryption) == 1
    renamed = x509.load_der_x509_certificate(certificate.replace(rsa_encryption, rsassa_pss))
    assert why_no_pair(renamed.public_bytes(Encoding.PEM), key) == OF_NO_USE


def test_a_long_key_keeps_nobody_waiting() -> None:
    certificate, key = self_signed(rsa_key("long", 4096))
    started = time.perf_counter()
    load_pem_private_key(key, password=None)  # looks for primes
    looked = time.perf_counter()
    assert why_no_pair(certificate, key) is None
    assert time.perf_counter() - looked < (looked - started) / 4


@pytest.mark.parametrize("name", ["p", "q", "d", "dmp1", "dmq1", "iqmp"])
def test_a_private_key_whose_numbers_do_not_fit_is_none(name: str) -> None:
    good = rsa_key("one")
    certificate, _ = self_signed(good)
    der = good.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    number = getattr(good.private_numbers(), name)
    before, after = (value.to_bytes((number.bit_length() + 7) // 8, "big") for value in (number, number ^ 2))
    assert der.count(before) == 1
    key = base64.encodebytes(der.replace(before, after)).decode()
    pem = f"-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n".encode()
    assert (why_no_pair(certificate, pem) or "").startswith("no usable private key: ")


def test_the_longest_key() -> None:
    assert not _can_be_used(rsa.RSAPublicNumbers(65537, (1 << 8192) + 1).public_key())
    assert _can_be_used(rsa.RSAPublicNumbers(65537, (1 << 8191) + 1).public_key())


def self_signed(key: Any, encoding: Encoding = Encoding.PEM) -> tuple[bytes, bytes]:
    """Give certificate and PEM of the key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authz")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    without_hash = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    certificate = builder.sign(key, None if without_hash else hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(encoding), pem


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
