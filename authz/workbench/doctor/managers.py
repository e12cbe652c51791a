"""The connection manager's own settings: one spelling of a request, and nothing in it that only we may say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from authz.errors import Severity
from authz.workbench.doctor.client_address import check_client_address
from authz.workbench.doctor.configuration import Configuration, Manager, forwarding_routes
from authz.workbench.doctor.findings import LOOK_THERE, Finding, FindingId, finding
from authz.workbench.doctor.mutations import added_with, early_mutations, overwritten_with, reads_request, removes
from authz.workbench.doctor.place import Place
from authz.workbench.doctor.promises import Promises
from authz.workbench.doctor.runtime import percent, runtime

_MUST_BE_TRUE: Final[Mapping[str, FindingId]] = {
    "normalize_path": FindingId.PATH_NOT_NORMALIZED,
    "merge_slashes": FindingId.SLASHES_NOT_MERGED,
    "use_remote_address": FindingId.REMOTE_ADDRESS_NOT_USED,
}
_MARKS: Final = "-.+~!#$%&'*^`|"  # all that a name may hold beside letters and digits (RFC 9110), but `_`
# Enumerations may be written as numbers.
_SAFE_SLASHES: Final = frozenset({"REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD", "2", "3", "4"})
_SAFE_UNDERSCORES: Final = frozenset({"REJECT_REQUEST", "DROP_HEADER", "1", "2"})
_RAW: Final = "nothing, where it carries no HTTP; otherwise an HTTP connection manager with ext_authz in its place"
_SLASHES: Final = "http_connection_manager.path_with_escaped_slashes_action_enabled"
_GCM: Final = "envoy.reloadable_features.oauth2_use_gcm_encryption"
_CBC: Final = "envoy.reloadable_features.oauth2_legacy_cbc_decrypt_compat"


def check_manager(envoy: Configuration, manager: Manager, promises: Promises) -> Iterator[Finding]:
    """Give what is wrong with a connection manager that leads to an upstream."""
    if not manager.routes.exists or manager.routes["vhds"].exists:
        yield finding(FindingId.NOT_SEEN, manager.place, f"listener `{manager.listener}`: its routes are not in here")
    elif not any(True for _ in forwarding_routes([manager])):
        return
    if not manager.guards:
        found = f"listener `{manager.listener}`: no ext_authz among its {manager.chain_name}"
        missing = finding(FindingId.EXT_AUTHZ_MISSING, manager.chain, found)
        yield missing._replace(fix=missing.fix.replace("http_filters", manager.chain_name))
    yield from _spelling(envoy, manager.place)
    yield from _stripping(manager.place, promises)
    if manager.guards:
        yield from check_client_address(manager, promises.client_ip_header)
    yield from _cookies(envoy, manager)


def check_listeners(envoy: Configuration) -> Iterator[Finding]:
    """Give what no connection manager stands for."""
    for listener, place in envoy.raw_listeners:
        found = f"listener `{listener}` passes bytes on without a question"
        yield finding(FindingId.EXT_AUTHZ_MISSING, place, found, Severity.WARNING)._replace(fix=_RAW)
    for listener, place in envoy.unseen:
        yield finding(FindingId.NOT_SEEN, place, f"listener `{listener}`: a part of its filters is not in here")
    for field in ("lds_config", "lds_resources_locator"):
        elsewhere = envoy.bootstrap["dynamic_resources"][field]
        if elsewhere.exists and not envoy.is_dump:
            yield finding(FindingId.NOT_SEEN, elsewhere, "more listeners come from elsewhere")


def _spelling(envoy: Configuration, manager: Place) -> Iterator[Finding]:
    for field, id_ in _MUST_BE_TRUE.items():
        if manager[field].truth is not True:
            yield finding(id_, manager[field], _as_found(manager[field], field))
    slashes = manager["path_with_escaped_slashes_action"]
    if slashes.text not in _SAFE_SLASHES:
        yield finding(FindingId.ESCAPED_SLASHES_KEPT, slashes, _as_found(slashes, "path_with_escaped_slashes_action"))
    share = runtime(envoy.bootstrap, _SLASHES).value
    if share.exists and percent(share) < 100:
        found = f"the runtime has it done for {percent(share):g} % of the requests"
        yield finding(FindingId.ESCAPED_SLASHES_KEPT, share, found)
    underscores = manager["common_http_protocol_options"]["headers_with_underscores_action"]
    if underscores.text not in _SAFE_UNDERSCORES:
        yield finding(
            FindingId.UNDERSCORES_ALLOWED, underscores, _as_found(underscores, "headers_with_underscores_action")
        )


def _as_found(place: Place, field: str) -> str:
    return f"`{field}` is `{place.text}`" if place.text else f"`{field}` is not set"


def _stripping(manager: Place, promises: Promises) -> Iterator[Finding]:
    extensions = manager["early_header_mutation_extensions"]
    mutations = list(early_mutations(manager))
    kept = [name for name in promises.identity_headers if not _is_removed(mutations, name)]
    if kept:
        found = f"clients can send {', '.join(f'`{name}`' for name in kept)} themselves"
        yield finding(FindingId.IDENTITY_HEADERS_NOT_STRIPPED, extensions, found)
    yield from _spelled_otherwise(manager, promises, extensions, mutations)


def _spelled_otherwise(
    manager: Place, promises: Promises, extensions: Place, mutations: Sequence[Place]
) -> Iterator[Finding]:
    """Check names that CGI's heirs read as an identity header's: to lighttpd all but letters and digits is `_`."""
    action = manager["common_http_protocol_options"]["headers_with_underscores_action"].text
    marks = _MARKS if action in _SAFE_UNDERSCORES else f"{_MARKS}_"
    stripped = [name for name in promises.identity_headers if _is_removed(mutations, name)]
    kept = [(one, name) for name in stripped for one in _spellings(name, marks) if not _is_removed(mutations, one)]
    if kept:
        one, name = kept[0]
        found = f"clients can send `{one}` and kin, which some upstreams read as `{name}`"
        yield finding(FindingId.IDENTITY_SPELLINGS_NOT_STRIPPED, extensions, found)


def _spellings(name: str, marks: str) -> Iterator[str]:
    """Give other spellings of a name: each of its marks replaced by another, all of them and one at a time."""
    places = [number for number, character in enumerate(name) if not character.isalnum()]
    for mark in marks:
        for chosen in dict.fromkeys((tuple(places), *((one,) for one in places))):
            spelled = "".join(mark if number in chosen else c for number, c in enumerate(name))
            if spelled != name:
                yield spelled


def _is_removed(mutations: Sequence[Place], name: str) -> bool:
    """Tell whether nothing that a client sent is left under a name: taken off, and not put back from elsewhere."""
    removed = False
    for one in mutations:
        value = overwritten_with(one, name) or added_with(one, name) or ""
        removed = removes(one, name) or (removed and not reads_request(value))
    return removed


def _cookies(envoy: Configuration, manager: Manager) -> Iterator[Finding]:
    for one in manager.filters:
        if one.family != "oauth2":
            continue
        gcm, cbc = runtime(envoy.bootstrap, _GCM), runtime(envoy.bootstrap, _CBC)
        unseen = gcm.unseen or cbc.unseen
        if not (gcm.value.truth is True and cbc.value.truth is False):
            found = "the oauth2 filter seals its cookies with a cipher that does not authenticate them"
            yield finding(FindingId.OAUTH2_WITHOUT_GCM, one.place, found)
        elif unseen:
            found = "this layer may undo what keeps the oauth2 filter's cookies authenticated"
            yield finding(FindingId.NOT_SEEN, unseen, found)._replace(fix=LOOK_THERE)
