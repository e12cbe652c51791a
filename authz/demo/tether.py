"""Run a command that cannot outlive its parent: `tether.py PARENT_PID COMMAND…`.

A script of the standard library alone, so that it starts in a few milliseconds. On Linux the kernel then kills the
command when the parent ends, `kill -9` included (prctl(2), PR_SET_PDEATHSIG: kept across exec). Elsewhere it only
runs the command.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and become the command."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before we were tied to it
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - to become the command without a shell is the purpose


if __name__ == "__main__":
    main()
