"""`authz explain`: one request, decided and told as a person would tell it.

The decision comes from the functions that decide in the service, so the explanation cannot differ from it. Tokens are
never printed. A token whose keys are out of reach is read and marked unverified: then the explanation says what the
policy would do if the token were good.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from authz.authorizer import find_route
from authz.errors import RequestError, TokenError
from authz.model import Allow, Decision, Deny, Json, Principal, Reason, Request, http_status
from authz.node import shorten
from authz.policy.criteria import show_values
from authz.policy.criterion import Facts
from authz.policy.decision import Effect, Operator
from authz.policy.explanation import Condition, Explanation, JudgedBlock, explain
from authz.policy.near_misses import is_typo
from authz.policy.parser import PolicySet
from authz.policy.path import Host, canonical_host, canonical_path, check_method
from authz.policy.routes import PathKind, Route
from authz.transport.answer_heads import Stamp
from authz.transport.check_response import Answers
from authz.workbench.inputs import Asked

MAX_OTHER_ROUTES: Final = 10
MAX_CONDITIONS: Final = 60


class Caller(NamedTuple):
    """Who is taken to be calling, and how far that may be trusted."""

    principal: Principal | None = None
    error: TokenError | None = None  # what is wrong with the token
    trust: str = "nobody signed in"  # for people: "verified", "unverified: …", "claims as given, no token"
    claims_of_bad_token: Principal | None = None  # what a bad token says, to tell what the policy alone would do


class RouteNote(NamedTuple):
    """A route that did not match, and why."""

    route: Route
    why_not: str


class Story(NamedTuple):
    """Everything there is to tell of one request."""

    asked: Asked
    caller: Caller
    decision: Decision
    host: Host | None
    path: str | None
    route: Route | None
    passed_over: tuple[RouteNote, ...]
    explanation: Explanation | None
    headers_set: tuple[tuple[str, str], ...]
    headers_removed: tuple[str, ...]
    headers_omitted: tuple[str, ...]
    without_token_error: Decision | None  # what the policy alone says of a bad token's claims
    route_note: str = ""  # why it is this route, when host and path do not lead to it


Authenticate = Callable[[Request, float], Awaitable[Caller]]


async def tell(
    asked: Asked,
    policies: PolicySet,
    authenticate: Authenticate,
    answers: Answers,
    *,
    now: float | None = None,
    allow_path_parameters: bool = False,
) -> Story:
    """Decide one request and keep all that is worth telling."""
    now = time.time() if now is None else now
    request = asked.request
    nobody = Caller()
    try:
        check_method(request.method)
        host = canonical_host(request.host)
        path = canonical_path(request.path, allow_parameters=allow_path_parameters)
    except RequestError as error:
        deny = Deny(Reason.REQUEST_MALFORMED, detail=str(error))
        return _story(asked, nobody, deny, answers)
    route = find_route(policies, request, host, path)
    named = _named_by_the_log(asked, policies, route)
    note = "" if named is None else _NAMED.format("no route" if route is None else f"`{route.name.label}`")
    if named is not None:
        route, request = named, request._replace(route_id=named.id)
        asked = asked._replace(request=request)
    passed_over = _passed_over(policies, request, host, path, route)
    if route is None:
        story = _story(asked, nobody, Deny(Reason.ROUTE_NOT_FOUND), answers, host=host)
        return story._replace(path=path, passed_over=passed_over)
    caller = await authenticate(request, now)
    facts = Facts(request, path, caller.principal, now)
    explanation = explain(facts, route, caller.error)
    story = _story(asked, caller, explanation.decision, answers, host=host)
    alone = None
    if caller.claims_of_bad_token is not None:
        alone = explain(facts._replace(principal=caller.claims_of_bad_token), route).decision
    return story._replace(
        path=path,
        route=route,
        passed_over=passed_over,
        explanation=explanation,
        without_token_error=alone,
        route_note=note,
    )


_NAMED: Final = "named by the line: Envoy chose it by its id, since host and path alone lead to {}"


def _named_by_the_log(asked: Asked, policies: PolicySet, found: Route | None) -> Route | None:
    """Give the route whose id a log's line tells, unless host and path lead to it: a label need not be an id."""
    logged = asked.logged or {}
    label = logged.get("route")
    if not isinstance(label, str) or asked.request.route_id is not None:
        return None
    if (
        logged.get("policy_revision", policies.revision) != policies.revision
    ):  # under other policies it may have been another route's
        return None
    return None if found is not None and found.name.label == label else policies.routes.find_by_id(label)


def _story(asked: Asked, caller: Caller, decision: Decision, answers: Answers, host: Host | None = None) -> Story:
    answer = answers.answer(asked.request, decision, Stamp(""), "" if host is None else host.name)
    ok, denied = answer.response.ok_response, answer.response.denied_response
    options = ok.headers if isinstance(decision, Allow) else denied.headers
    return Story(
        asked=asked,
        caller=caller,
        decision=decision,
        host=host,
        path=None,
        route=None,
        passed_over=(),
        explanation=None,
        headers_set=tuple((option.header.key, option.header.value) for option in options),
        headers_removed=tuple(ok.headers_to_remove),
        headers_omitted=answer.headers_omitted,
        without_token_error=None,
    )


def _passed_over(
    policies: PolicySet, request: Request, host: Host, path: str, chosen: Route | None
) -> tuple[RouteNote, ...]:
    """Say why the routes that stand before the chosen one, and might have been meant, did not match."""
    if request.route_id is not None:
        return ()
    notes = []
    for route in policies.routes.routes:
        if route is chosen:
            break
        why_not = _why_not(route, host, path, found=chosen is not None and chosen.host.pattern is None)
        if why_not is not None:
            notes.append(RouteNote(route, why_not))
    return tuple(notes)


def _why_not(route: Route, host: Host, path: str, *, found: bool) -> str | None:
    same_name = route.host.name == host.name if route.host.pattern is None else route.host.pattern.fullmatch(host.name)
    if not same_name:
        return None if found else _other_host(route, host)
    if not route.host.matches(host):
        return f"it takes port {route.host.port} only"
    if not route.path.matches(path):
        return {
            PathKind.PREFIX: f"the path does not start with `{route.path.text}`",
            PathKind.PATH: f"the path is not `{route.path.text}`",
            PathKind.REGEX: f"the pattern `{route.path.text}` does not match the whole path",
            PathKind.ANY: "a route with the host's own port, or a later exact host, comes first",
        }[route.path.kind]
    if route.host.pattern is None:
        return "routes of the host's own port come first, whatever the order"
    return "a more exact host comes first: exact hosts beat wildcards, whatever the order"


def _other_host(route: Route, host: Host) -> str | None:
    """Mention another host only when it looks like the one that was meant."""
    return f"its host is `{route.host.name}`: a typo?" if is_typo(route.host.name, host.name) else None


# --- telling ----------------------------------------------------------------------------------------------------

_TICK, _CROSS, _DOT = "✓", "✗", "·"
JOINED: Final = {
    Operator.AND: "all of",
    Operator.OR: "any of",
    Operator.NOT: "none of",
    Operator.NOR: "not all of",
}


def lines(story: Story) -> list[tuple[str, str]]:
    """Give the story as lines of (style, text); styles are `good`, `bad`, `dim`, `title` and empty."""
    told: list[tuple[str, str]] = []
    request = story.asked.request
    shown_path = request.path.partition("?")[0]
    told.append(
        ("title", f"{request.method} {story.asked.scheme}://{shorten(request.host, 200)}{shorten(shown_path, 400)}")
    )
    if story.path is not None and story.path != shown_path:
        told.append(("", f"  judged as {story.path}"))
    told.append(("", f"  caller    {_caller(story.caller)}"))
    if story.asked.address_from:
        told.append(("", f"  address   {_address(story.asked)}"))
    if story.asked.logged:
        told.append(("", f"  the log   {_logged(story.asked.logged)}"))
    told += _route_lines(story)
    if story.explanation is not None:
        told += _rule_lines(story.explanation)
    told += _decision_lines(story)
    return told


def _caller(caller: Caller) -> str:
    principal = caller.principal or caller.claims_of_bad_token
    if caller.error is not None:
        unverified = f" — {caller.trust}" if caller.trust.startswith("unverified") else ""
        return f"the token is not good: {caller.error.reason} ({caller.error.detail}); judged as nobody{unverified}"
    if principal is None:
        return caller.trust
    return f"{principal.subject}, {principal.token_use} token of client {principal.client_id or '?'} — {caller.trust}"


def _address(asked: Asked) -> str:
    return f"{shorten(asked.request.source_ip) or 'none'} — what {asked.address_from} says counts, not the TCP peer"


def _logged(logged: Mapping[str, Json]) -> str:
    decision = logged.get("decision", "?")
    reasons = logged.get("reasons") or logged.get("reason") or "?"
    listed = ", ".join(map(str, reasons)) if isinstance(reasons, list) else str(reasons)
    who = f", subject {logged['subject']}" if "subject" in logged else ""
    return (
        f"says {decision}: {shorten(listed, 200)}{who} (a log holds no claims: give --claims or --token to judge them)"
    )


def _route_lines(story: Story) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = [("", ""), ("title", "route")]
    notes = story.passed_over[-MAX_OTHER_ROUTES:]
    if len(story.passed_over) > len(notes):
        told.append(("dim", f"  {_DOT} {len(story.passed_over) - len(notes)} more before them"))
    told += [("dim", f"  {_CROSS} {note.route.source}  {note.route.name.label}: {note.why_not}") for note in notes]
    if story.route is not None:
        told.append(("good", f"  {_TICK} {story.route.source}  {story.route.name.label}"))
        if story.route_note:
            told.append(("dim", f"    {story.route_note}"))
    elif story.decision.reason is Reason.ROUTE_NOT_FOUND:
        told.append(("bad", f"  {_CROSS} no route takes this request"))
    elif isinstance(story.decision, Deny):
        told.append(("bad", f"  {_CROSS} not looked for: {story.decision.detail}"))
    return told


def _rule_lines(explanation: Explanation) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = [("", ""), ("title", "rules")]
    if not explanation.blocks:
        told.append(("bad", "  the route has no rule: it refuses everybody"))
    for judged in explanation.blocks:
        told += _block_lines(judged)
    return told


def _block_lines(judged: JudgedBlock) -> list[tuple[str, str]]:
    lets_in = judged.holds is (judged.effect is Effect.ALLOW)
    holds = "holds" if judged.holds else "does not hold"
    head = f"  {judged.effect} if {JOINED[judged.block.operator]} these hold — {holds}  ({judged.block.source})"
    told = [("good" if lets_in else "bad" if judged.effect is Effect.ALLOW or judged.holds else "", head)]
    for condition in judged.conditions[:MAX_CONDITIONS]:
        told += _condition_lines(condition)
    if len(judged.conditions) > MAX_CONDITIONS:
        told.append(("dim", f"    {_DOT} and {len(judged.conditions) - MAX_CONDITIONS} more"))
    return told


def _found(condition: Condition) -> str:
    return "nobody signed in" if condition.reason is Reason.USER_UNAUTHENTICATED else show_values(condition.found)


def _condition_lines(condition: Condition) -> list[tuple[str, str]]:
    mark = _TICK if condition.holds else _CROSS
    criterion = condition.criterion
    text = f"    {mark} {criterion.name}  wants: {criterion.wanted}  found: {_found(condition)}  [{condition.reason}]"
    told = [("good" if condition.holds else "bad", text)]
    if condition.hint is not None:
        told.append(("dim", f"      {condition.hint.long}"))
    return told


def _decision_lines(story: Story) -> list[tuple[str, str]]:
    decision = story.decision
    reasons = ", ".join(decision.reasons)
    if isinstance(decision, Allow):
        told = [("", ""), ("good", f"{_TICK} allow: {reasons}")]
    else:
        told = [("", ""), ("bad", f"{_CROSS} deny {http_status(decision.reason)}: {reasons}")]
    verb = "sets    " if isinstance(decision, Allow) else "answers "
    told += [("dim", f"  {verb} {name}: {value}") for name, value in story.headers_set]
    if story.headers_removed:
        told.append(("dim", f"  removes  {', '.join(story.headers_removed)}"))
    if story.headers_omitted:
        told.append(("bad", f"  omits    {', '.join(story.headers_omitted)}: the value cannot be a header"))
    if story.without_token_error is not None:
        told.append(("", f"  with a good token of the same claims: {_short(story.without_token_error)}"))
    return told


def _short(decision: Decision) -> str:
    what = "allow" if isinstance(decision, Allow) else f"deny {http_status(decision.reason)}"
    return f"{what} ({', '.join(decision.reasons)})"


def as_json(story: Story) -> Mapping[str, Json]:
    """Give the story for programs."""
    decision, request = story.decision, story.asked.request
    return {
        "request": {
            "method": request.method,
            "host": request.host,
            "path": request.path.partition("?")[0],
            "source_ip": request.source_ip,
            "source_ip_from": story.asked.address_from or "the TCP peer",
        },
        "path": story.path,
        "caller": {
            "trust": story.caller.trust,
            "subject": None if story.caller.principal is None else story.caller.principal.subject,
            "error": None if story.caller.error is None else story.caller.error.reason.value,
            "detail": None if story.caller.error is None else story.caller.error.detail,
        },
        "decision": "allow" if isinstance(decision, Allow) else "deny",
        "status": None if isinstance(decision, Allow) else http_status(decision.reason),
        "reasons": [reason.value for reason in decision.reasons],
        "detail": decision.detail if isinstance(decision, Deny) else "",
        "route": None
        if story.route is None
        else {"name": story.route.name.label, "at": str(story.route.source), "note": story.route_note},
        "passed_over": [
            {"name": note.route.name.label, "at": str(note.route.source), "why_not": note.why_not}
            for note in story.passed_over[-MAX_OTHER_ROUTES:]
        ],
        "rules": [] if story.explanation is None else [_block_json(judged) for judged in story.explanation.blocks],
        "headers": {
            "set": [list(pair) for pair in story.headers_set],
            "removed": list(story.headers_removed),
            "omitted": list(story.headers_omitted),
        },
        "with_a_good_token": None if story.without_token_error is None else _short(story.without_token_error),
    }


def _block_json(judged: JudgedBlock) -> Mapping[str, Json]:
    conditions: Sequence[Json] = [
        {
            "criterion": condition.criterion.name,
            "wanted": condition.criterion.wanted,
            "found": _found(condition),
            "holds": condition.holds,
            "reason": condition.reason.value,
            "hint": None if condition.hint is None else condition.hint.long,
            "at": str(condition.criterion.source),
        }
        for condition in judged.conditions
    ]
    return {
        "effect": judged.effect.value,
        "operator": judged.block.operator.value,
        "holds": judged.holds,
        "at": str(judged.block.source),
        "conditions": conditions,
    }
