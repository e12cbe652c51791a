"""The gRPC port with TLS, with the real process: who may ask, and certificates that change while it runs."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.authority import Authority, install, replace
from tests.support.check_request import check_request
from tests.support.running_service import run_authz
from tests.support.tls_port import (
    ALLOWED,
    SPIFFE,
    Port,
    channel_check,
    der,
    handshake,
    refusals,
    s_client,
    server_certificate,
)
from tests.torture import tls as torture

PROXY_REFUSED = (503, 14, "proxy-refused")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    """Nobody changes its files."""
    one = Port(tmp_path_factory.mktemp("tls"), allowed_sans=ALLOWED)
    with one.service:
        yield one


@pytest.fixture(scope="module")
def changed_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    one = Port(tmp_path_factory.mktemp("changing"))
    with one.service:
        yield one


@pytest.fixture
def changing(changed_port: Port) -> Port:
    """Whatever became of its files before, they are in order again and in force."""
    install(changed_port.servers.issue("first"), changed_port.files)
    replace(changed_port.clients.file, changed_port.client_ca)
    assert changed_port.shown() == der(changed_port.files.certificate)
    changed_port.told = len(refusals(changed_port))
    return changed_port


class TestWhoMayAsk:
    def test_the_uri_is_listed(self, port: Port) -> None:
        assert port.ask(port.envoy).verdict == (200, 0, "accept")

    def test_the_dns_name_is_listed(self, port: Port) -> None:
        assert port.ask(port.clients.issue("by-name", dns=["other.internal", "envoy.internal"])).code == 0

    @pytest.mark.parametrize(
        ("dns", "uris"),
        [
            pytest.param([], [], id="no name at all"),
            pytest.param(["other.internal"], [], id="another name"),
            pytest.param(["envoy.internal.example.com", "xenvoy.internal", "a.envoy.internal"], [], id="longer ones"),
            pytest.param(["*.internal"], [], id="a pattern that would fit"),
            pytest.param([], ["spiffe://example.com/envoy2", "spiffe://example.com/"], id="another URI"),
            pytest.param([SPIFFE], [], id="the URI as a DNS name"),
            pytest.param([], ["envoy.internal"], id="the DNS name as a URI"),
        ],
    )
    def test_another_name_of_the_right_authority_is_denied(self, port: Port, dns: list[str], uris: list[str]) -> None:
        reply = port.ask(port.clients.issue("stranger", dns=dns, uris=uris))
        assert reply.verdict == PROXY_REFUSED
        assert reply.metadata["decision"] == "deny"
        decision = port.service.decision(reply)
        assert (decision["decision"], decision["reasons"]) == ("deny", ["proxy-refused"])
        assert (dns or uris or ["no DNS name"])[0] in decision["detail"]

    def test_the_common_name_does_not_count(self, port: Port) -> None:
        assert port.ask(port.clients.issue("envoy.internal")).verdict == PROXY_REFUSED

    def test_a_refusal_is_counted(self, port: Port) -> None:
        name = 'authz_decisions_total{decision="deny",reason="proxy-refused",route=""}'
        before = port.service.metrics().get(name, 0.0)
        port.ask(port.clients.issue("counted"))
        assert port.service.metrics()[name] == before + 1

    def test_no_certificate(self, port: Port) -> None:
        assert port.refuses(None)

    def test_a_foreign_authority_with_the_right_name(self, port: Port) -> None:
        assert port.refuses(port.foreign.issue("envoy", uris=[SPIFFE], dns=["envoy.internal"]))

    def test_the_servers_authority_is_not_the_clients(self, port: Port) -> None:
        assert port.refuses(port.servers.issue("envoy", uris=[SPIFFE]))

    def test_plain_text(self, port: Port) -> None:
        with grpc.insecure_channel(port.service.target) as channel, pytest.raises(grpc.RpcError) as caught:
            channel_check(channel)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    def test_health_is_for_all_whom_the_authority_signed(self, port: Port) -> None:
        files = port.clients.issue("kubelet")
        asked = ("healthcheck", "--address", port.service.target, "--tls-ca", port.servers.file)
        good = run_authz(*asked, "--tls-certificate", files.certificate, "--tls-key", files.key)
        assert (good.returncode, good.stdout) == (0, f"serving: {port.service.target}\n")
        assert run_authz(*asked).returncode == 1  # without a certificate


class TestHealthcheck:
    def test_in_plain_text_says_what_to_do(self, port: Port) -> None:
        ended = run_authz("healthcheck", "--address", port.service.target)
        assert ended.returncode == 1
        assert "--tls-ca" in ended.stderr

    @pytest.mark.parametrize(
        ("options", "advice"),
        [
            pytest.param(["--tls-certificate"], "belong together", id="a certificate without its key"),
            pytest.param(["--tls-server-name"], "--tls-ca is missing", id="a name and no authority"),
        ],
    )
    def test_half_of_the_options(self, port: Port, options: list[str], advice: str) -> None:
        ended = run_authz("healthcheck", *options, port.envoy.certificate)
        assert ended.returncode == 2
        assert advice in ended.stderr


class TestVersions:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_from_1_2_on(self, port: Port, version: ssl.TLSVersion) -> None:
        assert handshake(port.service.target, port.envoy, version)[0] == version.name.replace("_", ".")

    @pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
    def test_older_ones_are_refused(self, port: Port, version: str) -> None:
        said = s_client(port.service.target, port.envoy, version)
        assert "Cipher is (NONE)" in said
        # openssl did offer it: gRPC hangs up without an alert.
        assert re.search(r"has read 0 bytes and written \d{3} bytes", said)

    def test_the_same_client_is_taken_with_1_2(self, port: Port) -> None:
        assert "Protocol  : TLSv1.2" in s_client(port.service.target, port.envoy, "-tls1_2")


class TestFilesThatChange:
    def test_a_new_certificate_is_shown_to_the_next_handshake(self, changing: Port) -> None:
        assert changing.service.check(check_request(path="/")).code == 0
        assert changing.shown() == der(changing.files.certificate)
        second = Authority(changing.files.key.parent / "second").issue("second")
        install(second, changing.files)
        assert changing.shown() == der(second.certificate)
        assert changing.service.check(check_request(path="/")).code == 0  # the connection from before
        changing.service.wait_for_line("certificates loaded")

    def test_a_new_certificate_written_in_place(self, changing: Port) -> None:
        second = changing.servers.issue("second")
        for new, old in zip(second, changing.files, strict=True):
            old.write_bytes(new.read_bytes())
        assert changing.shown() == der(second.certificate)

    def test_one_swap_directly_after_another(self, changing: Port) -> None:
        for number in range(20):
            pair = changing.servers.issue(f"number-{number}")
            install(pair, changing.files)
            assert changing.shown() == der(pair.certificate)

    def test_another_client_authority_shuts_out_whom_the_old_one_signed(self, changing: Port) -> None:
        assert changing.service.check(check_request(path="/")).code == 0
        replace(changing.foreign.file, changing.client_ca)
        assert changing.refuses(changing.envoy)
        assert changing.ask(changing.foreign.issue("new")).code == 0
        assert changing.service.check(check_request(path="/")).code == 0  # it was let in before, and is not looked at

    def test_a_session_from_before_is_no_way_around_the_new_client_authority(self, changing: Port) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # there a session is had with the handshake
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(*changing.envoy)
        host, _, port = changing.service.target.rpartition(":")

        def again(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            with (
                socket.create_connection((host, int(port)), timeout=5) as plain,
                context.wrap_socket(plain, session=session) as secured,
            ):
                return secured.session, secured.session_reused

        session, _ = again(None)
        assert again(session)[1]  # as long as nothing changes
        replace(changing.foreign.file, changing.client_ca)
        with pytest.raises(OSError, match=r"alert|reset|EOF"):
            again(session)

    def test_authorities_one_after_the_other(self, changing: Port) -> None:
        both = changing.client_ca.with_name("both.pem")
        both.write_bytes(changing.clients.pem + changing.foreign.pem)
        replace(both, changing.client_ca)
        assert changing.ask(changing.envoy).code == 0
        assert changing.ask(changing.foreign.issue("new")).code == 0

    @pytest.mark.parametrize("broken", ["key of another", "no certificate", "cut", "empty", "gone", "encrypted key"])
    def test_a_broken_pair_keeps_the_old_one(self, changing: Port, broken: str) -> None:
        before = der(changing.files.certificate)
        break_pair(changing, broken)
        for _ in range(3):
            assert changing.shown() == before
            assert changing.ask(changing.envoy).code == 0
        changing.service.wait_for_line("certificates refused", changing.told + 1)
        assert len(refusals(changing)) == changing.told + 1  # told once
        mended = changing.servers.issue("mended")
        install(mended, changing.files)
        assert changing.shown() == der(mended.certificate)

    @pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\n", b"nothing of the kind"])
    def test_a_broken_client_authority_lets_nobody_else_in(self, changing: Port, content: bytes) -> None:
        changing.client_ca.write_bytes(content)
        assert changing.refuses(changing.foreign.issue("new"))
        assert changing.refuses(None)
        assert changing.ask(changing.envoy).code == 0
        changing.service.wait_for_line("certificates refused", changing.told + 1)
        assert len(refusals(changing)) == changing.told + 1

    def test_a_bad_renewal_is_told_without_a_handshake(self, changing: Port) -> None:
        changing.files.key.write_bytes(b"")
        line = changing.service.wait_for_line("certificates refused", changing.told + 1)
        assert line["level"] == "error"


def break_pair(port: Port, how: str) -> None:
    files = port.files
    if how == "key of another":
        replace(port.servers.issue("another").key, files.key)
    elif how == "no certificate":
        files.certificate.write_bytes(b"no certificate")
    elif how == "cut":
        files.certificate.write_bytes(files.certificate.read_bytes()[:-40])
    elif how == "empty":
        files.key.write_bytes(b"")
    elif how == "gone":
        files.key.unlink()
    else:
        command = ["openssl", "pkcs8", "-topk8", "-in", str(files.key), "-passout", "pass:x"]
        files.key.write_bytes(subprocess.run(command, capture_output=True, check=True, timeout=20).stdout)


class TestWithoutClientCertificates:
    def test_the_certificate_is_followed_as_well(self, tmp_path: Path) -> None:
        one = Port(tmp_path, client_ca=None)
        with one.service:
            assert one.ask(None).code == 0
            second = one.servers.issue("second")
            install(second, one.files)
            assert server_certificate(one.service.target, one.envoy) == der(second.certificate)
            assert one.ask(None).code == 0


def test_the_torture_in_short(tmp_path: Path) -> None:
    one = Port(tmp_path, allowed_sans=ALLOWED)
    with one.service:
        figures = [
            *torture.strangers(one, 2),
            *torture.versions(one, 1),
            *torture.swaps(one, 20),
            *torture.revocations(one, 2),
        ]
    assert [figure for figure in figures if not figure.held] == []
