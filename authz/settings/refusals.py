"""What refused clients get instead of our own pages: `denied_pages` and `denied_redirect`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from authz.errors import Problem
from authz.model import Source
from authz.node import Node, Problems
from authz.reading import did_you_mean
from authz.settings.templates import KINDS, MAX_TEMPLATE_BYTES, Template, parse_template
from authz.settings.values import path_of, why_unreadable

_STEMS: Final = ("400", "401", "403", "404", "503", "error")
PAGE_NAMES: Final = tuple(f"{stem}.{kind}" for stem in _STEMS for kind in KINDS)


def denied_pages_of(node: Node, name: str, problems: Problems) -> Mapping[str, Template] | None:
    """Read a folder of templates, by file name. They are read once, at the start."""
    folder = path_of(node, name, problems)
    if folder is None:
        return None
    try:
        found = sorted(folder.iterdir())
    except (OSError, ValueError) as error:
        why = "it is no folder" if isinstance(error, NotADirectoryError) else why_unreadable(error)
        problems.error(node, f"{name}: {folder} cannot be read: {why}: name a folder of templates")
        return None
    if not any(path.name in PAGE_NAMES for path in found):
        problems.error(node, f"{name}: {folder} has no template: add 403.html, or error.html for every status")
        return None
    templates = {}
    for path in found:
        if path.name in PAGE_NAMES:
            template = _template(path, problems)
            if template is not None:
                templates[path.name] = template
        elif not path.name.startswith("."):  # `..data` and kin: how Kubernetes mounts a ConfigMap
            hint = did_you_mean(path.name, PAGE_NAMES)
            message = f"never shown: no refusal page is called so, as 403.html, 401.json or error.txt are{hint}"
            problems.warn(Source(str(path), 1, 1), message)
    return templates


def _template(path: Path, problems: Problems) -> Template | None:
    try:
        if not path.is_file():  # a pipe would never end
            raise IsADirectoryError(0, "not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_TEMPLATE_BYTES + 1)
    except OSError as error:
        problems.append(Problem(Source(str(path), 1, 1), f"cannot be read: {why_unreadable(error)}"))
        return None
    return parse_template(data, str(path), problems)
