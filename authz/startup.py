"""What a serving process does first, before anything is loaded that could take long, and last."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def heed_signals() -> None:
    """Take signals until the event loop does, which may be seconds later.

    SIGHUP asks for what a start does anyway, and would end us. SIGTERM does nothing to the first process of a container
    that has not said what to do with it; the container would then be killed after its grace period.

    Nothing has been started yet that would have to be ended, so the process leaves at once; a line that was just logged
    may be lost. Raising SystemExit instead would land anywhere: between an `open` and its `with`, or in a finaliser,
    where Python drops what is raised.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def heed(loop: asyncio.AbstractEventLoop, number: signal.Signals, action: Callable[[], object]) -> None:
    """Let the loop do this at the signal.

    `loop.add_signal_handler` gives a signal its deadly default back when the loop is closed. From then to the end, one
    more signal would kill us instead of letting us exit with 0.
    """

    def note(*_: object) -> None:
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(action)

    signal.signal(number, note)


def let_the_end_be() -> None:
    """Ignore further signals: the event loop, which heeded the first, is gone."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def open_standard_descriptors() -> None:
    """Open what was closed (`authz serve >&-`): else the next file of ours would become standard output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # it takes the lowest free descriptor, this one
