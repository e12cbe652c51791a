"""Who is refused although the token is good: the revocation list.

A file is a list of entries, and every key of an entry must hold for it to count:

    - origin_jti: 5f0c1f7e-0000-4000-8000-000000000001   # one sign-in, all its tokens, refreshed ones included
    - sub: 0a1b2c3d-1111-4222-8333-444455556666          # one person …
      issued_before: 2026-11-25T10:00:00Z                # … in whatever was issued before
      expires: 2026-11-26T10:00:00Z                      # when the last of those tokens has ended
      reason: laptop stolen
    - issued_before: 2026-01-01T00:00:00Z                # alone: every token

1. Values are compared whole and with their case. `username` is the claim `username` or `cognito:username`.
2. `issued_before` looks at `iat`, of two tokens (`enrich_from`) at the earlier. A time names its offset from UTC.
3. Before `expires` an entry counts, from then on no more; without it, it counts for good.
4. An entry that would hold for nobody or everybody by mistake (no key, an unknown one, a wrong type) does not load, and
   neither does a file that holds nothing: it may have been cut off. While nothing is revoked it holds `[]`. One that
   is cut off between two entries is told from a shorter list by its last line, `# end`, where `require_end` demands it.
5. A check is one look into a dictionary for each combination of keys that the list uses, at most sixteen, however many
   entries there are. What changes often belongs into a file of its own: only changed files are read anew.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from authz.breath import breathe
from authz.document import check_end_mark, parse
from authz.errors import LoadError, Problem
from authz.model import Json, Principal, Source
from authz.node import Fields, Items, Node, Problems, Scalar, describe, shorten
from authz.reading import did_you_mean, text_of

MATCHED_CLAIMS: Final = ("username", "cognito:username", "origin_jti", "iat")
"""The claims that a check looks at besides `sub` and the client; they must be as they were signed."""

_NAMES: Final = ("sub", "username", "origin_jti", "client_id")
_KEYS: Final = (*_NAMES, "issued_before", "expires", "reason", "note")
_NEVER: Final = math.inf

_Combination: TypeAlias = tuple[int, ...]
"""Which of `_NAMES` an entry gives, by their places."""
_Values: TypeAlias = tuple[str | None, ...]
"""What stands there; None, which no entry can ask for, where a principal has nothing."""


class _Term(NamedTuple):
    """For which tokens and until when an entry counts; seconds since 1970."""

    issued_before: float
    expires: float
    source: Source


class _Entry(NamedTuple):
    combination: _Combination
    values: _Values
    term: _Term


@dataclass(frozen=True, slots=True)
class RevocationList:
    """Every entry of every file, found by its values."""

    entries: int  # as they were written, those included whose time has ended
    _tables: tuple[tuple[_Combination, Mapping[_Values, tuple[_Term, ...]]], ...]
    _files: Mapping[tuple[str, bytes], tuple[_Entry, ...]]  # name and content → what it says

    def find(self, principal: Principal, now: float) -> Source | None:
        """Say where the principal is revoked at `now` (seconds since 1970), or None."""
        issued_at = principal.issued_at
        for values in _values(principal):
            for combination, table in self._tables:
                for term in table.get(tuple([values[place] for place in combination]), ()):
                    # So written that a time that is no number revokes.
                    if not issued_at >= term.issued_before and not now >= term.expires:
                        return term.source
        return None


def _values(principal: Principal) -> Iterator[_Values]:
    """Give what the principal has for `_NAMES`; twice when its two tokens give it two names."""
    claims = principal.claims
    sign_in = _text(claims.get("origin_jti"))
    name, other = _text(claims.get("username")), _text(claims.get("cognito:username"))
    yield principal.subject, other if name is None else name, sign_in, principal.client_id
    if name is not None and other is not None and name != other:
        yield principal.subject, other, sign_in, principal.client_id


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def parse_revocations(
    files: Iterable[tuple[str, bytes]], before: RevocationList | None = None, *, require_end: bool = False
) -> RevocationList:
    """Read the files of a list, each with its name for messages. Raises LoadError with every problem.

    A file that the list `before` was read from too, with the same `require_end`, is not read again: 100,000 entries
    take seconds.
    """
    problems = Problems()
    known = {} if before is None else before._files  # noqa: SLF001 - it is this function's own
    read = {
        (name, data): known.get((name, data)) or tuple(_file(name, data, problems, require_end)) for name, data in files
    }
    if problems:
        raise LoadError(problems)
    return RevocationList(sum(map(len, read.values())), _tables(chain.from_iterable(read.values())), read)


def _tables(entries: Iterable[_Entry]) -> tuple[tuple[_Combination, Mapping[_Values, tuple[_Term, ...]]], ...]:
    tables: dict[_Combination, dict[_Values, tuple[_Term, ...]]] = {}
    for combination, values, term in entries:
        breathe()
        table = tables.setdefault(combination, {})
        others = table.get(values)
        table[values] = (term,) if others is None else _without_idle((*others, term))
    return tuple(tables.items())


def _without_idle(terms: Iterable[_Term]) -> tuple[_Term, ...]:
    """Leave out what another term says as well, so that a person who signs out daily stays one term."""
    kept: list[_Term] = []
    for term in sorted(terms, key=lambda term: (-term.issued_before, -term.expires)):
        if not kept or term.expires > kept[-1].expires:
            kept.append(term)
    return tuple(kept)


def _file(name: str, data: bytes, problems: Problems, require_end: bool) -> Iterator[_Entry]:
    before = len(problems)
    if require_end:
        check_end_mark(data, name, problems)
    root = parse(data, name, problems)
    if isinstance(root, Items):
        for node in root:
            entry = _entry(node, problems)
            if entry is not None:
                yield entry
    elif root is not None:
        problems.error(root, f"revocations: found {describe(root)}, expected a list of entries, `- sub: …`")
    elif len(problems) == before:
        problems.append(Problem(Source(name, 1, 1), "the file holds nothing: write `[]` while nothing is revoked"))


def _entry(node: Node, problems: Problems) -> _Entry | None:
    if not isinstance(node, Fields):
        problems.error(node, f"revocation: found {describe(node)}, expected a map, `sub: …`")
        return None
    texts: dict[str, str] = {}
    times = {"issued_before": _NEVER, "expires": _NEVER}
    before = len(problems)
    for key, value in node.entries:
        name = key.text
        if name not in _KEYS:
            hint = did_you_mean(name, _KEYS) or f", expected one of {', '.join(f'`{known}`' for known in _KEYS)}"
            problems.error(key, f"revocation: unknown key `{shorten(name)}`{hint}")
        elif name in times:
            times[name] = _instant(value, f"`{name}`", problems)
        elif (text := text_of(value, f"`{name}`", problems)) is not None:
            texts[name] = text
            if name in _NAMES and (text == "*" or text != text.strip()):
                found = f"`{name}`: found {describe(value)}, which is nobody's, because values are compared whole"
                problems.error(value, f"{found}: write {text.strip(' *') or '`issued_before` alone, for everyone'}")
    given = tuple(place for place, name in enumerate(_NAMES) if name in texts)
    if len(problems) > before:
        return None
    if not given and node.get("issued_before") is None:
        wanted = ", ".join(f"`{name}`" for name in _NAMES)
        problems.error(node, f"revocation: names nobody: write one of {wanted} or `issued_before`")
        return None
    term = _Term(times["issued_before"], times["expires"], node.source)
    return _Entry(given, tuple([texts[_NAMES[place]] for place in given]), term)


# RFC 3339 section 5.6: Python alone also takes week dates, bare dates and times without an offset.
_TIMESTAMP: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(?P<offset>[Zz]|[+-]\d{2}:\d{2})?", re.ASCII
)


def _instant(node: Node, what: str, problems: Problems) -> float:
    """Read a time as seconds since 1970; what it gives after adding a problem is used by nobody."""
    text = node.value if isinstance(node, Scalar) and isinstance(node.value, str) else ""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        problems.error(node, f"{what}: found {describe(node)}, expected a time such as 2026-11-25T10:00:00Z")
        return _NEVER
    if match["offset"] is None:
        problems.error(node, f"{what}: `{text}` does not say in which zone: write {text}Z, or an offset, {text}+01:00")
        return _NEVER
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except ValueError:
        problems.error(node, f"{what}: there is no such time as `{text}`")
        return _NEVER
