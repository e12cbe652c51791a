"""What policy tests stand on besides policies and rows: what a configuration says, or the defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from authz.identity.claims import ClaimShapes
from authz.identity.cognito import UserPool
from authz.options import answer_settings, claim_shapes, policy_options
from authz.policy.parser import PolicyOptions
from authz.settings import DEFAULT_IDENTITY_HEADERS, Settings
from authz.transport.check_response import AnswerSettings


@dataclass(frozen=True, slots=True)
class Ground:
    """The defaults of the service, unless a configuration says otherwise."""

    policy_options: PolicyOptions = field(default_factory=PolicyOptions)
    shapes: ClaimShapes = field(default_factory=ClaimShapes)
    answers: AnswerSettings = field(default_factory=lambda: AnswerSettings(DEFAULT_IDENTITY_HEADERS))
    allow_path_parameters: bool = False
    client_ip_header: str | None = None
    pools: tuple[UserPool, ...] = ()
    policies: Path | None = None  # the configured folder or file


def ground_of(settings: Settings) -> Ground:
    """Give what the configuration says. Raises OSError or ValueError for an unreadable `client_certificate_ca`."""
    return Ground(
        policy_options=policy_options(settings),
        shapes=claim_shapes(settings),
        answers=answer_settings(settings),
        allow_path_parameters=settings.allow_path_parameters,
        client_ip_header=settings.client_ip_header,
        pools=tuple(pool.pool for pool in settings.pools),
        policies=settings.policies,
    )
