"""The folder where an import comes to lie, with what is there already.

Only what an import wrote is overwritten or removed. Policies that no import wrote stay and count: the result is loaded
and tested together with them before anything is put in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from authz.errors import LoadError, Problem
from authz.model import Source
from authz.policy.files import is_policy_file
from authz.workbench.importers.policy_files import IMPORTED_MARK
from authz.workbench.importers.report import REPORT_MARK

_MARKS: Final = (IMPORTED_MARK, REPORT_MARK, "# Envoy in front of the imported routes.")  # how a file begins


class Place:
    """A folder and the files that are to be written there, by their names."""

    def __init__(self, out: Path, files: Mapping[str, str]) -> None:
        self.out = out
        self.files = files
        self._kept = list(self._policies_to_keep())

    @property
    def foreign(self) -> list[str]:
        """The policies that stay, by their names; a folder may hold some too."""
        return [f"policies/{path.name}" for path in self._kept if path.is_dir() or is_policy_file(path.name)]

    def found(self, problem: Problem) -> Problem:
        """Move a problem to the file that lies there already."""
        return problem._replace(source=problem.source._replace(file=str(self.out / problem.source.file)))

    def refuse_what_is_no_imports(self) -> None:
        """Raise LoadError when a file would be overwritten that no import wrote."""
        message = "no import wrote this, and it would be overwritten: move it away, or name another folder with --out"
        theirs = [self.out / name for name, text in self.files.items() if not _may_become(self.out / name, text)]
        if theirs:
            raise LoadError([Problem(Source(str(path), 1, 1), message) for path in theirs])

    def write(self, folder: Path) -> None:
        """Write the files into another folder, with links to the policies that they will lie beside."""
        for name, text in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        for path in self._kept:
            (folder / "policies" / path.name).symlink_to(path.absolute())

    def take(self, folder: Path) -> None:
        """Put the files in place; of an older import, what is not overwritten and would still be loaded goes."""
        for name in self.files:
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
        for name in self.files:
            (folder / name).replace(self.out / name)
        for old in self._policies():
            if f"policies/{old.name}" not in self.files and _is_imported(old):
                old.unlink()

    def _policies(self) -> list[Path]:
        folder = self.out / "policies"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def _policies_to_keep(self) -> Iterator[Path]:
        for path in self._policies():
            if f"policies/{path.name}" not in self.files and not _is_imported(path):
                yield path


def _is_imported(path: Path) -> bool:
    return path.suffix == ".yaml" and path.is_file() and path.read_bytes().startswith(IMPORTED_MARK.encode())


def _may_become(path: Path, text: str) -> bool:
    """Tell whether a file may be written there: nothing is there, or what an import wrote."""
    if not path.exists():
        return not path.is_symlink()
    if not path.is_file():
        return False
    found = path.read_bytes()
    return found == text.encode() or found.startswith(tuple(mark.encode() for mark in _MARKS))
