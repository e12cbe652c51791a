"""Kong's openid-connect plugin: whom one instance of it lets in, and how they sign in.

In each `*_required` list the items are alternatives, and the words of one item must all be there; different lists must
all be satisfied. Rules here do not nest, so the lists are multiplied out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import ceil
from typing import Any, Final, NamedTuple

from authz.model import Json
from authz.node import Fields, Items, Node, Scalar, describe
from authz.workbench.importers.common import (
    caller,
    carry_scopes,
    is_placeholder,
    issuer_name,
    split_address,
    text_in,
    texts_in,
)
from authz.workbench.importers.kong_input import is_empty, is_null, path_of, switch, unknown_key
from authz.workbench.importers.kong_oidc_keys import (
    KNOWN,
    MAPPINGS,
    PROOFS,
    SECRETS,
    SESSION_IS_ENVOYS,
    SESSIONS,
    STOPPING,
    VERIFYING,
)
from authz.workbench.importers.ledger import Ledger
from authz.workbench.importers.model import PLACEHOLDER_CLIENT, PLACEHOLDER_ISSUER, Caller, Login, Pool

MAX_ALTERNATIVES: Final = 256
MAX_LEEWAY_SECONDS: Final = 300  # `leeway: 5m`, which the configuration allows at most
_TESTED_ALTERNATIVES: Final = 4
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "scopes_required": ("scopes_claim", "scope"),
    "audience_required": ("audience_claim", "aud"),
    "groups_required": ("groups_claim", "groups"),
    "roles_required": ("roles_claim", "roles"),
}
_SINGLE_TEXTS: Final = frozenset({
    "aud", "client_id", "cognito:username", "email", "iss", "sub", "token_use", "username",
})  # fmt: skip
_EVERYBODYS: Final = _SINGLE_TEXTS - {
    "aud"
}  # the callers of policy tests hold them anyway, or they count when verified
_SIGNED_IN_SECONDS: Final = 60  # how long ago the callers of policy tests signed in


class Required(NamedTuple):
    """One `*_required` list."""

    claim: str  # dotted when nested
    items: tuple[tuple[str, ...], ...]  # alternatives, each with words that must all be there

    @property
    def criterion(self) -> str:
        """The criterion that looks at the claim."""
        return "scope" if self.claim == "scope" else f"claim/{self.claim}"

    def options(self) -> list[list[dict[str, Any]]]:
        """Give the alternatives, each as criteria that must all hold."""
        singles = [item[0] for item in self.items if len(item) == 1]
        if self.criterion != "scope" or len(singles) < 2:
            return [[{self.criterion: word} for word in item] for item in self.items]
        merged: list[list[dict[str, Any]]] = [[{"scope": {"in": singles}}]]
        return merged + [[{"scope": word} for word in item] for item in self.items if len(item) > 1]

    def holds(self, words: Sequence[str]) -> bool:
        """Tell whether Kong would be content with these words in the claim."""
        return any(set(item) <= set(words) for item in self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What one instance of the plugin says."""

    pool: Pool
    required: tuple[Required, ...] = ()
    max_age_seconds: int | None = None
    public: bool = False
    takes_bearer: bool = True
    preflight: bool = False
    login: Login | None = None
    login_host: str = ""  # from `redirect_uri`
    places: tuple[Mapping[str, str], ...] = ()
    identity_headers: Mapping[str, str] = field(default_factory=dict)
    hide_credentials: bool = False
    redirects: Mapping[str, str] = field(default_factory=dict)
    split_claims: tuple[str, ...] = ()

    def alternatives(self) -> Iterator[list[dict[str, Any]]]:
        """Multiply the lists out: each result is criteria that must all hold."""
        age = [] if self.max_age_seconds is None else [{"auth_age": {"max": f"{self.max_age_seconds}s"}}]
        for combination in product(*(required.options() for required in self.required)):
            yield [criterion for option in combination for criterion in option] + list(age)

    def count(self) -> int:
        """Count the alternatives without making them."""
        total = 1
        for required in self.required:
            total *= len(required.options())
        return total

    def callers(self, iss: Mapping[str, Json]) -> tuple[Caller, ...]:
        """Give callers for the tests: some that Kong lets in, and each without one of the lists."""
        found: list[Caller] = []
        for items in list(product(*(required.items for required in self.required)))[:_TESTED_ALTERNATIVES]:
            everything: dict[Required, Sequence[str]] = dict(zip(self.required, items, strict=True))
            wanted = [everything, *(_without(everything, one) for one in self.required)]
            found += [self._caller(words, iss) for words in wanted if _can_be_held(words)]
        return tuple(_distinct(found))

    def _caller(self, words: Mapping[Required, Sequence[str]], iss: Mapping[str, Json]) -> Caller:
        held: dict[str, list[str]] = {}
        for required, items in words.items():
            held.setdefault(required.claim, []).extend(
                item for item in items if item not in held.get(required.claim, [])
            )
        claims: dict[str, Json] = {
            claim: " ".join(values) if claim == "scope" else values for claim, values in held.items()
        }
        allowed: bool | None = all(required.holds(held.get(required.claim, ())) for required in self.required)
        too_old = self.max_age_seconds is not None and self.max_age_seconds <= _SIGNED_IN_SECONDS
        unclear = too_old or any(required.claim in _EVERYBODYS for required in self.required)
        return caller({**claims, **iss}, allowed=True if self.public else None if unclear else allowed)


def _can_be_held(words: Mapping[Required, Sequence[str]]) -> bool:
    """Tell whether a token can hold the words: some claims are one text."""
    singles = {(required.claim, item) for required, items in words.items() for item in items}
    return all(sum(claim == one for claim, _ in singles) < 2 for one in _SINGLE_TEXTS)


def _without(words: Mapping[Required, Sequence[str]], one: Required) -> dict[Required, Sequence[str]]:
    return {required: items for required, items in words.items() if required != one}


def _distinct(callers: Sequence[Caller]) -> Iterator[Caller]:
    seen: list[Mapping[str, Json] | None] = []
    for one in callers:
        if one.claims not in seen:
            seen.append(one.claims)
            yield one


# --- reading the plugin's settings ----------------------------------------------------------------------------------

_NO_COUNTERPART: Final = "authz and Envoy have no counterpart, and nobody gets in by its absence"
_ALWAYS: Final = "signatures and claims are always verified, and keys fetched over verified TLS"
_BODY_PLACES: Final = ("query", "body")


class GuardReader:
    """Reads one plugin's `config`; every setting is noted in the ledger."""

    def __init__(self, ledger: Ledger, config: Fields, at: str, *, portal: bool = False) -> None:
        self._ledger = ledger
        self._config = config
        self._at = at
        self._portal = portal
        self._noted: set[str] = set()

    def read(self) -> Guard:
        """Give what the instance says; what stops the import is in the ledger."""
        if self._portal:
            guard = Guard(pool=self._pool(frozenset({"session"})))
            self._others()
            return guard
        methods = self._methods()
        pool = self._pool(methods)
        required = self._required()
        pool = self._with_uses(pool, required)
        guard = Guard(
            pool=pool,
            required=required,
            max_age_seconds=self._max_age(),
            public=self._anonymous(),
            takes_bearer="bearer" in methods,
            preflight=self._preflight(),
            login=self._login(pool, methods),
            login_host=self._login_host(),
            places=self._places(methods),
            identity_headers=self._headers(),
            hide_credentials=self._switch("hide_credentials", "`authz.yaml`: `hide_credentials`, for all routes"),
            redirects=self._redirects(),
            split_claims=tuple(one.claim for one in required if one.claim in ("scp", "scopes")),
        )
        if guard.count() > MAX_ALTERNATIVES:
            message = f"the required lists multiply out to more than {MAX_ALTERNATIVES} rules: name fewer alternatives"
            self._ledger.stop(self._at, self._config, message)
        self._others()
        return guard

    # --- small steps --------------------------------------------------------------------------------------------------

    def _get(self, name: str) -> Node | None:
        """Give a setting that is a text or a list of texts; null is not there."""
        node = self._config.get(name)
        is_new = name not in self._noted
        self._noted.add(name)
        if node is None or is_null(node):
            return None
        if is_new and not _is_of_texts(node):
            self._ledger.stop(self._path(name), node, f"found {describe(node)}, expected a list of texts")
        return node

    def _path(self, name: str) -> str:
        return path_of(self._at, name)

    def _carry(self, name: str, where: str) -> None:
        node = self._config.get(name)
        self._noted.add(name)
        if node is not None and not is_null(node):
            self._ledger.carried(self._path(name), node, where)

    def _leave(self, name: str, why: str) -> None:
        node = self._config.get(name)
        if node is not None and not is_null(node):
            self._noted.add(name)
            self._ledger.left(self._path(name), node, why)

    def _switch(self, name: str, where: str) -> bool:
        self._carry(name, where)
        return switch(self._config, name, self._at, self._ledger, usual=False)

    # --- whose tokens -------------------------------------------------------------------------------------------------

    def _methods(self) -> frozenset[str]:
        """Give the ways to sign in; Kong takes them all when none is named."""
        node = self._get("auth_methods")
        if node is None:
            return frozenset({"authorization_code", "session", "bearer"})
        self._ledger.changed(
            self._path("auth_methods"),
            node,
            "`envoy.yaml`: sign-in with `authorization_code` or `session`; `authz.yaml` judges bearer tokens; programs "
            "get tokens from Cognito itself, not by password or client credentials sent here",
        )
        return frozenset(texts_in(node))

    def _pool(self, methods: frozenset[str]) -> Pool:
        issuer = self._issuer()
        clients = self._clients(methods)
        return Pool(issuer, clients, leeway_seconds=self._leeway(), issuers=self._issuers_allowed())

    def _issuer(self) -> str:
        node = self._get("issuer")
        if node is None or is_placeholder(text_in(node)):
            if node is not None:
                text = "it is a placeholder: write your user pool into `authz.yaml`"
                self._ledger.changed(self._path("issuer"), node, text)
            return PLACEHOLDER_ISSUER
        name = issuer_name(text_in(node))
        if name is None:
            self._ledger.stop(
                self._path("issuer"),
                node,
                "not the issuer or discovery URL of a Cognito user pool: only Cognito's tokens can be judged here; "
                "federate that provider into a pool",
            )
            return PLACEHOLDER_ISSUER
        self._carry("issuer", "`authz.yaml`: `cognito`: `user_pool`")
        return name.issuer

    def _clients(self, methods: frozenset[str]) -> tuple[str, ...]:
        node = self._get("client_id")
        clients = tuple(client for client in texts_in(node) if not is_placeholder(client))
        if clients:
            self._carry("client_id", "`authz.yaml`: `cognito`: `clients`")
            if "bearer" in methods:
                self._ledger.differs(
                    "Tokens count only when one of the app clients under `clients:` got them. Kong takes a bearer "
                    "token of any app client of the pool: add the ids of yours."
                )
            return clients
        if node is not None:
            self._ledger.changed(self._path("client_id"), node, "it is a placeholder: write your app client's id")
            return (PLACEHOLDER_CLIENT,)
        if methods & {"authorization_code", "session"}:
            return (PLACEHOLDER_CLIENT,)
        self._ledger.remember(
            "`authz.yaml`: the source names no app client, so `clients: any` takes tokens of every one, as Kong does: "
            "name yours"
        )
        return ("any",)

    def _issuers_allowed(self) -> tuple[str, ...]:
        node = self._get("issuers_allowed")
        if node is None:
            return ()
        self._carry("issuers_allowed", "`authz.yaml`: `cognito`: `issuers`")
        return texts_in(node)

    def _leeway(self) -> int:
        node = self._get("leeway")
        text = text_in(node)
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            self._leave("leeway", "no number of seconds: there is none then")
            return 0
        seconds = ceil(min(float(text), MAX_LEEWAY_SECONDS))
        if node is not None and float(text) > MAX_LEEWAY_SECONDS:
            self._ledger.changed(
                self._path("leeway"), node, "`authz.yaml`: `cognito`: `leeway: 300s`, the most there is"
            )
        else:
            self._carry("leeway", "`authz.yaml`: `cognito`: `leeway`")
        return seconds

    def _with_uses(self, pool: Pool, required: Sequence[Required]) -> Pool:
        """Take ID tokens too where an audience is demanded: plain access tokens of Cognito have none."""
        wants_audience = any(one.claim == "aud" for one in required)
        return pool._replace(token_use=("access", "id")) if wants_audience else pool

    # --- what they must hold ------------------------------------------------------------------------------------------

    def _required(self) -> tuple[Required, ...]:
        found = []
        for name, (claim_name, usual) in _KINDS.items():
            node = self._get(name)
            claim_node = self._get(claim_name)
            path = texts_in(claim_node) or (usual,)
            if any(part.isdecimal() for part in path):
                self._ledger.stop(
                    self._path(claim_name),
                    claim_node or self._config,
                    "counts into a list, which no rule here can: name the claim itself",
                )
            items = tuple(tuple(item.split()) for item in texts_in(node) if item.split())
            if node is not None and not items and texts_in(node):
                self._ledger.stop(self._path(name), node, "found blanks alone, expected a list of texts")
            self._carry(name, "`policies/`: the rules of the routes that the plugin guards")
            self._carry(
                claim_name, "`policies/`: the claim that those rules look at" if items else "nothing is required of it"
            )
            if items:
                found.append(Required(".".join(path), items))
        domains = self._get("domains")
        if texts_in(domains):
            self._carry("domains", "`policies/`: rules on the claim `hd`")
            found.append(Required("hd", tuple((domain,) for domain in texts_in(domains))))
        if any(one.criterion != "scope" and one.claim not in ("scp", "scopes") for one in found):
            self._ledger.differs(
                'A claim that holds one text is one value. Kong splits it at blanks: `claims: {NAME: {split: " "}}` in '
                "`authz.yaml` does the same."
            )
        if any(one.claim == "email" for one in found):
            self._ledger.differs("An e-mail address counts when it is verified (`email_verified`) alone.")
        return tuple(found)

    def _max_age(self) -> int | None:
        node = self._get("max_age")
        if node is None:
            return None
        self._carry("max_age", "`policies/`: `auth_age`")
        text = text_in(node)
        if not text.isdecimal() or int(text) == 0:
            self._ledger.stop(self._path("max_age"), node, f"found {describe(node)}, expected seconds")
            return None
        return int(text)

    def _anonymous(self) -> bool:
        node = self._get("anonymous")
        text = text_in(node)
        if node is None or not text:
            return False
        if is_placeholder(text) or (isinstance(node, Scalar) and isinstance(node.value, bool)):
            message = f"found {describe(node)}, expected a consumer, who makes the route public"
            self._ledger.stop(self._path("anonymous"), node, message)
        self._ledger.changed(
            self._path("anonymous"),
            node,
            "`policies/`: the route is public; identity headers are set for good tokens; there is no anonymous "
            "consumer",
        )
        return True

    def _preflight(self) -> bool:
        self._carry("run_on_preflight", "`policies/`: `cors_allow_preflight`")
        return not switch(self._config, "run_on_preflight", self._at, self._ledger, usual=True)

    # --- signing in ---------------------------------------------------------------------------------------------------

    def _login(self, pool: Pool, methods: frozenset[str]) -> Login | None:
        node = self._get("scopes")
        domain = self._domain()
        names = texts_in(self._get("authorization_query_args_names"))
        values = texts_in(self._get("authorization_query_args_values"))
        query = "&".join(
            f"{name}={value}" for name, value in zip(names, values, strict=False) if _is_plain(name + value)
        )
        if not methods & {"authorization_code", "session"}:
            for name in ("scopes", "authorization_query_args_names", "authorization_query_args_values"):
                self._leave(name, "nobody signs in with a browser here")
            return None
        wanted = [scope for text in texts_in(node) for scope in text.split()]
        scopes = carry_scopes(self._ledger, self._path("scopes"), node, wanted)
        for name in ("authorization_query_args_names", "authorization_query_args_values"):
            self._carry(name, "`envoy.yaml`: the query of `authorization_endpoint`")
        client = next((client for client in pool.clients if client != "any"), PLACEHOLDER_CLIENT)
        return Login(pool.issuer, client, domain, scopes, query, passes_bearer="bearer" in methods)

    def _domain(self) -> str:
        """Find the host of the pool's hosted pages in the endpoints that are named."""
        found = ""
        for name in ("authorization_endpoint", "token_endpoint", "end_session_endpoint", "logout_redirect_uri"):
            node = self._get(name)
            for url in texts_in(node):
                parts = split_address(url)
                if parts is not None and parts.path in ("/oauth2/authorize", "/oauth2/token", "/logout"):
                    found = found or (parts.hostname or "")
            if node is not None and found:
                self._ledger.changed(
                    self._path(name), node, "`envoy.yaml`: the pool's domain; signing out is `/sign-out`"
                )
            elif node is not None:
                self._leave(name, "no page of a Cognito domain")
        return found or "pool-domain.invalid"

    def _login_host(self) -> str:
        node = self._get("redirect_uri")
        parts = next((parts for url in texts_in(node) if (parts := split_address(url)) is not None), None)
        if node is not None:
            self._ledger.changed(
                self._path("redirect_uri"),
                node,
                "`envoy.yaml`: the callback is `/oauth2/callback` on each host, see the list of callback URLs above",
            )
        return "" if parts is None else parts.hostname or ""

    # --- tokens and headers -------------------------------------------------------------------------------------------

    def _places(self, methods: frozenset[str]) -> tuple[Mapping[str, str], ...]:
        node = self._get("bearer_token_param_type")
        kinds = (texts_in(node) or ("header",)) if "bearer" in methods else ()
        header = self._token_header(kinds)
        cookie = text_in(self._get("bearer_token_cookie_name"))
        places: list[Mapping[str, str]] = []
        for kind in kinds:
            if kind == "header" and header:
                places.append({"header": header})
            elif kind == "cookie" and cookie:
                places.append({"cookie": cookie})
        if methods & {"authorization_code", "session"} and any(place != _USUAL_PLACE for place in places):
            self._ledger.differs(
                "Where people sign in with a browser, only `Authorization: Bearer` passes without a session: programs "
                "that bring their token elsewhere are sent to sign in."
            )
        dropped = [kind for kind in kinds if kind in _BODY_PLACES]
        if node is not None and dropped:
            text = f"`authz.yaml`: `tokens`, without {' and '.join(dropped)}: a token there ends up in logs"
            self._ledger.changed(self._path("bearer_token_param_type"), node, text)
        else:
            self._carry("bearer_token_param_type", "`authz.yaml`: `tokens`" if kinds else "no bearer tokens count here")
        self._carry(
            "bearer_token_cookie_name", "`authz.yaml`: `tokens`" if cookie and "cookie" in kinds else "not used by it"
        )
        return tuple(places)

    def _token_header(self, kinds: Sequence[str]) -> str:
        """Give the header that holds the token; empty when no such header can arrive."""
        node = self._get("bearer_token_header_name")
        name = text_in(node).lower()
        if "header" not in kinds or not name:
            self._carry("bearer_token_header_name", "not used by it")
            return "authorization"
        if name == "cookie" or re.match(r"x[-.]auth[-.]", name) or not _TOKEN_HEADER.fullmatch(name):
            why = "`envoy.yaml` lets no such header arrive: name another one, without `_`, that starts otherwise"
            self._leave("bearer_token_header_name", why)
            return ""
        alone = "" if name == "authorization" else "; its value is the token alone, without `Bearer`"
        self._carry("bearer_token_header_name", f"`authz.yaml`: `tokens`{alone}")
        return name

    def _headers(self) -> Mapping[str, str]:
        claims = texts_in(self._get("upstream_headers_claims"))
        names = texts_in(self._get("upstream_headers_names"))
        for name in ("upstream_headers_claims", "upstream_headers_names"):
            self._carry(name, "`authz.yaml`: `identity_headers`, for all routes")
        return {name.lower(): claim for claim, name in zip(claims, names, strict=False) if _HEADER.fullmatch(name)}

    def _redirects(self) -> Mapping[str, str]:
        found = {}
        for name, status in (("forbidden_redirect_uri", "403"), ("unauthorized_redirect_uri", "401")):
            node = self._get(name)
            url = next(iter(texts_in(node)), "")
            if node is not None and re.fullmatch(r"https://[!-z|~]+", url):
                found[status] = url
                self._carry(name, f'`policies/`: `denied_redirect: {{"{status}": …}}`')
            elif node is not None:
                self._leave(name, "only an https URL can be sent to")
        return found

    # --- everything else ----------------------------------------------------------------------------------------------

    def _others(self) -> None:
        for key, node in self._config.entries:
            name, path = key.text, self._path(key.text)
            if is_null(node):
                self._ledger.left(path, node, "not set")
                continue
            if name in self._noted:
                continue
            empty = (isinstance(node, Scalar) and node.value in (False, "")) or is_empty(node)
            if self._portal:
                self._ledger.left(path, node, "the Developer Portal is Kong's: nothing here serves it")
            elif name in STOPPING and not empty:
                self._ledger.stop(path, node, STOPPING[name])
            elif name in PROOFS and text_in(node) != "off":
                self._ledger.stop(path, node, "Cognito binds no tokens to keys: delete it here")
            elif name in MAPPINGS and not empty and not self._is_on(MAPPINGS[name]):
                self._ledger.stop(path, node, _KNOWN_TO_KONG.format(MAPPINGS[name]))
            elif name in SECRETS:
                self._ledger.secret(path, node, SECRETS[name])
            elif name in VERIFYING:
                self._ledger.left(path, node, _ALWAYS)
            elif name in SESSIONS:
                self._ledger.left(path, node, SESSION_IS_ENVOYS)
            elif name in KNOWN:
                self._ledger.left(path, node, _NO_COUNTERPART)
            elif is_empty(node):
                self._ledger.left(path, node, "empty")
            else:
                self._ledger.stop(path, node, unknown_key(name, (*self._noted, *KNOWN)))

    def _is_on(self, name: str) -> bool:
        return switch(self._config, name, self._at, self._ledger, usual=False)


_KNOWN_TO_KONG: Final = (
    "only callers may pass whom Kong knows: write their values as `groups_required` with `groups_claim`, then delete "
    "it here or set `{}: true`"
)
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TOKEN_HEADER: Final = re.compile(r"[a-z0-9.-]+")
_USUAL_PLACE: Final[Mapping[str, str]] = {"header": "authorization"}


def _is_of_texts(node: Node) -> bool:
    if isinstance(node, Items):
        return all(isinstance(item, Scalar) and not is_null(item) for item in node.items)
    return isinstance(node, Scalar) or is_empty(node)


def _is_plain(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9._~ -]*", text) is not None and " " not in text
