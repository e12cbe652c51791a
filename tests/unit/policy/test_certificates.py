"""Client certificates: what is read off them, who is trusted, and what hostile ones do (nothing)."""

from __future__ import annotations

import base64
import random
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from authz.document import parse
from authz.node import Problems
from authz.policy.certificates import (
    ClientCertificate,
    certificate_matcher,
    is_trusted,
    parse_authorities,
    read_certificate,
)
from tests.support.policies import heads

START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2028, 1, 1, tzinfo=UTC)
NOW = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
NAMES = [
    x509.DNSName("robot.example.com"),
    x509.RFC822Name("robot@example.com"),
    x509.UniformResourceIdentifier("spiffe://lab/robot"),
]
CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])

ca_key = ec.generate_private_key(ec.SECP256R1())
leaf_key = ec.generate_private_key(ec.SECP256R1())


def make(
    *,
    subject: str = "robot",
    issuer: str = "ca",
    key: ec.EllipticCurvePrivateKey = leaf_key,
    signer: ec.EllipticCurvePrivateKey = ca_key,
    extensions: Sequence[x509.ExtensionType] = (),
    start: datetime = START,
    end: datetime = END,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, hashes.SHA256())


def authority(*, ca: bool | None = True, end: datetime = END) -> x509.Certificate:
    constraints = [] if ca is None else [x509.BasicConstraints(ca=ca, path_length=None)]
    return make(subject="ca", key=ca_key, extensions=constraints, end=end)


def sent(certificate: x509.Certificate) -> str:
    """Write a certificate as Envoy sends it."""
    return quote(certificate.public_bytes(Encoding.PEM))


def read(certificate: x509.Certificate) -> ClientCertificate:
    found = read_certificate(sent(certificate))
    assert found is not None
    return found


CA = authority()
LEAF = make(extensions=[x509.SubjectAlternativeName(NAMES), CLIENTS])
DER = LEAF.public_bytes(Encoding.DER)
FINGERPRINT = sha256(DER).hexdigest()
SPKI = base64.b64encode(
    sha256(leaf_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
).decode()


# --- Reading ---------------------------------------------------------------------------------------------------------


def test_hashes_and_names_are_read_off_the_leaf() -> None:
    found = read(LEAF)
    assert found[:5] == (
        FINGERPRINT,
        SPKI,
        ("robot@example.com",),
        ("robot.example.com",),
        ("spiffe://lab/robot",),
    )


def test_a_certificate_without_names_has_none() -> None:
    found = read(make())
    assert (found.emails, found.dns_names, found.uris) == ((), (), ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "%zz",
        quote("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        sent(LEAF)[:-200],
        "é",
        " " * 70_000,
        sent(LEAF) + "%20" * 30_000,
    ],
    ids=["none", "no PEM", "bad escape", "no DER", "cut off", "outside ASCII", "blanks", "too long"],
)
def test_what_cannot_be_read_is_no_certificate(text: str) -> None:
    assert read_certificate(text) is None


def test_a_certificate_of_64_kib_is_read_and_no_longer_one() -> None:
    padding = 65_536 - len(sent(LEAF))
    assert read_certificate(sent(LEAF) + "-" * padding) == read(LEAF)
    assert read_certificate(sent(LEAF) + "-" * (padding + 1)) is None


def test_no_mutated_certificate_raises_and_none_of_them_is_trusted() -> None:
    """Mutations of the signed part; among them versions and names that `cryptography` refuses in its own ways."""
    chance = random.Random(7)  # the same mutations every time
    read_ones = 0
    mutants = [bytearray(DER) for _ in range(1500)]
    for mutant in mutants:
        mutant[chance.randrange(4, len(DER) - 80)] ^= 1 + chance.randrange(255)
    odd_version = bytearray(DER)
    odd_version[DER.index(b"\xa0\x03\x02\x01\x02") + 4] = 33
    odd_name = bytearray(DER)
    odd_name[DER.index(b"\x82\x11robot.example.com")] = 0xA3  # an x400Address
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd serial numbers
        for mutant in (*mutants, odd_version, odd_name):
            pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(mutant) + b"-----END CERTIFICATE-----\n"
            found = read_certificate.__wrapped__(quote(pem))
            if found is not None:
                read_ones += 1
                assert not is_trusted(found, (CA,), NOW)
    assert read_ones > 100


def test_authorities_are_read_from_a_bundle() -> None:
    bundle = CA.public_bytes(Encoding.PEM) * 2
    assert parse_authorities(bundle) == (CA, CA)


def test_a_bundle_without_a_certificate_is_an_error() -> None:
    with pytest.raises(ValueError, match="PEM"):
        parse_authorities(b"# nothing here\n")


# --- Trust -----------------------------------------------------------------------------------------------------------


def test_a_leaf_that_an_authority_issued_is_trusted() -> None:
    assert is_trusted(read(LEAF), (CA,), NOW)


def test_one_good_authority_among_others_is_enough() -> None:
    other_key = ec.generate_private_key(ec.SECP256R1())
    other = make(
        subject="ca", key=other_key, signer=other_key, extensions=[x509.BasicConstraints(ca=True, path_length=None)]
    )
    assert is_trusted(read(LEAF), (other, CA), NOW)
    assert not is_trusted(read(LEAF), (other,), NOW)


@pytest.mark.parametrize(
    ("extensions", "trusted"),
    [
        ([], True),
        ([CLIENTS], True),
        ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])], True),
        ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])], False),
    ],
    ids=["no purposes named", "for clients", "for everything", "for servers"],
)
def test_a_leaf_that_names_its_purposes_names_client_authentication(
    extensions: list[x509.ExtensionType], trusted: bool
) -> None:
    assert is_trusted(read(make(extensions=extensions)), (CA,), NOW) is trusted


@pytest.mark.parametrize(
    ("leaf", "issuer"),
    [
        (LEAF, ()),
        (make(signer=leaf_key), (CA,)),
        (make(issuer="somebody else"), (CA,)),
        (LEAF, (authority(ca=False),)),
        (LEAF, (authority(ca=None),)),
        (LEAF, (authority(end=datetime(2026, 6, 1, tzinfo=UTC)),)),
        (make(end=datetime(2026, 6, 1, tzinfo=UTC)), (CA,)),
        (make(start=datetime(2027, 6, 1, tzinfo=UTC)), (CA,)),
    ],
    ids=[
        "no authority",
        "signed by somebody else",
        "issued under another name",
        "issued by what says it is no authority",
        "issued by what does not say that it is one",
        "the authority has expired",
        "the leaf has expired",
        "the leaf is not valid yet",
    ],
)
def test_a_leaf_is_not_trusted_when(leaf: x509.Certificate, issuer: tuple[x509.Certificate, ...]) -> None:
    assert not is_trusted(read(leaf), issuer, NOW)


def test_dates_count_to_the_second() -> None:
    leaf = read(make())
    assert is_trusted(leaf, (CA,), END.timestamp())
    assert not is_trusted(leaf, (CA,), END.timestamp() + 1)
    assert is_trusted(leaf, (CA,), START.timestamp())
    assert not is_trusted(leaf, (CA,), START.timestamp() - 1)


# --- The criterion's data --------------------------------------------------------------------------------------------


def matches(text: str) -> bool:
    for word, value in {"FINGERPRINT": FINGERPRINT, "COLONS": COLONS, "SPKI": SPKI}.items():
        text = text.replace(word, f"'{value}'")
    problems = Problems()
    node = parse(text.encode(), "c", problems)
    assert node is not None
    matcher = certificate_matcher(node, problems)
    assert not problems
    assert matcher is not None
    return matcher.test(read(LEAF))


COLONS = ":".join(FINGERPRINT[i : i + 2] for i in range(0, 64, 2)).upper()
OTHER = "0" * 64


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("{fingerprint: FINGERPRINT}", True),
        ("{fingerprint: COLONS}", True),
        (f"{{fingerprint: [{OTHER}, FINGERPRINT]}}", True),
        (f"{{fingerprint: {OTHER}}}", False),
        ("{spki_hash: SPKI}", True),
        (f"{{spki_hash: ['{'A' * 43}=', SPKI]}}", True),
        (f"{{spki_hash: '{'A' * 43}='}}", False),
        ("{san_dns: robot.example.com}", True),
        ("{san_dns: Robot.example.com}", False),
        ("{san_dns: {ends_with: .example.com}}", True),
        ("{san_email: robot@example.com}", True),
        ("{san_email: {not: robot@example.com}}", False),
        ("{san_uri: {starts_with: 'spiffe://lab/'}}", True),
        ("{san_uri: {starts_with: 'spiffe://other/'}}", False),
        ("{san_dns: robot.example.com, san_uri: 'spiffe://lab/robot'}", True),
        ("{san_dns: robot.example.com, san_uri: 'spiffe://lab/other'}", False),
    ],
)
def test_every_key_that_is_given_must_hold(text: str, holds: bool) -> None:
    assert matches(text) is holds


def test_a_certificate_matcher_says_what_it_wants() -> None:
    problems = Problems()
    node = parse(f"{{fingerprint: [{OTHER}, {OTHER}], spki_hash: {SPKI}, san_dns: a}}".encode(), "c", problems)
    assert node is not None
    matcher = certificate_matcher(node, problems)
    assert matcher is not None
    assert matcher.wanted == f"fingerprint is one of 2 and spki_hash is {SPKI} and san_dns is `a`"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{colour: a}", "unknown key `colour`, expected `fingerprint`, `spki_hash`, `san_email`, `san_dns`, `san_uri`"),
        ("{san_dns: [a, b]}", "`san_dns`: found a list where one value is meant; write san_dns: {in: [a, b]}"),
        ("{san_dns: [[a]]}", "`san_dns`: found a list where one value is meant; write san_dns: {in: […]}"),
    ],
)
def test_what_to_write_instead_is_told(text: str, message: str) -> None:
    problems = Problems()
    node = parse(text.encode(), "c", problems)
    assert node is not None
    assert certificate_matcher(node, problems) is None
    assert [problem.message for problem in problems] == [f"`client_certificate`: {message}"]


KEYS = "fingerprint, spki_hash, san_email, san_dns, san_uri"
HEX = "the SHA-256 of the certificate in hex (openssl x509 -fingerprint -sha256)"
BASE64 = "the SHA-256 of the public key in base64 (44 characters)"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("robot", [f"`client_certificate`: found text `robot`, expected a map with {KEYS}"]),
        ("{}", [f"`client_certificate`: found an empty map, expected a map with {KEYS}"]),
        ("{finger_print: a}", ["`client_certificate`: unknown key `finger_print`; did you mean `fingerprint`?"]),
        ("{fingerprint: []}", ["`client_certificate`: `fingerprint`: found an empty list, expected at least one"]),
        ("{fingerprint: abc}", [f"`client_certificate`: `fingerprint`: found text `abc`, expected {HEX}"]),
        ("{fingerprint: [5, [a]]}", [
            f"`client_certificate`: `fingerprint`: found `5` (a number), expected {HEX}",
            f"`client_certificate`: `fingerprint`: found a list, expected {HEX}",
        ]),
        ("{fingerprint: {is: abc}}", ["`client_certificate`: `fingerprint`: found a map, expected a list"]),
        (f"{{spki_hash: {'A' * 44}}}", [
            f"`client_certificate`: `spki_hash`: found text `{'A' * 44}`, expected {BASE64}"
        ]),
        ("{san_dns: [a, b]}", ["`client_certificate`: `san_dns`: found a list where one value is meant"]),
        ("{san_dns: '', san_uri: a}", ["`client_certificate`: `san_dns`: found empty text, expected text"]),
    ],
)  # fmt: skip
def test_wrong_data_is_no_matcher_and_says_why(text: str, messages: list[str]) -> None:
    problems = Problems()
    node = parse(text.encode(), "c", problems)
    assert node is not None
    assert certificate_matcher(node, problems) is None
    assert heads(problem.message for problem in problems) == heads(messages)
