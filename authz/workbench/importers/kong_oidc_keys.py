"""Keys of the openid-connect plugin's settings that are not carried over: the closed lists of those known to Kong.

From Kong's own schema of the plugin (Kong/developer.konghq.com, app/_schemas), its documentation of 2.2 and the
defaults that its Admin API prints (Kong/go-kong, 3.8 and 3.9). A key in no list stops the import: it may be a
misspelled requirement, and without it everybody who is signed in would get in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SESSION_IS_ENVOYS: Final = "Envoy keeps sessions in encrypted `__Host-` cookies of its own"
_NO_EXCHANGE: Final = "Cognito exchanges no tokens, and a token that cannot be exchanged is refused: delete it here"

STOPPING: Final[Mapping[str, str]] = {
    "claims_forbidden": "there is no rule on the presence of a claim: delete it here, then write a deny rule on the "
    "values (`deny: {or: [claim/NAME: VALUE]}`)",
    "introspect_jwt_tokens": "Cognito has no introspection: delete it here. A revoked token stays valid until it "
    "expires: keep the lifetimes in the app client short",
    "jwt_session_cookie": "ties tokens to a session cookie: delete it here",
    "authenticated_groups_claim": "feeds the ACL plugin: write the groups as `groups_required` with `groups_claim`",
    "session_bind": "binds sessions to an address or a browser, which Envoy does not: delete it here",
    "token_exchange": _NO_EXCHANGE,
    "token_exchange_endpoint": _NO_EXCHANGE,
}
"""These restrict unless they are empty or off."""

PROOFS: Final = frozenset({"proof_of_possession_dpop", "proof_of_possession_mtls"})
"""These restrict unless they say `off`."""

MAPPINGS: Final[Mapping[str, str]] = {
    "consumer_claim": "consumer_optional",
    "consumer_claims": "consumer_optional",
    "consumer_groups_claim": "consumer_groups_optional",
}
"""These let in callers alone whom Kong knows, unless the switch beside them is on."""

SECRETS: Final[Mapping[str, str]] = {
    "client_secret": "`secrets/client-secret.txt`",
    "client_jwk": "the app client's secret is `secrets/client-secret.txt`",
    "session_secret": SESSION_IS_ENVOYS,
    "session_redis_auth": SESSION_IS_ENVOYS,
    "session_redis_password": SESSION_IS_ENVOYS,
}

VERIFYING: Final = frozenset({
    "verify_signature", "verify_claims", "verify_nonce", "verify_parameters", "ignore_signature", "ssl_verify",
    "tls_client_auth_ssl_verify", "extra_jwks_uris", "rediscovery_lifetime", "cache_tokens", "jwks_endpoint",
    "reverify", "enable_hs_signatures",
})  # fmt: skip

SESSIONS: Final = frozenset({
    "session_absolute_timeout", "session_audience", "session_compressor", "session_cookie_domain",
    "session_cookie_http_only", "session_cookie_httponly", "session_cookie_idletime", "session_cookie_lifetime",
    "session_cookie_maxsize", "session_cookie_name", "session_cookie_path", "session_cookie_renew",
    "session_cookie_same_site", "session_cookie_samesite", "session_cookie_secure", "session_enforce_same_subject",
    "session_hash_storage_key", "session_hash_subject", "session_idling_timeout", "session_memcache_host",
    "session_memcache_port", "session_memcache_prefix", "session_memcache_socket", "session_memcached_host",
    "session_memcached_port", "session_memcached_prefix", "session_memcached_socket", "session_memcached_ssl",
    "session_memcached_ssl_verify", "session_redis_cluster_max_redirections", "session_redis_cluster_maxredirections",
    "session_redis_cluster_nodes", "session_redis_connect_timeout", "session_redis_host", "session_redis_port",
    "session_redis_prefix", "session_redis_read_timeout", "session_redis_send_timeout", "session_redis_server_name",
    "session_redis_socket", "session_redis_ssl", "session_redis_ssl_verify", "session_redis_username",
    "session_remember", "session_remember_absolute_timeout", "session_remember_cookie_name",
    "session_remember_rolling_timeout", "session_request_headers", "session_response_headers",
    "session_rolling_timeout", "session_storage", "session_store_metadata", "session_strategy",
})  # fmt: skip

HARMLESS: Final = frozenset({
    # How Kong talks to the provider, and what it asks of it
    "audience", "authorization_cookie_domain", "authorization_cookie_http_only", "authorization_cookie_httponly",
    "authorization_cookie_lifetime", "authorization_cookie_name", "authorization_cookie_path",
    "authorization_cookie_same_site", "authorization_cookie_samesite", "authorization_cookie_secure",
    "authorization_query_args_client", "authorization_rolling_timeout", "client_alg", "client_arg", "client_auth",
    "discovery_headers_names", "discovery_headers_values", "http_proxy", "http_proxy_authorization", "http_version",
    "https_proxy", "https_proxy_authorization", "introspection_accept", "introspection_check_active",
    "introspection_endpoint", "introspection_endpoint_auth_method", "introspection_headers_client",
    "introspection_headers_names", "introspection_headers_values", "introspection_hint",
    "introspection_post_args_client", "introspection_post_args_client_headers", "introspection_post_args_names",
    "introspection_post_args_values", "introspection_token_param_name", "keepalive", "mtls_introspection_endpoint",
    "mtls_revocation_endpoint", "mtls_token_endpoint", "no_proxy", "pushed_authorization_request_endpoint",
    "pushed_authorization_request_endpoint_auth_method", "require_proof_key_for_code_exchange",
    "require_pushed_authorization_requests", "require_signed_request_object", "resolve_distributed_claims",
    "response_mode", "response_type", "revocation_endpoint", "revocation_endpoint_auth_method",
    "revocation_token_param_name", "search_user_info", "timeout", "tls_client_auth_cert_id",
    "token_endpoint_auth_method", "token_headers_client", "token_headers_grants", "token_headers_names",
    "token_headers_prefix", "token_headers_replay", "token_headers_values", "token_post_args_client",
    "token_post_args_names", "token_post_args_values", "userinfo_accept", "userinfo_endpoint",
    "userinfo_headers_client", "userinfo_headers_names", "userinfo_headers_values", "userinfo_query_args_client",
    "userinfo_query_args_names", "userinfo_query_args_values", "using_pseudo_issuer",
    # What it remembers, and where
    "cache_introspection", "cache_token_exchange", "cache_tokens_salt", "cache_ttl", "cache_ttl_max", "cache_ttl_min",
    "cache_ttl_neg", "cache_ttl_resurrect", "cache_user_info", "cluster_cache_redis", "cluster_cache_strategy", "redis",
    "token_cache_key_include_scope",
    # Further ways to sign in or out, and what is shown then
    "client_credentials_param_type", "disable_session", "display_errors", "expose_error_code",
    "forbidden_destroy_session", "forbidden_error_message", "id_token_param_name", "id_token_param_type",
    "login_action", "login_methods", "login_redirect_mode", "login_redirect_uri", "login_tokens", "logout_methods",
    "logout_post_arg", "logout_query_arg", "logout_revoke", "logout_revoke_access_token",
    "logout_revoke_refresh_token", "logout_uri_suffix", "password_param_type", "preserve_query_args",
    "refresh_token_param_name", "refresh_token_param_type", "refresh_tokens", "unauthorized_destroy_session",
    "unauthorized_error_message", "unexpected_redirect_uri",
    # Nothing without a key that stops: a mapping, a cookie, a proof
    "by_username_ignore_case", "consumer_by", "consumer_groups_optional", "consumer_optional", "credential_claim",
    "dpop_proof_lifetime", "dpop_use_nonce", "jwt_session_claim", "proof_of_possession_auth_methods_validation",
    # What others are told of the caller
    "downstream_access_token_header", "downstream_access_token_jwk_header", "downstream_headers",
    "downstream_headers_claims", "downstream_headers_names", "downstream_id_token_header",
    "downstream_id_token_jwk_header", "downstream_introspection_header", "downstream_introspection_jwt_header",
    "downstream_refresh_token_header", "downstream_session_id_header", "downstream_user_info_header",
    "downstream_user_info_jwt_header", "upstream_access_token_header", "upstream_access_token_jwk_header",
    "upstream_headers", "upstream_id_token_header", "upstream_id_token_jwk_header", "upstream_introspection_header",
    "upstream_introspection_jwt_header", "upstream_refresh_token_header", "upstream_session_id_header",
    "upstream_user_info_header", "upstream_user_info_jwt_header",
})  # fmt: skip
"""Without these nobody gets in who did not before."""

KNOWN: Final = frozenset({*STOPPING, *PROOFS, *MAPPINGS, *SECRETS, *VERIFYING, *SESSIONS, *HARMLESS})
