"""YAML text → PolicySet, or all its mistakes with their places.

Rules: the whole set is good or nothing of it is; unknown keys are errors; every mistake of every file is reported at
once. A route's six plain keys form one allow rule joined by or; the PPL rules of `policy:` are joined by or with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import re2

from authz.document import (
    Fields,
    Items,
    Node,
    Problems,
    Scalar,
    boolean_of,
    describe,
    did_you_mean,
    let_go,
    list_of,
    parse,
    shorten,
    text_of,
)
from authz.errors import LoadError, Problem, RequestError, Severity
from authz.model import Guidance, RouteName, Source
from authz.policy.advice import advise
from authz.policy.criteria import CriteriaContext, Criterion, compile_criterion
from authz.policy.criterion_advice import AcceptedTokens
from authz.policy.decision import Block, Effect, Operator, Policy
from authz.policy.matchers import claim_value
from authz.policy.path import MAX_PORT, Host, canonical_host, canonical_pattern
from authz.policy.refusals import GUIDANCE_KEYS, Redirects, read_guidance, redirects_of, scopes_of
from authz.policy.routes import HostMatcher, PathKind, PathMatcher, Route, RouteIndex

END_MARK: Final = b"# end"


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What the configuration says about policy files."""

    require_end: bool = False
    inline: bool = False  # the one file is the configuration itself: only its `routes` and `policy` are read
    context: CriteriaContext = field(default_factory=CriteriaContext)
    show_error_details: bool | None = None  # on every route; None where the configuration is not known
    accepted: AcceptedTokens = field(default_factory=AcceptedTokens)


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Everything the policy files say, immutable."""

    routes: RouteIndex
    revision: str  # a hash of the content
    warnings: tuple[Problem, ...] = ()
    envoy_keys: tuple[tuple[str, Source], ...] = ()  # routing keys of Pomerium's that are Envoy's here


def parse_policies(files: Sequence[tuple[str, bytes]], options: PolicyOptions) -> PolicySet:
    """Compile the files, given as (name, content) in path order. Raises LoadError with every problem."""
    problems = Problems()
    reader = _RouteReader(problems, options)
    documents: list[Node] = []
    for name, data in files:
        if options.require_end and not _has_end_mark(data):
            line = data.count(b"\n") + 1
            problems.append(
                Problem(
                    Source(name, line, 1),
                    "the last line is not `# end`, which `require_end` demands: the file is cut off, or lacks it",
                )
            )
        document = parse(data, name, problems)
        if document is not None:
            reader.read_file(document, options.inline)
            documents.append(document)
        elif not any(problem.source.file == name for problem in problems):
            problems.append(Problem(Source(name, 1, 1), "the file holds nothing: write `routes: []` if that is meant"))
    document = None
    let_go(documents)
    if not reader.routes and not problems.errors:
        file = files[0][0] if files else "policies"
        problems.append(
            Problem(
                Source(file, 1, 1),
                "no route in the whole set, which would refuse every request: write `- from: https://HOST`",
            )
        )
    if problems.errors:
        raise LoadError(problems.errors)
    problems += advise(reader.routes, options.accepted, checks_certificates=bool(options.context.authorities))
    warnings = tuple(sorted(dict.fromkeys(problems)))  # an alias is read in every place that it stands for
    return PolicySet(RouteIndex(reader.routes), revision_of(files), warnings, tuple(reader.envoy_keys))


def revision_of(files: Sequence[tuple[str, bytes]]) -> str:
    """Give the hash of a set's content: 16 hex digits of SHA-256 over names, lengths and bytes."""
    digest = sha256()
    for name, data in files:
        digest.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogatepass"))  # not every file name is UTF-8
        digest.update(data)
    return digest.hexdigest()[:16]


def _has_end_mark(data: bytes) -> bool:
    return data.rstrip(b" \t\r\n").rpartition(b"\n")[2].rstrip(b" \t\r") == END_MARK


# Pomerium's keys for routing and for its own proxy: known, accepted, and Envoy's business here.
ENVOY_KEYS: Final = frozenset({
    "to", "redirect", "response", "prefix_rewrite", "regex_rewrite_pattern", "regex_rewrite_substitution",
    "host_rewrite", "host_rewrite_header", "host_path_regex_rewrite_pattern", "host_path_regex_rewrite_substitution",
    "preserve_host_header", "timeout", "idle_timeout", "allow_websockets", "allow_spdy", "tls_skip_verify",
    "tls_server_name", "tls_downstream_server_name", "tls_upstream_server_name", "tls_upstream_allow_renegotiation",
    "tls_custom_ca", "tls_custom_ca_file", "tls_client_cert", "tls_client_key", "tls_client_cert_file",
    "tls_client_key_file", "tls_downstream_client_ca", "tls_downstream_client_ca_file", "set_request_headers",
    "remove_request_headers", "set_response_headers", "rewrite_response_headers",
    "enable_google_cloud_serverless_authentication",
    "kubernetes_service_account_token", "kubernetes_service_account_token_file", "outlier_detection", "health_checks",
    "lb_config", "load_balancing_policy", "circuit_breaker_thresholds", "healthy_panic_threshold", "upstream_tunnel",
    "depends_on", "name", "description", "logo_url", "idp_client_id", "idp_client_secret", "jwt_groups_filter",
    "jwt_issuer_format", "bearer_token_format", "idp_access_token_allowed_audiences", "regex_priority_order",
    "health_check", "dns_lookup_family", "connect_timeout",
})  # fmt: skip
_REFUSED_KEYS: Final[Mapping[str, str]] = {
    "allowed_groups": "Pomerium removed it; write allowed_idp_claims: {cognito:groups: […]}",
    "sub_policies": "it is Pomerium Enterprise's; write its rules under `policy:`",
    "mcp": "MCP routes need the request's body, which Envoy does not send us; write an ordinary route",
    "set_authorization_header": "Pomerium removed it; let Envoy forward or remove the header",
    "<<": "merge keys are not YAML 1.2; write the keys out",
    "identity_providers": "user pools are configured under `cognito:` in the configuration",
}
_PLAIN_KEYS: Final = (
    "allow_public_unauthenticated_access",
    "cors_allow_preflight",
    "allow_any_authenticated_user",
    "allowed_users",
    "allowed_domains",
    "allowed_idp_claims",
)
_ROUTE_KEYS: Final = (
    "from", "prefix", "path", "regex", "id", *_PLAIN_KEYS, "policy", "pass_identity_headers", "show_error_details",
    "denied_redirect", *GUIDANCE_KEYS,
)  # fmt: skip
_FROM = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_WILDCARD_HOST = re.compile(r"([A-Za-z0-9_.*-]+)(?::([1-9][0-9]{0,4}))?")


class _RouteReader:
    """Reads the routes of all files into one list; ids are unique among all of them."""

    def __init__(self, problems: Problems, options: PolicyOptions) -> None:
        self.routes: list[Route] = []
        self.envoy_keys: list[tuple[str, Source]] = []
        self._problems = problems
        self._context = options.context
        self._shows_details = options.show_error_details
        self._ids: dict[str, Source] = {}

    def read_file(self, document: Node, inline: bool) -> None:
        lists = [document]
        if isinstance(document, Fields):
            if not inline:
                self._refuse_unknown(document, ("routes", "policy"), "the file")
            lists = [found for found in (document.get("policy"), document.get("routes")) if found is not None]
            if not lists and not inline and not document.entries:
                self._problems.error(document, "an empty map: expected `routes:` with a list")
        for routes in lists:
            if isinstance(routes, Items):
                for node in routes:
                    self._read_route(node)
            else:
                self._problems.error(routes, f"found {describe(routes)}, expected a list of routes (`- from: …`)")

    def _refuse_unknown(self, fields: Fields, known: Sequence[str], what: str) -> None:
        for key, _ in fields.entries:
            if key.text not in known:
                hint = did_you_mean(key.text, known)
                expected = ", ".join(f"`{name}`" for name in known) if len(known) < 5 else ""
                expected = f", expected {expected}" if expected else ""
                self._problems.error(key, f"{what}: unknown key `{shorten(key.text)}`{expected}{hint}")

    # --- one route ----------------------------------------------------------------------------------------------

    def _read_route(self, node: Node) -> None:
        if not isinstance(node, Fields):
            self._problems.error(node, f"a route: found {describe(node)}, expected a map (`from: https://…`)")
            return
        host_text = self._label_part(node)
        what = f"route `{host_text}`" if host_text else "a route"
        self._check_keys(node, what)
        host = self._host(node, what)
        path = self._path(node, what)
        route_id = self._id(node, what)
        policy = self._policy(node, what)
        switches = {key: self._switch(node, key, what) for key in ("pass_identity_headers", "show_error_details")}
        guidance = read_guidance(node, what, self._problems)
        redirects = self._redirects(node, what)
        self._note_unseen_guidance(node, what, bool(switches["show_error_details"]))
        if host is None or path is None:
            return
        name = RouteName(
            label=route_id or host_text,
            source=node.source,
            pass_identity_headers=switches["pass_identity_headers"],
            show_error_details=bool(switches["show_error_details"]),
            guidance=guidance,
            denied_redirect=redirects,
            scopes=scopes_of(policy),
        )
        self.routes.append(Route(name, host, path, policy, route_id, len(self.routes)))

    def _label_part(self, node: Fields) -> str:
        """Give `from` and the matcher as written: how messages and logs call a route without an id."""
        start = node.get("from")
        text = start.text if isinstance(start, Scalar) else ""
        for kind in (PathKind.REGEX, PathKind.PATH, PathKind.PREFIX):
            matcher = node.get(kind)
            if isinstance(matcher, Scalar):
                return f"{text} {kind}={matcher.text}".strip()
        return text

    def _check_keys(self, node: Fields, what: str) -> None:
        for key, _ in node.entries:
            if key.text in _ROUTE_KEYS:
                continue
            if key.text in ENVOY_KEYS:
                self.envoy_keys.append((key.text, key.source))
            elif key.text in _REFUSED_KEYS:
                self._problems.error(key, f"{what}: `{key.text}` is not supported: {_REFUSED_KEYS[key.text]}")
            else:
                hint = did_you_mean(key.text, (*_ROUTE_KEYS, *ENVOY_KEYS)) or ": neither ours nor Pomerium's; delete it"
                self._problems.error(key, f"{what}: unknown key `{shorten(key.text)}`{hint}")

    def _switch(self, node: Fields, key: str, what: str) -> bool | None:
        value = node.get(key)
        return None if value is None else boolean_of(value, f"{what}: `{key}`", self._problems)

    def _redirects(self, node: Fields, what: str) -> Redirects:
        value = node.get("denied_redirect")
        found = None if value is None else redirects_of(value, f"{what}: `denied_redirect`", self._problems)
        return found or ()

    def _note_unseen_guidance(self, node: Fields, what: str, shows_details: bool) -> None:
        """Tell an author whose texts nobody will read."""
        if shows_details or self._shows_details is not False:
            return
        rules = node.get("policy")
        for fields in (node, *(rules.items if isinstance(rules, Items) else (rules,))):
            for key, _ in fields.entries if isinstance(fields, Fields) else ():
                if key.text in GUIDANCE_KEYS:
                    self._problems.warn(
                        key.source,
                        f"{what}: `{key.text}` is never shown: write `show_error_details: true` on the route",
                        Severity.NOTE,
                    )

    def _id(self, node: Fields, what: str) -> str | None:
        value = node.get("id")
        text = None if value is None else text_of(value, f"{what}: `id`", self._problems)
        if value is None or text is None:
            return None
        if text in self._ids:
            self._problems.error(value, f"{what}: id `{text}` is already used at {self._ids[text]}: give each its own")
        self._ids.setdefault(text, value.source)
        return text

    # --- host and path ------------------------------------------------------------------------------------------

    def _host(self, node: Fields, what: str) -> HostMatcher | None:
        value = node.get("from")
        if value is None:
            self._problems.error(node, f"{what}: `from` is missing: write from: https://HOST")
            return None
        text = text_of(value, f"{what}: `from`", self._problems)
        if text is None:
            return None
        match = _FROM.fullmatch(text)
        scheme = match["scheme"].lower() if match else ""
        if match is None or scheme not in _DEFAULT_PORTS:
            hint = "" if match else f": write https://{shorten(text.lstrip('/'))}"
            if "+" in scheme or scheme == "ssh":
                hint = ": TCP, UDP and SSH tunnels are not HTTP requests"
            self._problems.error(
                value, f"{what}: `from`: found `{shorten(text)}`, expected https://HOST or http://HOST{hint}"
            )
            return None
        if match["rest"] not in ("", "/"):
            self._problems.error(
                value,
                f"{what}: `from`: found `{shorten(match['rest'])}` after the host: write it as `prefix:` or `path:`",
            )
            return None
        host = self._host_matcher(match["authority"], _DEFAULT_PORTS[scheme])
        if host is None:
            self._problems.error(
                value,
                f"{what}: `from`: found `{shorten(text)}`, whose host is no host name: write it in ASCII letters, "
                "digits, `-`, `_`, `.` and `*`, perhaps with a port up to 65535",
            )
        return host

    def _host_matcher(self, authority: str, default_port: int) -> HostMatcher | None:
        if "*" not in authority:
            try:
                host = canonical_host(authority)
            except RequestError:
                return None
            return HostMatcher(host.name, _explicit_port(host, default_port))
        match = _WILDCARD_HOST.fullmatch(authority)
        port = int(match[2]) if match and match[2] else None
        if match is None or ".." in match[1] or (port is not None and port > MAX_PORT):
            return None
        name = match[1].lower().rstrip(".")
        pattern = ".*".join(re2.escape(part) for part in name.split("*"))
        return HostMatcher(name, None if port == default_port else port, _compile(pattern))

    def _path(self, node: Fields, what: str) -> PathMatcher | None:
        """Read the matcher: `regex`, else `path`, else `prefix`, else everything."""
        given = [(kind, found) for kind in _PATH_ORDER if (found := node.get(kind)) is not None]
        if not given:
            return PathMatcher(PathKind.ANY)
        matchers = [self._path_matcher(kind, found, what) for kind, found in given]
        for kind, found in given[1:]:
            self._problems.warn(
                found.source,
                f"{what}: `{kind}` has no effect, because `{given[0][0]}` is there and wins: delete one of them",
            )
        return None if None in matchers else matchers[0]

    def _path_matcher(self, kind: PathKind, node: Node, what: str) -> PathMatcher | None:
        text = text_of(node, f"{what}: `{kind}`", self._problems)
        if text is None:
            return None
        if kind is PathKind.REGEX:
            try:
                return PathMatcher(kind, text, _compile(text), node.source)
            except re2.error as error:
                self._problems.error(node, f"{what}: `regex`: not an RE2 pattern: {_re2_message(error)}")
                return None
        try:
            return PathMatcher(kind, canonical_pattern(text, prefix=kind is PathKind.PREFIX), source=node.source)
        except RequestError as error:
            self._problems.error(
                node,
                f"{what}: `{kind}`: no request can match `{shorten(text)}`, because {error}",
            )
            return None

    # --- who may pass -------------------------------------------------------------------------------------------

    def _policy(self, node: Fields, what: str) -> Policy:
        criteria = self._plain_criteria(node, what)
        blocks: dict[Effect, list[Block]] = {Effect.ALLOW: [], Effect.DENY: []}
        compiled = self._compile(criteria, what)
        if compiled:
            blocks[Effect.ALLOW].append(Block(Operator.OR, compiled, node.source))
        rules = node.get("policy")
        if rules is not None:
            self._rules(rules, what, blocks)
        return Policy(tuple(blocks[Effect.ALLOW]), tuple(blocks[Effect.DENY]))

    def _plain_criteria(self, node: Fields, what: str) -> list[Fields]:
        """Write the six plain keys as criteria, in Pomerium's order, each at the place of its value."""
        public, preflight, any_user = (self._is_on(node, key, what) for key in _PLAIN_KEYS[:3])
        users, domains = (self._texts(node, key, what) for key in _PLAIN_KEYS[3:5])
        claims = self._claims(node, what)
        self._refuse_conflicts(node, what, public is not None, any_user is not None)
        criteria = [
            _criterion(name, switch)
            for name, switch in (("accept", public), ("cors_preflight", preflight), ("authenticated_user", any_user))
            if switch is not None
        ]
        for domain in domains:
            if "@" in domain.text:
                self._problems.error(
                    domain, f"{what}: `allowed_domains`: found `{domain.text}`: write what follows the @"
                )
            criteria.append(_criterion("domain", domain))
        criteria += [_criterion(f"claim/{name}", value) for name, value in claims]
        for user in users:
            criteria += [_criterion("user", user), _criterion("email", user)]
        if public is not None and claims:
            self._problems.warn(
                claims[0][1].source,
                f"{what}: `allowed_idp_claims` has no effect on a public route: delete one of the two",
            )
        return criteria

    def _is_on(self, node: Fields, key: str, what: str) -> Scalar | None:
        value = node.get(key)
        if value is None:
            return None
        return value if boolean_of(value, f"{what}: `{key}`", self._problems) and isinstance(value, Scalar) else None

    def _texts(self, node: Fields, key: str, what: str) -> list[Scalar]:
        value = node.get(key)
        if value is None:
            return []
        label = f"{what}: `{key}`"
        return [
            item
            for item in list_of(value, label, self._problems)
            if text_of(item, label, self._problems) is not None and isinstance(item, Scalar)
        ]

    def _claims(self, node: Fields, what: str) -> list[tuple[str, Node]]:
        value = node.get("allowed_idp_claims")
        if value is None:
            return []
        label = f"{what}: `allowed_idp_claims`"
        if not isinstance(value, Fields):
            self._problems.error(
                value, f"{label}: found {describe(value)}, expected a map (`cognito:groups: [admins]`)"
            )
            return []
        found: list[tuple[str, Node]] = []
        for key, values in value.entries:
            name = f"{label}: `{key.text}`"
            if not key.text:
                self._problems.error(key, f"{label}: found an empty key, expected a claim's name")
                continue
            if isinstance(values, Fields):
                self._problems.error(
                    values, f"{name}: found a map: a nested claim is named with dots (`{key.text}.NAME`)"
                )
                continue
            for item in list_of(values, name, self._problems):
                if isinstance(item, Fields):
                    self._problems.error(
                        item,
                        f"{name}: found a map, expected a value: operators stand under `policy:`, as "
                        f"`claim/{key.text}: {{has: …}}`",
                    )
                elif claim_value(item, name, self._problems) is not None:
                    found.append((key.text, item))
        return sorted(found, key=lambda pair: pair[0])

    def _refuse_conflicts(self, node: Fields, what: str, public: bool, any_user: bool) -> None:
        winner = _PLAIN_KEYS[0] if public else _PLAIN_KEYS[2] if any_user else None
        if winner is None:
            return
        for key, value in node.entries:
            clashes = key.text in ("allowed_users", "allowed_domains") and not (
                isinstance(value, Items) and not value.items
            )
            clashes = clashes or (public and any_user and key.text == _PLAIN_KEYS[2])
            if clashes:
                self._problems.error(
                    key, f"{what}: `{key.text}` beside `{winner}: true`, which lets in more: delete one of the two"
                )

    # --- PPL ----------------------------------------------------------------------------------------------------

    def _rules(self, node: Node, what: str, blocks: Mapping[Effect, list[Block]]) -> None:
        for rules in node.items if isinstance(node, Items) else (node,):
            if not isinstance(rules, Fields):
                self._problems.error(rules, f"{what}: `policy`: found {describe(rules)}, expected `allow:` or `deny:`")
                continue
            guidance = read_guidance(rules, f"{what}: `policy`", self._problems)
            self._refuse_lone_guidance(rules, what)
            for key, body in rules.entries:
                if key.text in blocks:
                    blocks[Effect(key.text)].extend(self._body(body, f"{what}: `{key.text}`", guidance))
                elif key.text not in GUIDANCE_KEYS:
                    hint = did_you_mean(key.text, blocks)
                    self._problems.error(
                        key, f"{what}: `policy`: unknown effect `{shorten(key.text)}`, expected `allow` or `deny`{hint}"
                    )

    def _refuse_lone_guidance(self, rules: Fields, what: str) -> None:
        keys = [key for key, _ in rules.entries]
        if keys and all(key.text in GUIDANCE_KEYS for key in keys):
            self._problems.error(
                keys[0], f"{what}: `policy`: `{keys[0].text}` without a rule: write it beside `allow:` or `deny:`"
            )

    def _body(self, node: Node, what: str, guidance: Guidance) -> list[Block]:
        if not isinstance(node, Fields):
            self._problems.error(
                node, f"{what}: found {describe(node)}, expected `and`, `or`, `not` or `nor` with a list"
            )
            return []
        blocks = []
        for key, criteria in node.entries:
            if key.text == "action":  # tolerated by Pomerium, without effect
                continue
            if key.text not in _OPERATORS:
                hint = did_you_mean(key.text, _OPERATORS)
                if key.text in GUIDANCE_KEYS:
                    hint = f": write `{key.text}` beside `allow:` or `deny:`, not inside"
                self._problems.error(
                    key, f"{what}: unknown operator `{shorten(key.text)}`, expected `and`, `or`, `not` or `nor`{hint}"
                )
                continue
            if not isinstance(criteria, Items):
                self._problems.error(
                    criteria,
                    f"{what}: `{key.text}`: found {describe(criteria)}, expected a list of criteria, such as "
                    "`- groups: admins`",
                )
                continue
            compiled = self._compile(criteria.items, what)
            if compiled:
                block = Block(Operator(key.text), compiled, key.source, rule=node.source, guidance=guidance)
                blocks.append(block)
        return blocks

    def _compile(self, nodes: Sequence[Node], what: str) -> tuple[Criterion, ...]:
        problems = Problems()
        compiled = [compile_criterion(node, problems, self._context) for node in nodes]
        self._problems += [problem._replace(message=f"{what}: {problem.message}") for problem in problems]
        return tuple(criterion for criterion in compiled if criterion is not None)


_PATH_ORDER: Final = (PathKind.REGEX, PathKind.PATH, PathKind.PREFIX)
_OPERATORS: Final = tuple(operator.value for operator in Operator)


def _criterion(name: str, value: Node) -> Fields:
    return Fields(value.source, ((Scalar(value.source, name, name), value),))


def _explicit_port(host: Host, default_port: int) -> int | None:
    return None if host.port == default_port else host.port


_RE2 = re2.Options()
_RE2.log_errors = False


def _compile(pattern: str) -> Any:  # noqa: ANN401 - RE2 has no type stubs
    return re2.compile(pattern, _RE2)


def _re2_message(error: Exception) -> str:
    message = error.args[0] if error.args else error
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
