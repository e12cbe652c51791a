"""A certificate and its private key, as PEM: whether a server can show the one and prove it with the other.

Of keys, those that gRPC's and Envoy's TLS (BoringSSL) both take and offer: RSA up to 8192 bits, and ECDSA with P-256 or
P-384. Whether the factors of an RSA key are primes is not looked at: that takes half a second for 4096 bits, and nobody
else has a turn meanwhile.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import PublicKeyAlgorithmOID


def why_no_pair(certificate_pem: bytes, key_pem: bytes) -> str | None:
    """Say what keeps them from being a pair; None when they are one. The first certificate is the server's own."""
    try:
        certificate = x509.load_pem_x509_certificates(certificate_pem)[0]
        public_key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "no usable certificate"
    if not _can_be_used(public_key) or certificate.public_key_algorithm_oid not in _ALGORITHMS:
        return f"a key of a kind that TLS here cannot use: expected RSA up to {MAX_RSA_BITS} bits, P-256 or P-384"
    try:
        key = load_pem_private_key(key_pem, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        return "no usable private key: expected PEM without a passphrase"
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != public_key.public_bytes(*form):
        return "the key of another certificate"
    if isinstance(key, rsa.RSAPrivateKey) and not _is_consistent(key):
        return "no usable private key: its numbers do not fit each other"
    return None


MAX_RSA_BITS: Final = 8192
_ALGORITHMS: Final = (PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5, PublicKeyAlgorithmOID.EC_PUBLIC_KEY)  # no RSASSA-PSS


def _can_be_used(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size <= MAX_RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)


def _is_consistent(key: rsa.RSAPrivateKey) -> bool:
    """Tell whether the parts of a key fit each other, as BoringSSL wants them to (RFC 8017 section 3.2)."""
    one = key.private_numbers()
    return (
        one.p * one.q == one.public_numbers.n
        and one.d * one.public_numbers.e % (one.p - 1) == one.d * one.public_numbers.e % (one.q - 1) == 1
        and (one.dmp1, one.dmq1) == (one.d % (one.p - 1), one.d % (one.q - 1))
        and one.iqmp * one.q % one.p == 1
    )
