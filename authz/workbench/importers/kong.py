"""Kong's configuration to ours: a declarative file (YAML or JSON), one plugin, or a Developer Portal's sign-in.

Facts about Kong: its documentation of the declarative format and of the openid-connect plugin, and its source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from authz.document import parse
from authz.errors import LoadError, Problem
from authz.model import Json, Source
from authz.node import Fields, Node, describe
from authz.workbench.importers.common import finish, read_source, slug, split_address, text_in, unique
from authz.workbench.importers.kong_declarative import Placed, read_declarative
from authz.workbench.importers.kong_input import maps_in, without_nulls
from authz.workbench.importers.kong_oidc import Guard, GuardReader
from authz.workbench.importers.kong_plugins import OIDC, Plugin, config_of, judge, note_keys
from authz.workbench.importers.kong_routes import KongRoute, Matcher, check_hosts, hosts_of, ordered, ties
from authz.workbench.importers.ledger import Ledger
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

_PORT: Final = 8443
_KONGS: Final = frozenset({"_format_version", "services", "plugins", "config", "issuer"})
# A line of Pomerium's in any of its forms: YAML, a ConfigMap around it, KEY=value lines.
_POMERIUM: Final = re.compile(
    rb"""^[ \t{\[-]*(export[ \t]+)?["']?(authenticate_service_url|idp_[a-z_]+|from)["']?[ \t]*[:=]""",
    re.IGNORECASE | re.MULTILINE,
)


def import_kong(path: Path, out: Path, *, force: bool = False) -> ImportResult:
    """Import a Kong configuration into the folder `out`. Raises LoadError with everything that stops it."""
    ledger = Ledger()
    root = _read(path, ledger)
    finish(ledger)
    imported = _Kong(without_nulls(root, ledger), ledger).read()
    ledger.close(root)
    return write_import(imported, path, out, ledger, force=force)


def _read(path: Path, ledger: Ledger) -> Fields:
    data = read_source(path)
    document = parse(data, str(path), ledger.problems)
    if not _is_kongs(document) and _POMERIUM.search(data):
        raise LoadError([Problem(Source(str(path), 1, 1), "Pomerium's configuration: write `authz import pomerium`")])
    if isinstance(document, Fields):
        return document
    if not ledger.problems:
        found = "nothing" if document is None else describe(document)
        message = f"found {found}, expected Kong's declarative file, a plugin or a portal's sign-in (YAML or JSON)"
        raise LoadError([Problem(Source(str(path), 1, 1), message)])
    return Fields(Source(str(path), 1, 1), ())


def _is_kongs(document: Node | None) -> bool:
    return isinstance(document, Fields) and any(key.text in _KONGS for key, _ in document.entries)


class _Kong:
    """Reads one configuration; every setting is noted in the ledger."""

    def __init__(self, root: Fields, ledger: Ledger) -> None:
        self._root = root
        self._ledger = ledger
        self._guards: dict[str, Guard] = {}
        self._portal: Guard | None = None
        self._upstreams: dict[str, tuple[str, Fields]] = {}
        self._clusters: dict[str, tuple[Target, ...]] = {}

    def read(self) -> Import:
        """Turn the settings into an Import; what stops it is in the ledger."""
        routes = self._routes(self._placed())
        return Import(
            program="Kong",
            pools=self._pools(),
            routes=routes or (self._example(),),
            listen_port=_PORT,
            settings=self._settings(),
        )

    # --- the three forms ----------------------------------------------------------------------------------------------

    def _placed(self) -> list[Placed]:
        if isinstance(self._root.get("config"), Fields):
            return [self._single_plugin()]
        if self._root.get("issuer") is not None:
            self._portal = GuardReader(self._ledger, self._root, "", portal=True).read()
            return []
        for at, node in maps_in(self._root.get("upstreams"), "upstreams", self._ledger):
            self._upstreams.setdefault(text_in(node.get("name")), (at, node))
        return read_declarative(self._root, self._ledger)

    def _single_plugin(self) -> Placed:
        """Read a plugin alone: what it says is written for a host that is still to be named."""
        plugin = Plugin(text_in(self._root.get("name")) or text_in(self._root.get("plugin")), self._root, "")
        self._ledger.remember(
            f"`policies/` and `envoy.yaml`: the source names no route; `{PLACEHOLDER_HOST}` and the upstream "
            "127.0.0.1:8080 stand for yours"
        )
        if plugin.name != OIDC:
            judge(plugin, "config", self._ledger)
            note_keys(plugin, self._ledger)
        route = KongRoute("kong", self._root, "", (PLACEHOLDER_HOST,))
        return Placed(route, None, (plugin,) if plugin.name == OIDC else (), is_example=True)

    # --- who may pass -------------------------------------------------------------------------------------------------

    def _guard(self, placed: Placed) -> Guard | None:
        plugin = next((one for one in placed.plugins if one.name == OIDC), None)
        if plugin is None:
            return None
        if plugin.at not in self._guards:
            at = f"{plugin.at}.config" if plugin.at else "config"
            config = config_of(plugin, self._root.get("_plugin_configs"), self._ledger)
            self._guards[plugin.at] = GuardReader(self._ledger, config, at).read()
            note_keys(plugin, self._ledger)
        return self._guards[plugin.at]

    def _policy(self, placed: Placed, guard: Guard | None, issuers: int) -> dict[str, Any]:
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

    def _routes(self, placed: Sequence[Placed]) -> tuple[Route, ...]:
        guards = [self._guard(one) for one in placed]
        if self._ledger.problems.errors:
            return ()
        by_route = {id(one.route): (one, guard) for one, guard in zip(placed, guards, strict=True)}
        logins = [guard.login_host for guard in guards if guard is not None and guard.login_host]
        routes = [one.route for one in placed]
        hosts = hosts_of(routes, logins)
        check_hosts(routes, hosts, self._ledger)
        self._check_order(routes, hosts, {route: guard for route, (_, guard) in by_route.items()})
        issuers = len({frozenset(_issuers(guard.pool)) for guard in guards if guard is not None})
        found: list[Route] = []
        for route, matcher in ordered(routes, hosts):
            one, guard = by_route[id(route)]
            found.append(self._route(one, guard, matcher, found, issuers))
        self._check_sign_in(found)
        return tuple(found)

    def _check_order(
        self, routes: Sequence[KongRoute], hosts: Sequence[str], guards: Mapping[int, Guard | None]
    ) -> None:
        """Stop where Kong's choice between two routes is not sure, and one lets in whom the other does not."""
        if len(routes) > 1:
            self._ledger.differs(
                "Of several routes for a request, the one counts that Kong's router `traditional_compatible` takes, "
                "its default since 3.0. With `router_flavor: traditional` it may be another."
            )
        told: set[tuple[str, str]] = set()
        for one, other in ties(routes, hosts):
            if guards[id(one)] != guards[id(other)] and (one.at, other.at) not in told:
                told.add((one.at, other.at))
                message = (
                    f"Kong's choice between it and `{one.name}` hangs on their ids: set `regex_priority`, or write one "
                    "more matcher to one"
                )
                self._ledger.stop(other.at, other.node, message)

    def _check_sign_in(self, routes: Sequence[Route]) -> None:
        """Stop where a host's sign-in would let bearer tokens pass to a route that takes none."""
        passes: dict[str, set[bool]] = {}
        for route in routes:
            if route.login is not None:
                passes.setdefault(route.host, set()).add(route.login.passes_bearer)
            elif route.sign_in is SignIn.REQUIRED:
                self._ledger.remember(
                    "Routes without an exact host have no sign-in for browsers, because a callback needs a fixed host: "
                    "name `hosts` and import again, or answer 401 as it is written"
                )
        for route in routes:
            if route.login is not None and not route.login.passes_bearer and len(passes[route.host]) > 1:
                message = (
                    f"`{route.id}` takes no bearer tokens, and other routes of `{route.host}` do: give it a host of "
                    "its own, or add `bearer` to its `auth_methods`"
                )
                self._ledger.problems.append(Problem(route.source, message))

    def _route(
        self, placed: Placed, guard: Guard | None, matcher: Matcher, before: Sequence[Route], issuers: int
    ) -> Route:
        route = placed.route
        own_host = matcher.host in route.hosts
        wanted = route.name if own_host else f"{route.name} {'any host' if matcher.host == '*' else matcher.host}"
        upstream, action = self._hop(placed, matcher)
        login = None if guard is None or "*" in matcher.host else guard.login
        found = Route(
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
        if guard is None or guard.public or guard.takes_bearer or login is not None:
            return found
        return self._refused(found, guard)

    def _refused(self, route: Route, guard: Guard) -> Route:
        """Let nobody pass: every token that could arrive is a bearer token, and the source takes none."""
        why = "people can sign in on exact hosts alone" if guard.login is not None else "none of its other ways is here"
        self._ledger.differs(
            f"Nobody passes the route `{route.id}`: `auth_methods` has no `bearer`, and {why}. Name `hosts`, or add "
            "`bearer`, and import again."
        )
        return replace(route, policy={}, sign_in=SignIn.NONE, callers=())

    # --- where they go ------------------------------------------------------------------------------------------------

    def _hop(self, placed: Placed, matcher: Matcher) -> tuple[Upstream | None, dict[str, Any]]:
        if placed.is_example:
            return Upstream((Target("127.0.0.1", 8080),)), {"timeout": "60s"}
        route = placed.route
        if placed.service is None:
            self._ledger.remember(
                f"`envoy.yaml`: route `{route.name}` has no service; it answers 503 until you write where it goes"
            )
            return None, {"direct_response": {"status": 503}}
        upstream, path = self._upstream(placed.service.node)
        if upstream is None:
            return None, {"direct_response": {"status": 503}}
        action: dict[str, Any] = {"timeout": "60s"}
        strips = route.strips_path and matcher.path not in ("", "/")
        start = f"^{_pattern(matcher)}/?" if strips else "^/"
        if strips or path:
            action["regex_rewrite"] = {"pattern": {"regex": start}, "substitution": f"{path}/"}
        if not route.keeps_host:
            action["host_rewrite_literal"] = upstream.targets[0].host
        return upstream, action

    def _upstream(self, service: Fields) -> tuple[Upstream | None, str]:
        url = text_in(service.get("url"))
        host, port = text_in(service.get("host")), text_in(service.get("port"))
        protocol = text_in(service.get("protocol")) or "http"
        parts = split_address(url or f"{protocol}://{host}{f':{port}' if port else ''}{text_in(service.get('path'))}")
        if parts is None or parts.scheme not in ("http", "https"):
            self._ledger.remember(
                f"`envoy.yaml`: the service `{text_in(service.get('name'))}` is no http(s) address; its routes "
                "answer 503"
            )
            return None, ""
        port_number = parts.port or (443 if parts.scheme == "https" else 80)
        targets = self._targets(parts.hostname or "") or (Target(parts.hostname or "", port_number),)
        return Upstream(targets, tls=parts.scheme == "https"), parts.path.rstrip("/")

    def _targets(self, host: str) -> tuple[Target, ...]:
        """Give the addresses of the upstream of this name."""
        if host not in self._clusters:
            self._clusters[host] = tuple(self._read_targets(host))
        return self._clusters[host]

    def _read_targets(self, host: str) -> Iterator[Target]:
        at, upstream = self._upstreams.get(host, ("", None))
        if upstream is None:
            return
        self._ledger.carried(at, upstream, "`envoy.yaml`: a cluster, as far as addresses and weights go")
        for _, target in maps_in(upstream.get("targets"), f"{at}.targets", self._ledger):
            name, _, port = text_in(target.get("target")).rpartition(":")
            weight = text_in(target.get("weight"))
            if name and port.isdecimal() and weight != "0":
                yield Target(name, int(port), int(weight) if weight.isdecimal() else None)

    def _example(self) -> Route:
        self._ledger.remember(
            "`policies/`: the source holds no routes; the one written there refuses everyone, as an example of where "
            "they go"
        )
        return Route(
            id="nobody", source=self._root.source, host=PLACEHOLDER_HOST, action={"direct_response": {"status": 404}}
        )

    # --- authz.yaml ---------------------------------------------------------------------------------------------------

    def _all_guards(self) -> list[Guard]:
        return [*self._guards.values(), *([self._portal] if self._portal is not None else [])]

    def _pools(self) -> tuple[Pool, ...]:
        """Give one pool an issuer, with what all instances of the plugin accept together.

        Where instances accept different issuers, each route names its own beside (`_policy`).
        """
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
                issuers=tuple(dict.fromkeys((*_issuers(other), *_issuers(pool))))
                if other.issuers or pool.issuers
                else (),
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


def _match(matcher: Matcher) -> tuple[str, str] | None:
    if not matcher.path:
        return None
    if not matcher.is_regex:
        return "prefix", matcher.path
    return "regex", f"(?:{matcher.path}).*"  # Kong looks at the beginning alone, unless the pattern says `$`


def _pattern(matcher: Matcher) -> str:
    if matcher.is_regex:
        return f"(?:{matcher.path})"
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
