"""Revoking, with the real service: the torture's own steps in small, and what an operator sees of it.

How soon a revocation is in force is measured by `make torture`; here it only has to come.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.test_workers import Workers
from tests.support.check_request import check_request
from tests.support.running_service import RunningService, configuration, run_authz
from tests.support.user_pool import FakeUserPool
from tests.torture.figures import Figure
from tests.torture.revocation import POLICY, allowed, cost, expiring, list_of, listed, removed_key, until, write


def check_kept(figures: Iterator[Figure]) -> None:
    """Check what is no matter of time."""
    counted = [figure for figure in figures if not figure.limit.startswith("≤")]
    assert counted
    assert [figure for figure in counted if not figure.held] == []


def test_a_removed_keys_tokens_end(tmp_path: Path) -> None:
    check_kept(removed_key(tmp_path / "key", 5))


def test_an_entry_refuses_whom_it_means_and_nobody_else(tmp_path: Path) -> None:
    check_kept(listed(tmp_path / "list", 40, 20))


def test_an_entry_expires(tmp_path: Path) -> None:
    check_kept(expiring(tmp_path / "expiring"))


def test_the_cost_can_be_measured() -> None:
    assert cost(1000, 10).what.startswith("a check with 1,000 entries")


@pytest.fixture
def pool() -> FakeUserPool:
    return FakeUserPool(clock=time.time)


def test_what_a_revoked_caller_and_the_operator_see(tmp_path: Path, pool: FakeUserPool) -> None:
    policy = "- {from: 'https://app.example.com', path: /public, allow_public_unauthenticated_access: true}\n" + POLICY
    (tmp_path / "gone.yaml").write_text("# OPS-1\n- {sub: eve, reason: laptop stolen}\n")
    settings = {"revocations": "gone.yaml"}
    with RunningService(tmp_path, policy, pools=[pool], settings=settings) as service:
        reply = service.check(check_request(token=pool.token(sub="eve")))
        assert reply.verdict == (401, 16, "token-revoked")
        assert 'error="invalid_token"' in reply.headers["www-authenticate"]
        assert "subject" not in reply.metadata
        assert service.decision(reply)["why"]["found"] == "revoked at gone.yaml:2:3"
        assert "laptop" not in reply.response.SerializeToString().decode("latin-1")
        public = service.check(check_request(token=pool.token(sub="eve"), path="/public"))
        assert public.verdict == (200, 0, "accept")
        assert "x-auth-subject" not in public.headers
        metrics = service.metrics()
        assert metrics['authz_tokens_total{result="token-revoked"}'] == 2
        assert metrics['authz_revocations_reloads_total{result="ok"}'] == 1
        assert metrics["authz_revocations_entries"] == 1


def test_a_bad_list_changes_nothing_and_is_told(tmp_path: Path, pool: FakeUserPool) -> None:
    with list_of(tmp_path, [pool], "[]\n") as service:
        token, other = pool.token(sub="eve"), pool.token(sub="bob")
        write(tmp_path, [{"sub": "eve"}])
        until(lambda: not allowed(service, token))
        write(tmp_path, [{"sub": "bob"}, {"subb": "carol"}])
        service.wait_for_line(r"^revocations/20-now.yaml:2:4: revocation: unknown key `subb`; did you mean `sub`\?$")
        assert service.metrics()['authz_revocations_reloads_total{result="error"}'] == 1
        assert (allowed(service, token), allowed(service, other)) == (False, True)
        write(tmp_path, [{"sub": "bob"}])
        until(lambda: not allowed(service, other))
        assert allowed(service, token)


def test_a_list_cut_off_between_two_entries_lets_nobody_in_where_it_must_have_an_end(
    tmp_path: Path, pool: FakeUserPool
) -> None:
    (tmp_path / "gone.yaml").write_text("- sub: bob\n- sub: eve\n# end\n")
    settings = {"revocations": "gone.yaml", "require_end": True}
    with RunningService(tmp_path, f"{POLICY}# end\n", pools=[pool], settings=settings) as service:
        (tmp_path / "gone.yaml").write_text("- sub: bob\n")
        service.wait_for_line(r"^gone.yaml:2:1: the last line is not `# end`, which `require_end` demands")
        assert not allowed(service, pool.token(sub="eve"))
        for verb in ("check", "serve"):
            ended = run_authz(verb, "--config", service.config)
            assert ended.returncode == 3, ended
            assert f"{tmp_path / 'gone.yaml'}:2:1: the last line is not `# end`" in ended.stdout + ended.stderr


def test_a_list_that_vanishes_stays_in_force(tmp_path: Path, pool: FakeUserPool) -> None:
    with list_of(tmp_path, [pool], "- sub: eve\n") as service:
        lists = tmp_path / "revocations"
        lists.rename(tmp_path / "elsewhere")
        service.wait_for_line("no such file or folder: create it, or correct `revocations`")
        assert not allowed(service, pool.token(sub="eve"))
        assert service.get("/readyz")[0] == 200
        (tmp_path / "elsewhere").rename(lists)
        write(tmp_path, [{"sub": "bob"}])
        until(lambda: not allowed(service, pool.token(sub="bob")))
        assert not allowed(service, pool.token(sub="eve"))


ID_HEADER = "x-auth-id-token"


def test_an_old_id_token_beside_a_new_access_token_is_revoked_too(tmp_path: Path, pool: FakeUserPool) -> None:
    limit = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    (tmp_path / "gone.yaml").write_text(f"- issued_before: {limit}\n- username: mallory\n")
    settings = {"revocations": "gone.yaml", "enrich_from": {"header": ID_HEADER}}
    with RunningService(tmp_path, POLICY, pools=[pool], settings=settings) as service:

        def reason(access: str, identity: str) -> str:
            request = check_request(token=access, headers={ID_HEADER: identity})
            answers = {service.check(request).reason for _ in range(2)}  # the second time both are remembered
            assert len(answers) == 1
            return answers.pop()

        now = time.time()
        new, old = pool.token(now=now - 30), pool.token(now=now - 120)
        assert reason(new, pool.id_token(now=now - 30)) == "user-ok"
        assert reason(new, pool.id_token(now=now - 120)) == "token-revoked"
        assert reason(old, pool.id_token(now=now - 30)) == "token-revoked"
        assert reason(new, pool.id_token(**{"cognito:username": "mallory"})) == "token-revoked"


BROKEN = "- {sub: a, expires: tomorrow}\n- sub: a\n  sub: b\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_list_keeps_the_service_from_starting(tmp_path: Path, pool: FakeUserPool, workers: int) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "app.yaml").write_text("- {from: 5}\n")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "list.yaml").write_text(BROKEN)
    settings = configuration(tmp_path, [pool], settings={"revocations": "gone", "workers": workers, "admin": "off"})
    config = tmp_path / "authz.yaml"
    config.write_text(str(settings))
    for verb in ("serve", "check"):
        ended = run_authz(verb, "--config", config)
        assert ended.returncode == 3, ended
        told = ended.stdout + ended.stderr
        assert f"{tmp_path / 'policies' / 'app.yaml'}:1:10: " in told
        assert f"{tmp_path / 'gone' / 'list.yaml'}:1:21: `expires`: found text `tomorrow`" in told
        assert f"{tmp_path / 'gone' / 'list.yaml'}:3:3: duplicate key `sub`" in told


def test_check_tells_of_a_bad_list_beside_a_bad_configuration(tmp_path: Path, pool: FakeUserPool) -> None:
    (tmp_path / "gone.yaml").write_text("")
    config = tmp_path / "authz.yaml"
    config.write_text("policies: nowhere\nrevocations: gone.yaml\nzzz: 1\n")
    told = run_authz("check", "--config", config).stdout
    assert re.search(r"authz\.yaml:3:1: zzz: unknown key", told)
    assert f"{tmp_path / 'gone.yaml'}:1:1: the file holds nothing" in told


def test_every_worker_follows_the_list(tmp_path: Path, pool: FakeUserPool) -> None:
    (tmp_path / "gone.yaml").write_text("- sub: eve\n")
    request = check_request(token=pool.token(sub="bob"))
    with Workers(tmp_path, pool, settings={"revocations": "gone.yaml"}) as workers:
        for index in range(2):
            assert workers.ask(index, check_request(token=pool.token(sub="eve"))).reason == "token-revoked"
            assert workers.ask(index, request).reason == "user-ok"
        (tmp_path / "gone.yaml").write_text("- sub: eve\n- sub: bob\n")
        for index in range(2):
            until(lambda index=index: workers.ask(index, request).reason == "token-revoked")
        metrics = workers.metrics()
        assert metrics['authz_revocations_reloads_total{result="ok"}'] == 4
        assert metrics['authz_revocations_entries{worker="1"}'] == 2


def test_explain_says_so(tmp_path: Path, pool: FakeUserPool) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "app.yaml").write_text(POLICY)
    (tmp_path / "gone.yaml").write_text("- {username: eve, issued_before: 2026-01-01T00:00:00Z}\n- sub: bob\n")
    config = tmp_path / "authz.yaml"
    config.write_text(str(configuration(tmp_path, [pool], settings={"revocations": "gone.yaml"})))

    def explained(*arguments: str) -> str:
        ended = run_authz("explain", "--config", config, "--url", "https://app.example.com/", *arguments)
        assert ended.returncode == 0, ended
        return ended.stdout

    assert "token-revoked (revoked at gone.yaml:2:3)" in explained("--token", pool.token(sub="bob"))
    assert "token-revoked" not in explained("--token", pool.token(username="eve"))
    assert "token-revoked" in explained("--claims", '{"username": "eve", "iat": 1700000000}')
    assert "token-revoked" not in explained("--claims", '{"username": "eve"}')
