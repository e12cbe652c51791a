"""Kong's configuration to ours: a declarative file (YAML or JSON), one plugin, or a Developer Portal's sign-in.

Facts about Kong: its documentation of the declarative format and of the openid-connect plugin. Of each plugin one
instance runs: the route's, else the service's, else the global one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from authz.document import Fields, Items, Node, Scalar, describe, parse
from authz.errors import LoadError, Problem
from authz.model import Json, Source
from authz.workbench.importers.common import finish, is_on, read_source, slug, split_address, text_in, unique
from authz.workbench.importers.kong_oidc import Guard, GuardReader
from authz.workbench.importers.kong_routes import KongRoute, Matcher, hosts_of, ordered, read_route
from authz.workbench.importers.ledger import Ledger, leaves
from authz.workbench.importers.model import (
    PLACEHOLDER_CLIENT,
    PLACEHOLDER_HOST,
    PLACEHOLDER_ISSUER,
    Caller,
    Import,
    Pool,
    Route,
    SignIn,
    Target,
    Upstream,
)
from authz.workbench.importers.writing import ImportResult, write_import

_OIDC: Final = "openid-connect"
_PORT: Final = 8443


def import_kong(path: Path, out: Path, *, force: bool = False) -> ImportResult:
    """Import a Kong configuration into the folder `out`. Raises LoadError with everything that stops it."""
    ledger = Ledger()
    root = _read(path, ledger)
    finish(ledger)
    imported = _Kong(root, ledger).read()
    ledger.close(root)
    return write_import(imported, path, out, ledger, force=force)


def _read(path: Path, ledger: Ledger) -> Fields:
    document = parse(read_source(path), str(path), ledger.problems)
    if isinstance(document, Fields):
        return document
    if not ledger.problems:
        found = "nothing" if document is None else describe(document)
        message = f"found {found}, expected Kong's declarative file, a plugin or a portal's sign-in (YAML or JSON)"
        raise LoadError([Problem(Source(str(path), 1, 1), message)])
    return Fields(Source(str(path), 1, 1), ())


class _Plugin(NamedTuple):
    name: str
    node: Fields
    at: str


class _Service(NamedTuple):
    node: Fields
    plugins: tuple[_Plugin, ...]


class _Placed(NamedTuple):
    """A route with its service and the plugins that run on it."""

    route: KongRoute
    service: _Service | None
    plugins: tuple[_Plugin, ...]


# Plugins that neither keep anybody out nor say who is calling.
_HARMLESS_PLUGINS: Final = frozenset({
    "acme", "aws-lambda", "azure-functions", "canary", "correlation-id", "cors", "datadog", "exit-transformer",
    "file-log",
    "forward-proxy", "graphql-proxy-cache-advanced", "graphql-rate-limiting-advanced", "grpc-gateway", "grpc-web",
    "http-log", "jq", "kafka-log", "kafka-upstream", "loggly", "mocking", "opentelemetry", "prometheus", "proxy-cache",
    "proxy-cache-advanced", "rate-limiting", "rate-limiting-advanced", "redirect", "request-size-limiting",
    "request-transformer", "request-transformer-advanced", "response-ratelimiting", "response-transformer",
    "response-transformer-advanced", "route-by-header", "route-transformer-advanced", "session", "statsd",
    "statsd-advanced", "syslog", "tcp-log", "tls-metadata-headers", "udp-log", "zipkin", "ai-proxy",
    "ai-prompt-decorator",
})  # fmt: skip
_STOPPING_PLUGINS: Final[Mapping[str, str]] = {
    "acl": "write the groups as `groups_required` (with `groups_claim`) of the openid-connect plugin",
    "ip-restriction": "delete it here, then add `deny: {not: [source_ip: […]]}` to the routes of `policies/`",
    "bot-detection": "delete it here; nothing here judges user agents",
    "request-termination": "delete the route, or the plugin",
    "opa": "write its rules under `policy:` of `policies/`",
    "jwt": "let the openid-connect plugin verify the tokens",
    "request-validator": "delete it here, and let the upstream validate",
}
_MAY_RESTRICT: Final = "may keep somebody out, and is not imported: delete it here, then say the same with rules"
_LEFT_TOP: Final = {
    "_format_version": "the form of the file",
    "_transform": "the form of the file",
    "_comment": "a comment",
    "_info": "decK's own",
    "_workspace": "a workspace becomes a folder",
    "consumer_groups": "callers come from Cognito",
    "ca_certificates": "put the authorities of your upstreams into `secrets/upstream-ca.pem`",
    "vaults": "secrets are files in `secrets/`",
    "snis": "certificates are files in `secrets/`",
}
_SECRET_TOP: Final = {
    "certificates": "`secrets/certificate.pem` and `secrets/certificate-key.pem`",
    "keys": "not needed",
    "key_sets": "not needed",
    "consumers": "callers come from Cognito: their credentials are not needed",
}


class _Kong:
    """Reads one configuration; every setting is noted in the ledger."""

    def __init__(self, root: Fields, ledger: Ledger) -> None:
        self._root = root
        self._ledger = ledger
        self._guards: dict[str, Guard] = {}
        self._portal: Guard | None = None

    def read(self) -> Import:
        """Turn the settings into an Import; what stops it is in the ledger."""
        if self._root.get("issuer") is not None and self._root.get("config") is None:
            self._portal = GuardReader(self._ledger, self._root, "auth", portal=True).read()
            self._ledger.entries = [
                entry._replace(path=entry.path.removeprefix("auth.")) for entry in self._ledger.entries
            ]
            placed: list[_Placed] = []
        elif isinstance(self._root.get("config"), Fields):
            placed = [self._single_plugin()]
        else:
            placed = self._declarative()
        routes = self._routes(placed)
        return Import(
            program="Kong",
            pools=self._pools(),
            routes=routes or (self._example(),),
            listen_port=_PORT,
            settings=self._settings(),
        )

    # --- the three forms ----------------------------------------------------------------------------------------------

    def _single_plugin(self) -> _Placed:
        """Read a plugin alone: what it says is written for a host that is still to be named."""
        name = text_in(self._root.get("name")) or text_in(self._root.get("plugin"))
        at = "config" if name == _OIDC else "plugin"
        for key, value in self._root.entries:
            if key.text in ("name", "plugin"):
                self._ledger.carried(key.text, value, "`policies/`: one route")
            elif key.text != "config":
                self._ledger.left(key.text, value, "it decides nothing here")
        self._ledger.remember(
            f"`policies/` and `envoy.yaml`: the source names no route; `{PLACEHOLDER_HOST}` and the "
            "upstream 127.0.0.1:8080 stand for yours"
        )
        plugin = _Plugin(name, self._root, "")
        if name != _OIDC:
            self._judge_plugin(plugin, at)
        route = KongRoute("kong", self._root, at, (PLACEHOLDER_HOST,), (), (), (), 0)
        return _Placed(route, None, (plugin,) if name == _OIDC else ())

    def _declarative(self) -> list[_Placed]:
        for key, value in self._root.entries:
            if key.text in _SECRET_TOP:
                self._ledger.secret(key.text, value, _SECRET_TOP[key.text])
            elif key.text in _LEFT_TOP:
                self._ledger.left(key.text, value, _LEFT_TOP[key.text])
        loose = [
            _Plugin(text_in(node.get("name")), node, at) for at, node in _maps(self._root.get("plugins"), "plugins")
        ]
        everywhere = tuple(one for one in loose if not any(one.node.get(ref) for ref in _PLUGIN_SCOPES))
        placed: list[_Placed] = []
        services: dict[str, _Service] = {}
        for at, node in _maps(self._root.get("services"), "services"):
            service = _Service(node, (*_plugins(node, at), *_referring(loose, "service", node)))
            services |= dict.fromkeys(_names(node), service)
            self._note_service(node, at)
            for route_at, route in _maps(node.get("routes"), f"{at}.routes"):
                placed += self._place(route, route_at, service, everywhere, loose, len(placed))
        for at, node in _maps(self._root.get("routes"), "routes"):
            owner = services.get(_reference(node.get("service")))
            placed += self._place(node, at, owner, everywhere, loose, len(placed))
        for plugin in loose:
            self._check_reference(plugin, placed, services)
        self._judge_consumers(loose)
        return placed

    def _judge_consumers(self, loose: Sequence[_Plugin]) -> None:
        """Stop for plugins that may keep some consumers out."""
        own = [plugin for plugin in loose if any(plugin.node.get(ref) is not None for ref in _PLUGIN_SCOPES[2:])]
        for name in ("consumers", "consumer_groups"):
            for at, node in _maps(self._root.get(name), name):
                own += _plugins(node, at)
        for plugin in own:
            if plugin.name not in _HARMLESS_PLUGINS and text_in(plugin.node.get("enabled")) != "false":
                self._ledger.stop(plugin.at, plugin.node, "holds for some consumers alone: delete it here")

    def _check_reference(self, plugin: _Plugin, placed: Sequence[_Placed], services: Mapping[str, _Service]) -> None:
        """Stop for a plugin whose route or service is not there: nobody would know whom it keeps out."""
        if not any(one is plugin for item in placed for one in item.plugins):
            for ref, known in (("route", {item.route.name for item in placed}), ("service", set(services))):
                name = _reference(plugin.node.get(ref))
                if name and name not in known:
                    self._ledger.stop(f"{plugin.at}.{ref}", plugin.node, f"no {ref} of this name: correct it")

    def _place(
        self,
        node: Fields,
        at: str,
        service: _Service | None,
        everywhere: Sequence[_Plugin],
        loose: Sequence[_Plugin],
        number: int,
    ) -> list[_Placed]:
        if service is not None and text_in(service.node.get("enabled")) == "false":
            self._ledger.left(at, node, "its service is not enabled")
            return []
        route = read_route(node, at, number + 1, self._ledger)
        if route is None:
            return []
        own = (*_plugins(node, at), *_referring(loose, "route", node))
        running: dict[str, _Plugin] = {}
        for plugin in (*own, *(service.plugins if service is not None else ()), *everywhere):
            if text_in(plugin.node.get("enabled")) == "false":
                self._ledger.left(plugin.at, plugin.node, "not enabled")
            else:
                running.setdefault(plugin.name, plugin)
        for plugin in running.values():
            if plugin.name != _OIDC:
                self._judge_plugin(plugin, plugin.at)
        return [_Placed(route, service, tuple(running.values()))]

    def _judge_plugin(self, plugin: _Plugin, at: str) -> None:
        if any(entry.path == at for entry in self._ledger.entries):
            return  # one plugin may run on many routes
        if plugin.name in _HARMLESS_PLUGINS:
            self._ledger.left(at, plugin.node, f"`{plugin.name}` keeps nobody out: Envoy has filters of its own for it")
        else:
            why = _STOPPING_PLUGINS.get(plugin.name)
            message = f"`{plugin.name}` keeps people out: {why}" if why else f"`{plugin.name}` {_MAY_RESTRICT}"
            self._ledger.stop(at, plugin.node, message)

    def _note_service(self, node: Fields, at: str) -> None:
        for key, value in node.entries:
            path = f"{at}.{key.text}"
            if key.text in _SERVICE_CARRIED:
                self._ledger.carried(path, value, "`envoy.yaml`: a cluster and the routes to it")
            elif key.text == "enabled":
                self._ledger.carried(path, value, "routes of a service that is off are left out")
            elif key.text not in ("routes", "plugins"):
                self._ledger.left(path, value, "it decides nothing: set it in `envoy.yaml` by hand")

    # --- who may pass -------------------------------------------------------------------------------------------------

    def _guard(self, placed: _Placed) -> Guard | None:
        plugin = next((one for one in placed.plugins if one.name == _OIDC), None)
        if plugin is None:
            return None
        key = plugin.at or "config"
        if key not in self._guards:
            at = f"{plugin.at}.config" if plugin.at else "config"
            config = plugin.node.get("config")
            self._guards[key] = GuardReader(
                self._ledger, config if isinstance(config, Fields) else Fields(plugin.node.source, ()), at
            ).read()
            self._note_plugin(plugin)
        return self._guards[key]

    def _note_plugin(self, plugin: _Plugin) -> None:
        for key, value in plugin.node.entries if plugin.at else ():
            path = f"{plugin.at}.{key.text}"
            if key.text in ("name", *_PLUGIN_SCOPES[:2]):
                self._ledger.carried(path, value, "`policies/`: the rules of the routes on which it runs")
            elif key.text in _PLUGIN_SCOPES[2:]:
                self._ledger.stop(path, value, "holds for some consumers alone: delete it here")
            elif key.text != "config":
                self._ledger.left(path, value, "it decides nothing here")

    def _policy(self, placed: _Placed, guard: Guard | None, issuers: int) -> dict[str, Any]:
        methods: list[dict[str, Any]] = []
        if placed.route.methods:
            methods = [{"http_method": {"in": list(placed.route.methods)}}]
        policy: dict[str, Any] = {}
        if guard is None or guard.public:
            if not methods:
                return {"allow_public_unauthenticated_access": True}
            return {"policy": [{"allow": {"and": [{"accept": True}, *methods]}}]}
        if guard.preflight:
            policy["cors_allow_preflight"] = True
        every: list[dict[str, Any]] = list(methods)
        if issuers > 1:
            every.append({"issuer": {"in": list(_issuers(guard.pool))}})
        alternatives = list(guard.alternatives())
        if alternatives == [[]] and not every:
            policy["allow_any_authenticated_user"] = True
        else:
            usual = [{"authenticated_user": True}]
            rules = [{"allow": {"and": [*(alternative or usual), *every]}} for alternative in alternatives]
            policy["policy"] = rules
        if guard.redirects:
            policy["denied_redirect"] = dict(guard.redirects)
        return policy

    # --- the routes ---------------------------------------------------------------------------------------------------

    def _routes(self, placed: Sequence[_Placed]) -> tuple[Route, ...]:
        guards = [self._guard(one) for one in placed]
        if self._ledger.problems.errors:
            return ()
        by_route = {id(one.route): (one, guard) for one, guard in zip(placed, guards, strict=True)}
        logins = [guard.login_host for guard in guards if guard is not None and guard.login_host]
        hosts = hosts_of([one.route for one in placed], logins)
        issuers = len({guard.pool.issuer for guard in guards if guard is not None})
        found: list[Route] = []
        for route, matcher in ordered([one.route for one in placed], hosts):
            one, guard = by_route[id(route)]
            found.append(self._route(one, guard, matcher, found, issuers))
        if any(route.login is None and route.sign_in is SignIn.REQUIRED for route in found):
            self._ledger.remember(
                "Routes without an exact host have no sign-in for browsers, because a "
                "callback needs a fixed "
                "host: name `hosts` and import again, or answer 401 as it is written"
            )
        return tuple(found)

    def _route(
        self, placed: _Placed, guard: Guard | None, matcher: Matcher, before: Sequence[Route], issuers: int
    ) -> Route:
        route = placed.route
        own_host = matcher.host in route.hosts
        wanted = route.name if own_host else f"{route.name} {'any host' if matcher.host == '*' else matcher.host}"
        upstream, action = self._hop(placed, matcher)
        login = None if guard is None or "*" in matcher.host else guard.login
        return Route(
            id=unique(slug(wanted), (one.id for one in before)),
            source=route.node.source,
            host=matcher.host,
            match=_match(matcher),
            policy=self._policy(placed, guard, issuers),
            upstream=upstream,
            action=action,
            conditions=route.conditions,
            methods=route.methods,
            sign_in=_sign_in(guard),
            login=login,
            callers=_callers(guard, issuers),
        )

    def _hop(self, placed: _Placed, matcher: Matcher) -> tuple[Upstream | None, dict[str, Any]]:
        if placed.service is None:
            if placed.route.name != "kong":
                self._ledger.remember(
                    f"`envoy.yaml`: route `{placed.route.name}` has no service; it answers "
                    f"503 until you "
                    "write where it goes"
                )
                return None, {"direct_response": {"status": 503}}
            return Upstream((Target("127.0.0.1", 8080),)), {"timeout": "60s"}
        upstream, path = self._upstream(placed.service.node)
        if upstream is None:
            return None, {"direct_response": {"status": 503}}
        node = placed.route.node
        action: dict[str, Any] = {"timeout": "60s"}
        strips = text_in(node.get("strip_path")) != "false" and matcher.path not in ("", "/")
        start = f"^{_pattern(matcher)}/?" if strips else "^/"
        if strips or path:
            action["regex_rewrite"] = {"pattern": {"regex": start}, "substitution": f"{path}/"}
        if not is_on(node.get("preserve_host")):
            action["host_rewrite_literal"] = upstream.targets[0].host
        return upstream, action

    def _upstream(self, service: Fields) -> tuple[Upstream | None, str]:
        url = text_in(service.get("url"))
        host, port = text_in(service.get("host")), text_in(service.get("port"))
        protocol = text_in(service.get("protocol")) or "http"
        parts = split_address(url or f"{protocol}://{host}{f':{port}' if port else ''}{text_in(service.get('path'))}")
        if parts is None or parts.scheme not in ("http", "https"):
            self._ledger.remember(
                f"`envoy.yaml`: the service `{text_in(service.get('name'))}` is no http(s) "
                f"address; its "
                "routes answer 503"
            )
            return None, ""
        port_number = parts.port or (443 if parts.scheme == "https" else 80)
        targets = self._targets(parts.hostname or "") or (Target(parts.hostname or "", port_number),)
        return Upstream(targets, tls=parts.scheme == "https"), parts.path.rstrip("/")

    def _targets(self, host: str) -> tuple[Target, ...]:
        """Give the addresses of the upstream of this name."""
        for at, node in _maps(self._root.get("upstreams"), "upstreams"):
            if text_in(node.get("name")) != host:
                continue
            found = []
            for _, target in _maps(node.get("targets"), f"{at}.targets"):
                name, _, port = text_in(target.get("target")).rpartition(":")
                weight = text_in(target.get("weight"))
                if name and port.isdecimal() and weight != "0":
                    found.append(Target(name, int(port), int(weight) if weight.isdecimal() else None))
            for path, leaf in leaves(node, at):
                if not any(entry.covers(path) for entry in self._ledger.entries):
                    self._ledger.carried(path, leaf, "`envoy.yaml`: a cluster, as far as addresses and weights go")
            return tuple(found)
        return ()

    def _example(self) -> Route:
        self._ledger.remember(
            "`policies/`: the source holds no routes; the one written there refuses everyone, as an "
            "example of where they go"
        )
        return Route(
            id="nobody", source=self._root.source, host=PLACEHOLDER_HOST, action={"direct_response": {"status": 404}}
        )

    # --- authz.yaml ---------------------------------------------------------------------------------------------------

    def _all_guards(self) -> list[Guard]:
        return [*self._guards.values(), *([self._portal] if self._portal is not None else [])]

    def _pools(self) -> tuple[Pool, ...]:
        """Give one pool an issuer, with what all instances of the plugin accept together."""
        pools: dict[str, Pool] = {}
        for guard in self._all_guards():
            pool = guard.pool
            other = pools.get(pool.issuer)
            if other is None:
                pools[pool.issuer] = pool
                continue
            if other.leeway_seconds != pool.leeway_seconds:
                self._ledger.differs(
                    "`leeway` is the pool's: the least that an instance of the plugin says holds for all."
                )
            clients = tuple(dict.fromkeys((*other.clients, *pool.clients)))
            pools[pool.issuer] = Pool(
                issuer=pool.issuer,
                clients=("any",) if "any" in clients else clients,
                token_use=tuple(dict.fromkeys((*other.token_use, *pool.token_use))),
                leeway_seconds=min(other.leeway_seconds, pool.leeway_seconds),
                issuers=tuple(issuer for issuer in other.issuers if issuer in pool.issuers)
                or other.issuers
                or pool.issuers,
            )
        return tuple(pools.values()) or (Pool(PLACEHOLDER_ISSUER, (PLACEHOLDER_CLIENT,)),)

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        guards = self._all_guards()
        places = [place for guard in guards for place in guard.places]
        if any(guard.login is not None for guard in guards):
            places.append({"header": "authorization"})  # where Envoy puts the session's token
        tokens = [place for number, place in enumerate(places) if place not in places[:number]]
        if tokens and tokens != [{"header": "authorization"}]:
            settings["tokens"] = tokens
        headers: dict[str, str] = {}
        for guard in guards:
            for name, claim in guard.identity_headers.items():
                if headers.setdefault(name, claim) != claim:
                    self._ledger.differs(f"The header `{name}` has one claim on every route: `{headers[name]}`.")
        if headers:
            settings["identity_headers"] = headers
        if any(guard.hide_credentials for guard in guards):
            settings["hide_credentials"] = True
        split = {claim: {"split": " "} for guard in guards for claim in guard.split_claims}
        if split:
            settings["claims"] = split
        return settings


_PLUGIN_SCOPES: Final = ("service", "route", "consumer", "consumer_group")
_SERVICE_CARRIED: Final = frozenset({"name", "url", "host", "port", "protocol", "path"})


def _maps(node: Node | None, at: str) -> list[tuple[str, Fields]]:
    items = node.items if isinstance(node, Items) else ()
    return [(f"{at}[{number}]", item) for number, item in enumerate(items) if isinstance(item, Fields)]


def _plugins(node: Fields, at: str) -> tuple[_Plugin, ...]:
    found = _maps(node.get("plugins"), f"{at}.plugins")
    return tuple(_Plugin(text_in(plugin.get("name")), plugin, place) for place, plugin in found)


def _names(node: Fields) -> list[str]:
    return [name for key in ("name", "id") if (name := text_in(node.get(key)))]


def _reference(node: Node | None) -> str:
    """Read a reference: a name, or a map with a name or an id."""
    if isinstance(node, Fields):
        return text_in(node.get("name")) or text_in(node.get("id"))
    return text_in(node) if isinstance(node, Scalar) else ""


def _referring(loose: Sequence[_Plugin], kind: str, node: Fields) -> tuple[_Plugin, ...]:
    """Give the plugins for this route or service; one that names both is the route's."""
    narrower = kind == "service"
    return tuple(
        one
        for one in loose
        if _reference(one.node.get(kind)) in _names(node) and not (narrower and one.node.get("route") is not None)
    )


def _match(matcher: Matcher) -> tuple[str, str] | None:
    if not matcher.path:
        return None
    if not matcher.is_regex:
        return "prefix", matcher.path
    return "regex", matcher.path if matcher.path.endswith("$") else f"(?:{matcher.path}).*"


def _pattern(matcher: Matcher) -> str:
    if matcher.is_regex:
        return f"(?:{matcher.path.removeprefix('^').removesuffix('$')})"
    return re.escape(matcher.path.rstrip("/"))


def _issuers(pool: Pool) -> tuple[str, ...]:
    return pool.issuers or (pool.issuer,)


def _sign_in(guard: Guard | None) -> SignIn:
    if guard is None or guard.login is None:
        return SignIn.NONE
    return SignIn.OPTIONAL if guard.public else SignIn.REQUIRED


def _callers(guard: Guard | None, issuers: int) -> tuple[Caller, ...]:
    if guard is None:
        return ()
    claims: dict[str, Json] = {}
    if issuers > 1:
        claims = {"iss": _issuers(guard.pool)[0]}
    return guard.callers(claims)
