from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from authz.gathering import Gathering, read_exposition
from authz.metrics import Registry

ROUTE = 'https://a.example regex="\\d+"\n'  # whatever a label may hold


def counted(number: int, routes: int = 0, seconds: tuple[float, ...] = (), route: str = ROUTE) -> str:
    """Give the exposition of a process that counted this."""
    registry = Registry()
    Counter("decisions", "Decisions.", ["route"], registry=registry).labels(route).inc(number)
    Gauge("routes", "Routes.", registry=registry).set(routes)
    histogram = Histogram("seconds", "Time.", buckets=(0.1, 1.0), registry=registry)
    for value in seconds:
        histogram.observe(value)
    return generate_latest(registry).decode()


def together(gathering: Gathering) -> dict[tuple[str, tuple[str, ...]], float]:
    """Give every sample by its name and the values of its labels."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for metric in gathering.collect()
        for sample in metric.samples
    }


def gathered(**expositions: str) -> Gathering:
    gathering = Gathering()
    for name, exposition in expositions.items():
        gathering.heard(name.removeprefix("worker"), read_exposition(exposition))
    return gathering


def test_counters_are_summed_label_by_label() -> None:
    found = together(gathered(worker0=counted(2), worker1=counted(3), worker2=counted(4, route="other")))
    assert found["decisions_total", (ROUTE,)] == 5
    assert found["decisions_total", ("other",)] == 4


def test_histograms_are_summed_bucket_by_bucket() -> None:
    found = together(gathered(worker0=counted(0, seconds=(0.05, 0.5)), worker1=counted(0, seconds=(0.05, 5.0))))
    assert [found["seconds_bucket", (limit,)] for limit in ("0.1", "1.0", "+Inf")] == [2, 3, 4]
    assert found["seconds_count", ()] == 4
    assert found["seconds_sum", ()] == 5.6


def test_gauges_keep_their_worker() -> None:
    found = together(gathered(worker0=counted(0, routes=7), worker1=counted(0, routes=8)))
    assert (found["routes", ("0",)], found["routes", ("1",)]) == (7, 8)


def test_what_is_heard_anew_replaces_what_was_heard_before() -> None:
    gathering = gathered(worker0=counted(2, routes=7))
    gathering.heard("0", read_exposition(counted(3, routes=9)))
    found = together(gathering)
    assert found["decisions_total", (ROUTE,)] == 3
    assert found["routes", ("0",)] == 9


def test_an_ended_worker_leaves_its_counts_and_takes_its_gauges() -> None:
    gathering = gathered(worker0=counted(2, routes=7), worker1=counted(3, routes=8))
    gathering.ended("0")
    assert together(gathering)["decisions_total", (ROUTE,)] == 5
    assert ("routes", ("0",)) not in together(gathering)
    gathering.heard("0", read_exposition(counted(1, routes=9)))  # the next one of that number
    gathering.ended("0")
    gathering.ended("0")
    assert together(gathering)["decisions_total", (ROUTE,)] == 6


def test_the_whole_can_be_written_and_read_like_one_process() -> None:
    written = generate_latest(gathered(worker0=counted(2, seconds=(0.5,)))).decode()
    assert together(gathered(all=written))["decisions_total", (ROUTE,)] == 2
    assert "# TYPE decisions_total counter" in written
    assert "# TYPE seconds histogram" in written
