"""The gRPC server: one door in, one door out.

`Door.check` is where every request enters and leaves. Whatever breaks inside leaves by the same door, as a deny:
the one broad `except` around a decision is here. CancelledError passes, because Envoy has given up on that call.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Final

from google.protobuf.message import DecodeError

from authz.audit import DecisionLog, DecisionRecord
from authz.authorizer import Authorizer, Visit
from authz.metrics import Metrics
from authz.model import Allow, Deny, Json, Reason, Request
from authz.pb import external_auth_pb2 as pb
from authz.policy import explanation
from authz.settings import Listen
from authz.transport.admission import OVERLOADED, QUEUE_OPTIONS, Admission, Call
from authz.transport.answer_heads import Stamp
from authz.transport.calls import Calls
from authz.transport.check_request import NOBODY, request_id_of, to_request
from authz.transport.check_response import Answers, StandingDenial
from authz.transport.guard import Guard
from authz.transport.health import HEALTH_CHECK, HEALTH_WATCH, Health
from authz.transport.sockets import why_not
from authz.transport.tls import Certificates

SERVICE: Final = "envoy.service.auth.v3.Authorization"
METHOD: Final = "Check"

# Envoy's largest header block is 60 KiB, a certificate a few KiB more. Callers may send us 512 of these by halves.
MAX_MESSAGE_BYTES: Final = 256 * 1024
# A connection; Envoy opens more for more. Fewer than the queue holds, so that no connection fills it alone; and enough
# for a client that sends two hundred calls before it has read our settings, which gRPC would refuse.
MAX_CONCURRENT_STREAMS: Final = 256
MAX_CONCURRENT_CALLS: Final = 512  # the rest is refused at once: an answer in time for few beats one too late for all

MAX_CONNECTIONS: Final = 4096  # Envoy opens one for each of its threads

log: Final = logging.getLogger("authz")


class Door:
    """Bytes in, bytes out: a CheckRequest becomes a CheckResponse, whatever happens in between."""

    def __init__(
        self,
        *,
        authorizer: Authorizer,
        answers: Answers,
        decisions: DecisionLog,
        metrics: Metrics,
        client_ip_header: str | None = None,
        explain_values: bool = False,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._authorizer = authorizer
        self._answers = answers
        self._decisions = decisions
        self._metrics = metrics
        self._client_ip_header = client_ip_header
        self._explain_values = explain_values
        self._wall = wall
        self._clock = clock
        # No generator makes the ids: one failure inside it would end it, and every later call.
        self._prefix, self._numbers = secrets.token_hex(8), count(1)
        # Built before the first request, so that even a failure to build answers has an answer.
        self._failure = StandingDenial(answers, Deny(Reason.INTERNAL_ERROR))
        self._admission = Admission(
            StandingDenial(answers, OVERLOADED), decisions=decisions, metrics=metrics, wall=wall, clock=clock
        )

    async def check(self, data: bytes, call: Call | None = None) -> bytes:
        """Decide one serialized CheckRequest. `call` is gRPC's; None: there are no others beside this one."""
        started, decision_id = 0.0, ""
        try:
            started = self._clock()
            decision_id = f"{self._prefix}-{next(self._numbers):x}"
            refusal = self._admission.refuse(call, decision_id)
            answer = await self._visit(data, decision_id, started) if refusal is None else refusal
        except (asyncio.CancelledError, GeneratorExit):  # the caller has gone
            raise
        # A panic of a native library (pyo3, in cryptography) is no Exception, and a SystemExit would end the process.
        except BaseException as error:  # noqa: BLE001 - last door: an unforeseen failure must deny, not escape to Envoy
            try:
                self._record_failure(decision_id, error, started)
                return self._failure.with_id(decision_id)  # the id leads to the line that tells what failed
            except BaseException:  # noqa: BLE001 - without its id, if even that fails
                return self._failure.data
        return answer

    async def _visit(self, data: bytes, decision_id: str, started: float) -> bytes:
        now = self._wall()
        try:
            request = to_request(pb.CheckRequest.FromString(data), self._client_ip_header)
        except DecodeError:
            request = NOBODY
            visit = Visit(Deny(Reason.REQUEST_MALFORMED, detail="the message is not a CheckRequest"))
        else:
            visit = await self._authorizer.authorize(request, now)
        revision = "" if visit.policies is None else visit.policies.revision
        host = "" if visit.host is None else visit.host.name
        stamp = Stamp(decision_id, revision)
        response, omitted = (
            self._answers.serialized(request, visit.decision, stamp, host)
            if visit.remembered is None
            else self._answers.again(request, visit.remembered, stamp, host)
        )
        seconds = self._clock() - started
        if self._decisions.wanted(visit.decision):
            why = self._why(visit)
            self._decisions.record(_record(request, visit, decision_id, now, int(seconds * 1e6), omitted, why))
        # Last, so that what fails before is counted once, as the deny that it became.
        self._metrics.decided(visit.decision, seconds)
        return response

    def _why(self, visit: Visit) -> Mapping[str, Json] | None:
        """Explain a denial, one that comes again but once; an allow costs nothing here."""
        decision, remembered = visit.decision, visit.remembered
        if isinstance(decision, Allow):
            return None
        if remembered is not None and remembered.why is not None:
            return remembered.why
        why = explanation.why(decision, visit.facts, visit.route, visit.credential_error, show=self._explain_values)
        if remembered is not None:
            remembered.why = why
        return why

    def _record_failure(self, decision_id: str, error: BaseException, started: float) -> None:
        """Tell of a failure without its message, which may hold a token. Telling must not break the deny."""
        with suppress(Exception):
            seconds = self._clock() - started
            failure = Visit(Deny(Reason.INTERNAL_ERROR, detail=type(error).__name__))
            self._metrics.decided(failure.decision, seconds)
            if self._decisions.wanted(failure.decision):
                why = self._why(failure)
                self._decisions.record(_record(NOBODY, failure, decision_id, self._wall(), int(seconds * 1e6), (), why))
            log.error(
                "internal error: denied with 503",
                exc_info=error,
                extra={"fields": {"decision_id": decision_id, "reason": Reason.INTERNAL_ERROR.value}},
            )


def _record(
    request: Request,
    visit: Visit,
    decision_id: str,
    now: float,
    duration_us: int,
    headers_omitted: Sequence[str],
    why: Mapping[str, Json] | None,
) -> DecisionRecord:
    decision = visit.decision
    principal = decision.principal
    route = decision.route
    return DecisionRecord(
        now=now,
        decision_id=decision_id,
        request_id=request_id_of(request),
        decision="allow" if isinstance(decision, Allow) else "deny",
        reasons=decision.reasons,
        route=None if route is None else route.label,
        policy=None if route is None else f"{route.source.file}:{route.source.line}",
        policy_revision=None if visit.policies is None else visit.policies.revision,
        method=request.method,
        host=request.host,
        path=request.path,
        source_ip=request.source_ip,
        subject=None if principal is None else principal.subject,
        client_id=None if principal is None else principal.client_id,
        token_use=None if principal is None else principal.token_use,
        duration_us=duration_us,
        detail=decision.detail if isinstance(decision, Deny) else "",
        headers_omitted=headers_omitted,
        why=why,
    )


class Server:
    """The gRPC port: the Authorization service and grpc.health.v1."""

    def __init__(self, door: Door | Guard, listen: Listen, tls: Certificates | None) -> None:
        self._health = Health(("", SERVICE))
        self._calls = Calls(
            # Bytes in, bytes out: a message that protobuf refuses is answered at the door, not by gRPC.
            {f"/{SERVICE}/{METHOD}": door.check, HEALTH_CHECK: self._health.check},
            {HEALTH_WATCH: self._health.watch},
            options=_options(),
            most_calls=MAX_CONCURRENT_CALLS,
        )
        try:
            self.port = self._calls.bind(listen.target, None if tls is None else tls.credentials())
        except OSError as error:
            raise OSError(f"{error}: {why_not(listen)}") from None

    def start(self) -> None:
        """Listen. Not serving yet, as far as health is concerned."""
        self._calls.start()

    def set_serving(self, serving: bool) -> None:
        """Say so to health checks."""
        self._health.set_serving(serving)

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls and let those in flight end."""
        self._health.end()
        await self._calls.stop(grace_seconds)


def max_connections() -> int:
    """Give how many connections are held at once; gRPC hangs up on more.

    At most half of the files that this process may open: strangers who only connect must not keep it from reading a
    policy that shuts a door, or a key that was taken back.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 2)


def _options() -> list[tuple[str, int]]:
    return [
        *QUEUE_OPTIONS,
        ("grpc.max_allowed_incoming_connections", max_connections()),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_concurrent_streams", MAX_CONCURRENT_STREAMS),
        ("grpc.so_reuseport", 0),  # a second process on our port is an error, not a rival for half of the requests
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # Envoy's keepalive pings every 30 s
    ]


async def keep_health(server: Server, readiness: Callable[[], Sequence[str]], interval_seconds: float = 0.1) -> None:
    """Turn to serving once nothing is missing. It stays so: one pool's lost keys must not refuse everybody."""
    while readiness():  # noqa: ASYNC110 - keys and policies come from several places; a look is cheaper than wiring events
        await asyncio.sleep(interval_seconds)
    server.set_serving(True)
    log.info("ready")
