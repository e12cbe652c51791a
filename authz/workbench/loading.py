"""What lies in files, loaded as `serve` would, for people: places are named as they can be opened from here."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from authz.document import Fields, Node, Problems, Scalar, parse
from authz.errors import LoadError, Problem, Severity
from authz.identity.revocations import RevocationList, parse_revocations
from authz.policy.files import is_policy_test, opened_from, read_files
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.settings import Settings, load_settings


def load_configuration(config: Path, overrides: Mapping[str, str]) -> Settings:
    """Load the configuration. Raises LoadError, with what else is wrong in policies and revocations."""
    try:
        return load_settings(config, environ=os.environ, overrides=overrides)
    except LoadError as error:
        problems = [*error.problems, *_problems_beside(config)]
        raise LoadError(list(dict.fromkeys(problems))) from None


def load_policies(path: Path, options: PolicyOptions) -> PolicySet:
    """Load a folder or one file. Raises LoadError."""
    with opened(path):
        return parse_policies(read_files(path).files, options)


def load_revocations(path: Path) -> RevocationList:
    """Load a list of revocations. Raises LoadError."""
    with opened(path):
        return parse_revocations(read_files(path, "revocations").files)


@contextmanager
def opened(root: Path) -> Iterator[None]:
    """Name the files of the set at `root` in a LoadError as they can be opened from here."""
    try:
        yield
    except LoadError as error:
        raise LoadError([_placed(problem, root) for problem in error.problems]) from None


def _placed(problem: Problem, root: Path) -> Problem:
    return problem._replace(source=opened_from(problem.source, root))


def _problems_beside(config: Path) -> list[Problem]:
    """Give the errors of policies and revocations that a configuration names which does not load itself."""
    try:
        root = parse(config.read_bytes(), str(config), Problems())
    except OSError:
        return []
    if not isinstance(root, Fields):
        return []
    policies, revocations = _named(root.get("policies")), _named(root.get("revocations"))
    problems: list[Problem] = []
    if root.get("routes") is not None or root.get("policy") is not None:
        problems += _checked(config, PolicyOptions(inline=True))[1]
    elif policies is not None:
        problems += _checked(config.parent / policies, PolicyOptions())[1]
    if revocations is not None:
        problems += _revocation_problems(config.parent / revocations)
    return [problem for problem in problems if problem.severity is Severity.ERROR]


def _named(node: Node | None) -> str | None:
    """Give a path, unless the environment has a part in it."""
    is_path = isinstance(node, Scalar) and isinstance(node.value, str) and "$" not in node.value
    return node.text if is_path and isinstance(node, Scalar) else None


# --- authz check --------------------------------------------------------------------------------------------------

Checked = tuple[list[PolicySet], list[Problem]]


def check_configuration(config: Path) -> Checked:
    """Load everything that a configuration names, and give every problem, warnings too."""
    from authz.options import policy_options  # noqa: PLC0415 - brings protobuf

    try:
        settings = load_configuration(config, {})
    except LoadError as error:
        return [], list(error.problems)
    loaded, problems = _checked(settings.policies, policy_options(settings))
    listed = [] if settings.revocations is None else _revocation_problems(settings.revocations)
    return loaded, [*settings.warnings, *problems, *listed]


def check_policies(paths: Sequence[Path]) -> Checked:
    """Load policies alone: all files are one set, and each folder is one."""
    files = [path for path in paths if not path.is_dir()]
    results = [_checked(path, PolicyOptions()) for path in paths if path.is_dir()]
    if len(files) == 1:
        results.append(_checked(files[0], PolicyOptions()))
    elif files:
        results.append(_checked_together(files))
    return [one for loaded, _ in results for one in loaded], [one for _, problems in results for one in problems]


def _checked(path: Path, options: PolicyOptions) -> Checked:
    try:
        loaded = load_policies(path, options)
    except LoadError as error:
        return [], list(error.problems)
    placed_keys = tuple((key, opened_from(source, path)) for key, source in loaded.envoy_keys)
    loaded = dataclasses.replace(loaded, envoy_keys=placed_keys)
    return [loaded], [_placed(problem, path) for problem in loaded.warnings]


def _checked_together(paths: Sequence[Path]) -> Checked:
    """Judge files, such as a shell's `*.yaml`, as the one set that they are in their folder: without its tests."""
    contents: dict[str, bytes] = {}
    problems: list[Problem] = []
    for path in sorted(path for path in paths if not is_policy_test(path.name)):
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


def _revocation_problems(path: Path) -> list[Problem]:
    try:
        load_revocations(path)
    except LoadError as error:
        return list(error.problems)
    return []
