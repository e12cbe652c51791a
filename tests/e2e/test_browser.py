"""People sign in with a browser: `authz demo`, headless Chromium, the local Cognito's own pages.

The pictures of the pages are kept in pytest's temporary folder, below `pictures`.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from authz.demo.cognito import FEDERATED, PASSWORD
from authz.demo.files import SAMPLES
from authz.demo.scenario import tamper
from tests.e2e.conftest import chromium

pytestmark = pytest.mark.xdist_group("browser")  # one stand for all

# As root there is no sandbox; the rest keeps Chromium from calling home.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
SIGN_IN_PAGE = re.compile(r"^http://cognito\.localhost:\d+/oauth2/authorize")


class Stand:
    """The running `authz demo`, by what it printed."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text()

    def until(self, text: str, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < until, f"{text!r} is not in:\n{self.output}"
            time.sleep(0.05)

    @property
    def url(self) -> str:
        """The application's origin."""
        return re.findall(r"^(https://app\.localhost:\d+)/$", self.output, re.MULTILINE)[0]

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 443

    def address(self, what: str) -> str:
        """An address of the table."""
        return re.findall(rf"^{what} +(http\S+)", self.output, re.MULTILINE)[0]

    def token(self, reason: str) -> str:
        """The token of a line to paste."""
        return re.findall(rf"^# {reason}\n.*Bearer (\S+)'$", self.output, re.MULTILINE)[0]

    def cognito(self, operation: str, **arguments: object) -> Any:
        request = urllib.request.Request(
            self.address("the local Cognito"),
            data=json.dumps(arguments).encode(),
            headers={
                "content-type": "application/x-amz-json-1.1",
                "x-amz-target": f"AWSCognitoIdentityProviderService.{operation}",
            },
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def refreshed_sessions(self) -> int:
        """How many sessions Envoy has refreshed."""
        admin = re.findall(r"^Envoy for browsers .*\nits admin pages +(http\S+)", self.output, re.MULTILINE)[0]
        counter = "^http.browsers.oauth_refreshtoken_success$"
        with urllib.request.urlopen(f"{admin}/stats?filter={counter}", timeout=5) as answer:
            return int(answer.read().decode().rpartition(":")[2])


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("browser-stand")
    shutil.copytree(SAMPLES / "policies", folder / "policies")
    output = folder / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "authz", "demo"],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            one = Stand(process, output)
            one.until("Ctrl-C ends everything")
            yield one
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0


@pytest.fixture(scope="module")  # while it is open no other event loop can run in this thread
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield one
        one.close()


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Page, str], None]:
    """Keep pictures of a page: as it is, in the dark, and on a telephone."""
    folder = tmp_path_factory.mktemp("pictures")
    looks = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 390)}

    def take(page: Page, name: str) -> None:
        for look, (scheme, width) in looks.items():
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 800})
            file = folder / f"{name}-{look}.png"
            page.screenshot(path=file, full_page=True)
            assert file.stat().st_size > 5_000, "a page with something on it"
            assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing runs out of the page"
        page.emulate_media(color_scheme="light")

    return take


@contextmanager
def visitor(browser: Browser) -> Iterator[tuple[BrowserContext, Page]]:
    """Give a browser that has been nowhere; every address it asked for must be on this machine."""
    context = browser.new_context(ignore_https_errors=True, accept_downloads=False)
    context.set_default_timeout(30_000)
    page = context.new_page()
    outside: list[str] = []
    page.on("request", lambda request: None if is_local(request.url) else outside.append(request.url))
    try:
        yield context, page
    finally:
        context.close()
    assert outside == []


def is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return url.startswith("data:") or host in {"localhost", "127.0.0.1"} or host.endswith(".localhost")


def sign_in(page: Page, stand: Stand, name: str, path: str = "/") -> None:
    page.goto(f"{stand.url}{path}")
    expect(page).to_have_url(SIGN_IN_PAGE)
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{stand.url}{path}")


def assert_person(page: Page, name: str, groups: list[str] | re.Pattern[str], email: str) -> None:
    expect(page.locator("#name")).to_have_text(name)
    expect(page.locator("#email")).to_have_text(email)
    expect(page.locator("#groups li")).to_have_text(groups)
    expect(page.locator("#credentials")).to_have_text("No token is among them.")


def status_of(page: Page, stand: Stand, path: str) -> int:
    response = page.goto(f"{stand.url}{path}")
    assert response is not None
    return response.status


def assert_refused(page: Page, stand: Stand, path: str) -> None:
    """The page for people, with the id to ask about."""
    response = page.goto(f"{stand.url}{path}")
    assert response is not None
    assert (response.status, response.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert response.request.redirected_from is None, "whoever is signed in is not sent to sign in again"
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.locator("body")).to_contain_text(re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"))


def sign_out(page: Page, stand: Stand) -> None:
    page.goto(f"{stand.url}/public")
    page.get_by_role("link", name="Sign out").click()
    expect(page).to_have_url(SIGN_IN_PAGE)


def test_alice_signs_in_and_goes_where_admins_may(
    stand: Stand, browser: Browser, picture: Callable[[Page, str], None]
) -> None:
    with visitor(browser) as (context, page):
        sign_in(page, stand, "alice", "/?from=mail&x=%2F")
        assert_person(page, "alice", ["admins"], "alice@example.com")
        picture(page, "identity")
        assert status_of(page, stand, "/admin") == 200
        assert status_of(page, stand, "/developers") == 200
        assert status_of(page, stand, "/staff") == 200, "her e-mail address is in the ID token alone"

        cookies = [cookie for cookie in context.cookies() if cookie["domain"] == "app.localhost"]
        assert {cookie["name"] for cookie in cookies} >= {"__Host-bearer", "__Host-id", "__Host-refresh", "__Host-hmac"}
        for cookie in cookies:
            assert cookie["name"].startswith("__Host-")
            assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
            sealed = cookie["name"] in {"__Host-bearer", "__Host-id", "__Host-refresh"}
            assert cookie["value"].startswith("gcm.") or not sealed


def test_bob_is_refused_politely_where_only_admins_may(
    stand: Stand, browser: Browser, picture: Callable[[Page, str], None]
) -> None:
    with visitor(browser) as (_, page):
        sign_in(page, stand, "bob", "/developers")
        assert_person(page, "bob", ["developers"], "bob@example.com")
        assert_refused(page, stand, "/admin")
        expect(page.locator("body")).to_contain_text("Administration is for members of the group admins.")
        picture(page, "refusal")


def test_who_signs_out_is_asked_to_sign_in_again(stand: Stand, browser: Browser) -> None:
    with visitor(browser) as (context, page):
        sign_in(page, stand, "carol")
        assert_person(page, "carol", ["no group"], "carol@elsewhere.example")
        sign_out(page, stand)
        names = {cookie["name"] for cookie in context.cookies()}
        assert not names & {"__Host-bearer", "__Host-id", "__Host-refresh", "__Host-hmac", "__Host-expires"}
        page.goto(f"{stand.url}/")
        expect(page).to_have_url(SIGN_IN_PAGE)


def test_a_user_of_auth0_signs_in_is_refused_and_signs_out(
    stand: Stand, browser: Browser, picture: Callable[[Page, str], None]
) -> None:
    with visitor(browser) as (_, page):
        page.goto(f"{stand.url}/public")
        picture(page, "public")
        page.get_by_role("link", name="Sign in with Auth0").click()
        expect(page).to_have_url(re.compile(r"^http://auth0\.localhost:\d+/"))
        picture(page, "auth0")
        page.get_by_role("button", name=FEDERATED.name).click()
        page.wait_for_url(f"{stand.url}/")
        # Cognito puts federated users in a group of their own
        assert_person(page, f"Auth0_{FEDERATED.subject}", re.compile(r"^eu-west-1_\w+_Auth0$"), FEDERATED.email)
        picture(page, "federated")
        assert status_of(page, stand, "/staff") == 200
        assert status_of(page, stand, "/partners") == 200
        assert_refused(page, stand, "/admin")
        sign_out(page, stand)


def test_partners_are_those_of_auth0_alone(stand: Stand, browser: Browser) -> None:
    with visitor(browser) as (_, page):
        sign_in(page, stand, "alice")
        assert_refused(page, stand, "/partners")


@pytest.fixture
def brief_tokens(stand: Stand) -> Iterator[int]:
    """Make the access tokens of new sessions good for a few seconds."""
    (pool,) = [one for one in stand.cognito("ListUserPools", MaxResults=10)["UserPools"] if one["Name"] == "demo"]
    clients = stand.cognito("ListUserPoolClients", UserPoolId=pool["Id"], MaxResults=10)["UserPoolClients"]
    (client,) = [one for one in clients if one["ClientName"] == "browser"]
    known = {"UserPoolId": pool["Id"], "ClientId": client["ClientId"]}
    units = {"AccessToken": "seconds", "IdToken": "hours"}
    stand.cognito("UpdateUserPoolClient", **known, AccessTokenValidity=4, TokenValidityUnits=units)
    yield 4
    units["AccessToken"] = "hours"
    stand.cognito("UpdateUserPoolClient", **known, AccessTokenValidity=24, TokenValidityUnits=units)


def test_a_session_is_refreshed_when_its_access_token_expires(
    stand: Stand, browser: Browser, brief_tokens: int
) -> None:
    before = stand.refreshed_sessions()
    with visitor(browser) as (context, page):
        sign_in(page, stand, "bob")
        (first,) = [cookie["value"] for cookie in context.cookies() if cookie["name"] == "__Host-bearer"]
        until = time.monotonic() + 5 * brief_tokens
        while any(cookie["name"] == "__Host-bearer" for cookie in context.cookies()):  # a real browser, a real clock
            assert time.monotonic() < until
            page.wait_for_timeout(100)
        response = page.goto(f"{stand.url}/")
        assert response is not None
        assert (response.status, response.request.redirected_from) == (200, None), "nobody had to sign in"
        expect(page.locator("#name")).to_have_text("bob")
        expect(page.locator("#email")).to_have_text("bob@example.com")
        assert [cookie["value"] for cookie in context.cookies() if cookie["name"] == "__Host-bearer"] != [first]
    assert stand.refreshed_sessions() == before + 1


def ask(stand: Stand, path: str, host: str | None = None, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Ask without a browser; gives the status and the body, or where it leads."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = HTTPSConnection("127.0.0.1", stand.port, timeout=5, context=context)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers={"host": host or f"app.localhost:{stand.port}", **named})
        answer = connection.getresponse()
        return answer.status, answer.headers.get("location") or answer.read().decode()
    finally:
        connection.close()


def received(stand: Stand, path: str, **headers: str) -> dict[str, list[str]]:
    """The headers that reached the application."""
    status, body = ask(stand, path, **headers)
    assert status == 200, body
    return json.loads(body)["headers"]


def test_programs_are_told_401_and_people_where_to_sign_in(stand: Stand) -> None:
    assert ask(stand, "/admin", accept="application/json")[0] == 401
    assert ask(stand, "/admin", accept="*/*", x_requested_with="XMLHttpRequest")[0] == 401
    for mode in ("cors", "same-origin", "no-cors"):  # scripts, and pictures such as a favicon
        assert ask(stand, "/admin", accept="*/*", sec_fetch_mode=mode)[0] == 401
    status, location = ask(stand, "/admin", accept="text/html", sec_fetch_mode="navigate")
    assert status == 302
    assert SIGN_IN_PAGE.match(location)
    assert "code_challenge_method=S256" in location


def test_the_way_back_is_never_made_from_the_host_header(stand: Stand) -> None:
    for host in ("evil.example", f"evil.example:{stand.port}", f"app.localhost.evil.example:{stand.port}"):
        status, body = ask(stand, "/", host=host, accept="text/html")
        assert status in {401, 404}, body
        assert "evil" not in body


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_client_with_a_token_of_its_own_needs_no_session(stand: Stand, scheme: str) -> None:
    token = stand.token("200: alice is in the group admins")
    status, body = ask(stand, "/admin", authorization=f"{scheme} {token}")
    assert status == 200, body
    assert json.loads(body)["headers"]["x-auth-groups"] == ["admins"]
    assert ask(stand, "/admin", authorization=f"{scheme} {tamper(token)}")[0] == 401


def test_no_session_and_no_forged_token_reaches_the_application(stand: Stand, browser: Browser) -> None:
    alice = stand.token("200: alice is in the group admins")
    with visitor(browser) as (context, page):
        sign_in(page, stand, "bob")
        cookies = "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in context.cookies())
    sent = {"cookie": f"theme=dark; {cookies}", "x_auth_id_token": alice, "x_auth_groups": "admins"}

    session = received(stand, "/", **sent)
    assert session["cookie"] == ["theme=dark"], "what is not ours passes"
    assert session["x-auth-groups"] == ["developers"]
    assert not {"authorization", "x-auth-id-token"} & session.keys()

    bearer = received(stand, "/", **sent, authorization=f"Bearer {alice}")
    assert bearer["x-auth-username"] == ["alice"]
    assert not {"authorization", "x-auth-id-token", "cookie"} & bearer.keys()
    assert "x-auth-email" not in bearer, "the session's ID token adds nothing to somebody else's access token"


def test_a_preflight_is_authz_to_decide(stand: Stand) -> None:
    status, body = ask(stand, "/admin", method="OPTIONS", accept="application/json", cookie="__Host-refresh=gcm.x")
    assert status == 401
    assert "error" in json.loads(body), "answered by authz, not by the filter"
    status, body = ask(stand, "/public", method="OPTIONS", cookie="__Host-refresh=gcm.x")
    assert (status, json.loads(body)["headers"].get("cookie")) == (200, None)
