"""Everything that can go wrong, as a tree.

    AuthzError
    ├── TokenError        a presented credential is not good; carries its Reason
    ├── KeysError         a key document could not be had or is no key document
    ├── RequestError      a path, host or method that two programs could read differently
    └── LoadError         configuration or policy files do not load; carries every Problem at once

Untrusted input raises these and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from authz.model import Reason, Source


class AuthzError(Exception):
    """The root of the tree."""


class TokenError(AuthzError):
    """A presented credential is not good. `detail` is for the log and holds no part of the token's secrets."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class KeysError(AuthzError):
    """A key document could not be fetched, or what came is not one."""


class RequestError(AuthzError):
    """A path, host or method that cannot be judged safely; always `request-malformed`."""


class Severity(StrEnum):
    """How much a Problem matters."""

    ERROR = "error"  # nothing loads
    WARNING = "warning"  # it loads, and probably does not do what its author thinks
    NOTE = "note"  # it loads, and its author should know this


class Problem(NamedTuple):
    """One thing wrong with a file: where, what was found, what to write instead."""

    source: Source
    message: str
    severity: Severity = Severity.ERROR
    other: Source | None = None  # a second place, which the message names too, as `str` writes it

    def placed(self, rename: Callable[[Source], Source]) -> Problem:
        """Give the problem with its places under other names."""
        source, other = rename(self.source), self.other
        if other is None:
            return self._replace(source=source)
        renamed = rename(other)
        return self._replace(source=source, other=renamed, message=self.message.replace(str(other), str(renamed)))

    def __str__(self) -> str:
        """Write `file:line:column: message`; warnings and notes say so before the message."""
        label = "" if self.severity is Severity.ERROR else f"{self.severity}: "
        return f"{self.source}: {label}{self.message}"


class LoadError(AuthzError):
    """Files do not load. Holds every problem of every file, in file and line order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.source))
        super().__init__("\n".join(map(str, self.problems)))
