"""`authz serve` with a fault in it, for tests alone: `python -m tests.support.faulty_service FAULT serve …`.

Only what comes after the start is broken: the service starts, fetches its keys and says that it is ready. How often the
broken part was asked is told on stderr, a line each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from authz.authorizer import Authorizer
from authz.cli import cli
from authz.transport.check_response import Answers
from authz.transport.server import Door
from tests.bench.servers import Service
from tests.support.user_pool import FakeUserPool

ASKED: Final = "the broken part was asked"


class Panic(BaseException):
    """As pyo3's PanicException: not an Exception."""


def _raising(error: Callable[[], BaseException]) -> Callable[..., Any]:
    def wrong(*_: object, **__: object) -> None:
        print(ASKED, file=sys.stderr, flush=True)
        raise error()

    return wrong


def _awaited(error: Callable[[], BaseException]) -> Callable[..., Any]:
    raising = _raising(error)

    async def wrong(*_: object, **__: object) -> None:
        raising()

    return wrong


def _authorizer(error: Callable[[], BaseException]) -> None:
    Authorizer.authorize = _awaited(error)  # type: ignore[method-assign]


def _answers(error: Callable[[], BaseException]) -> None:
    for name in ("_allow", "_deny"):
        setattr(Answers, name, _after(2 if name == "_deny" else 0, getattr(Answers, name), _raising(error)))


def _after(count: int, right: Callable[..., Any], wrong: Callable[..., Any]) -> Callable[..., Any]:
    """Be right so many times: the door has two denials built at the start."""
    left = [count]

    def both(*arguments: Any) -> Any:
        left[0] -= 1
        return (right if left[0] >= 0 else wrong)(*arguments)

    return both


def _door(error: Callable[[], BaseException]) -> None:
    Door.check = _awaited(error)  # type: ignore[method-assign]


def _quoting_authorizer(error: Callable[..., BaseException]) -> None:
    async def wrong(_: object, request: object, now: float) -> None:
        print(ASKED, file=sys.stderr, flush=True)
        raise error(f"{request!r} at {now}") from error(repr(request))

    Authorizer.authorize = wrong  # type: ignore[method-assign,assignment]


def _quoting_door(error: Callable[..., BaseException]) -> None:
    async def wrong(_: object, data: bytes, context: object = None) -> bytes:
        print(ASKED, file=sys.stderr, flush=True)
        raise error(f"{data!r} from {context!r}")

    Door.check = wrong  # type: ignore[method-assign]


FAULTS: Final[Mapping[str, tuple[Callable[[Callable[[], BaseException]], None], Callable[[], BaseException]]]] = {
    "failing in its authorizer": (_authorizer, RuntimeError),
    "out of memory in its authorizer": (_authorizer, MemoryError),
    "panicking in its authorizer": (_authorizer, Panic),
    "failing in its answers": (_answers, lambda: KeyError("injected")),
    "panicking in its answers": (_answers, Panic),
    "failing outside its door": (_door, RuntimeError),
    "panicking outside its door": (_door, Panic),
    "failing with the request in its words": (_quoting_authorizer, ValueError),
    "failing with the message in its words": (_quoting_door, ValueError),
}


class FaultyService(Service):
    """The service with one of FAULTS, as a child process."""

    def __init__(self, folder: Path, pool: FakeUserPool, *, fault: str, **settings: Any) -> None:
        super().__init__(folder, pool, **settings)
        wrapped = [sys.executable, "-m", "tests.support.faulty_service", fault]
        self._command = [*wrapped, *self._command[self._command.index("serve") :]]

    @property
    def asked(self) -> int:
        """How often the broken part was asked."""
        return self.log.read_text(errors="replace").count(ASKED)


if __name__ == "__main__":
    break_it, error = FAULTS[sys.argv.pop(1)]
    break_it(error)
    cli()
