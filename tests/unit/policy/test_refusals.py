"""What a route says of its refusals. The mistakes are in cases/policy_errors/45-refusals.txt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import Severity
from authz.model import Guidance, RouteName, Source
from authz.node import Fields, Problems, Scalar
from authz.policy.parser import PolicyOptions
from authz.policy.refusals import redirects_of
from tests.support.policies import find, policy_set, ppl, problems_of, route_with


def name_of(text: str) -> RouteName:
    route = find(policy_set(text))
    assert route is not None
    return route.name


def test_a_route_that_says_nothing_has_nothing() -> None:
    name = name_of(route_with("allow_any_authenticated_user: true"))
    assert (name.guidance, name.denied_redirect, name.scopes) == (Guidance("", ""), (), ())


def test_texts_of_several_lines_lose_their_outer_blanks() -> None:
    text = route_with("explanation: |\n  One.\n  Two.\nremediation: ' Ask Ann. '")
    assert name_of(text).guidance == Guidance("One.\nTwo.", "Ask Ann.")


def test_the_longest_text_is_read() -> None:
    assert name_of(route_with(f"explanation: {'x' * 600}")).guidance.explanation == "x" * 600
    (problem,) = problems_of(route_with(f"explanation: {'x' * 601}"))
    assert problem.endswith("`explanation`: takes 601 bytes in a page, expected at most 600: say it shorter")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/sign-in",
        "/sign-in?return={url}",
        "/?a=1&b={url}&c={url}",
        "/#/login/{url}",
        "https://login.example.com",
        "https://login.example.com?u={url}",
        "https://login.example.com:8443/a/%20b;c=d?e=f#g",
        "https://192.0.2.1/",
        "http://localhost:3000/",
        "http://app.localhost/sign-in?u={url}",
        "http://127.0.0.7/",
        "http://[::1]:8080/",
        "https://login.example.com/" + "a" * (2048 - 26),
    ],
)
def test_targets_that_load(target: str) -> None:
    text = route_with(f"denied_redirect: {{401: '{target}', 403: /no, '404': /lost, 503: /later}}")
    assert name_of(text).denied_redirect == ((401, target), (403, "/no"), (404, "/lost"), (503, "/later"))


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "https:/evil.example",
        "https:evil.example",
        "https:///evil.example",
        "HTTPS://evil.example",
        "ftp://evil.example/",
        "data:text/html,x",
        "http://login.example.com/",
        "http://localhost.evil.example/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fe80::1]/",
        "http://0.0.0.0/",
        "https://user:password@login.example.com/",
        "https://a,b/",
        "https://a:0/",
        "https://bücher.example/",
        "/a b",
        "/a\tb",
        "/a\nb",
        "/a\x00b",
        "/\u2028",
        "/{url}",
        "https://{url}",
        "https://{url}.example/?u={url}",
        "https://login.example.com/{url}/?u={url}",
        "/?u={url",
        "/?u={{url}}",
        "/?u={URL}",
        "/" + "a" * 2048,
    ],
)
def test_targets_that_do_not(target: str) -> None:
    problems = Problems()
    node = Scalar(Source("f", 1, 1), target, target)
    assert redirects_of(_map_of(node), "x", problems) == ()
    assert len(problems.errors) == 1
    assert str(problems[0]).isprintable()


@pytest.mark.parametrize("target", ["/?u={url", "/?u=url}", "/?u={URL}"])
def test_a_placeholder_that_is_none_is_called_so(target: str) -> None:
    (problem,) = problems_of(route_with(f"denied_redirect: {{401: '{target}'}}"))
    assert problem.endswith(f"`{target}` has a placeholder that is not {{url}}: only that is known")


def _map_of(node: Scalar) -> Fields:
    return Fields(node.source, ((Scalar(node.source, "401", "401"), node),))


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_a_problem(text: str) -> None:
    problems = Problems()
    redirects = redirects_of(_map_of(Scalar(Source("f", 1, 1), text, text)), "x", problems)
    assert bool(redirects) is not bool(problems.errors)


# --- Scopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "scopes"),
    [
        ("allow: {and: [{scope: api/read}]}", ("api/read",)),
        ("allow: {or: [{scope: a}, {scope: {is: b}}, {scope: {in: [c, a]}}]}", ("a", "b", "c")),
        ("- allow: {and: [{scope: a}, {groups: g}]}\n- allow: {or: [{scope: b}]}", ("a", "b")),
        ("deny: {not: [{scope: a}]}", ("a",)),
        ("deny: {nor: [{scope: a}, {scope: b}]}", ("a", "b")),
        ("deny: {or: [{scope: a}]}", ()),
        ("allow: {not: [{scope: a}], nor: [{scope: b}]}", ()),
        ("allow: {and: [{scope: {not: a}}, {scope: {not_in: [b]}}]}", ()),
        ("allow: {and: [{scope: {is: a, not: b}}]}", ("a",)),
        ("allow: {and: [{scope: {starts_with: api/}}, {scope: {contains: x, ends_with: y}}]}", ()),
        ("""allow: {or: [{scope: 'a"b'}, {scope: 'a\\b'}, {scope: 'a b'}, {scope: ü}, {scope: ok}]}""", ("ok",)),
        ("allow: {and: [{claim/scope: a}, {groups: b}]}", ()),
    ],
)
def test_the_scopes_that_can_help_are_named(policy: str, scopes: tuple[str, ...]) -> None:
    assert name_of(ppl(policy)).scopes == scopes


# --- Texts that nobody reads -----------------------------------------------------------------------------------------

TEXTS = """
explanation: a
policy:
  - allow: {or: [{groups: admins}]}
    remediation: b
"""


def notes(text: str, shows: bool | None) -> list[str]:
    warnings = policy_set(text, options=PolicyOptions(show_error_details=shows)).warnings
    return [str(problem) for problem in warnings if problem.severity is Severity.NOTE]


def test_texts_that_are_never_shown_are_mentioned() -> None:
    route = "route `https://app.example.com`"
    hint = "is never shown: write `show_error_details: true` on the route"
    assert notes(route_with(TEXTS), shows=False) == [
        f"policies/app.yaml:2:3: note: {route}: `explanation` {hint}",
        f"policies/app.yaml:5:7: note: {route}: `remediation` {hint}",
    ]


@pytest.mark.parametrize("shows", [True, None], ids=["shown everywhere", "the configuration is not known"])
def test_texts_that_may_be_shown_are_not(shows: bool | None) -> None:
    assert notes(route_with(TEXTS), shows) == []


def test_texts_of_a_route_that_shows_them_are_not() -> None:
    assert notes(route_with(f"show_error_details: true\n{TEXTS}"), shows=False) == []


def test_a_rule_that_is_no_list_is_looked_into() -> None:
    text = ppl("{allow: {or: [{groups: admins}]}, explanation: a}")
    assert len(notes(text, shows=False)) == 1
    assert problems_of(ppl("allow: 5")) != []
