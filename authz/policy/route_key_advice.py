"""What to write instead of an unknown key of a route. Whoever does as he is told must not open the route.

Rules: what is a criterion, or belongs under `policy:`, is sent there; what opens a route or restricts nothing is only
offered for what can hardly mean anything else; nobody is told to delete what may have been meant to restrict. Where
something lets callers in already, a plain key or a rule, another allow would only let in more: a criterion becomes a
`deny:` of whoever does not meet it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from authz.node import Fields, Items, Node, Scalar, shorten
from authz.policy.criteria import CRITERIA
from authz.policy.instead import is_negation
from authz.policy.plain_keys import PLAIN_KEYS
from authz.reading import nearest

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
    if is_negation(word):  # whatever lets somebody in is the opposite
        near = nearest(word, filter(is_negation, own), cutoff=_TYPO)
        return (
            f"; did you mean `{near}`?"
            if near
            else ": if it says who may not pass, write that as a `deny:` under `policy:`"
        )
    restricting = nearest(word, (*_RESTRICTING, *_CRITERIA, *_EFFECTS))
    candidates = [name for name in own if name not in _RESTRICTING and (name != _PUBLIC or "unauth" in word.lower())]
    other = nearest(word, (*candidates, *envoys), cutoff=_TYPO)
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
    is_misuse = name == "invalid_client_certificate"  # which nobody is to meet
    rule = f"deny: {{{'or' if is_misuse else 'not'}: [{{{shown}: {'true' if is_misuse else '…'}}}]}}"
    if route.get("policy") is not None:
        return f"add the rule `{rule}` to `policy:`"
    if is_misuse or any(_is_open(route, key) for key in _DOORS):
        return f"write `policy: {{{rule}}}`"
    caller = "{authenticated_user: true}, " if name in _ABOUT_THE_REQUEST else ""
    return f"write `policy: {{allow: {{and: [{caller}{{{shown}: …}}]}}}}`"


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
