"""`authz doctor`, from its arguments to findings.

A running Envoy is asked over loopback alone, without proxies, redirects or TLS: its admin must not be reachable
otherwise, and its dump holds what others should not read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import SHUT_RDWR, socket
from threading import Event, Timer
from typing import Final
from urllib.parse import urlsplit

from authz.document import parse
from authz.errors import LoadError, Problem
from authz.model import Source
from authz.node import Node, Problems
from authz.options import policy_options
from authz.settings import load_settings
from authz.workbench.doctor.clusters import is_local
from authz.workbench.doctor.examination import examine
from authz.workbench.doctor.findings import Finding
from authz.workbench.doctor.promises import Promises
from authz.workbench.loading import load_policies

TIMEOUT_SECONDS: Final = 10  # for a sign of life
DEADLINE_SECONDS: Final = 30  # for all of it: who sends a byte now and then gives signs of life for ever
MAX_BYTES: Final = 64 * 1024 * 1024


class UsageError(ValueError):
    """What was given names no Envoy that can be asked."""


def diagnose(envoy: str, config: Path | None) -> list[Finding]:
    """Examine a file or a running Envoy. Raises UsageError, and LoadError for files that do not load."""
    promises = Promises() if config is None else _promises(config)
    data = dump(envoy) if is_address(envoy) else _read(Path(envoy))
    return examine(_parsed(data, envoy), promises)


def is_address(envoy: str) -> bool:
    """Tell an admin address from a file."""
    return "://" in envoy


def _promises(config: Path) -> Promises:
    settings = load_settings(config, environ=os.environ, overrides={})
    policies = load_policies(settings.policies, policy_options(settings))
    return Promises.of(settings, policies.routes.routes)


def _parsed(data: bytes, name: str) -> Node:
    problems = Problems()
    root = parse(data, name, problems)
    if problems.errors:
        raise LoadError(problems.errors)
    if root is None:
        raise LoadError([Problem(Source(name, 1, 1), "nothing in here")])
    return root


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        hint = f": write http://{path} if that is an Envoy's admin address" if _ADDRESS.fullmatch(str(path)) else ""
        raise LoadError([Problem(Source(str(path), 1, 1), f"cannot be read: {error.strerror}{hint}")]) from None


_ADDRESS: Final = re.compile(r"[\w.-]*:[0-9]{1,5}")


def dump(address: str) -> bytes:
    """Ask an Envoy's admin for its configuration, endpoints included. Raises UsageError."""
    host, port = _host_and_port(address)
    connection = HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.connect()
        with _deadline(connection.sock):
            connection.request("GET", "/config_dump?include_eds")
            answer = connection.getresponse()
            data = answer.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{address} does not answer: {error}") from None
    except HTTPException:  # its text is what came
        raise UsageError(f"{address} does not answer as HTTP servers do: is it Envoy's admin address?") from None
    finally:
        connection.close()
    if answer.status != 200 or len(data) > MAX_BYTES:
        raise UsageError(f"{address} gave no configuration: status {answer.status}, {len(data)} bytes")
    return data


@contextmanager
def _deadline(connected: socket) -> Iterator[None]:
    """Hang up on who has not said all of it in time."""
    is_late = Event()

    def hang_up() -> None:
        is_late.set()
        connected.shutdown(SHUT_RDWR)

    timer = Timer(DEADLINE_SECONDS, hang_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if is_late.is_set():
            raise TimeoutError(f"not all of it came within {DEADLINE_SECONDS} s")


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        raise UsageError(f"{address} is no address") from None
    if parts.scheme != "http" or host is None or not is_local(host):
        raise UsageError(f"{address}: an admin address is http to loopback, such as http://127.0.0.1:9901")
    return host, port


__all__: Sequence[str] = ["UsageError", "diagnose", "is_address"]
