"""One route of Pomerium's to ours: who may pass is kept word for word, where requests go becomes Envoy's (`Hop`).

Both sides read rules alike but for a few cases, listed in the policy language. Those that would let in more stop the
import: criteria that ask a directory, client certificates that Envoy would not ask for, and denials by an e-mail
address, which counts here only when it is verified.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from authz.model import Json
from authz.node import Fields, Items, Node, Problems, Scalar, describe
from authz.policy.criteria import compile_criterion
from authz.policy.criterion import CriteriaContext
from authz.policy.host_and_path_reader import PATH_ORDER
from authz.policy.route_reader import ENVOY_KEYS
from authz.reading import did_you_mean
from authz.workbench.importers.common import (
    caller,
    is_on,
    path_problem,
    plain,
    slug,
    text_in,
    texts_in,
    unique,
)
from authz.workbench.importers.ledger import Ledger
from authz.workbench.importers.model import Caller, Login, Route, SignIn
from authz.workbench.importers.pomerium_hop import READ_BY_HOP, Hop

_MATCHERS: Final = tuple(kind.value for kind in PATH_ORDER)
_SWITCHES: Final = ("allow_public_unauthenticated_access", "cors_allow_preflight", "allow_any_authenticated_user")
_LISTS: Final = ("allowed_users", "allowed_domains")
_DECIDING: Final = (*_SWITCHES, *_LISTS, "allowed_idp_claims", "policy", "pass_identity_headers", "show_error_details")
_KEPT: Final = "`policies/`: the same key"
_STOPPING: Final[Mapping[str, str]] = {
    "allowed_groups": "Pomerium removed it; write `allowed_idp_claims: {cognito:groups: […]}`",
    "sub_policies": "it is Pomerium Enterprise's; write its rules under `policy:`",
    "mcp": "it needs the request's body, which authz does not see; write an ordinary route",
    "tls_downstream_client_ca": "asks clients for certificates, which the written `envoy.yaml` does not: delete it "
    "here, then write `deny: {or: [invalid_client_certificate: true]}` and set `client_certificate_ca:` by hand",
    "tls_downstream_client_ca_file": "asks clients for certificates, which the written `envoy.yaml` does not: "
    "delete it "
    "here, then write `deny: {or: [invalid_client_certificate: true]}` and set `client_certificate_ca:` by hand",
    "idp_client_id": "a sign-in of its own for one route: delete it here, then give that app client an Envoy host of "
    "its own, list it under `clients:` and demand it with `client_id:` in the route's rules",
    "idp_client_secret": "a sign-in of its own for one route: delete it here; see `idp_client_id`",
    "idp_access_token_allowed_audiences": "for one route: delete it here, then list the app clients under "
    "`clients:` and "
    "demand them with `client_id: {in: […]}` in the route's rules",
    "identity_providers": "for one route: delete it here, then demand the pool with `issuer:` in the route's rules",
}
_UNSEEN_CRITERIA: Final[Mapping[str, str]] = {
    "groups": "Pomerium's `groups` come from a directory and are not the groups of the token: write "
    "`claim/cognito:groups: NAME` if the pool's group has the same members",
    "client_certificate": "Envoy does not ask for certificates as it is written: delete it here and add it by hand",
    "invalid_client_certificate": "Envoy does not ask for certificates as it is written: delete it here and add it by "
    "hand with `client_certificate_ca:`",
}
_ADDRESSES: Final = frozenset({"email", "domain", "claim/email"})
_GUARD: Final = "claim/email_verified"
# Amazon Cognito developer guide, "Understanding the access token"; `email` has its own check above.
_ACCESS_CLAIMS: Final = frozenset({
    "cognito:groups", "sub", "username", "scope", "client_id", "iss", "token_use", "auth_time", "jti", "origin_jti",
    "event_id", "email",
})  # fmt: skip
_WITHOUT_CALLER: Final = frozenset({"accept", "reject", "http_method", "http_path", "cors_preflight", "source_ip",
                                    "date",
                                    "day_of_week", "time_of_day"})  # fmt: skip


class RouteImport(NamedTuple):
    """What the whole configuration says for every route."""

    login: Login
    timeout: str


class RouteImporter:
    """Reads one route after the other."""

    def __init__(self, ledger: Ledger, defaults: RouteImport) -> None:
        self._ledger = ledger
        self._defaults = defaults
        self._takes_bearer = False  # of the route that is read: no sign-in stands before it

    def read(self, node: Node, at: str, before: Sequence[Route]) -> Route | None:
        """Read a route; None when it is left out, or stops the import. `before` are those read already."""
        if not isinstance(node, Fields):
            self._ledger.stop(at, node, f"found {describe(node)}, expected a map (`from: https://…`)")
            return None
        start = node.get("from")
        host = self._host(start, at)
        if start is None or host is None:
            if start is None:
                self._ledger.stop(at, node, "`from` is missing: write the host that the route is for")
            return None
        matcher = self._matcher(node, at)
        self._takes_bearer = self._defaults.login.passes_bearer or "*" in host[1] or "cors" in str(plain(node))
        policy = self._policy(node, at)
        hop = Hop(self._ledger, node, at, self._defaults.timeout)
        self._other_keys(node, at)
        scheme, authority = host
        name = unique(_name(node, authority, matcher), (route.id for route in before))
        self._ledger.carried(f"{at}.from", start, f"`policies/`: route `{name}`; `envoy.yaml`: a virtual host")
        return Route(
            id=name,
            source=node.source,
            host=authority,
            scheme=scheme,
            match=matcher,
            policy=policy,
            upstream=hop.upstream,
            action=hop.action,
            extra=hop.extra,
            sign_in=_sign_in(node),
            login=None if _is_public(node) is None or "*" in authority else self._defaults.login,
            callers=_callers(node),
        )

    def _host(self, node: Node | None, at: str) -> tuple[str, str] | None:
        if node is None:
            return None
        match = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#@]+)/?", text_in(node))
        if match is None:
            self._ledger.stop(f"{at}.from", node, f"found {describe(node)}, expected https://HOST without a path")
            return None
        scheme = match[1].lower()
        if scheme not in ("http", "https"):
            self._ledger.left(at, node, "a tunnel (TCP, UDP or SSH), no HTTP route: authz judges HTTP requests")
            return None
        if "*" in match[2]:
            self._ledger.remember(
                f"`{match[2]}` is a wildcard: browsers cannot sign in there, because a "
                f"callback needs a "
                "fixed host; requests with tokens are judged"
            )
        return scheme, match[2]

    def _matcher(self, node: Fields, at: str) -> tuple[str, str] | None:
        given = [(kind, found) for kind in _MATCHERS if (found := node.get(kind)) is not None]
        for kind, found in given[1:]:
            self._ledger.left(f"{at}.{kind}", found, f"it has no effect in Pomerium, because `{given[0][0]}` wins")
        if not given:
            return None
        kind, found = given[0]
        problem = path_problem(kind, text_in(found))
        if problem is not None:
            self._ledger.stop(f"{at}.{kind}", found, problem)
        else:
            self._ledger.carried(f"{at}.{kind}", found, "`policies/` and `envoy.yaml`: the route's matcher")
        return kind, text_in(found)

    # --- who may pass -----------------------------------------------------------------------------------------------

    def _policy(self, node: Fields, at: str) -> dict[str, Any]:
        policy: dict[str, Any] = {}
        for key, value in node.entries:
            name = key.text
            path = f"{at}.{name}"
            if name in _SWITCHES or name in ("pass_identity_headers", "show_error_details"):
                policy[name] = is_on(value)
                self._ledger.carried(path, value, _KEPT)
            elif name in _LISTS:
                policy[name] = list(texts_in(value, ","))
                self._ledger.carried(path, value, _KEPT)
            elif name == "allowed_idp_claims":
                policy[name] = self._claims(value, path)
            elif name == "policy" and not (isinstance(value, Scalar) and value.value is None):
                policy[name] = plain(value)
                self._rules(value, path)
        if policy.get("allowed_users") or policy.get("allowed_domains"):
            self._tell_of_addresses()
        return {name: value for name, value in policy.items() if value not in ([], {})}

    def _claims(self, node: Node, path: str) -> Any:  # noqa: ANN401 - as it is written
        if not isinstance(node, Fields):
            self._ledger.stop(path, node, f"found {describe(node)}, expected a map of claims to values")
            return {}
        for key, _ in node.entries:
            self._tell_of_case(key.text)
        self._ledger.carried(path, node, _KEPT)
        return {key.text: _values(value) for key, value in node.entries}

    def _tell_of_case(self, claim: str) -> None:
        if claim != claim.lower():
            self._ledger.differs(
                f"The claim `{claim}` is compared as written. Pomerium lower-cases the names "
                f"in its file, "
                "so that rule never matched there."
            )

    def _tell_of_addresses(self) -> None:
        self._ledger.differs(
            "An e-mail address counts only when `email_verified` is true: in Cognito, people "
            "can change "
            "their own. `trust_unverified_email: true` at the pool lifts that."
        )

    def _rules(self, node: Node, path: str) -> None:
        """Check the PPL rules one by one. They are kept as they are."""
        self._ledger.carried(path, node, _KEPT)
        blocks = list(_blocks(node))
        is_guarded = any(
            effect == "deny" and operator == "or" and name == _GUARD and plain(data) == {"exclude": True}
            for effect, operator, criterion in blocks
            for name, data in _named(criterion)
        )
        for effect, operator, criterion in blocks:
            problems = Problems()
            compile_criterion(criterion, problems, CriteriaContext())
            for problem in problems.errors:
                self._ledger.problems.append(problem._replace(message=f"{path}: {problem.message}"))
            for name, data in _named(criterion):
                self._criterion(name, criterion, path, _keeps_out(effect, operator) and not is_guarded)
                self._unseen(name, data, path, _keeps_out(effect, operator))

    def _criterion(self, name: str, node: Node, path: str, keeps_out: bool) -> None:
        kind, _, claim = name.partition("/")
        if kind in _UNSEEN_CRITERIA:
            self._ledger.stop(path, node, f"`{kind}`: {_UNSEEN_CRITERIA[kind]}")
        if name in _ADDRESSES and keeps_out:
            self._ledger.stop(
                path,
                node,
                f"`{name}` keeps people out by an address, and here an unverified "
                f"one does not "
                "count: add the rule `deny: {or: [claim/email_verified: {exclude: true}]}` to "
                "the route, or "
                "name them by `user:`",
            )
        elif name in _ADDRESSES:
            self._tell_of_addresses()
        self._tell_of_case(claim)

    def _unseen(self, name: str, data: Node, path: str, keeps_out: bool) -> None:
        """Stop where a claim that a bare access token lacks would let somebody in."""
        claim = name.removeprefix("claim/")
        value = plain(data)
        holds_without = isinstance(value, dict) and set(value) == {"exclude"}  # beside it, all must hold
        if not self._takes_bearer or claim == name or claim in _ACCESS_CLAIMS or holds_without is keeps_out:
            return
        self._ledger.stop(
            path,
            data,
            f"`{name}` keeps people out, and a bearer access token does not hold that claim: let a pre-token "
            "trigger add it and write the rule into the result by hand, or delete the rule here",
        )

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _other_keys(self, node: Fields, at: str) -> None:
        """Note what neither decides nor was read: Envoy's to do by hand, or unknown, which stops."""
        for key, value in node.entries:
            name, path = key.text, f"{at}.{key.text}"
            if name in ("from", *_MATCHERS, *_DECIDING, *READ_BY_HOP, "bearer_token_format"):
                continue
            if name in _STOPPING:
                self._ledger.stop(path, key, _STOPPING[name])
            elif name in ("id", "name", "description", "logo_url"):
                self._ledger.left(path, value, "a name for people; the result names its routes after host and path")
            elif name in ENVOY_KEYS:
                self._ledger.left(path, value, "it decides nothing: set it in `envoy.yaml` by hand")
            else:
                hint = (
                    did_you_mean(name, (*_DECIDING, *ENVOY_KEYS)) or ": delete it here if it does not restrict access"
                )
                self._ledger.stop(path, key, f"unknown key, which may restrict access{hint}")


def _values(node: Node) -> Any:  # noqa: ANN401 - as it is written
    """Give a claim's values; Pomerium splits a text at its commas, untrimmed."""
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return node.value.split(",")
    value = plain(node)
    return value if isinstance(node, Items | Fields) else [value]


def _blocks(node: Node) -> Iterable[tuple[str, str, Node]]:
    """Give every criterion of the rules with its effect and operator."""
    for rules in node.items if isinstance(node, Items) else (node,):
        for effect, body in rules.entries if isinstance(rules, Fields) else ():
            for operator, criteria in body.entries if isinstance(body, Fields) else ():
                for criterion in criteria.items if isinstance(criteria, Items) else ():
                    yield effect.text, operator.text, criterion


def _named(criterion: Node) -> Iterable[tuple[str, Node]]:
    return [(key.text, data) for key, data in criterion.entries] if isinstance(criterion, Fields) else []


def _keeps_out(effect: str, operator: str) -> bool:
    """Tell whether a criterion that is false where Pomerium's is true would let somebody in."""
    return (effect == "deny") is (operator in ("and", "or"))


def _name(node: Fields, authority: str, matcher: tuple[str, str] | None) -> str:
    given = text_in(node.get("name"))
    return slug(given or f"{authority} {matcher[1] if matcher else ''}".replace("*", "any"))


def _is_public(node: Fields) -> bool | None:
    """Tell whether nobody needs to sign in; None when nobody is ever let in by who they are, so that none can help."""
    rules = node.get("policy")
    named = [
        (effect, operator, name)
        for effect, operator, criterion in (() if rules is None else _blocks(rules))
        for name, _ in _named(criterion)
    ]
    asking = {effect for effect, _, name in named if name.partition("/")[0] not in _WITHOUT_CALLER}
    if "deny" in asking:
        return False  # whoever may be denied by who they are must say so first, on a public route too
    if is_on(node.get(_SWITCHES[0])) or ("allow", "or", "accept") in named:
        return True
    plain_ones = [name for name in (*_LISTS, "allowed_idp_claims") if _is_filled(node.get(name))]
    return False if asking or is_on(node.get(_SWITCHES[2])) or plain_ones else None


def _is_filled(node: Node | None) -> bool:
    return bool(texts_in(node)) or (isinstance(node, Fields) and bool(node.entries))


def _sign_in(node: Fields) -> SignIn:
    public = _is_public(node)
    return SignIn.NONE if public is None else SignIn.OPTIONAL if public else SignIn.REQUIRED


def _callers(node: Fields) -> tuple[Caller, ...]:
    """Give callers for the tests. Plain keys alone tell who is let in; with PPL rules the result decides."""
    known = node.get("policy") is None or None
    somebody: list[dict[str, Json]] = []
    claims = node.get("allowed_idp_claims")
    for key, value in claims.entries if isinstance(claims, Fields) else ():
        values = _values(value)
        somebody += [{key.text: [item]} for item in (values if isinstance(values, list) else ()) if item is not None]
    for user in texts_in(node.get("allowed_users"), ","):
        address: dict[str, Json] = {"email": user, "email_verified": True}
        somebody.append(address if "@" in user else {"sub": user})
    for domain in texts_in(node.get("allowed_domains"), ","):
        somebody.append({"email": f"someone@{domain}", "email_verified": True})
    rules = node.get("policy")
    for _, _, criterion in _blocks(rules) if rules is not None else ():
        for name, data in _named(criterion):
            value = plain(data)
            wanted = value if isinstance(value, str | int) else None
            if name.startswith("claim/") and wanted is not None:
                somebody.append({name.removeprefix("claim/"): [wanted]})
            elif name == "email" and isinstance(wanted, str):
                somebody.append({"email": wanted, "email_verified": True})
            elif name == "domain" and isinstance(wanted, str):
                somebody.append({"email": f"someone@{wanted}", "email_verified": True})
            elif name == "user" and isinstance(wanted, str):
                somebody.append({"sub": wanted})
    return tuple(caller(one, allowed=known) for one in somebody)
