"""Counters and histograms for the request path: plain additions on one event loop, collected when somebody scrapes.

prometheus-client's own take a lock and several calls for each count, which at some ten thousand counts a second is work
that a request can notice. These are its custom collectors, so the exposition stays the library's. One thread counts; a
scrape in another thread reads whole numbers, each as it was at some moment of the scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


class CounterTally(Collector):
    """One counter; `add` takes the values of its labels, which come from closed lists and files alone."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], known: Iterable[tuple[str, ...]] = ()
    ) -> None:
        """`known`: label values that are there from the start, so that the first of each is seen as a rise from 0."""
        self._name, self._documentation, self._labels = name, documentation, labels
        self._counts: dict[tuple[str, ...], int] = dict.fromkeys(known, 0)

    def __contains__(self, labels: tuple[str, ...]) -> bool:
        return labels in self._counts

    def add(self, labels: tuple[str, ...]) -> None:
        """Count one."""
        self._counts[labels] = self._counts.get(labels, 0) + 1

    def collect(self) -> Iterable[Metric]:
        """Give the family as it is now."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, count in self._counts.copy().items():
            family.add_metric([str(label) for label in labels], count)
        return [family]


class Shown(NamedTuple):
    """A histogram's name, its help, and label values that are the same for all of it."""

    name: str
    documentation: str
    labels: Sequence[tuple[str, str]] = ()


class DurationTally(Collector):
    """Durations in seconds, counted once and shown as one histogram under each of its names."""

    def __init__(self, bounds: Sequence[float], *names: Shown) -> None:
        self._bounds, self._names = list(bounds), names
        self._counts = [0] * (len(self._bounds) + 1)  # the last is for what is longer than every bound
        self._sum = 0.0

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)

    def observe(self, seconds: float) -> None:
        """Count one duration in the first bucket whose bound is not below it."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterable[Metric]:
        """Give the families as they are now, the buckets added up as Prometheus wants them."""
        buckets, below = [], 0
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts.copy(), strict=True):
            below += count
            buckets.append((bound, float(below)))
        for name, documentation, labels in self._names:
            family = HistogramMetricFamily(name, documentation, labels=[label for label, _ in labels])
            family.add_metric([value for _, value in labels], buckets, self._sum)
            yield family


class CallTally(Collector):
    """How many calls ended with each status code; all of them with one, for every answer of ours is one to gRPC."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[tuple[str, str]],
        durations: DurationTally,
        codes: Sequence[str],
    ) -> None:
        """`codes`: the first is that of every call; the others are shown because dashboards ask for them."""
        self._name, self._documentation, self._labels = name, documentation, labels
        self._durations, self._codes = durations, codes

    def collect(self) -> Iterable[Metric]:
        """Give the family as it is now."""
        names, values = zip(*self._labels, strict=True)
        family = CounterMetricFamily(self._name, self._documentation, labels=[*names, "grpc_code"])
        for code in self._codes:
            family.add_metric([*values, code], self._durations.count if code == self._codes[0] else 0)
        return [family]


def register(registry: CollectorRegistry, *collectors: Collector) -> None:
    """Let the registry ask these when it is scraped."""
    for collector in collectors:
        registry.register(collector)
