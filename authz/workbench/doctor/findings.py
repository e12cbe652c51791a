"""What the doctor can find: a closed list, each with how much it matters and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from authz.errors import Severity
from authz.model import Source
from authz.workbench.doctor.place import Place


class FindingId(StrEnum):
    """What is wrong, in one word for programs."""

    EXT_AUTHZ_MISSING = "ext-authz-missing"
    EXT_AUTHZ_DISABLED = "ext-authz-disabled"
    EXT_AUTHZ_OVER_HTTP = "ext-authz-over-http"
    FILTER_ENABLED_PARTLY = "filter-enabled-partly"
    DENY_AT_DISABLE_MISSING = "deny-at-disable-missing"
    FAILURE_MODE_ALLOW = "failure-mode-allow"
    SHADOW_MODE = "shadow-mode"
    CLEAR_ROUTE_CACHE = "clear-route-cache"
    TOKEN_HEADERS_DROPPED = "token-headers-dropped"  # noqa: S105 - no secret
    REQUEST_HEADERS_DROPPED = "request-headers-dropped"
    PEER_CERTIFICATE_MISSING = "peer-certificate-missing"
    BODY_SENT = "body-sent"
    RAW_HEADERS_MISSING = "raw-headers-missing"
    MUTATIONS_NOT_VALIDATED = "mutations-not-validated"
    MUTATIONS_NOT_LIMITED = "mutations-not-limited"
    IDENTITY_HEADERS_REFUSED = "identity-headers-refused"
    CREDENTIALS_KEPT = "credentials-kept"
    STATUS_ON_ERROR = "status-on-error"
    TIMEOUT_MISSING = "timeout-missing"
    RETRY_MISSING = "retry-missing"
    RETRY_WITHOUT_BACK_OFF = "retry-without-back-off"
    RETRY_BACK_OFF_SHORT = "retry-back-off-short"
    FILTER_AFTER_EXT_AUTHZ = "filter-after-ext-authz"
    UNKNOWN_FILTER_AFTER_EXT_AUTHZ = "unknown-filter-after-ext-authz"
    IDENTITY_HEADERS_NOT_STRIPPED = "identity-headers-not-stripped"
    IDENTITY_SPELLINGS_NOT_STRIPPED = "identity-spellings-not-stripped"
    IDENTITY_TRAILERS_NOT_STRIPPED = "identity-trailers-not-stripped"
    IDENTITY_HEADERS_CHANGED_LATE = "identity-headers-changed-late"
    ROUTE_REWRITES = "route-rewrites"
    UPSTREAM_FROM_HEADER = "upstream-from-header"
    PATH_NOT_NORMALIZED = "path-not-normalized"
    SLASHES_NOT_MERGED = "slashes-not-merged"
    ESCAPED_SLASHES_KEPT = "escaped-slashes-kept"
    UNDERSCORES_ALLOWED = "underscores-allowed"
    REMOTE_ADDRESS_NOT_USED = "remote-address-not-used"
    CLIENT_IP_FORGEABLE = "client-ip-forgeable"
    CLIENT_IP_MISSING = "client-ip-missing"
    OAUTH2_WITHOUT_GCM = "oauth2-without-gcm"
    AUTHZ_CLUSTER_UNKNOWN = "authz-cluster-unknown"
    AUTHZ_ELSEWHERE = "authz-elsewhere"
    TOO_FEW_ENDPOINTS = "too-few-endpoints"
    PLAINTEXT_ACROSS_HOSTS = "plaintext-across-hosts"
    TLS_NOT_VERIFIED = "tls-not-verified"
    TLS_ON_ONE_SIDE = "tls-on-one-side"
    HEALTH_CHECK_MISSING = "health-check-missing"
    HEALTH_CHECK_FAILS = "health-check-fails"
    HEALTH_CHECK_SLOW = "health-check-slow"
    HEALTH_CHANGES_HELD_BACK = "health-changes-held-back"
    UNHEALTHY_ENDPOINTS_ASKED = "unhealthy-endpoints-asked"
    CIRCUIT_BREAKER_TOO_LATE = "circuit-breaker-too-late"
    HOST_WITHOUT_POLICY = "host-without-policy"
    POLICY_HOST_UNREACHABLE = "policy-host-unreachable"
    ROUTE_NAME_UNKNOWN = "route-name-unknown"
    POLICY_ROUTE_UNREACHABLE = "policy-route-unreachable"
    NOT_SEEN = "not-seen"
    ADMIN_EXPOSED = "admin-exposed"
    FIELD_WRITTEN_TWICE = "field-written-twice"
    ANSWER_BEFORE_EXT_AUTHZ = "answer-before-ext-authz"


class Advice(NamedTuple):
    """How much a finding matters, and its fix."""

    severity: Severity
    fix: str


_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
_BACK_OFF = "retry_back_off: {base_interval: 0.005s, max_interval: 0.25s}"
_HEALTH = "grpc_health_check: {service_name: envoy.service.auth.v3.Authorization}"
_ADDRESS = (
    "client_ip_header: x-envoy-external-address, use_remote_address: true and no internal_address_config; or write the "
    "header early: append: {header: {key: …, value: '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%'}, append_action: "
    "OVERWRITE_IF_EXISTS_OR_ADD}"
)
ADVICE: Final[Mapping[FindingId, Advice]] = {
    FindingId.EXT_AUTHZ_MISSING: Advice(
        _ERROR, "add envoy.filters.http.ext_authz to http_filters, before everything that acts on a request"
    ),
    FindingId.EXT_AUTHZ_DISABLED: Advice(
        _ERROR, "delete `disabled: true`; to let everybody in, write `allow_public_unauthenticated_access` in a policy"
    ),
    FindingId.EXT_AUTHZ_OVER_HTTP: Advice(_ERROR, "authz speaks gRPC: write grpc_service in place of http_service"),
    FindingId.FILTER_ENABLED_PARTLY: Advice(_ERROR, "delete it: every request is to be asked about"),
    FindingId.DENY_AT_DISABLE_MISSING: Advice(
        _ERROR, "delete filter_enabled, or add deny_at_disable: {default_value: {value: true}, runtime_key: …}"
    ),
    FindingId.FAILURE_MODE_ALLOW: Advice(_ERROR, "failure_mode_allow: false"),
    FindingId.SHADOW_MODE: Advice(_ERROR, "delete shadow_mode once the trial is over: nothing is denied with it"),
    FindingId.CLEAR_ROUTE_CACHE: Advice(
        _ERROR, "clear_route_cache: false; the route that was judged is to be the one that is taken"
    ),
    FindingId.TOKEN_HEADERS_DROPPED: Advice(
        _ERROR, "delete allowed_headers and disallowed_headers, or let these headers through to authz"
    ),
    FindingId.REQUEST_HEADERS_DROPPED: Advice(
        _WARNING, "delete allowed_headers and disallowed_headers: what authz does not get it neither reads nor removes"
    ),
    FindingId.PEER_CERTIFICATE_MISSING: Advice(_ERROR, "include_peer_certificate: true"),
    FindingId.BODY_SENT: Advice(_WARNING, "delete with_request_body: no rule can be about a body"),
    FindingId.RAW_HEADERS_MISSING: Advice(_WARNING, "encode_raw_headers: true"),
    FindingId.MUTATIONS_NOT_VALIDATED: Advice(_WARNING, "validate_mutations: true"),
    FindingId.MUTATIONS_NOT_LIMITED: Advice(_WARNING, "decoder_header_mutation_rules as in envoy/api.yaml"),
    FindingId.IDENTITY_HEADERS_REFUSED: Advice(
        _ERROR, "decoder_header_mutation_rules as in envoy/api.yaml, or the names added to its allow_expression"
    ),
    FindingId.CREDENTIALS_KEPT: Advice(
        _ERROR, "decoder_header_mutation_rules as in envoy/api.yaml: `hide_credentials` takes tokens off any header"
    ),
    FindingId.STATUS_ON_ERROR: Advice(_WARNING, "status_on_error: {code: ServiceUnavailable}"),
    FindingId.TIMEOUT_MISSING: Advice(_WARNING, "timeout: 0.25s"),
    FindingId.RETRY_MISSING: Advice(
        _NOTE, "retry_policy as in envoy/api.yaml, so that clients do not see a restart of authz"
    ),
    FindingId.RETRY_WITHOUT_BACK_OFF: Advice(_WARNING, _BACK_OFF),
    FindingId.RETRY_BACK_OFF_SHORT: Advice(
        _WARNING, "max_interval no shorter than timeout: Envoy takes it for the timeout of one try"
    ),
    FindingId.FILTER_AFTER_EXT_AUTHZ: Advice(_ERROR, "move it before ext_authz, or delete it"),
    FindingId.UNKNOWN_FILTER_AFTER_EXT_AUTHZ: Advice(
        _WARNING, "make sure that it changes neither path nor headers, or move it before ext_authz"
    ),
    FindingId.IDENTITY_HEADERS_NOT_STRIPPED: Advice(
        _ERROR, "take them off with early_header_mutation_extensions; on a route it would come too late"
    ),
    FindingId.IDENTITY_SPELLINGS_NOT_STRIPPED: Advice(
        _WARNING,
        'remove_on_match: {key_matcher: {safe_regex: {regex: "x[^a-z0-9]auth[^a-z0-9].*"}}}, as in envoy/api.yaml',
    ),
    FindingId.IDENTITY_TRAILERS_NOT_STRIPPED: Advice(
        _WARNING, "take them off by request_trailers_mutations of a header_mutation filter, as in envoy/api.yaml"
    ),
    FindingId.IDENTITY_HEADERS_CHANGED_LATE: Advice(
        _ERROR, "delete it here, where it undoes what authz set; early_header_mutation_extensions is the place"
    ),
    FindingId.ROUTE_REWRITES: Advice(
        _NOTE, "nothing, when intended: policies judge the path and host as they came, the upstream sees the new ones"
    ),
    FindingId.UPSTREAM_FROM_HEADER: Advice(
        _WARNING, "name the cluster; or take the header off early, and set it in a filter before ext_authz"
    ),
    FindingId.PATH_NOT_NORMALIZED: Advice(_WARNING, "normalize_path: true"),
    FindingId.SLASHES_NOT_MERGED: Advice(_WARNING, "merge_slashes: true"),
    FindingId.ESCAPED_SLASHES_KEPT: Advice(_WARNING, "path_with_escaped_slashes_action: REJECT_REQUEST"),
    FindingId.UNDERSCORES_ALLOWED: Advice(
        _WARNING, "common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}"
    ),
    FindingId.REMOTE_ADDRESS_NOT_USED: Advice(_WARNING, "use_remote_address: true"),
    FindingId.CLIENT_IP_FORGEABLE: Advice(_ERROR, _ADDRESS),
    FindingId.CLIENT_IP_MISSING: Advice(_WARNING, _ADDRESS),
    FindingId.OAUTH2_WITHOUT_GCM: Advice(
        _ERROR,
        "layered_runtime: oauth2_use_gcm_encryption: true and oauth2_legacy_cbc_decrypt_compat: false, "
        "both under envoy.reloadable_features (CVE-2026-47775)",
    ),
    FindingId.AUTHZ_CLUSTER_UNKNOWN: Advice(_ERROR, "add the cluster, as in envoy/api.yaml"),
    FindingId.AUTHZ_ELSEWHERE: Advice(
        _WARNING, "the address that `listen` names, one endpoint a worker; nothing, where ports are mapped on the way"
    ),
    FindingId.TOO_FEW_ENDPOINTS: Advice(_ERROR, "one endpoint each: port, port+1, … or authz.0.sock, authz.1.sock, …"),
    FindingId.PLAINTEXT_ACROSS_HOSTS: Advice(
        _ERROR, "`tls:` in authz.yaml and a transport_socket with UpstreamTlsContext here: tokens travel on this line"
    ),
    FindingId.TLS_NOT_VERIFIED: Advice(
        _ERROR, "common_tls_context.validation_context with trusted_ca and match_typed_subject_alt_names"
    ),
    FindingId.TLS_ON_ONE_SIDE: Advice(
        _WARNING, "`tls:` in authz.yaml and UpstreamTlsContext here, or neither; nothing, where a proxy between adds it"
    ),
    FindingId.HEALTH_CHECK_MISSING: Advice(_WARNING, f"health_checks with {_HEALTH}"),
    FindingId.HEALTH_CHECK_FAILS: Advice(_ERROR, _HEALTH),
    FindingId.HEALTH_CHECK_SLOW: Advice(_WARNING, "interval: 1s, and no_traffic_interval: 1s"),
    FindingId.HEALTH_CHANGES_HELD_BACK: Advice(_NOTE, "common_lb_config: {update_merge_window: 0s}"),
    FindingId.UNHEALTHY_ENDPOINTS_ASKED: Advice(_NOTE, "common_lb_config: {healthy_panic_threshold: {value: 0}}"),
    FindingId.CIRCUIT_BREAKER_TOO_LATE: Advice(
        _WARNING, "circuit_breakers: {thresholds: [{max_requests: 64, max_pending_requests: 256}]}"
    ),
    FindingId.HOST_WITHOUT_POLICY: Advice(
        _WARNING, "write a policy for the host, or delete the domain: authz answers 404 to all of it"
    ),
    FindingId.POLICY_HOST_UNREACHABLE: Advice(
        _WARNING, "add the host to a virtual host's domains, or delete the policy"
    ),
    FindingId.ROUTE_NAME_UNKNOWN: Advice(_ERROR, "write `id:` in the policy's route, or correct the name here"),
    FindingId.POLICY_ROUTE_UNREACHABLE: Advice(_WARNING, "add a route for it here, or delete the policy's"),
    FindingId.NOT_SEEN: Advice(
        _WARNING, "ask the running Envoy: authz doctor http://127.0.0.1:9901 (its admin address)"
    ),
    FindingId.ADMIN_EXPOSED: Advice(
        _WARNING, "admin on 127.0.0.1 or a Unix socket: anybody who reaches it can end Envoy"
    ),
    FindingId.FIELD_WRITTEN_TWICE: Advice(_ERROR, "delete one of the two"),
    FindingId.ANSWER_BEFORE_EXT_AUTHZ: Advice(_ERROR, "move it behind ext_authz, or delete it"),
}

LOOK_THERE: Final = "look where it comes from: no dump tells"  # in place of the advice for NOT_SEEN


class Finding(NamedTuple):
    """One thing that would undo a promise."""

    id: FindingId
    severity: Severity
    source: Source  # in the file, or in the dump as it was read
    path: str  # in the configuration
    found: str
    fix: str


def finding(id_: FindingId, place: Place, found: str, severity: Severity | None = None) -> Finding:
    """Make a finding with its usual severity and fix."""
    advice = ADVICE[id_]
    return Finding(id_, severity or advice.severity, place.source, place.path, found, advice.fix)
