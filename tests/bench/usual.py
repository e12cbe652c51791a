"""The usual way: a synchronous gRPC server with a thread pool that lets PyJWT verify the token of every request.

    python -m tests.bench.usual PORT JWKS_FILE ISSUER CLIENT_ID GROUP

It makes the same checks as the benchmark's policies ask for, answers the same identity headers and writes no log.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import jwt

from authz.pb import external_auth_pb2 as pb
from authz.transport.server import METHOD, SERVICE

THREADS = 10  # what most examples write


class Checker:
    def __init__(self, jwks: str, issuer: str, client_id: str, group: str) -> None:
        self._keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_json(jwks).keys}
        self._issuer = issuer
        self._client_id = client_id
        self._group = group

    def check(self, request: pb.CheckRequest, _context: object) -> pb.CheckResponse:
        headers = {
            header.key: header.raw_value.decode() for header in request.attributes.request.http.header_map.headers
        }
        try:
            claims = self._claims(headers["authorization"].removeprefix("Bearer "))
        except (KeyError, jwt.PyJWTError):
            return denied(401, 16)
        is_known = claims["token_use"] == "access" and claims["client_id"] == self._client_id
        is_member = self._group in claims.get("cognito:groups", [])
        matches = request.attributes.request.http.path.startswith("/service-9/")
        return allowed(claims) if is_known and is_member and matches else denied(403, 7)

    def _claims(self, token: str) -> Mapping[str, Any]:
        key = self._keys[jwt.get_unverified_header(token)["kid"]]
        required = ["exp", "iss", "sub", "token_use", "client_id"]
        options: Any = {"require": required, "verify_aud": False}
        return jwt.decode(token, key, algorithms=["RS256"], issuer=self._issuer, options=options)


def allowed(claims: Mapping[str, Any]) -> pb.CheckResponse:
    response = pb.CheckResponse()
    values = {"x-auth-subject": claims["sub"], "x-auth-username": claims["username"]}
    values["x-auth-groups"] = ",".join(claims["cognito:groups"])
    for name, value in values.items():
        response.ok_response.headers.add().header.MergeFrom(pb.HeaderValue(key=name, value=value))
    response.ok_response.headers_to_remove.append("x-auth-email")
    return response


def denied(status: int, code: int) -> pb.CheckResponse:
    response = pb.CheckResponse()
    response.status.code = code
    response.denied_response.status.code = status
    return response


def serve(port: int, checker: Checker) -> None:
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(
        checker.check,
        request_deserializer=pb.CheckRequest.FromString,
        response_serializer=pb.CheckResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    _, _port, _jwks, _issuer, _client_id, _group = sys.argv
    serve(int(_port), Checker(Path(_jwks).read_text(), _issuer, _client_id, _group))
