"""`authz doctor` as a child process, as a person or a pipeline runs it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ENVOY = Path(__file__).parents[2] / "envoy"
CONFIGURATION = """\
policies: rules.yaml
cognito:
  - {user_pool: eu-west-1_AbCdEfGhI, clients: [c], token_use: [access]}
identity_headers: {x-tenant: "custom:tenant"}
workers: 2
"""
POLICY = "- from: https://app.localhost\n  allow_public_unauthenticated_access: true\n"


def doctor(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")}
    environment["PYTHONPATH"] = str(ENVOY.parent)
    command = [sys.executable, "-m", "authz", "doctor", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    text = (ENVOY / "api.yaml").read_text(encoding="utf-8")
    text = text.replace("failure_mode_allow: false", "failure_mode_allow: true").replace("merge_slashes: true", "")
    (tmp_path / "envoy.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "authz.yaml").write_text(CONFIGURATION, encoding="utf-8")
    (tmp_path / "rules.yaml").write_text(POLICY, encoding="utf-8")
    return tmp_path


def test_a_sample_is_healthy(tmp_path: Path) -> None:
    done = doctor(str(ENVOY / "api.yaml"), folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "✓ nothing that would undo a promise\n", "")


def test_a_sick_one_is_told_with_places_and_fixes_and_ends_with_3(sick: Path) -> None:
    done = doctor("envoy.yaml", folder=sick)
    first, path, fix, *_, last = done.stdout.splitlines()
    assert done.returncode == 3, done.stdout + done.stderr
    assert first.startswith("envoy.yaml:")
    assert first.endswith(": error: failure-mode-allow: everything is let in while authz is down")
    assert path.strip().endswith("http_filters[2].typed_config.failure_mode_allow")
    assert fix.strip() == "fix: failure_mode_allow: false"
    assert last == "✗ 1 error, 1 warning"


def test_programs_get_json_and_the_configuration_is_compared(sick: Path) -> None:
    done = doctor("envoy.yaml", "--config", "authz.yaml", "--output", "json", folder=sick)
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (3, False)
    assert {(one["id"], one["severity"]) for one in report["findings"]} == {
        ("failure-mode-allow", "error"),
        ("slashes-not-merged", "warning"),
        ("identity-headers-not-stripped", "error"),
        ("too-few-endpoints", "error"),
    }
    assert all(one["file"] == "envoy.yaml" and one["line"] and one["column"] for one in report["findings"])


def test_warnings_alone_end_with_0(sick: Path) -> None:
    text = (sick / "envoy.yaml").read_text(encoding="utf-8")
    (sick / "envoy.yaml").write_text(text.replace("failure_mode_allow: true", ""), encoding="utf-8")
    done = doctor("envoy.yaml", folder=sick)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "✓ 1 warning")


def test_what_could_not_be_seen_is_said_last_too(tmp_path: Path) -> None:
    text = (ENVOY / "api.yaml").read_text(encoding="utf-8")
    elsewhere = "\ndynamic_resources: {lds_config: {path_config_source: {path: listeners.yaml}}}\n"
    (tmp_path / "envoy.yaml").write_text(text + elsewhere, encoding="utf-8")
    done = doctor("envoy.yaml", folder=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "✓ 1 warning, not everything was seen")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://127.0.0.1:9901", "an admin address is http to loopback"),
        ("http://192.0.2.1:9901", "an admin address is http to loopback"),
        ("http://127.0.0.1:1", "does not answer"),
        ("http://127.0.0.1:99999", "is no address"),
        ("file:///etc/passwd", "an admin address is http to loopback"),
    ],
)
def test_an_address_that_cannot_be_asked_is_a_bad_argument(address: str, words: str, tmp_path: Path) -> None:
    done = doctor(address, folder=tmp_path)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_what_is_no_http_server_is_not_shown_on_the_terminal(tmp_path: Path) -> None:
    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"\x00\x00\x12\x04\x1b[31m\xff\r\n\r\n")  # as a gRPC port begins

    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=answer)
        answering.start()
        done = doctor(f"http://127.0.0.1:{server.getsockname()[1]}", folder=tmp_path)
        answering.join(10)
    assert done.returncode == 2
    assert "does not answer as HTTP servers do" in done.stderr
    assert done.stderr.replace("\n", "").isprintable()


def test_an_address_without_its_scheme_is_told_apart_from_a_file(tmp_path: Path) -> None:
    done = doctor("127.0.0.1:9901", folder=tmp_path)
    assert (done.returncode, "write http://127.0.0.1:9901 if" in done.stdout) == (3, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("", "nothing in here"), ("a: [", "not YAML"), ("a: 1", "no HTTP connection manager")],
)
def test_what_is_no_configuration_ends_with_3(text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "envoy.yaml").write_text(text, encoding="utf-8")
    done = doctor("envoy.yaml", folder=tmp_path)
    assert (done.returncode, done.stdout.startswith("envoy.yaml:"), words in done.stdout) == (3, True, True)
