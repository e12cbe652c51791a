"""What lies in files, loaded as `serve` would, for people: places are named as they can be opened from here."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from authz.document import parse
from authz.errors import LoadError, Problem, Severity
from authz.identity.revocations import RevocationList, parse_revocations
from authz.model import Source
from authz.node import Fields, Node, Problems, Scalar
from authz.policy.files import is_policy_test, located, opened_from, read_files
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.settings import Settings, load_settings
from authz.settings.environment import with_flags
from authz.settings.values import Given


def load_configuration(config: Path, overrides: Mapping[str, str]) -> Settings:
    """Load the configuration. Raises LoadError, with what else is wrong in policies and revocations."""
    try:
        return load_settings(config, environ=os.environ, overrides=overrides)
    except LoadError as error:
        problems = [*error.problems, *_problems_beside(config, overrides)]
        raise LoadError(list(dict.fromkeys(problems))) from None


def load_policies(path: Path, options: PolicyOptions, named: Source | None = None) -> PolicySet:
    """Load a folder or one file; `named` is where a configuration names it. Raises LoadError."""
    with opened(path, "policies", named):
        return parse_policies(read_files(path).files, options)


def load_revocations(path: Path, named: Source | None = None, *, require_end: bool) -> RevocationList:
    """Load a list of revocations; `named` is where a configuration names it. Raises LoadError."""
    with opened(path, "revocations", named):
        return parse_revocations(read_files(path, "revocations").files, require_end=require_end)


@contextmanager
def opened(root: Path, setting: str = "policies", named: Source | None = None) -> Iterator[None]:
    """Name the files of the set at `root` in a LoadError as they can be opened from here."""
    try:
        yield
    except LoadError as error:
        raise LoadError([located(problem, root, setting, named) for problem in error.problems]) from None


def _placed(problem: Problem, root: Path) -> Problem:
    return problem.placed(lambda source: opened_from(source, root))


def _problems_beside(config: Path, overrides: Mapping[str, str]) -> list[Problem]:
    """Give the errors of policies and revocations that a configuration names which does not load itself."""
    try:
        root = parse(config.read_bytes(), str(config), Problems())
    except OSError:
        return []
    if not isinstance(root, Fields):
        return []
    root = with_flags(root, os.environ, overrides, Problems())
    nodes = {setting: root.get(setting) for setting in ("policies", "revocations")}
    places = {name: None if node is None or isinstance(node, Given) else node.source for name, node in nodes.items()}
    policies, revocations = (_path_of(node) for node in nodes.values())
    problems: list[Problem] = []
    if root.get("routes") is not None or root.get("policy") is not None:
        problems += _checked(config, PolicyOptions(inline=True))[1]
    elif policies is not None:
        problems += _checked(policies, PolicyOptions(), places["policies"])[1]
    if revocations is not None:
        problems += _revocation_problems(revocations, places["revocations"], require_end=False)
    return [problem for problem in problems if problem.severity is Severity.ERROR]


def _path_of(node: Node | None) -> Path | None:
    """Give a path, unless there is none or the environment has a part in it."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str) or not node.value:
        return None
    return None if "$" in node.value and not isinstance(node, Given) else Path(node.source.file).parent / node.value


# --- authz check --------------------------------------------------------------------------------------------------

Checked = tuple[list[PolicySet], list[Problem]]


def check_configuration(config: Path) -> Checked:
    """Load everything that a configuration names, and give every problem, warnings too."""
    from authz.options import policy_options  # noqa: PLC0415 - brings protobuf

    try:
        settings = load_configuration(config, {})
    except LoadError as error:
        return [], list(error.problems)
    loaded, problems = _checked(settings.policies, policy_options(settings), settings.places.get("policies"))
    named = settings.places.get("revocations")
    if settings.revocations is not None:
        problems += _revocation_problems(settings.revocations, named, require_end=settings.require_end)
    return loaded, [*settings.warnings, *problems]


def check_policies(paths: Sequence[Path]) -> Checked:
    """Load policies alone: all files are one set, and each folder is one."""
    files = [path for path in paths if not path.is_dir()]
    results = [_checked(path, PolicyOptions()) for path in paths if path.is_dir()]
    if len(files) == 1:
        results.append(_checked(files[0], PolicyOptions()))
    elif files:
        results.append(_checked_together(files))
    return [one for loaded, _ in results for one in loaded], [one for _, problems in results for one in problems]


def _checked(path: Path, options: PolicyOptions, named: Source | None = None) -> Checked:
    try:
        loaded = load_policies(path, options, named)
    except LoadError as error:
        return [], list(error.problems)
    placed_keys = tuple((key, opened_from(source, path)) for key, source in loaded.envoy_keys)
    loaded = dataclasses.replace(loaded, envoy_keys=placed_keys)
    return [loaded], [_placed(problem, path) for problem in loaded.warnings]


def _checked_together(paths: Sequence[Path]) -> Checked:
    """Judge files, such as a shell's `*.yaml`, as the one set that they are in their folder: without its tests."""
    contents: dict[str, bytes] = {}
    problems: list[Problem] = []
    policies = [path for path in paths if not is_policy_test(path.name)]
    for path in sorted(policies, key=Path.as_posix):  # as `serve` does: paths themselves are compared part by part
        try:
            with opened(path):
                contents |= {str(path): data for _, data in read_files(path).files}
        except LoadError as error:
            problems += error.problems
    if problems:
        return [], problems
    try:
        loaded = parse_policies(list(contents.items()), PolicyOptions())
    except LoadError as error:
        return [], list(error.problems)
    return [loaded], list(loaded.warnings)


def _revocation_problems(path: Path, named: Source | None, *, require_end: bool) -> list[Problem]:
    try:
        load_revocations(path, named, require_end=require_end)
    except LoadError as error:
        return list(error.problems)
    return []
