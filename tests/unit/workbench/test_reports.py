"""The three ways to tell what `authz test` found out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from authz.workbench import policy_tests
from authz.workbench.policy_tests import Report
from authz.workbench.reports import json_report, junit_report, print_table

POLICIES = """\
- from: https://a.example
  id: admin
  allowed_idp_claims:
    cognito:groups: [admins]
- from: https://b.example
"""
TESTS = """\
principals: {alice: {cognito:groups: [Admins]}, root: {cognito:groups: [admins]}}
tests:
  - [root, GET https://a.example/, allow]
  - [alice, GET https://a.example/, allow]
  - [anonymous, GET https://a.example/, 403]
  - [root, GET https://b.example/, 401]
  - [root, GET https://c.example/, 403]
  - {as: root, request: GET https://a.example/, expect: 403, name: "\\e[31m<&\\0 evil"}
"""


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Give a report with one passed and five failed rows, run as a person would: from where the folder is."""
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()
    Path("p/a.yaml").write_text(POLICIES)
    Path("p/a_test.yaml").write_text(TESTS)
    return policy_tests.test_policies([Path("p")], coverage_threshold=90)


def table(report: Report, **options: bool) -> str:
    out = io.StringIO()
    print_table(report, Console(file=out, highlight=False, width=40, **options))  # type: ignore[arg-type]
    return out.getvalue()


def test_the_table_explains_every_failure_and_lists_what_is_missing(report: Report) -> None:
    assert (
        table(report)
        == """\
✗ p/a_test.yaml  1/6

  ✗ p/a_test.yaml:4  alice GET https://a.example/ → allow
      - allow
      + 403 claim-unauthorized
    alice: GET https://a.example/, at 2026-01-01T12:00:00Z
    route admin (p/a.yaml:1)
      ✗ allow, any of (p/a.yaml:1)
        ✗ claim/cognito:groups  wants: has `admins`; found: `Admins` (p/a.yaml:4)
            `Admins` differs from `admins` by case only

  ✗ p/a_test.yaml:5  anonymous GET https://a.example/ → 403
      - 403
      + 401 user-unauthenticated
    anonymous: GET https://a.example/, at 2026-01-01T12:00:00Z
    route admin (p/a.yaml:1)
      ✗ allow, any of (p/a.yaml:1)
        ✗ claim/cognito:groups  wants: has `admins`; found: nobody signed in (p/a.yaml:4)

  ✗ p/a_test.yaml:6  root GET https://b.example/ → 401
      - 401
      + 403 no-rule
    root: GET https://b.example/, at 2026-01-01T12:00:00Z
    route https://b.example (p/a.yaml:5)
      has no rule: it denies everyone

  ✗ p/a_test.yaml:7  root GET https://c.example/ → 403
      - 403
      + 404 route-not-found
    root: GET https://c.example/, at 2026-01-01T12:00:00Z
    no route was judged: no route names this host

  ✗ p/a_test.yaml:8  �[31m<&� evil
      - 403
      + allow claim-ok
    root: GET https://a.example/, at 2026-01-01T12:00:00Z
    route admin (p/a.yaml:1)
      ✓ allow, any of (p/a.yaml:1)
        ✓ claim/cognito:groups  wants: has `admins`; found: `admins` (p/a.yaml:4)

coverage: routes 100 % (3/3), criteria 100 % (2/2)

1 passed, 5 failed
"""
    )


def test_a_threshold_that_is_not_reached_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POLICIES)
    (tmp_path / "a_test.yaml").write_text("tests: [[anonymous, GET https://a.example/, 401]]")
    report = policy_tests.test_policies([tmp_path], coverage_threshold=33.5)
    assert not report.ok
    assert (
        table(report).replace(f"{tmp_path}/", "")
        == """\
✓ a_test.yaml  1/1

coverage: routes 33 % (1/3), criteria 50 % (1/2)
  a.yaml:1  route admin: never allowed
  a.yaml:4  criterion claim/cognito:groups: never true
  a.yaml:5  route https://b.example: never denied
✗ the coverage is below 33.5 %, for routes or for criteria

1 passed, 0 failed
"""
    )
    content = json.loads(json_report(report))
    assert (content["ok"], content["coverage"]["threshold"], content["coverage"]["reached"]) == (False, 33.5, False)
    root = ET.fromstring(junit_report(report))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    failure = root.find("testsuite[@name='coverage']/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "the coverage is below 33.5 %, for routes or for criteria"
    assert "a.yaml:1  route admin: never allowed" in (failure.text or "")


def test_a_blank_line_stands_after_the_failures_of_a_file(report: Report) -> None:
    lines = table(Report((report.files[0], report.files[0]), report.coverage)).splitlines()
    second = lines.index("✗ p/a_test.yaml  1/6", 1)
    assert lines[second - 1] == ""
    assert lines[second - 2] != ""


def test_the_table_is_coloured_for_a_terminal_alone(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" not in table(report)
    assert "\x1b[1;31m" in table(report, force_terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in table(report, force_terminal=True)


def test_the_json_is_complete(report: Report) -> None:
    content = json.loads(json_report(report))
    assert (content["ok"], content["passed"], content["failed"]) == (False, 1, 5)
    (file,) = content["files"]
    assert (file["file"], file["passed"], file["failed"]) == ("p/a_test.yaml", 1, 5)
    assert file["tests"][1] == {
        "name": "alice GET https://a.example/ → allow",
        "line": 4,
        "column": 5,
        "as": "alice",
        "request": "GET https://a.example/",
        "now": "2026-01-01T12:00:00Z",
        "passed": False,
        "expected": "allow",
        "got": {
            "outcome": "deny",
            "status": 403,
            "reasons": ["claim-unauthorized"],
            "route": "admin",
            "policy": "p/a.yaml:1",
            "set": {},
            "removed": [],
        },
        "differences": [{"expected": "allow", "got": "403 claim-unauthorized"}],
        "explanation": [
            {
                "effect": "allow",
                "operator": "or",
                "at": "p/a.yaml:1",
                "holds": False,
                "criteria": [
                    {
                        "criterion": "claim/cognito:groups",
                        "at": "p/a.yaml:4",
                        "holds": False,
                        "reason": "claim-unauthorized",
                        "wanted": "has `admins`",
                        "found": ["Admins"],
                        "hint": "`Admins` differs from `admins` by case only",
                    }
                ],
            }
        ],
    }
    assert file["tests"][0]["got"]["set"] == {
        "x-auth-subject": "root",
        "x-auth-username": "root",
        "x-auth-groups": "admins",
    }
    assert file["tests"][0]["got"]["removed"] == ["x-auth-email"]
    assert file["tests"][4]["got"]["route"] is None
    assert file["tests"][4]["got"]["policy"] is None
    assert file["tests"][4]["explanation"] == []
    assert content["coverage"] == {
        "routes": {"seen": 3, "possible": 3, "percent": 100.0},
        "criteria": {"seen": 2, "possible": 2, "percent": 100.0},
        "missing": [],
        "threshold": 90,
        "reached": True,
    }


def test_the_junit_xml_has_a_suite_a_file_and_a_case_a_row(report: Report) -> None:
    root = ET.fromstring(junit_report(report))
    assert root.attrib == {"name": "authz test", "tests": "7", "failures": "5", "errors": "0", "time": "0"}
    suites = root.findall("testsuite")
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites] == [
        ("p/a_test.yaml", "6", "5"),
        ("coverage", "1", "0"),
    ]
    cases = suites[0].findall("testcase")
    assert cases[1].get("name") == "alice GET https://a.example/ → allow"
    assert (cases[1].get("file"), cases[1].get("line")) == ("p/a_test.yaml", "4")
    assert cases[0].find("failure") is None
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "expected allow, got 403 claim-unauthorized"
    assert (failure.text or "").splitlines()[:3] == ["p/a_test.yaml:4", "- allow", "+ 403 claim-unauthorized"]
    assert "wants: has `admins`; found: `Admins`" in (failure.text or "")


def test_a_name_with_control_characters_cannot_break_the_xml(report: Report) -> None:
    cases = ET.fromstring(junit_report(report)).findall("testsuite/testcase")
    assert cases[5].get("name") == "�[31m<&� evil"


def test_without_a_threshold_there_is_no_suite_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POLICIES)
    (tmp_path / "a_test.yaml").write_text("tests: [[anonymous, GET https://a.example/, 401]]")
    report = policy_tests.test_policies([tmp_path])
    root = ET.fromstring(junit_report(report))
    assert (root.get("tests"), len(root.findall("testsuite"))) == ("1", 1)
    assert json.loads(json_report(report))["coverage"]["missing"][0] == {
        "kind": "route",
        "name": "admin",
        "file": f"{tmp_path}/a.yaml",
        "line": 1,
        "column": 3,
        "never": ["allowed"],
    }
