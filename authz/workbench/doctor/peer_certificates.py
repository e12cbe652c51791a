"""Rules on client certificates need Envoy to pass the certificate on, which it does only when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.policy.routes import Route
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.place import Place
from authz.workbench.doctor.promises import Promises

_CRITERIA: Final = frozenset({"client_certificate", "invalid_client_certificate"})


def check_peer_certificate(guard: Place, promises: Promises) -> Iterator[Finding]:
    """Give what keeps an ext_authz filter from passing on a certificate that a route's rules are about."""
    include = guard["include_peer_certificate"]
    judged = next((one for one in promises.routes or () if _is_about_certificates(one)), None)
    if judged is not None and include.truth is not True:
        found = f"authz gets no certificate, and `{judged.name.label}` ({judged.source}) has rules on it"
        yield finding(FindingId.PEER_CERTIFICATE_MISSING, include, found)


def _is_about_certificates(route: Route) -> bool:
    blocks = (*route.policy.allow, *route.policy.deny)
    return any(criterion.name in _CRITERIA for block in blocks for criterion in block.criteria)
