"""What keeps a certificate and a key from being a pair, each in its words."""

from __future__ import annotations

from pathlib import Path

from authz.settings.key_pairs import why_no_pair
from tests.support.authority import Authority


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
