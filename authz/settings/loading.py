"""The whole configuration: read the file, let environment and flags speak, judge every setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from authz.document import parse
from authz.errors import LoadError, Problem
from authz.model import Source
from authz.node import Fields, Problems, describe
from authz.policy.refusals import redirects_of
from authz.settings.addresses import read_admin, read_listen, refuse_shared_address, workers_of
from authz.settings.environment import note_unread, with_environment, with_flags
from authz.settings.headers import (
    enrich_from_of,
    header_of,
    read_identity_headers,
    refuse_shared_headers,
    refuse_useless_enrichment,
    tokens_of,
)
from authz.settings.pools import pools_of
from authz.settings.refusals import denied_pages_of
from authz.settings.sections import claims_of, read_jwks, read_log, refuse_changed_claims, tls_of
from authz.settings.types import DEFAULT_TOKENS, INLINE_KEYS, Settings
from authz.settings.values import Section, certificates_of, path_of, positive_of, switch_of, why_unreadable

_KEYS: Final = (
    "listen", "workers", "admin", "policies", *INLINE_KEYS, "cognito", "tokens", "enrich_from", "hide_credentials",
    "identity_headers", "jwt_claims_headers", "pass_identity_headers", "jwks", "log", "tls", "claims",
    "allow_path_parameters", "require_end", "show_error_details", "denied_redirect", "denied_pages", "client_ip_header",
    "client_certificate_ca", "max_header_bytes", "revocations",
)  # fmt: skip


def load_settings(path: Path, *, environ: Mapping[str, str], overrides: Mapping[str, str]) -> Settings:
    """Read the configuration file. `overrides` are the serve flags that were given, by their names without `--`.

    Raises LoadError with every problem of file, environment and flags.
    """
    problems = Problems()
    root = _read_file(path, problems)
    missing = Problems()
    root = with_environment(root, environ, missing)
    root = with_flags(root, environ, overrides, missing)
    note_unread(environ, _KEYS, problems)
    read = Problems()
    settings = _settings(Section(root, "", _KEYS, read), path)
    # A value that is missing cannot be judged: where one is, nothing else is reported.
    nowhere = {problem.source for problem in missing}
    problems += [*missing, *(problem for problem in read if problem.source not in nowhere)]
    if problems.errors:
        raise LoadError(problems)
    return replace(settings, warnings=tuple(sorted(problems, key=lambda problem: problem.source)))


def _read_file(path: Path, problems: Problems) -> Fields:
    start = Source(str(path), 1, 1)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        text = "the configuration file does not exist: create it, or name another one with --config"
        raise LoadError([Problem(start, text)]) from None
    except (OSError, ValueError) as error:
        raise LoadError([Problem(start, f"the configuration file cannot be read: {why_unreadable(error)}")]) from None
    root = parse(data, str(path), problems)
    if problems.errors and root is None:
        raise LoadError(problems)
    if root is None:
        return Fields(start, ())  # an empty file: everything mandatory is reported as missing
    if not isinstance(root, Fields):
        found = f"the configuration: found {describe(root)}, expected a map of settings"
        raise LoadError([*problems, Problem(root.source, found)])
    return root


def _settings(root: Section, path: Path) -> Settings:
    """Read all settings. `null`, or a key with nothing behind it, is an error: it leaves no check out."""
    policies, inline = _policies(root, path)
    settings = Settings(
        policies=policies,
        inline=inline,
        pools=root.mandatory("cognito", pools_of, "write a list with at least one `user_pool`") or (),
        listen=read_listen(root),
        admin=read_admin(root),
        workers=root.read("workers", workers_of, 1),
        tokens=root.read("tokens", tokens_of, DEFAULT_TOKENS),
        enrich_from=root.read("enrich_from", enrich_from_of, None),
        hide_credentials=root.read("hide_credentials", switch_of, default=False),
        identity_headers=read_identity_headers(root),
        pass_identity_headers=root.read("pass_identity_headers", switch_of, default=True),
        jwks=read_jwks(root),
        log=read_log(root),
        tls=root.read("tls", tls_of, None),
        claims=root.read("claims", claims_of, {}),
        allow_path_parameters=root.read("allow_path_parameters", switch_of, default=False),
        require_end=root.read("require_end", switch_of, default=False),
        show_error_details=root.read("show_error_details", switch_of, default=False),
        denied_redirect=root.read("denied_redirect", redirects_of, ()),
        denied_pages=root.read("denied_pages", denied_pages_of, {}),
        client_ip_header=root.read("client_ip_header", header_of, None),
        client_certificate_ca=root.read("client_certificate_ca", certificates_of, None),
        max_header_bytes=root.read("max_header_bytes", positive_of, 8192),
        places=_places(root, path),
        revocations=root.read("revocations", path_of, None),
    )
    refuse_shared_headers(root, settings)
    refuse_useless_enrichment(root, settings)
    refuse_shared_address(root, settings)
    refuse_changed_claims(root, settings)
    return settings


def _places(root: Section, path: Path) -> dict[str, Source]:
    """Give where the file names other files; a flag's path is told as it was given."""
    nodes = {key: root.node(key) for key in ("policies", "revocations")}
    return {key: node.source for key, node in nodes.items() if node is not None and node.source.file == str(path)}


def _policies(root: Section, path: Path) -> tuple[Path, bool]:
    """Give where the policies are, and whether that is the configuration file itself."""
    node = root.node("policies")
    own = next((key for key in INLINE_KEYS if root.node(key) is not None), None)
    if own is None:
        policies = root.mandatory("policies", path_of, "write a folder, or `routes:` with the policies themselves")
        return policies or path, False
    if node is not None:
        root.problems.error(node, f"policies: `{own}` is in the configuration file too: keep one of them")
    return path, True
