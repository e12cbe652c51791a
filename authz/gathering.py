"""The metrics of several workers as one exposition.

Rules: counters and histograms are summed, so that what a dashboard asks of one process holds for many. A sum of gauges
means little, so each gauge keeps its `worker`. What a worker had counted when it ended stays in the sums: to Prometheus
a sum that falls is a restart from 0, and all that is left of it would be counted once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

_SUMMED: Final = frozenset({"counter", "histogram"})

_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels."""


class _Family(NamedTuple):
    """One metric: what it is called and every value that it has."""

    name: str
    documentation: str
    type: str
    values: dict[_Key, float]


class Gathering:
    """What the workers counted, each in its latest exposition. A collector for `generate_latest`."""

    def __init__(self) -> None:
        self._latest: dict[str, Mapping[str, _Family]] = {}
        self._ended: dict[str, _Family] = {}  # the sums of those that are no more

    def heard(self, worker: str, exposition: str) -> None:
        """Take what the worker counts now (Prometheus' text format) for what it counted before."""
        self._latest[worker] = {family.name: family for family in map(_family, _parse(exposition))}

    def ended(self, worker: str) -> None:
        """Keep what the worker had counted, and forget its gauges."""
        for family in self._latest.pop(worker, {}).values():
            if family.type in _SUMMED:
                _add(self._ended, family)

    def collect(self) -> Iterable[Metric]:
        """Give every metric, of all workers together."""
        together: dict[str, _Family] = {}
        for family in self._ended.values():
            _add(together, family)
        for worker, families in sorted(self._latest.items()):
            for family in families.values():
                _add(together, family if family.type in _SUMMED else _of_worker(family, worker))
        return map(_metric, together.values())


def _parse(exposition: str) -> Iterable[Metric]:
    families: Iterable[Metric] = text_string_to_metric_families(exposition)
    return families


def _family(metric: Metric) -> _Family:
    values = {(sample.name, tuple(sample.labels.items())): float(sample.value) for sample in metric.samples}
    return _Family(metric.name, metric.documentation, metric.type, values)


def _of_worker(family: _Family, worker: str) -> _Family:
    values = {(name, (*labels, ("worker", worker))): value for (name, labels), value in family.values.items()}
    return family._replace(values=values)


def _add(families: dict[str, _Family], more: _Family) -> None:
    """Add to each value the one of the same name and labels."""
    values = families.setdefault(more.name, more._replace(values={})).values
    for key, value in more.values.items():
        values[key] = values.get(key, 0.0) + value


def _metric(family: _Family) -> Metric:
    metric = Metric(family.name, family.documentation, family.type)
    for (name, labels), value in family.values.items():
        metric.add_sample(name, dict(labels), value)
    return metric
