"""Envoy's string matchers, asked about one name."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
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


class Hosts:
    """Names of hosts, each maybe with wildcards; plain ones are looked up, because there may be thousands."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = dict.fromkeys(map(str.lower, names))
        self._wildcards = [one for one in self._names if "*" in one]

    def overlapping(self, host: str) -> Iterator[str]:
        """Give those that can mean the same host as this one does, in lower case."""
        host = host.lower()
        if host in self._names:
            yield host
        others = self._names if "*" in host else self._wildcards
        yield from (one for one in others if one != host and _overlap(one, host))


def _overlap(left: str, right: str) -> bool:
    """Tell it of two names, one at least with a wildcard."""
    if "*" not in left or "*" not in right:
        return fnmatch.fnmatchcase(left, _globbed(right)) or fnmatch.fnmatchcase(right, _globbed(left))
    begin, other_begin = sorted((left.partition("*")[0], right.partition("*")[0]), key=len)
    end, other_end = sorted((left.rpartition("*")[2], right.rpartition("*")[2]), key=len)
    return other_begin.startswith(begin) and other_end.endswith(end)


def _globbed(text: str) -> str:
    return text.replace("[", "[[]").replace("?", "[?]")


_PLAIN: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
    "contains": str.__contains__,
}
