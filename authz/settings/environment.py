"""What comes from the environment and the command line: `${NAME}`, the serve flags and their environment twins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from authz.errors import Severity
from authz.model import Source
from authz.node import Fields, Items, Node, Problems, Scalar, shorten
from authz.reading import nearest
from authz.settings.types import INLINE_KEYS
from authz.settings.values import UNPRINTABLE, Given

_REFERENCE = re.compile(r"\$(?:\$|\{([^{}]*)\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


# Serve flag → where its setting stands. Each has an environment twin, `AUTHZ_LOG_LEVEL` for `--log-level`.
_FLAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "listen": ("listen",),
    "admin": ("admin",),
    "policies": ("policies",),
    "workers": ("workers",),
    "log-level": ("log", "level"),
    "log-format": ("log", "format"),
    "log-decisions": ("log", "decisions"),
}


def with_environment(root: Fields, environ: Mapping[str, str], problems: Problems) -> Fields:
    """Put the environment's values for `${NAME}`, everywhere but in policies that stand in the same file."""
    entries = (
        (key, value if key.value in INLINE_KEYS else _substituted(value, key.text, environ, problems))
        for key, value in root.entries
    )
    return Fields(root.source, tuple(entries))


def _substituted(node: Node, name: str, environ: Mapping[str, str], problems: Problems) -> Node:
    match node:
        case Fields():
            entries = (
                (key, _substituted(value, f"{name}.{key.text}", environ, problems)) for key, value in node.entries
            )
            return Fields(node.source, tuple(entries))
        case Items():
            items = (_substituted(item, f"{name}[{number}]", environ, problems) for number, item in enumerate(node))
            return Items(node.source, tuple(items))
        case Scalar(value=str(text)) if "$" in text:
            try:
                value = _REFERENCE.sub(lambda match: _referenced(match, environ), text)
            except ValueError as error:
                problems.error(node, f"{name}: {error}")
                return node
            return Given(node.source, value, value)
        case _:
            return node


def _referenced(match: re.Match[str], environ: Mapping[str, str]) -> str:
    """Give what `${NAME}` or `$$` stands for. Raises ValueError."""
    written, name = match.group(), match.group(1)
    if name is None:
        return "$"
    if not _NAME.fullmatch(name) or not written.endswith("}"):
        raise ValueError(f"found `{shorten(written)}`, expected `${{NAME}}`, or `$$` for a dollar sign")
    if name not in environ:
        raise ValueError(f"the environment variable `{name}` is not set: set it, or write the value here")
    if UNPRINTABLE.search(environ[name]):
        raise ValueError(f"the environment variable `{name}` holds a control character or is not UTF-8 text")
    return environ[name]


def with_flags(root: Fields, environ: Mapping[str, str], overrides: Mapping[str, str], problems: Problems) -> Fields:
    """Put the flags that were given, and the environment twins of those that were not, over what the file says."""
    for flag, keys in _FLAGS.items():
        twin = _twin(flag)
        name, text = (f"--{flag}", overrides[flag]) if flag in overrides else (twin, environ.get(twin, ""))
        if not text and flag not in overrides:
            continue  # an empty variable is as good as none: compose files leave them empty
        given = Given(Source(name, 1, 1), text, text)
        if UNPRINTABLE.search(text):
            problems.error(given, f"{'.'.join(keys)}: found a control character, or text that is not UTF-8")
        else:
            root = _replaced(root, keys, given)
    return root


def _twin(name: str) -> str:
    return "AUTHZ_" + name.upper().replace("-", "_")


def note_unread(environ: Mapping[str, str], keys: Sequence[str], problems: Problems) -> None:
    """Note variables that look as if they were read: those of a setting that is no flag, and misspelled ones.

    Of others that begin like ours nothing is said: Kubernetes makes `AUTHZ_PORT` and kin for a service called `authz`.
    """
    read = {_twin(flag): flag for flag in (*_FLAGS, "config")}
    settings = {_twin(key): key for key in keys}
    for name in sorted(environ.keys() - read.keys()):
        if not name.startswith("AUTHZ_"):
            continue
        near = nearest(name, read, cutoff=_MISSPELLED)
        if name in settings:
            message = f"no variable of ours: write `{settings[name]}:` in the configuration file"
        elif near is not None:
            message = f"no variable of ours; did you mean `{near}`?"
        else:
            continue
        problems.warn(Source(shorten(name), 1, 1), message, Severity.NOTE)


_MISSPELLED: Final = 0.9  # alike, of 1


def _replaced(fields: Fields, keys: Sequence[str], value: Node) -> Fields:
    """Give the map with the value under the path of keys. Whatever is not a map there stays, to be refused."""
    first, *others = keys
    old = fields.get(first)
    if others:
        if old is not None and not isinstance(old, Fields):
            return fields
        value = _replaced(old or Fields(value.source, ()), others, value)
    kept = tuple(entry for entry in fields.entries if entry[0].value != first)
    return Fields(fields.source, (*kept, (Scalar(value.source, first, first), value)))
