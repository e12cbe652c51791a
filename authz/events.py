"""What becomes of policies, revocations and keys, told to the metrics and the log."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from pathlib import Path
from typing import Final

from authz.errors import LoadError
from authz.identity.fetch import FetchResult
from authz.identity.revocations import RevocationList
from authz.metrics import Metrics
from authz.policy.parser import PolicySet
from authz.policy.quiet import let_go
from authz.policy.store import stale_mount_message
from authz.turns import in_turns

_MAX_LOGGED_PROBLEMS: Final = 50
_TAKEN_OVER: Final = "%s taken over from another worker, because the files as they are now do not load"

log: Final = logging.getLogger("authz")


def _counted(error: LoadError) -> str:
    return "1 problem" if len(error.problems) == 1 else f"{len(error.problems)} problems"


class Events:
    """Hears of policies (StoreObserver) and keys (KeyObserver), counts in the metrics and tells the log."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._in_force: PolicySet | None = None
        self._keys: dict[str, int] = {}  # issuer → how many were told last
        self._letting_go: set[asyncio.Task[None]] = set()

    def reloaded(self, policies: PolicySet) -> None:
        """Tell that a policy set is in force, and let go of the one before."""
        replaced, self._in_force = self._in_force, policies
        if replaced is not None:
            task = asyncio.create_task(in_turns(partial(let_go, [replaced])))
            self._letting_go.add(task)
            task.add_done_callback(self._letting_go.discard)
        self._tell("policies loaded", policies)
        for problem in policies.warnings[:_MAX_LOGGED_PROBLEMS]:
            log.warning("%s", problem)
        if len(policies.warnings) > _MAX_LOGGED_PROBLEMS:
            log.warning("%d more: `authz check` tells them all", len(policies.warnings) - _MAX_LOGGED_PROBLEMS)

    def taken_over(self, policies: PolicySet, found_at: float) -> None:
        """Tell that a set is in force which another worker found on the disk then (seconds since 1970)."""
        self._in_force = policies
        routes = len(policies.routes.routes)
        self._metrics.policy_in_force(policies.revision, routes, found_at)
        log.warning(_TAKEN_OVER, "policies", extra={"fields": {"policy_revision": policies.revision, "routes": routes}})

    def mended(self, policies: PolicySet) -> None:
        """Tell that the files are again those of the set in force."""
        self._tell("policies as before: the files are again those of the set in force", policies)

    def _tell(self, message: str, policies: PolicySet) -> None:
        routes = len(policies.routes.routes)
        self._metrics.policy_loaded(policies.revision, routes, time.time())
        log.info(message, extra={"fields": {"policy_revision": policies.revision, "routes": routes}})

    def refused(self, error: LoadError) -> None:
        """Tell that a policy set did not load; the last good one stays in force."""
        self._metrics.refused(error)
        log.error("policies refused, the last good set stays in force: %s", _counted(error))
        for problem in error.problems[:_MAX_LOGGED_PROBLEMS]:
            log.error("%s", problem)

    def stale_mount(self, path: Path) -> None:
        """Tell that a single-file mount shows a deleted file."""
        self._metrics.stale_mount(path)
        log.error("%s", stale_mount_message(path))

    def fetched(self, issuer: str, result: FetchResult, keys: int) -> None:
        """Tell that a fetch ended."""
        self._metrics.fetched(issuer, result, keys)
        before = self._keys.get(issuer, 0)
        self._keys[issuer] = keys
        if result is FetchResult.OK or keys > before:
            log.info("keys fetched", extra={"fields": {"issuer": issuer, "keys": keys}})
        elif before > 0 and keys == 0:
            log.error(
                "the keys are too old, and no new ones come: tokens of this issuer are answered with 503",
                extra={"fields": {"issuer": issuer}},
            )

    def restored(self, issuer: str, keys: int, fetched_at: float, place: str) -> None:
        """Tell that keys came from this place instead of the endpoint."""
        self._metrics.restored(issuer, keys, fetched_at, place)
        self._keys[issuer] = keys
        log.info("keys restored from %s", place, extra={"fields": {"issuer": issuer, "keys": keys}})

    def rejected(self, issuer: str, why: str) -> None:
        """Tell that a fetch, a single key or the cache file was not good."""
        log.warning("keys: %s", why, extra={"fields": {"issuer": issuer}})


class RevocationEvents:
    """Hears of revocation lists (StoreObserver), counts in the metrics and tells the log."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def reloaded(self, revocations: RevocationList) -> None:
        """Tell that a list is in force."""
        self._tell("revocations loaded", revocations)

    def taken_over(self, revocations: RevocationList, found_at: float) -> None:  # noqa: ARG002 - as for policies
        """Tell that a list is in force which another worker found on the disk then (seconds since 1970)."""
        self._metrics.revocations_in_force(revocations.entries)
        log.warning(_TAKEN_OVER, "revocations", extra={"fields": {"entries": revocations.entries}})

    def mended(self, revocations: RevocationList) -> None:
        """Tell that the files are again those of the list in force."""
        self._tell("revocations as before: the files are again those of the list in force", revocations)

    def _tell(self, message: str, revocations: RevocationList) -> None:
        self._metrics.revocations("ok", revocations.entries)
        log.info(message, extra={"fields": {"entries": revocations.entries}})

    def refused(self, error: LoadError) -> None:
        """Tell that a list did not load; the last good one stays in force."""
        self._metrics.revocations("error")
        log.error("revocations refused, the last good list stays in force: %s", _counted(error))
        for problem in error.problems[:_MAX_LOGGED_PROBLEMS]:
            log.error("%s", problem)

    def stale_mount(self, path: Path) -> None:
        """Tell that a single-file mount shows a deleted file."""
        self._metrics.revocations("stale-mount")
        log.error("%s", stale_mount_message(path))
