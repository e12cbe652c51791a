"""Finds the policy test files, and reads them with the policies they are judged against, or tells every problem."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from authz.errors import LoadError, Problem
from authz.model import Source
from authz.node import Problems, shorten
from authz.policy.files import MAX_FILE_BYTES, is_policy_test, read_files
from authz.policy.parser import PolicySet, parse_policies
from authz.reading import did_you_mean
from authz.transport.check_request import client_address
from authz.workbench.expectations import Expectations, Row, read_expectations
from authz.workbench.ground import Ground
from authz.workbench.loading import opened


def find_test_files(paths: Sequence[Path], problems: Problems) -> list[Path]:
    """Give the test files in path order, each once. Names that start with a dot do not count, as for policies."""
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            for file in sorted(_walk(path)):
                found.setdefault(file.resolve(), file)
        elif not path.exists():
            problems.append(Problem(Source(str(path), 1, 1), "no such file or folder"))
        elif is_policy_test(path.name):
            found.setdefault(path.resolve(), path)
        else:
            message = "not a test file: its name must end in `_test.yaml`; a folder is searched for such files"
            problems.append(Problem(Source(str(path), 1, 1), message))
    return list(found.values())


def _walk(folder: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(folder):
        folders[:] = [child for child in folders if not child.startswith(".")]
        yield from (Path(name, file) for file in files if is_policy_test(file) and not file.startswith("."))


class Collected(NamedTuple):
    """A test file with all that it needs."""

    file: str
    expectations: Expectations
    rows: tuple[Row, ...]
    policies: PolicySet


class Collector:
    """Reads test files and the policies they are judged against, each set once."""

    def __init__(self, ground: Ground, problems: Problems) -> None:
        self._ground = ground
        self._problems = problems
        self._sets: dict[tuple[Path, ...], PolicySet | None] = {}

    def collect(self, path: Path) -> Collected | None:
        """Read one test file; None, or what must not be used, after adding a problem."""
        data = self._read(path, Source(path.as_posix(), 1, 1))
        expectations = None if data is None else read_expectations(data, path.as_posix(), self._problems)
        if expectations is None:
            return None
        policies = self._policies(self._policy_paths(path, expectations))
        if policies is None:
            return None
        self._check_labels(expectations, policies)
        rows = tuple(self._with_address(self._with_certificate(row, path.parent)) for row in expectations.rows)
        return Collected(path.as_posix(), expectations, rows, policies)

    def _read(self, path: Path, source: Source) -> bytes | None:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            self._problems.append(Problem(source, f"{path.name} cannot be read ({error.strerror})"))
            return None
        if len(data) > MAX_FILE_BYTES:
            self._problems.append(Problem(source, f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MiB"))
            return None
        return data

    def _policy_paths(self, path: Path, expectations: Expectations) -> tuple[Path, ...]:
        if expectations.policies:
            return tuple(_plain_path(path.parent / name.text) for name in expectations.policies)
        configured = self._ground.policies
        if configured is not None and (
            self._ground.policy_options.inline or path.resolve().is_relative_to(configured.resolve())
        ):
            return (configured,)
        return (path.parent,)

    def _policies(self, paths: tuple[Path, ...]) -> PolicySet | None:
        if paths not in self._sets:
            self._sets[paths] = self._parsed(paths)
        return self._sets[paths]

    def _parsed(self, paths: tuple[Path, ...]) -> PolicySet | None:
        options = self._ground.policy_options
        if paths != (self._ground.policies,):
            options = replace(options, inline=False)
        try:
            files = {name: data for path in paths for name, data in _policy_files(path)}
            return parse_policies(sorted(files.items()), options)  # in path order, whatever order they are named in
        except LoadError as error:
            self._problems += error.problems
            return None

    def _check_labels(self, expectations: Expectations, policies: PolicySet) -> None:
        labels = {route.name.label for route in policies.routes.routes}
        for row in expectations.rows:
            wanted = row.expected.route
            if wanted is not None and wanted.text not in labels:
                hint = did_you_mean(wanted.text, labels)
                self._problems.error(wanted, f"`route`: no route is called `{shorten(wanted.text)}`{hint}")

    def _with_certificate(self, row: Row, folder: Path) -> Row:
        if row.certificate is None:
            return row
        pem = self._read(folder / row.certificate.text, row.certificate.source)
        return row if pem is None else row._replace(request=row.request._replace(certificate=quote(pem, safe="")))

    def _with_address(self, row: Row) -> Row:
        """Give the row the address that the service would see, unless the row says itself what policies see."""
        request, header = row.request, self._ground.client_ip_header
        if row.names_address or header is None or header not in request.headers:
            return row
        address = client_address(request.source_ip, request.headers, header)
        return row._replace(request=request._replace(source_ip=address))


def _plain_path(path: Path) -> Path:
    """Give a path without `..`, so that a file has one name, unless a link before the `..` leads elsewhere."""
    plain = Path(os.path.normpath(path))
    try:
        return plain if plain.samefile(path) else path
    except OSError:  # what is not there is a problem, under the name that was written
        return path


def _policy_files(path: Path) -> list[tuple[str, bytes]]:
    """Read the policy files of a folder, or one file, under names that a person can open from where they are."""
    is_folder = path.is_dir()
    with opened(path):
        files = read_files(path).files
    return [((path / name.partition("/")[2] if is_folder else path).as_posix(), data) for name, data in files]
