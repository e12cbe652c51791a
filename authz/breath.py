"""Where long work may stand aside for whoever waits, in the midst of its loops.

The work itself knows neither clock nor event loop: `turns.py` starts it there and says when its turn has ended. Started
by anybody else, it just goes on.
"""

from __future__ import annotations

from greenlet import getcurrent, greenlet


class LongWork(greenlet):
    """Work that stands aside when its turn has ended; whoever called `switch` goes on then, and calls it again."""

    def turn_has_ended(self) -> bool:
        """Tell whether to stand aside now."""
        return False


def breathe() -> None:
    """Stand aside if this turn has ended. To be called every few microseconds of long work."""
    work = getcurrent()
    if isinstance(work, LongWork) and work.turn_has_ended() and work.parent is not None:
        work.parent.switch()
