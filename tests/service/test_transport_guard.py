"""Hostile peers beside a normal client, in small: normal calls are answered, and the service is alive afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from authz.transport.server import MAX_CONCURRENT_STREAMS
from tests.support.check_request import check_request
from tests.support.running_service import CHECK, RunningService
from tests.support.user_pool import FakeUserPool
from tests.torture import transport
from tests.torture.wire import ACK, END_HEADERS, HEADERS, PING, frame, greeted, headers

POLICIES = "- {from: 'https://app.example.com', path: /public, allow_public_unauthenticated_access: true}\n"
PUBLIC = check_request(path="/public")
A_FEW = 50
REFUSED = (  # a full queue; more streams than a connection may have; more calls than the process takes
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    pool = FakeUserPool(clock=time.time)
    with RunningService(tmp_path_factory.mktemp("service"), POLICIES, pools=[pool]) as running:
        yield running


def port_of(service: RunningService) -> int:
    return int(service.target.rpartition(":")[2])


@pytest.mark.parametrize("what", list(transport.ATTACKS))
def test_a_normal_client_is_answered_beside(what: str, service: RunningService) -> None:
    attack, _ = transport.ATTACKS[what]
    with ThreadPoolExecutor(1) as neighbour:
        attacking = neighbour.submit(attack, port_of(service), A_FEW, 0.3)
        while not attacking.done():
            assert service.check(PUBLIC).code == 0
    done = attacking.result()
    assert (done == 0) is (what in ("oversized messages", "invalid UTF-8"))  # these give what got through
    assert service.check(PUBLIC).code == 0


def test_texts_that_are_no_utf8_are_malformed(service: RunningService) -> None:
    good = check_request(path="/a-text-of-bytes").SerializeToString()
    reply = service.check(good.replace(b"/a-text-of-bytes", b"/a-text-of-\xff\xfe\xff\xff\xff"))
    assert reply.verdict == (400, 3, "request-malformed")


def test_more_calls_at_a_time_than_a_connection_may_have_are_answered_or_refused(service: RunningService) -> None:
    check = service.channel.unary_unary(CHECK)
    data = PUBLIC.SerializeToString()
    calls = [check.future(data, timeout=15) for _ in range(2 * MAX_CONCURRENT_STREAMS)]
    refused = 0
    for call in calls:
        error = call.exception()
        assert error is None or error.code() in REFUSED
        refused += error is not None
    assert refused < len(calls)
    assert service.check(PUBLIC).code == 0


def test_keepalive_pings_as_envoy_sends_them_are_answered(service: RunningService) -> None:
    with greeted(port_of(service)) as connection:
        connection.sendall(frame(PING, 0, 0, b"alive-12"))
        received = b""
        while frame(PING, ACK, 0, b"alive-12") not in received:
            data = connection.recv(4096)
            assert data, "the server hung up"
            received += data


def test_headers_that_are_too_long_are_refused_by_grpc(service: RunningService) -> None:
    block = headers(port_of(service), **{"x-long": 15_000 * "a"})
    with greeted(port_of(service)) as connection:
        connection.sendall(frame(HEADERS, END_HEADERS, 1, block))
    assert service.check(PUBLIC).code == 0
