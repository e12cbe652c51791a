"""A real Envoy at both ends of TLS: clients reach it by HTTPS, and it asks over mutual TLS."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bench import servers, through_envoy
from tests.support.authority import Pair, install, replace
from tests.support.ports import named_ports
from tests.support.tls_port import ALLOWED, Port

TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
README = Path(__file__).parents[2] / "envoy" / "README.md"
HOST = "app.example.com"
ONE_AFTER_ANOTHER = 5  # requests a connection, so that there are many handshakes


def file(path: Path) -> Mapping[str, str]:
    return {"filename": str(path)}


def socket(kind: str, **context: Any) -> Mapping[str, Any]:
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": f"{TYPE}.{kind}", **context}}


def upstream(port: Port, own: Pair | None, name: str = "authz.internal") -> Mapping[str, Any]:
    """Give what envoy/README.md prints, with the files of this test."""
    (printed,) = re.findall(r"^```yaml\n# mutual TLS: .*\n([^`]*)```", README.read_text(encoding="utf-8"), re.MULTILINE)
    printed = printed.replace("authz.internal", name).replace("secrets/authz-ca.pem", str(port.servers.file))
    if own is not None:
        printed = printed.replace("secrets/envoy.pem", str(own.certificate))
        printed = printed.replace("secrets/envoy-key.pem", str(own.key))
    transport: Any = yaml.safe_load(printed)["transport_socket"]
    if own is None:
        del transport["typed_config"]["common_tls_context"]["tls_certificates"]
    return dict(transport)


class Envoy:
    def __init__(self, port: Port, ports: Mapping[str, int]) -> None:
        self._trust = ssl.create_default_context(cafile=str(port.servers.file))
        self._trust.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)  # our certificates have no key identifiers
        self.ports = ports

    def ask(self) -> int:
        """Ask by HTTPS and give the status."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.ports["envoy"], context=self._trust, timeout=10)
        return self._get(connection, "/").status

    def stat(self, name: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["admin"], timeout=10)
        body = self._get(connection, f"/stats?format=json&filter=^cluster.authz.{name}$").read()
        return int(json.loads(body)["stats"][0]["value"])

    def is_up(self) -> bool:
        try:
            return self._get(http.client.HTTPConnection("127.0.0.1", self.ports["admin"]), "/ready").status == 200
        except OSError:
            return False

    @staticmethod
    def _get(connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
        connection.request("GET", path, headers={"host": HOST, "connection": "close"})
        return connection.getresponse()


@contextmanager
def envoy(folder: Path, port: Port, transport: Mapping[str, Any], **filter_changes: Any) -> Iterator[Envoy]:
    ports = named_ports("envoy", "admin")
    service = int(port.service.target.rpartition(":")[2])
    config: Any = through_envoy.configuration(
        "authz", port=ports["envoy"], admin=ports["admin"], service=service, pool=port.pool
    )
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    server = port.servers.issue("envoy-listener", dns=[HOST])
    pair = {"certificate_chain": file(server.certificate), "private_key": file(server.key)}
    chain["transport_socket"] = socket("DownstreamTlsContext", common_tls_context={"tls_certificates": [pair]})
    chain["filters"][0]["typed_config"]["http_filters"][0]["typed_config"] |= filter_changes
    (cluster,) = config["static_resources"]["clusters"]
    cluster["transport_socket"] = transport
    (options,) = cluster["typed_extension_protocol_options"].values()
    options["common_http_protocol_options"] = {"max_requests_per_connection": ONE_AFTER_ANOTHER}
    one = Envoy(port, ports)
    with servers.envoy(folder / f"envoy-{ports['envoy']}", config) as running:
        running.wait_until(one.is_up)
        yield one


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    one = Port(tmp_path, allowed_sans=ALLOWED)
    install(one.servers.issue("named", dns=["authz.internal"]), one.files)
    with one.service:
        yield one


def test_a_listed_envoy_is_answered_before_and_after_every_renewal(tmp_path: Path, port: Port) -> None:
    with envoy(tmp_path, port, upstream(port, port.envoy)) as one:
        for number in range(10):
            assert [one.ask() for _ in range(10)] == [200] * 10
            install(port.servers.issue(f"renewed-{number}", dns=["authz.internal"]), port.files)
        assert one.stat("ssl.handshake") >= 10
        assert one.stat("ssl.connection_error") == 0
    loaded = [line for line in port.service.log_lines() if line.get("msg") == "certificates loaded"]
    assert len(loaded) >= 9


def test_an_envoy_whose_authority_was_taken_back_is_shut_out_until_it_is_given_again(
    tmp_path: Path, port: Port
) -> None:
    with envoy(tmp_path, port, upstream(port, port.envoy)) as one:
        assert one.ask() == 200
        replace(port.foreign.file, port.client_ca)
        said = [one.ask() for _ in range(4 * ONE_AFTER_ANOTHER)]  # its open connection has a few requests left
        assert said[-1] == 503
        assert said == sorted(said)  # 200 until it has to shake hands again, and never after
        replace(port.clients.file, port.client_ca)
        port.service.wait_for(lambda: one.ask() == 200, "an answer")


@pytest.mark.parametrize("failure_mode_allow", [False, True])
def test_an_envoy_that_is_not_listed_is_denied_even_where_it_takes_errors_for_an_allow(
    tmp_path: Path, port: Port, failure_mode_allow: bool
) -> None:
    stranger = port.clients.issue("stranger", uris=["spiffe://example.com/other"])
    with envoy(tmp_path, port, upstream(port, stranger), failure_mode_allow=failure_mode_allow) as one:
        assert [one.ask() for _ in range(10)] == [503] * 10
    denied = [line for line in port.service.log_lines() if line.get("msg") == "decision"]
    assert {tuple(line["reasons"]) for line in denied} == {("proxy-refused",)}


@pytest.mark.parametrize("who", ["nobody", "foreign authority"])
def test_an_envoy_that_cannot_shake_hands_lets_nobody_in(tmp_path: Path, port: Port, who: str) -> None:
    own = None if who == "nobody" else port.foreign.issue("envoy", uris=ALLOWED[:1])
    with envoy(tmp_path, port, upstream(port, own)) as one:
        assert one.ask() == 503


def test_an_envoy_does_not_ask_somebody_else(tmp_path: Path, port: Port) -> None:
    with envoy(tmp_path, port, upstream(port, port.envoy, name="elsewhere.internal")) as one:
        assert one.ask() == 503
        assert one.stat("ssl.fail_verify_san") > 0
