"""Templates of refusal pages: text with placeholders, all of them known, each filled in escaped.

`{{status}} {{title}} {{sentence}} {{request_id}} {{host}} {{reason}} {{explanation}} {{remediation}}`: there are no
others, no conditions and no loops. What a template has of its own is taken as it is: its author is the operator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Final, NamedTuple

from authz.errors import Problem
from authz.model import Source
from authz.node import Problems, shorten
from authz.reading import did_you_mean

PLACEHOLDERS: Final = ("status", "title", "sentence", "request_id", "host", "reason", "explanation", "remediation")
MAX_TEMPLATE_BYTES: Final = 64 * 1024
SAFE_BODY_BYTES: Final = 4096  # where Envoy cuts bodies in our sample (`max_denied_response_body_bytes`)


class Template(NamedTuple):
    """One template, cut at its placeholders."""

    kind: str  # html | json | txt: how values are escaped
    texts: tuple[str, ...]  # one more than there are names
    names: tuple[str, ...]

    def fill(self, values: Mapping[str, str]) -> str:
        """Write the page. `values` has every placeholder, unescaped."""
        escaped = _ESCAPES[self.kind]
        parts = [self.texts[0]]
        for name, text in zip(self.names, self.texts[1:], strict=True):
            parts += (escaped(values[name]), text)
        return "".join(parts)


_ESCAPES: Final[Mapping[str, Callable[[str], str]]] = {
    "html": escape,
    "json": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],  # within the quotes that the template writes
    "txt": str,
}
KINDS: Final = tuple(_ESCAPES)

_PLACEHOLDER: Final = re.compile(r"\{\{(?:([^{}\n]*)\}\})?")
_NEVER_LOADED: Final = re.compile(r"<(script|link|iframe|object|embed)\b", re.IGNORECASE)


def parse_template(data: bytes, file: str, problems: Problems) -> Template | None:
    """Read a template; the end of the file's name says of which kind. None after adding a problem."""
    if len(data) > MAX_TEMPLATE_BYTES:
        problems.append(Problem(Source(file, 1, 1), f"larger than {MAX_TEMPLATE_BYTES >> 10} KiB: make it smaller"))
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        problems.append(Problem(Source(file, line, column), "not UTF-8 text: save the file as UTF-8"))
        return None
    found = len(problems)
    if not text.strip():
        problems.append(Problem(Source(file, 1, 1), "holds nothing: write a page, or delete the file"))
    matches = list(_PLACEHOLDER.finditer(text))
    for match in matches:
        fault = _fault(_name(match))
        if fault is not None:
            problems.append(Problem(_source(file, text, match.start()), fault))
    kind = file.rpartition(".")[2]
    if kind == "json" and len(problems) == found:
        _check_json(text, file, problems)
    if len(problems) > found:
        return None
    _warn(text, data, kind, file, problems)
    bounds = [0, *(edge for match in matches for edge in match.span()), len(text)]
    texts = tuple(text[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True))
    return Template(kind, texts, tuple(_name(match) or "" for match in matches))


def _name(match: re.Match[str]) -> str | None:
    return None if match[1] is None else match[1].strip()


def _fault(name: str | None) -> str | None:
    if name in PLACEHOLDERS:
        return None
    if name is None:
        return "`{{` that no `}}` closes on its line: write a placeholder such as {{request_id}}"
    known = ", ".join(f"`{known}`" for known in PLACEHOLDERS)
    return f"unknown placeholder `{shorten(name)}`, expected one of {known}{did_you_mean(name, PLACEHOLDERS)}"


def _source(file: str, text: str, position: int) -> Source:
    return Source(file, text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position))


def _check_json(text: str, file: str, problems: Problems) -> None:
    """Check that whatever is filled in gives JSON: `{{status}}` is a number, the others stand within quotes."""

    def stand_in(match: re.Match[str]) -> str:  # as long as what it stands for, so that places stay
        return "1".ljust(len(match[0])) if _name(match) == "status" else "x" * len(match[0])

    try:
        json.loads(_PLACEHOLDER.sub(stand_in, text))
    except json.JSONDecodeError as error:
        message = f"not JSON ({error.msg}): mind that placeholders other than {{{{status}}}} stand within quotes"
        problems.append(Problem(Source(file, error.lineno, error.colno), message))
    except RecursionError:
        problems.append(Problem(Source(file, 1, 1), "not JSON: nested too deeply"))


def _warn(text: str, data: bytes, kind: str, file: str, problems: Problems) -> None:
    if len(data) > SAFE_BODY_BYTES:
        message = f"{len(data)} bytes: Envoy cuts bodies at `max_denied_response_body_bytes`, 4096 in our sample"
        problems.warn(Source(file, 1, 1), f"{message}: raise it there, or shorten the page")
    match = _NEVER_LOADED.search(text) if kind == "html" else None
    if match is not None:
        message = f"`<{match[1].lower()}>` has no effect: the page's content-security-policy lets nothing load or run"
        problems.warn(_source(file, text, match.start()), f"{message}; write styles into `<style>`")
