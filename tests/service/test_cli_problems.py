"""Problems as every verb tells them: for people without what controls a terminal, for programs in one document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from authz.cli import cli

ROOT = Path(__file__).parents[2]
ENVOY = str(ROOT / "envoy" / "api.yaml")
CONFIGURATION = """\
policies: rules
cognito:
  - {user_pool: eu-west-1_AbCdEfGhI, clients: [c], token_use: [access]}
"""
ROUTE = "- from: https://a.example.com\n  allow_public_unauthenticated_access: true\n"
HOSTILE = ROUTE + '  "\\e]0;OWNED\\a\\e[2J\\u202e": 1\n'
URL = ("--url", "https://a.example.com/")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand beside a folder with a configuration and a policy that no terminal should see as it is."""
    rules = tmp_path / "etc" / "rules"
    rules.mkdir(parents=True)
    (rules / "z.yaml").write_text(HOSTILE, encoding="utf-8")
    (rules / "z_test.yaml").write_text("tests: [[anonymous, GET https://a.example.com/, allow]]\n", encoding="utf-8")
    (tmp_path / "etc" / "authz.yaml").write_text(CONFIGURATION, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "etc"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, env={"AUTHZ_CONFIG": ""})


ALL = [
    ("check", "etc/rules"),
    ("check", "-c", "etc/authz.yaml"),
    ("serve", "-c", "etc/authz.yaml"),
    ("test", "etc/rules"),
    ("test", "-c", "etc/authz.yaml"),
    ("explain", "-c", "etc/authz.yaml", *URL),
    ("explain", "--policies", "etc/rules", *URL),
    ("doctor", "-c", "etc/authz.yaml", ENVOY),
]


@pytest.mark.parametrize("arguments", ALL, ids=" ".join)
def test_a_problem_names_a_file_that_can_be_opened_and_controls_no_terminal(
    here: Path, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments)
    assert result.exit_code == 3
    first = result.output.splitlines()[0]
    assert first.startswith("etc/rules/z.yaml:3:3: route `https://a.example.com`: unknown key `�]0;OWNED��[2J�`")
    assert result.output.replace("\n", "").isprintable()


def test_a_bad_argument_controls_no_terminal_either(here: Path) -> None:
    (here / "rules" / "z.yaml").write_text(ROUTE, encoding="utf-8")
    result = run("explain", "-c", "etc/authz.yaml", "--now", "\x1b]0;OWNED\a", *URL)
    assert (result.exit_code, "�]0;OWNED�" in result.output) == (2, True)
    assert "\x1b" not in result.output


def test_nor_what_an_import_says(here: Path) -> None:
    source = here / "pomerium.yaml"
    source.write_text('routes: [{from: "https://*.\\ea", to: http://a, allowed_users: [x]}]\n', encoding="utf-8")
    result = run("import", "pomerium", "etc/pomerium.yaml")
    assert "\x1b" not in result.output


@pytest.mark.parametrize("verb", [(*one, "--output", "json") for one in ALL if one[0] != "serve"], ids=" ".join)
def test_programs_get_one_document_whatever_fails_to_load(here: Path, verb: tuple[str, ...]) -> None:
    result = run(*verb)
    assert (result.exit_code, result.stderr) == (3, "")
    report = json.loads(result.stdout)
    assert report["ok"] is False
    (problem,) = report["problems"]
    assert problem == {
        "file": "etc/rules/z.yaml",
        "line": 3,
        "column": 3,
        "severity": "error",
        "message": problem["message"],
    }
    assert "unknown key `\x1b]0;OWNED\a" in problem["message"]


@pytest.mark.parametrize(
    "verb", [("test", "none"), ("explain", "-c", "none", *URL), ("doctor", "none"), ("test", "-c", "none")]
)
def test_so_for_what_is_not_there(here: Path, verb: tuple[str, ...]) -> None:
    report = json.loads(run(*verb, "--output", "json").stdout)
    assert (report["ok"], [problem["file"] for problem in report["problems"]]) == (False, ["none"])


def test_build_servers_get_an_error_a_problem(here: Path) -> None:
    result = run("test", "etc/rules", "none", "--output", "junit")
    assert result.exit_code == 3
    root = ET.fromstring(result.stdout)
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "0", "2")
    first, second = root.findall("testsuite/testcase")
    assert (first.get("name"), first.get("file"), first.get("line")) == (
        "etc/rules/z.yaml:3:3",
        "etc/rules/z.yaml",
        "3",
    )
    assert [error.get("message") for error in second] == ["no such file or folder"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("check", "etc/rules"), "\\u2713 1 route"),
        (("test", "etc/rules"), "\\u2713 etc/rules/z_test.yaml"),
        (("explain", "--policies", "etc/rules", *URL), "\\u2713 allow: accept"),
        (("doctor", ENVOY), "\\u2713 nothing that would undo a promise"),
    ],
)
def test_a_terminal_without_our_marks_gets_their_escapes(
    here: Path, encoding: str, arguments: tuple[str, ...], says: str
) -> None:
    (here / "rules" / "z.yaml").write_text(ROUTE, encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT), "AUTHZ_CONFIG": ""}
    done = subprocess.run(
        [sys.executable, "-m", "authz", *arguments], env=environment, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert says in done.stdout.decode(encoding)
