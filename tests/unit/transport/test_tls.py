"""The files of `tls:` between two looks, and the guard before the door, without a network."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from authz.audit import DecisionLog
from authz.lines import Line
from authz.metrics import Metrics
from authz.pb import external_auth_pb2 as pb
from authz.settings import TlsSettings
from authz.transport.check_response import Answers, AnswerSettings
from authz.transport.guard import CallContext, Guard
from authz.transport.tls import Certificates
from tests.support.authority import Authority, Pair, install, replace
from tests.support.running_service import reply_of

PROXY_REFUSED = (503, 14, "proxy-refused")


class Files:
    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "authority")
        self.pair = Pair(folder / "server.pem", folder / "server.key")
        self.client_ca = folder / "client-ca.pem"
        install(self.authority.issue("first"), self.pair)
        replace(self.authority.file, self.client_ca)
        self.settings = TlsSettings(self.pair.certificate, self.pair.key, self.client_ca)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


class TestCertificates:
    def test_nothing_new(self, files: Files) -> None:
        certificates = Certificates(files.settings)
        assert certificates.changed() is None
        assert certificates.changed() is None

    def test_a_change_is_handed_over_once(self, files: Files) -> None:
        certificates = Certificates(files.settings)
        install(files.authority.issue("second"), files.pair)
        assert certificates.changed() is not None
        assert certificates.changed() is None

    def test_a_change_that_was_seen_before_the_handshake_is_handed_over(self, files: Files) -> None:
        certificates = Certificates(files.settings)
        install(files.authority.issue("second"), files.pair)
        certificates.look()
        assert certificates.changed() is not None

    def test_a_handshake_does_not_wait_for_somebody_elses_slow_disk(self, files: Files) -> None:
        certificates = Certificates(files.settings)
        install(files.authority.issue("second"), files.pair)
        with certificates._turn:
            began = time.monotonic()
            assert certificates.changed() is None
            assert time.monotonic() - began < 1
        assert certificates.changed() is not None

    def test_a_change_within_one_tick_of_the_file_systems_clock(self, files: Files) -> None:
        certificates = Certificates(files.settings, wall=lambda: files.client_ca.stat().st_ctime)
        certificates.look()
        content = Authority(files.client_ca.with_name("other")).pem
        marks = certificates._marks()
        files.client_ca.write_bytes(content)
        certificates._marks = lambda: marks  # type: ignore[method-assign]  # two writes that look like one
        assert certificates.changed() is not None

    def test_files_at_rest_are_not_read_again(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        certificates = Certificates(files.settings, wall=lambda: files.client_ca.stat().st_ctime + 60)
        certificates.look()
        monkeypatch.setattr(certificates, "_read", lambda: pytest.fail("read again"))
        assert certificates.changed() is None

    def test_each_mistake_is_told_once_and_again_after_it_was_mended(
        self, files: Files, caplog: pytest.LogCaptureFixture
    ) -> None:
        certificates = Certificates(files.settings)
        good = files.pair.key.read_bytes()
        for content in (b"", b"x", b"", good, b""):
            files.pair.key.write_bytes(content)
            assert certificates.changed() is None
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert len(told) == 2
        assert "no usable private key" in told[0]

    def test_a_missing_file_is_named(self, files: Files, caplog: pytest.LogCaptureFixture) -> None:
        certificates = Certificates(files.settings)
        files.client_ca.unlink()
        assert certificates.changed() is None
        assert str(files.client_ca) in caplog.text

    def test_a_pipe_in_its_place_keeps_nobody_waiting(self, files: Files, caplog: pytest.LogCaptureFixture) -> None:
        certificates = Certificates(files.settings)
        files.client_ca.unlink()
        os.mkfifo(files.client_ca)
        assert certificates.changed() is None
        assert f"{files.client_ca} cannot be read: not a regular file" in caplog.text

    def test_no_pair_at_the_start(self, files: Files) -> None:
        files.pair.key.write_bytes(b"")
        with pytest.raises(RuntimeError, match="no usable private key"):
            Certificates(files.settings)


class Call(CallContext):
    def __init__(self, found: Mapping[str, list[bytes]] | Exception) -> None:
        self._found = found

    def auth_context(self) -> Mapping[str, list[bytes]]:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


async def ask(found: Mapping[str, list[bytes]] | Exception, metrics: Metrics | None = None) -> tuple[int, int, str]:
    lines: list[str] = []

    class Lines:
        def write(self, line: Line) -> None:
            lines.append(str(line))

    async def check(data: bytes, _: CallContext) -> bytes:
        assert data == b"question"
        return b"answer of the door"

    guard = Guard(
        check,
        ["spiffe://example.com/envoy", "envoy.internal"],
        answers=Answers(AnswerSettings(identity_headers=(("x-auth-subject", ("sub",)),))),
        decisions=DecisionLog(Lines()),  # type: ignore[arg-type]
        metrics=metrics or Metrics(version="1", wall=lambda: 0.0),
    )
    answer = await guard.check(b"question", Call(found))
    if answer == b"answer of the door":
        return (200, 0, "")
    return reply_of(pb.CheckResponse.FromString(answer)).verdict


@pytest.mark.parametrize(
    "found",
    [
        pytest.param({"peer_uri": [b"spiffe://example.com/envoy"]}, id="its URI"),
        pytest.param({"peer_dns": [b"a.b", b"envoy.internal"]}, id="one of its names"),
    ],
)
async def test_a_listed_proxy_comes_to_the_door(found: Mapping[str, list[bytes]]) -> None:
    assert await ask(found) == (200, 0, "")


@pytest.mark.parametrize(
    "found",
    [
        pytest.param({}, id="no TLS"),
        pytest.param({"peer_dns": [b"spiffe://example.com/envoy"]}, id="a URI among the names"),
        pytest.param({"peer_uri": [b"envoy.internal"]}, id="a name among the URIs"),
        pytest.param({"x509_common_name": [b"envoy.internal"]}, id="the common name"),
        pytest.param({"x509_subject_alternative_name": [b"envoy.internal"]}, id="a name of unknown kind"),
        pytest.param({"peer_dns": [b"ENVOY.internal"]}, id="another case"),
        pytest.param({"peer_dns": [b"\xff" * 300]}, id="bytes that are no name"),
        pytest.param(RuntimeError("no context"), id="gRPC does not know"),
        pytest.param({"peer_dns": None}, id="what gRPC should never say"),
    ],
)
async def test_all_others_are_denied(found: Mapping[str, list[bytes]] | Exception) -> None:
    assert await ask(found) == PROXY_REFUSED


async def test_a_denial_that_cannot_be_told_is_one_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics(version="1", wall=lambda: 0.0)
    monkeypatch.setattr(metrics, "decided", lambda *_: 1 / 0)
    assert await ask({}, metrics) == PROXY_REFUSED
