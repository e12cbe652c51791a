"""What is told of keys, policies and revocations: that they came, went and came back, each once."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from authz.errors import LoadError, Problem, Severity
from authz.events import Events, RevocationEvents
from authz.identity.fetch import FetchResult
from authz.identity.revocations import parse_revocations
from authz.metrics import Metrics
from authz.model import Source
from authz.policy.files import PolicyFile
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies

ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
FETCHED = "keys fetched"
LOST = "the keys are too old, and no new ones come: tokens of this issuer are answered with 503"


@pytest.fixture
def events() -> Events:
    return Events(Metrics(version="0", wall=lambda: 0.0))


@pytest.fixture
def policies() -> PolicySet:
    return parse_policies(
        [PolicyFile("a.yaml", b"- {from: https://a.example.com, allow_any_authenticated_user: true}\n")],
        PolicyOptions(),
    )


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.message for record in caplog.records]
    caplog.clear()
    return messages


def test_keys_that_are_lost_and_come_back_are_told_once_each(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "authz")
    for result, keys, messages in (
        (FetchResult.ERROR_STATUS, 0, []),  # there never were any
        (FetchResult.OK, 2, [FETCHED]),
        (FetchResult.UNCHANGED, 2, []),
        (FetchResult.ERROR_STATUS, 2, []),  # still good
        (FetchResult.ERROR_STATUS, 0, [LOST]),
        (FetchResult.ERROR_STATUS, 0, []),
        (FetchResult.UNCHANGED, 2, [FETCHED]),  # the same ones, good again
        (FetchResult.OK, 1, [FETCHED]),
    ):
        events.fetched(ISSUER, result, keys)
        assert told(caplog) == messages


def test_keys_of_the_cache_folder_can_be_lost_too(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "authz")
    events.restored(ISSUER, 2, 0.0, "cache_dir")
    events.fetched(ISSUER, FetchResult.ERROR_STATUS, 0)
    events.fetched("https://another", FetchResult.ERROR_STATUS, 0)
    assert told(caplog) == ["keys restored from cache_dir", LOST]


def test_policies_that_were_refused_and_are_as_before_are_told_and_counted(
    policies: PolicySet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "authz")
    metrics = Metrics(version="0", wall=lambda: 0.0)
    revocations = parse_revocations([PolicyFile("r.yaml", b"[]\n")], None)
    error = LoadError([Problem(Source("a.yaml", 1, 1), "wrong")])
    for what, events, loaded in (
        ("policies", Events(metrics), policies),
        ("revocations", RevocationEvents(metrics), revocations),
    ):
        events.refused(error)
        events.mended(loaded)
        assert told(caplog)[-1].startswith(f"{what} as before")
        exposition = metrics.render()[0].decode()
        name = what.replace("policies", "policy")
        for result in ("ok", "error"):
            assert f'authz_{name}_reloads_total{{result="{result}"}} 1.0' in exposition


@pytest.mark.parametrize(("count", "counted"), [(1, "1 problem"), (2, "2 problems")])
def test_problems_are_counted(events: Events, count: int, counted: str, caplog: pytest.LogCaptureFixture) -> None:
    refused = LoadError([Problem(Source("a.yaml", 1, 1), "wrong")] * count)
    events.refused(refused)
    RevocationEvents(Metrics(version="0", wall=lambda: 0.0)).refused(refused)
    messages = [message for message in told(caplog) if "refused" in message]
    assert messages == [
        f"policies refused, the last good set stays in force: {counted}",
        f"revocations refused, the last good list stays in force: {counted}",
    ]


def test_a_stale_mount_is_told_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics(version="0", wall=lambda: 0.0)
    for name, events in (("policy", Events(metrics)), ("revocations", RevocationEvents(metrics))):
        events.stale_mount(Path("a.yaml"))
        assert told(caplog) == [
            "a.yaml was replaced outside; this mount still shows the deleted file: mount the folder instead"
        ]
        assert f'authz_{name}_reloads_total{{result="stale-mount"}} 1.0' in metrics.render()[0].decode()


@pytest.mark.parametrize(("count", "more"), [(50, []), (51, ["1 more: `authz check` tells them all"])])
def test_fifty_warnings_are_told_and_how_many_are_left(
    events: Events, policies: PolicySet, count: int, more: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "authz")
    warnings = [Problem(Source("a.yaml", line, 1), "odd", Severity.WARNING) for line in range(1, count + 1)]
    events.reloaded(replace(policies, warnings=tuple(warnings)))
    assert told(caplog) == ["policies loaded", *(str(warning) for warning in warnings[:50]), *more]


def test_fifty_problems_are_told_of_all_that_are_counted(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    problems = [Problem(Source("a.yaml", line, 1), "wrong") for line in range(1, 52)]
    for refusing in (events, RevocationEvents(Metrics(version="0", wall=lambda: 0.0))):
        refusing.refused(LoadError(problems))
        first, *lines = told(caplog)
        assert first.endswith("51 problems")
        assert lines == [str(problem) for problem in problems[:50]]


def test_what_is_taken_over_from_another_worker_counts_as_no_reload_and_is_as_old_as_it_is(
    policies: PolicySet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "authz")
    metrics = Metrics(version="0", wall=lambda: 0.0)
    Events(metrics).taken_over(policies, 1234.5)
    revocations = parse_revocations([("a.yaml", b"- {sub: somebody}\n")])
    RevocationEvents(metrics).taken_over(revocations, 1234.5)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", f"{what} taken over from another worker, because the files as they are now do not load")
        for what in ("policies", "revocations")
    ]
    exposition = metrics.render()[0].decode()
    for line in (
        'authz_policy_reloads_total{result="ok"} 0.0',
        "authz_policy_last_success_timestamp_seconds 1234.5",
        f'authz_policy_revision_info{{revision="{policies.revision}"}} 1.0',
        "authz_policy_routes 1.0",
        'authz_revocations_reloads_total{result="ok"} 0.0',
        "authz_revocations_entries 1.0",
    ):
        assert line in exposition.splitlines()
