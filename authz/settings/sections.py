"""The sections `claims`, `jwks`, `log` and `tls`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, get_args

from authz.audit import LoggedDecisions
from authz.identity.claims import BRACKETS, JUDGED_CLAIMS
from authz.identity.jwks import JwksSettings
from authz.identity.revocations import MATCHED_CLAIMS
from authz.log_line import LogFormat
from authz.node import Fields, Node, Problems, Scalar, describe
from authz.reading import text_of
from authz.settings.key_pairs import why_no_pair
from authz.settings.types import (
    ClaimSettings,
    LogLevel,
    LogSettings,
    Settings,
    TlsSettings,
)
from authz.settings.values import (
    Section,
    bounded_duration_of,
    certificates_of,
    choice_of,
    claim_names_of,
    duration_of,
    file_of,
    filled_list_of,
    folder_of,
    map_of,
    section_of,
    switch_of,
)


def claims_of(node: Node, name: str, problems: Problems) -> Mapping[str, ClaimSettings] | None:
    """Read `claims`: what to make of which claim."""
    fields = map_of(node, name, 'of claims to what becomes of them, such as {scope: {split: " "}}', problems)
    if fields is None:
        return None
    claims = {}
    for key, value in fields.entries:
        entry = f"{name}.{key.text}"
        section = section_of(value, entry, ("split", "alias"), problems)
        if section is not None:
            claims[key.text] = _claim(section, entry)
    for key, _ in fields.entries:
        _refuse_idle_alias(key, f"{name}.{key.text}", claims, problems)
    return claims


def _refuse_idle_alias(key: Scalar, entry: str, claims: Mapping[str, ClaimSettings], problems: Problems) -> None:
    """Refuse an alias of an alias, or of itself alone: it would silently be nothing, and a deny rule on it would miss.

    Beside others its own name has a meaning: the claim stays as it is where it is there already.
    """
    aliases = {name: claim.alias for name, claim in claims.items() if claim.alias}
    sources = aliases.get(key.text, ())
    if set(sources) == {key.text}:
        message = f"found its own name alone, which changes nothing: write the other name, or delete `{entry}`"
        problems.error(key, f"{entry}.alias: {message}")
    for source in sources:
        for name in sorted(aliases.keys() & _ways_to(source) - {key.text}):
            instead = ", ".join(f"`{listed}`" for listed in aliases[name])
            message = f"found `{source}`, but `{name}` is an alias too: write what it stands for instead, {instead}"
            problems.error(key, f"{entry}.alias: {message}")


def _ways_to(name: str) -> set[str]:
    """Give the names in which a dotted name may be looked up, `a` and `a.b` for `a.b`."""
    return {name, *(name[:end] for end, character in enumerate(name) if character == ".")}


def refuse_changed_claims(root: Section, settings: Settings) -> None:
    """Refuse to reshape what is judged as it was signed: rules and headers would say something else of the caller.

    An entry of the revocation list would silently hold for nobody.
    """
    node = root.node("claims")
    for key, _ in node.entries if isinstance(node, Fields) else ():
        if key.text in JUDGED_CLAIMS:
            message = "the token is judged by this claim as it was signed: delete it, or choose another name"
            root.problems.error(key, f"claims.{key.text}: {message}")
        elif settings.revocations is not None and key.text in MATCHED_CLAIMS:
            root.problems.error(
                key, f"claims.{key.text}: `revocations` looks at this claim as it was signed: delete it"
            )


def _claim(section: Section, name: str) -> ClaimSettings:
    if len(section.fields.entries) != 1:
        found = "`split` and `alias` together" if section.fields.entries else "neither `split` nor `alias`"
        advice = "to split an alias, split the claims that it lists"
        section.problems.error(section.fields, f"{name}: found {found}, expected one; {advice}")
    return ClaimSettings(split=section.read("split", _split, None), alias=section.read("alias", claim_names_of, ()))


def _split(node: Node, name: str, problems: Problems) -> str | None:
    if isinstance(node, Scalar) and isinstance(node.value, str) and (len(node.value) == 1 or node.value == BRACKETS):
        return node.value
    problems.error(node, f"{name}: found {describe(node)}, expected one character in quotes, or `{BRACKETS}`")
    return None


_AT_LEAST_A_SECOND: Final = bounded_duration_of(lambda duration: duration >= timedelta(seconds=1), "at least `1s`")
_TIMEOUT: Final = bounded_duration_of(
    lambda timeout: timedelta() < timeout <= timedelta(seconds=60), "more than `0s` and at most `60s`"
)


def read_jwks(root: Section) -> JwksSettings:
    """Read `jwks`, whose parts all have defaults."""
    jwks = root.section("jwks", ("refresh", "cooldown", "timeout", "max_stale", "cache_dir"))
    default = JwksSettings()
    settings = JwksSettings(
        refresh=jwks.read("refresh", _AT_LEAST_A_SECOND, default.refresh),
        cooldown=jwks.read("cooldown", _AT_LEAST_A_SECOND, default.cooldown),
        timeout=jwks.read("timeout", _TIMEOUT, default.timeout),
        max_stale=jwks.read("max_stale", duration_of, default.max_stale),
        cache_dir=jwks.optional("cache_dir", folder_of),
    )
    if settings.max_stale < settings.refresh:
        place = jwks.node("max_stale") or jwks.node("refresh") or jwks.fields
        message = "shorter than `refresh`: good keys would be dropped before new ones are fetched; make it longer"
        root.problems.error(place, f"jwks.max_stale: {message}")
    return settings


_LEVELS: Final[tuple[LogLevel, ...]] = get_args(LogLevel)
_FORMATS: Final[tuple[LogFormat, ...]] = get_args(LogFormat)
_DECISIONS: Final[tuple[LoggedDecisions, ...]] = get_args(LoggedDecisions)


def read_log(root: Section) -> LogSettings:
    """Read `log`, whose parts all have defaults."""
    log = root.section("log", ("level", "format", "decisions", "explain_values"))
    return LogSettings(
        level=log.read("level", choice_of(_LEVELS), "info"),
        format=log.read("format", choice_of(_FORMATS), "json"),
        decisions=log.read("decisions", choice_of(_DECISIONS), "all"),
        explain_values=log.read("explain_values", switch_of, default=False),
    )


def tls_of(node: Node, name: str, problems: Problems) -> TlsSettings | None:
    """Read `tls`."""
    tls = section_of(node, name, ("certificate", "key", "client_ca", "allowed_sans"), problems)
    if tls is None:
        return None
    certificate = tls.mandatory("certificate", certificates_of, "write the path of a PEM file")
    key = tls.mandatory("key", file_of, "write the path of a PEM file")
    # `null` is no way to leave it out: whoever writes the key means to demand certificates.
    client_ca = tls.read("client_ca", certificates_of, None)
    allowed_sans = tls.read("allowed_sans", _sans, None) or ()
    if (names := tls.node("allowed_sans")) is not None and tls.node("client_ca") is None:
        problems.error(
            names, f"{name}.allowed_sans: without `client_ca` no caller shows a certificate: write that, too"
        )
    if certificate is None or key is None:
        return None
    if (why := why_no_pair(certificate.read_bytes(), key.read_bytes())) is not None:
        problems.error(tls.node("key") or node, f"{name}.key: {key} and {certificate} are no pair: {why}")
    return TlsSettings(certificate, key, client_ca, allowed_sans)


def _sans(node: Node, name: str, problems: Problems) -> tuple[str, ...] | None:
    items = filled_list_of(node, name, "DNS names or URIs", problems)
    names = [san_of(item, name, problems) for item in items]
    return tuple(found for found in names if found is not None) if names and None not in names else None


_DNS_NAME: Final = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")


def san_of(node: Node, name: str, problems: Problems) -> str | None:
    """Read a name that a certificate may have, as it stands there: a DNS name or a URI, no pattern."""
    text = text_of(node, name, problems)
    if text is None or _URI.fullmatch(text) or (_DNS_NAME.fullmatch(text) and not _IS_ADDRESS.fullmatch(text)):
        return text
    advice = "a DNS name or a URI such as `spiffe://example.com/envoy`, in full"
    problems.error(node, f"{name}: found {describe(node)}, expected {advice}")
    return None


_IS_ADDRESS: Final = re.compile(r"[0-9.]+")  # an IP address is another kind of name, which is not compared
