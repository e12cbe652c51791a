# ruff: noqa: ASYNC110, ASYNC240 - a test may poll, and wait for a small file
"""What clients and the upstream see through a real Envoy with envoy/api.yaml."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.demo import files, scenario
from authz.demo.stand import envoy_binary
from tests.e2e.conftest import SAMPLES, Stand, send

pytestmark = pytest.mark.asyncio(loop_scope="session")

REFUSED_HEADERS = ("x-auth-subject", "x-auth-username", "x-auth-groups", "x-auth-email")
RARE_TWINS = ("x+auth+groups", "x~auth~subject", "x-auth+groups", "x!auth!email")  # to lighttpd these are ours
SPOOFS = (
    ("x-auth-subject", "root"),
    ("X-Auth-Groups", "admins"),
    ("x-auth-groups", "admins"),
    ("x-auth-username", "root"),
    ("x-auth-email", "root@example.com"),
    ("x-auth-tenant", "all"),
    ("x.auth.groups", "admins"),
    *((name, "root") for name in RARE_TWINS),
    ("x-envoy-auth-failure-mode-allowed", "true"),
    ("x-envoy-auth-partial-body", "false"),
)


def sentence(case: scenario.Case) -> str:
    return scenario.judge(case, scenario.Answer(0), {}).request


@pytest.mark.parametrize("case", scenario.CASES, ids=sentence)
async def test_every_line_of_the_demo(envoy_stand: Stand, case: scenario.Case) -> None:
    row = scenario.judge(case, await envoy_stand.client().ask(case), envoy_stand.subjects)
    assert not row.problems


@pytest.mark.parametrize(
    ("host", "path", "who", "status", "subject"),
    [
        pytest.param("admin.localhost", "/", "alice", 200, "alice", id="protected route, good token"),
        pytest.param("www.localhost", "/account", "carol", 200, "carol", id="any user, one without groups"),
        pytest.param("www.localhost", "/", "carol", 200, "carol", id="public route, good token"),
        pytest.param("www.localhost", "/", "alice, expired", 200, None, id="public route, bad token"),
        pytest.param("www.localhost", "/", None, 200, None, id="public route, nobody"),
    ],
)
async def test_spoofed_identity_headers_never_reach_the_upstream(
    envoy_stand: Stand, host: str, path: str, who: str | None, status: int, subject: str | None
) -> None:
    credential = [] if who is None else [envoy_stand.bearer(who)]
    reply = await envoy_stand.send(path, *SPOOFS, *credential, host=host)
    assert reply.status == status
    received = reply.received
    names = {name for name in received if "auth" in name} - {"authorization"}
    expected = {
        "alice": {"x-auth-subject", "x-auth-username", "x-auth-groups"},
        "carol": {"x-auth-subject", "x-auth-username"},
        None: set(),
    }[subject]
    assert names == expected
    assert [envoy_stand.subjects[one] for one in received.get("x-auth-subject", [])] == [subject][: len(expected)]


async def test_spoofed_identity_headers_are_ours_to_remove_where_envoy_does_not_strip_them(envoy_stand: Stand) -> None:
    def no_early_strip(manager: Any) -> None:
        del manager["early_header_mutation_extensions"]

    async with envoy_stand.another_envoy(no_early_strip) as port:
        for host, credential in (("www.localhost", []), ("dev.localhost", [envoy_stand.bearer("bob")])):
            received = (await send(port, "/", *SPOOFS, *credential, host=host)).received
            spoofed = {
                value for name in (*REFUSED_HEADERS, "x.auth.groups", *RARE_TWINS) for value in received.get(name, ())
            }
            assert not spoofed & {"root", "admins", "root@example.com"}
            assert not {"x.auth.groups", *RARE_TWINS} & set(received)


HYPHENS_AND_DOTS = ("x-auth-groups", "X-Auth-Groups", "x.auth.groups", "x-auth.groups", "x.auth-groups", "x.auth.any")
TWINS = (*HYPHENS_AND_DOTS, *RARE_TWINS, *(f"x{mark}auth{mark}groups" for mark in "!#$%&'*+^`|~"))


@pytest.mark.parametrize("sample", ["api.yaml", "browser.yaml"])
async def test_no_spelling_of_an_identity_header_passes_where_authz_has_no_say(envoy_stand: Stand, sample: str) -> None:
    """Where ext_authz is off, or in shadow mode, the early strip is the only lock."""
    theirs = yaml.safe_load((SAMPLES / sample).read_text())["static_resources"]["listeners"][0]["filter_chains"][0]
    strip = theirs["filters"][0]["typed_config"]["early_header_mutation_extensions"]

    def off_or_shadow(manager: Any) -> None:
        manager["early_header_mutation_extensions"] = strip
        ext_authz_of(manager)["shadow_mode"] = True
        kind = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
        per_route = {"envoy.filters.http.ext_authz": {"@type": kind, "disabled": True}}
        off = {"match": {"prefix": "/off"}, "route": {"cluster": "upstream"}, "typed_per_filter_config": per_route}
        manager["route_config"]["virtual_hosts"][0]["routes"].insert(0, off)

    async with envoy_stand.another_envoy(off_or_shadow) as port:
        for path in ("/off", "/in-shadow"):
            reply = await send(port, path, *((name, "admins") for name in TWINS), host="admin.localhost")
            assert reply.status == 200
            assert not [name for name in reply.received if "auth" in name], path


async def test_the_headers_that_envoy_gateway_sends_are_those_that_authz_reads(envoy_stand: Stand) -> None:
    """Envoy Gateway makes `allowed_headers` of `headersToExtAuth`: what is not listed cannot be read."""
    [listed] = re.findall(r"headersToExtAuth: \[(.*)\]", (SAMPLES / "README.md").read_text())

    def these_alone(manager: Any) -> None:
        ext_authz_of(manager)["allowed_headers"] = {"patterns": [{"exact": name} for name in listed.split(", ")]}

    async with envoy_stand.another_envoy(these_alone) as port:
        for case in scenario.CASES:
            everything, narrowed = [await envoy_stand.client(one).ask(case) for one in (None, port)]
            assert narrowed[:3] == everything[:3], sentence(case)
        grpc = await send(port, "/", ("content-type", "application/grpc"), host="admin.localhost")
        assert grpc.headers["grpc-status"] == "16"
        assert not grpc.headers["grpc-message"].startswith("{")


def ext_authz_of(manager: Any) -> Any:
    filters = {one["name"]: one["typed_config"] for one in manager["http_filters"]}
    return filters["envoy.filters.http.ext_authz"]


@pytest.mark.parametrize("header", ["x_auth_subject", "x_anything"])
async def test_headers_with_underscores_are_refused_by_envoy(envoy_stand: Stand, header: str) -> None:
    reply = await envoy_stand.send("/", (header, "root"), host="www.localhost")
    assert reply.status == 400


async def test_a_client_cannot_have_identity_headers_dropped_by_naming_them_in_connection(envoy_stand: Stand) -> None:
    named = ("connection", "x-auth-subject")
    reply = await envoy_stand.send("/", named, envoy_stand.bearer("bob"), host="dev.localhost")
    assert [envoy_stand.subjects[one] for one in reply.received["x-auth-subject"]] == ["bob"]


async def test_two_authorization_headers_are_ambiguous(envoy_stand: Stand) -> None:
    reply = await envoy_stand.send("/", envoy_stand.bearer("alice"), envoy_stand.bearer("bob"), host="admin.localhost")
    assert (reply.status, await envoy_stand.reason(reply)) == (401, "token-ambiguous")


async def test_two_host_headers_are_malformed(envoy_stand: Stand) -> None:
    twice = (("host", "www.localhost"), ("host", "admin.localhost"))
    reply = await envoy_stand.send("/", *twice, envoy_stand.bearer("alice"), host=None)
    assert (reply.status, await envoy_stand.reason(reply)) == (400, "request-malformed")


async def test_a_denial_says_how_to_come_in_and_nothing_more(envoy_stand: Stand) -> None:
    reply = await envoy_stand.send("/", host="admin.localhost:1234")
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == 'Bearer realm="admin.localhost"'
    assert set(reply.json) == {"error", "request_id"}


async def test_preflights_of_listed_origins_are_answered_and_denials_are_readable_there(envoy_stand: Stand) -> None:
    origin = ("origin", "https://app.example.com")
    asks = ("access-control-request-method", "GET")
    preflight = await envoy_stand.send("/", origin, asks, host="admin.localhost", method="OPTIONS")
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, origin[1])
    denied = await envoy_stand.send("/", origin, host="admin.localhost")
    assert (denied.status, denied.headers["access-control-allow-origin"]) == (401, origin[1])


async def test_the_access_log_tells_the_decision(envoy_stand: Stand) -> None:
    reply = await envoy_stand.send("/?secret=1", envoy_stand.bearer("bob"), host="admin.localhost")
    request_id = reply.json["request_id"]
    async with asyncio.timeout(5):  # Envoy gathers lines before it writes
        while not (lines := [line for line in envoy_stand.access if line.get("request_id") == request_id]):
            await asyncio.sleep(0.05)
    decision = await envoy_stand.decisions.of(request_id)
    assert decision is not None
    line = lines[0]
    assert line["status"] == 403
    assert line["reason"] == "claim-unauthorized"
    assert line["decision"] == "deny"
    assert line["details"] == "ext_authz_denied"
    assert {name: line[name] for name in ("decision_id", "route", "policy_revision", "subject", "client_id")} == {
        name: decision[name] for name in ("decision_id", "route", "policy_revision", "subject", "client_id")
    }
    assert "secret" not in json.dumps(line)


# Raw headers or joined ones


def joined_headers(manager: Any) -> None:
    ext_authz_of(manager)["encode_raw_headers"] = False


async def test_encode_raw_headers_on_and_off_give_the_same_decisions(envoy_stand: Stand) -> None:
    twice = (envoy_stand.bearer("alice"), envoy_stand.bearer("bob"))
    async with envoy_stand.another_envoy(joined_headers) as port:
        for case in scenario.CASES:
            raw = await envoy_stand.client().ask(case)
            joined = await envoy_stand.client(port).ask(case)
            assert joined[:3] == raw[:3], sentence(case)
        reply = await send(port, "/", *twice, host="admin.localhost")
        assert (reply.status, await envoy_stand.reason(reply)) == (401, "token-ambiguous")


# The service fails


@pytest.fixture
def broken_service(envoy_stand: Stand) -> Iterator[Stand]:
    """Whatever the test does to the service, Envoy's health checks have seen a good one before and after."""
    yield envoy_stand
    assert not envoy_stand.service.ended.done()


async def test_503_while_the_service_is_down_and_then_as_before(broken_service: Stand) -> None:
    await broken_service.kill_service()
    for host in ("www.localhost", "admin.localhost"):
        reply = await broken_service.send("/", broken_service.bearer("alice"), host=host)
        assert reply.status == 503, "public or not: nobody can say"
    await broken_service.start_service()
    await broken_service.until_status(200, 5, host="www.localhost")


async def test_503_while_the_service_hangs_and_then_as_before(broken_service: Stand) -> None:
    broken_service.service.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        reply = await broken_service.send("/", host="www.localhost")
        assert reply.status == 503
        assert time.monotonic() - started < 1.5
    finally:
        broken_service.service.signal(signal.SIGCONT)
    await broken_service.until_status(200, 5, host="www.localhost")


# Policies change


def policy(host: str, rule: str) -> str:
    return f"- from: http://{host}\n  {rule}\n"


@pytest.fixture
async def edited(envoy_stand: Stand, request: pytest.FixtureRequest) -> Any:
    """A file of the test's own, for a host of its own."""
    file = envoy_stand.policies / f"90-{request.node.originalname}.yaml"
    yield file
    file.unlink(missing_ok=True)


async def test_a_saved_policy_is_in_force_within_a_second(envoy_stand: Stand, edited: Path) -> None:
    host = "new.localhost"
    assert (await envoy_stand.send("/", host=host)).status == 404
    edited.write_text(policy(host, "allow_any_authenticated_user: true"))
    await envoy_stand.until_status(401, 1, host=host)
    edited.write_text(policy(host, "allow_public_unauthenticated_access: true"))
    await envoy_stand.until_status(200, 1, host=host)
    edited.unlink()
    await envoy_stand.until_status(404, 1, host=host)


async def test_the_old_policy_stays_in_force_after_a_broken_save(envoy_stand: Stand, edited: Path) -> None:
    host = "broken.localhost"
    edited.write_text(policy(host, "allow_any_authenticated_user: true"))
    await envoy_stand.until_status(401, 1, host=host)
    refusals = envoy_stand.decisions.refusals
    edited.write_text(policy(host, "allow_public_access: true"))
    assert await envoy_stand.decisions.next_refusal(refusals)
    assert (await envoy_stand.send("/", host=host)).status == 401
    problems = [str(record["msg"]) for record in envoy_stand.log if record["level"] == "error"]
    assert any(f"{edited.name}:2:3" in problem and "allow_public_access" in problem for problem in problems)
    edited.write_text(policy(host, "allow_public_unauthenticated_access: true"))
    await envoy_stand.until_status(200, 1, host=host)


# The samples


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
async def test_envoy_accepts_the_sample_as_it_is_printed(sample: Path, tmp_path: Path) -> None:
    files.write_secrets(tmp_path, "the app client's secret")  # what the browser sample reads, relative to its folder
    command = [str(envoy_binary()), "--mode", "validate", "-c", str(sample)]
    run = functools.partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    done = await asyncio.to_thread(run, command)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
async def test_the_sample_listens_on_loopback_alone(sample: Path) -> None:
    config = yaml.safe_load(sample.read_text())
    addresses = (config["static_resources"]["listeners"][0]["address"], config["admin"]["address"])
    assert [one["socket_address"]["address"] for one in addresses] == ["127.0.0.1", "127.0.0.1"]


async def test_the_pieces_in_the_readme_are_those_of_the_sample() -> None:
    sample = yaml.safe_load((SAMPLES / "api.yaml").read_text())
    manager = sample["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    blocks = (SAMPLES / "README.md").read_text().split("```yaml\n")[1:]
    pieces = [yaml.safe_load(block.partition("```")[0]) for block in blocks if block.startswith("# from api.yaml")]
    assert len(pieces) == 4
    filters, strip, trailers, cluster = pieces
    for piece in (filters, trailers):
        assert [one for one in manager["http_filters"] if one["name"] == piece[0]["name"]] == piece
    assert manager["http_filters"][0] == trailers[0]
    assert manager["early_header_mutation_extensions"] == strip["early_header_mutation_extensions"]
    assert cluster[0] in sample["static_resources"]["clusters"]
