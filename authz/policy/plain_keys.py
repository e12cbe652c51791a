"""A route's six plain keys (`allowed_users` and its kin), written as the criteria that they stand for."""

from __future__ import annotations

from typing import Final

from authz.breath import breathe
from authz.node import Fields, Items, Node, Problems, Scalar, describe
from authz.policy.matchers import claim_value
from authz.reading import boolean_of, list_of, text_of

PLAIN_KEYS: Final = (
    "allow_public_unauthenticated_access",
    "cors_allow_preflight",
    "allow_any_authenticated_user",
    "allowed_users",
    "allowed_domains",
    "allowed_idp_claims",
)


def plain_criteria(node: Fields, what: str, problems: Problems) -> list[Fields]:
    """Write the six plain keys as criteria, in Pomerium's order, each at the place of its value."""
    public, preflight, any_user = (_is_on(node, key, what, problems) for key in PLAIN_KEYS[:3])
    users, domains = (_texts(node, key, what, problems) for key in PLAIN_KEYS[3:5])
    claims = _claims(node, what, problems)
    _refuse_conflicts(node, what, public is not None, any_user is not None, problems)
    criteria = [
        _criterion(name, switch)
        for name, switch in (("accept", public), ("cors_preflight", preflight), ("authenticated_user", any_user))
        if switch is not None
    ]
    for domain in domains:
        if "@" in domain.text:
            problems.error(domain, f"{what}: `allowed_domains`: found `{domain.text}`: write what follows the @")
        criteria.append(_criterion("domain", domain))
    criteria += [_criterion(f"claim/{name}", value) for name, value in claims]
    for user in users:
        criteria += [_criterion("user", user), _criterion("email", user)]
    if public is not None and claims:
        problems.warn(
            claims[0][1].source,
            f"{what}: `allowed_idp_claims` has no effect on a public route: delete one of the two",
        )
    return criteria


def _is_on(node: Fields, key: str, what: str, problems: Problems) -> Scalar | None:
    value = node.get(key)
    if value is None:
        return None
    return value if boolean_of(value, f"{what}: `{key}`", problems) and isinstance(value, Scalar) else None


def _texts(node: Fields, key: str, what: str, problems: Problems) -> list[Scalar]:
    value = node.get(key)
    if value is None:
        return []
    label = f"{what}: `{key}`"
    return [
        item
        for item in list_of(value, label, problems)
        if text_of(item, label, problems) is not None and isinstance(item, Scalar)
    ]


def _claims(node: Fields, what: str, problems: Problems) -> list[tuple[str, Node]]:
    value = node.get("allowed_idp_claims")
    if value is None:
        return []
    label = f"{what}: `allowed_idp_claims`"
    if not isinstance(value, Fields):
        problems.error(value, f"{label}: found {describe(value)}, expected a map (`cognito:groups: [admins]`)")
        return []
    found: list[tuple[str, Node]] = []
    for key, values in value.entries:
        name = f"{label}: `{key.text}`"
        if not key.text:
            problems.error(key, f"{label}: found an empty key, expected a claim's name")
            continue
        if isinstance(values, Fields):
            problems.error(values, f"{name}: found a map: a nested claim is named with dots (`{key.text}.NAME`)")
            continue
        for item in list_of(values, name, problems):
            if isinstance(item, Fields):
                problems.error(
                    item,
                    f"{name}: found a map, expected a value: operators stand under `policy:`, as "
                    f"`claim/{key.text}: {{has: …}}`",
                )
            elif claim_value(item, name, problems) is not None:
                found.append((key.text, item))
    return sorted(found, key=lambda pair: pair[0])


def _refuse_conflicts(node: Fields, what: str, public: bool, any_user: bool, problems: Problems) -> None:
    winner = PLAIN_KEYS[0] if public else PLAIN_KEYS[2] if any_user else None
    if winner is None:
        return
    for key, value in node.entries:
        clashes = key.text in ("allowed_users", "allowed_domains") and not (
            isinstance(value, Items) and not value.items
        )
        clashes = clashes or (public and any_user and key.text == PLAIN_KEYS[2])
        if clashes:
            problems.error(
                key, f"{what}: `{key.text}` beside `{winner}: true`, which lets in more: delete one of the two"
            )


def _criterion(name: str, value: Node) -> Fields:
    breathe()
    return Fields(value.source, ((Scalar(value.source, name, name), value),))
