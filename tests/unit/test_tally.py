"""Plain additions that a scrape sees as the library's own counters and histograms, value for value."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest

from authz.tally import CallTally, CounterTally, DurationTally, Shown, register

BOUNDS = (0.001, 0.01, 0.1)
SECONDS = (0.0, 0.001, 0.0011, 0.05, 0.1, 7.0)


def exposition(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_counter_is_exposed_as_the_librarys_own() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = CounterTally("x", "Help.", ["a", "b"], [("0", "0")])
    register(ours, tally)
    counter = Counter("x", "Help.", ["a", "b"], registry=theirs)
    counter.labels("0", "0")
    for labels in (("1", "2"), ("1", "2"), ('q"uote', "2")):
        tally.add(labels)
        counter.labels(*labels).inc()
    assert exposition(ours) == exposition(theirs)
    assert ("1", "2") in tally
    assert ("2", "1") not in tally


def test_a_histogram_is_exposed_as_the_librarys_own() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = DurationTally(BOUNDS, Shown("x", "Help.", [("a", "b")]), Shown("y", "More."))
    register(ours, tally)
    histogram = Histogram("x", "Help.", ["a"], buckets=BOUNDS, registry=theirs).labels("b")
    other = Histogram("y", "More.", buckets=BOUNDS, registry=theirs)
    for seconds in SECONDS:
        tally.observe(seconds)
        histogram.observe(seconds)
        other.observe(seconds)
    assert exposition(ours) == exposition(theirs)


def test_calls_are_exposed_as_the_librarys_own_counter() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = DurationTally(BOUNDS)
    register(ours, CallTally("x", "Help.", [("a", "b")], durations, ["OK", "Unknown"]))
    counter = Counter("x", "Help.", ["a", "grpc_code"], registry=theirs)
    counter.labels("b", "OK")
    counter.labels("b", "Unknown")
    for seconds in SECONDS:
        durations.observe(seconds)
        counter.labels("b", "OK").inc()
    assert exposition(ours) == exposition(theirs)
