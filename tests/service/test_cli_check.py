"""`authz check` and the load errors of `authz serve`, as a person meets them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from authz.cli import cli

CONFIGURATION = """\
policies: rules
cognito:
  - {user_pool: eu-west-1_AbCdEfGhI, clients: [c], token_use: [access]}
"""
ROUTE = "- from: https://a.example.com\n  bogus: 1\n"
ROUTE_ERROR = (
    "rules/z.yaml:2:3: route `https://a.example.com`: unknown key `bogus`: neither ours nor Pomerium's; delete it"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "etc" / "rules").mkdir(parents=True)
    (tmp_path / "etc" / "rules" / "z.yaml").write_text(ROUTE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "etc"


def run(*arguments: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(cli, arguments, env={"AUTHZ_CONFIG": ""})
    return result.exit_code, result.output.splitlines()


@pytest.mark.parametrize(
    "arguments", [("check", "etc/rules"), ("check", "-c", "etc/a.yaml"), ("serve", "-c", "etc/a.yaml")]
)
def test_a_problem_names_a_file_that_can_be_opened_from_here(here: Path, arguments: tuple[str, ...]) -> None:
    (here / "a.yaml").write_text(CONFIGURATION, encoding="utf-8")
    code, lines = run(*arguments)
    assert (code, lines[0]) == (3, f"etc/{ROUTE_ERROR}")


def test_a_parent_folder_is_named_as_it_was_given(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here / "rules")
    assert run("check", "../rules")[1][0] == f"../{ROUTE_ERROR}"
    assert run("check", ".")[1][0] == f"../{ROUTE_ERROR}"


@pytest.mark.parametrize("verb", ["check", "serve"])
def test_a_configuration_that_does_not_load_hides_no_policy_error(here: Path, verb: str) -> None:
    (here / "a.yaml").write_text(f"bogus: 1\n{CONFIGURATION}", encoding="utf-8")
    code, lines = run(verb, "-c", "etc/a.yaml")
    assert code == 3
    assert lines[0].startswith("etc/a.yaml:1:1: bogus: unknown key")
    assert f"etc/{ROUTE_ERROR}" in lines


def test_nor_one_of_routes_in_the_configuration_itself(here: Path) -> None:
    inline = CONFIGURATION.replace(
        "policies: rules\n", "bogus: 1\nroutes:\n  - from: https://a.example.com\n    bogus: 1\n"
    )
    (here / "a.yaml").write_text(inline, encoding="utf-8")
    _, lines = run("check", "-c", "etc/a.yaml")
    assert [line.partition(": ")[0] for line in lines[:-1]] == ["etc/a.yaml:1:1", "etc/a.yaml:4:5"]


@pytest.mark.parametrize("text", ["", "[]", "policies: ${NOWHERE}\n", "policies: [a]\n"])
def test_policies_that_cannot_be_found_are_no_problem_of_their_own(here: Path, text: str) -> None:
    (here / "a.yaml").write_text(text, encoding="utf-8")
    code, lines = run("check", "-c", "etc/a.yaml")
    assert code == 3
    assert all(line.startswith("etc/a.yaml:") for line in lines[:-1])


def test_a_configuration_that_is_not_there_is_one_problem(here: Path) -> None:
    code, lines = run("check", "-c", "etc/none.yaml")
    assert (code, len(lines)) == (3, 2)


def test_a_bad_flag_is_a_bad_argument(here: Path) -> None:
    (here / "a.yaml").write_text(CONFIGURATION, encoding="utf-8")
    (here / "rules" / "z.yaml").write_text("- from: https://a.example.com\n", encoding="utf-8")
    code, lines = run("serve", "-c", "etc/a.yaml", "--workers", "x")
    assert (code, lines) == (2, ["--workers:1:1: workers: found text `x`, expected a whole number, 1 or more"])
