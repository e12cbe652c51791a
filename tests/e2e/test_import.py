"""An import as its user meets it: one command, and the result passes the three commands that IMPORT.md names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parents[1] / "cases" / "imports"
SOURCES = sorted([*(CASES / "pomerium").iterdir(), *(CASES / "kong").iterdir()])
BIN = Path(sys.executable).parent


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program, *arguments = command
    found = shutil.which(program, path=str(BIN)) or program
    return subprocess.run([found, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name} {path.name}")
def test_an_import_passes_check_test_and_envoys_validation_as_it_is(path: Path, tmp_path: Path) -> None:
    imported = run("authz", "import", path.parent.name, str(path), "--out", "out", folder=tmp_path)
    assert imported.returncode == 0, imported.stdout + imported.stderr
    assert "IMPORT.md" in imported.stdout
    out = tmp_path / "out"
    commands = (out / "IMPORT.md").read_text(encoding="utf-8").partition("```sh\n")[2].partition("```")[0].splitlines()
    assert [command.split()[:2] for command in commands] == [["authz", "check"], ["authz", "test"], ["envoy", "--mode"]]
    for command in commands:
        done = run(*command.split(), folder=out)
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"


@pytest.mark.parametrize("program", ["pomerium", "kong"])
def test_an_import_that_would_let_in_more_ends_with_3_and_writes_nothing(program: str, tmp_path: Path) -> None:
    text = {
        "pomerium": "routes:\n- {from: https://a.example.com, to: http://a:80, allowed_groups: [x]}\n",
        "kong": "services:\n- {name: s, url: http://s, routes: [{name: r}], plugins: [{name: acl}, {name: jwt}]}\n",
    }[program]
    (tmp_path / "source.yaml").write_text(text, encoding="utf-8")
    done = run("authz", "import", program, "source.yaml", folder=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "source.yaml:" in done.stdout
    assert "nothing was written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source.yaml"]
