"""The ext_authz filter, and what stands behind it in the chain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from authz.errors import Severity
from authz.workbench.doctor.chosen_upstreams import check_chosen_in_chain
from authz.workbench.doctor.configuration import Configuration, Manager
from authz.workbench.doctor.findings import LOOK_THERE, Finding, FindingId, finding
from authz.workbench.doctor.headers import check_headers
from authz.workbench.doctor.http_filters import Filter, override
from authz.workbench.doctor.mutations import changes_requests
from authz.workbench.doctor.peer_certificates import check_peer_certificate
from authz.workbench.doctor.place import Place, family, unwrapped
from authz.workbench.doctor.promises import Promises
from authz.workbench.doctor.runtime import percent, runtime

# They can change the path, the host, the headers or the route of a request that was already judged.
CHANGING: Final = frozenset({
    "lua", "header_mutation", "wasm", "ext_proc", "golang", "dynamic_modules", "composite", "oauth2", "jwt_authn",
    "basic_auth", "api_key_auth", "header_to_metadata", "grpc_json_transcoder", "grpc_http1_bridge",
    "grpc_http1_reverse_bridge", "ip_tagging", "json_to_metadata",
})  # fmt: skip
# They answer requests themselves, with what an upstream or a disk holds.
ANSWERING: Final = frozenset({"cache", "cache_v2", "file_server"})
# They refuse, count, delay, take notes, work on the answer, or sign for the upstream.
HARMLESS: Final = frozenset({
    "router", "upstream_codec", "rbac", "local_ratelimit", "ratelimit", "rate_limit_quota", "buffer",
    "file_system_buffer", "compressor", "decompressor", "cors", "csrf", "fault", "grpc_stats", "grpc_web", "tap",
    "bandwidth_limit", "admission_control", "adaptive_concurrency", "health_check", "stateful_session",
    "on_demand", "custom_response", "set_metadata", "set_filter_state", "dynamic_forward_proxy", "credential_injector",
    "aws_request_signing", "gcp_authn", "file_server",
})  # fmt: skip

_TOO_LARGE_BYTES: Final = 200 * 1024  # of a body: with headers and certificate a message has 256 KiB at most


def check_filters(envoy: Configuration, manager: Manager, promises: Promises) -> Iterator[Finding]:
    """Give what is wrong with the guards of a connection manager and what comes after them."""
    for one in manager.filters:
        if one.is_elsewhere:
            yield finding(FindingId.NOT_SEEN, one.place, f"`{one.name}` is configured elsewhere")
    for guard in manager.guards:
        if guard.sometimes:
            found = "a matcher, or the route, says which requests are asked about"
            partly = finding(FindingId.FILTER_ENABLED_PARTLY, guard.place, found)
            yield partly._replace(fix="write ext_authz itself in place of what holds it")
        if not guard.config.exists:
            continue
        yield from _asking(envoy, guard.config)
        yield from check_headers(guard.config, promises)
        yield from check_peer_certificate(guard.config, promises)
        yield from _body(guard.config["with_request_body"])
        if not guard.config["grpc_service"].exists:
            yield finding(FindingId.EXT_AUTHZ_OVER_HTTP, guard.config["http_service"], "no grpc_service to ask")
    for settings in manager.check_settings():
        yield from _body(settings["with_request_body"])
        if settings["http_service"].exists:
            yield finding(FindingId.EXT_AUTHZ_OVER_HTTP, settings["http_service"], "another service is asked here")
    for service in manager.services():
        if service.exists:
            yield from _call(service)
    for one in manager.forerunners:
        if one.family in ANSWERING and manager.guards:
            found = f"`{one.family}` before ext_authz answers requests that nobody judged"
            yield finding(FindingId.ANSWER_BEFORE_EXT_AUTHZ, one.place, found)
    yield from check_chosen_in_chain(manager)
    yield from _followers(manager, promises)


def _body(sent: Place) -> Iterator[Finding]:
    """Check whether bodies are sent to authz, which reads none."""
    if not sent.exists:
        return
    most = sent["max_request_bytes"]
    if (most.number or 0) < _TOO_LARGE_BYTES:
        yield finding(FindingId.BODY_SENT, sent, "authz gets bodies and reads none: they cost time and memory")
    else:
        found = "authz takes no message above 256 KiB: a request with such a body is answered 503"
        yield finding(FindingId.BODY_SENT, most, found, Severity.ERROR)


def _asking(envoy: Configuration, config: Place) -> Iterator[Finding]:
    """Check that every request is asked about, and that no answer is no."""
    if config["failure_mode_allow"].truth is True:
        yield finding(
            FindingId.FAILURE_MODE_ALLOW, config["failure_mode_allow"], "everything is let in while authz is down"
        )
    if config["shadow_mode"].truth is True:
        yield finding(FindingId.SHADOW_MODE, config["shadow_mode"], "authz is asked, and nothing is denied")
    if config["clear_route_cache"].truth is True:
        found = "a header that authz sets can lead to a route that nobody judged"
        yield finding(FindingId.CLEAR_ROUTE_CACHE, config["clear_route_cache"], found)
    if not _is_failure(config["status_on_error"]["code"]):
        found = "without it an outage looks like 403, forbidden"
        yield finding(FindingId.STATUS_ON_ERROR, config["status_on_error"], found)
    yield from _share(envoy, config)


def _is_failure(code: Place) -> bool:
    names = {"ServiceUnavailable", "InternalServerError", "BadGateway", "GatewayTimeout"}
    return code.text in names or (code.number is not None and code.number >= 500)


def _share(envoy: Configuration, config: Place) -> Iterator[Finding]:
    """Check that every request is asked about; where some are not, they should be refused."""
    enabled, metadata = config["filter_enabled"], config["filter_enabled_metadata"]
    denies = config["deny_at_disable"]
    usual, said = denies["default_value"], runtime(envoy.bootstrap, denies["runtime_key"].text)
    says = [said.value] if said.value.exists else [usual, usual["value"]]
    fails_closed = any(one.truth is True for one in says)
    severity = Severity.WARNING if fails_closed else None  # refused, not let in
    if metadata.exists:
        found = "only requests with some metadata are asked about"
        yield finding(FindingId.FILTER_ENABLED_PARTLY, metadata, found, severity)
    if enabled.exists:
        share = runtime(envoy.bootstrap, enabled["runtime_key"].text).value
        share = share if share.exists else enabled["default_value"]
        if percent(share) < 100:
            place = share if share.exists else enabled
            found = f"{percent(share):g} % of the requests are asked about"
            yield finding(FindingId.FILTER_ENABLED_PARTLY, place, found, severity)
        if not fails_closed:
            found = "what the runtime leaves out is let in"
            yield finding(FindingId.DENY_AT_DISABLE_MISSING, said.value if said.value.exists else denies, found)
    if fails_closed and said.unseen and (enabled.exists or metadata.exists):
        found = f"`{denies['runtime_key'].text}` may be false in this layer: then what is not asked about is let in"
        yield finding(FindingId.NOT_SEEN, said.unseen, found)._replace(fix=LOOK_THERE)


def _call(service: Place) -> Iterator[Finding]:
    """Check how long Envoy waits for authz, and how it asks again."""
    timeout = service["timeout"]
    if not timeout.exists:
        yield finding(FindingId.TIMEOUT_MISSING, timeout, "`timeout` is not set: Envoy waits 0.2 s")
    elif not timeout.seconds:
        why = "Envoy reads seconds alone" if timeout.seconds is None else "requests wait without end"
        yield finding(FindingId.TIMEOUT_MISSING, timeout, f"`timeout` is `{timeout.text}`: {why}", Severity.ERROR)
    retry = service["retry_policy"]
    back_off = retry["retry_back_off"]
    if not retry.exists:
        yield finding(FindingId.RETRY_MISSING, retry, "a check that was lost is not asked again")
    elif not back_off["base_interval"].exists:
        found = "the first retry waits longer than the whole timeout"
        yield finding(FindingId.RETRY_WITHOUT_BACK_OFF, back_off, found)
    else:
        yield from _one_try(back_off, 0.2 if timeout.seconds is None else timeout.seconds)


def _one_try(back_off: Place, timeout: float) -> Iterator[Finding]:
    longest = back_off["max_interval"].seconds or 10 * (back_off["base_interval"].seconds or 0)
    if longest < timeout:
        found = f"each try ends after {longest:g} s, the whole call after {timeout:g} s"
        yield finding(FindingId.RETRY_BACK_OFF_SHORT, back_off["max_interval"], found)


def _followers(manager: Manager, promises: Promises) -> Iterator[Finding]:
    """Check what gets to change a request after it was judged."""
    for one in manager.followers:
        yield from check_follower(one, manager.holders())
        yield from late_changes(one.config, promises)
        if one.family == "router":
            for upstream_filter in filters_of(one.config["upstream_http_filters"]):
                yield from check_follower(upstream_filter, manager.holders())
                yield from late_changes(upstream_filter.config, promises)


def filters_of(upstream_filters: Place) -> Iterator[Filter]:
    """Give the filters that run behind the router."""
    for place in upstream_filters:
        kind, config = unwrapped(place["typed_config"])
        name = place["name"].text
        yield Filter(name, family(kind) if kind else name.rpartition(".")[2], place, config)


def late_changes(config: Place, promises: Promises) -> Iterator[Finding]:
    """Check what a filter that does no harm by itself is told to do after ext_authz, in the chain or by a route."""
    if config["clear_route_cache"].truth is True:
        found = "a route that nobody judged may be taken"
        yield finding(FindingId.FILTER_AFTER_EXT_AUTHZ, config["clear_route_cache"], found)
    rewrite = config["host_rewrite_header"]  # of dynamic_forward_proxy, which looks the host up
    if rewrite.exists:
        yield finding(FindingId.UPSTREAM_FROM_HEADER, rewrite, f"who sends `{rewrite.text}` chooses the upstream")
    _, credential = unwrapped(config["credential"]["typed_config"])
    limited = config["request_headers_to_add_when_not_enforced"]
    for header in (credential["header"], *(one["header"]["key"] for one in limited)):
        if header.text.lower() in promises.identity_headers:
            found = f"`{header.text}` is written after authz set it"
            yield finding(FindingId.IDENTITY_HEADERS_CHANGED_LATE, header, found)


def check_follower(one: Filter, holders: Iterable[Place]) -> Iterator[Finding]:
    """Check one filter that runs after ext_authz; `holders`: the places of the routes that may configure it."""
    if one.family == "header_mutation" and one.config.exists:
        said = (override(holder, one.name).config for holder in holders)
        is_changing = any(map(changes_requests, (one.config, *said)))
    else:
        is_changing = one.family in CHANGING
    if is_changing:
        found = f"`{one.family}` after ext_authz can change a request that was already judged"
        yield finding(FindingId.FILTER_AFTER_EXT_AUTHZ, one.place, found)
    elif one.family not in HARMLESS | CHANGING:
        found = f"`{one.family}` after ext_authz: it is not known what it does to a request"
        yield finding(FindingId.UNKNOWN_FILTER_AFTER_EXT_AUTHZ, one.place, found)
