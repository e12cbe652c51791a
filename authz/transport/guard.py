"""Which proxies may ask, by the names in their certificates (`tls.allowed_sans`).

Whom `client_ca` signed may connect and ask for health, which tells nothing but "serving". Deciding is for the names in
`allowed_sans`; others are answered with a deny, not with an RPC error: an Envoy with `failure_mode_allow` takes an
error for an allow.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Protocol, TypeAlias

from authz.audit import DecisionLog, unread
from authz.metrics import Metrics
from authz.model import Deny, Reason
from authz.transport.admission import Call
from authz.transport.check_response import Answers, StandingDenial


class CallContext(Call, Protocol):
    """What gRPC says about a call; as much of it as is read here and behind."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Give what the handshake found out about the peer."""
        ...


Check: TypeAlias = Callable[[bytes, CallContext], Awaitable[bytes]]


class Guard:
    """Stands before the door and lets only the proxies in `allowed_sans` ask."""

    def __init__(
        self,
        check: Check,
        allowed_sans: Iterable[str],
        *,
        answers: Answers,
        decisions: DecisionLog,
        metrics: Metrics,
    ) -> None:
        allowed = [name.encode() for name in allowed_sans]
        # As the handshake found them, each kind apart: a DNS name that reads `spiffe://…` is no URI.
        self._uris = frozenset(name for name in allowed if b"://" in name)
        self._names = frozenset(allowed) - self._uris
        self._check = check
        # Built before the first call, as the door's last answer is.
        self._refusal = StandingDenial(answers, Deny(Reason.PROXY_REFUSED))
        self._decisions = decisions
        self._metrics = metrics
        self._prefix, self._numbers = secrets.token_hex(8), count(1)

    async def check(self, data: bytes, context: CallContext) -> bytes:
        """Hand the call on, or deny it without reading it."""
        try:
            peer = context.auth_context()
            uris, names = peer.get("peer_uri", ()), peer.get("peer_dns", ())
            refused = self._uris.isdisjoint(uris) and self._names.isdisjoint(names)
        except Exception:  # noqa: BLE001 - before the last door, and as it: who cannot be known is refused
            return self._refuse(())
        return self._refuse([*uris, *names]) if refused else await self._check(data, context)

    def _refuse(self, names: Sequence[bytes]) -> bytes:
        decision_id = f"{self._prefix}-{next(self._numbers):x}"
        with suppress(Exception):  # telling must not break the deny
            shown = ", ".join(name.decode("ascii", "replace") for name in names) or "no DNS name and no URI"
            denied = Deny(Reason.PROXY_REFUSED, detail=f"the proxy's certificate has {shown}: not in tls.allowed_sans")
            self._metrics.decided(denied, 0.0)
            if self._decisions.wanted(denied):
                self._decisions.record(unread(denied, decision_id, time.time()))
        return self._refusal.with_id(decision_id)
