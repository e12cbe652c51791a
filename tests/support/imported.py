"""The result of an import, asked as a stand would be: Envoy's half chooses the route, the policies' half decides.

The matching below reads the written envoy.yaml with nothing of the importer: hosts, paths and header conditions as
Envoy's documentation of `VirtualHost.domains` and `RouteMatch` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from authz.model import Deny, Json, Principal, Request, http_status
from authz.policy.criterion import Facts
from authz.policy.decision import decide
from authz.policy.files import read_files
from authz.policy.parser import PolicyOptions, parse_policies
from authz.policy.path import canonical_host, canonical_path
from authz.settings import load_settings

NOW = 1_800_000_000
OUTCOMES = {401: "401", 403: "403"}


class Asked(NamedTuple):
    """One request of the generated table."""

    host: str
    path: str = "/"
    method: str = "GET"
    source_ip: str = "192.0.2.1"


class Imported:
    """A folder that an import wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = load_settings(folder / "authz.yaml", environ={}, overrides={})
        self.policies = parse_policies(read_files(self.settings.policies).files, PolicyOptions())
        self.envoy: Any = yaml.safe_load((folder / "envoy.yaml").read_text(encoding="utf-8"))
        self.report = (folder / "IMPORT.md").read_text(encoding="utf-8")

    @property
    def manager(self) -> Any:
        """The connection manager of the listener for requests."""
        listener = self.envoy["static_resources"]["listeners"][0]
        return listener["filter_chains"][0]["filters"][0]["typed_config"]

    def envoy_route(self, asked: Asked) -> str | None:
        """Give the id of the route that Envoy chooses; None when it has none."""
        for match, names in self._routes(asked.host):
            if _matches(match, asked):
                return (
                    names.get("envoy.filters.http.ext_authz", {})
                    .get("check_settings", {})
                    .get("context_extensions", {})
                    .get("route", "sign-in")
                )
        return None

    def _routes(self, host: str) -> list[tuple[Any, Mapping[str, Any]]]:
        hosts = self.manager["route_config"]["virtual_hosts"]
        exact = [one for one in hosts if host in one["domains"]]
        by_port = [one for one in hosts if f"{host.partition(':')[0]}:*" in one["domains"] and ":" in host]
        rest = [one for one in hosts if one["domains"] == ["*"]]
        chosen = next(iter([*exact, *by_port, *rest]), None)
        return [] if chosen is None else [(one["match"], one["typed_per_filter_config"]) for one in chosen["routes"]]

    def decide(self, asked: Asked, claims: Mapping[str, Json] | None, *, by_envoy: bool = True) -> str:
        """Give allow, 401, 403 or 404; `by_envoy`: for the route that Envoy names."""
        if by_envoy:
            route_id = self.envoy_route(asked)
            route = None if route_id is None else self.policies.routes.find_by_id(route_id)
        else:
            route = self.policies.routes.find(canonical_host(asked.host), canonical_path(asked.path))
        if route is None:
            return "404"
        request = Request(asked.method, asked.host, asked.path, {}, asked.source_ip)
        decision = decide(Facts(request, canonical_path(asked.path), principal(claims, self), NOW), route)
        return str(http_status(decision.reason)) if isinstance(decision, Deny) else "allow"


def principal(claims: Mapping[str, Json] | None, imported: Imported) -> Principal | None:
    """Make the caller as verification would."""
    if claims is None:
        return None
    pool = imported.settings.pools[0].pool
    signed = {"sub": "somebody", "iss": pool.issuers[0], "auth_time": NOW - 60, **claims}
    email = signed.get("email")
    counts = isinstance(email, str) and signed.get("email_verified") is True
    return Principal(
        subject=str(signed["sub"]),
        issuer=str(signed["iss"]),
        client_id="client",
        token_use="access",
        claims=signed,
        email=str(email) if counts else None,
        email_is_unverified=email is not None and not counts,
    )


def _matches(match: Mapping[str, Any], asked: Asked) -> bool:
    path = asked.path.partition("?")[0]
    fits = (
        ("prefix" in match and path.startswith(match["prefix"]))
        or ("path" in match and path == match["path"])
        or ("safe_regex" in match and re.fullmatch(match["safe_regex"]["regex"], path) is not None)
    )
    facts = {":authority": asked.host, ":method": asked.method}
    return fits and all(
        re.fullmatch(header["string_match"]["safe_regex"]["regex"], facts.get(header["name"], "")) is not None
        for header in match.get("headers", [])
    )
