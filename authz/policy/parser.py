"""YAML text → PolicySet, or all its mistakes with their places.

Rules: the whole set is good or nothing of it is; unknown keys are errors; every mistake of every file is reported at
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from authz.breath import breathe
from authz.document import check_end_mark, parse
from authz.errors import LoadError, Problem
from authz.model import Source
from authz.node import Node, Problems, let_go
from authz.policy.advice import advise
from authz.policy.criterion import CriteriaContext
from authz.policy.criterion_advice import AcceptedTokens
from authz.policy.route_reader import RouteReader
from authz.policy.routes import RouteIndex

_PIECE: Final = 1 << 16  # bytes that are hashed without a pause


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What the configuration says about policy files."""

    require_end: bool = False
    inline: bool = False  # the one file is the configuration itself: only its `routes` and `policy` are read
    context: CriteriaContext = field(default_factory=CriteriaContext)
    show_error_details: bool | None = None  # on every route; None where the configuration is not known
    accepted: AcceptedTokens = field(default_factory=AcceptedTokens)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class PolicySet:
    """Everything the policy files say, immutable."""

    routes: RouteIndex
    revision: str  # a hash of the content
    warnings: tuple[Problem, ...] = ()
    envoy_keys: tuple[tuple[str, Source], ...] = ()  # routing keys of Pomerium's that are Envoy's here


def parse_policies(files: Sequence[tuple[str, bytes]], options: PolicyOptions) -> PolicySet:
    """Compile the files, given as (name, content) in path order. Raises LoadError with every problem."""
    problems = Problems()
    reader = RouteReader(problems, options.context, options.show_error_details)
    documents: list[Node] = []
    for name, data in files:
        if options.require_end:
            check_end_mark(data, name, problems)
        document = parse(data, name, problems)
        if document is not None:
            reader.read_file(document, options.inline)
            documents.append(document)
        elif not any(problem.source.file == name for problem in problems):
            problems.append(
                Problem(
                    Source(name, 1, 1),
                    "the file holds nothing: write a route, `- from: https://HOST`, or delete the file",
                )
            )
    document = None
    let_go(documents)
    if not reader.routes and not problems.errors:
        file = files[0][0] if files else "policies"
        problems.append(
            Problem(
                Source(file, 1, 1),
                "no route in the whole set, which would refuse every request: write `- from: https://HOST`",
            )
        )
    if problems.errors:
        raise LoadError(problems.errors)
    problems += advise(reader.routes, options.accepted, checks_certificates=bool(options.context.authorities))
    warnings = tuple(sorted(dict.fromkeys(problems)))  # an alias is read in every place that it stands for
    return PolicySet(RouteIndex(reader.routes), revision_of(files), warnings, tuple(reader.envoy_keys))


def revision_of(files: Sequence[tuple[str, bytes]]) -> str:
    """Give the hash of a set's content: 16 hex digits of SHA-256 over names, lengths and bytes."""
    digest = sha256()
    for name, data in files:
        digest.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogatepass"))  # not every file name is UTF-8
        for start in range(0, len(data), _PIECE):
            breathe()
            digest.update(data[start : start + _PIECE])
    return digest.hexdigest()[:16]
