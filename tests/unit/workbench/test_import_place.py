"""Where an import comes to lie: what it overwrites, what it leaves, and where nothing can be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from authz.errors import LoadError
from authz.workbench.importers import import_pomerium

SOURCE = "routes: [{from: https://a.example.com, to: http://a, allowed_users: [x]}]\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.yaml"
    path.write_text(SOURCE, encoding="utf-8")
    return path


@pytest.fixture
def out(source: Path, tmp_path: Path) -> Path:
    """Give the folder of an older import."""
    import_pomerium(source, tmp_path / "out")
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(source: Path, out: Path, *, force: bool = True) -> list[str]:
    """Import again, and give the problems, each place without the folder that all is in."""
    before = contents(source.parent)
    with pytest.raises(LoadError) as caught:
        import_pomerium(source, out, force=force)
    assert contents(source.parent) == before, "something was written"
    return [str(problem).replace(f"{source.parent}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("source.yaml/below", "cannot be written (File exists)"),
        ("source.yaml/far/below", "cannot be written (Not a directory)"),
        ("dangling", "is a link to nothing"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_a_problem(source: Path, place: str, why: str) -> None:
    (source.parent / "dangling").symlink_to("nowhere")
    problems = refused(source, source.parent / place, force=False)
    assert problems == [f"{place}:1:1: {why}: name another folder with --out"]


def test_a_file_system_that_takes_no_folder_is_a_problem(source: Path) -> None:
    assert refused(source, Path("/proc/authz"))[0].startswith("/proc/authz:1:1: cannot be written (")


def test_force_overwrites_every_file_of_an_older_import(source: Path, out: Path) -> None:
    before = contents(out)
    source.write_text(SOURCE.replace("[x]", "[y]"), encoding="utf-8")
    import_pomerium(source, out, force=True)
    assert contents(out).keys() == before.keys()
    assert "sub: y" in (out / "policies" / "a.example.com_test.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["authz.yaml", "envoy.yaml", "IMPORT.md", "policies/a.example.com.yaml", "secrets/certificate.yaml"]
)
def test_force_does_not_overwrite_what_no_import_wrote(source: Path, out: Path, name: str) -> None:
    (out / name).write_text("by: hand\n", encoding="utf-8")
    (problem,) = refused(source, out)
    assert problem.startswith(f"out/{name}:1:1: no import wrote this, and it would be overwritten")


def test_nor_a_folder_or_a_link_to_nothing_in_its_place(source: Path, out: Path) -> None:
    (out / "authz.yaml").unlink()
    (out / "authz.yaml").mkdir()
    (out / "envoy.yaml").unlink()
    (out / "envoy.yaml").symlink_to("nowhere")
    assert [problem.partition(":")[0] for problem in refused(source, out)] == ["out/authz.yaml", "out/envoy.yaml"]


def test_a_policy_beside_the_imported_ones_is_loaded_with_them_and_named_in_the_report(source: Path, out: Path) -> None:
    (out / "policies" / "mine.yaml").write_text("- from: https://mine.example.com\n", encoding="utf-8")
    (out / "policies" / "more").mkdir()
    (out / "policies" / "more" / "x.yaml").write_text("- from: https://more.example.com\n", encoding="utf-8")
    import_pomerium(source, out, force=True)
    report = (out / "IMPORT.md").read_text(encoding="utf-8")
    for name in ("policies/mine.yaml", "policies/more"):
        assert f"- `{name}`: no import wrote it; it counts, and all of this loaded and was tested with it" in report
    assert not (out / "policies" / "mine.yaml").is_symlink()
    assert "What was there before" not in fresh_report(source)


def fresh_report(source: Path) -> str:
    import_pomerium(source, source.parent / "fresh")
    return (source.parent / "fresh" / "IMPORT.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        pytest.param(
            "mine.yaml", "- {from: https://b.example.com, bogus: 1}\n", "mine.yaml:1:33: ", id="that does not load"
        ),
        pytest.param(
            "0mine.yaml",
            "- {from: https://a.example.com, id: mine, allow_public_unauthenticated_access: true}\n",
            "0mine.yaml:1:3: takes a request from the imported policies: anonymous GET https://a.example.com/ ",
            id="that takes an imported route's requests",
        ),
        pytest.param(
            "mine_test.yaml",
            "tests: [[anonymous, GET https://a.example.com/, allow]]\n",
            "mine_test.yaml:1:9: fails beside the imported policies: anonymous GET https://a.example.com/ ",
            id="that is a test and fails",
        ),
    ],
)
def test_a_file_beside_the_imported_ones_stops_it(source: Path, out: Path, name: str, text: str, problem: str) -> None:
    (out / "policies" / name).write_text(text, encoding="utf-8")
    assert refused(source, out)[0].startswith(f"out/policies/{problem}")


def test_the_older_imports_other_files_go_when_the_new_ones_lie_there(source: Path, out: Path) -> None:
    source.write_text(SOURCE.replace("a.example", "b.example"), encoding="utf-8")
    import_pomerium(source, out, force=True)
    assert sorted(path.name for path in (out / "policies").iterdir()) == [
        "b.example.com.yaml",
        "b.example.com_test.yaml",
    ]
