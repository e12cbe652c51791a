"""The verb `authz test`: exit codes and the three outputs."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from authz.cli import cli

POLICIES = "- from: https://a.example\n  allowed_idp_claims:\n    cognito:groups: [admins]\n"
GOOD = "tests:\n  - [anonymous, GET https://a.example/, 401 user-unauthenticated]\n"
BAD = GOOD.replace("401 user-unauthenticated", "allow")
CONFIG = """\
policies: policies
cognito:
  - {user_pool: eu-west-1_AbCdEfGhI, clients: [web], token_use: [access]}
identity_headers: {x-me: sub}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with one policy and its good test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTHZ_CONFIG", raising=False)
    path = tmp_path / "policies"
    path.mkdir()
    (path / "a.yaml").write_text(POLICIES)
    (path / "a_test.yaml").write_text(GOOD)
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["test", *arguments], catch_exceptions=False)


@pytest.mark.parametrize("arguments", [(), ("policies",), ("policies/a_test.yaml",)])
def test_good_tests_exit_with_0_and_the_sum_is_the_last_line(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "✓ policies/a_test.yaml  1/1"
    assert lines[-1] == "1 passed, 0 failed"


def test_a_failed_test_exits_with_4_and_shows_why(folder: Path) -> None:
    (folder / "a_test.yaml").write_text(BAD)
    result = run("policies")
    assert result.exit_code == 4
    assert "      - allow\n      + 401 user-unauthenticated\n" in result.stdout
    assert "found: nobody signed in (policies/a.yaml:3)" in result.stdout
    assert "\x1b[" not in result.stdout


def test_a_coverage_below_the_threshold_exits_with_4() -> None:
    assert run("policies", "--coverage-threshold", "50").exit_code == 0
    result = run("policies", "--coverage-threshold", "51")
    assert result.exit_code == 4
    assert "the coverage is below 51 %" in result.stdout


@pytest.mark.parametrize("threshold", ["-1", "101", "much", "nan", "-nan"])
def test_a_threshold_that_is_no_percentage_exits_with_2(threshold: str) -> None:
    assert run("policies", "--coverage-threshold", threshold).exit_code == 2


def test_what_does_not_load_exits_with_3_and_says_where(folder: Path) -> None:
    (folder / "a_test.yaml").write_text(GOOD.replace("anonymous", "anonymus"))
    result = run("policies")
    assert result.exit_code == 3
    assert "policies/a_test.yaml:2:6: unknown principal `anonymus`; did you mean `anonymous`?" in result.output
    (folder / "a_test.yaml").unlink()
    result = run("policies")
    assert result.exit_code == 3
    assert "no policy test found" in result.output
    assert run("nowhere").exit_code == 3


def test_json_and_junit_can_be_parsed(folder: Path) -> None:
    (folder / "a_test.yaml").write_text(BAD)
    result = run("policies", "--output", "json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["failed"] == 1
    result = run("policies", "--output", "junit")
    assert result.exit_code == 4
    assert ET.fromstring(result.stdout).get("failures") == "1"


def test_a_configuration_decides_with(folder: Path) -> None:
    (folder.parent / "authz.yaml").write_text(CONFIG)
    (folder / "a_test.yaml").write_text(
        "principals: {alice: {cognito:groups: [admins]}}\n"
        "tests: [{as: alice, request: GET https://a.example/, expect: allow, set: {x-me: alice}}]\n"
    )
    assert run("--config", "authz.yaml").exit_code == 0
    assert run("policies").exit_code == 4
    assert run("--config", "nowhere.yaml").exit_code == 3
