"""One route after the other: its keys, its id, its answers; where it stands and who may pass are read next door."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from authz.breath import breathe
from authz.errors import Severity
from authz.model import RouteName, Source
from authz.node import Fields, Items, Node, Problems, Scalar, describe, shorten
from authz.policy.criterion import CriteriaContext
from authz.policy.host_and_path_reader import PATH_ORDER, read_host, read_path
from authz.policy.plain_keys import PLAIN_KEYS
from authz.policy.refusals import GUIDANCE_KEYS, Redirects, read_guidance, redirects_of, scopes_of
from authz.policy.route_key_advice import unknown_route_key
from authz.policy.routes import Route
from authz.policy.rule_reader import RuleReader
from authz.reading import boolean_of, did_you_mean, text_of

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
    "lb_config", "lb_policy", "least_request_lb_config", "ring_hash_lb_config", "maglev_lb_config",
    "load_balancing_policy", "circuit_breaker_thresholds", "healthy_panic_threshold", "upstream_tunnel",
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
_ROUTE_KEYS: Final = (
    "from", "prefix", "path", "regex", "id", *PLAIN_KEYS, "policy", "pass_identity_headers", "show_error_details",
    "denied_redirect", *GUIDANCE_KEYS,
)  # fmt: skip
_TEST_ENDING: Final = re.compile(r"(?:\A|[-_. ])tests?\Z", re.IGNORECASE)
_LIST_KEYS: Final = ("routes", "policy")  # what a file that is a map may hold


def _test_file(name: str) -> str:
    """Give the name by which a misnamed file of policy tests would be known for one (files.py)."""
    stem = name.rpartition("/")[2].rpartition(".")[0]
    return f"{_TEST_ENDING.sub('', stem) or 'policies'}_test.yaml"


class RouteReader:
    """Reads the routes of all files into one list; ids are unique among all of them.

    `shows_details` is what the configuration says of every route, None where it is not known.
    """

    def __init__(self, problems: Problems, context: CriteriaContext, shows_details: bool | None) -> None:
        self.routes: list[Route] = []
        self.envoy_keys: list[tuple[str, Source]] = []
        self._problems = problems
        self._rules = RuleReader(problems, context)
        self._shows_details = shows_details
        self._ids: dict[str, Source] = {}

    def read_file(self, document: Node, inline: bool) -> None:
        """Read a file's routes; `inline` when it is the configuration, whose other keys are not ours to judge."""
        lists = [document]
        if isinstance(document, Fields):
            if not inline:
                self._refuse_unknown(document)
            lists = [found for found in (document.get("policy"), document.get("routes")) if found is not None]
            if not lists and not inline and not document.entries:
                self._problems.error(document, "an empty map: expected `routes:` with a list")
        for routes in lists:
            if isinstance(routes, Items):
                for node in routes:
                    breathe()
                    self._read_route(node)
            else:
                self._problems.error(routes, f"found {describe(routes)}, expected a list of routes (`- from: …`)")

    def _refuse_unknown(self, document: Fields) -> None:
        for key, _ in document.entries:
            if key.text not in _LIST_KEYS:
                expected = ", ".join(f"`{name}`" for name in _LIST_KEYS)
                hint = did_you_mean(key.text, _LIST_KEYS)
                if key.text == "tests":
                    hint = f"; if these are policy tests, call the file `{_test_file(key.source.file)}`"
                self._problems.error(key, f"the file: unknown key `{shorten(key.text)}`, expected {expected}{hint}")

    def _read_route(self, node: Node) -> None:
        if not isinstance(node, Fields):
            self._problems.error(node, f"a route: found {describe(node)}, expected a map (`from: https://…`)")
            return
        host_text = self._label_part(node)
        what = f"route `{host_text}`" if host_text else "a route"
        self._check_keys(node, what)
        host = read_host(node, what, self._problems)
        path = read_path(node, what, self._problems)
        route_id = self._id(node, what)
        policy = self._rules.read(node, what)
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
        for kind in PATH_ORDER:
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
                self._problems.error(key, f"{what}: {unknown_route_key(key.text, node, _ROUTE_KEYS, ENVOY_KEYS)}")

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
            first = self._ids[text]
            self._problems.error(value, f"{what}: id `{text}` is already used at {first}: give each its own", first)
        self._ids.setdefault(text, value.source)
        return text
