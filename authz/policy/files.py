"""The policy files as they lie on the disk: listed, told apart, read as one set.

Rules: a set is a folder, with every policy file below it, or one file. Links are followed, and each folder is entered
once. Whatever cannot be read or judged is a problem of the whole set, because a missing file could hold a deny rule.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from authz.errors import LoadError, Problem
from authz.model import Source

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
MAX_FILES: Final = 10_000
MAX_FOLDERS: Final = 10_000

_KINDS: Final = {"policies": "policy", "revocations": "revocation"}  # setting → what its files are called


class PolicyFile(NamedTuple):
    """One file of the set. `name` is what messages show: relative to the configured folder's parent."""

    name: str
    data: bytes


class FileState(NamedTuple):
    """What tells one version of a file from another without reading it (links followed)."""

    name: str
    path: Path
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int  # catches tools that set the old modification time back
    links: int  # 0: the file was deleted and only a mount still shows it


class FolderState(NamedTuple):
    """A folder that was looked into; a re-created one has another inode."""

    path: Path
    device: int
    inode: int


class Listing(NamedTuple):
    """The set without its content. Two equal listings are taken for the same content."""

    files: tuple[FileState, ...]  # in order of their relative POSIX path
    folders: tuple[FolderState, ...]  # each folder where a change can show, the set's parent first
    problems: tuple[Problem, ...]


class Reading(NamedTuple):
    """The set as it was found at one moment."""

    files: tuple[PolicyFile, ...]
    signature: tuple[FileState, ...]


def read_files(path: Path, setting: str = "policies") -> Reading:
    """Read the set as it is now, a folder or one file. Raises LoadError with every problem; settles nothing."""
    source = PolicySource(path, setting, by_setting=False)
    listing = source.look()
    return Reading(source.read(listing), listing.files)


@dataclass(frozen=True, slots=True)
class PolicySource:
    """Where the policies are, or what else is read like them: a folder, or one file of any name."""

    path: Path
    setting: str = "policies"  # whose path it is, for messages
    by_setting: bool = True  # else a person may have named it, and no setting is to blame

    def look(self) -> Listing:
        """List the set without reading it. What is wrong stands in `problems`; nothing is raised."""
        walk = _Walk(self.path, self.setting, by_setting=self.by_setting)
        walk.go()
        return walk.listing()

    def read(self, listing: Listing) -> tuple[PolicyFile, ...]:
        """Read every file that was listed, in order. Raises LoadError with every problem."""
        problems = list(listing.problems)
        files = []
        for state in () if problems else listing.files:
            try:
                data = _read_bounded(state.path)
            except OSError as error:
                problems.append(_unreadable(state.name, error))
                continue
            if len(data) > MAX_FILE_BYTES:  # it grew, or its file system tells no size
                problems.append(_too_large(state.name))
            files.append(PolicyFile(state.name, data))
        if problems:
            raise LoadError(problems)
        return tuple(files)

    def read_unmoved(self, listing: Listing) -> tuple[PolicyFile, ...] | None:
        """Read what was listed; None if anything changed since. Raises LoadError for problems that stay."""
        try:
            files = self.read(listing)
        except LoadError:
            if self.look() != listing:
                return None
            raise
        return files if self.look() == listing else None


def _read_bounded(path: Path) -> bytes:
    # O_NONBLOCK: should a pipe have taken the file's place since it was listed, opening it must not hang.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _unreadable(name: str, error: OSError) -> Problem:
    reason = error.strerror or type(error).__name__
    return Problem(Source(name, 1, 1), f"cannot be read ({reason}): let the service's user read it, or remove it")


def _too_large(name: str) -> Problem:
    return Problem(Source(name, 1, 1), f"larger than {MAX_FILE_BYTES >> 20} MiB: split it into several files")


def is_policy_test(name: str) -> bool:
    """Tell whether a file of this name is a policy test, which stands beside the policies and is none of them.

    `*_test.yml` is a policy: nobody must believe in rules that a file's name takes out of force.
    """
    return name.endswith("_test.yaml")


class _Kind(Enum):
    """What a folder's file is to the set."""

    WANTED = "part of it"
    FOREIGN = "none of its business"
    MISNAMED = "meant to be part of it, as far as a name can tell"


def _kind(name: str, setting: str) -> _Kind:
    """Judge a file by its name. Tests are the policies' alone: in a list of revocations every entry counts."""
    extension = name.rpartition(".")[2]
    if name.startswith(".") or "." not in name or (setting == "policies" and is_policy_test(name)):
        return _Kind.FOREIGN
    if extension in {"yaml", "yml"}:
        return _Kind.WANTED
    seems = extension.lower() in {"yaml", "yml"} or (setting != "policies" and extension == "json")
    return _Kind.MISNAMED if seems else _Kind.FOREIGN


def is_policy_file(name: str) -> bool:
    """Tell whether a folder's file of this name belongs to the policies."""
    return _kind(name, "policies") is _Kind.WANTED


def shown(name: str) -> str:
    """Escape what must not reach a terminal or a hash: control characters, bytes that are no text."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in name)


class _Full(Exception):  # noqa: N818 - ends a walk whose problem is already noted
    pass


class _Walk:
    """One pass over the set. Links are followed; each folder is entered once, so a loop of links ends."""

    def __init__(self, root: Path, setting: str, *, by_setting: bool) -> None:
        self._root = root
        self._setting = setting
        self._blamed = f"`{setting}`" if by_setting else "its path"
        self._prefix = shown(root.absolute().name) + "/"
        self._files: list[FileState] = []
        self._folders: list[FolderState] = []
        self._problems: list[Problem] = []
        self._entered: set[tuple[int, int]] = set()
        self._pending: list[tuple[Path, str, os.stat_result]] = []

    def listing(self) -> Listing:
        """Give what was found, in an order that does not depend on the file system's."""
        return Listing(tuple(sorted(self._files)), tuple(self._folders), tuple(self._problems))

    def go(self) -> None:
        """Look at the path, and below it if it is a folder."""
        parent = self._root.absolute().parent
        with suppress(OSError):  # without it there is nothing to watch, and the next lines tell why
            self._note_folder(parent, parent.stat())
        try:
            status = self._root.stat()
        except FileNotFoundError:
            self._problem(str(self._root), f"no such file or folder: create it, or correct {self._blamed}")
        except OSError as error:
            self._problems.append(_unreadable(shown(str(self._root)), error))
        else:
            self._root_found(status)

    def _root_found(self, status: os.stat_result) -> None:
        if not stat.S_ISDIR(status.st_mode):
            self._file(self._root, shown(self._root.name), status)
            return
        self._pending.append((self._root, self._prefix, status))
        with suppress(_Full):
            while self._pending:
                self._folder(*self._pending.pop())
        if not self._files and not self._problems:
            tests = "*_test.yaml and " if self._setting == "policies" else ""
            self._problem(
                str(self._root),
                f"no {_KINDS[self._setting]} file in this folder: add a *.yaml or *.yml file ({tests}names that start "
                "with a dot do not count)",
            )

    def _folder(self, path: Path, prefix: str, status: os.stat_result) -> None:
        identity = (status.st_dev, status.st_ino)
        if identity in self._entered:
            return
        self._entered.add(identity)
        self._note_folder(path, status)
        if len(self._entered) > MAX_FOLDERS:
            self._problem(str(self._root), f"more than {MAX_FOLDERS} folders: is `{self._setting}` the right path?")
            raise _Full
        try:
            with os.scandir(path) as entries:  # tells kinds without a stat of every foreign file
                children = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            self._problems.append(_unreadable(prefix, error))
            return
        for child in children:
            self._child(child, path / child.name, prefix + shown(child.name))

    def _child(self, entry: os.DirEntry[str], path: Path, name: str) -> None:
        kind = _kind(entry.name, self._setting)
        if entry.name.startswith(".") or (kind is _Kind.FOREIGN and entry.is_file(follow_symlinks=False)):
            return
        try:
            status = entry.stat()
        except OSError as error:  # a link to nothing may have been a folder of rules: doubt refuses
            self._problems.append(_unreadable(name, error))
            return
        if stat.S_ISDIR(status.st_mode):
            self._pending.append((path, name + "/", status))
        elif kind is _Kind.WANTED:
            self._file(path, name, status)
        elif kind is _Kind.MISNAMED:
            self._problem(name, "is not read, because its name does not end in `.yaml` or `.yml`: rename or remove it")

    def _file(self, path: Path, name: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            self._problem(name, "not a regular file: put a file or a link to a file there")
        elif status.st_size > MAX_FILE_BYTES:
            self._problems.append(_too_large(name))
        elif len(self._files) == MAX_FILES:
            self._problem(
                str(self._root),
                f"more than {MAX_FILES} {_KINDS[self._setting]} files: is `{self._setting}` the right path?",
            )
            raise _Full
        else:
            self._files.append(
                FileState(
                    name=name,
                    path=path,
                    device=status.st_dev,
                    inode=status.st_ino,
                    size=status.st_size,
                    modified_ns=status.st_mtime_ns,
                    changed_ns=status.st_ctime_ns,
                    links=status.st_nlink,
                )
            )

    def _note_folder(self, path: Path, status: os.stat_result) -> None:
        self._folders.append(FolderState(path.absolute(), status.st_dev, status.st_ino))

    def _problem(self, name: str, message: str) -> None:
        self._problems.append(Problem(Source(shown(name), 1, 1), message))


def opened_from(source: Source, root: Path) -> Source:
    """Name a set's file as it can be opened from here: in the set it is called by its folder's name alone."""
    if source.file == shown(str(root)):  # the set itself is missing
        return source
    folder, slash, below = source.file.partition("/")
    if slash and folder == shown(root.absolute().name):  # `.` has no name of its own
        return source._replace(file=shown(str(root / below)))
    return source._replace(file=shown(str(root.parent / source.file)))


def located(problem: Problem, root: Path, setting: str, named: Source | None) -> Problem:
    """Place a set's problem where it can be opened from here: that the set is missing, where the setting names it."""
    if named is not None and problem.source.file == shown(str(root)) and not root.exists():
        return Problem(named, f"{setting}: {shown(str(root))}: {problem.message}")
    return problem.placed(lambda source: opened_from(source, root))


def changed_within(listing: Listing, span: timedelta, now_ns: int) -> bool:
    """Tell whether any file is younger than `span`, or from the future. `now_ns` is wall-clock time."""
    limit = now_ns - int(span.total_seconds() * 1e9)
    return any(max(state.modified_ns, state.changed_ns) > limit for state in listing.files)


def changed_around(listing: Listing, span: timedelta, now_ns: int) -> bool:
    """Tell whether any file's time is less than `span` away from now, on either side: clocks differ."""
    nearest = int(span.total_seconds() * 1e9)
    return any(
        abs(moment - now_ns) < nearest for state in listing.files for moment in (state.modified_ns, state.changed_ns)
    )


def cut_off(files: Sequence[PolicyFile], in_force: Sequence[PolicyFile]) -> list[Problem]:
    """Find the files that look like an interrupted write of the very version that is in force."""
    before = {file.name: file.data for file in in_force}
    message = (
        "looks cut off: it is the beginning of the version in force and ends in the middle of a line; "
        "finish the save (or end the last line)"
    )
    return [
        Problem(Source(name, data.count(b"\n") + 1, 1), message)
        for name, data in files
        if data and not data.endswith(b"\n") and data != before.get(name) and before.get(name, b"").startswith(data)
    ]
