"""Envoy's string matchers, asked about one name."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from typing import Final

import re2

from authz.workbench.doctor.place import Place


def string_matches(matcher: Place, text: str) -> bool:
    """Tell whether a `StringMatcher` takes the text. One that cannot be read takes nothing."""
    ignore_case = matcher["ignore_case"].truth is True
    regex = matcher["safe_regex"]
    if regex.exists:
        return regex_matches(regex, text)
    folded = text.lower() if ignore_case else text
    for kind, fits in _PLAIN.items():
        pattern = matcher[kind]
        if pattern.exists:
            return fits(folded, pattern.text.lower() if ignore_case else pattern.text)
    return False


def regex_matches(matcher: Place, text: str) -> bool:
    """Tell whether a `RegexMatcher` takes the whole text, with Envoy's own engine."""
    try:
        return re2.fullmatch(matcher["regex"].text, text) is not None
    except re2.error:
        return False


def hosts_overlap(domain: str, host: str) -> bool:
    """Tell whether two hosts, each maybe with wildcards, can mean the same one."""
    left, right = domain.lower(), host.lower()
    return fnmatch.fnmatchcase(left, _globbed(right)) or fnmatch.fnmatchcase(right, _globbed(left))


def _globbed(text: str) -> str:
    return text.replace("[", "[[]").replace("?", "[?]")


_PLAIN: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
    "contains": str.__contains__,
}
