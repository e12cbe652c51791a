"""What a serving process does first, before anything is loaded that could take long."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


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


def open_standard_descriptors() -> None:
    """Open what was closed (`authz serve >&-`): else the next file of ours would become standard output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # it takes the lowest free descriptor, this one
