"""What Envoy's `HeaderMutation` does to one request header, wherever such a list stands."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from authz.workbench.doctor.matching import string_matches
from authz.workbench.doctor.place import Place, family, unwrapped

# Enumerations may be written as numbers; the default is APPEND_IF_EXISTS_OR_ADD.
_OVERWRITES: Final = frozenset({"OVERWRITE_IF_EXISTS_OR_ADD", "2"})
_ADDS: Final = frozenset({"", "APPEND_IF_EXISTS_OR_ADD", "0", "ADD_IF_ABSENT", "1"})
_OF_ANSWERS: Final = frozenset({
    "response_mutations", "responseMutations", "response_trailers_mutations", "responseTrailersMutations",
})  # fmt: skip
_OF_CLIENTS: Final = ("%REQ", "%PATH", "%QUERY")  # as a value's formatter reads a request; REQ, REQUEST_HEADER …


def early_mutations(manager: Place) -> Iterator[Place]:
    """Give a connection manager's mutations that come before routing and before every filter."""
    for extension in manager["early_header_mutation_extensions"]:
        kind, config = unwrapped(extension["typed_config"])
        if family(kind) == "header_mutation":
            yield from config["mutations"]


def removes(mutation: Place, name: str) -> bool:
    """Tell whether a mutation takes a header off."""
    if mutation["remove"].exists:
        return mutation["remove"].text.lower() == name
    return string_matches(mutation["remove_on_match"]["key_matcher"], name)


def overwritten_with(mutation: Place, name: str) -> str | None:
    """Give the value that a mutation puts in a header's place whether it was there or not; None without one."""
    return _put(mutation, name, _OVERWRITES)


def added_with(mutation: Place, name: str) -> str | None:
    """Give the value that a mutation gives to a header that is not there and may leave alone otherwise."""
    return _put(mutation, name, _ADDS)


def changes_requests(config: Place) -> bool:
    """Tell whether a `header_mutation` filter's configuration changes more than answers."""
    parts = ((field, value) for field, value in config["mutations"].entries() if field not in _OF_ANSWERS)
    return any(True for _, value in parts for _ in value)


def reads_request(value: str) -> bool:
    """Tell whether a value holds something that clients send."""
    return any(word in value for word in _OF_CLIENTS)


def _put(mutation: Place, name: str, actions: Collection[str]) -> str | None:
    append = mutation["append"]
    if append["header"]["key"].text.lower() != name or append["append_action"].text not in actions:
        return None
    return append["header"]["value"].text
