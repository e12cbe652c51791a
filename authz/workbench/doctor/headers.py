"""Request headers between Envoy and authz: which ones authz gets, and which ones its answer may change.

Both can be narrowed to lists of names. A header that authz does not get does not exist for it, so it can neither read
nor remove it; one that it may not change turns a good request into a 500, or stays as the client sent it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from authz.errors import Severity
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.matching import regex_matches, string_matches
from authz.workbench.doctor.place import Place
from authz.workbench.doctor.promises import Promises

# What authz reads of every request, besides where tokens stand: for `cors_preflight`, the form of a refusal,
# `denied_redirect`, and the request's id in log and page.
READ: Final = (
    "accept", "content-type", "origin", "access-control-request-method", "x-request-id", "x-requested-with",
    "sec-fetch-mode",
)  # fmt: skip
# Where copies of tokens are met: `hide_credentials` takes them off under any name, and these stand for all.
COPIES: Final = ("referer", "x-id-token", "x-forwarded-access-token", "x-amzn-oidc-accesstoken")
_DECIDING: Final = (":path", "host")  # whoever changes these leads a request past its decision
_ROUTING: Final = frozenset({"host", ":authority", ":method", ":scheme"})


def check_headers(config: Place, promises: Promises) -> Iterator[Finding]:
    """Give what is wrong with the headers that an ext_authz filter sends and takes."""
    yield from _sent(config, promises)
    if config["encode_raw_headers"].truth is not True:
        found = "headers that were sent twice arrive glued together, odd bytes replaced"
        yield finding(FindingId.RAW_HEADERS_MISSING, config["encode_raw_headers"], found)
    if config["validate_mutations"].truth is not True:
        found = "a line break in an answer's header would split the response"
        yield finding(FindingId.MUTATIONS_NOT_VALIDATED, config["validate_mutations"], found)
    yield from _changed(config["decoder_header_mutation_rules"], promises)


# --- what authz gets ----------------------------------------------------------------------------------------------


def _sent(config: Place, promises: Promises) -> Iterator[Finding]:
    held = config["allowed_headers"] if config["allowed_headers"].exists else config["disallowed_headers"]
    address = [promises.client_ip_header] if promises.client_ip_header else []
    dropped = [name for name in (*promises.credential_headers, *address) if not _is_sent(config, name)]
    if dropped:
        yield finding(FindingId.TOKEN_HEADERS_DROPPED, held, f"authz does not get {_names(dropped)}")
    unread = [name for name in READ if not _is_sent(config, name)]
    if unread:
        yield finding(FindingId.REQUEST_HEADERS_DROPPED, held, f"authz does not get {_names(unread)}, which it reads")
    unseen = [name for name in COPIES if not _is_sent(config, name)]
    if unseen and promises.hides_credentials:
        found = f"authz does not get {_names(unseen)} and kin: it cannot take off a copy of a token there"
        yield finding(FindingId.REQUEST_HEADERS_DROPPED, held, found)


def _is_sent(config: Place, name: str) -> bool:
    allowed, disallowed = config["allowed_headers"], config["disallowed_headers"]
    if any(string_matches(one, name) for one in disallowed["patterns"]):
        return False
    return not allowed.exists or any(string_matches(one, name) for one in allowed["patterns"])


# --- what its answer may change -----------------------------------------------------------------------------------


def _changed(rules: Place, promises: Promises) -> Iterator[Finding]:
    free = [name for name in _DECIDING if _may_change(rules, name)]
    if free:
        yield finding(FindingId.MUTATIONS_NOT_LIMITED, rules, f"an answer may change {_names(free)}")
    refused = _refused(rules, promises.identity_headers)
    if refused:
        yield finding(FindingId.IDENTITY_HEADERS_REFUSED, rules, f"authz may not set {_names(refused)}")
    if promises.hides_credentials:
        yield from _removed(rules, promises)


def _removed(rules: Place, promises: Promises) -> Iterator[Finding]:
    """Check that `hide_credentials` may do its work, first where tokens are expected."""
    is_error = rules["disallow_is_error"].truth is True
    kept, copies = _refused(rules, promises.credential_headers), _refused(rules, COPIES)
    if kept:
        then = "allowed requests are answered 500" if is_error else "tokens reach the upstream"
        yield finding(FindingId.CREDENTIALS_KEPT, rules, f"authz may not take off {_names(kept)}: {then}")
    elif copies:
        then = "an allowed request with a copy of a token there is answered 500" if is_error else "such copies stay"
        found = f"authz may not take off a copy of a token in {_names(copies)} and kin: {then}"
        yield finding(FindingId.CREDENTIALS_KEPT, rules, found, Severity.WARNING)


def _refused(rules: Place, names: Iterable[str]) -> list[str]:
    return [name for name in names if not _may_change(rules, name)]


def _may_change(rules: Place, name: str) -> bool:
    """Tell whether a header may be changed, asking in the order in which Envoy's `HeaderMutationRules` count."""
    if not rules.exists:
        return True
    if rules["disallow_expression"].exists and regex_matches(rules["disallow_expression"], name):
        return False
    if rules["allow_expression"].exists and regex_matches(rules["allow_expression"], name):
        return True
    if rules["disallow_all"].truth is True:
        return False
    if name in _ROUTING:
        return rules["allow_all_routing"].truth is True
    if name.startswith(":"):
        return rules["disallow_system"].truth is not True
    return not name.startswith("x-envoy") or rules["allow_envoy"].truth is True


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
