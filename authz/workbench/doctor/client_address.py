"""The header that `client_ip_header` names, and whose word it is by the time authz reads it.

It has to be Envoy's for every request. What a client can write, it can forge; where there is no address, no rule that
allows addresses holds, and every rule that denies some does. Measured with Envoy 1.40, on its way:
early mutations; then `x-envoy-external-address` is set, unless the client counts as internal, and the peer is added to
`x-forwarded-for`, both with `use_remote_address: true` alone; then the filters. Any `internal_address_config` makes
some clients internal; an empty one, or one without `cidr_ranges`, those on loopback at least.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from itertools import takewhile
from typing import Final

from authz.errors import Severity
from authz.workbench.doctor.configuration import Manager
from authz.workbench.doctor.findings import Finding, FindingId, finding
from authz.workbench.doctor.mutations import added_with, early_mutations, overwritten_with, removes
from authz.workbench.doctor.place import Place

_EXTERNAL, _FORWARDED = "x-envoy-external-address", "x-forwarded-for"
# The second is what the client says, once its `x-forwarded-for` was believed.
_ADDRESSES: Final = ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")
_HOPS: Final = "nothing, where no other way leads to Envoy; otherwise delete xff_num_trusted_hops"


class _Word(Enum):
    """Who wrote a header."""

    CLIENT = auto()
    ENVOY = auto()
    NOBODY = auto()


def check_client_address(manager: Manager, header: str) -> Iterator[Finding]:
    """Give what is wrong with the header that names the client's address."""
    place, word = _arrives(manager, header)
    if word is _Word.CLIENT:
        is_envoys = header in {_EXTERNAL, _FORWARDED}  # of another one a proxy in front may be in charge
        severity = None if is_envoys else Severity.WARNING
        yield finding(FindingId.CLIENT_IP_FORGEABLE, place, _forged(manager.place, header), severity)
    elif word is _Word.NOBODY:
        who = "clients that count as internal have no" if _sets_external(manager.place, header) else "there is no"
        found = f"{who} `{header}`, and without an address every rule on `source_ip` denies"
        yield finding(FindingId.CLIENT_IP_MISSING, place, found)
    elif (manager.place["xff_num_trusted_hops"].number or 0) > 0 and _sets_external(manager.place, header):
        hops = manager.place["xff_num_trusted_hops"]
        found = f"who reaches Envoy on a way with fewer than {hops.text} proxies can say any address in `{_FORWARDED}`"
        yield finding(FindingId.CLIENT_IP_FORGEABLE, hops, found, Severity.NOTE)._replace(fix=_HOPS)


def _forged(manager: Place, header: str) -> str:
    if _sets_external(manager, header):
        return f"clients that count as internal can send `{header}` themselves"
    if header == _FORWARDED and _adds_peer(manager):
        return f"clients can begin `{header}` themselves, and a list is no address: whoever sends one has none"
    return f"Envoy passes `{header}` on as it comes: clients can send it themselves"


def _arrives(manager: Manager, header: str) -> tuple[Place, _Word]:
    """Follow the header to ext_authz: where its fate is decided, and whose word it is then."""
    settings, place = manager.place, manager.place["early_header_mutation_extensions"]
    word = _mutated(early_mutations(settings), header, _Word.CLIENT, _ADDRESSES)  # so early both are the peer
    if _sets_external(settings, header):
        place = settings["internal_address_config"]
        word = word if place.exists else _Word.ENVOY
    elif header == _FORWARDED and _adds_peer(settings):
        word = _Word.ENVOY if word is _Word.NOBODY else _Word.CLIENT
    knows_client = _uses_peer(settings) or settings["original_ip_detection_extensions"].exists
    trusted = _ADDRESSES if knows_client else _ADDRESSES[:1]
    for one in takewhile(lambda one: one.family != "ext_authz", manager.filters):
        if one.family == "header_mutation" and not one.sometimes and one.place["disabled"].truth is not True:
            word = _mutated(one.config["mutations"]["request_mutations"], header, word, trusted)
    return place, word


def _uses_peer(manager: Place) -> bool:
    return manager["use_remote_address"].truth is True


def _sets_external(manager: Place, header: str) -> bool:
    return header == _EXTERNAL and _uses_peer(manager)


def _adds_peer(manager: Place) -> bool:
    return _uses_peer(manager) and manager["skip_xff_append"].truth is not True


def _mutated(mutations: Iterable[Place], header: str, word: _Word, trusted: Sequence[str]) -> _Word:
    for mutation in mutations:
        value = overwritten_with(mutation, header)
        if value is None and word is _Word.NOBODY:
            value = added_with(mutation, header)
        if removes(mutation, header):
            word = _Word.NOBODY
        elif value is not None:
            word = _Word.ENVOY if value in trusted else _Word.CLIENT
    return word
