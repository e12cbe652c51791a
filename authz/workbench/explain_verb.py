"""`authz explain`, from parsed options to text."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TextIO

import click

from authz.identity.claims import ClaimShapes
from authz.identity.credentials import TokenPlace
from authz.model import Json
from authz.options import answer_settings, claim_shapes, policy_options
from authz.policy.parser import PolicyOptions, PolicySet
from authz.reading import parse_instant
from authz.settings import DEFAULT_IDENTITY_HEADERS, DEFAULT_TOKENS, Settings, load_settings
from authz.transport.check_request import client_address
from authz.transport.check_response import Answers, AnswerSettings
from authz.workbench.callers import GivenClaims, PresentedToken, UnlessRevoked
from authz.workbench.expectations import DEFAULT_SOURCE_IP
from authz.workbench.explain import Authenticate, Story, as_json, lines, tell
from authz.workbench.inputs import Asked, InputError, from_curl, from_log_line, from_options
from authz.workbench.loading import load_policies, load_revocations
from authz.workbench.problems import printable

UsageError = InputError


def explain(options: Mapping[str, Any], *, color: bool) -> str:
    """Explain one request. Raises InputError for bad options, LoadError for files that do not load."""
    given = options["source_ip"]
    peer = _peer(DEFAULT_SOURCE_IP if given is None and not _is_log(options) else given)
    settings = _settings(options)
    policies = _policies(options, settings)
    asked = _with_address(
        _asked(options, DEFAULT_TOKENS if settings is None else settings.tokens),
        peer,
        None if settings is None else settings.client_ip_header,
    )
    story = asyncio.run(
        tell(
            asked,
            policies,
            _authenticate(options, settings),
            Answers(_DEFAULT_ANSWERS if settings is None else answer_settings(settings)),
            now=_now(options["now"]),
            allow_path_parameters=settings is not None and settings.allow_path_parameters,
        )
    )
    if options["output"] == "json":
        return json.dumps(as_json(story), indent=2)
    return _text(story, color)


_DEFAULT_ANSWERS: Final = AnswerSettings(identity_headers=DEFAULT_IDENTITY_HEADERS, tokens=DEFAULT_TOKENS)
_STYLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "dim": {"dim": True},
    "title": {"bold": True},
}


def _text(story: Story, color: bool) -> str:
    told = [(style, printable(text)) for style, text in lines(story)]
    return "\n".join(click.style(text, **_STYLES.get(style, {})) if color else text for style, text in told)


def _settings(options: Mapping[str, Any]) -> Settings | None:
    config = options["config"]
    if config is None:
        if options["policies"] is None:
            raise InputError("give --config authz.yaml, or --policies PATH for policies alone")
        return None
    return load_settings(config, environ=os.environ, overrides={})


def _policies(options: Mapping[str, Any], settings: Settings | None) -> PolicySet:
    path = options["policies"]
    known = PolicyOptions() if settings is None else policy_options(settings)
    if settings is None or path is not None:  # such files are no configuration, whose other keys are not judged
        return load_policies(path, replace(known, inline=False))
    return load_policies(settings.policies, known)


def _asked(options: Mapping[str, Any], places: Sequence[TokenPlace]) -> Asked:
    headers = list(options["headers"])
    token = options["token"]
    if token is not None:
        if options["claims"] is not None:
            raise InputError("--token and --claims: give one of them; claims are judged without a token")
        headers.append(_header_with(_pasted_token(token), places[0]))
    if options["url"] is not None and not options["command"]:
        asked = from_options(options["url"], options["method"], headers)
    else:
        asked = _with_headers(from_curl(options["command"]) if options["command"] else _logged(options), headers)
    return asked._replace(request=asked.request._replace(route_id=options["route_id"]))


def _logged(options: Mapping[str, Any]) -> Asked:
    line = _line_of(options["stdin"])
    if not line.strip():
        raise InputError("give --url, a curl command after `--`, or one line of a log on standard input")
    return from_log_line(line)


def _with_headers(asked: Asked, headers: Sequence[str]) -> Asked:
    """Give the request the headers besides, of which `host` is one."""
    more = from_options(f"https://{_UNUSED}/", headers=headers).request
    host = asked.request.host if more.host == _UNUSED else more.host
    return asked._replace(request=asked.request._replace(host=host, headers={**asked.request.headers, **more.headers}))


_UNUSED: Final = "unused.invalid"


def _header_with(token: str, place: TokenPlace) -> str:
    """Write the header in which the service looks for a token first."""
    if place.kind == "cookie":
        return f"cookie: {place.name}={token}"
    return f"{place.name}: Bearer {token}" if place.name == "authorization" else f"{place.name}: {token}"


def _is_log(options: Mapping[str, Any]) -> bool:
    return not options["command"] and options["url"] is None


def _peer(given: str | None) -> str | None:
    """Read `--source-ip`; empty when it is not known, None where it is not given."""
    if given:
        try:
            ip_address(given)
        except ValueError:
            raise InputError(f"--source-ip: `{given}` is no IP address: write 192.0.2.1 or 2001:db8::1") from None
    return given


def _with_address(asked: Asked, peer: str | None, header: str | None) -> Asked:
    """Give the request the address that policies see in the service; a log's line tells that one already."""
    request = asked.request
    if header is None:
        address = request.source_ip if peer is None else peer
        return asked._replace(request=request._replace(source_ip=address), address_from="")
    if asked.address_from and header not in request.headers:
        return asked
    address = client_address(peer or "", request.headers, header)
    return asked._replace(request=request._replace(source_ip=address), address_from=f"the header `{header}`")


def _line_of(stdin: TextIO | None) -> str:
    if stdin is None or stdin.isatty():
        return ""
    try:
        return stdin.readline()
    except UnicodeDecodeError:
        raise InputError("the line on standard input is not UTF-8 text") from None


def _authenticate(options: Mapping[str, Any], settings: Settings | None) -> Authenticate:
    shapes = ClaimShapes() if settings is None else claim_shapes(settings)
    given = options["claims"]
    caller = PresentedToken(settings, shapes) if given is None else GivenClaims(_claims(given), shapes, settings)
    if settings is None or settings.revocations is None:
        return caller
    return UnlessRevoked(caller, load_revocations(settings.revocations, require_end=settings.require_end))


def _claims(given: str) -> Mapping[str, Json]:
    text = _value_or_file(given, "--claims")
    try:
        claims = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError('--claims is not JSON: write --claims \'{"cognito:groups": ["admins"]}\'') from None
    if not isinstance(claims, dict):
        raise InputError('--claims is not a JSON object: write --claims \'{"cognito:groups": ["admins"]}\'')
    return claims


def _pasted_token(given: str) -> str:
    """Read `--token` without what comes along when one is copied: `Bearer`, quotes and the ends of lines."""
    text = _value_or_file(given, "--token")
    if len(text) < _SHORTEST_TOKEN and os.path.exists(text):  # noqa: PTH110 - a text too long is none
        raise InputError(f"--token: {text} is a file: write --token @{text}")
    if text.startswith("{"):
        raise InputError("--token holds JSON: give the value of `access_token` or `id_token` in it")
    bare = "".join(text.split()).strip("'\"")
    return re.sub("^bearer:?(?=eyJ)", "", bare, flags=re.IGNORECASE).strip("'\"")


_SHORTEST_TOKEN: Final = 342  # characters: a signature with 2048 bits alone has as many


def _value_or_file(given: str, option: str) -> str:
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise InputError(f"{option}: cannot read {given[1:]}: {type(error).__name__}") from None


def _now(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        instant = parse_instant(text)
    except ValueError:
        raise InputError(f"--now: `{text}` is not ISO 8601: write 2026-01-31T08:00:00Z") from None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
