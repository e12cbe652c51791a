"""What loading 10,000 routes costs, step by step, a route: `python -m tests.bench.micro_load`.

Processor time of the load alone, nobody asking meanwhile and the collector at rest, the least of several rounds: what a
service takes besides is the quarter of a second that it waits for files to keep still, the collector's looks, and the
turns in which it stands aside for requests (`make bench` measures all of it together).
"""

from __future__ import annotations

import gc
from collections import defaultdict
from time import process_time

import yaml

from authz.document import parse
from authz.node import Problems, let_go
from authz.policy.advice import advise
from authz.policy.parser import PolicyOptions, parse_policies
from authz.policy.route_reader import RouteReader
from authz.policy.routes import RouteIndex
from tests.bench import messages

ROUTES, ROUNDS = 10_000, 3


def main() -> None:
    """Take the steps of `parse_policies` one by one, then all at once."""
    data = messages.policies(ROUTES).encode()
    options = PolicyOptions()
    took: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        clock = _Clock(took)
        sum(1 for _ in yaml.parse(data.decode(), Loader=yaml.CSafeLoader))
        clock.lap("libyaml's events alone")
        problems = Problems()
        document = parse(data, "bench.yaml", problems)
        clock.lap("values that know their line, events included")
        assert document is not None
        reader = RouteReader(problems, options.context, None)
        reader.read_file(document, options.inline)
        clock.lap("routes and rules, compiled")
        documents = [document]
        del document
        let_go(documents)
        clock.lap("letting go of the values")
        advise(reader.routes, options.accepted, checks_certificates=False)
        clock.lap("advice")
        RouteIndex(reader.routes)
        clock.lap("index")
        parse_policies([("bench.yaml", data)], options)
        clock.lap("the whole load")
        gc.enable()
    for step, seconds in took.items():
        print(f"{step:48}{min(seconds) / ROUTES * 1e6:8.1f} µs a route")


class _Clock:
    """Notes the processor time since it was last asked."""

    def __init__(self, took: dict[str, list[float]]) -> None:
        self._took = took
        self._started = process_time()

    def lap(self, step: str) -> None:
        now = process_time()
        self._took[step].append(now - self._started)
        self._started = process_time()


if __name__ == "__main__":
    main()
