"""`authz check` and the load errors of `authz serve`, as a person meets them."""

from __future__ import annotations

import json
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
    "rules/z.yaml:2:3: route `https://a.example.com`: unknown key `bogus`: neither ours nor Pomerium's: if it "
    "says who may pass, write that under `policy:`; if not, delete it"
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


@pytest.mark.parametrize("verb", ["check", "serve"])
def test_of_a_broken_configuration_the_policies_in_force_are_reported(here: Path, verb: str) -> None:
    (here / "a.yaml").write_text(CONFIGURATION.replace("rules", "not-there") + "workers: zero\n", encoding="utf-8")
    environment = {"AUTHZ_CONFIG": "", "AUTHZ_POLICIES": "etc/rules"}
    result = CliRunner().invoke(cli, (verb, "-c", "etc/a.yaml"), env=environment)
    assert result.exit_code == 3
    assert "not-there" not in result.output
    assert "etc/a.yaml" in result.output
    assert f"etc/{ROUTE_ERROR}" in result.output


def test_a_parent_folder_is_named_as_it_was_given(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here / "rules")
    assert run("check", "../rules")[1][0] == f"../{ROUTE_ERROR}"


def test_the_folder_where_one_is_has_no_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ROUTE_ERROR.removeprefix("rules/")
    monkeypatch.chdir(here / "rules")
    assert run("check", ".")[1][0] == error
    assert run("check", "z.yaml")[1][0] == error
    (here / "rules" / "z.yaml").write_text("- {from: https://a.example.com, to: https://b}\n", encoding="utf-8")
    (report,) = json.loads("".join(run("check", "--output", "json", ".")[1]))["sets"]
    assert report["envoy_keys"] == [{"key": "to", "at": "z.yaml:1:33"}]


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


@pytest.mark.parametrize(
    "text", [CONFIGURATION.replace("rules", '""'), f'{CONFIGURATION}revocations: ""\n'], ids=["policies", "revocations"]
)
def test_an_empty_path_is_one_problem(here: Path, text: str) -> None:
    (here / "a.yaml").write_text(text, encoding="utf-8")
    (here / "rules" / "z.yaml").write_text("- from: https://a.example.com\n", encoding="utf-8")
    code, lines = run("check", "-c", "etc/a.yaml")
    assert code == 3
    assert [line for line in lines[:-1] if "found empty text, expected text" not in line] == []
    assert len(lines) == 2


def test_the_advice_knows_the_aliases_of_claims(here: Path) -> None:
    text = f"{CONFIGURATION}claims: {{roles: {{alias: ['custom:roles']}}}}\n"
    (here / "a.yaml").write_text(text, encoding="utf-8")
    (here / "rules" / "z.yaml").write_text(
        "- {from: https://a.example.com, policy: {allow: {or: [claim/roles: admin]}}}\n", encoding="utf-8"
    )
    code, lines = run("check", "-c", "etc/a.yaml")
    assert code == 0
    assert "`claim/roles`: `claims:` takes `custom:roles` for `roles`" in lines[0]


SECOND_PLACES = """\
- {from: https://a.example.com, allow_any_authenticated_user: true}
- {from: https://a.example.com, prefix: /x, allow_any_authenticated_user: true}
- from: https://b.example.com
  path: /x
  policy: {allow: {or: [{claim/a: x}, {claim/a: X}, {authenticated_user: true}]}}
- {from: https://*.example.com, allow_any_authenticated_user: true}
"""


def test_a_second_place_is_named_as_the_first_is(here: Path) -> None:
    (here / "rules" / "z.yaml").write_text(SECOND_PLACES, encoding="utf-8")
    for argument in ("etc/rules", "etc/rules/z.yaml"):
        code, lines = run("check", argument)
        assert code == 0
        assert all(line.startswith("etc/rules/z.yaml:") for line in lines[:-1])
        assert "because `https://a.example.com` at etc/rules/z.yaml:1:3 comes first" in lines[0]
        assert "and `authenticated_user` at etc/rules/z.yaml:5:20 lets" in lines[1]
        assert "from `x` at etc/rules/z.yaml:5:35 by case" in lines[2]
        assert "of its own (etc/rules/z.yaml:3:3) never" in lines[3]
    (here / "rules" / "z.yaml").write_text("".join(f"- {{from: 'https://{n}.example', id: x}}\n" for n in "ab"))
    _, lines = run("check", "etc/rules/z.yaml")
    assert lines[0].startswith("etc/rules/z.yaml:2:")
    assert "id `x` is already used at etc/rules/z.yaml:1:" in lines[0]


def test_a_policy_file_that_is_not_there_blames_no_setting(here: Path) -> None:
    assert run("check", "nope.yaml")[1][0] == ("nope.yaml:1:1: no such file or folder: create it, or correct its path")


@pytest.mark.parametrize("verb", ["check", "serve"])
@pytest.mark.parametrize("more", ["", "bogus: 1\n"])
def test_what_a_configuration_names_and_is_not_there_is_told_where_it_is_named(
    here: Path, verb: str, more: str
) -> None:
    text = CONFIGURATION.replace("policies: rules", "policies: rulse\nrevocations: gone.yaml") + more
    (here / "a.yaml").write_text(text, encoding="utf-8")
    code, lines = run(verb, "-c", "etc/a.yaml")
    missing = "no such file or folder: create it, or correct"
    assert code == 3
    assert lines[0].startswith(f"etc/a.yaml:1:11: policies: etc/rulse: {missing}")
    assert lines[1].startswith(f"etc/a.yaml:2:14: revocations: etc/gone.yaml: {missing}")


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


def test_files_are_judged_in_the_order_of_their_folder(here: Path) -> None:
    """`10-admin.yaml` comes before `10-admin/rules.yaml`, because `.` comes before `/`."""
    (here / "rules" / "z.yaml").unlink()
    folder = here / "rules" / "10-admin"
    folder.mkdir()
    files = ["etc/rules/10-admin/rules.yaml", "etc/rules/10-admin.yaml"]
    (here / "rules" / "10-admin.yaml").write_text(
        "- {from: https://a.example, allow_public_unauthenticated_access: true}\n", encoding="utf-8"
    )
    (folder / "rules.yaml").write_text(
        "- {from: https://a.example, prefix: /admin, policy: {allow: {or: [{groups: admins}]}}}\n", encoding="utf-8"
    )
    for arguments in (["etc/rules"], files, files[::-1]):
        code, lines = run("check", *arguments)
        assert (code, len(lines)) == (0, 2)
        assert lines[0].startswith("etc/rules/10-admin/rules.yaml:1:3: warning: ")
        assert "OPEN TO EVERYONE: the public route `https://a.example` at etc/rules/10-admin.yaml:1:3" in lines[0]
