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


GUARDED = "- {from: https://a.example.com, id: one, allowed_idp_claims: {cognito:groups: [admins]}}\n"
PUBLIC = "- {from: https://a.example.com, id: two, allow_public_unauthenticated_access: true}\n"


def test_files_given_together_are_one_set_as_in_their_folder(here: Path) -> None:
    for name, text in (("b.yaml", GUARDED), ("a.yaml", PUBLIC), ("a_test.yaml", "tests: [[x, GET https://a/, 200]]\n")):
        (here / name).write_text(text, encoding="utf-8")
    code, lines = run("check", "etc/b.yaml", "etc/a.yaml", "etc/a_test.yaml")
    assert code == 0
    assert lines[0].startswith("etc/b.yaml:1:3: warning: route `one`: OPEN TO EVERYONE: the public route `two` at ")
    assert lines[-1].startswith("✓ 2 routes")


def test_a_name_that_two_of_the_files_given_use_is_a_problem(here: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (here / name).write_text(PUBLIC, encoding="utf-8")
    code, lines = run("check", "etc/a.yaml", "etc/b.yaml")
    assert code == 3
    assert "id `two` is already used at etc/a.yaml:1" in lines[0]


def test_every_file_given_that_cannot_be_read_is_a_problem(here: Path) -> None:
    (here / "b.yaml").write_text(ROUTE, encoding="utf-8")
    code, lines = run("check", "etc/a.yaml", "etc/b.yaml", "etc/c.yaml")
    assert code == 3
    assert [line.partition(":")[0] for line in lines[:-1]] == ["etc/a.yaml", "etc/c.yaml"]


def test_each_folder_given_is_a_set_of_its_own(here: Path) -> None:
    for name in ("one", "two"):
        (here / name).mkdir()
        (here / name / "a.yaml").write_text(PUBLIC, encoding="utf-8")
    code, lines = run("check", "etc/one", "etc/two")
    assert (code, [line.partition(",")[0] for line in lines]) == (0, ["✓ 1 route", "✓ 1 route"])
