"""`denied_pages`: a folder of templates, read at the start. Plain mistakes are in cases/config_errors/refusals.txt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from authz.errors import LoadError
from authz.settings import Settings, load_settings
from authz.settings.templates import MAX_TEMPLATE_BYTES

CONFIG = """\
policies: policies/
cognito: [{user_pool: eu-west-1_AbCdEfGhI, clients: any, token_use: access}]
denied_pages: pages
denied_redirect: {401: 'https://login.example.com/?u={url}', 403: /no}
"""


@pytest.fixture(autouse=True)
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "error.html").write_text("<h1>{{title}}</h1>", encoding="utf-8")
    Path("authz.yaml").write_text(CONFIG, encoding="utf-8")
    return folder


def load() -> Settings:
    return load_settings(Path("authz.yaml"), environ={}, overrides={})


def problems() -> list[str]:
    with pytest.raises(LoadError) as raised:
        load()
    return str(raised.value).splitlines()


def warnings() -> list[str]:
    return [str(problem) for problem in load().warnings]


def test_templates_are_read_by_their_names(pages: Path) -> None:
    (pages / "403.json").write_text('{"error": "{{title}}"}', encoding="utf-8")
    (pages / "401.txt").write_text("{{sentence}}", encoding="utf-8")
    settings = load()
    assert {name: template.names for name, template in settings.denied_pages.items()} == {
        "401.txt": ("sentence",),
        "403.json": ("title",),
        "error.html": ("title",),
    }
    assert settings.denied_redirect == ((401, "https://login.example.com/?u={url}"), (403, "/no"))
    assert settings.warnings == ()


def test_the_pages_of_a_config_map_are_links(pages: Path) -> None:
    (pages / "..data").mkdir()
    (pages / "..data" / "403.html").write_text("x", encoding="utf-8")
    (pages / "403.html").symlink_to(Path("..data") / "403.html")
    assert set(load().denied_pages) == {"403.html", "error.html"}
    assert warnings() == []


def test_every_mistake_of_every_template_is_told(pages: Path) -> None:
    (pages / "401.html").write_text("{{x}}", encoding="utf-8")
    (pages / "error.json").write_text("{", encoding="utf-8")
    (pages / "error.txt").write_bytes(b"a" * (MAX_TEMPLATE_BYTES + 1))
    found = problems()
    assert [line.partition(": ")[0] for line in found] == [
        "pages/401.html:1:1", "pages/error.json:1:2", "pages/error.txt:1:1",
    ]  # fmt: skip
    assert "larger than 64 KiB" in found[2]


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a dead link"])
def test_what_is_no_file_is_no_template(pages: Path, kind: str) -> None:
    path = pages / "403.html"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    assert problems() == ["pages/403.html:1:1: cannot be read: not a regular file"]


def test_a_template_that_cannot_be_read_is_told(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", lambda _: CONFIG.encode())
    assert problems() == ["pages/error.html:1:1: cannot be read: Permission denied"]


def test_a_file_that_no_refusal_shows_is_mentioned(pages: Path) -> None:
    (pages / "404.htm").touch()
    (pages / "logo.png").touch()
    (pages / ".gitkeep").touch()
    message = "never shown: no refusal page is called so, as 403.html, 401.json or error.txt are"
    assert warnings() == [
        f"pages/404.htm:1:1: warning: {message}; did you mean `404.html`?",
        f"pages/logo.png:1:1: warning: {message}",
    ]
