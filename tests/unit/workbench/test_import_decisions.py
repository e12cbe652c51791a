"""What an import decides is what its source decides, on every request of a generated table.

The expectations are computed here from the sources, by readers of their semantics that share nothing with the importer
(reference: Pomerium's config/policy.go and authorize/; Kong's documentation of the plugin and of its router).
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.workbench.importers import import_kong, import_pomerium
from tests.support.imported import Asked, Imported

CASES = Path(__file__).parents[2] / "cases" / "imports"
ANN = "0a1b2c3d-1111-4222-8333-444455556666"

PEOPLE: dict[str, dict[str, Any] | None] = {
    "anonymous": None,
    "somebody": {},
    "ann by id": {"sub": ANN},
    "ann by address": {"email": "ann@example.com", "email_verified": True},
    "ben by address": {"email": "ben@example.com", "email_verified": True},
    "a partner": {"email": "x@partner.example", "email_verified": True},
    "level 10": {"custom:level": "10"},
    "level 9,10": {"custom:level": "9,10"},
    "editor": {"realm": {"roles": ["editor"]}, "scope": "orders/read", "cognito:groups": ["staff"]},
    **{
        f"groups {' '.join(groups)}": {"cognito:groups": list(groups)}
        for count in (1, 2, 3)
        for groups in itertools.combinations(("admins", "devs", "staff", "interns", "guests"), count)
    },
    **{
        f"scopes {' '.join(scopes)}": {"scope": " ".join(scopes)}
        for count in (1, 2)
        for scopes in itertools.combinations(("orders/read", "orders/list", "orders/admin", "orders/all"), count)
    },
    **{
        f"everything but {missing}": {
            name: value
            for name, value in {
                "scope": "orders/read",
                "cognito:groups": ["admins"],
                "realm": {"roles": ["editor", "viewer"]},
            }.items()
            if name != missing
        }
        for missing in ("scope", "cognito:groups", "realm", "nothing")
    },
}


def differences(
    imported: Imported, table: Iterator[Asked], expected: Callable[[Asked, dict[str, Any] | None], str]
) -> list[str]:
    found = []
    for asked in table:
        for name, claims in PEOPLE.items():
            want, got = expected(asked, claims), imported.decide(asked, claims)
            if want != got:
                found.append(f"{name} {asked}: the source says {want}, the import {got}")
    return found


# --- Pomerium -------------------------------------------------------------------------------------------------------


def pomerium_source(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".env":
        pairs = dict(re.findall(r"^(?:export )?([A-Z_]+)=(.*)$", text, re.MULTILINE))
        return {"policy": yaml.safe_load(base64.b64decode(pairs["POLICY"])) if "POLICY" in pairs else []}
    loaded = yaml.safe_load(text)
    if isinstance(loaded, list):
        return {"routes": loaded}
    return yaml.safe_load(loaded["data"]["config.yaml"]) if loaded.get("kind") == "ConfigMap" else loaded


def listed(value: Any) -> list[Any]:
    return value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]


def claim(claims: Mapping[str, Any], name: str) -> list[Any]:
    return listed(claims[name]) if isinstance(claims.get(name), list) else [claims[name]] if name in claims else []


class Pomerium:
    """Pomerium's routes, read as Pomerium does."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        routes = [*(source.get("policy") or []), *(source.get("routes") or [])]
        self.routes = [route for route in routes if route["from"].startswith("https://")]

    def decide(self, asked: Asked, claims: dict[str, Any] | None) -> str:
        route = self.route(asked)
        if route is None:
            return "404"
        allow, deny, login = False, False, False
        for effect, operator, criteria in self.blocks(route):
            results = [self.criterion(name, data, asked, claims) for one in criteria for name, data in one.items()]
            if not results:
                continue
            inverts = operator in ("not", "nor")
            members = [(truth is not inverts, needs and claims is None) for truth, needs in results]
            truths = [truth for truth, _ in members]
            held = all(truths) if operator in ("and", "not") else any(truths)
            # A block's reasons are those of its members that agree with it.
            login |= any(asks for truth, asks in members if truth is held)
            allow |= held and effect == "allow"
            deny |= held and effect == "deny"
        return "401" if login else "allow" if allow and not deny else "403"

    def route(self, asked: Asked) -> Mapping[str, Any] | None:
        host, _, port = asked.host.partition(":")
        tiers = [
            [r for r in self.routes if r["from"] == f"https://{host}:{port}" and port],
            [r for r in self.routes if r["from"] == f"https://{host}"],
        ]
        for tier in tiers:
            if tier:
                return next((route for route in tier if self.path(route, asked.path)), None)
        if any(r["from"].removeprefix("https://").partition(":")[0] == host for r in self.routes):
            return None
        for route in self.routes:
            pattern = re.escape(route["from"].removeprefix("https://")).replace(r"\*", ".*")
            if "*" in route["from"] and re.fullmatch(pattern, host) and self.path(route, asked.path):
                return route
        return None

    def path(self, route: Mapping[str, Any], path: str) -> bool:
        if "regex" in route:
            return re.fullmatch(route["regex"], path) is not None
        return path == route["path"] if "path" in route else path.startswith(route.get("prefix", "/"))

    def blocks(self, route: Mapping[str, Any]) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
        keys: list[dict[str, Any]] = []
        keys += [{"accept": True}] if route.get("allow_public_unauthenticated_access") else []
        keys += [{"authenticated_user": True}] if route.get("allow_any_authenticated_user") else []
        keys += [{"domain": domain} for domain in listed(route.get("allowed_domains", []))]
        for name, values in route.get("allowed_idp_claims", {}).items():
            keys += [{f"claim/{name}": value} for value in listed(values)]
        for user in listed(route.get("allowed_users", [])):
            keys += [{"user": user}, {"email": user}]
        yield "allow", "or", keys
        for rules in listed(route.get("policy", [])):
            for effect, body in rules.items():
                for operator, criteria in body.items():
                    yield effect, operator, criteria

    def criterion(self, name: str, data: Any, asked: Asked, claims: dict[str, Any] | None) -> tuple[bool, bool]:
        """Give the truth, and whether it needs a session."""
        kind, _, key = name.partition("/")
        match kind:
            case "accept":
                return True, False
            case "http_method":
                return asked.method == data, False
            case "source_ip":
                return any(ip_address(asked.source_ip) in ip_network(net) for net in data), False
        if claims is None:
            return False, True
        email = claims.get("email", "")
        match kind:
            case "authenticated_user":
                return True, True
            case "claim" if isinstance(data, dict):
                return data["exclude"] not in claim(claims, key), True
            case "claim":
                return data in claim(claims, key), True
            case "user":
                return claims.get("sub", "somebody") == data, True
            case "email":
                return email == data, True
            case "domain":
                wanted = data["is"] if isinstance(data, dict) else data
                return email.partition("@")[2] == wanted, True
        raise AssertionError(name)


def pomerium_table(source: Mapping[str, Any]) -> Iterator[Asked]:
    hosts = {route["from"].removeprefix("https://").replace("*", "any") for route in Pomerium(source).routes}
    hosts |= {"app.example.com:9443", "app.example.com:1234", "x.y.example.com", "x.example.org", "unknown.test"}
    paths = {"/", "/admin", "/administrator", "/and", "/or", "/not", "/nor", "/nor/x", "/deny/x", "/office/",
             "/v1/first",             "/address/", "/v1/items", "/v2/items", "/v2/items/1", "/v1",
             "/shared/x"}  # fmt: skip
    for host, path in itertools.product(sorted(hosts), sorted(paths)):
        for method in ("GET", "DELETE"):
            yield Asked(host, path, method)
        yield Asked(host, path, "GET", "10.9.8.7")


@pytest.mark.parametrize("path", sorted((CASES / "pomerium").iterdir()), ids=lambda path: path.name)
def test_a_pomerium_import_decides_as_its_source(path: Path, tmp_path: Path) -> None:
    import_pomerium(path, tmp_path / "out")
    imported = Imported(tmp_path / "out")
    source = pomerium_source(path)
    pomerium = Pomerium(source)
    # Its example route for a source without routes is a host that nobody asks for.
    assert differences(imported, pomerium_table(source), pomerium.decide) == []


@pytest.mark.parametrize("path", sorted((CASES / "pomerium").iterdir()), ids=lambda path: path.name)
def test_the_policies_find_the_route_that_envoy_names(path: Path, tmp_path: Path) -> None:
    import_pomerium(path, tmp_path / "out")
    imported = Imported(tmp_path / "out")
    for asked in pomerium_table(pomerium_source(path)):
        for claims in ({"cognito:groups": ["admins"]}, {"cognito:groups": ["guests"]}, None):
            assert imported.decide(asked, claims) == imported.decide(asked, claims, by_envoy=False), asked


# --- Kong -----------------------------------------------------------------------------------------------------------


class Kong:
    """Kong's routes, read as Kong does: its router is `traditional_compatible`, and null is not there."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self.shared = source.get("_plugin_configs") or {}
        self.plugins = source.get("plugins") or []
        services = source["services"]
        self.routes = [(route, service) for service in services for route in service.get("routes") or []]
        self.routes += [
            (route, service)
            for route in source.get("routes") or []
            for service in services
            if service.get("id") == route["service"]["id"]
        ]
        self.routes = [pair for pair in self.routes if pair[1].get("enabled", True)]

    def decide(self, asked: Asked, claims: dict[str, Any] | None) -> str:
        found = sorted(
            (
                (self.rank(route, path), number, route, service)
                for number, (route, service) in enumerate(self.routes)
                if self.fits(route, asked)
                for path in route.get("paths") or [""]
                if self.path_fits(path, asked.path)
            ),
            key=lambda one: one[:2],
        )
        if not found:
            return "404"
        config = self.config(*found[0][2:])
        if config is None or config.get("anonymous"):
            return "allow"
        if claims is None:
            return "401"
        own = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
        if claims.get("iss", own) != config["issuer"]:
            return "403"  # the pool is a good one, and another route's
        kinds = (("scopes", "scope"), ("audience", "aud"), ("groups", "groups"), ("roles", "roles"))
        for kind, usual in kinds:
            items = config.get(f"{kind}_required")
            value: Any = claims
            for step in config.get(f"{kind}_claim") or [usual]:
                value = value.get(step, {}) if isinstance(value, dict) else {}
            words = value.split() if isinstance(value, str) else value or []
            if items and not any(set(item.split()) <= set(words) for item in items):
                return "403"
        return "allow"

    def fits(self, route: Mapping[str, Any], asked: Asked) -> bool:
        return (
            any(self.host_fits(host, asked.host) for host in route.get("hosts") or [asked.host])
            and asked.method in (route.get("methods") or [asked.method])
            and not route.get("headers")  # no request of the table has any
        )

    def host_fits(self, host: str, asked: str) -> bool:
        port = "" if ":" in host else "(:[0-9]+)?"
        return re.fullmatch(re.escape(host).replace(r"\*", ".+") + port, asked) is not None

    def path_fits(self, path: str, asked: str) -> bool:
        return re.match(path[1:], asked) is not None if path.startswith("~") else asked.startswith(path)

    def rank(self, route: Mapping[str, Any], path: str) -> tuple[int, ...]:
        kinds = sum(bool(route.get(kind)) for kind in ("hosts", "paths", "methods", "headers"))
        hosts = route.get("hosts") or ["*"]
        is_regex = path.startswith("~")
        priority = route.get("regex_priority", 0) if is_regex else 0
        length = 0 if is_regex else len(path)
        headers = len(route.get("headers") or ())
        return (-kinds, -all("*" not in host for host in hosts), -headers, -is_regex, -priority, -length)

    def config(self, route: Mapping[str, Any], service: Mapping[str, Any]) -> dict[str, Any] | None:
        def belongs(plugin: Mapping[str, Any], *there: tuple[str, Mapping[str, Any]]) -> bool:
            references = {kind: plugin.get(kind) for kind in ("service", "route") if plugin.get(kind)}
            return references.keys() == {kind for kind, _ in there} and all(
                references[kind] in (thing.get("name"), {"id": thing.get("id")}) for kind, thing in there
            )

        scopes = (
            [one for one in self.plugins if belongs(one, ("route", route), ("service", service))],
            route.get("plugins") or [],
            [one for one in self.plugins if belongs(one, ("route", route))],
            service.get("plugins") or [],
            [one for one in self.plugins if belongs(one, ("service", service))],
            [one for one in self.plugins if belongs(one)],
        )
        for plugin in (one for plugins in scopes for one in plugins):
            if plugin["name"] == "openid-connect" and plugin.get("enabled", True):
                return {**self.shared.get(plugin.get("_config"), {}), **(plugin.get("config") or {})}
        return None


def kong_table() -> Iterator[Asked]:
    hosts = ("api.example.com", "shop.example.com", "reports.example.com", "off.example.com", "app.example.com",
             "other.example.com", "inside.example.com", "outside.example.com", "elsewhere.test", "global.example.com",
             "shared.example.com", "loose.example.com", "a.shop.example.com", "a.shop.example.com:8443",
             "plain.example.org", "a.example.net", "regex.example.org")  # fmt: skip
    paths = ("/", "/scopes", "/groups/x", "/both", "/items", "/assets/a.css", "/loose", "/status", "/files",
             "/files/secret", "/files/secrets", "/files/12", "/files/12/edit", "/files/12/edit/x", "/free", "/admin",
             "/admin/long/x", "/v1", "/v2/users", "/v3", "/price$", "/price$/x", "/x/v1")  # fmt: skip
    for host, path, method in itertools.product(hosts, paths, ("GET", "POST", "DELETE")):
        yield Asked(host, path, method)


DECLARATIVE = ("required.yaml", "precedence.yaml", "hosts.yaml", "two-pools.json", "admin-api.yaml", "wildcards.yaml")


@pytest.mark.parametrize("name", DECLARATIVE)
def test_a_kong_import_decides_as_its_source(name: str, tmp_path: Path) -> None:
    path = CASES / "kong" / name
    import_kong(path, tmp_path / "out")
    kong = Kong(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert differences(Imported(tmp_path / "out"), kong_table(), kong.decide) == []


def test_a_kong_route_takes_the_tokens_of_its_own_pool_alone(tmp_path: Path) -> None:
    import_kong(CASES / "kong" / "two-pools.json", tmp_path / "out")
    imported = Imported(tmp_path / "out")
    partner = {"iss": "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Partners1", "scope": "partner/read"}
    assert imported.decide(Asked("outside.example.com"), partner) == "allow"
    assert imported.decide(Asked("inside.example.com"), partner) == "403"
    assert imported.decide(Asked("outside.example.com"), {"scope": "partner/read"}) == "403"


def test_a_kong_plugin_alone_guards_the_host_that_is_to_be_named(tmp_path: Path) -> None:
    import_kong(CASES / "kong" / "guide-plugin.json", tmp_path / "out")
    imported = Imported(tmp_path / "out")
    assert imported.decide(Asked("app.invalid", "/anything"), None) == "401"
    assert imported.decide(Asked("app.invalid", "/anything"), {}) == "allow"


def test_a_kong_portal_leaves_rules_that_refuse_everyone(tmp_path: Path) -> None:
    import_kong(CASES / "kong" / "guide-portal.json", tmp_path / "out")
    imported = Imported(tmp_path / "out")
    assert imported.decide(Asked("app.invalid"), {"email": "ann@example.com", "email_verified": True}) == "403"
