"""Pomerium's configuration to ours: a YAML file, a ConfigMap around one, or a file of environment variables.

Facts about Pomerium: its sources, config/options.go and config/policy.go. Its loader is lenient (`a,b` is a list of
two, `"true"` a switch), and so is this reader where leniency changes who gets in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from authz.node import Fields, Items, Node, describe, shorten
from authz.settings.headers import POMERIUM_CLAIMS
from authz.workbench.importers.common import (
    carry_scopes,
    is_on,
    is_placeholder,
    issuer_name,
    plain,
    split_address,
    text_in,
    texts_in,
)
from authz.workbench.importers.durations import WANTED_DURATION, seconds_of
from authz.workbench.importers.ledger import Ledger
from authz.workbench.importers.model import (
    PLACEHOLDER_CLIENT,
    PLACEHOLDER_HOST,
    PLACEHOLDER_ISSUER,
    Import,
    Login,
    Pool,
    Route,
)
from authz.workbench.importers.pomerium_routes import RouteImport, RouteImporter
from authz.workbench.importers.pomerium_source import ROUTE_LISTS, read_settings
from authz.workbench.importers.writing import ImportResult, write_import


def import_pomerium(path: Path, out: Path, *, force: bool = False) -> ImportResult:
    """Import a Pomerium configuration into the folder `out`. Raises LoadError with everything that stops it."""
    ledger = Ledger()
    root = read_settings(path, ledger)
    imported = _Pomerium(root, ledger).read()
    ledger.close(root)
    return write_import(imported, path, out, ledger, force=force)


# --- the settings ---------------------------------------------------------------------------------------------------

_OWN_KEY: Final = "Pomerium's own key: nothing here needs it"
_OWN_PART: Final = "Pomerium's own parts; authz is one process"
_OWN_SESSION: Final = "Envoy keeps sessions in encrypted `__Host-` cookies of its own"
_ENVOY_TUNING: Final = "`envoy.yaml` has hardened limits of its own: change them there"
_NO_ACME: Final = "Envoy fetches no certificates: put yours into `secrets/`"
_OTHER_TELEMETRY: Final = "authz has `/metrics` and a decision log of its own"

_SECRETS: Final[Mapping[str, str]] = {
    "idp_client_secret": "`secrets/client-secret.txt`",
    "idp_client_secret_file": "`secrets/client-secret.txt`",
    "shared_secret": _OWN_KEY,
    "shared_secret_file": _OWN_KEY,
    "cookie_secret": "`secrets/cookie-key.txt`: make a new one",
    "cookie_secret_file": "`secrets/cookie-key.txt`: make a new one",
    "signing_key": "there is no `X-Pomerium-Jwt-Assertion` here: upstreams can verify Cognito's own token instead",
    "signing_key_file": "there is no `X-Pomerium-Jwt-Assertion` here: upstreams can verify Cognito's own token instead",
    "idp_service_account": "groups come with the token: no directory is asked",
    "databroker_storage_connection_string": _OWN_PART,
    "certificates": "`secrets/certificate.pem` and `secrets/certificate-key.pem`",
    "certificate": "`secrets/certificate.pem`",
    "certificate_file": "`secrets/certificate.pem`",
    "certificate_key": "`secrets/certificate-key.pem`",
    "certificate_key_file": "`secrets/certificate-key.pem`",
}
_LEFT: Final[Mapping[str, str]] = {
    "authorize_service_url": _OWN_PART,
    "authorize_service_urls": _OWN_PART,
    "databroker_service_url": _OWN_PART,
    "databroker_service_urls": _OWN_PART,
    "databroker_storage_type": _OWN_PART,
    "services": _OWN_PART,
    "grpc_address": _OWN_PART,
    "grpc_insecure": _OWN_PART,
    "cookie_name": _OWN_SESSION,
    "cookie_domain": _OWN_SESSION,
    "cookie_expire": _OWN_SESSION + "; Cognito's app client says how long they last",
    "cookie_secure": _OWN_SESSION,
    "cookie_http_only": _OWN_SESSION,
    "cookie_same_site": _OWN_SESSION,
    "timeout_read": _ENVOY_TUNING,
    "timeout_write": _ENVOY_TUNING,
    "timeout_idle": _ENVOY_TUNING,
    "codec_type": _ENVOY_TUNING,
    "envoy_admin_address": "Envoy's admin page listens on 127.0.0.1:9901",
    "autocert": _NO_ACME,
    "autocert_dir": _NO_ACME,
    "autocert_use_staging": _NO_ACME,
    "metrics_address": _OTHER_TELEMETRY,
    "tracing_provider": _OTHER_TELEMETRY,
    "tracing_sample_rate": _OTHER_TELEMETRY,
    "access_log_fields": _OTHER_TELEMETRY,
    "authorize_log_fields": _OTHER_TELEMETRY,
    "proxy_log_level": _OTHER_TELEMETRY,
    "jwt_groups_filter": "there is no `X-Pomerium-Jwt-Assertion` here",
    "jwt_issuer_format": "there is no `X-Pomerium-Jwt-Assertion` here",
    "idp_refresh_directory_interval": "groups come with the token: no directory is asked",
    "idp_refresh_directory_timeout": "groups come with the token: no directory is asked",
    "programmatic_redirect_domain_whitelist": "programs get tokens from Cognito itself",
    "identity_providers": "tokens of other providers are refused; add user pools to `authz.yaml` by hand",
    "branding": "`denied_pages:` of `authz.yaml` replaces the pages",
    "error_message_first_paragraph": "`denied_pages:` of `authz.yaml` replaces the pages",
}
_CLIENT_CERTIFICATES: Final = (
    "asks clients for certificates, which the written `envoy.yaml` does not: delete it here, then set "
    "`client_certificate_ca:` in `authz.yaml`, add `deny: {or: [invalid_client_certificate: true]}` to each route, and "
    "let Envoy ask (`validation_context`, `include_peer_certificate`)"
)
_STOPPING: Final[Mapping[str, str]] = {
    "downstream_mtls": _CLIENT_CERTIFICATES,
    "client_ca": _CLIENT_CERTIFICATES,
    "client_ca_file": _CLIENT_CERTIFICATES,
    "client_crl": _CLIENT_CERTIFICATES,
    "client_crl_file": _CLIENT_CERTIFICATES,
    "allowed_groups": "Pomerium removed it; write `allowed_idp_claims: {cognito:groups: […]}` at the routes",
    "administrators": "grants what authz has not; delete it here",
}
_RESTRICTING: Final = re.compile(r"allow|den[yi]|block|restrict|forbid|reject|require|only|whitelist|blacklist")
_BEARER_FORMATS: Final = {"idp_access_token": "access", "idp_identity_token": "id"}
_LEVELS: Final = {"trace": "debug", "debug": "debug", "info": "info", "warn": "warning", "warning": "warning"}


class _Pomerium:
    """Reads one configuration; every setting is noted in the ledger."""

    def __init__(self, root: Fields, ledger: Ledger) -> None:
        self._root = root
        self._ledger = ledger
        self._settings: dict[str, Any] = {}
        self._listen = ("0.0.0.0", 443)  # noqa: S104 - Pomerium's own default
        self._tls = True
        self._redirect_port: int | None = None
        self._readers: Mapping[str, Callable[[Node], None]] = {
            "log_level": self._log_level,
            "address": self._address,
            "insecure_server": self._insecure,
            "http_redirect_addr": self._redirect,
            "show_error_details": self._error_details,
        }

    def read(self) -> Import:
        """Turn the settings into an Import; what stops it is in the ledger."""
        version = self._root.get("_format_version")
        if version is not None:
            self._ledger.stop("_format_version", version, "Kong's declarative file: write `authz import kong`")
        for key, value in self._root.entries:
            self._setting(key.text, value)
        pool, login = self._identity()
        self._identity_headers()
        routes = self._routes(login)
        return Import(
            program="Pomerium",
            pools=(pool,),
            routes=routes,
            listen_host=self._listen[0],
            listen_port=self._listen[1],
            tls=self._tls,
            redirect_port=self._redirect_port,
            settings=self._settings,
            stripped=("x-pomerium-",),
        )

    def _setting(self, name: str, value: Node) -> None:
        if name in self._readers:
            self._readers[name](value)
        elif name in _SECRETS:
            self._ledger.secret(name, value, _SECRETS[name])
        elif name in _LEFT:
            self._ledger.left(name, value, _LEFT[name])
        elif name in _STOPPING:
            self._ledger.stop(name, value, _STOPPING[name])
        elif name.startswith("downstream_mtls"):  # each key of it is a variable of its own in an environment
            self._ledger.stop(name, value, _CLIENT_CERTIFICATES)
        elif name not in _READ_LATER and _RESTRICTING.search(name):
            self._ledger.stop(
                name,
                value,
                "unknown, and its name says that it restricts access: delete it here, then say the same with rules",
            )

    # --- who signs in -----------------------------------------------------------------------------------------------

    def _identity(self) -> tuple[Pool, Login]:
        provider = self._root.get("idp_provider")
        if provider is not None:
            self._provider(provider)
        issuer, domain = self._issuer()
        client = self._client()
        uses = self._token_uses()
        audiences = self._audiences()
        login = Login(
            issuer, client, domain, self._scopes(), sign_out_path="/.pomerium/sign_out", passes_bearer=bool(uses)
        )
        if not self._tls:
            self._ledger.remember(
                "`envoy.yaml` listens without TLS, as the source says: session cookies are `Secure`, "
                "so let browsers reach it through something that speaks TLS"
            )
        clients = tuple(dict.fromkeys((client, *audiences)))
        return Pool(issuer, clients, tuple(dict.fromkeys(("access", *uses)))), login

    def _provider(self, node: Node) -> None:
        if text_in(node) in ("oidc", "cognito"):
            self._ledger.carried("idp_provider", node, "`authz.yaml`: `cognito`")
        else:
            self._ledger.stop(
                "idp_provider",
                node,
                f"found {describe(node)}: only Cognito's users can be judged here; "
                "federate that provider into a user pool and write `oidc` with the pool's URL",
            )

    def _issuer(self) -> tuple[str, str]:
        node = self._root.get("idp_provider_url")
        url = text_in(node)
        if node is None or not url:
            return PLACEHOLDER_ISSUER, "pool-domain.invalid"
        if is_placeholder(url):
            self._ledger.changed(
                "idp_provider_url", node, "it is a placeholder: write your user pool into `authz.yaml`"
            )
            return PLACEHOLDER_ISSUER, "pool-domain.invalid"
        name = issuer_name(url)
        if name is None:
            self._ledger.stop(
                "idp_provider_url",
                node,
                "not the issuer of a Cognito user pool: write https://cognito-idp.REGION.amazonaws.com/POOL_ID",
            )
            return PLACEHOLDER_ISSUER, "pool-domain.invalid"
        self._ledger.carried("idp_provider_url", node, "`authz.yaml`: `cognito[0].user_pool`")
        return name.issuer, "pool-domain.invalid"

    def _client(self) -> str:
        node = self._root.get("idp_client_id")
        client = text_in(node)
        if node is None or not client or is_placeholder(client):
            if node is not None:
                self._ledger.changed("idp_client_id", node, "it is a placeholder: write your app client's id")
            return PLACEHOLDER_CLIENT
        self._ledger.carried(
            "idp_client_id", node, "`authz.yaml`: `cognito[0].clients`; `envoy.yaml`: oauth2 `client_id`"
        )
        return client

    def _scopes(self) -> tuple[str, ...]:
        node = self._root.get("idp_scopes")
        wanted = [scope for text in texts_in(node, ",") for scope in text.split()] or ["openid", "email", "profile"]
        return carry_scopes(self._ledger, "idp_scopes", node, wanted)

    def _token_uses(self) -> list[str]:
        """Give which bearer tokens Pomerium takes for a session; none by default."""
        nodes = [("bearer_token_format", self._root.get("bearer_token_format"))]
        for name in ROUTE_LISTS:
            routes = self._root.get(name)
            for number, route in enumerate(routes.items if isinstance(routes, Items) else ()):
                if isinstance(route, Fields):
                    nodes.append((f"{name}[{number}].bearer_token_format", route.get("bearer_token_format")))
        found = []
        for path, node in nodes:
            use = _BEARER_FORMATS.get(text_in(node))
            if node is not None and use is not None:
                found.append(use)
                self._ledger.changed(
                    path,
                    node,
                    "`authz.yaml`: `token_use`, for all routes; `envoy.yaml` lets bearer tokens pass without a session",
                )
            elif node is not None:
                self._ledger.left(path, node, "bearer tokens of other kinds are not taken for a sign-in")
        return found

    def _audiences(self) -> tuple[str, ...]:
        node = self._root.get("idp_access_token_allowed_audiences")
        if node is None:
            return ()
        self._ledger.carried("idp_access_token_allowed_audiences", node, "`authz.yaml`: `cognito[0].clients`")
        return texts_in(node, ",")

    # --- other settings ---------------------------------------------------------------------------------------------

    def _identity_headers(self) -> None:
        switch = self._root.get("pass_identity_headers")
        self._settings["pass_identity_headers"] = is_on(switch)
        if switch is not None:
            self._ledger.carried("pass_identity_headers", switch, "`authz.yaml`: `pass_identity_headers`")
        node = self._root.get("jwt_claims_headers")
        headers = _claim_headers(node)
        good = {
            header.lower(): list(POMERIUM_CLAIMS.get((claim,), ())) or claim
            for header, claim in headers.items()
            if _HEADER.fullmatch(header)
        }
        if node is not None and good:
            self._settings["identity_headers"] = good
            bad = ", ".join(f"`{header}`" for header in headers if header.lower() not in good)
            text = "`authz.yaml`: `identity_headers`"
            text += f"; no header can be named {bad}: name another one" if bad else ""
            (self._ledger.changed if bad else self._ledger.carried)("jwt_claims_headers", node, text)
        elif node is not None:
            self._ledger.left(
                "jwt_claims_headers", node, "it names no possible header: write a map of headers to claims"
            )
        self._settings["hide_credentials"] = True
        self._ledger.differs(
            "Upstreams get no `X-Pomerium-Jwt-Assertion`: the identity headers of "
            "`authz.yaml` say who is "
            "calling, and no client can forge them."
        )

    def _log_level(self, node: Node) -> None:
        level = _LEVELS.get(text_in(node), "error")
        self._settings["log"] = {"level": level}
        self._ledger.carried("log_level", node, "`authz.yaml`: `log.level`")

    def _error_details(self, node: Node) -> None:
        self._settings["show_error_details"] = is_on(node)
        self._ledger.carried("show_error_details", node, "`authz.yaml`: `show_error_details`")

    def _address(self, node: Node) -> None:
        host, _, port = text_in(node).rpartition(":")
        if port.isdecimal() and 0 < int(port) <= 65535:
            self._listen = (host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - as the source says
            self._ledger.carried("address", node, "`envoy.yaml`: the listener `ingress`")
        else:
            self._ledger.left(
                "address", node, f"found {describe(node)}, expected host:port; `envoy.yaml` listens on :443"
            )

    def _insecure(self, node: Node) -> None:
        self._tls = not is_on(node)
        self._ledger.carried(
            "insecure_server",
            node,
            "`envoy.yaml`: the listener `ingress` " + ("with TLS" if self._tls else "without TLS"),
        )

    def _redirect(self, node: Node) -> None:
        port = text_in(node).rpartition(":")[2]
        self._redirect_port = int(port) if port.isdecimal() and 0 < int(port) <= 65535 else None
        if self._redirect_port is None:
            self._ledger.left("http_redirect_addr", node, f"found {describe(node)}, expected host:port")
        else:
            self._ledger.carried("http_redirect_addr", node, "`envoy.yaml`: the listener `to-https`")

    # --- the routes -------------------------------------------------------------------------------------------------

    def _routes(self, login: Login) -> tuple[Route, ...]:
        self._authenticate_url()
        importer = RouteImporter(self._ledger, self._defaults(login))
        found: list[Route] = []
        for name in ROUTE_LISTS:
            node = self._root.get(name)
            if node is not None and not isinstance(node, Items):
                self._ledger.stop(name, node, f"found {describe(node)}, expected a list of routes")
                continue
            for number, item in enumerate(node.items if isinstance(node, Items) else ()):
                route = importer.read(item, f"{name}[{number}]", found)
                found += [] if route is None else [route]
        if found:
            return tuple(found)
        self._ledger.remember(
            "`policies/`: the source holds no routes; the one written there refuses everyone, as an "
            "example of where they go"
        )
        return (
            Route(
                id="nobody",
                source=self._root.source,
                host=PLACEHOLDER_HOST,
                action={"direct_response": {"status": 404}},
            ),
        )

    def _defaults(self, login: Login) -> RouteImport:
        node = self._root.get("default_upstream_timeout")
        timeout = "30s" if node is None else seconds_of(text_in(node))
        if node is not None and timeout is None:
            self._ledger.stop("default_upstream_timeout", node, WANTED_DURATION)
        elif node is not None:
            self._ledger.carried("default_upstream_timeout", node, "`envoy.yaml`: the routes' `timeout`")
        headers = self._root.get("set_response_headers")
        if headers is not None:
            self._ledger.left("set_response_headers", headers, "add them to `envoy.yaml` (`response_headers_to_add`)")
        return RouteImport(login, timeout or "30s")

    def _authenticate_url(self) -> None:
        node = self._root.get("authenticate_service_url")
        callback = self._root.get("authenticate_callback_path")
        if node is not None:
            self._ledger.changed(
                "authenticate_service_url",
                node,
                "there is no sign-in host of its own: each host has its callback, see the list of callback URLs above",
            )
            if split_address(text_in(node)) is None and not is_placeholder(text_in(node)):
                self._ledger.remember(
                    f"`authenticate_service_url`: `{shorten(text_in(node))}` is no URL; it is not used"
                )
        if callback is not None:
            self._ledger.changed(
                "authenticate_callback_path", callback, "the callback is `/oauth2/callback` on each host"
            )


_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_READ_LATER: Final = frozenset({
    "idp_provider", "idp_provider_url", "idp_client_id", "idp_scopes", "bearer_token_format",
    "idp_access_token_allowed_audiences", "pass_identity_headers", "jwt_claims_headers", "policy", "routes",
    "default_upstream_timeout", "set_response_headers", "authenticate_service_url", "authenticate_callback_path",
})  # fmt: skip


def _claim_headers(node: Node | None) -> dict[str, str]:
    """Read `jwt_claims_headers`: a map of headers to claims, or claims that each give x-pomerium-claim-<name>."""
    if isinstance(node, Fields):
        return {key.text: str(plain(value)) for key, value in node.entries}
    names = texts_in(node) if isinstance(node, Items) else re.split(r"[\s,]+", text_in(node))
    pairs = [name.partition(":" if re.fullmatch(r"[Xx]-[^:]+:.+", name) else "=") for name in names if name]
    return {
        head if separator else f"x-pomerium-claim-{head}": claim if separator else head
        for head, separator, claim in pairs
    }
