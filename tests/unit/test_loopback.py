from __future__ import annotations

import pytest

from authz.loopback import is_loopback


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.255.254", "::1", "0:0:0:0:0:0:0:1"])
def test_a_host_is_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost.example",
        "app.localhost",  # by RFC 6761 it is, but whoever resolves names may ask others
        "0.0.0.0",
        "127.1",
        "128.0.0.1",
        "::",
        "::2",
        "::1%lo",
        "::ffff:127.0.0.1",  # Python says no before 3.13, and yes from then on
        "[::1]",
    ],
)
def test_a_host_may_be_another_machine(host: str) -> None:
    assert not is_loopback(host)
