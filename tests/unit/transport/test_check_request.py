"""Envoy's message to a Request, whichever of its encodings it comes in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.model import Request
from authz.pb import external_auth_pb2 as pb
from authz.transport.check_request import request_id_of, to_request
from tests.support.check_request import check_request, http_message
from tests.support.policies import request


def test_an_empty_message_is_an_empty_request() -> None:
    assert to_request(pb.CheckRequest()) == Request(method="", host="", path="", headers={})


def test_every_field_comes_from_its_place() -> None:
    message = http_message(
        method="GET",
        host="App.example.com:443",
        path="/a?b",
        headers={"accept": "*/*", "X-Upper": "1", ":path": "/elsewhere"},
    )
    message.attributes.source.address.socket_address.address = "192.0.2.7"
    message.attributes.source.certificate = "-----BEGIN"
    message.attributes.source.service = "spoofed"
    message.attributes.context_extensions["route"] = "orders"
    assert to_request(message) == Request(
        method="GET",
        host="App.example.com:443",
        path="/a?b",
        headers={"accept": ("*/*",), "x-upper": ("1",), ":path": ("/elsewhere",)},
        source_ip="192.0.2.7",
        route_id="orders",
        certificate="-----BEGIN",
    )


@pytest.mark.parametrize("raw", [True, False], ids=["header_map", "headers"])
def test_no_header_takes_the_place_of_a_field(raw: bool) -> None:
    said = {
        "x-forwarded-for": "203.0.113.9",
        "x-real-ip": "203.0.113.9",
        "x-envoy-external-address": "203.0.113.9",
        "forwarded": "for=203.0.113.9;host=other.example.com;proto=http",
        "x-http-method-override": "OPTIONS",
        "x-http-method": "OPTIONS",
        "x-method-override": "OPTIONS",
        "x-forwarded-method": "OPTIONS",
        "x-original-method": "OPTIONS",
        "x-envoy-original-path": "/other",
        "x-original-url": "/other",
        "x-original-uri": "/other",
        "x-rewrite-url": "/other",
        "x-forwarded-uri": "/other",
        "x-envoy-original-host": "other.example.com",
        "x-forwarded-host": "other.example.com",
        "x-original-host": "other.example.com",
        "x-forwarded-proto": "http",
        "x-forwarded-client-cert": "By=spiffe://root;Hash=00",
        "host": "other.example.com",
        ":authority": "other.example.com",
        ":method": "OPTIONS",
        ":path": "/other",
        ":scheme": "http",
        "route": "other",
    }
    read = to_request(check_request(path="/asked", headers=said, raw=raw, route="orders"))
    assert read.headers == {name: (value,) for name, value in said.items()}
    assert read._replace(headers={}) == Request(
        method="GET",
        host="app.example.com",
        path="/asked",
        headers={},
        source_ip="192.0.2.7",
        route_id="orders",
        scheme="https",
    )


def test_an_empty_route_name_is_a_name_that_no_route_has() -> None:
    message = http_message()
    message.attributes.context_extensions["route"] = ""
    assert to_request(message).route_id == ""


def test_a_unix_socket_has_no_address() -> None:
    message = http_message()
    message.attributes.source.address.pipe.path = "/run/envoy.sock"
    assert to_request(message).source_ip == ""


def test_raw_headers_come_one_by_one() -> None:
    message = http_message(headers={"ignored": "x"})
    add = message.attributes.request.http.header_map.headers.add
    add(key="Cookie", raw_value=b"a=1")
    add(key="cookie", raw_value=b"b=2")
    add(key="x-latin", raw_value=b"caf\xe9")
    add(key="x-utf-8", raw_value="café €".encode())
    add(key="x-both", raw_value=b"caf\xc3\xa9 caf\xe9")
    add(key="x-text", value="text")
    add(key="x-empty")
    assert to_request(message).headers == {
        "cookie": ("a=1", "b=2"),
        "x-latin": ("café",),
        "x-utf-8": ("café €",),
        "x-both": ("cafÃ© café",),
        "x-text": ("text",),
        "x-empty": ("",),
    }


def test_two_names_that_differ_by_case_are_two_values_of_one() -> None:
    found = to_request(http_message(headers={"authorization": "a", "Authorization": "b"})).headers
    assert sorted(found["authorization"]) == ["a", "b"]


def test_a_name_outside_ascii_is_not_folded_into_a_name_of_ours() -> None:
    assert to_request(http_message(headers={"x-to\N{KELVIN SIGN}en": "a"})).headers == {"x-to\N{KELVIN SIGN}en": ("a",)}


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["2001:DB8::1"], "2001:db8::1"),
        ([], ""),
        (["203.0.113.9", "203.0.113.8"], ""),
        (["203.0.113.9, 203.0.113.8"], ""),
        (["203.0.113.9:80"], ""),
        (["evil"], ""),
        ([""], ""),
        (["２03.0.113.9"], ""),
    ],
)
def test_the_configured_header_holds_a_single_address_or_none(values: list[str], address: str) -> None:
    message = http_message()
    message.attributes.source.address.socket_address.address = "192.0.2.7"
    for value in values:
        message.attributes.request.http.header_map.headers.add(key="x-envoy-external-address", raw_value=value.encode())
    assert to_request(message, "x-envoy-external-address").source_ip == address
    assert to_request(message).source_ip == "192.0.2.7"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_message_is_a_request(data: bytes) -> None:
    message = pb.CheckRequest()
    try:
        message.ParseFromString(data)
    except Exception:  # noqa: BLE001 - protobuf refused it, so that it never reaches us
        return
    assert isinstance(to_request(message, "x-ip"), Request)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4),
    st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=8)), max_size=4),
    st.text(max_size=8),
)
def test_any_headers_are_a_request_with_lower_case_names(
    plain: dict[str, str], raw: list[tuple[str, bytes]], host: str
) -> None:
    message = http_message(host=host, headers=plain)
    for key, value in raw:
        message.attributes.request.http.header_map.headers.add(key=key, raw_value=value)
    found = to_request(message, "x-ip")
    assert found.host == host
    assert all(values and (not name.isascii() or name == name.lower()) for name, values in found.headers.items())
    assert sum(map(len, found.headers.values())) == len(raw or plain)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("8c74b6aa-1", "8c74b6aa-1"),
        ("", ""),
        ("a b", ""),
        ("a\n", ""),
        ("é", ""),
        ("x" * 128, "x" * 128),
        ("x" * 129, ""),
    ],
)
def test_a_request_id_is_shown_where_it_is_fit(value: str, shown: str) -> None:
    assert request_id_of(request({"x-request-id": value})) == shown
    assert request_id_of(request()) == ""


def test_raw_headers_are_read_when_they_are_asked_for() -> None:
    headers = [pb.HeaderValue(key="a", raw_value=b"1"), pb.HeaderValue(key="b", value="2")]
    read = to_request(http_message(header_map=pb.HeaderMap(headers=headers))).headers
    assert dict(read) == {"a": ("1",), "b": ("2",)}
    assert (read.get("a"), read.get("c"), len(read), list(read)) == (("1",), None, 2, ["a", "b"])
