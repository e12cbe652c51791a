"""What the configuration says, in the words of each part that is told of it."""

from __future__ import annotations

from pathlib import Path

from authz.identity.claims import ClaimShapes
from authz.policy.certificates import parse_authorities
from authz.policy.criterion import CriteriaContext
from authz.policy.criterion_advice import AcceptedTokens
from authz.policy.parser import PolicyOptions
from authz.settings import Settings
from authz.transport.check_response import AnswerSettings


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
        aliases=claim_shapes(settings).aliases,
    )


def claim_shapes(settings: Settings) -> ClaimShapes:
    """Give what the configuration says about claims."""
    return ClaimShapes(
        splits={name: claim.split for name, claim in settings.claims.items() if claim.split},
        aliases={name: claim.alias for name, claim in settings.claims.items() if claim.alias},
    )


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
