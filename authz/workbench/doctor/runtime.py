"""What an Envoy's runtime says in place of the defaults that stand beside its keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from authz.workbench.doctor.place import Place

_PERCENT: Final = {"": 100, "HUNDRED": 100, "0": 100, "TEN_THOUSAND": 10_000, "1": 10_000, "MILLION": 1_000_000,
                   "2": 1_000_000}  # fmt: skip


class RuntimeValue(NamedTuple):
    """What the runtime says under a key."""

    value: Place  # nothing when it says nothing
    unseen: Place | None  # a later layer, from a disk or another server, which may say something else


def runtime(bootstrap: Place, key: str) -> RuntimeValue:
    """Give what the runtime says under a key; the last layer that says anything counts."""
    layered = bootstrap["layered_runtime"]
    value, unseen = Place(None, layered.source, layered.path), None
    for layer in layered["layers"]:
        for name, place in _values(layer["static_layer"]):
            if name == key:
                value, unseen = place, None
        for kind in ("disk_layer", "rtds_layer"):
            unseen = layer[kind] if layer[kind].exists else unseen
    return RuntimeValue(value, unseen)


def _values(place: Place, above: str = "") -> Iterator[tuple[str, Place]]:
    """Give values with their keys, whether those are written with dots or as maps in maps; a fraction is a value."""
    for name, value in place.entries():
        if value.text or value["numerator"].exists:
            yield f"{above}{name}", value
        yield from _values(value, f"{above}{name}.")


def percent(fraction: Place) -> float:
    """Give a fraction in percent, also one that the runtime has as a plain number of them."""
    if fraction.number is not None:
        return fraction.number
    return (fraction["numerator"].number or 0) * 100 / _PERCENT.get(fraction["denominator"].text, 1_000_000)
