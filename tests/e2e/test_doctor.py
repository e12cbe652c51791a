"""The doctor asks a real Envoy: what runs is examined, not what a file says."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, run
from threading import Thread
from time import monotonic, sleep
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from authz.demo.files import write_browser_config, write_envoy_config
from authz.demo.stand import envoy_binary
from authz.workbench.doctor import Finding, FindingId
from authz.workbench.doctor.verb import diagnose
from tests.support.authority import Authority
from tests.support.broken_envoys import ADDRESSED, BREAKS, EXTERNAL, SAMPLES, VERIFIED, Break, Parts, tls
from tests.support.ports import named_ports

NAMES = ("envoy", "envoy_admin", "authz", "admin", "upstream", "cognito", "browser", "browser_admin")


@contextmanager
def envoy(config: Path, admin: int) -> Iterator[str]:
    """Run an Envoy until its admin answers; the cluster it asks need not be there."""
    options = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
    process = Popen([str(envoy_binary()), "-c", str(config), *options], cwd=config.parent, stdout=DEVNULL, stderr=PIPE)
    assert process.stderr is not None
    try:
        address = f"http://127.0.0.1:{admin}"
        end = monotonic() + 30
        while process.poll() is None and monotonic() < end and not has_listeners(address):
            sleep(0.05)
        assert process.poll() is None, process.stderr.read()
        yield address
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


def has_listeners(address: str) -> bool:
    try:
        with build_opener(ProxyHandler({})).open(f"{address}/listeners", timeout=1) as answer:
            return bool(answer.read())
    except OSError:
        return False


def examined(folder: Path, sample: str, edit: Callable[[Any, Any], object]) -> list[Finding]:
    """Write a sample for free ports, edit it, run it and ask the doctor."""
    ports = named_ports(*(f"{name}_port" for name in NAMES))
    if sample == "api":
        path, admin = write_envoy_config(folder, ports=ports), ports["envoy_admin_port"]
    else:
        path = write_browser_config(folder, ports=ports, client_id="c", client_secret="s")
        admin = ports["browser_admin_port"]
    config = json.loads(path.read_bytes())
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    edit(config, manager)
    path.write_text(json.dumps(config), encoding="utf-8")
    with envoy(path, admin) as address:
        return diagnose(address, None)


@pytest.mark.parametrize("sample", ["api", "browser"])
def test_running_samples_are_healthy(sample: str, tmp_path: Path) -> None:
    assert examined(tmp_path, sample, lambda _, manager: manager) == []


def test_a_sick_envoy_is_found_out(tmp_path: Path) -> None:
    def edit(config: Any, manager: Any) -> None:
        del config["layered_runtime"]
        guard = manager["http_filters"][-2]["typed_config"]
        guard["failure_mode_allow"] = True
        guard["grpc_service"]["timeout"] = "0s"
        lua = {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": "function envoy_on_request(handle) end"},
        }
        manager["http_filters"].insert(-1, {"name": "lua", "typed_config": lua})
        del manager["early_header_mutation_extensions"]
        manager["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED"

    found = examined(tmp_path, "browser", edit)
    assert {one.id for one in found} == {
        FindingId.FAILURE_MODE_ALLOW,
        FindingId.TIMEOUT_MISSING,
        FindingId.FILTER_AFTER_EXT_AUTHZ,
        FindingId.IDENTITY_HEADERS_NOT_STRIPPED,
        FindingId.ESCAPED_SLASHES_KEPT,
        FindingId.OAUTH2_WITHOUT_GCM,
    }
    assert all(one.path.startswith("configs[") for one in found)


def test_headers_that_pass_too_many_or_too_few_are_found_out(tmp_path: Path) -> None:
    """What people have who started from our samples of before, and from Envoy Gateway."""

    def edit(_: Any, manager: Any) -> None:
        mutations = manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
        mutations[0] = {"remove_on_match": {"key_matcher": {"prefix": "x-auth-"}}}
        guard = manager["http_filters"][-2]["typed_config"]
        guard["allowed_headers"] = {"patterns": [{"exact": name} for name in ("authorization", "cookie", "accept")]}
        guard["decoder_header_mutation_rules"] = {"disallow_all": True, "allow_expression": {"regex": ".*"}}

    assert {one.id for one in examined(tmp_path, "api", edit)} == {
        FindingId.IDENTITY_SPELLINGS_NOT_STRIPPED,
        FindingId.REQUEST_HEADERS_DROPPED,
        FindingId.MUTATIONS_NOT_LIMITED,
    }


def test_what_web_sockets_and_a_matching_tree_lead_to_is_examined_too(tmp_path: Path) -> None:
    def edit(_: Any, manager: Any) -> None:
        host = manager["route_config"]["virtual_hosts"][0]
        route = host.pop("routes")[-1]
        route["typed_per_filter_config"] = {EXT_AUTHZ: {"@type": f"{HTTP}.ext_authz.v3.ExtAuthzPerRoute", **OFF}}
        action = {
            "action": {"name": "route", "typed_config": {"@type": f"{TYPES}/envoy.config.route.v3.Route", **route}}
        }
        path = {"@type": f"{TYPES}/envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": ":path"}
        tree = {"input": {"name": "path", "typed_config": path}, "prefix_match_map": {"map": {"/": action}}}
        host["matcher"] = {"matcher_tree": tree}
        manager["upgrade_configs"] = [{"upgrade_type": "websocket", "filters": [manager["http_filters"][-1]]}]

    found = examined(tmp_path, "api", edit)
    assert {one.id for one in found} == {FindingId.EXT_AUTHZ_DISABLED, FindingId.EXT_AUTHZ_MISSING}


def test_what_came_from_files_while_it_ran_is_examined_too(tmp_path: Path) -> None:
    """Listeners, routes and clusters from LDS, RDS and CDS: none of it stands in the bootstrap file."""

    def edit(config: Any, manager: Any) -> None:
        table = manager.pop("route_config")
        off = {"@type": f"{HTTP}.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}
        table["virtual_hosts"][0]["typed_per_filter_config"]["envoy.filters.http.ext_authz"] = off
        source = {"resource_api_version": "V3", "path_config_source": {"path": resource("routes", ROUTES, [table])}}
        manager["rds"] = {"route_config_name": table["name"], "config_source": source}
        held = config.pop("static_resources")
        clusters = held["clusters"]
        del clusters[-1]["health_checks"]
        config["dynamic_resources"] = {
            "lds_config": {"path_config_source": {"path": resource("listeners", LISTENERS, held["listeners"])}},
            "cds_config": {"path_config_source": {"path": resource("clusters", CLUSTERS, clusters)}},
        }

    def resource(name: str, kind: str, items: list[Any]) -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"resources": [{"@type": kind, **one} for one in items]}), encoding="utf-8")
        return str(path)

    found = examined(tmp_path, "api", edit)
    assert [one.id for one in found] == [FindingId.EXT_AUTHZ_DISABLED, FindingId.HEALTH_CHECK_MISSING]


FORGED = "203.0.113.9"
# Who says nothing of an address, and who lies in one place; one in `x-forwarded-for` makes a client external.
LIES: tuple[tuple[str, ...], ...] = ((), (EXTERNAL,), ("x-forwarded-for",), ("x-real-ip",), ("x-said",))
PROXIED = f"PROXY TCP4 {FORGED} 127.0.0.1 1 2\r\n".encode()
CLIENT_IP = (FindingId.CLIENT_IP_FORGEABLE, FindingId.CLIENT_IP_MISSING)
ADDRESSES = {
    **{name: (promises, edit, None) for name, (promises, edit) in ADDRESSED.items() if promises.client_ip_header},
    **{
        one.name: (one.promises, one.edit, one.finding)
        for one in BREAKS
        if one.finding in CLIENT_IP and one.promises.client_ip_header and "after ext_authz" not in one.name
    },
}


def test_who_names_the_clients_address_is_who_the_doctor_says(tmp_path: Path) -> None:
    """A listener for each way to name it, which answers with what it has when ext_authz would be asked."""
    ports = named_ports(*ADDRESSES, "admin")
    listeners = []
    for name, (promises, edit, _) in ADDRESSES.items():
        parts = Parts(SAMPLES["api.yaml"])
        edit(parts)
        told = {"header": {"key": "told", "value": f"%REQ({promises.client_ip_header})%"}}
        answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200}, "response_headers_to_add": [told]}
        parts.host["routes"] = [answer]
        parts.filters.remove(parts.guard)
        [listener] = parts.root["static_resources"]["listeners"]
        listener["address"]["socket_address"]["port_value"] = ports[name]
        listeners.append({**listener, "name": name})
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ports["admin"]}}}
    path = tmp_path / "envoy.json"
    path.write_text(json.dumps({"admin": admin, "static_resources": {"listeners": listeners}}), encoding="utf-8")

    def told_to(name: str) -> set[str | None]:
        answers = set()
        preambles = [b"", PROXIED] if "PROXY" in name else [b""]
        for lies, preamble in product(LIES, preambles):
            connection = HTTPConnection("127.0.0.1", ports[name], timeout=5)
            connection.connect()
            connection.sock.sendall(preamble)
            connection.request("GET", "/", headers=dict.fromkeys(lies, FORGED))
            answers.add(connection.getresponse().headers["told"])
            connection.close()
        return answers

    with envoy(path, ports["admin"]):
        for name, (_, _, found) in ADDRESSES.items():
            told = told_to(name)
            is_forged = any(FORGED in text for text in told if text)
            assert is_forged is (found is FindingId.CLIENT_IP_FORGEABLE), (name, told)
            assert found is not None or (None not in told and len(told) == 1), (name, told)
            assert found is not FindingId.CLIENT_IP_MISSING or None in told, (name, told)


UNVERIFIED = [one for one in BREAKS if one.finding is FindingId.TLS_NOT_VERIFIED]


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


@contextmanager
def tls_server(folder: Path) -> Iterator[int]:
    """Answer by TLS, with a certificate that nobody was told to trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(folder).issue("authz"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(10)


def test_any_certificate_is_taken_where_the_doctor_says_so(tmp_path: Path) -> None:
    """A cluster for each way of TLS, and one that is verified."""
    verified = Break("verified", lambda p: tls(p, validation_context=VERIFIED), FindingId.NOT_SEEN)
    ports, cases = named_ports("envoy", "admin"), [verified, *UNVERIFIED]
    parts = Parts(SAMPLES["api.yaml"])
    held = parts.root["static_resources"]
    held["clusters"], held["secrets"], parts.host["routes"] = [], [], []
    held["listeners"][0]["address"]["socket_address"]["port_value"] = ports["envoy"]
    parts.root["admin"]["address"]["socket_address"]["port_value"] = ports["admin"]
    parts.filters.remove(parts.guard)
    with tls_server(tmp_path) as port:
        for number, case in enumerate(cases):
            own = Parts(SAMPLES["api.yaml"])
            case.edit(own)
            own.endpoint["socket_address"].update(address="127.0.0.1", port_value=port)
            cluster = {name: own.authz[name] for name in ("transport_socket", "load_assignment")}
            cluster = json.loads(json.dumps(cluster).replace('"ca"', f'"ca-{number}"'))
            held["clusters"].append({**cluster, "name": str(number), "connect_timeout": "1s"})
            for secret in own.root["static_resources"].get("secrets", []):
                held["secrets"].append({**secret, "name": f"ca-{number}"})
            parts.host["routes"].append({"match": {"path": f"/{number}"}, "route": {"cluster": str(number)}})
        path = tmp_path / "envoy.json"
        path.write_text(json.dumps(parts.root), encoding="utf-8")
        with envoy(path, ports["admin"]):
            statuses = {}
            for number, case in enumerate(cases):
                connection = HTTPConnection("127.0.0.1", ports["envoy"], timeout=5)
                connection.request("GET", f"/{number}")
                statuses[case.name] = connection.getresponse().status
                connection.close()
    assert statuses == {"verified": 503, **dict.fromkeys((one.name for one in UNVERIFIED), 200)}


EXT_AUTHZ = "envoy.filters.http.ext_authz"
OFF = {"disabled": True}
TYPES = "type.googleapis.com"
HTTP = "type.googleapis.com/envoy.extensions.filters.http"
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
LISTENERS = "type.googleapis.com/envoy.config.listener.v3.Listener"
CLUSTERS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


# Whole messages would be longer than what they show; their field names are in the other tests.
INCOMPLETE = {
    "over HTTP", "some metadata alone", "a filter of an upstream", "a filter of the router", "a filter from elsewhere",
    "routes from elsewhere", "routes of a scope from elsewhere", "listeners from a collection elsewhere",
    "a listener's chains from elsewhere",
}  # fmt: skip


def test_the_broken_samples_of_the_unit_tests_are_configurations_that_envoy_runs(tmp_path: Path) -> None:
    """Names that Envoy does not know would be refused: what the doctor looks for is what Envoy reads."""

    def refused(number: int, broken: Break) -> str:
        parts = Parts(SAMPLES["api.yaml"])
        broken.edit(parts)
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(parts.root), encoding="utf-8")
        command = [str(envoy_binary()), "--mode", "validate", "-c", str(path), "--log-level", "error"]
        done = run(command, capture_output=True, text=True, timeout=60, check=False)
        return f"{broken.name}: {done.stderr}" if done.returncode else ""

    runs = [one for one in BREAKS if one.name not in INCOMPLETE and "after" not in one.name]
    whole = list({one.finding: one for one in runs}.values())  # one of each: all would take half a minute
    with ThreadPoolExecutor(2) as threads:
        assert [text for text in threads.map(refused, range(len(whole)), whole) if text] == []
