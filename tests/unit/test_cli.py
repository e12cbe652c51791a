"""What the verbs say of arguments that are none: exit 2, and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from authz.cli import cli
from authz.settings.addresses import LISTEN_FORMS


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:45019", "45019", "127.0.0.1:45O19", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:0", ":0",
        "[::1]", "unix:", "", "a b_c:1",
    ],
)  # fmt: skip
def test_the_healthcheck_asks_no_address_that_none_can_listen_on(address: str) -> None:
    ended = invoke("healthcheck", "--address", address)
    assert ended.exit_code == 2
    assert f"Invalid value for '--address': found '{address}', expected {LISTEN_FORMS}" in ended.output


@pytest.mark.parametrize("address", ["unix:///run/nowhere/authz.sock", "unix:/run/nowhere/authz.sock"])
def test_the_healthcheck_asks_a_socket_in_either_spelling(address: str) -> None:
    ended = invoke("healthcheck", "--address", address)
    assert (ended.exit_code, ended.output) == (1, f"not serving: {address}: UNAVAILABLE\n")


@pytest.mark.parametrize("address", ["unix:no-such.sock", "my_authz.invalid:9191"])
def test_the_healthcheck_asks_what_only_clients_can_name(address: str) -> None:
    ended = invoke("healthcheck", "--address", address, "--timeout", "1")
    assert ended.exit_code == 1
    assert ended.output.startswith(f"not serving: {address}: ")


@pytest.mark.parametrize("seconds", ["nan", "-1", "0", "inf", "1e20"])
def test_the_healthcheck_waits_for_some_time(seconds: str) -> None:
    ended = invoke("healthcheck", "--address", "unix:no-such.sock", "--timeout", seconds)
    assert ended.exit_code == 2
    assert "Invalid value for '--timeout'" in ended.output


@pytest.mark.parametrize("port", ["70000", "65536", "-5", "x"])
@pytest.mark.parametrize("option", ["--envoy-port", "--browser-admin-port"])
def test_the_demo_takes_no_port_that_is_none(option: str, port: str) -> None:
    ended = invoke("demo", "--once", option, port)
    assert ended.exit_code == 2
    assert f"Invalid value for '{option}'" in ended.output


def test_the_demos_scenario_is_that_of_the_samples(tmp_path: Path) -> None:
    ended = invoke("demo", "--once", "--policies", str(tmp_path))
    assert ended.exit_code == 2
    assert "--once plays a scenario written for the sample policies" in ended.output
