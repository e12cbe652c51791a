"""An import becomes a folder: written aside, loaded and tested as `authz check` and `authz test` do, put in place."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from authz.errors import LoadError, Problem
from authz.model import Source
from authz.options import policy_options
from authz.policy.files import read_files
from authz.policy.parser import parse_policies
from authz.settings import load_settings
from authz.workbench.checks import Check, outcome_text, route_label
from authz.workbench.importers.common import finish, issuer_name
from authz.workbench.importers.envoy_config import envoy_files
from authz.workbench.importers.envoy_routes import CALLBACK, ID_TOKEN_HEADER, SIGNOUT, host_and_port, public_address
from authz.workbench.importers.envoy_secrets import secrets_to_fill
from authz.workbench.importers.ledger import Entry, Ledger, Outcome
from authz.workbench.importers.model import PLACEHOLDER_CLIENT, PLACEHOLDER_ISSUER, Import, Login, Pool
from authz.workbench.importers.origins import Origins
from authz.workbench.importers.place import Place
from authz.workbench.importers.policy_files import count_rows, policy_files, policy_test_files
from authz.workbench.importers.report import report_text
from authz.workbench.importers.yaml_text import yaml_text
from authz.workbench.policy_tests import test_policies


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import left behind."""

    out: Path
    files: tuple[str, ...]  # relative to `out`
    entries: tuple[Entry, ...]
    todo: tuple[str, ...]
    routes: int
    tests: int

    @property
    def left(self) -> int:
        """How many settings were not carried over."""
        return sum(entry.outcome is Outcome.LEFT for entry in self.entries)


def write_import(imported: Import, source: Path, out: Path, ledger: Ledger, *, force: bool) -> ImportResult:
    """Write the folder. Raises LoadError when something stops the import; then nothing is written."""
    try:
        return _written(imported, source, out, ledger, force=force)
    except OSError as error:
        message = f"cannot be written ({error.strerror or type(error).__name__}): name another folder with --out"
        raise LoadError([Problem(Source(str(out), 1, 1), message)]) from None


def _written(imported: Import, source: Path, out: Path, ledger: Ledger, *, force: bool) -> ImportResult:
    message = None if force else _hindrance(out)
    if message is not None:
        ledger.problems.append(Problem(Source(str(out), 1, 1), message))
    finish(ledger)
    imported = _with_leeway_for_sessions(imported, ledger)
    files = policy_files(imported)
    origins = Origins(imported, source, files, ledger)
    try:
        files |= policy_test_files(imported, files)
    except LoadError as error:
        raise LoadError([origins.placed(problem) for problem in error.problems]) from None
    files["authz.yaml"] = _HEADER.format(program=imported.program) + yaml_text(_config(imported))
    files |= envoy_files(imported)
    todo = [*ledger.todo, *_sign_in_todo(imported), *secrets_to_fill(imported)]
    rows = count_rows(files)
    place = Place(out, files)
    files["IMPORT.md"] = report_text(imported, source, ledger, todo, rows, place.foreign)
    place.refuse_what_is_no_imports()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=out.parent) as folder:
        place.write(Path(folder))
        _check(Path(folder), place, origins)
        place.take(Path(folder))
    return ImportResult(out, tuple(sorted(files)), tuple(ledger.entries), tuple(todo), len(imported.routes), rows)


def _hindrance(out: Path) -> str | None:
    """Say why nothing can be written there without --force; None when it can."""
    if out.is_symlink() and not out.exists():
        return "is a link to nothing: name another folder with --out"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        return "exists and is not empty: name another folder with --out, or overwrite it with --force"
    return None


def _with_leeway_for_sessions(imported: Import, ledger: Ledger) -> Import:
    """Raise the leeway of pools whose people sign in with a browser, where the source has less."""
    issuers = {login.issuer for login in imported.logins}
    pools = tuple(
        pool._replace(leeway_seconds=max(pool.leeway_seconds, _SESSION_LEEWAY_SECONDS))
        if pool.issuer in issuers
        else pool
        for pool in imported.pools
    )
    if pools != imported.pools:
        ledger.differs(
            f"A token of a pool with a browser sign-in counts for {_SESSION_LEEWAY_SECONDS} s after it expires "
            f"(`leeway: {_SESSION_LEEWAY_SECONDS}s` in `authz.yaml`): a session in its last second is refreshed by "
            "Envoy, and must not be refused."
        )
    return replace(imported, pools=pools)


_SESSION_LEEWAY_SECONDS: Final = 10
_HEADER = "# Imported from {program}; IMPORT.md says what came from where. Run: authz serve --config authz.yaml\n"


def _config(imported: Import) -> dict[str, Any]:
    config: dict[str, Any] = {
        "listen": "127.0.0.1:9191",
        "policies": "policies/",
        "cognito": [_pool(pool) for pool in imported.pools],
    }
    if imported.logins:
        config["enrich_from"] = {"header": ID_TOKEN_HEADER}  # e-mail and custom attributes are in the ID token alone
    written: dict[str, Any] = _without_dollars({**config, **imported.settings})
    return written


def _pool(pool: Pool) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    named = issuer_name(pool.issuer)
    if named is None or pool.issuers:
        entry["issuers"] = list(pool.issuers or (pool.issuer,))
        entry["jwks_uri"] = f"{pool.issuer}/.well-known/jwks.json"
    else:
        china = ".cn" if named.region.startswith("cn-") else ""
        usual = f"https://cognito-idp.{named.region}.amazonaws.com{china}/{named.pool_id}"
        derived = named.issuer == usual and named.pool_id.startswith(f"{named.region}_")
        entry["user_pool"] = named.pool_id if derived else named.issuer
    clients = list(pool.clients)
    entry["clients"] = "any" if clients == ["any"] else clients
    entry["token_use"] = list(pool.token_use)
    if pool.leeway_seconds:
        entry["leeway"] = f"{pool.leeway_seconds}s"
    return entry


def _without_dollars(value: Any) -> Any:  # noqa: ANN401 - any JSON-like value
    """Double each dollar sign, which asks for the environment in a configuration."""
    if isinstance(value, Mapping):
        return {key: _without_dollars(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_dollars(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _sign_in_todo(imported: Import) -> list[str]:
    """Say what the Cognito console needs, and which placeholders stand in the result."""
    todo = []
    if any(pool.issuer == PLACEHOLDER_ISSUER for pool in imported.pools):
        todo.append(
            "`authz.yaml`: `cognito`: the source does not name your user pool; until you do, every token is bad"
        )
    if any(PLACEHOLDER_CLIENT in pool.clients for pool in imported.pools):
        todo.append("`authz.yaml` and `envoy.yaml`: the source does not name your app client")
    addresses: dict[Login, dict[str, None]] = {}
    for route in imported.routes:
        if route.login is not None and "*" not in route.host:
            authority = public_address(*host_and_port(route))
            addresses.setdefault(route.login, {})[authority] = None
    for login, hosts in addresses.items():
        callbacks = ", ".join(f"`https://{host}{CALLBACK}`" for host in hosts)
        signouts = ", ".join(f"`https://{host}{SIGNOUT}`" for host in hosts)
        todo.append(
            f"Cognito console, app client `{login.client_id}` (it needs a secret and the authorization code grant): "
            f"callback URLs {callbacks}; sign-out URLs {signouts}. Where browsers "
            "see another port, write that here and in `envoy.yaml`"
        )
        if login.domain.endswith(".invalid"):
            todo.append(f"`envoy.yaml`: write your pool's domain for `{login.domain}`, which stands for it")
    return todo


def _check(folder: Path, place: Place, origins: Origins) -> None:
    """Load and test the result as its user will, with all that it will lie beside. Raises LoadError."""
    try:
        settings = load_settings(folder / "authz.yaml", environ={}, overrides={})
        parse_policies(read_files(settings.policies).files, policy_options(settings))
        report = test_policies([], settings)
    except LoadError as error:
        named = [problem._replace(source=_named(problem.source, folder)) for problem in error.problems]
        raise LoadError(
            [origins.placed(one) if one.source.file in place.files else place.found(one) for one in named]
        ) from None
    failed = [check for file in report.files for check in file.checks if not check.passed]
    if failed:
        raise LoadError([_failure(check, folder, place, origins) for check in failed])


def _named(source: Source, folder: Path) -> Source:
    return source._replace(file=source.file.removeprefix(f"{folder}/"))


def _failure(check: Check, folder: Path, place: Place, origins: Origins) -> Problem:
    source = _named(check.row.source, folder)
    if source.file not in place.files:
        return place.found(Problem(source, f"fails beside the imported policies: {check.row.name}"))
    decided = f"{check.row.name}: {outcome_text(check.visit)}"
    route = check.visit.route
    judged = source if route is None else _named(route.source, folder)
    if judged.file not in place.files:
        return place.found(Problem(judged, f"takes a request from the imported policies: {decided}"))
    message = f"the imported policy decides otherwise than its source: {decided}"
    return Problem(origins.of_route(route_label(check.visit)), message)
