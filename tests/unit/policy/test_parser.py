"""Policy files: what loads, and every mistake with its place, its route and its key."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.errors import LoadError, Problem, Severity
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies, revision_of
from authz.policy.route_reader import ENVOY_KEYS
from tests.support.policies import find, heads, policy_set, ppl, problems_of, route_with

ROUTE = "route `https://app.example.com`"
NO_ROUTE = "no route in the whole set, which would refuse every request"
GOOD = "- from: https://app.example.com\n  allow_public_unauthenticated_access: true\n"


def load(*files: tuple[str, str], options: PolicyOptions | None = None) -> PolicySet:
    return parse_policies([(name, text.encode()) for name, text in files], options or PolicyOptions())


def refused(*files: tuple[str, str], options: PolicyOptions | None = None) -> list[str]:
    with pytest.raises(LoadError) as raised:
        load(*files, options=options)
    assert str(raised.value) == "\n".join(map(str, raised.value.problems))
    assert all(problem.severity is Severity.ERROR for problem in raised.value.problems)
    return [str(problem) for problem in raised.value.problems]


# --- Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"routes:\n{GOOD}",
        f"policy:\n{GOOD}",
        f"# a comment\n---\n{GOOD}",
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
    ],
    ids=["a list", "under routes", "under policy", "after a marker", "with CRLF", "after a byte order mark"],
)
def test_a_file_is_a_list_of_routes_or_a_map_with_one(text: str) -> None:
    assert len(load(("a.yaml", text)).routes.routes) == 1


def test_policy_comes_before_routes_and_files_keep_their_order() -> None:
    both = "routes:\n- {from: 'https://a.test', id: second}\npolicy:\n- {from: 'https://a.test', id: first}\n"
    found = load(("a.yaml", both), ("b.yaml", "- {from: 'https://a.test', id: third}"), ("c.yaml", "routes: []"))
    assert [route.id for route in found.routes.routes] == ["first", "second", "third"]
    assert [str(route.source) for route in found.routes.routes] == ["a.yaml:4:3", "a.yaml:2:3", "b.yaml:1:3"]


def test_a_configuration_with_inline_routes_is_read_for_them_alone() -> None:
    text = f"listen: x\nroutes:\n{GOOD}"
    assert len(load(("c.yaml", text), options=PolicyOptions(inline=True)).routes.routes) == 1
    assert heads(refused(("c.yaml", text))) == ["c.yaml:1:1: the file: unknown key `listen`"]
    assert heads(refused(("c.yaml", "{}"), options=PolicyOptions(inline=True))) == [f"c.yaml:1:1: {NO_ROUTE}"]


@pytest.mark.parametrize(
    ("files", "problems"),
    [
        ([], [f"policies:1:1: {NO_ROUTE}"]),
        ([("a.yaml", "routes: []")], [f"a.yaml:1:1: {NO_ROUTE}"]),
        ([("a.yaml", "")], [
            "a.yaml:1:1: the file holds nothing: write a route, `- from: https://HOST`, or delete the file"
        ]),
        ([("a.yaml", GOOD), ("b.yaml", "# x")], [
            "b.yaml:1:1: the file holds nothing: write a route, `- from: https://HOST`, or delete the file"
        ]),
        ([("a.yaml", "{}")], ["a.yaml:1:1: an empty map: expected `routes:` with a list"]),
        ([("a.yaml", "null")], ["a.yaml:1:1: found nothing, expected a list of routes (`- from: …`)"]),
        ([("a.yaml", "text")], ["a.yaml:1:1: found text `text`, expected a list of routes (`- from: …`)"]),
        ([("a.yaml", "routes: {from: x}")], ["a.yaml:1:9: found a map, expected a list of routes (`- from: …`)"]),
        ([("a.yaml", "routs: []")], [
            "a.yaml:1:1: the file: unknown key `routs`, expected `routes`, `policy`; did you mean `routes`?"
        ]),
        ([("a.yaml", "- x")], ["a.yaml:1:3: a route: found text `x`, expected a map (`from: https://…`)"]),
        ([("a.yaml", "- {}")], ["a.yaml:1:3: a route: `from` is missing: write from: https://HOST"]),
        (
            [("b.yaml", "[1"), ("a.yaml", "- {}\n- []"), ("c.yaml", GOOD)],
            [
                "a.yaml:1:3: a route: `from` is missing: write from: https://HOST",
                "a.yaml:2:3: a route: found an empty list, expected a map (`from: https://…`)",
                "b.yaml:2:1: not YAML: did not find expected ',' or ']'",
            ],
        ),
    ],
)  # fmt: skip
def test_all_mistakes_of_all_files_are_reported_at_once(files: list[tuple[str, str]], problems: list[str]) -> None:
    assert heads(refused(*files)) == heads(problems)


MISSING = "the last line is not `# end`"


@pytest.mark.parametrize("end", ["# end", "# end\n", "# end \r\n\r\n", "# end\n\n"])
def test_a_file_may_have_to_end_with_its_end_mark(end: str) -> None:
    assert load(("a.yaml", GOOD + end), options=PolicyOptions(require_end=True))


@pytest.mark.parametrize("end", ["", "# en", "#end", " # end", "# end\nx: y", "# end.", "x # end"])
def test_without_its_end_mark_a_file_is_cut_off(end: str) -> None:
    problems = refused(("a.yaml", GOOD + end), options=PolicyOptions(require_end=True))
    assert any(MISSING in problem for problem in problems)


def test_an_empty_file_that_must_have_an_end_mark_is_cut_off() -> None:
    (problem,) = refused(("a.yaml", ""), options=PolicyOptions(require_end=True))
    assert problem.startswith(f"a.yaml:1:1: {MISSING}")


def test_the_revision_is_a_hash_of_names_and_content() -> None:
    one = load(("a.yaml", GOOD)).revision
    assert one == load(("a.yaml", GOOD)).revision
    assert len(one) == 16
    assert int(one, 16) >= 0
    others = [
        load(("b.yaml", GOOD)).revision,
        load(("a.yaml", GOOD + "\n")).revision,
        load(("a.yaml", GOOD), ("b.yaml", "routes: []")).revision,
        revision_of([("a", b"bc")]),
        revision_of([("a", b"bd")]),
        revision_of([("ab", b"c")]),
        revision_of([("a", b""), ("b", b"c")]),
    ]
    assert len({one, *others}) == len(others) + 1


def test_a_file_whose_name_is_no_utf_8_has_a_revision() -> None:
    assert revision_of([("caf\udce9.yaml", b"")]) != revision_of([("caf\udce8.yaml", b"")])


# --- Keys ------------------------------------------------------------------------------------------------------------


def test_pomeriums_routing_keys_load_and_are_listed_as_envoys() -> None:
    found = policy_set(route_with("".join(f"{key}: x\n" for key in sorted(ENVOY_KEYS)) + "allowed_users: a"))
    assert [key for key, _ in found.envoy_keys] == sorted(ENVOY_KEYS)
    assert str(found.envoy_keys[0][1]) == "policies/app.yaml:2:3"


@pytest.mark.parametrize("key", ["lb_policy", "least_request_lb_config", "ring_hash_lb_config", "maglev_lb_config"])
def test_pomeriums_older_keys_for_load_balancing_are_known(key: str) -> None:
    assert [name for name, _ in policy_set(route_with(f"{key}: x\nallowed_users: a")).envoy_keys] == [key]


@pytest.mark.parametrize(
    ("keys", "problems"),
    [
        ("prefx: /a", [f"2:3: {ROUTE}: unknown key `prefx`; did you mean `prefix`?"]),
        ("zzz: /a", [f"2:3: {ROUTE}: unknown key `zzz`"]),
        ("allow_any_authenticated_users: true", [
            f"2:3: {ROUTE}: unknown key `allow_any_authenticated_users`; did you mean `allow_any_authenticated_user`?"
        ]),
        ("allowed_groups: [a]", [
            (f"2:3: {ROUTE}: `allowed_groups` is not supported: Pomerium removed it; write "
            "allowed_idp_claims: {cognito:groups: […]}")
        ]),
        ("sub_policies: []", [
            f"2:3: {ROUTE}: `sub_policies` is not supported: it is Pomerium Enterprise's; write its rules"
        ]),
        ("pass_identity_headers: yes", [
            f"2:26: {ROUTE}: `pass_identity_headers`: found text `yes`, expected `true` or `false`"
        ]),
        ("show_error_details: 1", [
            f"2:23: {ROUTE}: `show_error_details`: found `1` (a number), expected `true` or `false`"
        ]),
        ("allow_public_unauthenticated_access: 'true'", [
            f"2:40: {ROUTE}: `allow_public_unauthenticated_access`: found text `true`, expected `true` or `false`"
        ]),
        ("cors_allow_preflight: []", [
            f"2:25: {ROUTE}: `cors_allow_preflight`: found an empty list, expected `true` or `false`"
        ]),
        ("id: ''", [f"2:7: {ROUTE}: `id`: found empty text, expected text"]),
        ("id: [a]", [f"2:7: {ROUTE}: `id`: found a list, expected text"]),
        ("from: https://b.test", ["2:3: duplicate key `from`, already on line 1: delete one"]),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named_with_its_route(keys: str, problems: list[str]) -> None:
    assert heads(problems_of(route_with(keys))) == heads(problems)


def test_a_number_of_too_many_digits_is_named_with_its_route_and_key() -> None:
    digits = "9" * 6000
    found = f"found `{digits[:59]}…` (a number)"
    (problem,) = problems_of(route_with(f"allowed_idp_claims: {{level: [{digits}]}}"))
    expected = "expected a number of at most 400 characters: write it in quotes if it is text"
    assert problem == f"2:32: {ROUTE}: `allowed_idp_claims`: `level`: {found}, {expected}"
    assert load(("a.yaml", route_with(f"allowed_idp_claims: {{level: ['{digits}']}}")))
    (problem,) = problems_of(route_with(f"id: {digits}"))
    assert problem == f"2:7: {ROUTE}: `id`: {found}, expected text: write '{digits[:59]}…' in quotes"


def test_an_id_is_used_once_in_the_whole_set() -> None:
    one = "- {from: 'https://a.test', id: x}\n"
    assert refused(("a.yaml", one + one), ("b.yaml", one)) == [
        "a.yaml:2:32: route `https://a.test`: id `x` is already used at a.yaml:1:32: give each its own",
        "b.yaml:1:32: route `https://a.test`: id `x` is already used at a.yaml:1:32: give each its own",
    ]


def test_switches_are_kept_with_the_route() -> None:
    text = (
        "- {from: 'https://a.test'}\n- {from: 'https://a.test', pass_identity_headers: false, show_error_details: true}"
    )
    plain, switched = (route.name for route in load(("a.yaml", text)).routes.routes)
    assert (plain.pass_identity_headers, plain.show_error_details) == (None, False)
    assert (switched.pass_identity_headers, switched.show_error_details) == (False, True)


# --- From and path ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "problem"),
    [
        *((start, f"{start}`") for start in ("app.example.com", "//app.example.com", "ftp://a", "tcp+https://a:2", "ssh://a")),
        ("https://a/b", "/b` after the host"),
        ("https://a?b", "?b` after the host"),
        ("https://a#b", "#b` after the host"),
        *(
            (start, f"{start}`")
            for start in (
                "https://", "https://u@a", "https://a,b", "https://a b", "https://café", "https://a:0", "https://a:65536",
                "https://*:65536", "https://*..a", "https://*.café", "https://[*]", "https://a$*", "https://a:",
            )
        ),
    ],
)  # fmt: skip
def test_a_from_that_is_no_plain_host_is_an_error(start: str, problem: str) -> None:
    assert heads(problems_of(f'- from: "{start}"')) == [f"1:9: route `{start}`: `from`: found `{problem}"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("~", "1:9: route `~`: `from`: found nothing, expected text: write '~' in quotes"),
        ("[a]", "1:9: a route: `from`: found a list, expected text"),
        ("", "1:1: a route: `from`: found nothing, expected text"),
        ("5", "1:9: route `5`: `from`: found `5` (a number), expected text: write '5' in quotes"),
    ],
)
def test_a_from_that_is_no_text_is_an_error(value: str, problem: str) -> None:
    assert [message.partition(": ")[2] for message in problems_of(f"- from: {value}")] == [problem.partition(": ")[2]]


@pytest.mark.parametrize(
    "start", ["https://a", "HTTPS://A", "http://a", "https://a/", "https://a.", "https://*", "https://a:443"]
)
def test_a_from_is_a_scheme_and_a_host(start: str) -> None:
    assert load(("a.yaml", f'- from: "{start}"')).routes.routes[0].source.line == 1


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("prefix: admin", "prefix=admin`: `prefix`: no request can match `admin`, does not start with `/`"),
        ("path: /a?b", "path=/a?b`: `path`: no request can match `/a?b`, the query is not part of the path"),
        ("path: /a//b", "path=/a//b`: `path`: no request can match `/a//b`, holds an empty segment (`//`)"),
        ("path: /a/../b", "path=/a/../b`: `path`: no request can match `/a/../b`, holds a dot segment"),
        ("path: ''", "path=`: `path`: found empty text, expected text"),
        ("path: [/a]", "`: `path`: found a list, expected text"),
        ("prefix: 5", "prefix=5`: `prefix`: found `5` (a number), expected text: write '5' in quotes"),
        ("regex: (", "regex=(`: `regex`: not an RE2 pattern: missing ): ("),
        ("regex: (?=a)", "regex=(?=a)`: `regex`: not an RE2 pattern: invalid perl operator: (?="),
        ("regex: ((a{99}){99}){99}", "not an RE2 pattern: "),
        ("regex: ''", "regex=`: `regex`: found empty text, expected text"),
    ],
)
def test_a_path_that_no_request_can_have_is_an_error(keys: str, problem: str) -> None:
    problems = problems_of(route_with(keys))
    assert len(problems) == 1
    assert problem in problems[0].replace("because the path ", "").replace("because ", "")
    assert ROUTE[:-1] in problems[0]


def test_of_several_matchers_the_strongest_counts_and_the_others_warn() -> None:
    text = route_with("prefix: /c\npath: /b\nregex: /a.*")
    route = "route `https://app.example.com regex=/a.*`"
    assert [problem for problem in problems_of(text) if "no effect" in problem] == [
        f"2:11: warning: {route}: `prefix` has no effect, because `regex` is there and wins: delete one of them",
        f"3:9: warning: {route}: `path` has no effect, because `regex` is there and wins: delete one of them",
    ]
    assert find(policy_set(text), path="/b") is None
    (problem,) = problems_of(route_with("prefix: c\nregex: /a.*"))
    assert problem.startswith(f"2:11: {route}: `prefix`: no request can match `c`, ")


# --- Who may pass ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "problems"),
    [
        ("allowed_users: a,b", [
            f"2:18: {ROUTE}: `allowed_users`: found text `a,b`, one text with a comma: write a list, [a, b]"
        ]),
        ("allowed_users: ~", [f"2:18: {ROUTE}: `allowed_users`: found nothing, expected a list"]),
        ("allowed_users: {a: b}", [f"2:18: {ROUTE}: `allowed_users`: found a map, expected a list"]),
        ("allowed_users: [5, '', [a]]", [
            f"2:19: {ROUTE}: `allowed_users`: found `5` (a number), expected text: write '5' in quotes",
            f"2:22: {ROUTE}: `allowed_users`: found empty text, expected text",
            f"2:26: {ROUTE}: `allowed_users`: found a list, expected text",
        ]),
        ("allowed_domains: ['@a.test', b@c]", [
            f"2:21: {ROUTE}: `allowed_domains`: found `@a.test`: write what follows the @",
            f"2:32: {ROUTE}: `allowed_domains`: found `b@c`: write what follows the @",
        ]),
        ("allowed_idp_claims: [admins]", [
            f"2:23: {ROUTE}: `allowed_idp_claims`: found a list, expected a map (`cognito:groups: [admins]`)"
        ]),
        ("allowed_idp_claims: {'': [a], x: ''}", [
            f"2:24: {ROUTE}: `allowed_idp_claims`: found an empty key, expected a claim's name",
            f"2:36: {ROUTE}: `allowed_idp_claims`: `x`: found empty text, expected text, a number or a boolean",
        ]),
        ("allowed_idp_claims: {a: {b: [c]}}", [
            f"2:27: {ROUTE}: `allowed_idp_claims`: `a`: found a map: a nested claim is named with dots (`a.NAME`)"
        ]),
        ("allowed_idp_claims: {a: [{has: b}]}", [
            f"2:28: {ROUTE}: `allowed_idp_claims`: `a`: found a map, expected a value"
        ]),
        ("allowed_idp_claims: {a: 'b, c'}", [
            f"2:27: {ROUTE}: `allowed_idp_claims`: `a`: found text `b, c`, one text with a comma: write a list, [b, c]"
        ]),
        ("allowed_idp_claims: {a: [~, [b], .inf]}", [
            f"2:28: {ROUTE}: `allowed_idp_claims`: `a`: found nothing, expected text, a number or a boolean",
            f"2:31: {ROUTE}: `allowed_idp_claims`: `a`: found a list, expected text, a number or a boolean",
            f"2:36: {ROUTE}: `allowed_idp_claims`: `a`: found `.inf` (a number), expected text, a number or a boolean",
        ]),
    ],
)  # fmt: skip
def test_a_wrong_list_of_callers_is_an_error(keys: str, problems: list[str]) -> None:
    assert heads(problems_of(route_with(keys))) == heads(problems)


PUBLIC = "allow_public_unauthenticated_access"
ANY_USER = "allow_any_authenticated_user"


@pytest.mark.parametrize(
    ("keys", "clashes"),
    [
        (f"{PUBLIC}: true\n{ANY_USER}: true", [(3, ANY_USER, PUBLIC)]),
        (f"{PUBLIC}: true\nallowed_users: [a]", [(3, "allowed_users", PUBLIC)]),
        (f"allowed_users: [a]\nallowed_domains: b\n{PUBLIC}: true", [
            (2, "allowed_users", PUBLIC), (3, "allowed_domains", PUBLIC)
        ]),
        (f"{ANY_USER}: true\nallowed_users: [a]", [(3, "allowed_users", ANY_USER)]),
        (f"{ANY_USER}: true\nallowed_domains: [a]", [(3, "allowed_domains", ANY_USER)]),
        (f"{PUBLIC}: true\n{ANY_USER}: true\nallowed_users: [a]", [
            (3, ANY_USER, PUBLIC), (4, "allowed_users", PUBLIC)
        ]),
    ],
)  # fmt: skip
def test_a_key_beside_one_that_lets_in_more_is_an_error(keys: str, clashes: list[tuple[int, str, str]]) -> None:
    assert problems_of(route_with(keys)) == [
        f"{line}:3: {ROUTE}: `{key}` beside `{winner}: true`, which lets in more: delete one of the two"
        for line, key, winner in clashes
    ]


@pytest.mark.parametrize(
    "keys",
    [
        f"{PUBLIC}: false\n{ANY_USER}: true",
        f"{PUBLIC}: true\n{ANY_USER}: false",
        f"{PUBLIC}: true\nallowed_users: []\nallowed_domains: []",
        f"{PUBLIC}: true\ncors_allow_preflight: true",
        f"{ANY_USER}: true\nallowed_idp_claims: {{a: [b]}}",
        "allowed_users: [a]\nallowed_domains: [b]\nallowed_idp_claims: {c: d}",
    ],
)
def test_other_keys_go_together(keys: str) -> None:
    assert policy_set(route_with(keys))


def test_claims_on_a_public_route_load_with_a_warning() -> None:
    assert problems_of(route_with(f"{PUBLIC}: true\nallowed_idp_claims: {{a: [b]}}")) == [
        f"3:28: warning: {ROUTE}: `allowed_idp_claims` has no effect on a public route: delete one of the two"
    ]


def test_the_plain_keys_become_criteria_in_pomeriums_order() -> None:
    keys = (
        "allowed_users: [u, v]\nallowed_idp_claims: {b: [x, 5], a: y}\nallowed_domains: [d]\ncors_allow_preflight: true"
    )
    (block,) = policy_set(route_with(keys)).routes.routes[0].policy.allow
    assert [(criterion.name, criterion.expects) for criterion in block.criteria] == [
        ("cors_preflight", ()),
        ("domain", ("d",)),
        ("claim/a", ("y",)),
        ("claim/b", ("x",)),
        ("claim/b", (5,)),
        ("user", ("u",)),
        ("email", ("u",)),
        ("user", ("v",)),
        ("email", ("v",)),
    ]
    assert [criterion.source.line for criterion in block.criteria] == [5, 4, 3, 3, 3, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("rules", "problems"),
    [
        ("text", [f"3:5: {ROUTE}: `policy`: found text `text`, expected `allow:` or `deny:`"]),
        ("- [a]", [f"3:7: {ROUTE}: `policy`: found a list, expected `allow:` or `deny:`"]),
        ("- alow: {}", [
            f"3:7: {ROUTE}: `policy`: unknown effect `alow`, expected `allow` or `deny`; did you mean `allow`?"
        ]),
        ("- permit: {}", [f"3:7: {ROUTE}: `policy`: unknown effect `permit`, expected `allow` or `deny`"]),
        ("- allow: []", [
            f"3:14: {ROUTE}: `allow`: found an empty list, expected `and`, `or`, `not` or `nor` with a list"
        ]),
        ("- deny: ~", [f"3:13: {ROUTE}: `deny`: found nothing, expected `and`, `or`, `not` or `nor` with a list"]),
        ("- allow: {nand: []}", [
            (f"3:15: {ROUTE}: `allow`: unknown operator `nand`, expected `and`, `or`, `not` or `nor`; "
            "did you mean `and`?")
        ]),
        ("- allow: {xyz: []}", [
            f"3:15: {ROUTE}: `allow`: unknown operator `xyz`, expected `and`, `or`, `not` or `nor`"
        ]),
        ("- allow: {or: {accept: }}", [f"3:19: {ROUTE}: `allow`: `or`: found a map, expected a list of criteria"]),
        ("- allow: {or: accept}", [f"3:19: {ROUTE}: `allow`: `or`: found text `accept`, expected a list of criteria"]),
        ("- allow: {or: [{or: []}]}", [
            f"3:21: {ROUTE}: `allow`: `or` inside a rule's list: operators do not nest; write a second rule"
        ]),
        ("- {allow: {or: [{acept: }]}, deny: {or: [accept]}}", [
            f"3:22: {ROUTE}: `allow`: unknown criterion `acept`; did you mean `accept`?",
            (f"3:46: {ROUTE}: `deny`: a criterion: found text `accept`, expected a map with exactly one key: "
            "write `- accept: …`"),
        ]),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_an_error(rules: str, problems: list[str]) -> None:
    assert heads(problems_of(ppl(rules))) == heads(problems)


def test_an_empty_policy_key_is_an_error() -> None:
    assert problems_of(route_with("policy:")) == [
        f"2:10: {ROUTE}: `policy`: found nothing, expected `allow:` or `deny:`"
    ]


def test_rules_stand_beside_the_plain_keys() -> None:
    keys = (
        "policy:\n- allow: {or: [{accept: }], not: []}\n- deny: {and: [{reject: }], action: deny}\nallowed_users: [a]"
    )
    policy = policy_set(route_with(keys)).routes.routes[0].policy
    assert [(block.operator, len(block.criteria)) for block in policy.allow] == [("or", 2), ("or", 1)]
    assert [(block.operator, len(block.criteria)) for block in policy.deny] == [("and", 1)]


# --- Any text --------------------------------------------------------------------------------------------------------

HOSTILE = [
    ppl("- allow: {or: [{claim/x: 0x" + "f" * 5000 + "}]}"),
    route_with("allowed_idp_claims: {x: [0x" + "f" * 5000 + "]}"),
    route_with("allowed_idp_claims: {x: [" + "9" * 5000 + "]}"),
    route_with('prefix: "/\\ud800"'),
    route_with('path: "/\\UFFFFFFFF"'),
    route_with('regex: "/\\0"'),
    route_with("regex: " + "(" * 2000),
    route_with("regex: " + "a?" * 5000 + "a" * 5000),
    route_with("id: &x [*x]"),
    "- from: &a https://a.test\n  id: *a\n  path: *a\n",
    '- from: "https://a.test\\n"\n',
    ppl("- allow: {or: [{date: {after: 2026-01-01, timezone: " + "x/" * 3000 + "}}]}"),
    ppl('- allow: {or: [{source_ip: "fe80::1%' + "x" * 3000 + '"}]}'),
    ppl("- allow: {or: [{auth_age: {max: " + "9" * 400 + "h}}]}"),
    "- from: https://a.test\n" + "".join(f"  key_{i}: x\n" for i in range(200)),
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_is_a_policy_set_or_a_load_error(text: str) -> None:
    parses(text.encode())


def parses(data: bytes) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        found = parse_policies([("a.yaml", data)], PolicyOptions())
    except LoadError as error:
        problems = error.problems
    else:
        assert found.routes.routes
        return
    assert problems
    assert all(problem.source.file == "a.yaml" and problem.message for problem in problems)


SAMPLE = route_with(
    """\
    prefix: /a
    allowed_idp_claims: {'cognito:groups': [a, 5, true], x.y: b}
    allowed_users: [a@b.c]
    policy:
      - allow: {and: [{claim/x: {has: a}}, {email: {ends_with: "@b"}}], not: [{source_ip: [10.0.0.0/8, "::1"]}]}
        deny: {or: [{date: {after: 2026-01-01, timezone: UTC}}, {time_of_day: {timezone: UTC, before: 5 PM}}]}
      - allow: {nor: [{day_of_week: mon-fri}, {auth_age: {max: 15m}}, {client_certificate: {san_dns: {in: [a]}}}]}
    """
).encode()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_changed_policy_is_a_policy_set_or_a_load_error(data: st.DataObject) -> None:
    text = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 6))
        text[at : at + cut] = data.draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from([b"{", b"}", b"[", b"]", b": ", b"\n", b"- ", b"*", b"&a ", b"''", b"~"]),
            )
        )
    parses(bytes(text))


NAMES = st.sampled_from(
    ["from", "path", "prefix", "regex", "id", "policy", "allowed_users", "allowed_domains", "allowed_idp_claims",
     PUBLIC, "allow", "deny", "and", "or", "not", "nor", "accept", "email", "claim/x", "source_ip", "date", "after",
     "timezone", "time_of_day", "day_of_week", "days", "client_certificate", "fingerprint", "san_dns", "auth_age",
     "max", "in", "not_in", "is", "has", "exclude", "to", "x"]
)  # fmt: skip
LEAVES = st.sampled_from(
    ["https://a.test", "/a", "a", "''", "~", "true", "5", "1.5", ".nan", "mon-fri", "15m", "10.0.0.0/8", "UTC", "(",
     "2026-01-01"]
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(NAMES, inner, max_size=4).map(
            lambda entries: "{" + ", ".join(f"{key}: {value}" for key, value in entries.items()) + "}"
        ),
    ),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None)
@given(TREES)
def test_any_tree_is_a_policy_set_or_a_load_error(tree: str) -> None:
    parses(f"[{{from: 'https://a.test', policy: {tree}}}, {tree}]".encode())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_a_policy_set_or_a_load_error(data: bytes) -> None:
    parses(data)


def test_an_id_that_is_no_text_is_told_once_for_each_route() -> None:
    route = "- {from: 'https://a.example.com', id: [], allow_any_authenticated_user: true}\n"
    problems = problems_of(route * 2)
    assert [problem.partition("`id`: ")[2] for problem in problems] == ["found an empty list, expected text"] * 2


def test_a_wildcard_host_has_a_port_up_to_65535() -> None:
    assert find(
        policy_set("- {from: 'https://*.example.com:65535', allow_any_authenticated_user: true}"), "a.example.com:65535"
    )


def test_only_a_prefix_may_end_inside_a_segment() -> None:
    assert problems_of("- {from: 'https://a.example.com', prefix: /a/., allow_any_authenticated_user: true}") == []
    (problem,) = problems_of("- {from: 'https://a.example.com', path: /a/., allow_any_authenticated_user: true}")
    assert "`path`: no request can match `/a/.`" in problem


def test_a_pattern_that_is_none_is_told_to_its_author_alone(capfd: pytest.CaptureFixture[str]) -> None:
    (problem,) = problems_of("- {from: 'https://a.example.com', regex: '(', allow_any_authenticated_user: true}")
    assert "`regex`: not an RE2 pattern" in problem
    assert capfd.readouterr() == ("", "")


def test_the_files_trees_are_let_go_node_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freed at once, 10,000 routes keep the event loop waiting."""
    let_go: list[int] = []
    monkeypatch.setattr("authz.policy.parser.let_go", lambda nodes: let_go.append(len(nodes)))
    route = b"- {from: 'https://%s.example.com', allow_any_authenticated_user: true}"
    parse_policies([("a.yaml", route % b"a"), ("b.yaml", route % b"b")], PolicyOptions())
    assert let_go == [2]


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("a_tests.yaml", "a_test.yaml"),
        ("rules/a.test.yml", "a_test.yaml"),
        ("a_test.yml", "a_test.yaml"),
        ("A-Test.yaml", "A_test.yaml"),
        ("latest.yaml", "latest_test.yaml"),
        ("tests.yaml", "policies_test.yaml"),
    ],
)
def test_policy_tests_by_another_name_are_told_theirs(name: str, better: str) -> None:
    with pytest.raises(LoadError) as caught:
        parse_policies([(name, b"tests: []")], PolicyOptions())
    assert str(caught.value) == (
        f"{name}:1:1: the file: unknown key `tests`, expected `routes`, `policy`; "
        f"if these are policy tests, call the file `{better}`"
    )
