"""What the service's own configuration says that an Envoy has to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from authz.policy.routes import Route
from authz.settings import DEFAULT_IDENTITY_HEADERS, DEFAULT_TOKENS, Listen, Settings


@dataclass(frozen=True, slots=True)
class Promises:
    """The defaults are those of a configuration that says nothing; what nobody can guess is None."""

    identity_headers: Sequence[str] = tuple(name for name, _ in DEFAULT_IDENTITY_HEADERS)
    credential_headers: Sequence[str] = tuple(place.name for place in DEFAULT_TOKENS)  # `cookie` for any cookie
    hides_credentials: bool = False
    client_ip_header: str | None = None
    listens: Sequence[Listen] = ()  # one address a worker
    speaks_tls: bool | None = None
    routes: Sequence[Route] | None = None

    @classmethod
    def of(cls, settings: Settings, routes: Sequence[Route]) -> Promises:
        """Take them from what was loaded."""
        places = [*settings.tokens, *([settings.enrich_from] if settings.enrich_from else [])]
        headers = [place.name if place.kind == "header" else "cookie" for place in places]
        return cls(
            identity_headers=tuple(name for name, _ in settings.identity_headers),
            credential_headers=tuple(dict.fromkeys(headers)),
            hides_credentials=settings.hide_credentials,
            client_ip_header=settings.client_ip_header,
            listens=settings.endpoints,
            speaks_tls=settings.tls is not None,
            routes=tuple(routes),
        )
