"""What h2load prints becomes numbers, and numbers become a verdict; a failed run never counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import load, report
from tests.bench.report import Goal, Reached, Results, judge, plain, ratio, spread

# Printed by h2load of nghttp2 1.52.0, shortened.
OUTPUT = """\
starting benchmark...
spawning thread #0: 2 total client(s). 20000 total requests
Application protocol: h2c
progress: 10% done
progress: 100% done

finished in 2.51s, 7965.32 req/s, 4.05MB/s
requests: 20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 10.15MB (10643456) total, 156.31KB (160061) headers (space savings 97.12%), 9.84MB (10320000) data
                     min         max         mean         sd        +/- sd
time for request:      610us     21.11ms      8.01ms      1.02ms    91.20%
"""


def test_a_run_is_read_to_requests_seconds_and_bytes() -> None:
    run = load.parse(OUTPUT)
    assert run == load.Run(requests=20_000, seconds=2.51, data_bytes=10_320_000)
    assert run.rate == pytest.approx(7968.1, abs=0.1)


@pytest.mark.parametrize(
    ("printed", "seconds"),
    [("812.07ms", 0.81207), ("950us", 0.00095), ("1.50m", 90.0)],
    ids=["in milliseconds", "in microseconds", "in minutes"],
)
def test_the_time_may_be_written(printed: str, seconds: float) -> None:
    assert load.parse(OUTPUT.replace("2.51s", printed)).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (OUTPUT.replace("20000 succeeded, 0 failed", "19955 succeeded, 45 failed"), "45 of 20000 requests failed"),
        (OUTPUT.partition("finished")[0], "h2load says: "),
        ("unable to connect", "h2load says: unable to connect"),
    ],
    ids=["a failed request", "no end", "no connection"],
)
def test_a_run_does_not_count_with(text: str, says: str) -> None:
    with pytest.raises(load.LoadError, match=says):
        load.parse(text)


def test_answers_that_are_too_short_are_errors_in_disguise(tmp_path: Path) -> None:
    run = load.parse(OUTPUT)  # 516 bytes an answer
    assert load._counted(run, load.Target.check(1, tmp_path, 516)) is run
    with pytest.raises(load.LoadError, match="answers of 516 bytes, 517 expected"):
        load._counted(run, load.Target.check(1, tmp_path, 517))


def test_the_log_of_an_open_loop_run_is_read_line_by_line() -> None:
    samples = load.parse_log("1795241594588532\t200\t471\n1795241594589532\t503\t90012\n")
    assert samples == [
        (1795241594.588532, 200, 0.000471),
        (1795241594.589532, 503, 0.090012),
    ]


AT_LEAST = Goal("throughput", ratio("rate/us", "rate/floor"), 0.9, of="floor")
AT_MOST = Goal("memory", plain("memory"), 64, "MB", at_least=False)


def results(us: list[float], memory: list[float]) -> Results:
    return Results({"rate/us": us, "rate/floor": [100.0] * len(us), "memory": memory})


@pytest.mark.parametrize(
    ("us", "memory", "reached"),
    [
        ([90.0, 10.0, 95.0], [64.0], [Reached.YES, Reached.YES]),
        ([89.0, 10.0, 99.0], [64.1], [Reached.NO, Reached.NO]),
    ],
    ids=["the median reaches them", "the median misses them"],
)
def test_goals_are_judged(us: list[float], memory: list[float], reached: list[Reached]) -> None:
    assert [row.reached for row in judge(results(us, memory), [AT_LEAST, AT_MOST])] == reached


def test_what_was_not_measured_stays_open_and_says_why() -> None:
    nothing = Results()
    nothing.miss("rate/", "no server")
    (row,) = judge(nothing, [AT_LEAST])
    assert (row.reached, row.why_missing) == (Reached.OPEN, "no server")
    assert "| open " in report.render(nothing, MACHINE)


def test_rounds_that_do_not_belong_together_are_not_compared() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        AT_LEAST.measure(Results({"rate/us": [1.0, 2.0], "rate/floor": [1.0]}))


def test_a_spread_is_median_lowest_and_highest() -> None:
    assert spread([0.912, 0.9, 0.95], "×") == "0.91 × (0.90 to 0.95)"
    assert spread([12_345.6]) == "12,346"
    assert (AT_LEAST.text, AT_MOST.text) == ("≥ 0.90 × floor", "≤ 64.0 MB")


MACHINE = {"processor": "one", "cores": 2, "python": "3.11", "grpcio": "1", "envoy": "1", "load": 0.1}


def test_bench_json_holds_every_value(tmp_path: Path) -> None:
    some = results([90.0], [1.0])
    report.write_json(tmp_path / "bench.json", some, MACHINE)
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["values"] == some.values
    assert {goal["reached"] for goal in written["goals"]} == {"not measured"}
    assert written["machine"] == MACHINE
