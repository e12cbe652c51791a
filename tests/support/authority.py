"""A certificate authority in a folder, and what a test does with it: issue, put files in place of others, connect.

authority = Authority(tmp_path)
certificate, key = authority.issue("server")
envoy = authority.issue("envoy", uris=["spiffe://example.com/envoy"])
credentials = client_credentials(authority.pem, envoy)
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Pair(NamedTuple):
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates for 127.0.0.1 and whatever other names they shall have."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {folder.name}")])
        certificate = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.pem = certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self.pem)

    def issue(self, name: str, *, dns: Sequence[str] = (), uris: Sequence[str] = ()) -> Pair:
        """Give the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName(
            [
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                *map(x509.DNSName, dns),
                *map(x509.UniformResourceIdentifier, uris),
            ]
        )
        certificate = self._builder(subject, key).add_extension(names, critical=False)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.certificate.write_bytes(
            certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
        )


def client_credentials(server_ca: bytes, own: Pair | None = None) -> grpc.ChannelCredentials:
    """Give what a client trusts, and what it shows."""
    if own is None:
        return grpc.ssl_channel_credentials(server_ca)
    return grpc.ssl_channel_credentials(server_ca, own.key.read_bytes(), own.certificate.read_bytes())


def install(pair: Pair, place: Pair) -> None:
    """Put a pair where another one is, each file by a rename, as those who renew certificates do."""
    for new, old in zip(pair, place, strict=True):
        replace(new, old)


def replace(new: Path, old: Path) -> None:
    """Put a copy of one file in the place of another, by a rename."""
    beside = old.with_name(f".{old.name}.new")
    shutil.copyfile(new, beside)
    beside.replace(old)
