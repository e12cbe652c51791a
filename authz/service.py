"""The running service: every collaborator is built here, whole and named, and handed to who needs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from authz import __version__
from authz.audit import DecisionLog
from authz.authorizer import Authenticator, Authorizer, Issuer
from authz.errors import LoadError
from authz.event_log import configure_logging
from authz.events import Events, RevocationEvents
from authz.identity.fetch import HttpFetch
from authz.identity.jwks import MAX_WAITERS, KeyStore
from authz.identity.revocations import RevocationList, parse_revocations
from authz.identity.shared_keys import SharedKeys
from authz.identity.verified import VerifiedTokens
from authz.lines import LineWriter
from authz.memory import share_arenas
from authz.metrics import Metrics
from authz.model import Principal, Source
from authz.options import answer_settings, claim_shapes, policy_options
from authz.policy.files import PolicyFile, located
from authz.policy.parser import PolicySet, parse_policies
from authz.policy.quiet import look_once, quietly
from authz.policy.shared_files import SharedFiles
from authz.policy.store import PolicyStore
from authz.settings import Settings
from authz.shared_memory import Shared
from authz.startup import heed, let_the_end_be
from authz.transport.admin import AdminServer, OwnPages, Pages, start_admin
from authz.transport.check_response import Answers
from authz.transport.guard import Guard
from authz.transport.server import Door, Server, keep_health
from authz.transport.sockets import refuse_a_taken_socket
from authz.transport.tls import Certificates

DRAIN_SECONDS: Final = 1.5  # not serving, but still answering: Envoy's health check must notice first
GRACE_SECONDS: Final = 5.0  # for calls in flight

_POLICIES, _REVOCATIONS = range(2)  # kinds of files that workers share

log: Final = logging.getLogger("authz")


Beside: TypeAlias = Callable[[Pages], Coroutine[Any, Any, None]]
"""What else a process does while it serves; it may ask how the service is."""


class Service:
    """The service, from its first listening to its drained end."""

    def __init__(
        self,
        settings: Settings,
        *,
        writer: LineWriter,
        metrics: Metrics,
        beside: Beside | None = None,
        shared: Shared | None = None,
    ) -> None:
        """`beside` runs as long as the service serves, from when it listens; `shared`: with other workers."""
        self._settings = settings
        self._pages = OwnPages(self.readiness, metrics)
        self._beside = beside
        self.events = events = Events(metrics)
        self._policy_options = policy_options(settings)
        self.policies: PolicyStore[PolicySet] = PolicyStore(
            settings.policies, compile=self._compile, observe=events, shared=shared and SharedFiles(shared, _POLICIES)
        )
        self.revocation_events = RevocationEvents(metrics)
        self.revocations = self._revocation_store(shared)
        self._fetch = HttpFetch()
        self._issuers = [
            Issuer(
                pool.pool,
                KeyStore(
                    issuer=pool.pool.issuers[0],
                    uri=pool.jwks_uri,
                    settings=settings.jwks,
                    fetch=self._fetch,
                    clock=time.monotonic,
                    wall=time.time,
                    observe=events,
                    max_waiters=max(1, MAX_WAITERS // (len(settings.pools) * settings.workers)),
                    shared=None if shared is None else SharedKeys(shared.descriptor, index),
                ),
            )
            for index, pool in enumerate(settings.pools)
        ]
        authenticator = Authenticator(
            places=settings.tokens,
            enrich_from=settings.enrich_from,
            issuers=self._issuers,
            verified=VerifiedTokens(max_entries=MAX_VERIFIED_TOKENS, max_bytes=MAX_VERIFIED_BYTES),
            shapes=claim_shapes(settings),
            observe=metrics,
            revoked=None if self.revocations is None else self._revoked,
        )
        answers = Answers(answer_settings(settings))
        decisions = DecisionLog(writer, decisions=settings.log.decisions, format=settings.log.format)
        self.door = Door(
            authorizer=Authorizer(
                authenticator=authenticator,
                policies=lambda: self.policies.current,
                allow_path_parameters=settings.allow_path_parameters,
            ),
            answers=answers,
            decisions=decisions,
            metrics=metrics,
            client_ip_header=settings.client_ip_header,
            explain_values=settings.log.explain_values,
        )
        tls = settings.tls
        self._guard: Guard | None = None  # so that nobody else pays for it
        if tls is not None and tls.allowed_sans:
            self._guard = Guard(
                self.door.check, tls.allowed_sans, answers=answers, decisions=decisions, metrics=metrics
            )
        self._serving = False  # in the eyes of gRPC's health checks
        self._draining = False

    def _compile(self, files: Sequence[PolicyFile]) -> PolicySet:
        with quietly():
            return parse_policies(files, self._policy_options)

    def _revocation_store(self, shared: Shared | None) -> PolicyStore[RevocationList] | None:
        path = self._settings.revocations
        if path is None:
            return None

        def compile_quietly(files: Sequence[PolicyFile]) -> RevocationList:
            with quietly():
                return parse_revocations(files, store.current, require_end=self._settings.require_end)

        store: PolicyStore[RevocationList] = PolicyStore(
            path,
            compile=compile_quietly,
            observe=self.revocation_events,
            setting="revocations",
            shared=shared and SharedFiles(shared, _REVOCATIONS),
        )
        return store

    def _revoked(self, principal: Principal, now: float) -> Source | None:
        """Say where the caller is revoked, by the list in force. Without one, nobody is known not to be."""
        in_force = None if self.revocations is None else self.revocations.current
        return Source("revocations", 1, 1) if in_force is None else in_force.find(principal, now)

    def load(self) -> None:
        """Load what must be in force before anybody is answered. Raises LoadError with every problem."""
        loads: list[tuple[Callable[[], object], Path, str]] = [
            (self.policies.load, self._settings.policies, "policies")
        ]
        if self.revocations is not None and self._settings.revocations is not None:
            loads.append((self.revocations.load, self._settings.revocations, "revocations"))
        problems = []
        for load, path, setting in loads:
            try:
                load()
            except LoadError as error:
                named = self._settings.places.get(setting)
                problems += [located(one, path, setting, named) for one in error.problems]
        if problems:
            raise LoadError(problems)

    def tell_of_loaded(self) -> None:
        """Tell what `load` put in force, once there is a log to tell."""
        self.policies.tell_of_loaded()
        if self.revocations is not None:
            self.revocations.tell_of_loaded()

    def readiness(self) -> list[str]:
        """Name what is missing before requests come and can be decided; nothing means ready, and stays so.

        `/readyz` must not be ahead of gRPC's health: an Envoy that is started on its word would find us not serving,
        and send nothing until its next check.
        """
        missing = [] if self._serving else self._missing() or ["not serving yet"]
        if self._draining:
            missing.append("draining")
        return missing

    def _missing(self) -> list[str]:
        missing = [f"no keys for {issuer.pool.label}" for issuer in self._issuers if issuer.keys.current is None]
        if self.policies.current is None:
            missing.append("no policies")
        return missing

    async def _keep_health(self, server: Server) -> None:
        await keep_health(server, lambda: [*self._missing(), *(["draining"] if self._draining else [])])
        self._serving = True

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Raises OSError when an address cannot be bound."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            heed(loop, number, stop.set)
        heed(loop, signal.SIGHUP, self.reload)
        for issuer in self._issuers:
            await asyncio.to_thread(issuer.keys.load_cache)
        refuse_a_taken_socket(self._settings.listen)
        tls = self._settings.tls
        certificates = None if tls is None else await asyncio.to_thread(Certificates, tls)
        server = Server(self._guard or self.door, self._settings.listen, certificates)
        admin = await self._start_admin()
        server.start()
        where = {"version": __version__, "listen": self._settings.listen.target, "port": server.port}
        if admin is not None:
            where["admin_port"] = admin.port
        log.info("listening", extra={"fields": where})
        tasks = [asyncio.create_task(work) for work in self._background(server, certificates)]
        for task in tasks:
            task.add_done_callback(tell_of_failure)
        try:
            await stop.wait()
            await self._drain(server)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if admin is not None:
                await admin.close()
            await self._fetch.close()
        log.info("stopped")

    def reload(self) -> None:
        """Look at policies, revocations and keys at once (SIGHUP)."""
        log.info("reloading policies and keys")
        self.policies.reload_now()
        if self.revocations is not None:
            self.revocations.reload_now()
        for issuer in self._issuers:
            issuer.keys.refresh_now()

    def _background(self, server: Server, certificates: Certificates | None) -> Sequence[Coroutine[Any, Any, None]]:
        return [
            *(issuer.keys.run() for issuer in self._issuers),
            self.policies.watch(),
            *(() if self.revocations is None else (self.revocations.watch(),)),
            self._keep_health(server),
            *(() if certificates is None else (certificates.watch(),)),
            *(() if self._beside is None else (self._beside(self._pages),)),
        ]

    async def _start_admin(self) -> AdminServer | None:
        admin = self._settings.admin
        if admin is None:
            return None
        return await start_admin(admin, self._pages)

    async def _drain(self, server: Server) -> None:
        log.info("draining")
        was_ready = not self.readiness()
        self._draining = True
        server.set_serving(False)
        if was_ready:
            await asyncio.sleep(DRAIN_SECONDS)
        await server.stop(GRACE_SECONDS)


def tell_of_failure(task: asyncio.Task[None]) -> None:
    """Say that a background task failed: without a word, yesterday's policies and keys would stay in force."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error(
            "a background task failed: restart the service, for policies or keys stay as they are", exc_info=error
        )


MAX_VERIFIED_TOKENS: Final = 20_000
MAX_VERIFIED_BYTES: Final = 48 * 1024 * 1024


def serve(settings: Settings, *, beside: Beside | None = None, shared: Shared | None = None) -> None:
    """Load policies and revocations, then serve until a signal. Raises LoadError before anything is started.

    `shared`: memory for what all workers know together.
    """
    share_arenas()
    look_once()
    metrics = Metrics(version=__version__, wall=time.time)
    writer = LineWriter(on_drop=metrics.lines_dropped)
    try:
        service = Service(settings, writer=writer, metrics=metrics, beside=beside, shared=shared)
        service.load()
        configure_logging(writer, settings.log.level, settings.log.format)
        service.tell_of_loaded()
        for problem in settings.warnings:
            log.warning("%s", problem)
        try:
            with contextlib.suppress(KeyboardInterrupt), asyncio.Runner() as runner:
                runner.run(service.run())
        finally:
            let_the_end_be()
    finally:
        writer.close(timeout=2.0)
