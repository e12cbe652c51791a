"""Which route a request belongs to: host first, then path in file order; and the index answers as the plain loop."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.policy.path import Host, canonical_host, canonical_path
from authz.policy.routes import PathKind, Route, RouteIndex
from tests.support.breaths import breaths
from tests.support.policies import find, policy_set


def label(text: str, host: str, path: str = "/") -> str | None:
    """Give the id of the route that a file finds."""
    route = find(policy_set(text), host, path)
    return None if route is None else route.id


HOSTS = """
- {from: "https://*.example.com", id: wild}
- {from: "https://app.example.com", id: app, prefix: /app}
- {from: "https://app.example.com:8443", id: app-8443, prefix: /port}
- {from: "https://only.example.com:8443", id: only}
- {from: "https://plain.test:443", id: plain}
- {from: "http://plain.test:443", id: plain-443}
- {from: "http://web.test:80", id: web}
- {from: "https://Upper.Test.", id: upper}
- {from: "https://[::1]", id: six}
- {from: "https://v*.*.test", id: many}
- {from: "https://*.port.test:8443", id: wild-port}
- {from: "https://x*.test:443", id: wild-default}
- {from: "https://dot.*", id: dot}
"""


@pytest.mark.parametrize(
    ("host", "path", "route"),
    [
        # exact hosts beat wildcards whatever the order, and any port is theirs
        ("app.example.com", "/app", "app"),
        ("app.example.com:443", "/app", "app"),
        ("app.example.com:9000", "/app", "app"),
        ("APP.example.com.", "/app", "app"),
        # a host that has routes never falls back: not to a wildcard, not from its port to the host
        ("app.example.com", "/other", None),
        ("app.example.com:8443", "/port", "app-8443"),
        ("app.example.com:8443", "/app", None),
        ("app.example.com", "/port", None),
        ("only.example.com:8443", "/", "only"),
        ("only.example.com", "/", None),
        ("only.example.com:443", "/", None),
        # a star matches any run of characters, dots included, and an empty one
        ("a.example.com", "/", "wild"),
        ("a.b.example.com:77", "/", "wild"),
        ("A.EXAMPLE.com.", "/", "wild"),
        ("example.com", "/", None),
        ("aexample.com", "/", None),
        ("a.example.com.evil.test", "/", None),
        ("a-example.com", "/", None),
        ("v.a.test", "/", "many"),
        ("v1.a.b.test", "/", "many"),
        ("v.test", "/", None),
        ("a.port.test:8443", "/", "wild-port"),
        ("a.port.test", "/", None),
        ("a.port.test:443", "/", None),
        ("xy.test:9000", "/", "wild-default"),
        ("dot.example", "/", "dot"),
        ("dotxexample", "/", None),
        # the scheme's default port is no port; another scheme's is one
        ("plain.test", "/", "plain"),
        ("plain.test:80", "/", "plain"),
        ("plain.test:443", "/", "plain-443"),
        ("web.test:9000", "/", "web"),
        ("upper.test", "/", "upper"),
        ("[0:0::1]:5", "/", "six"),
        ("unknown.test", "/", None),
    ],
)
def test_the_host_comes_first(host: str, path: str, route: str | None) -> None:
    assert label(HOSTS, host, path) == route


@pytest.mark.parametrize(
    ("host", "known"),
    [("app.example.com:1", True), ("only.example.com", True), ("x.example.com", True), ("unknown.test", False)],
)
def test_a_host_is_known_when_some_route_names_it(host: str, known: bool) -> None:
    assert policy_set(HOSTS).routes.knows(canonical_host(host)) is known


WILDCARDS = """
- {from: "https://*.a.test", id: narrow, path: /x}
- {from: "https://*", id: first, prefix: /p}
- {from: "https://*.test", id: later}
"""


@pytest.mark.parametrize(
    ("host", "path", "route"),
    [
        ("b.a.test", "/x", "narrow"),
        ("b.a.test", "/p", "first"),
        ("b.a.test", "/q", "later"),
        ("anything", "/p/1", "first"),
        ("[::1]", "/p", "first"),
        ("anything", "/q", None),
    ],
)
def test_wildcards_are_tried_in_file_order_host_and_path_together(host: str, path: str, route: str | None) -> None:
    assert label(WILDCARDS, host, path) == route


PATHS = """
- {from: "https://a.test", id: exact, path: /exact}
- {from: "https://a.test", id: upper, path: /Exact}
- {from: "https://a.test", id: prefix, prefix: /pre}
- {from: "https://a.test", id: deeper, prefix: /pre/fix}
- {from: "https://a.test", id: pattern, regex: "/n/[0-9]+"}
- {from: "https://a.test", id: pattern-2, regex: "^/n/.*$"}
- {from: "https://a.test", id: cafe, path: /café}
- {from: "https://a.test", id: dotted, prefix: /.well}
- {from: "https://a.test", id: all-of-them, regex: /r.*, path: /r1, prefix: /r2}
- {from: "https://a.test", id: path-and-prefix, path: /s1, prefix: /s}
- {from: "https://a.test", id: slash, prefix: /slash/}
- {from: "https://b.test", id: everything}
- {from: "https://b.test", id: never, path: /x}
- {from: "https://c.test", id: c-pattern, regex: "/x.*"}
- {from: "https://c.test", id: c-path, path: /x}
- {from: "https://c.test", id: c-root, prefix: /}
- {from: "https://c.test", id: c-late, regex: /y}
"""


@pytest.mark.parametrize(
    ("host", "path", "route"),
    [
        ("a.test", "/exact", "exact"),
        ("a.test", "/exact?a=b", "exact"),
        ("a.test", "/%65xact", "exact"),
        ("a.test", "/Exact", "upper"),
        ("a.test", "/exact/", None),
        ("a.test", "/EXACT", None),
        ("a.test", "/pre", "prefix"),
        ("a.test", "/prefer", "prefix"),
        ("a.test", "/pre/fix", "prefix"),
        ("a.test", "/pr", None),
        ("a.test", "/n/12", "pattern"),
        ("a.test", "/n/12x", "pattern-2"),
        ("a.test", "/x/n/12", None),
        ("a.test", "/n", None),
        ("a.test", "/caf%c3%a9", "cafe"),
        ("a.test", "/.well-known", "dotted"),
        ("a.test", "/r1", "all-of-them"),
        ("a.test", "/rx", "all-of-them"),
        ("a.test", "/s1", "path-and-prefix"),
        ("a.test", "/s2", None),
        ("a.test", "/slash/", "slash"),
        ("a.test", "/slash", None),
        ("a.test", "/", None),
        ("b.test", "/x", "everything"),
        ("b.test", "/", "everything"),
        ("c.test", "/x", "c-pattern"),
        ("c.test", "/y", "c-root"),
        ("c.test", "/", "c-root"),
    ],
)
def test_then_the_path_in_file_order_and_the_first_match_is_final(host: str, path: str, route: str | None) -> None:
    assert label(PATHS, host, path) == route


def test_envoy_may_name_the_route_itself() -> None:
    routes = policy_set(PATHS).routes
    found = routes.find_by_id("never")
    assert found is not None
    assert found.source.line == 14
    assert routes.find_by_id("unknown") is None
    assert routes.find_by_id("") is None


def test_a_route_without_an_id_is_called_by_its_host_and_matcher_as_written() -> None:
    routes = policy_set(
        '- {from: "https://A.test"}\n- {from: "https://A.test", prefix: /%61}\n'
        '- {from: "https://A.test", regex: /r.*, path: /p}\n- {from: "https://A.test", id: x, path: /p}\n'
    ).routes.routes
    assert [route.name.label for route in routes] == [
        "https://A.test",
        "https://A.test prefix=/%61",
        "https://A.test regex=/r.*",
        "x",
    ]
    assert [route.index for route in routes] == [0, 1, 2, 3]


def test_a_matcher_tells_whether_it_fits() -> None:
    exact, prefix, pattern, everything = (
        route.path
        for route in policy_set(
            '- {from: "https://a.test", path: /a}\n- {from: "https://a.test", prefix: /a}\n'
            '- {from: "https://a.test", regex: /a.}\n- {from: "https://a.test"}\n'
        ).routes.routes
    )
    paths = ("/a", "/ab", "/abc", "/b")
    assert [exact.matches(path) for path in paths] == [True, False, False, False]
    assert [prefix.matches(path) for path in paths] == [True, True, True, False]
    assert [pattern.matches(path) for path in paths] == [False, True, False, False]
    assert [everything.matches(path) for path in paths] == [True, True, True, True]


@pytest.mark.parametrize(
    ("start", "host", "fits"),
    [
        ("https://a.test", "a.test", True),
        ("https://a.test", "a.test:99", True),
        ("https://a.test", "b.test", False),
        ("https://a.test:99", "a.test:99", True),
        ("https://a.test:99", "a.test", False),
        ("https://*.test:99", "a.test:99", True),
        ("https://*.test:99", "a.test:98", False),
        ("https://*.test", "a.tests", False),
    ],
)
def test_a_host_matcher_tells_whether_it_fits(start: str, host: str, fits: bool) -> None:
    matcher = policy_set(f'- from: "{start}"').routes.routes[0].host
    assert matcher.matches(canonical_host(host)) is fits


# --- The index and the loop ------------------------------------------------------------------------------------------


def plain_loop(routes: Sequence[Route], host: Host, path: str) -> Route | None:
    """Find a route as policy-language.md says it, without an index."""
    own = [route for route in routes if route.host.pattern is None and route.host.name == host.name]
    at_port = [route for route in own if route.host.port is not None and route.host.port == host.port]
    if own:
        candidates = at_port or [route for route in own if route.host.port is None]
    else:
        candidates = [route for route in routes if route.host.pattern is not None and route.host.matches(host)]
    return next((route for route in candidates if route.path.matches(path)), None)


MATCHERS = st.sampled_from(
    ["", "path: /", "path: /a", "path: /a/b", "prefix: /", "prefix: /a", "prefix: /a/", "prefix: /ab", "regex: '/a.*'",
     "regex: '.*b'", "regex: '/[ab]'"]
)  # fmt: skip
STARTS = st.sampled_from(
    ["a.test", "a.test:99", "b.test", "b.test:443", "*.test", "*", "*.test:99", "a*t"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(STARTS, MATCHERS), min_size=1, max_size=8),
    st.lists(
        st.tuples(
            st.sampled_from(["a.test", "a.test:99", "a.test:98", "b.test", "b.test:99", "c.test", "c.test:99", "d"]),
            st.sampled_from(["/", "/a", "/a/", "/a/b", "/ab", "/abb", "/b", "/c"]),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_the_index_answers_as_the_plain_loop(rules: list[tuple[str, str]], asked: list[tuple[str, str]]) -> None:
    text = "".join(f'- {{from: "https://{start}"{", " if matcher else ""}{matcher}}}\n' for start, matcher in rules)
    routes = policy_set(text).routes
    for raw_host, raw_path in asked:
        host, path = canonical_host(raw_host), canonical_path(raw_path)
        assert routes.find(host, path) is plain_loop(routes.routes, host, path)


def test_every_kind_of_path_is_known() -> None:
    assert [*PathKind] == ["any", "prefix", "path", "regex"]


def test_indexing_stands_aside_at_every_route() -> None:
    routes = policy_set("".join(f"- from: https://a{number}.example\n" for number in range(12))).routes.routes
    assert breaths(lambda: RouteIndex(routes)) >= 2 * 12
