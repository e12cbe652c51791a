"""A certificate and its private key, as PEM: whether a server can show the one and prove it with the other.

Of keys, those that gRPC's and Envoy's TLS (BoringSSL) both take and offer: RSA, and ECDSA with P-256 or P-384.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key


def why_no_pair(certificate_pem: bytes, key_pem: bytes) -> str | None:
    """Say what keeps them from being a pair; None when they are one. The first certificate is the server's own."""
    try:
        certificate = x509.load_pem_x509_certificates(certificate_pem)[0]
        public_key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "no usable certificate"
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        return "no usable private key: expected PEM without a passphrase"
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != public_key.public_bytes(*form):
        return "the key of another certificate"
    curve = public_key.curve if isinstance(public_key, ec.EllipticCurvePublicKey) else None
    if not isinstance(public_key, rsa.RSAPublicKey) and not isinstance(curve, ec.SECP256R1 | ec.SECP384R1):
        return "a key of a kind that TLS here cannot use: expected RSA, P-256 or P-384"
    return None
