"""The README's commands are run, its configurations load, its policies load, its tables equal the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from authz.document import parse
from authz.model import Reason, http_status
from authz.node import Problems
from authz.policy.criteria import CRITERIA
from authz.policy.parser import PolicyOptions, parse_policies
from authz.settings import load_settings
from authz.transport.answer_heads import GRPC_CODE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
YAML = blocks("yaml")
CONFIGURATIONS = [text for text in YAML if "\ncognito:\n" in f"\n{text}"]
POLICIES = [text for text in YAML if text.startswith("routes:")]


def test_there_is_something_to_run_and_to_load() -> None:
    assert len(COMMANDS) >= 4
    assert len(CONFIGURATIONS) >= 2
    assert len(POLICIES) >= 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_works(command: str) -> None:
    words = shlex.split(command)
    if command == "make smoke":  # what it runs, without installing into the environment that runs this test
        words = [str(BIN / "authz"), "demo", "--once"]
        assert "demo --once" in (ROOT / "Makefile").read_text(encoding="utf-8")
    elif words[0].startswith(".venv/"):
        words[0] = str(BIN / Path(words[0]).name)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_configuration_of_the_readme_loads(text: str, tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "authz.yaml").write_text(text, encoding="utf-8")
    assert load_settings(tmp_path / "authz.yaml", environ={}, overrides={}).pools


@pytest.mark.parametrize("text", POLICIES)
def test_policies_of_the_readme_load(text: str) -> None:
    assert parse_policies([("README.md", text.encode())], PolicyOptions()).routes.routes


@pytest.mark.parametrize("text", YAML)
def test_every_yaml_of_the_readme_is_yaml(text: str) -> None:
    problems = Problems()
    parse(text.encode(), "README.md", problems)
    assert problems == []


def test_every_reason_of_the_readme_stands_in_the_row_of_its_status() -> None:
    chapter = README.partition("## Answers")[2].partition("\n## ")[0]
    rows = [line.split("|")[2:5] for line in chapter.splitlines() if line.count("|") == 5 and "`" in line]
    told: dict[str, int] = {}
    allowing: set[str] = set()
    for status, code, words in rows:
        named = re.findall(r"`([a-z]+(?:-[a-z]+)*)`", words)
        if status.strip().isdigit():
            assert not told.keys() & set(named), "in one row alone"
            told |= dict.fromkeys(named, int(status))
            assert GRPC_CODE[int(status)] == int(code)
        else:
            allowing |= set(named)
    assert told == {reason.value: http_status(reason) for reason in Reason if reason.value in told}
    assert set(told) | allowing == {reason.value for reason in Reason}
    assert not set(told) & allowing


def test_every_criterion_is_in_the_readme() -> None:
    chapter = README.partition("### Criteria")[2].partition("\n## ")[0]
    assert {name for name in CRITERIA if f"`{name}`" not in chapter and f"`{name}/" not in chapter} == set()


def test_every_folder_of_the_map_exists() -> None:
    chapter = README.partition("## The map")[2].partition("\n## ")[0]
    named = re.findall(r"^[│├└─ ]*([a-z_]+(?:/|\.py))", chapter, re.MULTILINE)
    known = {path.name + ("/" if path.is_dir() else "") for path in ROOT.rglob("*") if ".venv" not in path.parts}
    assert len(named) > 20
    assert set(named) - known == set()


def test_every_module_at_the_top_is_in_the_map() -> None:
    chapter = README.partition("## The map")[2].partition("\n## ")[0]
    modules = {path.name for path in (ROOT / "authz").glob("*.py") if not path.name.startswith("__")}
    assert len(modules) > 20
    assert {name for name in modules if not re.search(rf"(?<![\w/]){re.escape(name)}", chapter)} == set()
