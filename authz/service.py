"""The running service: every collaborator is built here, whole and named, and handed to who needs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from authz import __version__
from authz.audit import DecisionLog, configure_logging
from authz.authorizer import Authenticator, Authorizer, Issuer
from authz.errors import LoadError
from authz.identity.claims import ClaimShapes
from authz.identity.fetch import FetchResult, HttpFetch
from authz.identity.jwks import KeyStore
from authz.identity.revocations import RevocationList, parse_revocations
from authz.identity.verified import VerifiedTokens
from authz.lines import LineWriter
from authz.memory import share_arenas
from authz.metrics import Metrics
from authz.model import Principal, Source
from authz.policy.certificates import parse_authorities
from authz.policy.criterion import CriteriaContext
from authz.policy.criterion_advice import AcceptedTokens
from authz.policy.files import PolicyFile, opened_from
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.policy.quiet import let_go, look_once, quietly
from authz.policy.store import PolicyStore, stale_mount_message
from authz.settings import Listen, Settings
from authz.transport.admin import AdminServer, OwnPages, Pages, start_admin
from authz.transport.envoy import Answers, AnswerSettings
from authz.transport.event_loop import EventLoop
from authz.transport.server import Door, Server, keep_health
from authz.transport.tls import Certificates, Guard
from authz.turns import in_turns

DRAIN_SECONDS: Final = 1.5  # not serving, but still answering: Envoy's health check must notice first
GRACE_SECONDS: Final = 5.0  # for calls in flight

log: Final = logging.getLogger("authz")


def policy_options(settings: Settings) -> PolicyOptions:
    """Give what the configuration says about policy files. Raises OSError or ValueError for a bad CA file."""
    ca = settings.client_certificate_ca
    authorities = () if ca is None else parse_authorities(Path(ca).read_bytes())
    return PolicyOptions(
        require_end=settings.require_end,
        inline=settings.inline,
        context=CriteriaContext(authorities=authorities),
        accepted=accepted_tokens(settings),
        show_error_details=settings.show_error_details,
    )


def accepted_tokens(settings: Settings) -> AcceptedTokens:
    """Give what the policies can ever see of tokens, for advice on rules that never match."""
    pools = [entry.pool for entry in settings.pools]
    uses = frozenset[str]().union(*(pool.token_use for pool in pools))
    clients = [pool.clients for pool in pools]
    return AcceptedTokens(
        uses=uses,
        has_id_claims="id" in uses or settings.enrich_from is not None,
        issuers=frozenset(issuer for pool in pools for issuer in pool.issuers),
        clients=None if None in clients else frozenset[str]().union(*(known for known in clients if known is not None)),
    )


def claim_shapes(settings: Settings) -> ClaimShapes:
    """Give what the configuration says about claims."""
    return ClaimShapes(
        splits={name: claim.split for name, claim in settings.claims.items() if claim.split},
        aliases={name: claim.alias for name, claim in settings.claims.items() if claim.alias},
    )


class Events:
    """Hears of policies (StoreObserver) and keys (KeyObserver), counts in the metrics and tells the log."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._in_force: PolicySet | None = None
        self._letting_go: set[asyncio.Task[None]] = set()

    def reloaded(self, policies: PolicySet) -> None:
        """Tell that a policy set is in force, and let go of the one before."""
        replaced, self._in_force = self._in_force, policies
        if replaced is not None:
            task = asyncio.create_task(in_turns(partial(let_go, [replaced])))
            self._letting_go.add(task)
            task.add_done_callback(self._letting_go.discard)
        routes = len(policies.routes.routes)
        self._metrics.policy_loaded(policies.revision, routes, time.time())
        log.info("policies loaded", extra={"fields": {"policy_revision": policies.revision, "routes": routes}})
        for problem in policies.warnings[:_MAX_LOGGED_PROBLEMS]:
            log.warning("%s", problem)
        if len(policies.warnings) > _MAX_LOGGED_PROBLEMS:
            log.warning("%d more: `authz check` tells them all", len(policies.warnings) - _MAX_LOGGED_PROBLEMS)

    def refused(self, error: LoadError) -> None:
        """Tell that a policy set did not load; the last good one stays in force."""
        self._metrics.refused(error)
        log.error("policies refused, the last good set stays in force: %d problems", len(error.problems))
        for problem in error.problems[:_MAX_LOGGED_PROBLEMS]:
            log.error("%s", problem)

    def stale_mount(self, path: Path) -> None:
        """Tell that a single-file mount shows a deleted file."""
        self._metrics.stale_mount(path)
        log.error("%s", stale_mount_message(path))

    def fetched(self, issuer: str, result: FetchResult, keys: int) -> None:
        """Tell that a fetch ended."""
        self._metrics.fetched(issuer, result, keys)
        if result is FetchResult.OK:
            log.info("keys fetched", extra={"fields": {"issuer": issuer, "keys": keys}})

    def restored(self, issuer: str, keys: int, fetched_at: float) -> None:
        """Tell that keys came from the cache folder."""
        self._metrics.restored(issuer, keys, fetched_at)
        log.info("keys restored from cache_dir", extra={"fields": {"issuer": issuer, "keys": keys}})

    def rejected(self, issuer: str, why: str) -> None:
        """Tell that a fetch, a single key or the cache file was not good."""
        log.warning("keys: %s", why, extra={"fields": {"issuer": issuer}})


class RevocationEvents:
    """Hears of revocation lists (StoreObserver), counts in the metrics and tells the log."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def reloaded(self, revocations: RevocationList) -> None:
        """Tell that a list is in force."""
        self._metrics.revocations("ok", revocations.entries)
        log.info("revocations loaded", extra={"fields": {"entries": revocations.entries}})

    def refused(self, error: LoadError) -> None:
        """Tell that a list did not load; the last good one stays in force."""
        self._metrics.revocations("error")
        log.error("revocations refused, the last good list stays in force: %d problems", len(error.problems))
        for problem in error.problems[:_MAX_LOGGED_PROBLEMS]:
            log.error("%s", problem)

    def stale_mount(self, path: Path) -> None:
        """Tell that a single-file mount shows a deleted file."""
        self._metrics.revocations("stale-mount")
        log.error("%s", stale_mount_message(path))


_MAX_LOGGED_PROBLEMS: Final = 50

Beside: TypeAlias = Callable[[Pages], Coroutine[Any, Any, None]]
"""What else a process does while it serves; it may ask how the service is."""


class Service:
    """The service, from its first listening to its drained end."""

    def __init__(
        self, settings: Settings, *, writer: LineWriter, metrics: Metrics, beside: Beside | None = None
    ) -> None:
        """`beside` runs as long as the service serves, from when it listens."""
        self._settings = settings
        self._pages = OwnPages(self.readiness, metrics)
        self._beside = beside
        self.events = events = Events(metrics)
        self._policy_options = policy_options(settings)
        self.policies: PolicyStore[PolicySet] = PolicyStore(settings.policies, compile=self._compile, observe=events)
        self.revocation_events = RevocationEvents(metrics)
        self.revocations = None if settings.revocations is None else self._revocation_store(settings.revocations)
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
                ),
            )
            for pool in settings.pools
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

    def _revocation_store(self, path: Path) -> PolicyStore[RevocationList]:
        def compile_quietly(files: Sequence[PolicyFile]) -> RevocationList:
            with quietly():
                return parse_revocations(files, store.current)

        store: PolicyStore[RevocationList] = PolicyStore(
            path, compile=compile_quietly, observe=self.revocation_events, setting="revocations"
        )
        return store

    def _revoked(self, principal: Principal, now: float) -> Source | None:
        """Say where the caller is revoked, by the list in force. Without one, nobody is known not to be."""
        in_force = None if self.revocations is None else self.revocations.current
        return Source("revocations", 1, 1) if in_force is None else in_force.find(principal, now)

    def load(self) -> None:
        """Load what must be in force before anybody is answered. Raises LoadError with every problem."""
        loads: list[tuple[Callable[[], object], Path]] = [(self.policies.load, self._settings.policies)]
        if self.revocations is not None and self._settings.revocations is not None:
            loads.append((self.revocations.load, self._settings.revocations))
        problems = []
        for load, path in loads:
            try:
                load()
            except LoadError as error:
                problems += [one._replace(source=opened_from(one.source, path)) for one in error.problems]
        if problems:
            raise LoadError(problems)

    def tell_of_loaded(self) -> None:
        """Tell what `load` put in force, once there is a log to tell."""
        if self.policies.current is not None:
            self.events.reloaded(self.policies.current)
        if self.revocations is not None and self.revocations.current is not None:
            self.revocation_events.reloaded(self.revocations.current)

    def readiness(self) -> list[str]:
        """Name what is missing before requests come and can be decided; nothing means ready.

        `/readyz` must not be ahead of gRPC's health: an Envoy that is started on its word would find us not serving,
        and send nothing until its next check.
        """
        missing = self._missing()
        if not missing and not self._serving:
            missing.append("not serving yet")
        if self._draining:
            missing.append("draining")
        return missing

    def _missing(self) -> list[str]:
        missing = [f"no keys for {issuer.pool.label}" for issuer in self._issuers if issuer.keys.current is None]
        if self.policies.current is None:
            missing.append("no policies")
        return missing

    async def _keep_health(self, server: Server) -> None:
        await keep_health(server, self._missing)
        self._serving = True

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Raises OSError or RuntimeError when an address cannot be bound."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        for issuer in self._issuers:
            await asyncio.to_thread(issuer.keys.load_cache)
        refuse_a_taken_socket(self._settings.listen)
        tls = self._settings.tls
        certificates = None if tls is None else await asyncio.to_thread(Certificates, tls)
        server = Server(self._guard or self.door, self._settings.listen, certificates)
        admin = await self._start_admin()
        await server.start()
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
        return await start_admin(host=admin.host, port=admin.port, path=admin.path, pages=self._pages)

    async def _drain(self, server: Server) -> None:
        log.info("draining")
        was_ready = not self.readiness()
        self._draining = True
        await server.set_serving(False)
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


def refuse_a_taken_socket(listen: Listen) -> None:
    """Raise OSError when somebody answers on our Unix socket: gRPC would silently take the path over."""
    if listen.path is None:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(listen.path)
        except OSError:  # nobody there, or a file left behind, which gRPC replaces
            return
    raise OSError(f"another process listens on {listen.path}")


def answer_settings(settings: Settings) -> AnswerSettings:
    """Give what the configuration says about answers."""
    return AnswerSettings(
        identity_headers=settings.identity_headers,
        pass_identity_headers=settings.pass_identity_headers,
        hide_credentials=settings.hide_credentials,
        tokens=settings.tokens if settings.enrich_from is None else (*settings.tokens, settings.enrich_from),
        issuers=frozenset(issuer for pool in settings.pools for issuer in pool.pool.issuers),
        max_header_bytes=settings.max_header_bytes,
        show_error_details=settings.show_error_details,
        denied_redirect=settings.denied_redirect,
        denied_pages=settings.denied_pages,
    )


def serve(settings: Settings, *, beside: Beside | None = None) -> None:
    """Load policies and revocations, then serve until a signal. Raises LoadError before anything is started."""
    share_arenas()
    look_once()
    metrics = Metrics(version=__version__, wall=time.time)
    writer = LineWriter(on_drop=metrics.lines_dropped)
    try:
        service = Service(settings, writer=writer, metrics=metrics, beside=beside)
        service.load()
        configure_logging(writer, settings.log.level, settings.log.format)
        service.tell_of_loaded()
        for problem in settings.warnings:
            log.warning("%s", problem)
        with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(service.run())
    finally:
        writer.close(timeout=2.0)
