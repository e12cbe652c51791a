"""An import's policies, one file a host, and the tests beside them.

Callers whom no token of the pools can name, such as those of a foreign app client, have no tests: they are refused
before any rule is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from authz.errors import RequestError, TokenError
from authz.identity.cognito import UserPool
from authz.model import Allow, Deny, Principal, Request, http_status
from authz.node import Problems
from authz.policy.criterion import Facts
from authz.policy.decision import decide
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.policy.path import canonical_host, canonical_path
from authz.policy.routes import Route as PolicyRoute
from authz.workbench.callers import principal_of_claims
from authz.workbench.expectations import DEFAULT_NOW, DEFAULT_SOURCE_IP, read_expectations
from authz.workbench.importers.common import unique
from authz.workbench.importers.envoy_routes import host_and_port
from authz.workbench.importers.model import Caller, Import, Pool, Route
from authz.workbench.importers.yaml_text import flow_text, yaml_text
from authz.workbench.row_callers import judged_token

IMPORTED_MARK: Final = "# Imported from "
_NOBODY: Final = Caller("anonymous", None)


def policy_files(imported: Import) -> dict[str, str]:
    """Give the policies by their names, which start with policies/."""
    return {
        f"policies/{stem}.yaml": f"{IMPORTED_MARK}{imported.program}; IMPORT.md says what came from where.\n"
        + yaml_text([_written(route) for route in routes])
        for stem, routes in _by_file(imported).items()
    }


def policy_test_files(imported: Import, files: Mapping[str, str]) -> dict[str, str]:
    """Give the tests of these policies by their names. Raises LoadError when a policy does not load."""
    policies = parse_policies([(name, text.encode()) for name, text in files.items()], PolicyOptions())
    return {
        f"policies/{stem}_test.yaml": _tests(imported, routes, policies) for stem, routes in _by_file(imported).items()
    }


def _by_file(imported: Import) -> Mapping[str, Sequence[Route]]:
    groups: dict[str, list[Route]] = {}
    for route in imported.routes:
        groups.setdefault(_file_stem(route), []).append(route)
    return groups


def _file_stem(route: Route) -> str:
    """Give a host's file; all wildcard hosts share one, because their order counts."""
    if "*" in route.host:
        return "wildcard-hosts"
    name, port = host_and_port(route)
    stem = name if port is None else f"{name}-{port}"
    return f"{stem}-host" if stem.endswith("_test") else stem  # `…_test.yaml` is a test


def _written(route: Route) -> Mapping[str, Any]:
    matcher = {} if route.match is None else {route.match[0]: route.match[1]}
    return {"id": route.id, "from": f"{route.scheme}://{route.host}", **matcher, **route.policy}


# --- tests --------------------------------------------------------------------------------------------------------


def _tests(imported: Import, routes: Sequence[Route], policies: PolicySet) -> str:
    anybody = _anybody(imported)
    pools = [_user_pool(pool) for pool in imported.pools]
    principals: dict[str, Any] = {}
    rows = []
    for route in routes:
        for caller in (_NOBODY, anybody, *map(_as_in_a_token, route.callers)):
            asking = _asking(caller, principals, pools)
            if asking is not None:
                rows.append(_row(route, asking, policies))
    lines = "".join(f"  - {line}\n" for line in dict.fromkeys(map(flow_text, rows)))
    return (
        f"{IMPORTED_MARK}{imported.program}: whom it lets in, as far as its own words tell; the rest is what "
        f"the rules decide.\n" + yaml_text({"principals": principals}) + f"tests:\n{lines}"
    )


def _anybody(imported: Import) -> Caller:
    """Give a caller without any right; of which pool matters only where there are several."""
    pool = imported.pools[0]
    several = {"iss": (pool.issuers or (pool.issuer,))[0]} if len(imported.pools) > 1 else {}
    return Caller("somebody", dict(several))


def _as_in_a_token(caller: Caller) -> Caller:
    """Write claims that are always a text as one; rules see no difference between that and a list of one."""
    claims = {} if caller.claims is None else caller.claims
    texts = {name: value[0] for name in _TEXTS if isinstance(value := claims.get(name), list) and len(value) == 1}
    return caller._replace(claims={**claims, **texts}) if texts else caller


_TEXTS: Final = ("sub", "iss", "client_id", "aud", "token_use", "jti")


class _Asking(NamedTuple):
    """Who asks in a row, and whether the source lets them in (None: as the result decides)."""

    name: str
    principal: Principal | None
    allowed: bool | None


def _asking(caller: Caller, principals: dict[str, Any], pools: Sequence[UserPool]) -> _Asking | None:
    """Make a caller known to the file; None when no token of the pools holds these claims."""
    if caller.claims is None:
        return _Asking(caller.name, None, caller.allowed)
    try:
        judged_token(caller.name, caller.claims, DEFAULT_NOW, pools)
    except TokenError:
        return None
    name = _known_as(caller, principals)
    _, claims = judged_token(name, caller.claims, DEFAULT_NOW, pools)
    return _Asking(name, principal_of_claims(claims), caller.allowed)


def _user_pool(pool: Pool) -> UserPool:
    return UserPool(
        issuers=pool.issuers or (pool.issuer,),
        clients=None if "any" in pool.clients else frozenset(pool.clients),
        token_use=frozenset(pool.token_use),
        leeway=pool.leeway_seconds,
        trust_unverified_email=False,
        label=pool.issuer,
    )


def _known_as(caller: Caller, principals: dict[str, Any]) -> str:
    """Enter a caller among the file's principals, once for the same claims."""
    same = next((name for name, claims in principals.items() if claims == caller.claims), None)
    name = same or unique(caller.name, principals)
    principals[name] = dict(caller.claims or {})
    return name


def _row(route: Route, asking: _Asking, policies: PolicySet) -> Any:  # noqa: ANN401 - a list or a map
    asked = (
        f"{route.methods[0] if route.methods else 'GET'} {route.scheme}://{_sample_host(route)}{_sample_path(route)}"
    )
    judged = policies.routes.find_by_id(route.id)
    assert judged is not None  # noqa: S101 - every route was written with its id
    expect = _expected(asking, judged, asked)
    found = policies.routes.find(canonical_host(_sample_host(route)), canonical_path(_sample_path(route)))
    if found is judged:
        return [asking.name, asked, expect]
    return {"as": asking.name, "request": asked, "route_id": route.id, "expect": expect}  # as Envoy names it


def _sample_host(route: Route) -> str:
    return route.host.replace("*", "any")


def _sample_path(route: Route) -> str:
    kind, text = route.match or ("prefix", "/")
    if kind == "regex":
        return "/"
    try:
        return canonical_path(text)
    except RequestError:  # a prefix may end inside an escape or a segment
        return "/"


def _expected(asking: _Asking, route: PolicyRoute, asked: str) -> str:
    """Say what the source decides, else what the result does; the reason is the result's, if the outcomes agree."""
    decision = _decision(asking.principal, route, asked)
    if isinstance(decision, Allow):
        return "allow" if asking.allowed is not False else "deny"
    if asking.allowed:
        return "allow"
    return f"{http_status(decision.reason)} {decision.reason}"


def _decision(principal: Principal | None, route: PolicyRoute, asked: str) -> Allow | Deny:
    method, _, rest = asked.partition(" ")
    host, slash, path = rest.partition("://")[2].partition("/")
    request = Request(method=method, host=host, path=slash + path, headers={}, source_ip=DEFAULT_SOURCE_IP)
    return decide(Facts(request, canonical_path(request.path), principal, DEFAULT_NOW), route, None)


def count_rows(files: Mapping[str, str]) -> int:
    """Count the rows of all tests."""
    found = [
        read_expectations(text.encode(), name, Problems())
        for name, text in files.items()
        if name.endswith("_test.yaml")
    ]
    return sum(len(expectations.rows) for expectations in found if expectations is not None)
