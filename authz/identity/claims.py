"""Claims as they come, and as the configuration says they are meant (`claims:`).

An identity provider's list often arrives flattened to one text: Cognito writes `[a,b]` with every other character
form-encoded (AWS: "Specifying identity provider attribute mappings"). It is split only where the configuration says
so, never by guess. An alias gives one name to a claim that ID and access tokens name differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from authz.model import Json, Principal

BRACKETS = "[,]"
"""The way to split that takes brackets off, splits at commas and form-decodes the items."""


@dataclass(frozen=True, slots=True)
class ClaimShapes:
    """What to make of which claim."""

    splits: Mapping[str, str] = field(default_factory=dict)  # claim → one character, or BRACKETS
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)  # new name → the first of these that is there

    def shape(self, principal: Principal) -> Principal:
        """Give the principal with its claims in the configured shapes."""
        if not self.splits and not self.aliases:
            return principal
        claims: dict[str, Json] = dict(principal.claims)
        for name, separator in self.splits.items():
            value = claims.get(name)
            if isinstance(value, str):
                claims[name] = split_claim(value, separator)
        for name, sources in self.aliases.items():
            found = next((source for source in sources if _counts(source, claims, principal)), None)
            if found is not None:
                claims[name] = claims[found]
        return principal._replace(claims=claims)


def _counts(name: str, claims: Mapping[str, Json], principal: Principal) -> bool:
    """Tell whether the claim is there. An e-mail that does not count must not get a second name."""
    return name in claims and (name != "email" or principal.email is not None)


def split_claim(text: str, separator: str) -> list[str]:
    """Split a flattened list. Empty items are nobody's: they are dropped."""
    if separator != BRACKETS:
        return [item for part in text.split(separator) if (item := part.strip(" "))]
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [unquote_plus(item) for part in inner.split(",") if (item := part.strip(" "))]
