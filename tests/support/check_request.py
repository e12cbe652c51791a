"""CheckRequests in the words of a test, shaped as Envoy 1.40 sends them.

check_request(path="/orders", token=pool.token())          a GET of app.example.com with a bearer token
check_request(headers={"cookie": ["a=1", "b=2"]})          headers: a text, or several of one name
check_request(raw=False, …)                                `headers` instead of `header_map` (encode_raw_headers off)
check_request(route="orders")                              the route that Envoy names in context_extensions
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from authz.pb import external_auth_pb2 as pb

HOST: Final = "app.example.com"
CLIENT_IP: Final = "192.0.2.7"


def check_request(
    *,
    method: str = "GET",
    host: str = HOST,
    path: str = "/",
    token: str | None = None,
    headers: Mapping[str, str | bytes | Sequence[str | bytes]] | None = None,
    raw: bool = True,
    source_ip: str = CLIENT_IP,
    route: str | None = None,
    certificate: str = "",
) -> pb.CheckRequest:
    """Build one message; `token` becomes `Authorization: Bearer …` beside the other headers."""
    check = pb.CheckRequest()
    attributes = check.attributes
    attributes.source.address.socket_address.address = source_ip
    attributes.source.address.socket_address.port_value = 54321
    attributes.source.certificate = certificate
    http = attributes.request.http
    http.id, http.method, http.host, http.path, http.scheme = "7", method, host, path, "https"
    http.protocol, http.size = "HTTP/2", -1
    if route is not None:
        attributes.context_extensions["route"] = route
    pseudo = {":authority": host, ":method": method, ":path": path, ":scheme": "https", "x-forwarded-proto": "https"}
    bearer = {} if token is None else {"authorization": f"Bearer {token}"}
    for name, values in {**pseudo, **bearer, **(headers or {})}.items():
        texts = [values] if isinstance(values, str | bytes) else values
        encoded = [text.encode() if isinstance(text, str) else text for text in texts]
        if raw:
            for value in encoded:
                http.header_map.headers.add(key=name, raw_value=value)
        else:
            http.headers[name] = b",".join(encoded).decode()
    return check


def http_message(**http: Any) -> pb.CheckRequest:
    """Build a message of nothing but these HTTP facts."""
    facts = pb.AttributeContext.HttpRequest(**http)
    return pb.CheckRequest(attributes=pb.AttributeContext(request=pb.AttributeContext.Request(http=facts)))
