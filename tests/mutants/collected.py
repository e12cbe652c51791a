"""The tests, collected by pytest in this process, and run one by one as we please.

Hypothesis takes the same examples each time, keeps none, and does not look for a smaller one: a mutant that one run
kills and the next lets live would be no figure.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import _lru_cache_wrapper
from itertools import pairwise
from typing import Any, Final, Never

import hypothesis
import pytest

FOLDERS: Final = ("tests/unit", "tests/cases")
# They start servers or processes, or measure time. Nothing pure is tested there alone.
LEFT_OUT: Final = (
    "tests/unit/test_mutants.py",
    "tests/unit/test_service.py",
    "tests/unit/test_supervisor.py",
    "tests/unit/policy/test_quiet.py",
    "tests/unit/policy/test_store.py",
    "tests/unit/transport/test_admission.py",
    "tests/unit/transport/test_server.py",
    "tests/unit/transport/test_tls.py",
    "tests/unit/transport/test_wire.py",
    "tests/unit/workbench/test_schemas.py",
)
OPTIONS: Final = (
    "-o",
    "addopts=",
    "--import-mode=importlib",
    "-q",
    "-s",
    "-p",
    "no:cacheprovider",
    "--tb=no",
    "--assert=plain",
    "-o",
    "timeout=60",
)

SLACK_SECONDS: Final = 1.0
SLACK_TIMES: Final = 10
BEAT_SECONDS: Final = 5.0
MOST_BEATS: Final = 24


class Collected:
    """Every test, by its number; `failed` are those that failed so far."""

    def __init__(self, items: Sequence[pytest.Item]) -> None:
        self.items = items
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def run(self, numbers: Iterable[int], around: Callable[[int], None] = lambda _number: None) -> Iterable[int]:
        """Run these tests in this order; say which failed, as soon as it did. `around` is called before each."""
        wanted = [*numbers]
        for number, following in pairwise([*wanted, None]):
            assert number is not None
            item = self.items[number]
            around(number)
            self.failed.clear()
            nextitem = None if following is None else self.items[following]
            item.ihook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            if self.failed:
                yield number


class _Loop:
    """A plugin that lets `then` have the tests instead of running them."""

    def __init__(self, then: Callable[[Collected], Never]) -> None:
        self._then = then
        self.error: Exception | None = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed:
            return None  # pytest's own loop says so and ends
        collected = Collected(session.items)
        session.config.pluginmanager.register(collected)
        try:
            self._then(collected)
        except Exception as error:  # noqa: BLE001 - pytest would swallow it and tell a number
            self.error = error
        return True


def collect(paths: Sequence[str], then: Callable[[Collected], Never]) -> int:
    """Let pytest collect these, and hand them on: `then` ends this process. A return says that pytest could not.

    What `then` raises is raised here.
    """
    hypothesis.settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutants")
    ignored = [f"--ignore={path}" for path in LEFT_OUT]
    loop = _Loop(then)
    code = pytest.main([*OPTIONS, *ignored, *paths], plugins=[loop])
    if loop.error is not None:
        raise loop.error
    return int(code)


def alarm(seconds: Mapping[int, float]) -> Callable[[int], None]:
    """Kill this process when a test takes ten times the processor time that it took, or waits for ever.

    A busy machine, or a person who stops us for a while, kills nobody: beats that a stopped process misses come as one.
    """
    beats = 0

    def beat(*_: object) -> None:
        nonlocal beats
        beats += 1
        if beats > MOST_BEATS:
            signal.raise_signal(signal.SIGKILL)

    def before(number: int) -> None:
        nonlocal beats
        beats = 0
        signal.setitimer(signal.ITIMER_VIRTUAL, SLACK_SECONDS + SLACK_TIMES * seconds[number])

    signal.signal(signal.SIGALRM, beat)
    signal.setitimer(signal.ITIMER_REAL, BEAT_SECONDS, BEAT_SECONDS)
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    return before


def memories() -> list[Any]:
    """Give every `lru_cache` that holds what the modules made; keys and texts that other tests keep are none of it."""
    return [
        found
        for found in gc.get_objects()
        if isinstance(found, _lru_cache_wrapper) and (found.__module__ or "").startswith(("authz.", "tests.cases."))
    ]
