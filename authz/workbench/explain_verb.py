"""`authz explain`, from parsed options to text."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import click

from authz.identity.claims import ClaimShapes
from authz.model import Json
from authz.options import answer_settings, claim_shapes, policy_options
from authz.policy.parser import PolicyOptions, PolicySet
from authz.settings import DEFAULT_IDENTITY_HEADERS, DEFAULT_TOKENS, Settings, load_settings
from authz.transport.envoy import Answers, AnswerSettings
from authz.workbench.callers import GivenClaims, PresentedToken, UnlessRevoked
from authz.workbench.explain import Authenticate, Story, as_json, lines, tell
from authz.workbench.inputs import Asked, InputError, from_curl, from_log_line, from_options
from authz.workbench.loading import load_policies, load_revocations
from authz.workbench.problems import printable

UsageError = InputError


def explain(options: Mapping[str, Any], *, color: bool) -> str:
    """Explain one request. Raises InputError for bad options, LoadError for files that do not load."""
    settings = _settings(options)
    policies = _policies(options, settings)
    asked = _asked(options)
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


def _asked(options: Mapping[str, Any]) -> Asked:
    headers = list(options["headers"])
    token = options["token"]
    if token is not None:
        headers.append(f"authorization: Bearer {_value_or_file(token, '--token')}")
    if options["command"]:
        asked = from_curl(options["command"])
        extra = from_options("https://unused/", headers=headers).request.headers
        request = asked.request._replace(headers={**asked.request.headers, **extra})
        asked = asked._replace(request=request)
    elif options["url"] is not None:
        asked = from_options(options["url"], options["method"], headers)
    else:
        line = _line_of(options["stdin"])
        if not line.strip():
            raise InputError("give --url, a curl command after `--`, or one line of a log on standard input")
        asked = from_log_line(line)
        extra = from_options("https://unused/", headers=headers).request.headers
        asked = asked._replace(request=asked.request._replace(headers=extra))
    request = asked.request._replace(
        source_ip=options["source_ip"] or asked.request.source_ip, route_id=options["route_id"]
    )
    return asked._replace(request=request)


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
    return UnlessRevoked(caller, load_revocations(settings.revocations))


def _claims(given: str) -> Mapping[str, Json]:
    text = _value_or_file(given, "--claims")
    try:
        claims = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError('--claims is not JSON: write --claims \'{"cognito:groups": ["admins"]}\'') from None
    if not isinstance(claims, dict):
        raise InputError('--claims is not a JSON object: write --claims \'{"cognito:groups": ["admins"]}\'')
    return claims


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
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--now: `{text}` is not ISO 8601: write 2026-01-31T08:00:00Z") from None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
