"""Policy tests, `authz test`: expectations in `*_test.yaml` files beside the policies, judged as the service would.

A test file:

    now: 2026-01-31T12:00:00Z         # the time of every row; 2026-01-01T12:00:00Z when it is left out
    principals:                       # a name and its claims; anonymous is built in
      alice: {cognito:groups: [admins], email: alice@example.com, email_verified: true}
      robot: {client_id: m2m, sub: m2m, scope: orders/read}
    tests:                            # who, request, expected
      - [alice, GET https://admin.localhost/, allow]
      - [anonymous, GET https://admin.localhost/, 401 user-unauthenticated]
      - {as: alice, request: GET https://admin.localhost/, expect: allow, set: {x-auth-groups: admins}}

Whole file: `policies: [orders.yaml]` (relative to the test file) is what it is judged against, instead of every policy
file in its folder and below; `trust_unverified_email: true` lets addresses count without `email_verified: true`.

Principals: a good access token with `sub` and `username` of that name, `client_id: test-client`, issued and signed in
one minute ago; the claims given here add to it or replace it, and `null` takes one away that not every token has.
`token_use: id` makes it an ID token, with `aud` and `cognito:username` instead. The claims `iat`, `exp`, `nbf` and
`auth_time` may be written as times (`2026-01-31T11:00:00Z`). Who writes `sub` and `client_id` alike means a machine,
which has no user name.

Rows: the short form is `[as, request, expect]`. The map has these keys besides:
    headers: {origin: https://spa.example.com}    what the request carries; a list for a header that comes twice
    source_ip: 10.0.0.1        the address that policies see; when it is left out, what the row's `headers` say in the
                               configured `client_ip_header`, else 192.0.2.1
    certificate: client.pem    the client's certificate, a PEM file relative to the test file
    now: …                     another time for this row
    route_id: orders           the route that Envoy named
    token_error: token-expired the presented token is not good, for this reason
    route: …                   expected: the route's label, its `id`, else `from` and its matcher as written
    set: {x-auth-groups: a}    expected: the upstream gets these headers with exactly these values
    removed: [x-auth-email]    expected: the upstream does not get these headers
    name: a sentence           instead of the row itself, in reports

`expect` is `allow`, `deny` or a status, then reasons: the first must be the decision's reason, further ones among its
reasons. The outcome must be there, and what contradicts itself is refused, as is everything unknown.

With a configuration (`settings=`), claim shapes, identity headers, path parameters, certificate authorities, e-mail
trust and the principals' issuer and client come from it, and test files inside the configured policy folder are judged
against the whole of it, as `serve` would. A principal whose written claims contradict it (another app client, a time
that has passed) or who is on its revocation list has a bad token, as the service would find; `row_callers.py` tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from authz.errors import LoadError, Problem
from authz.identity.revocations import RevocationList
from authz.model import Source
from authz.node import Problems
from authz.settings import Settings
from authz.workbench.checks import Check, check
from authz.workbench.collection import Collected, Collector, find_test_files
from authz.workbench.coverage import Coverage, CoverageRecord
from authz.workbench.ground import Ground, ground_of
from authz.workbench.loading import load_revocations
from authz.workbench.row_callers import RowCaller


class FileReport(NamedTuple):
    """One test file's checks, in file order."""

    file: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> int:
        """How many passed."""
        return sum(check.passed for check in self.checks)

    @property
    def failed(self) -> int:
        """How many failed."""
        return len(self.checks) - self.passed


@dataclass(frozen=True, slots=True)
class Report:
    """What `authz test` found out."""

    files: tuple[FileReport, ...]
    coverage: Coverage
    coverage_threshold: float | None = None  # per cent

    @property
    def passed(self) -> int:
        """How many rows passed."""
        return sum(file.passed for file in self.files)

    @property
    def failed(self) -> int:
        """How many rows failed."""
        return sum(file.failed for file in self.files)

    @property
    def is_covered(self) -> bool:
        """Whether the coverage reaches the threshold, if one is set."""
        return self.coverage_threshold is None or self.coverage.reaches(self.coverage_threshold)

    @property
    def ok(self) -> bool:
        """Whether every row passed and the coverage suffices."""
        return not self.failed and self.is_covered


def test_policies(
    paths: Sequence[Path],
    settings: Settings | None = None,  # noqa: PT028 - the verb of `authz test`, no test of ours
    *,
    coverage_threshold: float | None = None,  # noqa: PT028
) -> Report:
    """Run every test file that `paths` (files and folders) hold; without any, the configured policies' or `policies/`.

    Raises LoadError with every problem of tests and policies, also when there is no test at all, and OSError or
    ValueError for an unreadable `client_certificate_ca`.
    """
    paths = paths or [_usual_path(settings)]
    ground = Ground() if settings is None else ground_of(settings)
    problems = Problems()
    collector = Collector(ground, problems)
    loaded = [collector.collect(path) for path in find_test_files(paths, problems)]
    revocations = _revocations(settings, problems)
    if not loaded and not problems:
        where = ", ".join(map(str, paths))
        message = "no policy test found: write NAME_test.yaml beside the policies"
        problems.append(Problem(Source(where, 1, 1), message))
    if problems.errors:
        raise LoadError(list(dict.fromkeys(problems.errors)))
    record = CoverageRecord()
    files = asyncio.run(_run([one for one in loaded if one is not None], ground, revocations, record))
    return Report(files, record.coverage(), coverage_threshold)


def _usual_path(settings: Settings | None) -> Path:
    if settings is None:
        return Path("policies") if Path("policies").is_dir() else Path()
    return settings.policies if settings.policies.is_dir() else settings.policies.parent


def _revocations(settings: Settings | None, problems: Problems) -> RevocationList | None:
    if settings is None or settings.revocations is None:
        return None
    try:
        return load_revocations(settings.revocations, require_end=settings.require_end)
    except LoadError as error:
        problems += error.problems
        return None


async def _run(
    files: Sequence[Collected], ground: Ground, revocations: RevocationList | None, record: CoverageRecord
) -> tuple[FileReport, ...]:
    reports = []
    for file in files:
        record.expect(file.policies)
        trust = file.expectations.trust_unverified_email
        checks = [
            await check(row, file.policies, ground, RowCaller(row, ground, revocations, trust)) for row in file.rows
        ]
        for one in checks:
            if one.visit.route is not None and one.explanation is not None:
                record.saw(one.visit.route, one.explanation)
        reports.append(FileReport(file.file, tuple(checks)))
    return tuple(reports)
