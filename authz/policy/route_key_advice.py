"""What to write instead of an unknown key of a route. Whoever does as he is told must not open the route.

Rules: what is a criterion, or belongs under `policy:`, is sent there; a key that restricts nothing is never offered
without saying so; nobody is told to delete what may have been meant to restrict. A plain key beside `policy:` lets in
by itself (`rule_reader.py`), so it has to move along.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from authz.document import Fields, Items, Node, Scalar, nearest, shorten
from authz.policy.criteria import CRITERIA
from authz.policy.plain_keys import PLAIN_KEYS

# Not `cors_preflight`: the plain key that is nearest to it says the same.
_CRITERIA: Final = tuple(name for name in CRITERIA if name != "cors_preflight")
_ABOUT_THE_REQUEST: Final = frozenset({
    "http_method", "http_path", "source_ip", "client_certificate", "date", "day_of_week", "time_of_day",
})  # fmt: skip
_EFFECTS: Final = ("allow", "deny")
_OPERATORS: Final = ("and", "or", "not", "nor")
_PUBLIC: Final = PLAIN_KEYS[0]
_DOORS: Final = (_PUBLIC, *PLAIN_KEYS[2:])  # the plain keys that let a caller in
_RESTRICTING: Final = ("from", "prefix", "path", "regex", "policy", *PLAIN_KEYS[3:])
_TYPO: Final = 0.8  # so near that it can hardly be anything else


def unknown_route_key(key: str, route: Fields, own: Collection[str], envoys: Collection[str]) -> str:
    """Say what the key is, or may be, and where it goes. `envoys` are the keys that restrict nothing here."""
    name, slash, _ = key.partition("/")
    if ":" in key and not slash:  # `cognito:groups`, `custom:tenant`
        return f"`{shorten(key)}` looks like a claim: {_as_criterion(f'claim/{key}', route)}"
    if name in _CRITERIA:
        written = key if name == "claim" and slash else name
        return f"`{shorten(key)}` is a criterion: {_as_criterion(written, route)}"
    if key in _EFFECTS:
        return f"`{key}` belongs under `policy:`: {_as_effect(key, route)}"
    if key in _OPERATORS:
        return f"`{key}` belongs under `policy:`: {_as_effect('allow', route, f'{{{key}: …}}')}"
    return f"unknown key `{shorten(key)}`{_hint(key, route, own, envoys)}"


def _hint(key: str, route: Fields, own: Collection[str], envoys: Collection[str]) -> str:
    word = key.partition("/")[0]
    restricting = nearest(word, (*_RESTRICTING, *_CRITERIA, *_EFFECTS))
    other = nearest(word, (*(name for name in own if name not in _RESTRICTING), *envoys), cutoff=_TYPO)
    near = nearest(word, [name for name in (restricting, other) if name is not None])
    if near is None:
        return ": neither ours nor Pomerium's: if it says who may pass, write that under `policy:`; if not, delete it"
    if near in envoys:
        return f"; did you mean `{near}`, which is Envoy's to do and restricts nothing here?"
    if near in own:
        return f"; did you mean `{near}`?"
    if near in _EFFECTS:
        return f"; did you mean `{near}`? It belongs under `policy:`: {_as_effect(near, route)}"
    return f"; did you mean the criterion `{near}`? If so, {_as_criterion(near, route)}"


def _as_criterion(name: str, route: Fields) -> str:
    shown = shorten("claim/NAME" if name == "claim" else name)
    if name == "invalid_client_certificate":  # in an `allow:` it would let in whom it is to keep out
        return f"write `policy: {{deny: {{or: [{{{shown}: …}}]}}}}`"
    if route.get("policy") is not None:
        return f"write `- {shown}: …` into the `and:` of each `allow:` under `policy:`{_move_along(route)}"
    caller = "{authenticated_user: true}, " if name in _ABOUT_THE_REQUEST and not _is_open(route, _PUBLIC) else ""
    return f"write `policy: {{allow: {{and: [{caller}{{{shown}: …}}]}}}}`{_move_along(route)}"


def _as_effect(effect: str, route: Fields, body: str = "…") -> str:
    along = _move_along(route) if effect == "allow" else ""
    if route.get("policy") is not None:
        return f"move it there{along}"
    return f"write `policy: {{{effect}: {body}}}`{along}"


def _move_along(route: Fields) -> str:
    """Warn of the plain keys that would let in whoever fails the new rule."""
    doors = [f"`{key}`" for key in _DOORS if _is_open(route, key)]
    return f"; beside it, {' or '.join(doors)} lets in by itself: make that a criterion there too" if doors else ""


def _is_open(route: Fields, key: str) -> bool:
    value: Node | None = route.get(key)
    if isinstance(value, Items):
        return bool(value.items)
    return value is not None and not (isinstance(value, Scalar) and value.value is False)
