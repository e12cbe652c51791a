"""Files of keys, or the name server, that hang for as long as the service runs: the real one, with that fault in it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.check_request import check_request
from tests.support.running_service import REPOSITORY, RunningService
from tests.support.user_pool import ALICE, FakeUserPool

POLICY = "- {from: 'https://app.example.com', allow_any_authenticated_user: true}\n"
POOLS = 40  # more than there are threads that the whole process shares

# Read by every Python that starts with its folder on the path.
FILES_HANG = """
import os, time
real = os.open
os.open = lambda path, *more, **named: time.sleep(3600) if "hangs" in str(path) else real(path, *more, **named)
"""
NAMES_HANG = """
import socket, time
real = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: (
    time.sleep(3600) if "amazonaws" in str(host) else real(host, *more, **named)
)
"""


def regions() -> list[str]:
    places = ("north", "south", "east", "west", "central", "northeast", "southeast")
    return [f"{area}-{place}-{n}" for area in ("eu", "us", "ap") for place in places for n in (1, 2)][:POOLS]


@pytest.mark.parametrize(
    ("fault", "file"),
    [pytest.param(FILES_HANG, True, id="the files hang"), pytest.param(NAMES_HANG, False, id="the name server hangs")],
)
def test_others_hanging_keys_hold_up_neither_revocations_nor_policies_nor_metrics_nor_the_end(
    tmp_path: Path, fault: str, file: bool
) -> None:
    pool = FakeUserPool(clock=time.time)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(fault)
    (tmp_path / "keys.json").write_bytes(pool.jwks())
    (tmp_path / "revoked.yaml").write_text("[]\n")
    ours = {"user_pool": pool.pool_id, "jwks_uri": (tmp_path / "keys.json").as_uri()}
    others = [
        {"user_pool": f"{region}_Hanging{number}"}
        | ({"jwks_uri": (tmp_path / f"hangs-{number}.json").as_uri()} if file else {})
        for number, region in enumerate(regions())
    ]
    settings = {
        "cognito": [{**entry, "clients": "any", "token_use": ["access"]} for entry in (ours, *others)],
        "revocations": "revoked.yaml",
    }
    environ = {"PYTHONPATH": os.pathsep.join((str(tmp_path / "site"), str(REPOSITORY)))}
    with RunningService(tmp_path, POLICY, pools=[], settings=settings, environ=environ, wait=False) as service:
        asked = check_request(token=pool.token())
        service.wait_for(lambda: service.check(asked).status == 200, "keys of the pool whose file is good")
        service.wait_for_line("fetch failed: no whole answer", count=len(others))
        (tmp_path / "revoked.yaml").write_text(f"- sub: {ALICE}\n")
        service.wait_for(lambda: service.check(asked).reason == "token-revoked", "the revocation")
        service.write_policies(POLICY.replace("any_authenticated_user", "public_unauthenticated_access"))
        service.wait_for(lambda: service.check(check_request()).status == 200, "the policy")
        assert service.get("/metrics")[0] == 200
        assert service.stop() == 0
        assert service.log_lines()[-1]["msg"] == "stopped"
