"""What a criterion is, and what it is built from: the words that all of its builders share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from authz.model import Json, Principal, Reason, Request, Source
from authz.node import Node, Problems, Scalar, describe
from authz.policy.certificates import Authorities
from authz.policy.instead import Place


class Facts(NamedTuple):
    """All that a criterion may look at. One visit, one `now`."""

    request: Request
    path: str  # canonical
    principal: Principal | None
    now: float  # wall-clock seconds since 1970


Finding: TypeAlias = tuple[bool, Reason]
Test: TypeAlias = Callable[[Facts], Finding]
Look: TypeAlias = Callable[[Facts], Sequence[Json]]


@dataclass(frozen=True, slots=True)
class Criterion:
    """One compiled condition of a rule."""

    name: str  # as written, such as `claim/cognito:groups`
    source: Source
    test: Test
    wanted: str  # for people, completes "wants: …"
    look: Look  # what was there, for people; empty when nothing was
    expects: tuple[Json, ...]  # the values it names, for near misses
    of_caller: bool
    lasting: bool  # the same principal always gets the same finding, whatever the request and the time
    data: Node | None = None  # as written, for advice


@dataclass(frozen=True, slots=True)
class CriteriaContext:
    """What the configuration says that criteria need."""

    authorities: Authorities = ()  # of `client_certificate_ca:`


class Parts(NamedTuple):
    """What a kind's builder gives back; name and place are added by `compile_criterion`."""

    test: Test
    wanted: str
    look: Look
    expects: tuple[Json, ...] = ()
    of_caller: bool = False
    lasting: bool = False


class Builder(NamedTuple):
    """What a kind's builder gets."""

    name: str
    subpath: str
    data: Node
    problems: Problems
    context: CriteriaContext
    place: Place

    @property
    def if_unknown(self) -> bool:
        """What to find where the fact itself is not known: that which lets nobody in."""
        return self.place.keeps_out


Build: TypeAlias = Callable[[Builder], Parts | None]
"""Builds one kind of criterion. None after adding a problem."""


def warn_unused(builder: Builder) -> None:
    """Warn of `accept: false` and kin: the data has no effect, in Pomerium neither."""
    data = builder.data
    if isinstance(data, Scalar) and (data.value is None or data.value is True):
        return
    what = f"`{builder.name}`: its data is ignored, and found {describe(data)}"
    builder.problems.warn(data.source, f"{what}: it means the same as `{builder.name}: true`; write that, or delete it")
