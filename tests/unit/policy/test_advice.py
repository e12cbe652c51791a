"""What loads with a warning, word for word; and what is said of a whole set is said once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from authz.errors import Severity
from authz.model import Allow
from authz.policy.advice import advise, constant_truth, lets_everyone_in
from authz.policy.certificates import parse_authorities
from authz.policy.criterion import CriteriaContext
from authz.policy.criterion_advice import AcceptedTokens
from authz.policy.decision import Block, Operator
from authz.policy.parser import PolicyOptions, PolicySet, parse_policies
from authz.policy.shadows import split_pattern
from tests.support.breaths import breaths
from tests.support.policies import compiled, decide_text, policy_set, route_with

CASES: Final = Path(__file__).parents[2] / "cases"
OPTIONS: Final = {
    "": PolicyOptions(),
    "access tokens": PolicyOptions(accepted=AcceptedTokens(uses=frozenset({"access"}), has_id_claims=False)),
    "ID tokens": PolicyOptions(accepted=AcceptedTokens(uses=frozenset({"id"}))),
    "access tokens with ID tokens": PolicyOptions(accepted=AcceptedTokens(uses=frozenset({"access"}))),
    "one pool": PolicyOptions(
        accepted=AcceptedTokens(
            issuers=frozenset({"https://a.example"}), clients=frozenset({"web", "app", "cli", "bot"})
        )
    ),
    "three clients": PolicyOptions(accepted=AcceptedTokens(clients=frozenset({"web", "app", "cli"}))),
    "aliases": PolicyOptions(
        accepted=AcceptedTokens(
            aliases={
                "roles": ("custom:roles",),
                "team": ("department", "team"),
                "cognito:groups": ("custom:groups",),
                "scope": ("custom:scope", "scope"),
                "cognito:username": ("username",),
            }
        )
    ),
    "aliases of access tokens": PolicyOptions(
        accepted=AcceptedTokens(
            uses=frozenset({"access"}),
            has_id_claims=False,
            aliases={
                "roles": ("custom:roles",),
                "cognito:groups": ("custom:groups",),
                "cognito:username": ("username",),
                "cognito-groups": ("cognito:groups",),
                "who": ("name", "email"),
            },
        )
    ),
    "aliases of ID tokens": PolicyOptions(
        accepted=AcceptedTokens(
            uses=frozenset({"id"}), aliases={"username": ("cognito:username", "username"), "device": ("device_key",)}
        )
    ),
    "an authority": PolicyOptions(
        context=CriteriaContext(parse_authorities((CASES / "certificates" / "authority.pem").read_bytes()))
    ),
}


def load(text: str, options: PolicyOptions | None = None) -> PolicySet:
    return parse_policies([("p.yaml", text.encode())], options or PolicyOptions())


def cases() -> Iterator[object]:
    for path in sorted((CASES / "policy_warnings").glob("*.txt")):
        for block in path.read_text(encoding="utf-8").removeprefix("=== ").split("\n=== "):
            title, _, rest = block.partition("\n")
            text, _, expected = f"{rest}\n".partition("\n---\n")
            configuration, _, sentence = title.removeprefix("[").rpartition("] ")
            yield pytest.param(text, configuration, expected.strip("\n"), id=f"{path.stem}: {sentence}")


@pytest.mark.parametrize(("text", "configuration", "expected"), list(cases()))
def test_an_oddity_is_told_word_for_word(text: str, configuration: str, expected: str) -> None:
    assert list(map(str, load(text, OPTIONS[configuration]).warnings)) == expected.splitlines()


@pytest.mark.parametrize("operator", Operator)
@pytest.mark.parametrize("criterion", ["{reject: true}", "{accept: true}", "{http_method: GET}", "{groups: b}"])
@pytest.mark.parametrize("effect", ["allow", "deny"])
def test_open_to_everyone_is_where_nobody_need_sign_in(effect: str, operator: Operator, criterion: str) -> None:
    text = route_with(f"""
        allow_public_unauthenticated_access: true
        policy: {{{effect}: {{{operator}: [{{groups: a}}, {criterion}]}}}}
    """)
    (route,) = policy_set(text).routes.routes
    let_in = any(isinstance(decide_text(text, method=method), Allow) for method in ("GET", "POST"))
    assert lets_everyone_in(route) is (let_in and effect == "allow")


def test_no_warning_keeps_a_set_from_loading() -> None:
    for text, configuration, _ in (case.values for case in cases()):
        assert load(text, OPTIONS[configuration]).routes.routes


def test_every_place_that_a_warning_names_goes_by_its_other_name_too() -> None:
    """Such as the place that `serve` opened the file at."""
    for text, configuration, _ in (case.values for case in cases()):
        for warning in load(text, OPTIONS[configuration]).warnings:
            told = str(warning.placed(lambda source: source._replace(file="etc/q.yaml")))
            assert told == str(warning).replace("p.yaml:", "etc/q.yaml:")


def test_what_the_configuration_causes_is_said_once_for_many_routes() -> None:
    text = "".join(
        f"- {{from: 'https://h{number}.example', allowed_domains: [example.com]}}\n" for number in range(500)
    )
    (only,) = load(text, OPTIONS["access tokens"]).warnings
    assert only.severity is Severity.WARNING
    assert only.message.endswith("(and at 499 more places)")


def test_an_alias_is_warned_of_for_each_route_that_uses_it() -> None:
    text = (
        "- {from: 'https://a.example', policy: &p {allow: {or: [{http_method: get}]}}}\n"
        "- {from: 'https://a.example', path: /b, policy: *p}\n"
    )
    methods = [problem for problem in load(text).warnings if "`get`" in problem.message]
    assert [problem.source.line for problem in methods] == [1, 1]


def test_it_stands_aside_at_every_route() -> None:
    routes = load("".join(f"- from: https://h{number}.example\n" for number in range(12))).routes.routes
    assert breaths(lambda: advise(routes, AcceptedTokens(), checks_certificates=False)) >= 6 * 12


@pytest.mark.parametrize(("others", "told"), [(7, True), (8, False)])
def test_of_many_criteria_the_first_eight_alone_are_compared(others: int, told: bool) -> None:
    wide = [f"{{source_ip: 10.0.0.0/{8 + number}}}" for number in range(others)]
    assert _never_together([*wide, "{source_ip: 192.0.2.1}"]) is told


@pytest.mark.parametrize(("few", "many", "told"), [(10, 20, True), (3, 67, False)])
def test_of_long_lists_of_networks_two_hundred_pairs_at_most_are_compared(few: int, many: int, told: bool) -> None:
    lists = ", ".join(f"10.0.0.{number}" for number in range(few)), ", ".join(f"10.1.0.{n}" for n in range(many))
    assert _never_together([f"{{source_ip: [{addresses}]}}" for addresses in lists]) is told


def _never_together(criteria: list[str]) -> bool:
    """Tell whether a deny of all of these is said never to hold."""
    rules = f"[{{allow: {{or: [authenticated_user: true]}}}}, {{deny: {{and: [{', '.join(criteria)}]}}}}]"
    warnings = load(f"[{{from: 'https://a.example', policy: {rules}}}]").warnings
    return any("never holds together with the one above it" in warning.message for warning in warnings)


@pytest.mark.parametrize(
    ("pattern", "start", "rest"),
    [
        pytest.param("/a", "/a", "", id="plain text"),
        pytest.param("^/a$", "/a", "$", id="anchors"),
        pytest.param(r"/v1\.0/.*", "/v1.0/", ".*", id="an escaped dot"),
        pytest.param("/ab?", "/a", "b?", id="a quantifier takes its character with it"),
        pytest.param(r"/a\.+x", "/a", r"\.+x", id="a quantifier after an escape"),
        pytest.param("/a{2}", "/", "a{2}", id="a counted character"),
        pytest.param(r"/\d+", "/", r"\d+", id="a class"),
        pytest.param("/a|/b", "", "/a|/b", id="a choice starts with nothing in particular"),
        pytest.param("/x/(a|b)", "/x/", "(a|b)", id="a choice in a group"),
        pytest.param("/x/((a|b)|c)", "/x/", "((a|b)|c)", id="a choice in a group in a group"),
        pytest.param("/x(a)|b", "", "/x(a)|b", id="a choice after a group"),
        pytest.param(r"/x\(a|b\)", "", r"/x\(a|b\)", id="escaped brackets are no group"),
        pytest.param("/x[(]a|b[)]", "", "/x[(]a|b[)]", id="brackets in a class are no group"),
        pytest.param("/x[]|]", "/x", "[]|]", id="a class that starts with its bracket"),
        pytest.param(r"/\Q(\E|b\Q)\E", "", r"/\Q(\E|b\Q)\E", id="quoted text is not read"),
        pytest.param(r"/x[\](]|/b[\])]", "", r"/x[\](]|/b[\])]", id="an escaped bracket in a class does not end it"),
        pytest.param("/x[[:alpha:](]|b[[:alpha:])]", "", "/x[[:alpha:](]|b[[:alpha:])]", id="a class within a class"),
        pytest.param("(?i)/a", "", "(?i)/a", id="flags"),
        pytest.param("/a(?i)*", "/", "a(?i)*", id="a quantifier after flags takes the character before them"),
    ],
)
def test_a_pattern_is_split_after_its_plain_text(pattern: str, start: str, rest: str) -> None:
    assert split_pattern(pattern) == (start, rest)


@pytest.mark.parametrize(
    ("operator", "criteria", "truth"),
    [
        pytest.param(Operator.AND, ["accept", "accept"], True, id="all hold"),
        pytest.param(Operator.AND, ["accept", "groups"], None, id="one depends"),
        pytest.param(Operator.AND, ["reject", "groups"], False, id="one never holds"),
        pytest.param(Operator.OR, ["accept", "groups"], True, id="any holds"),
        pytest.param(Operator.OR, ["reject", "groups"], None, id="another may hold"),
        pytest.param(Operator.OR, ["reject", "reject"], False, id="none can hold"),
        pytest.param(Operator.NOT, ["reject"], True, id="what never holds is never held against"),
        pytest.param(Operator.NOT, ["accept", "groups"], False, id="one always holds"),
        pytest.param(Operator.NOT, ["reject", "groups"], None, id="one may hold"),
        pytest.param(Operator.NOR, ["reject", "groups"], True, id="not all can hold"),
        pytest.param(Operator.NOR, ["accept", "accept"], False, id="all hold, which nor refuses"),
        pytest.param(Operator.NOR, ["accept", "groups"], None, id="all may hold"),
    ],
)
def test_what_a_block_always_is(operator: Operator, criteria: list[str], truth: bool | None) -> None:
    written = {"accept": "accept: true", "reject": "reject: true", "groups": "groups: a"}
    members = tuple(compiled(written[name]) for name in criteria)
    assert constant_truth(Block(operator, members, members[0].source)) is truth
