"""What stays true of every policy and every request.

The main property: the compiled policy and the interpreter of tests/support, which was written from the specification
pages alone, agree on outcome, reasons and route. `make test` compares some thousands of pairs; `AUTHZ_LONG=1` in the
environment compares more than 100,000 (`AUTHZ_LONG=1 pytest tests/property/test_policies.py -n0 --timeout=0`).

Vocabularies are small on purpose: random hosts and claims would never meet, and every answer would be 404.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authz.authorizer import find_route
from authz.document import parse
from authz.errors import LoadError, RequestError, TokenError
from authz.model import Allow, Principal, Reason, Request, http_status
from authz.node import Fields, Items, Node, Problems
from authz.policy.criteria import CRITERIA
from authz.policy.criterion import Facts
from authz.policy.decision import decide
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.policy.path import Host, canonical_host, canonical_path, check_method
from authz.policy.routes import Route, RouteIndex
from tests.cases.test_decisions import SITUATIONS, Group, Situation, read_request, signed_in
from tests.support.interpreter import Caller, Outcome, Visit, interpret
from tests.support.vocabulary import (
    CLAIMS,
    GROUPS,
    HOSTS,
    METHODS,
    PATHS,
    REGEXES,
    REQUEST_HOSTS,
    REQUEST_PATHS,
    TEXTS,
    VALUES,
    ZONES,
)

VISITS = 12  # how many requests each generated policy answers
LONG = "AUTHZ_LONG" in os.environ


def examples(short: int, long: int) -> settings:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=long if LONG else short, deadline=None, suppress_health_check=slow)


# --- What is generated: policies ---------------------------------------------------------------------------------

texts = st.sampled_from(TEXTS)
text_lists = st.lists(texts, max_size=3, unique=True)


def operators(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """String matchers: bare, or some operators."""
    some = st.lists(values, min_size=1, max_size=3)
    one = dict.fromkeys(("is", "not", "starts_with", "ends_with", "contains"), values)
    maps = st.fixed_dictionaries({}, optional=one | {"in": st.lists(values, max_size=2), "not_in": some})
    return values | maps.filter(bool)


def list_operators(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    maps = st.fixed_dictionaries({}, optional={"has": values, "is": values, "exclude": values}).filter(bool)
    return values | maps


bounds = st.fixed_dictionaries(
    {},
    optional={
        "after": st.sampled_from(["2026-03-29", "2026-03-29T01:30:00Z", "2026-10-25T03:00:00+02:00"]),
        "before": st.sampled_from(["2026-03-30", "2026-10-25T01:00:00Z", "2027-01-01"]),
    },
).filter(bool)
clocks = st.sampled_from(["02:00", "2:30 AM", "3AM", "12 PM", "17:00:30", "11:59:59.5 ".strip(), "12 am"])
clock_bounds = st.fixed_dictionaries({}, optional={"after": clocks, "before": clocks}).filter(bool)
zones = st.sampled_from(ZONES)
days = st.sampled_from(["*", "mon", "sat,sun", "mon-fri", "Fri-mon", "sunday, tue-WED"])
networks = st.sampled_from(["10.0.0.0/8", "10.1.2.3", "::/0", "0.0.0.0/0", "2001:db8::/32", "192.0.2.77/24"])

criteria = st.one_of(
    st.sampled_from([{"accept": True}, {"reject": True}, {"authenticated_user": True}, {"cors_preflight": True}]),
    st.builds(lambda name, data: {name: data}, st.sampled_from(["user", "email", "domain"]), operators(texts)),
    st.builds(lambda data: {"groups": data}, list_operators(st.sampled_from(GROUPS))),
    st.builds(
        lambda name, data: {f"claim/{name}": data}, st.sampled_from(CLAIMS), list_operators(st.sampled_from(VALUES))
    ),
    st.builds(lambda data: {"http_method": data}, operators(st.sampled_from(METHODS))),
    st.builds(lambda data: {"http_path": data}, operators(st.sampled_from(["/", "/a", "/café", "b", "%"]))),
    st.builds(lambda data: {"source_ip": data}, networks | st.lists(networks, max_size=2)),
    st.builds(
        lambda data, zone: {"date": data | zone}, bounds, st.just({}) | st.builds(lambda z: {"timezone": z}, zones)
    ),
    st.builds(lambda data: {"day_of_week": data}, days | st.fixed_dictionaries({"days": days, "timezone": zones})),
    st.builds(lambda data, zone: {"time_of_day": data | {"timezone": zone}}, clock_bounds, zones),
    st.builds(lambda data: {"scope": data}, operators(st.sampled_from(["orders/read", "orders/write", "orders/"]))),
    st.builds(lambda data: {"client_id": data}, operators(st.sampled_from(["web", "batch"]))),
    st.builds(lambda data: {"token_use": data}, operators(st.sampled_from(["access", "id"]))),
    st.builds(lambda data: {"issuer": data}, operators(st.sampled_from(["https://one", "https://two"]))),
    st.builds(lambda data: {"identity_provider": data}, operators(st.sampled_from(["Auth0", "Okta", "A"]))),
    st.builds(lambda limit: {"auth_age": {"max": limit}}, st.sampled_from(["30s", "15m", "24h"])),
)
some_criteria = st.lists(criteria, min_size=1, max_size=4)
bodies = st.dictionaries(
    st.sampled_from(["and", "or", "not", "nor"]), some_criteria | some_criteria | st.just([]), min_size=1, max_size=3
)
rules = st.dictionaries(st.sampled_from(["allow", "allow", "deny"]), bodies, min_size=1)
policies = rules | st.lists(rules, max_size=3)

claim_lists = st.dictionaries(st.sampled_from(CLAIMS), st.sampled_from(VALUES) | st.lists(st.sampled_from(VALUES)))
open_to = st.sampled_from([
    *[{}] * 6, {"allow_public_unauthenticated_access": True}, {"allow_any_authenticated_user": True},
])  # fmt: skip
named = st.sampled_from([{}, {}]) | st.fixed_dictionaries(
    {}, optional={"allowed_users": texts | text_lists, "allowed_domains": st.just("example.com")}
)
matchers = st.one_of(
    st.just({}),
    st.builds(lambda path: {"path": path}, st.sampled_from(PATHS)),
    st.builds(lambda path: {"prefix": path}, st.sampled_from(PATHS)),
    st.builds(lambda regex: {"regex": regex}, st.sampled_from(REGEXES)),
    st.builds(lambda path, regex: {"path": path, "regex": regex}, st.sampled_from(PATHS), st.sampled_from(REGEXES)),
)


@st.composite
def routes(draw: st.DrawFn) -> dict[str, Any]:
    return {"from": draw(st.sampled_from(HOSTS))} | draw(matchers) | draw(access())


@st.composite
def access(draw: st.DrawFn) -> dict[str, Any]:
    """Who may pass: plain keys and PPL, in every mixture that loads."""
    found = draw(open_to)
    if not found:
        found = draw(named)
    if draw(st.integers(0, 2)) == 0:
        found = found | {"cors_allow_preflight": draw(st.booleans())}
    if draw(st.integers(0, 2)) == 0:
        found = found | {"allowed_idp_claims": draw(claim_lists)}
    if draw(st.integers(0, 3)) > 0:
        found = found | {"policy": draw(policies)}
    return found


@st.composite
def route_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = draw(st.lists(routes(), min_size=1, max_size=5))
    for number, route in enumerate(found):
        if draw(st.integers(0, 4)) == 0:
            route["id"] = f"route-{number}"
    return found


# --- What is generated: requests ---------------------------------------------------------------------------------

moments = st.sampled_from([
    datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 0, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 0, tzinfo=UTC),
    datetime(2027, 1, 15, 8, 0, tzinfo=UTC),
]) | st.datetimes(datetime(2026, 1, 1), datetime(2027, 6, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - see timezones
    lambda moment: moment.replace(microsecond=0)
)  # fmt: skip
preflight = {"origin": "https://x.example", "access-control-request-method": "PUT"}
likely_visits = st.builds(
    Visit,
    method=st.sampled_from(METHODS),
    host=st.sampled_from(["a.example", "A.Example.", "a.example:8443", "b.example:443", "x.y.test", "c.example"]),
    path=st.sampled_from(["/", "/a", "/a", "/a/b?x=//", "/b", "/caf%c3%a9", "/%61"]),
    headers=st.sampled_from([{}, preflight, {"origin": ""}]),
    ip=st.sampled_from(["10.1.2.3", "192.0.2.1", "::ffff:10.0.0.1", "2001:db8::1", ""]),
    at=moments,
    route_id=st.none(),
)
odd_visits = st.builds(
    Visit,
    method=st.sampled_from([*METHODS, "get"]),
    host=st.sampled_from(REQUEST_HOSTS),
    path=st.sampled_from(REQUEST_PATHS),
    headers=st.just({}),
    ip=st.just("10.1.2.3"),
    at=moments,
    route_id=st.sampled_from([None, None, None, None, "route-0", "route-1", "nothing"]),
)
addresses = st.fixed_dictionaries(
    {},
    optional={
        "email": st.sampled_from([*TEXTS, "", 5]),
        "email_verified": st.sampled_from([True, True, False, "true"]),
    },
)
claims = st.dictionaries(
    st.sampled_from([*CLAIMS, "a"]),
    st.sampled_from([*VALUES, None])
    | st.lists(st.sampled_from([*VALUES, None]), max_size=3)
    | st.dictionaries(st.sampled_from(["b", "b.c", "c"]), st.sampled_from(VALUES) | st.just({"c": "x"}), max_size=2),
    max_size=4,
)
sign_ins = st.builds(
    Caller,
    subject=st.sampled_from(["alice", "bob", "alice@example.com"]),
    issuer=st.sampled_from(["https://one", "https://two"]),
    client_id=st.sampled_from(["web", "batch"]),
    token_use=st.sampled_from(["access", "id"]),
    claims=st.builds(
        lambda *parts: {name: value for part in parts for name, value in part.items()},
        claims,
        addresses,
        st.sampled_from([{}, {"cognito:groups": ["admins"]}, {"cognito:groups": ["developers", "one_Okta"]}]),
        st.sampled_from([{}, {"identities": "Auth0"}, {"identities": [{"providerName": "Auth0"}, {}, "Okta"]}]),
        st.sampled_from([{}, {"scope": "orders/read"}, {"scope": "orders/write orders/read"}, {"scope": ""}]),
        st.sampled_from([{}, {"auth_time": 1_800_000_000 - 60}, {"auth_time": "1800000000"}, {"auth_time": True}]),
    ),
)
callers = sign_ins | sign_ins | sign_ins | st.sampled_from([None, None, "token-expired", "keys-unavailable"])


def meetings_of(visits: st.SearchStrategy[Visit]) -> st.SearchStrategy[list[tuple[Visit, Caller | str | None]]]:
    return st.lists(st.tuples(visits, callers), min_size=VISITS, max_size=VISITS)


# --- The compiled policy, seen as the interpreter is ---------------------------------------------------------------


def compiled(found: list[dict[str, Any]]) -> PolicySet:
    return parse_policies([("policies/case.yaml", json.dumps(found).encode())], PolicyOptions())


def decided(policies: PolicySet, visit: Visit, caller: Caller | str | None) -> Outcome:
    """Take the compiled way: what the authorizer does, without tokens."""
    headers = {name: (value,) for name, value in visit.headers.items()}
    request = Request(visit.method, visit.host, visit.path, headers, visit.ip, visit.route_id)
    try:
        check_method(visit.method)
        host, path = canonical_host(visit.host), canonical_path(visit.path)
    except RequestError:
        return Outcome(400, ["request-malformed"], None)
    route = find_route(policies, request, host, path)
    if route is None:
        return Outcome(404, ["route-not-found"], None)
    facts = Facts(request, path, principal_of(caller), visit.at.timestamp())
    error = TokenError(Reason(caller), "not good") if isinstance(caller, str) else None
    decision = decide(facts, route, error)
    status = 200 if isinstance(decision, Allow) else http_status(decision.reason)
    return Outcome(status, [str(reason) for reason in decision.reasons], route.index)


def principal_of(caller: Caller | str | None) -> Principal | None:
    if not isinstance(caller, Caller):
        return None
    email = caller.claims.get("email")
    has_one = isinstance(email, str) and email != ""
    counts = has_one and caller.claims.get("email_verified") is True
    return Principal(*caller, email=email if counts else None, email_is_unverified=has_one and not counts)


# --- Properties ----------------------------------------------------------------------------------------------------


@examples(200, 5_000)
@given(access(), meetings_of(likely_visits))
def test_compiled_rules_and_interpreter_agree(
    keys: dict[str, Any], meetings: list[tuple[Visit, Caller | str | None]]
) -> None:
    found = [{"from": "https://*"} | keys]
    policies = compiled(found)
    for visit, caller in meetings:
        assert decided(policies, visit, caller) == interpret(found, visit, caller)


@examples(150, 5_000)
@given(route_lists(), meetings_of(likely_visits | odd_visits))
def test_compiled_routes_and_interpreter_agree(
    found: list[dict[str, Any]], meetings: list[tuple[Visit, Caller | str | None]]
) -> None:
    policies = compiled(found)
    for visit, caller in meetings:
        assert decided(policies, visit, caller) == interpret(found, visit, caller)


def plain(node: Node) -> Any:
    match node:
        case Fields():
            return {key.value: plain(value) for key, value in node.entries}
        case Items():
            return [plain(item) for item in node]
        case _:
            return node.text if isinstance(node.value, float) and ":" in node.text else node.value


def understood(group: Group, situation: Situation) -> bool:
    """Tell whether the interpreter knows all of it: no certificates, no settings."""
    return not group.options and "certificate" not in group.policies


@pytest.mark.parametrize(
    ("group", "situation"), [case for case in SITUATIONS if understood(case.values[0], case.values[1])]
)
def test_the_interpreter_agrees_with_the_tables(group: Group, situation: Situation) -> None:
    """The other direction: what people wrote down holds the interpreter."""
    document = parse(group.policies.encode(), "case.yaml", Problems())
    assert document is not None
    content = plain(document)
    found = content.get("policy", []) + content.get("routes", []) if isinstance(content, dict) else content
    request, at = read_request(situation.request)
    headers = {name: value for name, (value,) in request.headers.items()}
    moment = datetime.fromtimestamp(0, UTC) + timedelta(seconds=at)
    visit = Visit(request.method, request.host, request.path, headers, request.source_ip, moment, request.route_id)

    outcome = interpret(found, visit, caller_of(group, situation.caller))

    answer = "allow" if outcome.status == 200 else str(outcome.status)
    assert (answer, tuple(outcome.reasons)) == (situation.answer, situation.reasons)


def caller_of(group: Group, name: str) -> Caller | str | None:
    if name == "-":
        return None
    if name.startswith("!"):
        return name[1:]
    principal = signed_in(group, name)
    claims = json.loads(json.dumps(principal.claims))
    return Caller(principal.subject, principal.issuer, principal.client_id, principal.token_use, claims)


@examples(120, 5_000)
@given(access(), some_criteria, st.sampled_from(["and", "or", "not", "nor"]), meetings_of(likely_visits))
def test_one_more_deny_rule_never_turns_a_deny_into_an_allow(
    keys: dict[str, Any],
    denied: list[dict[str, Any]],
    operator: str,
    meetings: list[tuple[Visit, Caller | str | None]],
) -> None:
    stricter = keys | {"policy": [*listed(keys.get("policy", [])), {"deny": {operator: denied}}]}
    before, after = compiled([{"from": "https://*"} | keys]), compiled([{"from": "https://*"} | stricter])
    for visit, caller in meetings:
        if decided(after, visit, caller).status == 200:
            assert decided(before, visit, caller).status == 200


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def loads_or_says_why(data: bytes) -> None:
    try:
        loaded = bool(parse_policies([("policies/case.yaml", data)], PolicyOptions()).routes.routes)
    except LoadError as error:
        loaded = bool(error.problems) and all(min(found.source[1:]) >= 1 for found in error.problems)
    assert loaded


YAML_PIECES = [
    "- ",
    "from: ",
    "https://a.example",
    "\n",
    "  ",
    "policy:",
    "allow: ",
    "{",
    "}",
    "[",
    "]",
    "and: ",
    "or: ",
]
YAML_PIECES += [
    "*a",
    "&a ",
    "!!set ",
    "!!binary ",
    "'",
    '"',
    "|\n",
    "#",
    "---\n",
    "...",
    "%YAML 1.1\n",
    "? ",
    ": ",
    "~",
    "<<: ",
]
YAML_PIECES += [
    "date: ",
    "after: ",
    "99999999999999999999",
    "-1e999",
    ".nan",
    "0x",
    "auth_age: ",
    "max: ",
    "9" * 20 + "h",
]
YAML_PIECES += [
    "source_ip: ",
    "regex: ",
    "(",
    "time_of_day: ",
    "timezone: ",
    "..",
    "\x00",
    "\ud800",
    "\ufeff",
    "\x85",
    "\t",
]


@examples(400, 10_000)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_policy_set_or_say_why_not(data: bytes) -> None:
    loads_or_says_why(data)


@examples(600, 20_000)
@given(st.lists(st.sampled_from(YAML_PIECES), max_size=40))
def test_any_pieces_of_a_policy_are_a_policy_set_or_say_why_not(pieces: list[str]) -> None:
    loads_or_says_why("".join(pieces).encode("utf-8", "surrogatepass"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | texts,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8) | texts, children, max_size=3)
    ),
    max_leaves=8,
)
known_words = st.sampled_from([*CRITERIA, "claim/x", "after", "before", "timezone", "days", "max", "is", "in", "has"])


@examples(300, 10_000)
@given(
    known_words,
    st.dictionaries(known_words, anything, max_size=3) | anything,
    st.sampled_from(["allow", "deny", "and"]),
)
def test_a_criterion_with_any_data_is_a_policy_set_or_says_why_not(name: str, data: Any, effect: str) -> None:
    policy = {effect: {"or": [{name: data}]}}
    loads_or_says_why(json.dumps([{"from": "https://a.example", "policy": policy}]).encode())


@examples(300, 10_000)
@given(
    st.sampled_from(["from", "prefix", "path", "regex", "id", "policy", "allowed_users", "allowed_idp_claims"]),
    anything,
)
def test_a_route_key_with_any_data_is_a_policy_set_or_says_why_not(key: str, data: Any) -> None:
    loads_or_says_why(json.dumps([{"from": "https://a.example", key: data}]).encode())


class Wanted(NamedTuple):
    """A host and path to look for."""

    host: Host
    path: str


bare_routes = st.builds(lambda host, matcher: {"from": host} | matcher, st.sampled_from(HOSTS), matchers)
request_hosts = st.sampled_from(["a.example", "b.example", "c.example", "x.a.example"])
wanted = st.builds(
    Wanted,
    st.builds(Host, request_hosts, st.sampled_from([None, 443, 8443])),
    st.lists(st.sampled_from(["/a", "/ab", "/b", "/"]), min_size=1, max_size=3).map("".join),
)


@examples(300, 10_000)
@given(st.lists(bare_routes, min_size=1, max_size=12), st.lists(wanted, min_size=8, max_size=8))
def test_the_index_of_routes_agrees_with_a_plain_loop(found: list[dict[str, Any]], looked_for: list[Wanted]) -> None:
    index = compiled(found).routes
    for host, path in looked_for:
        assert index.find(host, path) is first_of(index, host, path)


def first_of(index: RouteIndex, host: Host, path: str) -> Route | None:
    exact = [route for route in index.routes if route.host.pattern is None and route.host.name == host.name]
    if exact:
        on_port = [route for route in exact if route.host.port is not None and route.host.port == host.port]
        candidates = on_port or [route for route in exact if route.host.port is None]
    else:
        candidates = [route for route in index.routes if route.host.pattern is not None and route.host.matches(host)]
    return next((route for route in candidates if route.path.matches(path)), None)


PATH_PIECES = [
    "/",
    "a",
    ".",
    "..",
    "%",
    "2",
    "e",
    "E",
    "F",
    "%2f",
    "%41",
    "%7e",
    "%25",
    "%C3%A9",
    ";",
    "?",
    "#",
    "\\",
    "é",
    " ",
]


@examples(1_000, 50_000)
@given(st.lists(st.sampled_from(PATH_PIECES), max_size=10).map("".join) | st.text(max_size=20), st.booleans())
def test_the_canonical_form_of_a_canonical_path_is_itself(tail: str, allow_parameters: bool) -> None:
    try:
        once = canonical_path(f"/{tail}", allow_parameters=allow_parameters)
    except RequestError:
        return
    assert canonical_path(once, allow_parameters=allow_parameters) == once
    assert canonical_path(once) == once  # parameters are gone


@examples(500, 20_000)
@given(
    st.lists(st.sampled_from(["a", ".", ":", "8", "[", "::1", "]", "@", ",", "-", "A", "é", " "]), max_size=8).map(
        "".join
    )
)
def test_the_canonical_form_of_a_canonical_host_is_itself(raw: str) -> None:
    try:
        host = canonical_host(raw)
    except RequestError:
        return
    assert canonical_host(host.name if host.port is None else f"{host.name}:{host.port}") == host
