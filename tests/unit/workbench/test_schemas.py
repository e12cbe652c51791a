"""The JSON Schemas, held against the parsers: on samples, on every error case, and on samples with one part broken."""

from __future__ import annotations

import atexit
import copy
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator

from authz.document import parse
from authz.errors import LoadError
from authz.node import Fields, Items, Node, Problems, Scalar
from authz.policy.criteria import CRITERIA
from authz.policy.parser import PolicyOptions, parse_policies
from authz.policy.route_reader import _ROUTE_KEYS, ENVOY_KEYS
from authz.settings import load_settings
from authz.settings.loading import _KEYS
from authz.settings.pools import _POOL_KEYS
from authz.workbench.expectations import FILE_KEYS, ROW_KEYS, read_expectations
from authz.workbench.schemas import SCHEMAS, schema
from tests.cases.test_policy_errors import CASES as POLICY_ERRORS
from tests.support.authority import Authority
from tests.unit import test_settings
from tests.unit.policy import test_advice
from tests.unit.workbench import test_expectations

ROOT: Final = Path(__file__).parents[3]
POLICIES: Final = sorted(path for path in (ROOT / "policies").glob("*.yaml") if not path.stem.endswith("_test"))
TESTS: Final = sorted((ROOT / "policies").glob("*_test.yaml"))
DECISIONS: Final = sorted((ROOT / "tests" / "cases" / "decisions").glob("*.yaml"))
CERTIFICATE: Final = ROOT / "tests" / "cases" / "certificates" / "authority.pem"
FOLDER: Final = tempfile.TemporaryDirectory()  # keys are made, not kept
atexit.register(FOLDER.cleanup)
PAIR: Final = Authority(Path(FOLDER.name)).issue("server")

LARGE_CONFIG: Final = f"""\
listen: unix:///run/authz/authz.sock
workers: 1
admin: off
policies: policies/
cognito:
  - user_pool: eu-west-1_AbCdEfGhI
    clients: [304a12ktcc5djt9d7enj6dsjkg, '${{CLIENT}}']
    token_use: [access, id]
    leeway: 30s
    trust_unverified_email: ${{TRUST}}
  - issuers: https://issuer.example
    jwks_uri: file:///keys.json
    clients: any
    token_use: both
tokens:
  - header: authorization
  - cookie: BearerToken
enrich_from: {{header: x-auth-id-token}}
hide_credentials: true
identity_headers:
  x-auth-subject: sub
  x-auth-username: [cognito:username, username]
pass_identity_headers: true
jwks: {{refresh: 15m, cooldown: 30s, timeout: 2s500ms, max_stale: 1h30m, cache_dir: null}}
log: {{level: info, format: json, decisions: all, explain_values: false}}
tls:
  certificate: {PAIR.certificate}
  key: {PAIR.key}
  client_ca: {CERTIFICATE}
  allowed_sans: [envoy.internal, '${{CLIENT}}']
claims:
  custom:groups: {{split: "[,]"}}
  scope: {{split: " "}}
  name: {{alias: [cognito:username, username]}}
allow_path_parameters: false
require_end: false
show_error_details: false
denied_redirect: {{401: 'https://app.example.com/sign-in?return={{url}}', '503': '/later.html', 403: 'https://${{CLIENT}}/why'}}
denied_pages: pages/
client_ip_header: x-envoy-external-address
client_certificate_ca: {CERTIFICATE}
max_header_bytes: 4096
revocations: revocations/
"""
INLINE_CONFIG: Final = """\
cognito: [{user_pool: 'https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI', clients: any, token_use: id}]
jwt_claims_headers: email, sub
pass_identity_headers: true
routes:
  - {from: https://app.example.com, to: http://upstream, allow_any_authenticated_user: true}
"""
LARGE_POLICY: Final = """\
routes:
  - from: https://app.example.com
    prefix: /a
    id: everything
    to: http://upstream
    allow_any_authenticated_user: false
    allowed_users: [a@example.com]
    allowed_domains: example.com
    allowed_idp_claims: {cognito:groups: [admins, 7, true], level: 3}
    pass_identity_headers: false
    show_error_details: true
    explanation: For admins.
    remediation: |
      Ask Ann
      or Bob.
    denied_redirect: {403: 'http://app.localhost:8080/why#{url}'}
    policy:
      - explanation: For staff.
        allow:
          and:
            - claim/custom:tenant: {has: acme, exclude: 5}
            - groups: staff
            - email: {ends_with: '@example.com', not_in: [x@example.com]}
            - user: {in: [a, b], not: c, starts_with: d, contains: e, is: f}
          or:
            - accept:
            - authenticated_user: true
            - source_ip: [10.0.0.0/8, 192.0.2.1]
            - date: {after: 2026-01-31, before: 2026-02-01T00:00:00Z, timezone: Europe/Berlin}
            - day_of_week: mon-fri
            - day_of_week: {days: 'sat, sun', timezone: UTC}
            - time_of_day: {timezone: UTC, after: '08:00', before: 5:30 PM}
            - auth_age: {max: 15m}
            - client_certificate: {san_dns: a.example.com}
        deny:
          nor: [{http_method: GET}]
          not: [{http_path: {starts_with: /a}}]
"""
LARGE_TEST: Final = """\
now: 2026-01-31T12:00:00Z
policies: [orders.yaml]
trust_unverified_email: true
principals:
  alice: {cognito:groups: [admins], email: a@example.com, exp: 2026-01-31T13:00:00Z, token_use: access, nested: {a: 1}}
tests:
  - [alice, GET https://app.example.com/, allow]
  - [anonymous, POST https://app.example.com/, 401 user-unauthenticated]
  - as: alice
    request: GET https://app.example.com/
    headers: {origin: https://spa.example.com, x-n: [1, b]}
    source_ip: 10.0.0.1
    now: 2026-02-01T03:00:00+01:00
    route_id: x
    token_error: token-expired
    expect: 403
    name: a sentence
  - {request: GET https://app.example.com/, expect: allow claim-ok, route: x, set: {x-a: b}, removed: [x-b]}
"""


# --- reading ----------------------------------------------------------------------------------------------------


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schema(name))


def accepts(name: str, value: object) -> bool:
    return bool(validator(name).is_valid(value))


def plain(node: Node) -> Any:
    match node:
        case Fields():
            return {key.value: plain(value) for key, value in node.entries}
        case Items():
            return [plain(item) for item in node]
        case Scalar():
            return node.value


def value_of(data: bytes) -> Any:
    """Read a document as editors do; None when it is no YAML of ours, so that no schema sees it."""
    problems = Problems()
    node = parse(data, "file", problems)
    return None if node is None or problems.errors else plain(node)


# --- the schemas themselves -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert json.loads(json.dumps(schema(name))) == schema(name)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_is_described_and_no_other_is_let_in(name: str) -> None:
    for part in maps_of(schema(name)):
        open_ended = part["properties"].keys() >= {"sub", "aud"}  # claims: whatever a token may hold
        assert part.get("additionalProperties", True) is open_ended
        for key, value in part["properties"].items():
            assert value.get("description"), key


def maps_of(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, Mapping):
        if isinstance(value.get("properties"), Mapping):
            yield dict(value)
        for inner in value.values():
            yield from maps_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from maps_of(inner)


def test_the_schemas_know_the_keys_that_the_parsers_know() -> None:
    policies, config, tests = (schema(name) for name in ("policies", "config", "tests"))
    assert set(policies["$defs"]["route"]["properties"]) == {*_ROUTE_KEYS, *ENVOY_KEYS}
    assert {*policies["$defs"]["criterion"]["properties"], "claim"} == set(CRITERIA)
    assert set(config["properties"]) == set(_KEYS)
    assert set(config["$defs"]["pool"]["properties"]) == set(_POOL_KEYS)
    assert set(tests["properties"]) == set(FILE_KEYS)
    assert set(tests["$defs"]["row"]["anyOf"][1]["properties"]) == set(ROW_KEYS)


# --- what loads, the schemas take -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_sample_policies_fit(path: Path) -> None:
    validator("policies").validate(value_of(path.read_bytes()))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_sample_policy_tests_fit(path: Path) -> None:
    validator("tests").validate(value_of(path.read_bytes()))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_the_policies_of_the_conformance_suite_fit(path: Path) -> None:
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        written = group["policies"]
        validator("policies").validate(value_of(written.encode()) if isinstance(written, str) else written)


def test_policies_with_warnings_fit() -> None:
    for case in test_advice.cases():
        validator("policies").validate(value_of(case.values[0].encode()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", [test_settings.VALID, LARGE_CONFIG, INLINE_CONFIG], ids=["least", "large", "inline"])
def test_configurations_fit(text: str, tmp_path: Path) -> None:
    assert refusals_of_config(text, tmp_path) == []
    validator("config").validate(value_of(text.encode()))


def test_a_policy_with_everything_fits() -> None:
    assert refusals_of_policies(LARGE_POLICY) == []
    validator("policies").validate(value_of(LARGE_POLICY.encode()))


def test_a_policy_test_with_everything_fits() -> None:
    assert refusals_of_tests(LARGE_TEST) == []
    validator("tests").validate(value_of(LARGE_TEST.encode()))


@pytest.mark.parametrize(
    ("request_line", "loads"),
    [
        ("GET a.example/x", True),
        ("GET  HTTPS://a.example/x", True),
        ("GET a.example/?u=https://b.example", False),
        ("GET ftp://a.example/", False),
        ("GET https://", False),
        ("GET ", False),
        ("GET", False),
    ],
)
def test_a_requests_url_is_written_as_the_parser_takes_it(request_line: str, loads: bool) -> None:
    text = f"principals: {{alice: {{}}}}\ntests:\n  - [alice, '{request_line}', allow]\n"
    assert (refusals_of_tests(text) == []) is loads
    assert accepts("tests", value_of(text.encode())) is loads


@pytest.mark.parametrize(
    ("uri", "loads"),
    [
        ("HTTPS://X.example", True),
        ("Http://127.0.0.1/keys", True),
        ("FILE:///keys.json", True),
        ("file:/keys.json", True),
        ("file://keys.json", False),
        ("https:/x.example", False),
        ("ftp://x.example", False),
    ],
)
def test_the_uri_of_keys_is_written_as_the_parser_takes_it(uri: str, loads: bool, tmp_path: Path) -> None:
    pool = f"{{user_pool: eu-west-1_AbCdEfGhI, jwks_uri: '{uri}', clients: [c], token_use: [access]}}"
    text = f"policies: policies\ncognito: [{pool}]\n"
    assert (refusals_of_config(text, tmp_path) == []) is loads
    assert accepts("config", value_of(text.encode())) is loads


# --- what does not load, the schemas refuse, if it is a matter of structure ---------------------------------------

BEYOND_POLICIES: Final = {
    "not in the form that paths": "a URL's parts",
    "would be refused itself": "a URL's parts",
    "holds nothing": "an empty file is no value",
    "no route in the whole set": "it is about all files together",
    "which `require_end` demands": "it is about text that is no YAML value",
    "is no host name": "host names have a grammar of their own",
    "no request can match": "paths have a normal form",
    "not an RE2 pattern": "patterns have a grammar of their own",
    "is already used at": "it is about two routes",
    "which lets in more": "it is about two keys",
    "expected a number that is finite": "JSON has no such number",
    "expected an address or a network": "addresses have a grammar of their own",
    "more than all of IPv4": "addresses have a grammar of their own",
    "expected ISO 8601": "not every day is in the calendar",
    "unknown time zone": "the zones are a database",
    "expected a time such as": "not every number is an hour",
    "expected `*`, days": "days in words are the parser's",
    "found text `0s`": "a duration of nothing is written like any other",
    "expected the SHA-256": "hashes have forms of their own",
    "found blanks only": "blanks are text",
    "found a control character": "texts have a grammar of their own",
    "bytes in a page": "texts have bounds in bytes",
    "has {url} before its query": "a URL's parts",
    "that is not {url}": "a URL's parts",
    "holds a user name": "a URL's parts",
    "has no host name": "a URL's parts",
    "is plain http to another machine": "a URL's parts",
}
BEYOND_CONFIG: Final = {
    "is no region": "an emulator's pool may be called almost anything",
    "listen: found text": "ports and paths have bounds",
    "the same address as": "it is about two settings",
    "would listen on port": "it is about two settings",
    "`revocations` looks at": "it is about two settings",
    "found `1.0` (a number)": "JSON has one kind of number",
    "expected a pool id": "a URL's parts",
    "would be fetched from": "a URL's parts",
    "which is no issuer": "a URL's parts",
    "jwks_uri: found": "a URL's parts",
    "beside client ids": "it is about two ids",
    "expected at most": "durations have bounds",
    "expected at least": "durations have bounds",
    "expected more than `0s`": "durations have bounds",
    "shorter than `refresh`": "it is about two settings",
    "is there twice": "it is about two entries",
    "is an alias too": "it is about two entries",
    "its own name alone": "it is about a key and its value",
    "belongs to": "it is about two entries",
    "the environment variable": "it is about the environment",
    "has no template": "it is about files",
    "that is not {url}": "a URL's parts",
    "starts with `//`": "it is about the environment",
    "found text `word`": "it is about the environment",
    "found empty text": "it is about the environment",
    "found text `9999999": "it is about the environment",
    "found text `${WORD}`": "what a dollar sign becomes is not seen",
    "control characters": "the files' names have a grammar of their own",
    "refused, because": "some headers are somebody else's",
    "the same header as": "it is about two entries",
    "is not a possible header name": "a text of several names",
    "means the same": "it is about two settings",
    "cannot be read": "it is about files",
    "holds no usable certificate": "it is about files",
    "is an identity header too": "it is about two settings",
    "is in `tokens` too": "it is about two settings",
    "no user pool accepts them": "it is about two settings",
    "holds many values": "one header is not like others",
    "missing: write": "an empty file is no value",
}
BEYOND_TESTS: Final = {
    "holds nothing": "an empty file is no value",
    "has no `client_id`": "it is about two claims",
    "found `.inf`": "JSON has no such number",
    "unknown principal": "it is about two places",
    "unknown word": "expectations have a grammar of their own",
    "`expect`": "expectations have a grammar of their own",
    "expected an IP address": "addresses have a grammar of their own",
    "expected a time with its offset": "not every day is in the calendar",
    "`set` and `removed`": "it is about two keys",
}


def check_refused(name: str, cases: Iterator[tuple[str, Sequence[bytes], str]], beyond: Mapping[str, str]) -> None:
    """Check that each case is refused by the schema, or that each of its messages is of a kind listed as beyond it."""
    used = set()
    missed = []
    for title, files, messages in cases:
        values = [value_of(data) for data in files]
        if not all(value is None or accepts(name, value) for value in values):
            continue
        if any(is_no_yaml(data) for data in files):
            continue
        for message in messages.splitlines():
            kinds = {kind for kind in beyond if kind in message}
            used |= kinds
            if not kinds and ": note: " not in message:
                missed.append(f"{title}: {message}")
    assert missed == []
    assert set(beyond) - used == set(), "these kinds are seen by the schema now: strike them off"


def is_no_yaml(data: bytes) -> bool:
    problems = Problems()
    parse(data, "file", problems)
    return bool(problems.errors)


def test_broken_policies_are_refused() -> None:
    cases = ((case.id, [data for _, data in case.values[0].files], case.values[0].message) for case in POLICY_ERRORS)  # type: ignore[attr-defined]
    check_refused("policies", cases, BEYOND_POLICIES)


def test_broken_configurations_are_refused() -> None:
    cases = ((case.id, [case.values[0].encode()], case.values[1]) for case in test_settings.cases())  # type: ignore[attr-defined]
    check_refused("config", cases, BEYOND_CONFIG)


def test_broken_policy_tests_are_refused() -> None:
    files = test_expectations.test_a_wrong_file_says_where_and_what.pytestmark[0].args[1]
    rows = test_expectations.test_a_wrong_row_says_where_and_what.pytestmark[0].args[1]
    cases = [(text, [text.encode()], problem) for text, problem in files]
    start = "principals: {alice: {}}\ntests:\n  - "
    cases += [(line, [f"{start}{line}\n".encode()], problem) for line, problem in rows]
    check_refused("tests", iter(cases), BEYOND_TESTS)


# --- what the schemas refuse does not load ------------------------------------------------------------------------


def refusals_of_policies(text: str) -> list[str]:
    try:
        parse_policies([("p.yaml", text.encode())], PolicyOptions())
    except LoadError as error:
        return [problem.message for problem in error.problems]
    return []


def refusals_of_tests(text: str) -> list[str]:
    problems = Problems()
    read_expectations(text.encode(), "p_test.yaml", problems)
    return [problem.message for problem in problems.errors]


def refusals_of_config(text: str, folder: Path) -> list[str]:
    path = folder / "authz.yaml"
    path.write_text(text, encoding="utf-8")
    (folder / "pages").mkdir(exist_ok=True)
    (folder / "pages" / "error.html").write_text("{{title}}")
    try:
        load_settings(path, environ={"CLIENT": "a", "TRUST": "true"}, overrides={})
    except LoadError as error:
        return [problem.message for problem in error.problems]
    return []


JUNK: Final = (None, True, False, 7, 0.5, "text", "", "a,b", [], {}, ["a"], [None], {"zzz": 1})


def broken(root: Any) -> Iterator[tuple[str, Any]]:
    """Give copies of the value with one part replaced, left out or added, each with what was done."""
    for path in paths_of(root):
        for junk in JUNK:
            yield f"{path}: {junk!r}", changed(root, path, lambda holder, key, junk=junk: holder.__setitem__(key, junk))
        yield f"{path}: left out", changed(root, path, lambda holder, key: holder.__delitem__(key))
        yield f"{path}: one more", changed(root, path, add_unknown)


def paths_of(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*way, key)
        yield from paths_of(inner, (*way, key))


def changed(root: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    result = copy.deepcopy(root)
    holder = result
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return result


def add_unknown(holder: Any, _: Any) -> None:
    if isinstance(holder, dict):
        holder["zzz"] = 1
    else:
        holder.append({"zzz": 1})


def wrongly_refused(name: str, value: Any, refusals: Callable[[str], list[str]]) -> list[str]:
    changes = list(broken(value))[::2]  # every second: all of them take half a minute
    assert len(changes) > 50
    return [
        what
        for what, candidate in changes
        if not accepts(name, candidate) and not refusals(json.dumps(candidate, ensure_ascii=False))
    ]


def test_no_policy_is_refused_by_the_schema_alone() -> None:
    assert wrongly_refused("policies", value_of(LARGE_POLICY.encode()), refusals_of_policies) == []


def test_no_policy_test_is_refused_by_the_schema_alone() -> None:
    assert wrongly_refused("tests", value_of(LARGE_TEST.encode()), refusals_of_tests) == []


@pytest.mark.parametrize("text", [LARGE_CONFIG, INLINE_CONFIG], ids=["large", "inline"])
def test_no_configuration_is_refused_by_the_schema_alone(text: str, tmp_path: Path) -> None:
    value = value_of(text.encode())
    routes = re.compile(r"\('(routes|policy)'.+")  # the policies in it are another reader's
    alone = wrongly_refused("config", value, lambda text: refusals_of_config(text, tmp_path))
    assert [what for what in alone if not routes.match(what)] == []
