"""Warnings and notes about one criterion: what it can never match, and what its author should know.

What the configuration causes (no e-mail in access tokens, …) is said once for the whole set, with the number of further
places, so that a long file is not drowned.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

from authz.errors import Problem, Severity
from authz.model import Source
from authz.node import Fields, Items, Problems, Scalar, describe, shorten
from authz.policy.criterion import Criterion
from authz.policy.matchers import string_matcher
from authz.policy.token_claims import ONLY_IN_ACCESS_TOKENS, ONLY_IN_ID_TOKENS
from authz.policy.value_advice import NEGATIVE, look_alike, odd_value, unquoted


@dataclass(frozen=True, slots=True)
class AcceptedTokens:
    """What the configuration says about tokens: of all pools together. The default rules nothing out."""

    uses: frozenset[str] = frozenset({"access", "id"})
    has_id_claims: bool = True  # an ID token is accepted, or adds its claims to the access token
    issuers: frozenset[str] | None = None  # None: not known
    clients: frozenset[str] | None = None  # None: every client
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)  # a claim → the first of these that is there

    def sources(self, claim: str) -> Sequence[str]:
        """Give the claims of the token that this one may be: those of its alias, and itself if Cognito has it."""
        listed = self.aliases.get(claim, (claim,))
        return (*listed, claim) if claim not in listed and _is_cognitos(claim) else listed

    def may_have(self, claim: str) -> bool:
        """Tell whether some accepted token has the claim, itself or from the ID token that adds its claims."""
        return bool(self._uses_with(self.sources(claim)))

    def use_without(self, sources: Sequence[str]) -> str | None:
        """Give a `token_use` that is accepted and has none of the claims, while others have; or None."""
        having = self._uses_with(sources)
        return min(self.uses - having, default=None) if having else None

    def _uses_with(self, sources: Sequence[str]) -> frozenset[str]:
        uses = self.uses | {"id"} if self.has_id_claims else self.uses
        return frozenset(use for use in uses if any(_carries(use, source) for source in sources))

    def attribute(self, claim: str) -> str | None:
        """Give the first custom attribute that a claim may be, or None."""
        return next((source for source in self.sources(claim) if source.startswith("custom:")), None)


class Advice:
    """The warnings and notes so far: for one place, or once for the whole set."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._once: dict[tuple[str, ...], tuple[Problem, set[Source]]] = {}

    def warn(
        self, source: Source, message: str, severity: Severity = Severity.WARNING, *, other: Source | None = None
    ) -> None:
        """Add a warning or a note for one place; `other` is a second one that the message names."""
        self._problems.append(Problem(source, message, severity, other))

    def warn_once(
        self,
        key: tuple[str, ...],
        source: Source,
        message: str,
        severity: Severity = Severity.WARNING,
        *,
        other: Source | None = None,
    ) -> None:
        """Add a warning for the first place with this key; of the others only the number is told."""
        self._once.setdefault(key, (Problem(source, message, severity, other), set()))[1].add(source)

    def problems(self) -> list[Problem]:
        """Give all of them."""
        return [*self._problems, *map(_with_count, self._once.values())]


def _with_count(said: tuple[Problem, set[Source]]) -> Problem:
    problem, places = said
    more = len(places) - 1
    count = f" (and at {more} more place{'s' if more > 1 else ''})" if more else ""
    return problem._replace(message=problem.message + count)


class CriterionAdviser:
    """Looks at criteria one by one; remembers how claim values were spelt before."""

    def __init__(self, advice: Advice, accepted: AcceptedTokens, *, checks_certificates: bool) -> None:
        self._warn = advice.warn
        self._warn_once = advice.warn_once
        self._accepted = accepted
        self._checks_certificates = checks_certificates
        self._spellings: dict[tuple[str, str], tuple[str, Source]] = {}  # (claim, folded value) → as first written

    def look_at(self, criterion: Criterion, what: str, *, plain: bool, lets_in: bool | None) -> None:
        """Advise on a criterion, which `what` names with its route.

        `plain`: it is one of a plain key, such as `allowed_users`. `lets_in`: True where it lets in whom it holds for,
        False where it keeps them out, None where it does neither alone.
        """
        kind = criterion.name.partition("/")[0]
        check = self._CHECKS.get(kind)
        if check is not None:
            check(self, criterion, what)
        for operator, value in operands(criterion):
            odd = odd_value(kind, operator, value.text, plain=plain)
            if odd is None and lets_in:
                odd = look_alike(kind, operator, value.text)
            if odd is not None:
                self._warn(value.source, f"{what}: {odd}")
        if lets_in is False:
            self._kept_out(kind, criterion, what)
        if lets_in is ({operator for operator, _ in operands(criterion)} == {"exclude"}):
            self._left_out(kind, criterion, what, is_denied=not lets_in)

    def _kept_out(self, kind: str, criterion: Criterion, what: str) -> None:
        """Advise on a criterion that keeps out whom it holds for."""
        if (kind in ("email", "domain") or criterion.name == "claim/email") and self._accepted.has_id_claims:
            self._warn_once(
                ("denied address",),
                criterion.source,
                f"{what}: holds for nobody whose token has no verified address, such as an access token, and users can "
                "change their own: to be sure, let in whom you know instead",
                Severity.NOTE,
            )
        elif kind == "auth_age":
            self._warn(
                criterion.source,
                f"{what}: keeps out whoever signed in lately, and nobody whose sign-in is old: write it in the allow "
                "rule, or under `not`",
            )

    def _left_out(self, kind: str, criterion: Criterion, what: str, *, is_denied: bool) -> None:
        """Advise on a claim that keeps callers out, where they choose between tokens with and without it."""
        if kind not in _OF_CLAIMS:
            return
        claim = _CLAIMS_READ.get(kind) or _claim_name(criterion)
        # The criterion reads the scopes of access tokens alone, whatever an alias makes of other claims.
        token_use = self._accepted.use_without((claim,) if kind == "scope" else self._accepted.sources(claim))
        if token_use is None or (is_denied and claim == "email"):
            return
        token = "an ID token" if token_use == "id" else "an access token"  # noqa: S105 - a kind of token
        alone = "" if "id" in self._accepted.uses else " that comes without its ID token"
        but = ", unless a group `<pool>_<provider>` names the provider" if kind == "identity_provider" else ""
        self._warn_once(
            ("left out", claim, str(is_denied)),
            criterion.source,
            f"{what}: holds for {'nobody' if is_denied else 'everybody'} whose token has no `{claim}`, such as {token}"
            f"{alone}{but}: to be sure, let in whom you know instead",
            Severity.NOTE,
        )

    def _address(self, criterion: Criterion, what: str) -> None:
        if not self._accepted.has_id_claims:
            self._warn_once(
                ("e-mail",),
                criterion.source,
                f"{what} can never match: only access tokens are accepted, and they carry no e-mail address: accept "
                "ID tokens, add one with `enrich_from`, or let a pre token generation trigger add `email` and "
                "`email_verified`",
            )
        for operator, value in operands(criterion):
            domain = value.text.rpartition("@")[2]
            if criterion.name == "domain" and "@" in value.text:
                self._warn(
                    value.source, f"{what}: `{shorten(value.text)}` never matches: write what follows the @, `{domain}`"
                )
            elif criterion.name == "email" and operator in (*EXACT, *NEGATIVE) and not {"@", "*"} & set(value.text):
                self._warn(value.source, f"{what}: `{shorten(value.text)}` is no e-mail address: write NAME@DOMAIN")
            elif value.text != value.text.lower():
                self._warn(
                    value.source,
                    f"{what}: addresses are compared with case, and most are written in lower case: write "
                    f"`{value.text.lower()}` unless your pool holds it like this",
                    Severity.NOTE,
                )

    def _claim(self, criterion: Criterion, what: str) -> None:
        claim = _claim_name(criterion)
        meant = _KNOWN_CLAIMS.get(_folded(claim), claim)
        if meant != claim and claim not in self._accepted.aliases:
            self._warn_once(
                ("claim", claim),
                criterion.source,
                f"{what}: `{claim}` is no claim of Cognito's; did you mean `{meant}`?",
            )
        elif self._accepted.attribute(claim) is not None:
            self._custom(claim, criterion, what)
        elif not self._accepted.may_have(claim):
            # Of the accepted tokens none carries any of its sources, so that one kind of token carries them all.
            source = self._accepted.sources(claim)[0]
            if self._accepted.has_id_claims:
                only, others, instead = "ID", "access", _IN_ID_TOKENS.get(source, "accept access tokens")
            else:
                only, others, instead = "access", "ID", _IN_ACCESS_TOKENS.get(source, _TRIGGER)
            self._warn_once(
                (f"{others} claim", claim),
                criterion.source,
                f"{what} can never match: only {only} tokens are accepted, and `{source}` is in {others} tokens: "
                f"{instead}",
            )
        for _, value in operands(criterion):
            self._claim_value(claim, value, what)

    def _custom(self, claim: str, criterion: Criterion, what: str) -> None:
        """Advise on a claim that may be a custom attribute."""
        # AWS, "Working with user attributes": custom attributes are writable by default, and the token of any
        # signed-in user with the scope aws.cognito.signin.user.admin writes them.
        attribute = self._accepted.attribute(claim)
        if attribute is None:
            return
        is_alone = all(source.startswith("custom:") for source in self._accepted.sources(claim))
        missing = _NO_CUSTOM if is_alone and not self._accepted.has_id_claims else ""
        if attribute == claim:
            whose, instead = "users may be able to write this attribute themselves", "or use a group"
        else:
            whose = (
                f"`claims:` takes `{attribute}` for `{claim}`, and users may be able to write that attribute themselves"
            )
            instead = "or out of the alias"
        self._warn_once(
            ("custom", claim),
            criterion.source,
            f"{what}: {whose}: take it out of the WriteAttributes of every app client of the pool, {instead}{missing}",
            Severity.NOTE,
        )

    def _claim_value(self, claim: str, value: Scalar, what: str) -> None:
        if isinstance(value.value, str):
            if claim in _BOOLEAN_CLAIMS and value.value in ("true", "false"):
                self._warn(
                    value.source,
                    f"{what}: found {describe(value)}, and Cognito sends `{claim}` as a boolean: write "
                    f"{value.text} without quotes",
                )
            first, where = self._spellings.setdefault((claim, value.value.casefold()), (value.value, value.source))
            if first != value.value:
                self._warn_once(
                    ("case", claim, value.value),
                    value.source,
                    f"{what}: `{shorten(value.value)}` differs from `{shorten(first)}` at {where} by case only, and "
                    "claims are compared with case: write one of them in both places",
                    other=where,
                )
        elif claim.startswith("custom:") or claim in _TEXT_CLAIMS:
            self._warn(
                value.source,
                f"{what}: found {describe(value)}, and Cognito sends `{claim}` as text: write '{value.text}' in quotes",
            )

    def _scope(self, criterion: Criterion, what: str) -> None:
        if "access" not in self._accepted.uses:
            self._warn_once(
                ("scope",),
                criterion.source,
                f"{what} can never match: only ID tokens are accepted, and they carry no scopes: accept access tokens",
            )
        else:
            self._custom("scope", criterion, what)

    def _identity_provider(self, criterion: Criterion, what: str) -> None:
        self._custom("cognito:groups", criterion, what)  # which names providers, too

    def _token_use(self, criterion: Criterion, what: str) -> None:
        self._never_matches(criterion, what, self._accepted.uses)

    def _issuer(self, criterion: Criterion, what: str) -> None:
        self._never_matches(criterion, what, self._accepted.issuers)

    def _client_id(self, criterion: Criterion, what: str) -> None:
        self._never_matches(criterion, what, self._accepted.clients)

    def _never_matches(self, criterion: Criterion, what: str, values: frozenset[str] | None) -> None:
        """Warn of a string matcher that no accepted value satisfies."""
        if values is None or criterion.data is None:
            return
        matcher = string_matcher(criterion.data, criterion.name, Problems())
        if matcher is not None and not any(map(matcher.test, values)):
            shown = ", ".join(f"`{shorten(value)}`" for value in sorted(values)[:3])
            self._warn(
                criterion.source,
                f"{what} can never match, because no accepted token has one that {matcher.wanted}: the configuration "
                f"accepts {shown}{', …' if len(values) > 3 else ''}",
            )

    def _http_method(self, criterion: Criterion, what: str) -> None:
        for _, value in operands(criterion):
            if value.text != value.text.upper() and unquoted(value.text) is None:
                self._warn(
                    value.source,
                    f"{what}: `{shorten(value.text)}` is no request's method, because they are upper-case: write "
                    f"`{value.text.upper()}`",
                )

    def _http_path(self, criterion: Criterion, what: str) -> None:
        for operator, value in operands(criterion):
            text = value.text
            if "?" in text:
                self._warn(
                    value.source,
                    f"{what}: the `?` in `{shorten(text)}` stands for an encoded one (`%3F`), because the query is not "
                    "part of the path: leave the query out",
                )
            elif (never := _never_in_path(operator, text)) is not None:
                self._warn(
                    value.source, f"{what}: the {never[0]} in `{shorten(text)}` is in no request's path{never[1]}"
                )
            elif operator in (*EXACT, *NEGATIVE, "starts_with") and not text.startswith("/") and unquoted(text) is None:
                self._warn(
                    value.source,
                    f"{what}: `{shorten(text)}` is no request's path, because every path starts with `/`: write "
                    f"`/{text}`",
                )

    def _client_certificate(self, criterion: Criterion, what: str) -> None:
        names = isinstance(criterion.data, Fields) and any(
            key.text.startswith("san_") for key, _ in criterion.data.entries
        )
        if names and not self._checks_certificates:
            self._warn_once(
                ("certificate",),
                criterion.source,
                f"{what}: compares names and does not check who issued the certificate, and the configuration has no "
                "`client_certificate_ca:`: set it and deny `invalid_client_certificate`, or be sure that Envoy demands "
                "certificates of your own authority",
                Severity.NOTE,
            )

    _CHECKS: ClassVar[Mapping[str, Callable[[CriterionAdviser, Criterion, str], None]]] = {
        "email": _address,
        "domain": _address,
        "claim": _claim,
        "groups": _claim,
        "scope": _scope,
        "identity_provider": _identity_provider,
        "token_use": _token_use,
        "issuer": _issuer,
        "client_id": _client_id,
        "http_method": _http_method,
        "http_path": _http_path,
        "client_certificate": _client_certificate,
    }


def operands(criterion: Criterion) -> Iterator[tuple[str, Scalar]]:
    """Give the values that the criterion compares with, each with its operator; a bare value is an `is`."""
    data = criterion.data
    entries = [(key.text, value) for key, value in data.entries] if isinstance(data, Fields) else [("is", data)]
    for operator, value in entries:
        items = value.items if isinstance(value, Items) else (value,)
        yield from ((operator, item) for item in items if isinstance(item, Scalar))


def _never_in_path(operator: str, text: str) -> tuple[str, str] | None:
    """Give what is in the text and in no canonical path, and what to do about it."""
    found = _REFUSED_IN_PATHS.search(text)
    if found is not None:
        what = f"`{found[0]}`" if found[0].isprintable() else "control character"
        return what, _INSTEAD.get(found[0], ", because such a request is refused: leave it out")
    # Only what stands between slashes, or ends the path, is a whole segment.
    names = text.split("/")[1 : -1 if operator in ("starts_with", "contains") else None]
    dots = next((name for name in names if name in (".", "..")), None)
    return None if dots is None else (f"segment `{dots}`", ", because such a request is refused: leave it out")


_REFUSED_IN_PATHS: Final = re.compile(r"//|[;\\\x00-\x1F\x7F]")
_INSTEAD: Final[Mapping[str, str]] = {
    "//": ", because such a request is refused: write `/`",
    ";": ", because parameters are refused, or removed before matching: leave them out",
}


def _claim_name(criterion: Criterion) -> str:
    return "cognito:groups" if criterion.name == "groups" else criterion.name.partition("/")[2]


EXACT: Final = frozenset({"is", "in", "has"})
"""The operators that name a value in full."""
_OF_CLAIMS: Final = frozenset({"claim", "groups", "scope", "identity_provider"})
_CLAIMS_READ: Final[Mapping[str, str]] = {"scope": "scope", "identity_provider": "identities"}
_TRIGGER: Final = "accept ID tokens, add one with `enrich_from`, or let a pre token generation trigger add it"
_NO_CUSTOM: Final = (
    "; and only access tokens are accepted, which carry no custom attribute unless `enrich_from` or a pre token "
    "generation trigger adds it"
)
_IN_ACCESS_TOKENS: Final[Mapping[str, str]] = {
    "cognito:username": "in access tokens it is `username`",
    "aud": "write the criterion `client_id`, which knows both",
}
_IN_ID_TOKENS: Final[Mapping[str, str]] = {
    "username": "in ID tokens it is `cognito:username`",
    "client_id": "write the criterion `client_id`, which knows both",
}
_BOOLEAN_CLAIMS: Final = frozenset({"email_verified", "phone_number_verified"})
_TEXT_CLAIMS: Final = frozenset(
    {"cognito:groups", "cognito:username", "username", "sub", "iss", "aud", "client_id", "scope", "email"}
)


def _folded(claim: str) -> str:
    return claim.casefold().translate(_MARKS)


def _carries(token_use: str, claim: str) -> bool:
    """Tell whether tokens of this use can have the claim without a trigger's help. Unknown claims are anybody's."""
    if claim in ONLY_IN_ACCESS_TOKENS:
        return token_use == "access"  # noqa: S105 - a kind of token
    return token_use == "id" or not (claim in ONLY_IN_ID_TOKENS or claim.startswith("custom:"))  # noqa: S105


def _is_cognitos(claim: str) -> bool:
    return claim.startswith("custom:") or _KNOWN_CLAIMS.get(_folded(claim)) == claim


_MARKS: Final = str.maketrans(".-_", ":::")
_KNOWN_CLAIMS: Final[Mapping[str, str]] = {
    _folded(claim): claim
    for claim in sorted(ONLY_IN_ACCESS_TOKENS | ONLY_IN_ID_TOKENS | _BOOLEAN_CLAIMS | _TEXT_CLAIMS)
}
