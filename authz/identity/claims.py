"""Claims as they come, and as the configuration says they are meant (`claims:`).

An identity provider's list often arrives flattened to one text: Cognito writes `[a,b]` with every other character
form-encoded (AWS: "Specifying identity provider attribute mappings"). It is split only where the configuration says
so, never by guess. An alias gives one name to a claim that ID and access tokens name differently.

Names are looked up as policies do it, so that `acme.roles` is also what stands under `roles` in `acme`. The result has
the literal name, which policies look up first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_plus

from authz.model import Json, Principal, SignedClaims

BRACKETS = "[,]"
"""The way to split that takes brackets off, splits at commas and form-decodes the items."""

JUDGED_CLAIMS: Final = frozenset({
    "aud", "auth_time", "client_id", "email", "email_verified", "exp", "iat", "iss", "nbf", "sub", "token_use",
})  # fmt: skip
"""The claims by which the token itself is judged. Rules and headers must see them as they were signed."""


def address_of(claims: SignedClaims, *, trust_unverified: bool) -> tuple[str | None, bool]:
    """Give the e-mail address that counts, and whether there is one that does not.

    Users can change their own address, and a federated one is unverified unless it is mapped so. In tokens the flag is
    a boolean; the text `"true"` comes from elsewhere.
    """
    email = claims.get("email")
    if not isinstance(email, str) or not email:
        return None, False
    counts = trust_unverified or claims.get("email_verified") is True
    return (email, False) if counts else (None, True)


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
            for value in _found(name, claims):
                if isinstance(value, str):
                    claims[name] = split_claim(value, separator)
        for name, sources in self.aliases.items():
            there = [value for source in sources if _counts(source, principal) for value in _found(source, claims)]
            if there:
                claims[name] = there[0]
        return principal._replace(claims=claims)


def _counts(name: str, principal: Principal) -> bool:
    """Tell whether the claim may have a second name. An e-mail that does not count, or is none, must not."""
    if name != "email":
        return True
    return principal.claims.get("email") not in (None, "") and not principal.email_claim_is_unverified


def _found(name: str, claims: SignedClaims) -> tuple[Json, ...]:
    """Give the one value that policies see under the name; a map or empty list, which is none to them, if that is all.

    Empty where there is nothing, which `null` is not.
    """
    there = tuple(_under(name, claims))
    return next(((value,) for value in there if value != [] and not isinstance(value, Mapping)), there[:1])


def _under(name: str, claims: SignedClaims) -> Iterator[Json]:
    """Give everything that the name may stand for: the literal name alone, else each dotted path into nested maps."""
    if name in claims:
        yield claims[name]
        return
    for end, character in enumerate(name):
        inner = claims.get(name[:end]) if character == "." else None
        if isinstance(inner, Mapping):
            yield from _under(name[end + 1 :], inner)


def split_claim(text: str, separator: str) -> list[str]:
    """Split a flattened list. Empty items are nobody's: they are dropped."""
    if separator != BRACKETS:
        return [item for part in text.split(separator) if (item := part.strip(" "))]
    if not (text.startswith("[") and text.endswith("]")):
        # Cognito writes brackets, and encodes, only where the provider sends several values.
        return [text] if text.strip(" ") else []
    return [unquote_plus(item) for part in text[1:-1].split(",") if (item := part.strip(" "))]
