"""The load: `h2load` of nghttp2, which speaks HTTP/2 and sends one prepared gRPC message as often as it is told.

Closed loop: 2 connections with up to 32 requests in flight each, as a busy Envoy of two workers has. Open loop: one
connection, one request every 1/rate seconds whether or not earlier ones were answered (wrk2's way), so that a slow
answer cannot slow the asking down. h2load sees HTTP alone and a gRPC error is HTTP 200 too: a run counts only if it
carried as many bytes as so many good answers have.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

CHECK: Final = "/envoy.service.auth.v3.Authorization/Check"
INSTALL: Final = "apt-get install -y nghttp2-client"
CONNECTIONS: Final = 2
IN_FLIGHT: Final = 32  # a connection
LONGEST_RUN: Final = 60  # seconds
GRPC: Final = {"te": "trailers", "content-type": "application/grpc"}


class LoadError(Exception):
    """A run that does not count, and why."""


class Run(NamedTuple):
    """What a closed-loop run came to."""

    requests: int
    seconds: float
    data_bytes: int  # of all answers, without their headers

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


class Sample(NamedTuple):
    """One request of an open-loop run."""

    started: float  # seconds since 1970
    status: int  # -1: failed
    latency: float  # seconds


class Target(NamedTuple):
    """What is asked, and how long an answer is at least: shorter ones are errors."""

    url: str
    headers: Mapping[str, str]
    body: Path | None = None
    answer_bytes: int = 0

    @classmethod
    def check(cls, port: int, body: Path, answer_bytes: int) -> Target:
        """A Check of the service on this port."""
        return cls(f"http://127.0.0.1:{port}{CHECK}", GRPC, body, answer_bytes)

    @property
    def arguments(self) -> list[str]:
        """The part of the command line that says what is asked."""
        headers = [part for name, value in self.headers.items() for part in ("-H", f"{name}: {value}")]
        return [*headers, *(["-d", str(self.body)] if self.body else []), self.url]


def is_installed() -> bool:
    """Tell whether there is an h2load."""
    return shutil.which("h2load") is not None


def ask(targets: Sequence[Target], requests: int, in_flight: int = IN_FLIGHT) -> Run:
    """Send `requests` requests, shared among the targets, one h2load each at the same time."""
    share = requests // len(targets)
    connections = max(1, CONNECTIONS // len(targets))
    amount = ["-n", str(share), "-c", str(connections), "-m", str(in_flight)]
    started = [
        subprocess.Popen(
            ["h2load", *amount, *target.arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for target in targets
    ]
    outputs = [_output(process) for process in started]
    runs = [_counted(parse(output), target) for output, target in zip(outputs, targets, strict=True)]
    return Run(sum(run.requests for run in runs), max(run.seconds for run in runs), sum(run.data_bytes for run in runs))


def _output(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=LONGEST_RUN)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise LoadError(f"h2load was not done after {LONGEST_RUN} s") from None


def _counted(run: Run, target: Target) -> Run:
    if run.data_bytes < run.requests * target.answer_bytes:
        raise LoadError(f"answers of {run.data_bytes / run.requests:.0f} bytes, {target.answer_bytes} expected")
    return run


_FINISHED: Final = re.compile(r"^finished in ([\d.]+)(us|ms|s|m)\b", re.MULTILINE)
_REQUESTS: Final = re.compile(r"^requests: (\d+) total, .* (\d+) succeeded, ", re.MULTILINE)
_DATA: Final = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def parse(output: str) -> Run:
    """Read what h2load prints. Raises LoadError when a request failed or the text is not h2load's."""
    finished, requests, data = (pattern.search(output) for pattern in (_FINISHED, _REQUESTS, _DATA))
    if finished is None or requests is None or data is None:
        raise LoadError(f"h2load says: {output[-300:].strip()}")
    total, succeeded = int(requests[1]), int(requests[2])
    if total != succeeded or not total:
        raise LoadError(f"{total - succeeded} of {total} requests failed")
    return Run(total, float(finished[1]) * _UNITS[finished[2]], int(data[1]))


def ask_steadily(
    target: Target, folder: Path, *, rate: int, seconds: float, connections: int = 1, in_flight: int = 250
) -> list[Sample]:
    """Send `rate` requests a second, evenly spaced, and give every one of them, those that failed too.

    Several connections share them, with up to `in_flight` each, and each keeps the same times.
    """
    script, log = folder / "schedule.tsv", folder / "requests.tsv"
    log.unlink(missing_ok=True)
    due = (1000 * number * connections / rate for number in range(int(rate * seconds / connections)))
    script.write_text("".join(f"{milliseconds:.3f}\t{target.url}\n" for milliseconds in due))
    *arguments, _ = target.arguments
    amount = ["-c", str(connections), "-m", str(in_flight)]
    command = ["h2load", *amount, f"--timing-script-file={script}", f"--log-file={log}", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = _output(process)
    samples = parse_log(log.read_text()) if log.is_file() else []
    if len(samples) < rate * seconds / 2:  # it could not even be asked
        raise LoadError(f"only {len(samples)} requests were answered; h2load says: {output[-300:].strip()}")
    return samples


def parse_log(text: str) -> list[Sample]:
    """Read h2load's --log-file: start in µs since 1970, HTTP status, µs to the end of the answer."""
    rows = (line.split("\t") for line in text.splitlines())
    return [Sample(int(start) / 1e6, int(status), int(micros) / 1e6) for start, status, micros in rows]
