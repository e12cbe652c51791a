"""Client certificates, as Envoy passes them on: URL-encoded PEM of the leaf (`include_peer_certificate: true`).

`client_certificate` compares what a certificate says and does not check trust; `invalid_client_certificate` checks
trust against the authorities of the configuration's `client_certificate_ca:`. A certificate is trusted when one of
those authorities issued it directly, both are within their dates, the authority may sign certificates, and the leaf,
if it names its purposes, names client authentication.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from authz.node import Fields, Items, Node, Problems, Scalar, describe, shorten
from authz.policy.matchers import StringMatcher, any_of, string_matcher
from authz.reading import did_you_mean, list_of

Authorities: TypeAlias = tuple[x509.Certificate, ...]
"""The trusted issuers of client certificates; empty when none is configured."""

_MAX_PEM: Final = 64 * 1024
_UNREADABLE: Final = (  # what `cryptography` raises for a certificate that is none, is odd, or uses what it lacks
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


class ClientCertificate(NamedTuple):
    """What the criteria read off a leaf certificate."""

    fingerprint: str  # SHA-256 of the DER, lower-case hex
    spki_hash: str  # base64 of the SHA-256 of the public key info
    emails: tuple[str, ...]
    dns_names: tuple[str, ...]
    uris: tuple[str, ...]
    leaf: x509.Certificate


def parse_authorities(pem: bytes) -> Authorities:
    """Read a bundle of PEM certificates. Raises ValueError when it holds none."""
    return tuple(x509.load_pem_x509_certificates(pem))


@lru_cache(maxsize=256)
def read_certificate(url_encoded_pem: str) -> ClientCertificate | None:
    """Read the certificate that Envoy sent; None when there is none or it cannot be read."""
    if not url_encoded_pem or len(url_encoded_pem) > _MAX_PEM:
        return None
    try:
        raw = url_encoded_pem.encode("ascii")
        pem = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), raw)
        leaf = x509.load_pem_x509_certificate(pem)
        names = _alternative_names(leaf)
        return ClientCertificate(
            fingerprint=sha256(leaf.public_bytes(Encoding.DER)).hexdigest(),
            spki_hash=_spki_hash(leaf),
            emails=tuple(names.get_values_for_type(x509.RFC822Name)) if names else (),
            dns_names=tuple(names.get_values_for_type(x509.DNSName)) if names else (),
            uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else (),
            leaf=leaf,
        )
    except _UNREADABLE:
        return None


def _alternative_names(leaf: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _spki_hash(leaf: x509.Certificate) -> str:
    info = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(sha256(info).digest()).decode("ascii")


def is_trusted(certificate: ClientCertificate, authorities: Authorities, now: float) -> bool:
    """Tell whether one of the authorities issued the certificate and it may be used at `now` (wall seconds)."""
    at = datetime.fromtimestamp(now, UTC)
    leaf = certificate.leaf
    return (
        _is_current(leaf, at)
        and _is_for_clients(leaf)
        and any(_is_current(issuer, at) and _issued(issuer, leaf) for issuer in authorities)
    )


def _is_current(certificate: x509.Certificate, at: datetime) -> bool:
    return certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc


def _is_for_clients(leaf: x509.Certificate) -> bool:
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


def _issued(issuer: x509.Certificate, leaf: x509.Certificate) -> bool:
    try:
        if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        leaf.verify_directly_issued_by(issuer)
    except (*_UNREADABLE, InvalidSignature, x509.ExtensionNotFound):
        return False
    return True


class CertificateMatcher(NamedTuple):
    """What `client_certificate` wants; every key given must hold."""

    test: Callable[[ClientCertificate], bool]
    wanted: str


_HASH_KEYS: Final = ("fingerprint", "spki_hash")
_NAME_KEYS: Final = {"san_email": "emails", "san_dns": "dns_names", "san_uri": "uris"}


def certificate_matcher(node: Node, problems: Problems) -> CertificateMatcher | None:
    """Compile `{fingerprint, spki_hash: text or list; san_email, san_dns, san_uri: string matcher}`."""
    known = (*_HASH_KEYS, *_NAME_KEYS)
    if not isinstance(node, Fields) or not node.entries:
        found = "an empty map" if isinstance(node, Fields) else describe(node)
        problems.error(
            node, f"`client_certificate`: found {found}, expected a map with {', '.join(f'`{word}`' for word in known)}"
        )
        return None
    tests: list[Callable[[ClientCertificate], bool]] = []
    words: list[str] = []
    for key, value in node.entries:
        name = key.text
        if name in _HASH_KEYS:
            hashes = _hashes(name, value, problems)
            if hashes:
                tests.append(_has_hash(name, hashes))
                words.append(f"{name} is one of {len(hashes)}" if len(hashes) > 1 else f"{name} is {hashes[0]}")
        elif name in _NAME_KEYS:
            matcher = _name_matcher(name, value, problems)
            if matcher is not None:
                tests.append(_has_name(_NAME_KEYS[name], matcher))
                words.append(f"{name} {matcher.wanted}")
        else:
            hint = did_you_mean(name, known) or f", expected {', '.join(f'`{word}`' for word in known)}"
            problems.error(key, f"`client_certificate`: unknown key `{shorten(name)}`{hint}")
    if len(tests) < len(node.entries):
        return None
    return CertificateMatcher(lambda certificate: all(test(certificate) for test in tests), " and ".join(words))


def _name_matcher(name: str, node: Node, problems: Problems) -> StringMatcher | None:
    if isinstance(node, Items):
        texts = ", ".join(item.text for item in node if isinstance(item, Scalar)) or "…"
        message = f"`{name}`: found a list where one value is meant; write {name}: {{in: [{shorten(texts)}]}}"
        problems.error(node, f"`client_certificate`: {message}")
        return None
    found = Problems()
    matcher = string_matcher(node, name, found)
    problems += [problem._replace(message=f"`client_certificate`: {problem.message}") for problem in found]
    return matcher


def _has_hash(name: str, hashes: Sequence[str]) -> Callable[[ClientCertificate], bool]:
    wanted = frozenset(hashes)
    if name == "fingerprint":
        return lambda certificate: certificate.fingerprint in wanted
    return lambda certificate: certificate.spki_hash in wanted


def _has_name(attribute: str, matcher: StringMatcher) -> Callable[[ClientCertificate], bool]:
    test = any_of(matcher)
    return lambda certificate: test(getattr(certificate, attribute))


_HASH_SHAPES: Final = {
    "fingerprint": (
        re.compile(r"[0-9a-f]{64}"),
        "the SHA-256 of the certificate in hex (openssl x509 -fingerprint -sha256)",
    ),
    "spki_hash": (re.compile(r"[A-Za-z0-9+/]{43}="), "the SHA-256 of the public key in base64 (44 characters)"),
}


def _hashes(name: str, node: Node, problems: Problems) -> list[str]:
    what = f"`client_certificate`: `{name}`"
    pattern, expected = _HASH_SHAPES[name]
    hashes = []
    values = list_of(node, what, problems)
    if isinstance(node, Items) and not values:
        problems.error(node, f"{what}: found an empty list, expected at least one")
    for item in values:
        text = item.text if isinstance(item, Scalar) else ""  # 64 digits without quotes are a number to YAML
        plain = text.replace(":", "").lower() if name == "fingerprint" else text
        if pattern.fullmatch(plain):
            hashes.append(plain)
        else:
            problems.error(item, f"{what}: found {describe(item)}, expected {expected}")
    return hashes
