"""Copies of tokens, through a real Envoy with each sample: whatever header they stand in, a good request stays good.

`hide_credentials` takes off every header that holds a token. The samples must let it, by a rule that knows no names.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from authz.demo import files, stand
from authz.demo.processes import Processes
from tests.e2e.conftest import Reply, Stand
from tests.support.ports import named_ports

pytestmark = pytest.mark.asyncio(loop_scope="session")

APP = "app.localhost"
# A name may begin with any character of a token (RFC 9110 section 5.6.2), and like `host`.
ODD_NAMES = ("h", "ho", "hos", "hosts", "host-x", "1-token", "!", "~token", "x.auth.token", "x-envoy-token")
USUAL_NAMES = ("x-id-token", "x-amzn-oidc-accesstoken", "x-forwarded-access-token", "referer", "x-envoy-original-path")


class Browsers:
    """A second Envoy, with envoy/browser.yaml, that asks the stand's authz; and what stands for Cognito."""

    def __init__(self, one: Stand) -> None:
        self._stand = one
        self.ports = one.ports | named_ports("browser_port", "browser_admin_port", "cognito_port")

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ports['browser_port']}"

    async def ask(self, path: str, *headers: tuple[str, str]) -> aiohttp.ClientResponse:
        """Ask as a browser does, at whatever address; redirects are not followed."""
        named = [("host", f"{APP}:{self.ports['browser_port']}"), *headers]
        options: dict[str, Any] = {"ssl": False, "allow_redirects": False}
        async with self._stand.http.get(f"{self.url}{path}", headers=named, **options) as answer:
            await answer.read()
            return answer

    async def session(self) -> tuple[str, str]:
        """Sign in; gives the header with the session's cookies."""
        cookies: SimpleCookie = SimpleCookie()
        page = ("accept", "text/html")
        sent_away = await self.ask("/", page)
        assert sent_away.status == 302
        cookies.update(sent_away.cookies)
        state = parse_qs(urlsplit(sent_away.headers["location"]).query)["state"][0]
        callback = urlencode({"code": "any", "state": state})
        back = await self.ask(f"/oauth2/callback?{callback}", page, as_header(cookies))
        assert back.status == 302, await back.text()
        cookies.update(back.cookies)
        return as_header(cookies)

    async def tokens(self, _: web.Request) -> web.Response:
        """Answer as Cognito's token endpoint does."""
        pool = self._stand.pool
        session = {"access_token": pool.token(), "id_token": pool.id_token(), "refresh_token": "opaque"}
        return web.json_response({**session, "token_type": "Bearer", "expires_in": 3600})


def as_header(cookies: SimpleCookie) -> tuple[str, str]:
    return ("cookie", "; ".join(f"{name}={one.value}" for name, one in cookies.items() if one.value))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browsers(envoy_stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browsers]:
    folder = tmp_path_factory.mktemp("browsers")
    one, processes = Browsers(envoy_stand), Processes(folder)
    cognito = web.Application()
    cognito.router.add_post("/oauth2/token", one.tokens)
    runner = web.AppRunner(cognito)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", one.ports["cognito_port"]).start()
        client = {"client_id": envoy_stand.pool.client_id, "client_secret": "s"}
        config = files.write_browser_config(folder, ports=one.ports, **client)
        ports = one.ports | {"envoy_admin_port": one.ports["browser_admin_port"]}
        await stand.start_envoy(processes, envoy_stand.http, ports, config)
        yield one
    finally:
        await processes.end()
        await runner.cleanup()


def copied(token: str) -> dict[str, str]:
    """Give a copy of the token in headers of all kinds, in an address too."""
    plain = dict.fromkeys((*USUAL_NAMES, *ODD_NAMES), token)
    return plain | {"referer": f"https://app.localhost/?id_token={token}", "x-note": f"token%3A%20{token}"}


def assert_none_arrived(received: Mapping[str, Any], copies: Mapping[str, str]) -> None:
    assert not set(copies) & set(received)
    assert "eyJ" not in json.dumps(received), "how every token begins; the upstream shows no more of one"
    assert received["x-auth-subject"]
    assert received["x-kept"] == ["as it is"]


KEPT = ("x-kept", "as it is")


async def test_copies_of_a_token_are_taken_off_by_api_yaml(envoy_stand: Stand) -> None:
    bearer, token = envoy_stand.bearer("alice"), envoy_stand.pool.id_token()
    for name, value in copied(token).items():
        reply: Reply = await envoy_stand.send("/", bearer, KEPT, (name, value), host="admin.localhost")
        assert reply.status == 200, name
        assert_none_arrived(reply.received, {name: value})


async def test_copies_of_a_programs_token_are_taken_off_by_browser_yaml(envoy_stand: Stand, browsers: Browsers) -> None:
    bearer, token = envoy_stand.bearer("alice"), envoy_stand.pool.id_token()
    for name, value in copied(token).items():
        answer = await browsers.ask("/", bearer, KEPT, (name, value))
        assert answer.status == 200, name
        assert_none_arrived((await answer.json())["headers"], {name: value})


async def test_copies_of_a_sessions_token_are_taken_off_by_browser_yaml(envoy_stand: Stand, browsers: Browsers) -> None:
    session, copies = await browsers.session(), copied(envoy_stand.pool.id_token())
    together = await browsers.ask("/", session, KEPT, *copies.items())
    assert together.status == 200
    assert_none_arrived((await together.json())["headers"], copies)


async def test_nobody_erases_the_address_that_envoy_saw_by_writing_a_token_into_it(envoy_stand: Stand) -> None:
    copy = ("x-forwarded-for", envoy_stand.tokens()["alice"])
    reply = await envoy_stand.send("/", envoy_stand.bearer("alice"), copy, host="admin.localhost")
    assert (reply.status, reply.body) == (500, "")


async def test_what_may_not_be_changed_is_a_500_that_somebody_notices(envoy_stand: Stand) -> None:
    """The names that the samples once listed: a token anywhere else made a good request a 500."""

    def named(manager: Any) -> None:
        guard = next(one for one in manager["http_filters"] if one["name"].endswith("ext_authz"))
        rules = guard["typed_config"]["decoder_header_mutation_rules"]
        rules["allow_expression"]["regex"] = "x[-._]auth[-._][-._a-z0-9]+|authorization|cookie"

    copy = ("referer", f"https://app.localhost/?id_token={envoy_stand.pool.id_token()}")
    async with envoy_stand.another_envoy(named) as port, asyncio.timeout(10):
        headers = [("host", "admin.localhost"), envoy_stand.bearer("alice")]
        async with envoy_stand.http.get(f"http://127.0.0.1:{port}/", headers=headers) as good:
            assert good.status == 200
        async with envoy_stand.http.get(f"http://127.0.0.1:{port}/", headers=[*headers, copy]) as bad:
            assert bad.status == 500
