"""The metrics of several workers as one exposition.

Rules: counters and histograms are summed, so that what a dashboard asks of one process holds for many. A sum of gauges
means little, so each gauge keeps its `worker`. What an ended worker had counted when it was last heard stays in the
sums: to Prometheus a sum that falls is a restart from 0, and all that is left of it would be counted once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Final, NamedTuple, TypeAlias

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

_SUMMED: Final = frozenset({"counter", "histogram"})

_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels."""


class Family(NamedTuple):
    """One metric: what it is called and every value that it has."""

    name: str
    documentation: str
    type: str
    values: dict[_Key, float]


class Gathering:
    """What the workers counted, each in its latest exposition. A collector for `generate_latest`, in any thread."""

    def __init__(self) -> None:
        self._changing = Lock()
        self._latest: dict[str, Mapping[str, Family]] = {}
        self._ended: dict[str, Family] = {}  # the sums of those that are no more

    def heard(self, worker: str, families: Mapping[str, Family]) -> None:
        """Take what the worker counts now for what it counted before."""
        with self._changing:
            self._latest[worker] = families

    def ended(self, worker: str) -> None:
        """Keep what the worker had counted, and forget its gauges."""
        with self._changing:
            for family in self._latest.pop(worker, {}).values():
                if family.type in _SUMMED:
                    _add(self._ended, family)

    def collect(self) -> Iterable[Metric]:
        """Give every metric, of all workers together."""
        together: dict[str, Family] = {}
        with self._changing:
            for family in self._ended.values():
                _add(together, family)
            for worker, families in sorted(self._latest.items()):
                for family in families.values():
                    _add(together, family if family.type in _SUMMED else _of_worker(family, worker))
        return map(_metric, together.values())


def read_exposition(text: str) -> Mapping[str, Family]:
    """Read Prometheus' text format: every metric by its name. It takes long: not for an event loop."""
    metrics: Iterable[Metric] = text_string_to_metric_families(text)
    return {family.name: family for family in map(_family, metrics)}


def _family(metric: Metric) -> Family:
    values = {(sample.name, tuple(sample.labels.items())): float(sample.value) for sample in metric.samples}
    return Family(metric.name, metric.documentation, metric.type, values)


def _of_worker(family: Family, worker: str) -> Family:
    values = {(name, (*labels, ("worker", worker))): value for (name, labels), value in family.values.items()}
    return family._replace(values=values)


def _add(families: dict[str, Family], more: Family) -> None:
    """Add to each value the one of the same name and labels."""
    values = families.setdefault(more.name, more._replace(values={})).values
    for key, value in more.values.items():
        values[key] = values.get(key, 0.0) + value


def _metric(family: Family) -> Metric:
    metric = Metric(family.name, family.documentation, family.type)
    for (name, labels), value in family.values.items():
        metric.add_sample(name, dict(labels), value)
    return metric
