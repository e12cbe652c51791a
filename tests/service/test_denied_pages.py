"""What a refused person sees, through the real gRPC port of the real `authz serve`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.check_request import check_request
from tests.support.running_service import Reply, RunningService, run_authz
from tests.support.user_pool import FakeUserPool

pytestmark = pytest.mark.xdist_group("denied_pages")  # one service for all of them

POLICY = """
- from: https://app.example.com
  id: payroll
  prefix: /payroll
  show_error_details: true
  explanation: Payroll is for <finance>.
  denied_redirect: {403: '/ask?for={url}'}
  policy:
    - allow: {and: [{groups: finance}]}
      remediation: Ask Ann.
    - deny: {or: [{groups: guests}]}
      explanation: Guests never get in.
- from: https://app.example.com
  id: api
  prefix: /api
  policy: &scopes
    - allow: {and: [{scope: api/read}, {scope: {in: [api/a, api/b]}}]}
- from: https://app.example.com
  prefix: /open-api
  show_error_details: true
  policy: *scopes
- from: https://app.example.com
  allow_any_authenticated_user: true
"""
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "sec-fetch-mode": "navigate"}
SIGN_IN = "https://login.example.com/start?return={url}"


@pytest.fixture(scope="module")
def pool() -> FakeUserPool:
    return FakeUserPool(clock=time.time)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, pool: FakeUserPool) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("denied")
    pages = folder / "pages"
    pages.mkdir()
    (pages / "404.html").write_text("<title>{{status}}</title><p>{{host}} {{request_id}}</p>", encoding="utf-8")
    (pages / "error.txt").write_text("{{title}}: {{sentence}}\n", encoding="utf-8")
    settings = {"denied_redirect": {"401": SIGN_IN}, "denied_pages": "pages"}
    with RunningService(folder, POLICY, pools=[pool], settings=settings) as running:
        yield running


def refused(service: RunningService, path: str, token: str | None = None, **fields: object) -> Reply:
    reply = service.check(check_request(path=path, token=token, **fields))  # type: ignore[arg-type]
    assert reply.code != 0
    return reply


def test_a_browser_that_is_not_signed_in_is_sent_to_sign_in(service: RunningService) -> None:
    reply = refused(service, "/a?b=c&d", headers=BROWSER)
    assert reply.verdict == (302, 16, "user-unauthenticated")
    assert reply.headers["location"] == (
        "https://login.example.com/start?return=https%3A%2F%2Fapp.example.com%2Fa%3Fb%3Dc%26d"
    )
    assert reply.metadata["decision"] == "deny"
    assert service.decision(reply)["decision"] == "deny"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"accept": "application/json"},
        {**BROWSER, "x-requested-with": "XMLHttpRequest"},
        {**BROWSER, "sec-fetch-mode": "cors"},
        {**BROWSER, "content-type": "application/grpc"},
    ],
    ids=["curl", "JSON", "XHR", "fetch", "gRPC"],
)
def test_programs_are_not(service: RunningService, headers: dict[str, str]) -> None:
    reply = refused(service, "/a", headers=headers)
    assert reply.verdict == (401, 16, "user-unauthenticated")
    assert "location" not in reply.headers
    assert reply.headers["www-authenticate"] == 'Bearer realm="app.example.com"'


def test_a_form_that_is_sent_is_not_redirected_but_answered(service: RunningService) -> None:
    reply = refused(service, "/a", headers=BROWSER, method="POST")
    assert (reply.status, reply.headers["content-type"]) == (401, "text/html; charset=utf-8")


def test_a_route_sends_browsers_elsewhere(service: RunningService, pool: FakeUserPool) -> None:
    reply = refused(service, "/payroll", pool.token(groups=["devs"]), headers=BROWSER)
    assert reply.verdict == (302, 7, "groups-unauthorized")
    assert reply.headers["location"] == "/ask?for=https%3A%2F%2Fapp.example.com%2Fpayroll"


def test_the_rule_that_came_closest_says_what_to_do(service: RunningService, pool: FakeUserPool) -> None:
    body = json.loads(refused(service, "/payroll", pool.token(groups=["devs"])).body)
    assert (body["reason"], body["explanation"]) == ("groups-unauthorized", "Payroll is for <finance>.")
    assert body["remediation"] == "Ask Ann."


def test_the_rule_that_denied_says_why(service: RunningService, pool: FakeUserPool) -> None:
    token = pool.token(groups=["finance", "guests"])
    reply = refused(service, "/payroll", token, headers={"accept": "text/html"}, method="POST")
    assert reply.verdict == (403, 7, "groups-ok")
    assert "<p>Guests never get in.</p>" in reply.body
    assert "Ask Ann" not in reply.body


@pytest.mark.parametrize(("path", "named"), [("/api", ""), ("/open-api", ', scope="api/read api/a api/b"')])
def test_what_a_lacking_scope_is(service: RunningService, pool: FakeUserPool, path: str, named: str) -> None:
    reply = refused(service, path, pool.token(scope="api/a"))
    assert reply.verdict == (403, 7, "scope-unauthorized")
    assert reply.headers["www-authenticate"] == f'Bearer realm="app.example.com", error="insufficient_scope"{named}'


def test_the_operators_page_holds_nothing_of_the_clients_but_escaped(service: RunningService) -> None:
    headers = {"accept": "text/html", "x-request-id": "<script>&'\""}
    reply = refused(service, "/", headers=headers, host="Unknown.Example:8443")
    assert reply.verdict == (404, 7, "route-not-found")
    assert reply.body == "<title>404</title><p>unknown.example &lt;script&gt;&amp;&#x27;&quot;</p>"
    assert "script-src" not in reply.headers["content-security-policy"]


def test_plain_text_for_who_prefers_it(service: RunningService) -> None:
    reply = refused(service, "/a", headers={"accept": "text/plain"})
    assert reply.body == "Unauthenticated: You are not signed in, or your sign-in has expired. Sign in and try again.\n"
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("host", ["app.example.com\r\nx: y", "a,b", "<script>", "app.example.com/\\evil.example"])
def test_a_hostile_host_is_neither_redirected_nor_shown(service: RunningService, host: str) -> None:
    reply = refused(service, "/a", headers=BROWSER, host=host)
    assert reply.verdict == (400, 3, "request-malformed")
    assert host not in reply.body
    assert not any(set("\r\n") & set(value) for value in reply.headers.values())


def test_a_template_that_does_not_load_ends_with_3(tmp_path: Path, pool: FakeUserPool) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "403.html").write_text("<p>\n{{claims}}", encoding="utf-8")
    unstarted = RunningService(tmp_path, POLICY, pools=[pool], settings={"denied_pages": "pages"})
    for verb in ("serve", "check"):
        ended = run_authz(verb, "--config", unstarted.config)
        assert ended.returncode == 3
        problem = f"{tmp_path}/pages/403.html:2:1: unknown placeholder `claims`, expected one of"
        assert problem in ended.stdout + ended.stderr  # `check` reports, `serve` complains
