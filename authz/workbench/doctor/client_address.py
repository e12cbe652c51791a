"""The client's address, in the header that `client_ip_header` names or of the connection, and whose word it is.

It has to be Envoy's for every request. What a client can write, it can forge; where there is no address, no rule that
allows addresses holds, and every rule that denies some does. Measured with Envoy 1.40, on its way:
early mutations; then `x-envoy-external-address` is set, unless the client counts as internal, and the peer is added to
`x-forwarded-for`, both with `use_remote_address: true` alone; then the filters. Any `internal_address_config` makes
some clients internal; an empty one, or one without `cidr_ranges`, those on loopback at least. Where `custom_header`
detects addresses, a header is the client's; behind PROXY protocol, what the peer says is the connection's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto
from itertools import takewhile
from typing import Final

from authz.errors import Severity
from authz.workbench.doctor.configuration import Manager
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.mutations import added_with, early_mutations, overwritten_with, removes
from authz.workbench.doctor.place import Place, family, unwrapped

_EXTERNAL, _FORWARDED = "x-envoy-external-address", "x-forwarded-for"
_PEER: Final = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"  # always the connection's own
_REMOTE: Final = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
_HOPS: Final = "nothing, where no other way leads to Envoy; otherwise delete "


class _Word(Enum):
    """Who wrote an address."""

    CLIENT = auto()
    DETECTED = auto()  # Envoy, after a header that clients can send
    PROXIES = auto()  # Envoy, after those in front of it
    ENVOY = auto()
    NOBODY = auto()


def check_client_address(manager: Manager, header: str | None) -> Iterator[Finding]:
    """Give what is wrong with the header that names the client's address; None: it is the connection's."""
    if header is None:
        yield from _told_by_proxies(manager, is_hop_counted=False)
        return
    place, word = _arrives(manager, header)
    if word is _Word.CLIENT:
        is_envoys = header in {_EXTERNAL, _FORWARDED}  # of another one a proxy in front may be in charge
        severity = None if is_envoys else Severity.WARNING
        yield finding(FindingId.CLIENT_IP_FORGEABLE, place, _forged(manager.place, header), severity)
    elif word is _Word.NOBODY:
        who = "clients that count as internal have no" if _sets_external(manager.place, header) else "there is no"
        found = f"{who} `{header}`, and without an address every rule on `source_ip` denies"
        yield finding(FindingId.CLIENT_IP_MISSING, place, found)
    elif word is _Word.DETECTED:
        detected = _detected_in(manager.place)
        found = f"Envoy takes the address from `{detected.text}`: clients can send it themselves"
        yield finding(FindingId.CLIENT_IP_FORGEABLE, detected, found, Severity.WARNING)  # or a proxy in front alone
    elif word is _Word.PROXIES:
        yield from _told_by_proxies(manager, is_hop_counted=True)


def _told_by_proxies(manager: Manager, *, is_hop_counted: bool) -> Iterator[Finding]:
    """Give what makes Envoy believe the proxies in front of it."""
    hops = manager.place["xff_num_trusted_hops"]
    if is_hop_counted and (hops.number or 0) > 0:
        found = f"who reaches Envoy on a way with fewer than {hops.text} proxies can say any address in `{_FORWARDED}`"
        note = finding(FindingId.CLIENT_IP_FORGEABLE, hops, found, Severity.NOTE)
        yield note._replace(fix=f"{_HOPS}xff_num_trusted_hops")
    if manager.proxied is not None:
        found = "who reaches Envoy past the proxy in front can say any address by PROXY protocol"
        note = finding(FindingId.CLIENT_IP_FORGEABLE, manager.proxied, found, Severity.NOTE)
        yield note._replace(fix=f"{_HOPS}the listener filter proxy_protocol")


def _forged(manager: Place, header: str) -> str:
    if _sets_external(manager, header):
        return f"clients that count as internal can send `{header}` themselves"
    if header == _FORWARDED and _adds_peer(manager):
        return f"clients can begin `{header}` themselves, and a list is no address: whoever sends one has none"
    return f"Envoy passes `{header}` on as it comes: clients can send it themselves"


def _arrives(manager: Manager, header: str) -> tuple[Place, _Word]:
    """Follow the header to ext_authz: where its fate is decided, and whose word it is then."""
    settings, place = manager.place, manager.place["early_header_mutation_extensions"]
    peer = _Word.ENVOY if manager.proxied is None else _Word.PROXIES
    words = {_PEER: _Word.ENVOY, _REMOTE: peer}  # so early nothing that a header says was believed
    word = _mutated(early_mutations(settings), header, _Word.CLIENT, words)
    words[_REMOTE] = _remote(manager, peer)
    if _sets_external(settings, header):
        place = settings["internal_address_config"]
        word = word if place.exists else words[_REMOTE]
    elif header == _FORWARDED and _adds_peer(settings):
        word = peer if word is _Word.NOBODY else _Word.CLIENT
    for one in takewhile(lambda one: one.family != "ext_authz", manager.filters):
        if one.family == "header_mutation" and not one.sometimes and one.place["disabled"].truth is not True:
            word = _mutated(one.config["mutations"]["request_mutations"], header, word, words)
    return place, word


def _remote(manager: Manager, peer: _Word) -> _Word:
    """Tell whose word the remote address is to a filter."""
    if _uses_peer(manager.place):
        return _Word.PROXIES if (manager.place["xff_num_trusted_hops"].number or 0) > 0 else peer
    if not manager.place["original_ip_detection_extensions"].exists:
        return _Word.CLIENT
    return _Word.DETECTED if _detected_in(manager.place).exists else _Word.ENVOY


def _detected_in(manager: Place) -> Place:
    """Give the name of a header that Envoy takes the address from and clients can send; nothing without one."""
    extensions = manager["original_ip_detection_extensions"]
    held = (unwrapped(one["typed_config"]) for one in extensions)
    names = (config["header_name"] for kind, config in held if family(kind) == "custom_header")
    written = {_PEER: _Word.ENVOY, _REMOTE: _Word.ENVOY}
    mutations = list(early_mutations(manager))
    passed = (one for one in names if _mutated(mutations, one.text.lower(), _Word.CLIENT, written) is _Word.CLIENT)
    return next(passed, Place(None, extensions.source, extensions.path))


def _uses_peer(manager: Place) -> bool:
    return manager["use_remote_address"].truth is True


def _sets_external(manager: Place, header: str) -> bool:
    return header == _EXTERNAL and _uses_peer(manager)


def _adds_peer(manager: Place) -> bool:
    return _uses_peer(manager) and manager["skip_xff_append"].truth is not True


def _mutated(mutations: Iterable[Place], header: str, word: _Word, words: Mapping[str, _Word]) -> _Word:
    for mutation in mutations:
        value = overwritten_with(mutation, header)
        if value is None and word is _Word.NOBODY:
            value = added_with(mutation, header)
        if removes(mutation, header):
            word = _Word.NOBODY
        elif value is not None:
            word = words.get(value, _Word.CLIENT)
    return word
