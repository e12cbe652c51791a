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
one minute ago; the claims given here add to it or replace it, and `null` takes one away. `token_use: id` makes it an ID
token, with `aud` and `cognito:username` instead. The claims `iat`, `exp`, `nbf` and `auth_time` may be written as times
(`2026-01-31T11:00:00Z`). Who writes `sub` and `client_id` alike means a machine, which has no user name.

Rows: the short form is `[as, request, expect]`. The map has these keys besides:
    headers: {origin: https://spa.example.com}    what the request carries; a list for a header that comes twice
    source_ip: 10.0.0.1        the address that policies see (192.0.2.1 when it is left out)
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
against the whole of it, as `serve` would.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from authz.authorizer import Authenticator, Authorizer, Visit
from authz.document import Problems, did_you_mean, shorten
from authz.errors import LoadError, Problem, TokenError
from authz.identity.claims import ClaimShapes
from authz.identity.cognito import UserPool
from authz.model import Allow, Deny, Json, Principal, Reason, Request, Source, http_status
from authz.policy.explanation import Explanation, explain
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.policy.store import MAX_FILE_BYTES, read_files
from authz.service import answer_settings, claim_shapes, policy_options
from authz.settings import DEFAULT_IDENTITY_HEADERS, Settings
from authz.transport.envoy import Answers, AnswerSettings, Stamp
from authz.workbench.callers import principal_of_claims
from authz.workbench.coverage import Coverage, CoverageRecord
from authz.workbench.expectations import Expectations, Expected, Row, read_expectations

DEFAULT_ISSUER: Final = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_TestPool1"
DEFAULT_CLIENT: Final = "test-client"
_SUFFIXES: Final = ("_test.yaml", "_test.yml")
_SIGNED_IN_SECONDS: Final = 60  # ago
_LIFETIME_SECONDS: Final = 3600  # Cognito's default


@dataclass(frozen=True, slots=True)
class Ground:
    """What the tests stand on besides policies and rows: what a configuration says, or the defaults."""

    policy_options: PolicyOptions = field(default_factory=PolicyOptions)
    shapes: ClaimShapes = field(default_factory=ClaimShapes)
    answers: AnswerSettings = field(default_factory=lambda: AnswerSettings(DEFAULT_IDENTITY_HEADERS))
    allow_path_parameters: bool = False
    pools: tuple[UserPool, ...] = ()
    policies: Path | None = None  # the configured folder or file


class HeaderChanges(NamedTuple):
    """What an allowed request's headers become."""

    set: Mapping[str, str]
    removed: tuple[str, ...]


class Difference(NamedTuple):
    """One thing that is not as expected."""

    expected: str
    got: str


class Check(NamedTuple):
    """One row after its judgement. It passed if there is no difference."""

    row: Row
    visit: Visit
    headers: HeaderChanges
    differences: tuple[Difference, ...]
    explanation: Explanation | None  # None when no route was judged

    @property
    def passed(self) -> bool:
        """Whether all is as expected."""
        return not self.differences


class FileReport(NamedTuple):
    """One test file's checks, in file order."""

    file: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> int:
        """How many passed."""
        return sum(check.passed for check in self.checks)


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
        return sum(len(file.checks) for file in self.files) - self.passed

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
    """Run every test file that `paths` (files and folders) hold.

    Raises LoadError with every problem of tests and policies, also when there is no test at all, and OSError or
    ValueError for an unreadable `client_certificate_ca`.
    """
    ground = Ground() if settings is None else _ground(settings)
    problems = Problems()
    loader = _Loader(ground, problems)
    loaded = [loader.load(path) for path in _find_test_files(paths, problems)]
    if not loaded and not problems:
        where = ", ".join(map(str, paths)) or "."
        message = "no policy test found: write NAME_test.yaml beside the policies"
        problems.append(Problem(Source(where, 1, 1), message))
    if problems.errors:
        raise LoadError(list(dict.fromkeys(problems.errors)))
    record = CoverageRecord()
    files = asyncio.run(_run([one for one in loaded if one is not None], ground, record))
    return Report(files, record.coverage(), coverage_threshold)


def _ground(settings: Settings) -> Ground:
    return Ground(
        policy_options=policy_options(settings),
        shapes=claim_shapes(settings),
        answers=answer_settings(settings),
        allow_path_parameters=settings.allow_path_parameters,
        pools=tuple(pool.pool for pool in settings.pools),
        policies=settings.policies,
    )


# --- reading ------------------------------------------------------------------------------------------------------


def _find_test_files(paths: Sequence[Path], problems: Problems) -> list[Path]:
    """Give the test files in path order, each once. Names that start with a dot do not count, as for policies."""
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            for file in sorted(_walk(path)):
                found.setdefault(file.resolve(), file)
        elif not path.exists():
            problems.append(Problem(Source(str(path), 1, 1), "no such file or folder"))
        elif path.name.endswith(_SUFFIXES):
            found.setdefault(path.resolve(), path)
        else:
            message = "not a test file: its name must end in `_test.yaml`; a folder is searched for such files"
            problems.append(Problem(Source(str(path), 1, 1), message))
    return list(found.values())


def _walk(folder: Path) -> Iterator[Path]:
    for name, folders, files in os.walk(folder):
        folders[:] = [child for child in folders if not child.startswith(".")]
        yield from (Path(name, file) for file in files if file.endswith(_SUFFIXES) and not file.startswith("."))


class _Loaded(NamedTuple):
    """A test file with all that it needs."""

    file: str
    expectations: Expectations
    rows: tuple[Row, ...]
    policies: PolicySet


class _Loader:
    """Reads test files and the policies they are judged against, each set once."""

    def __init__(self, ground: Ground, problems: Problems) -> None:
        self._ground = ground
        self._problems = problems
        self._sets: dict[tuple[Path, ...], PolicySet | None] = {}

    def load(self, path: Path) -> _Loaded | None:
        data = self._read(path, Source(path.as_posix(), 1, 1))
        expectations = None if data is None else read_expectations(data, path.as_posix(), self._problems)
        if expectations is None:
            return None
        policies = self._policies(self._policy_paths(path, expectations))
        if policies is None:
            return None
        self._check_labels(expectations, policies)
        rows = tuple(self._with_certificate(row, path.parent) for row in expectations.rows)
        return _Loaded(path.as_posix(), expectations, rows, policies)

    def _read(self, path: Path, source: Source) -> bytes | None:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            self._problems.append(Problem(source, f"{path.name} cannot be read ({error.strerror})"))
            return None
        if len(data) > MAX_FILE_BYTES:
            self._problems.append(Problem(source, f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MiB"))
            return None
        return data

    def _policy_paths(self, path: Path, expectations: Expectations) -> tuple[Path, ...]:
        if expectations.policies:
            return tuple(path.parent / name.text for name in expectations.policies)
        configured = self._ground.policies
        if configured is not None and (
            self._ground.policy_options.inline or path.resolve().is_relative_to(configured.resolve())
        ):
            return (configured,)
        return (path.parent,)

    def _policies(self, paths: tuple[Path, ...]) -> PolicySet | None:
        if paths not in self._sets:
            self._sets[paths] = self._parsed(paths)
        return self._sets[paths]

    def _parsed(self, paths: tuple[Path, ...]) -> PolicySet | None:
        options = self._ground.policy_options
        if paths != (self._ground.policies,):
            options = replace(options, inline=False)
        try:
            return parse_policies([file for path in paths for file in _policy_files(path)], options)
        except LoadError as error:
            self._problems += error.problems
            return None

    def _check_labels(self, expectations: Expectations, policies: PolicySet) -> None:
        labels = {route.name.label for route in policies.routes.routes}
        for row in expectations.rows:
            wanted = row.expected.route
            if wanted is not None and wanted.text not in labels:
                hint = did_you_mean(wanted.text, labels)
                self._problems.error(wanted, f"`route`: no route is called `{shorten(wanted.text)}`{hint}")

    def _with_certificate(self, row: Row, folder: Path) -> Row:
        if row.certificate is None:
            return row
        pem = self._read(folder / row.certificate.text, row.certificate.source)
        return row if pem is None else row._replace(request=row.request._replace(certificate=quote(pem, safe="")))


def _policy_files(path: Path) -> list[tuple[str, bytes]]:
    """Read the policy files of a folder, or one file, under names that a person can open from where they are."""
    is_folder = path.is_dir()
    return [
        ((path / name.partition("/")[2] if is_folder else path).as_posix(), data)
        for name, data in read_files(path).files
    ]


# --- judging ------------------------------------------------------------------------------------------------------


async def _run(files: Sequence[_Loaded], ground: Ground, record: CoverageRecord) -> tuple[FileReport, ...]:
    reports = []
    for file in files:
        record.expect(file.policies)
        checks = [await _check(row, file, ground, record) for row in file.rows]
        reports.append(FileReport(file.file, tuple(checks)))
    return tuple(reports)


async def _check(row: Row, file: _Loaded, ground: Ground, record: CoverageRecord) -> Check:
    authorizer = Authorizer(
        authenticator=_KnownCaller(row, file.expectations.trust_unverified_email, ground),
        policies=lambda: file.policies,
        allow_path_parameters=ground.allow_path_parameters,
    )
    visit = await authorizer.authorize(row.request, row.now)
    explanation = None
    if visit.route is not None and visit.facts is not None:
        explanation = explain(visit.facts, visit.route, visit.credential_error)
        record.saw(visit.route, explanation)
    headers = _header_changes(row, visit, ground)
    return Check(row, visit, headers, tuple(_differences(row.expected, visit, headers)), explanation)


class _KnownCaller(Authenticator):
    """Stands where tokens are verified: here the row says who is calling."""

    def __init__(self, row: Row, trust_unverified_email: bool | None, ground: Ground) -> None:
        self._row = row
        self._trust = trust_unverified_email
        self._ground = ground

    async def authenticate(self, request: Request, now: float) -> Principal | None:  # noqa: ARG002 - the row decides
        """Give the row's principal, or raise what is wrong with the token."""
        if self._row.token_error is not None:
            raise TokenError(self._row.token_error, "the test says so")
        if self._row.claims is None:
            return None
        claims = _claims(self._row, self._ground.pools)
        expires = claims.get("exp")
        if isinstance(expires, int) and expires <= now:
            raise TokenError(Reason.TOKEN_EXPIRED, "the principal's `exp` has passed")
        return self._ground.shapes.shape(_principal(claims, self._ground.pools, self._trust))


def _claims(row: Row, pools: Sequence[UserPool]) -> Mapping[str, Json]:
    """Give the claims of a good token, with the row's own on top."""
    written = row.claims or {}
    name = row.who
    pool = pools[0] if pools else None
    token_use = written.get("token_use") or ("id" if pool is not None and pool.token_use == {"id"} else "access")
    client = next(iter(sorted(pool.clients))) if pool is not None and pool.clients else DEFAULT_CLIENT
    is_id = token_use == "id"  # noqa: S105 - a kind of token
    claims: dict[str, Json] = {
        "sub": name,
        "iss": DEFAULT_ISSUER if pool is None else pool.issuers[0],
        "token_use": token_use,
        "aud" if is_id else "client_id": client,
        "auth_time": int(row.now) - _SIGNED_IN_SECONDS,
        "iat": int(row.now) - _SIGNED_IN_SECONDS,
        "exp": int(row.now) - _SIGNED_IN_SECONDS + _LIFETIME_SECONDS,
    }
    if written.get("sub") is None or written["sub"] != written.get("client_id"):
        claims["cognito:username" if is_id else "username"] = name
    claims.update(written)
    return {name: value for name, value in claims.items() if value is not None}


def _principal(claims: Mapping[str, Json], pools: Sequence[UserPool], trust_unverified_email: bool | None) -> Principal:
    """Make the principal as verification would: an address counts when it is verified, or its pool trusts it."""
    if trust_unverified_email is None:
        pool = next((pool for pool in pools if claims["iss"] in pool.issuers), None)
        trust_unverified_email = pool is not None and pool.trust_unverified_email
    return principal_of_claims(claims, trust_unverified_email=trust_unverified_email)


def _header_changes(row: Row, visit: Visit, ground: Ground) -> HeaderChanges:
    if not isinstance(visit.decision, Allow):
        return HeaderChanges({}, ())
    answer = Answers(ground.answers).answer(row.request, visit.decision, Stamp(decision_id=""))
    ok = answer.response.ok_response
    return HeaderChanges({option.header.key: option.header.value for option in ok.headers}, tuple(ok.headers_to_remove))


# --- comparing ----------------------------------------------------------------------------------------------------


def outcome_text(visit: Visit) -> str:
    """Write what was decided as an expectation would: `403 claim-unauthorized`."""
    decision = visit.decision
    outcome = str(http_status(decision.reason)) if isinstance(decision, Deny) else "allow"
    return " ".join((outcome, *decision.reasons))


def route_label(visit: Visit) -> str | None:
    """Give the label of the route that was judged."""
    return None if visit.route is None else visit.route.name.label


def _differences(expected: Expected, visit: Visit, headers: HeaderChanges) -> Iterator[Difference]:
    if not _is_as_expected(expected, visit):
        yield Difference(str(expected), outcome_text(visit))
    label = route_label(visit)
    if expected.route is not None and expected.route.text != label:
        yield Difference(f"route {expected.route.text}", "no route" if label is None else f"route {label}")
    for name, value in expected.headers_set:
        if headers.set.get(name) != value:
            yield Difference(f"set {name}: {value}", _fate(name, headers))
    for name in expected.headers_removed:
        if name not in headers.removed:
            yield Difference(f"removed {name}", _fate(name, headers))


def _is_as_expected(expected: Expected, visit: Visit) -> bool:
    decision = visit.decision
    if isinstance(decision, Allow) is not expected.allowed:
        return False
    if expected.status is not None and http_status(decision.reason) != expected.status:
        return False
    reasons = expected.reasons
    return not reasons or (reasons[0] is decision.reason and set(reasons) <= set(decision.reasons))


def _fate(name: str, headers: HeaderChanges) -> str:
    if name in headers.set:
        return f"set {name}: {headers.set[name]}"
    return f"removed {name}" if name in headers.removed else f"{name} is left as it came"
