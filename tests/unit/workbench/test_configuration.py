"""What the doctor sees of an Envoy configuration, wherever Envoy lets it be written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from authz.document import parse
from authz.node import Fields, Problems
from authz.workbench.doctor.configuration import Configuration, Manager, routes_of
from tests.support import broken_envoys
from tests.support.broken_envoys import FILTER_CONFIG, holding, in_composite, in_matcher

MANAGER = "x/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
GUARD = {"name": "guard", "typed_config": {"@type": "x/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"}}
LUA = {"name": "lua", "typed_config": broken_envoys.LUA}
OUT_OF_SIGHT = {"rds": {"route_config_name": "elsewhere"}}


def managers_of(fields: Any, *sections: Any) -> list[Manager]:
    """Read a connection manager of these fields as a running Envoy tells it, beside other sections of its dump."""
    network = {"name": "manager", "typed_config": {"@type": MANAGER, **fields}}
    listener = {"name": "l", "filter_chains": [{"filters": [network]}]}
    dump = {"configs": [{"static_listeners": [{"listener": listener}]}, *sections]}
    node = parse(json.dumps(dump).encode(), "dump.json", Problems())
    assert isinstance(node, Fields)
    return Configuration(node).managers


def table(host: str, **fields: Any) -> Any:
    return {"virtual_hosts": [{"name": host, **fields}]}


# --- filters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        pytest.param(LUA, [("lua", False)], id="one"),
        pytest.param({"name": "envoy.filters.http.router"}, [("router", False)], id="one that has a name alone"),
        pytest.param(in_matcher(LUA), [("lua", True)], id="one that a matcher may leave out"),
        pytest.param(
            in_composite(LUA),
            [("composite", True), ("composite", True), ("lua", True)],
            id="one that a matcher chooses, with the action that runs it",
        ),
        pytest.param(
            {"name": "chains", "typed_config": holding(LUA)},
            [("composite", False), ("lua", True)],
            id="one of a chain that is chosen by name",
        ),
        pytest.param(
            {"name": "own", "typed_config": {"@type": "x/acme.Own", "like": LUA["typed_config"]}},
            [("Own", False)],
            id="what any other holds is no filter",
        ),
    ],
)
def test_filters(written: Any, seen: list[tuple[str, bool]]) -> None:
    (manager,) = managers_of({"http_filters": [written]})
    assert [(one.family, one.sometimes) for one in manager.filters] == seen


@pytest.mark.parametrize(
    ("flag", "routes", "runs"),
    [
        pytest.param({}, {"route_config": table("a")}, True, id="enabled"),
        pytest.param({"disabled": True}, {"route_config": table("a")}, False, id="disabled"),
        pytest.param({"disabled": True}, OUT_OF_SIGHT, True, id="disabled, and the routes may enable it"),
        pytest.param(
            {"disabled": True},
            {"route_config": table("a", typed_per_filter_config={"lua": {"@type": FILTER_CONFIG}})},
            True,
            id="disabled, and a host enables it",
        ),
        pytest.param(
            {"disabled": True},
            {"route_config": table("a", typed_per_filter_config={"lua": {"@type": FILTER_CONFIG, "disabled": True}})},
            False,
            id="disabled twice",
        ),
    ],
)
def test_a_filter_that_never_runs_is_nobodys_neighbour(flag: Any, routes: Any, runs: bool) -> None:
    other = {**LUA, **flag}
    (manager,) = managers_of({"http_filters": [other, GUARD, other], **routes})
    for neighbours in (manager.forerunners, manager.followers):
        assert [one.family for one in neighbours] == ["lua"] * runs


# --- routes -------------------------------------------------------------------------------------------------------

KNOWN = {"dynamic_route_configs": [{"route_config": {"name": "known", **table("of the dump")}}]}
SCOPES = [{"name": "a", "route_configuration": table("a")}, {"name": "b", "route_configuration_name": "known"}]
SCOPED = {"dynamic_scoped_route_configs": [{"name": "s", "scoped_route_configs": SCOPES}]}


@pytest.mark.parametrize(
    ("fields", "hosts"),
    [
        pytest.param({"route_config": table("in place")}, [["in place"]], id="in place"),
        pytest.param({"rds": {"route_config_name": "known"}}, [["of the dump"]], id="by name"),
        pytest.param(OUT_OF_SIGHT, [[]], id="out of sight"),
        pytest.param(
            {"scoped_routes": {"scoped_route_configurations_list": {"scoped_route_configurations": SCOPES}}},
            [["a"], ["of the dump"]],
            id="of scopes in place",
        ),
        pytest.param({"scoped_routes": {"name": "s"}}, [["a"], ["of the dump"]], id="of scopes by name"),
        pytest.param({"scoped_routes": {"name": "other"}}, [[]], id="of scopes out of sight"),
    ],
)
def test_tables_of_routes(fields: Any, hosts: list[list[str]]) -> None:
    seen = managers_of(fields, KNOWN, SCOPED)
    assert [[host["name"].text for host in manager.virtual_hosts()] for manager in seen] == hosts


def leaf(kind: str, fields: Any) -> Any:
    return {"action": {"name": "x", "typed_config": {"@type": f"x/envoy.config.route.v3.{kind}", **fields}}}


def test_a_hosts_routes_may_stand_in_a_tree() -> None:
    tree = {
        "matcher_list": {"matchers": [{"predicate": {}, "on_match": leaf("Route", {"name": "b"})}]},
        "on_no_match": leaf("RouteList", {"routes": [{"name": "c"}, {"name": "d"}]}),
    }
    (manager,) = managers_of({"route_config": table("h", routes=[{"name": "a"}], matcher=tree)})
    (host,) = manager.virtual_hosts()
    assert [route["name"].text for route in routes_of(host)] == ["a", "b", "c", "d"]
