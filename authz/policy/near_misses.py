"""What nearly held: the likely mistake behind a condition that did not.

A hint has a short form without any value, which may go into a log, and a long one with values for whoever may see
them. Hints explain decisions; they never make one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from authz.model import Json, Principal, Reason
from authz.node import shorten
from authz.policy.caller_criteria import claim_values
from authz.policy.criterion import Criterion, Facts
from authz.policy.token_claims import ONLY_IN_ACCESS_TOKENS, ONLY_IN_ID_TOKENS

_OF_CLAIMS: Final = ("claim/", "groups")  # what `claims:` can split
MAX_EDITS: Final = 2
_MIN_LENGTH_FOR_EDITS: Final = 4
_MAX_LENGTH_FOR_EDITS: Final = 64
_MAX_VALUES: Final = 100


class Hint(NamedTuple):
    """A likely mistake, told without values and with them."""

    short: str
    long: str


def hint(criterion: Criterion, facts: Facts, reason: Reason) -> Hint | None:
    """Give the likely mistake behind a condition that did not hold, or None."""
    principal = facts.principal
    if reason is Reason.EMAIL_UNVERIFIED:
        text = "the e-mail address is not verified, so it does not count (`trust_unverified_email`)"
        return Hint(text, text)
    found = tuple(criterion.look(facts))[:_MAX_VALUES]
    if not found:
        return _missing(criterion, principal) if principal is not None and criterion.of_caller else None
    for expected in criterion.expects[:_MAX_VALUES]:
        for value in found:
            near = _near(expected, value, criterion)
            if near is not None:
                return near
    return None


def _missing(criterion: Criterion, principal: Principal) -> Hint | None:
    claim = _claim_name(criterion)
    # Only claims that a person gave lack it: a verified token has one.
    if claim == "identity_provider" and "iss" not in principal.claims and _has_providers_group(principal):
        text = "the claims have no `iss`, which names the pool that groups `<pool>_<provider>` belong to"
        return Hint(text, text)
    is_alone = "cognito:username" not in principal.claims  # every ID token has it, so none added its claims
    of_id_token = claim in ONLY_IN_ID_TOKENS or claim.startswith("custom:")
    if principal.token_use == "access" and is_alone and of_id_token:  # noqa: S105 - a kind of token
        text = f"an access token does not carry `{claim}`; ID tokens do, or a pre-token trigger adds it"
        return Hint(text, text)
    if principal.token_use == "id" and claim in ONLY_IN_ACCESS_TOKENS:  # noqa: S105
        text = f"an ID token does not carry `{claim}`; access tokens do"
        return Hint(text, text)
    wanted = claim.casefold()
    near = next((name for name in principal.claims if name != claim and name.casefold() == wanted), None)
    if near is None:
        near = next((name for name in list(principal.claims)[:_MAX_VALUES] if is_typo(claim, name)), None)
    if near is not None:
        return Hint("the token has a claim of a similar name", f"the token has a claim named `{shorten(near)}`")
    return None


def _has_providers_group(principal: Principal) -> bool:
    """Tell whether a group looks like `eu-west-1_AbCdEfGhI_Auth0`, in which Cognito puts a provider's people."""
    groups = claim_values(principal.claims, "cognito:groups")
    return any(isinstance(group, str) and group.count("_") >= 2 for group in groups)


def _claim_name(criterion: Criterion) -> str:
    """Give the claim that a criterion reads."""
    name, _, subpath = criterion.name.partition("/")
    return subpath or {"domain": "email", "groups": "cognito:groups", "user": "sub", "auth_age": "auth_time"}.get(
        name, name
    )


def _near(expected: Json, value: Json, criterion: Criterion) -> Hint | None:
    if type(expected) is not type(value):
        # Not a nested value: it may be nested deeper than `str` can follow.
        if isinstance(value, str | int | float) and str(expected) == str(value):
            kinds = f"{_kind(value)}, the policy wants {_kind(expected)}"
            return Hint(f"the value is {kinds}", f"`{shorten(str(value))}` is {kinds}")
        return None
    if not isinstance(expected, str) or not isinstance(value, str) or expected == value:
        return None
    if expected.casefold() == value.casefold():
        return Hint("differs by case only", f"`{shorten(value)}` differs from `{shorten(expected)}` by case only")
    if expected.strip() == value.strip():
        return Hint("differs by blanks only", f"`{shorten(value)}` differs from `{shorten(expected)}` by blanks only")
    if criterion.name.startswith(_OF_CLAIMS) and expected in value.strip("[]").replace(" ", ",").split(","):
        claim = _claim_name(criterion)
        split = '"[,]"' if value.startswith("[") and value.endswith("]") else '","' if "," in value else '" "'
        text = f"the claim is one text that holds a list; split it: claims: {{{claim}: {{split: {split}}}}}"
        return Hint("the claim is one text that holds a list; see `claims:` with `split`", text)
    if is_typo(expected, value):
        return Hint("differs by a letter or two", f"`{shorten(value)}` is nearly `{shorten(expected)}`: a typo?")
    return None


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return "text" if isinstance(value, str) else "a number" if isinstance(value, int | float) else "something else"


def is_typo(one: str, other: str) -> bool:
    """Tell whether two different texts are at most MAX_EDITS insertions, deletions or replacements apart."""
    if one == other or min(len(one), len(other)) < _MIN_LENGTH_FOR_EDITS:
        return False
    if max(len(one), len(other)) > _MAX_LENGTH_FOR_EDITS or abs(len(one) - len(other)) > MAX_EDITS:
        return False
    third = len(one) // 3
    if not any(part in other for part in (one[:third], one[third : 2 * third], one[2 * third :])):
        return False  # two edits leave one of three parts as it was
    return _within(one, other, MAX_EDITS)


def _within(one: str, other: str, edits: int) -> bool:
    """Tell whether at most that many edits make one text of the other.

    A table of all distances would take milliseconds a pair, and a caller may hold a hundred groups. Two edits branch
    at most 13 times, and each branch ends at its first differences.
    """
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    one, other = one[same:], other[same:]
    if not one or not other:
        return len(one) + len(other) <= edits
    if edits == 0:
        return False
    tries = ((one[1:], other[1:]), (one[1:], other), (one, other[1:]))
    return any(_within(shorter, longer, edits - 1) for shorter, longer in tries)
