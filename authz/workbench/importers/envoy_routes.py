"""The hosts and routes of an imported Envoy configuration, and how each of them signs in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from authz.workbench.importers.envoy_clusters import cluster_name, cognito_cluster
from authz.workbench.importers.envoy_names import EXT_AUTHZ, HTTP, OAUTH2
from authz.workbench.importers.envoy_secrets import COOKIE_KEY, client_secret, secret
from authz.workbench.importers.model import Import, Login, Route, SignIn, Wire

CALLBACK: Final = "/oauth2/callback"
SIGNOUT: Final = "/oauth2/signout"
ID_TOKEN_HEADER: Final = "x-auth-id-token"  # noqa: S105 - a header's name
_DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}


def virtual_hosts(imported: Import) -> list[Wire]:
    """Give a virtual host for each host, with its routes, and one for all wildcards."""
    exact: dict[tuple[str, int | None], list[Route]] = {}
    wildcards = []
    for route in imported.routes:
        if "*" in route.host:
            wildcards.append(route)
        else:
            exact.setdefault(host_and_port(route), []).append(route)
    hosts = [_virtual_host(imported, name, port, routes) for (name, port), routes in exact.items()]
    if wildcards:
        routes = [_route(imported, route) for route in wildcards]
        hosts.append({"name": "wildcards", "domains": ["*"], "routes": routes})
    return hosts


def host_and_port(route: Route) -> tuple[str, int | None]:
    """Give a route's host, and its port unless it is the scheme's own."""
    name, _, port = (
        route.host.lower().rpartition(":") if re.search(r":\d+$", route.host) else (route.host.lower(), "", "")
    )
    number = int(port) if port else None
    return name.rstrip("."), None if number == _DEFAULT_PORTS[route.scheme] else number


def _virtual_host(imported: Import, name: str, port: int | None, routes: Sequence[Route]) -> Wire:
    domains = [name, f"{name}:*"] if port is None else [f"{name}:{port}"]
    host: dict[str, Any] = {"name": domains[0], "domains": domains}
    login = login_of(routes)
    before: list[Wire] = []
    if login is not None:
        authority = public_address(name, port)
        host["typed_per_filter_config"] = {OAUTH2: _login_config(imported, login, authority)}
        before = _sign_in_routes(login, authority)
    host["routes"] = [*before, *(_route(imported, route) for route in routes)]
    return host


def login_of(routes: Iterable[Route]) -> Login | None:
    """Give the sign-in of one host's routes: cookies of two would be in each other's way."""
    return next((route.login for route in routes if route.login is not None and "*" not in route.host), None)


def public_address(name: str, port: int | None) -> str:
    """Give the authority that a browser shows for a host: what `from` says, not the port that Envoy listens on."""
    return name if port is None else f"{name}:{port}"


def _sign_in_routes(login: Login, authority: str) -> list[Wire]:
    """Give the paths of signing in and out; Cognito ends its own session first, then sends the browser to ours."""
    after = quote(f"https://{authority}{SIGNOUT}", safe="")
    unasked = {EXT_AUTHZ: {"@type": f"{HTTP}.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}}
    ours = [
        {
            "match": {"path": path},
            "direct_response": {"status": 404},  # never reached: the filter answers
            "typed_per_filter_config": unasked,
        }
        for path in (CALLBACK, SIGNOUT)
    ]
    sign_out = {
        "match": {"path": login.sign_out_path},
        "redirect": {
            "response_code": "FOUND",
            "https_redirect": True,
            "host_redirect": login.domain,
            "port_redirect": 443,
            "path_redirect": f"/logout?client_id={quote(login.client_id, safe='')}&logout_uri={after}",
        },
        "typed_per_filter_config": {**unasked, OAUTH2: _no_filter()},
    }
    return [*ours, sign_out]


def _no_filter() -> Wire:
    return {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}


def _route(imported: Import, route: Route) -> Wire:
    per_filter: dict[str, Wire] = {
        EXT_AUTHZ: {
            "@type": f"{HTTP}.ext_authz.v3.ExtAuthzPerRoute",
            "check_settings": {"context_extensions": {"route": route.id}},
        }
    }
    if imported.logins and "*" not in route.host:
        if route.login is None or route.sign_in is SignIn.NONE:
            per_filter[OAUTH2] = _no_filter()
        elif route.sign_in is SignIn.OPTIONAL or allows_preflight(route):
            authority = public_address(*host_and_port(route))
            per_filter[OAUTH2] = _login_config(imported, route.login, authority, route)
    action: dict[str, Any] = dict(route.action)
    if route.upstream is not None:
        action = {"route": {"cluster": cluster_name(route.upstream), **action}}
    return {
        "name": route.id,
        "match": _match(route),
        **action,
        **route.extra,
        "typed_per_filter_config": per_filter,
    }


def _match(route: Route) -> Wire:
    kind, text = route.match or ("prefix", "/")
    match: dict[str, Any] = {"safe_regex": {"regex": text}} if kind == "regex" else {kind: text}
    headers = list(route.conditions)
    if "*" in route.host and route.host != "*":
        headers.append({"name": ":authority", "string_match": {"safe_regex": {"regex": _host_pattern(route)}}})
    if route.methods:
        pattern = "|".join(map(re.escape, route.methods))
        headers.append({"name": ":method", "string_match": {"safe_regex": {"regex": pattern}}})
    if headers:
        match["headers"] = headers
    return match


def _host_pattern(route: Route) -> str:
    name, port = host_and_port(route)
    pattern = ".*".join(re.escape(part) for part in name.split("*"))
    return f"(?i){pattern}(:[0-9]+)?" if port is None else f"(?i){pattern}:{port}"


_SAME_SITE_COOKIES: Final = (
    "bearer_token", "id_token", "refresh_token", "oauth_hmac", "oauth_expires", "oauth_nonce", "code_verifier",
)  # fmt: skip
_COOKIE_NAMES: Final[Mapping[str, str]] = {
    "bearer_token": "__Host-bearer",
    "id_token": "__Host-id",
    "refresh_token": "__Host-refresh",
    "oauth_hmac": "__Host-hmac",
    "oauth_expires": "__Host-expires",
    "oauth_nonce": "__Host-nonce",
    "code_verifier": "__Host-verifier",
}
_OPTIONS: Final[Wire] = {"name": ":method", "string_match": {"exact": "OPTIONS"}}
_NOT_A_NAVIGATION: Final[Sequence[Wire]] = (
    {"name": "accept", "string_match": {"contains": "application/json"}},
    {"name": "x-requested-with", "string_match": {"exact": "XMLHttpRequest"}},
    {"name": "sec-fetch-mode", "string_match": {"exact": "cors"}},
    {"name": "sec-fetch-mode", "string_match": {"exact": "same-origin"}},
    {"name": "sec-fetch-mode", "string_match": {"exact": "no-cors"}},
)


def allows_preflight(route: Route) -> bool:
    """Tell whether CORS preflights, which never carry a session, may pass a route."""
    return "cors_allow_preflight" in route.policy or "cors_preflight" in str(route.policy.get("policy"))


def _login_config(imported: Import, login: Login, authority: str, route: Route | None = None) -> Wire:
    """Give a host's sign-in, or what one of its routes does differently."""
    number = imported.logins.index(login)
    bearer = {"name": "authorization", "string_match": {"prefix": "Bearer ", "ignore_case": True}}
    query = f"?{login.query}" if login.query else ""
    config: dict[str, Any] = {
        "authorization_endpoint": f"https://{login.domain}/oauth2/authorize{query}",
        "token_endpoint": {
            "cluster": cognito_cluster(login.domain),
            "uri": f"https://{login.domain}/oauth2/token",
            "timeout": "3s",
        },
        "redirect_uri": f"https://{authority}{CALLBACK}",  # fixed: never made from the Host header
        "redirect_path_matcher": {"path": {"exact": CALLBACK}},
        "allowed_redirect_domains": [authority.partition(":")[0]],
        "signout_path": {"path": {"exact": SIGNOUT}},
        "auth_scopes": list(login.scopes),
        "auth_type": "BASIC_AUTH",
        "use_refresh_token": True,
        "default_refresh_token_expires_in": "2592000s",
        "forward_bearer_token": True,
        "forward_id_token": {"header": ID_TOKEN_HEADER},
        "credentials": {
            "client_id": login.client_id,
            "token_secret": secret(*client_secret(number)),
            "hmac_secret": secret("cookie-key", COOKIE_KEY),
            "cookie_names": dict(_COOKIE_NAMES),
        },
        "cookie_configs": {f"{name}_cookie_config": {"same_site": "LAX"} for name in _SAME_SITE_COOKIES},
        "pass_through_matcher": [
            *([bearer] if login.passes_bearer else []),
            *([_OPTIONS] if route is not None and allows_preflight(route) else []),
        ],
        "deny_redirect_matcher": list(_NOT_A_NAVIGATION),
    }
    if route is not None and route.sign_in is SignIn.OPTIONAL:
        config["allow_failed_matcher"] = [{"name": ":path", "string_match": {"prefix": "/"}}]
    return {"@type": f"{HTTP}.oauth2.v3.OAuth2PerRoute", "config": config}
