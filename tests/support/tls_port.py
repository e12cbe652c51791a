"""A running service with mutual TLS on its port, the authorities of both sides, and handshakes with it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from authz.pb import external_auth_pb2 as pb
from tests.support.authority import Authority, Pair, client_credentials, install, replace
from tests.support.check_request import check_request
from tests.support.running_service import CHECK, Reply, RunningService, reply_of
from tests.support.user_pool import FakeUserPool

POLICY = "- {from: 'https://app.example.com', allow_public_unauthenticated_access: true}\n"
SPIFFE = "spiffe://example.com/envoy"
ALLOWED = [SPIFFE, "envoy.internal"]


class Port:
    """A service with mutual TLS in a folder: its authorities, its files and its clients."""

    def __init__(self, folder: Path, **tls: Any) -> None:
        self.servers, self.clients = Authority(folder / "servers"), Authority(folder / "clients")
        self.foreign = Authority(folder / "foreign")
        self.files = Pair(folder / "server.pem", folder / "server.key")
        self.client_ca = folder / "client-ca.pem"
        install(self.servers.issue("first"), self.files)
        replace(self.clients.file, self.client_ca)
        self.pool = FakeUserPool(clock=time.time)
        self.told = 0  # refusals of certificates in the log, before a test
        self.envoy = self.clients.issue("envoy", uris=[SPIFFE])
        settings = {"tls": {**self.paths(), "client_ca": str(self.client_ca), **tls}}
        settings["tls"] = {name: value for name, value in settings["tls"].items() if value is not None}
        self.service = RunningService(
            folder / "service",
            POLICY,
            pools=[self.pool],
            settings=settings,
            credentials=client_credentials(self.servers.pem, self.envoy),
        )

    def paths(self) -> dict[str, str]:
        return {"certificate": str(self.files.certificate), "key": str(self.files.key)}

    def ask(self, own: Pair | None, server_ca: bytes | None = None) -> Reply:
        """Ask over a connection of its own. Raises grpc.RpcError."""
        credentials = client_credentials(server_ca or self.servers.pem, own)
        own_connection = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        with grpc.secure_channel(self.service.target, credentials, own_connection) as channel:
            return reply_of(channel_check(channel))

    def refuses(self, own: Pair | None) -> bool:
        """Tell whether the handshake fails."""
        try:
            self.ask(own)
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
        return False

    def shown(self) -> bytes:
        """Give the certificate that a new handshake is shown."""
        return server_certificate(self.service.target, self.envoy)


def channel_check(channel: grpc.Channel) -> Any:
    data = check_request(path="/").SerializeToString()
    return pb.CheckResponse.FromString(channel.unary_unary(CHECK)(data, timeout=5))


def handshake(target: str, own: Pair | None, version: ssl.TLSVersion | None = None) -> tuple[str | None, bytes | None]:
    """Shake hands and give the version and the server's certificate. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as plain, context.wrap_socket(plain) as secured:
        return secured.version(), secured.getpeercert(binary_form=True)


def server_certificate(target: str, own: Pair) -> bytes:
    return handshake(target, own)[1] or b""


def der(pem: Path) -> bytes:
    return x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(Encoding.DER)


def s_client(target: str, own: Pair, version: str) -> str:
    """Shake hands by openssl(1), which still speaks the old versions when it is told that nothing matters."""
    command = [
        *("openssl", "s_client", "-connect", target, version, "-cipher", "ALL:@SECLEVEL=0", "-alpn", "h2"),
        *("-cert", str(own.certificate), "-key", str(own.key)),
    ]
    ended = subprocess.run(command, input="", capture_output=True, text=True, errors="replace", timeout=20, check=False)
    return ended.stdout + ended.stderr


def refusals(port: Port) -> list[str]:
    return [line for line in port.service.output.splitlines() if "certificates refused" in line]
