"""What loads, and probably does not do what its author thinks: warnings and notes, never errors.

Each says what was found, why it matters and what to write. What the configuration causes (no e-mail in access tokens,
…) is said once for the whole set, with the number of further places, so that a long file is not drowned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from authz.document import Fields, Items, Problems, Scalar, describe, shorten
from authz.errors import Problem, Severity
from authz.model import Source
from authz.policy.criteria import Criterion
from authz.policy.decision import Block, Effect, Operator, Policy
from authz.policy.matchers import string_matcher
from authz.policy.routes import PathKind, Route
from authz.policy.shadows import shadow_warnings, split_pattern


@dataclass(frozen=True, slots=True)
class AcceptedTokens:
    """What the configuration says about tokens: of all pools together. The default rules nothing out."""

    uses: frozenset[str] = frozenset({"access", "id"})
    has_id_claims: bool = True  # an ID token is accepted, or adds its claims to the access token
    issuers: frozenset[str] | None = None  # None: not known
    clients: frozenset[str] | None = None  # None: every client


def advise(routes: Sequence[Route], accepted: AcceptedTokens, *, checks_certificates: bool) -> list[Problem]:
    """Give the warnings and notes for a whole set. `checks_certificates`: there is a `client_certificate_ca:`."""
    adviser = _Adviser(accepted, checks_certificates)
    for route in routes:
        adviser.route(route)
    return [*dict.fromkeys(adviser.problems), *adviser.said_once(), *shadow_warnings(routes, lets_everyone_in)]


def lets_everyone_in(route: Route) -> bool:
    """Tell whether nobody needs to sign in: something always allows, and no denial looks at the caller."""
    return is_public(route.policy) and not _identity_denials(route.policy)


def is_public(policy: Policy) -> bool:
    """Tell whether some allow block holds for everyone."""
    return any(constant_truth(block) is True for block in policy.allow)


def _identity_denials(policy: Policy) -> list[Criterion]:
    return [criterion for block in policy.deny for criterion in block.criteria if criterion.of_caller]


_CONSTANTS: Final[Mapping[str, bool]] = {"accept": True, "reject": False}


def constant_truth(block: Block) -> bool | None:
    """Give what the block always is, whatever the request; None when that depends on it."""
    inverts = block.operator in (Operator.NOT, Operator.NOR)
    known = [_CONSTANTS.get(criterion.name) for criterion in block.criteria]
    members = [None if truth is None else truth is not inverts for truth in known]
    decisive = block.operator in (Operator.OR, Operator.NOR)  # one such member decides
    if decisive in members:
        return decisive
    return None if None in members else not decisive


class _Adviser:
    """Walks the routes once; `problems` are for one place, `_once` for the whole set."""

    def __init__(self, accepted: AcceptedTokens, checks_certificates: bool) -> None:
        self.problems: list[Problem] = []
        self._accepted = accepted
        self._checks_certificates = checks_certificates
        self._once: dict[tuple[str, ...], tuple[Problem, set[Source]]] = {}
        self._spellings: dict[tuple[str, str], tuple[str, Source]] = {}  # (claim, folded value) → as first written
        self._checks: Final[Mapping[str, Callable[[Criterion, str], None]]] = {
            "email": self._address,
            "domain": self._address,
            "claim": self._claim,
            "groups": self._claim,
            "scope": self._scope,
            "token_use": self._token_use,
            "issuer": self._issuer,
            "client_id": self._client_id,
            "http_method": self._http_method,
            "http_path": self._http_path,
            "client_certificate": self._client_certificate,
        }

    def said_once(self) -> Iterator[Problem]:
        for problem, places in self._once.values():
            more = len(places) - 1
            count = f" (and at {more} more place{'s' if more > 1 else ''})" if more else ""
            yield problem._replace(message=problem.message + count)

    def _warn(self, source: Source, message: str, severity: Severity = Severity.WARNING) -> None:
        self.problems.append(Problem(source, message, severity))

    def _warn_once(
        self, key: tuple[str, ...], source: Source, message: str, severity: Severity = Severity.WARNING
    ) -> None:
        self._once.setdefault(key, (Problem(source, message, severity), set()))[1].add(source)

    # --- a route ------------------------------------------------------------------------------------------------

    def route(self, route: Route) -> None:
        what = f"route `{route.name.label}`"
        self._path(route, what)
        self._public(route.policy, what)
        for effect, blocks in ((Effect.ALLOW, route.policy.allow), (Effect.DENY, route.policy.deny)):
            self._joined_by_or(effect, blocks, what)
            for block in blocks:
                self._block(effect, block, what)
                for criterion in block.criteria:
                    if not _is_plain_user(criterion, block):
                        self._criterion(criterion, f"{what}: {_called(criterion, block)}")

    def _path(self, route: Route, what: str) -> None:
        kind, text = route.path.kind, route.path.text
        source = route.path.source or route.source
        label = f"{what}: `{kind}`"
        if kind is PathKind.REGEX:
            self._regex(text, source, label)
        elif "*" in text:
            start = text.partition("*")[0]
            instead = f"`prefix: {start}`" if text == f"{start}*" else "`regex:` and `[^/]*` for one segment"
            self._warn(source, f"{label}: the `*` in `{shorten(text)}` is an ordinary character: write {instead}")

    def _regex(self, pattern: str, source: Source, label: str) -> None:
        shown = f"`{shorten(pattern)}`"
        start, rest = split_pattern(pattern)
        if r"\?" in pattern:
            self._warn(source, f"{label}: {shown} asks for a `?`, and the query is not part of the path: leave it out")
        elif start and not start.startswith("/"):
            self._warn(
                source,
                f"{label}: {shown} never matches, because every path starts with `/`: write "
                f"`/{pattern.removeprefix('^')}`",
            )
        elif start and not rest:
            self._warn(
                source,
                f"{label}: {shown} takes the path `{start}` alone, because a regex must cover the whole path: write "
                f"`path: {start}`, or `prefix: {start}` if everything below is meant",
            )
        elif rest in (".*", ".*$") and start in ("", "/"):
            self._warn(source, f"{label}: {shown} takes every path: leave it out, which means the same", Severity.NOTE)

    def _public(self, policy: Policy, what: str) -> None:
        denials = _identity_denials(policy)
        if denials and is_public(policy):
            self._warn(
                denials[0].source,
                f"{what}: the deny rule's `{denials[0].name}` asks everyone to sign in, so the route is not public: "
                "give what is denied a route of its own above this one, or delete the public access",
            )
        elif denials and any(c.name == "cors_preflight" for block in policy.allow for c in block.criteria):
            self._warn(
                denials[0].source,
                f"{what}: the deny rule's `{denials[0].name}` asks for a sign-in, and a CORS preflight never carries "
                "a token, so preflights are answered 401: turn it into a condition of the allow rule",
            )
        if is_public(policy):
            useless = [
                criterion
                for block in policy.allow
                if block.rule is not None
                for criterion in block.criteria
                if criterion.name != "accept"
            ]
            if useless:
                self._warn(
                    useless[0].source,
                    f"{what}: `{useless[0].name}` has no effect, because allow rules are joined by or and another one "
                    "lets everyone in: delete it, or the public access",
                )

    def _joined_by_or(self, effect: Effect, blocks: Sequence[Block], what: str) -> None:
        rules: dict[Source, dict[Operator, Block]] = {}
        for block in blocks:
            if block.rule is not None:
                rules.setdefault(block.rule, {}).setdefault(block.operator, block)
        for rule in rules.values():
            if len(rule) > 1:
                kept = min(rule, key=list(Operator).index)
                others = [operator for operator in rule if operator is not kept]
                found = " and ".join(f"`{operator}`" for operator in rule)
                self._warn(
                    next(iter(rule.values())).source,
                    f"{what}: `{effect}`: {found} in one rule are joined by or: {_instead(effect, kept, others)}",
                )

    def _block(self, effect: Effect, block: Block, what: str) -> None:
        if constant_truth(block) is False:
            names = ", ".join(f"`{criterion.name}`" for criterion in block.criteria if criterion.name in _CONSTANTS)
            if effect is Effect.DENY:
                why = "so the rule denies nobody: to deny everyone write `deny: {or: [{accept: true}]}`"
            else:
                why = "so it allows nobody: delete it"
            self._warn(block.source, f"{what}: `{effect}`: `{block.operator}` with {names} never holds, {why}")
        if block.operator is Operator.AND:
            self._contradictions(block, what)

    def _contradictions(self, block: Block, what: str) -> None:
        """Warn of two values wanted of the same thing, of which a request has one."""
        wanted: dict[str, frozenset[str]] = {}
        for criterion in block.criteria:
            texts = _exact_texts(criterion) if criterion.name in _SINGLE else None
            if texts is None:
                continue
            before = wanted.setdefault(criterion.name, texts)
            wanted[criterion.name] = before & texts
            if before and texts and not before & texts:
                name = criterion.name
                self._warn(
                    criterion.source,
                    f"{what}: `{name}` never holds together with the one above it, because a request has one value: "
                    f"for either write {{{name}: {{in: [{', '.join(sorted(before | texts))}]}}}}",
                )

    # --- a criterion --------------------------------------------------------------------------------------------

    def _criterion(self, criterion: Criterion, what: str) -> None:
        check = self._checks.get(criterion.name.partition("/")[0])
        if check is not None:
            check(criterion, what)
        instead = _WITHOUT_STAR.get(criterion.name.partition("/")[0])
        for operator, value in _operands(criterion) if instead is not None else ():
            if operator in _EXACT and "*" in (value.text[:1], value.text[-1:]):
                self._warn(
                    value.source,
                    f"{what}: the `*` in `{shorten(value.text)}` is an ordinary character here: {instead}",
                )

    def _address(self, criterion: Criterion, what: str) -> None:
        if not self._accepted.has_id_claims:
            self._warn_once(
                ("e-mail",),
                criterion.source,
                f"{what} can never match: only access tokens are accepted, and they carry no e-mail address: accept "
                "ID tokens, or let a pre token generation trigger add `email` and `email_verified`",
            )
        for operator, value in _operands(criterion):
            domain = value.text.rpartition("@")[2]
            if criterion.name == "domain" and "@" in value.text:
                self._warn(
                    value.source, f"{what}: `{shorten(value.text)}` never matches: write what follows the @, `{domain}`"
                )
            elif criterion.name == "email" and operator in _EXACT and "@" not in value.text:
                self._warn(value.source, f"{what}: `{shorten(value.text)}` is no e-mail address: write NAME@DOMAIN")
            elif domain != domain.lower():
                self._warn(
                    value.source,
                    f"{what}: addresses are compared with case, and most are written in lower case: write "
                    f"`{value.text.removesuffix(domain)}{domain.lower()}` unless your pool holds it like this",
                    Severity.NOTE,
                )

    def _claim(self, criterion: Criterion, what: str) -> None:
        claim = _claim_name(criterion)
        if claim.startswith("custom:"):
            self._custom(claim, criterion, what)
        elif claim in _ONLY_IN_ID_TOKENS and not self._accepted.has_id_claims:
            self._warn_once(
                ("id claim", claim),
                criterion.source,
                f"{what} can never match: only access tokens are accepted, and `{claim}` is in ID tokens: "
                f"{_ONLY_IN_ID_TOKENS[claim]}",
            )
        elif claim in _ONLY_IN_ACCESS_TOKENS and "access" not in self._accepted.uses:
            self._warn_once(
                ("access claim", claim),
                criterion.source,
                f"{what} can never match: only ID tokens are accepted, and `{claim}` is in access tokens: "
                f"{_ONLY_IN_ACCESS_TOKENS[claim]}",
            )
        for _, value in _operands(criterion):
            self._claim_value(claim, value, what)

    def _custom(self, claim: str, criterion: Criterion, what: str) -> None:
        # AWS, "Working with user attributes": custom attributes are writable by default, and the token of any
        # signed-in user with the scope aws.cognito.signin.user.admin writes them.
        missing = "" if self._accepted.has_id_claims else _NO_CUSTOM
        self._warn_once(
            ("custom", claim),
            criterion.source,
            f"{what}: users may be able to write this attribute themselves: take it out of the WriteAttributes of "
            f"every app client of the pool, or use a group{missing}",
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
        for _, value in _operands(criterion):
            if value.text != value.text.upper():
                self._warn(
                    value.source,
                    f"{what}: `{shorten(value.text)}` is no request's method, because they are upper-case: write "
                    f"`{value.text.upper()}`",
                )

    def _http_path(self, criterion: Criterion, what: str) -> None:
        for operator, value in _operands(criterion):
            text = value.text
            if "?" in text:
                self._warn(
                    value.source,
                    f"{what}: the `?` in `{shorten(text)}` stands for an encoded one (`%3F`), because the query is not "
                    "part of the path: leave the query out",
                )
            elif operator in (*_EXACT, *_NEGATIVE, "starts_with") and not text.startswith("/"):
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


def _instead(effect: Effect, kept: Operator, others: Sequence[Operator]) -> str:
    """Say what to write for several operators in one rule that are all meant to hold."""
    if effect is Effect.DENY:
        return (
            "each of them denies on its own; if all must hold, write one operator and turn the conditions around with "
            "`not` or `exclude` in their matchers; if any may, write one rule for each"
        )
    denials = ", ".join(f"`deny: {{{_OPPOSITE[other]}: […]}}` with the list of `{other}`" for other in others)
    return (
        f"each of them allows on its own, so nobody is kept out by the other; if all must hold, keep `{kept}` and "
        f"write {denials}; if any may, write one rule for each"
    )


_OPPOSITE: Final[Mapping[Operator, Operator]] = {
    Operator.AND: Operator.NOR,
    Operator.OR: Operator.NOT,
    Operator.NOT: Operator.OR,
    Operator.NOR: Operator.AND,
}
_SINGLE: Final = frozenset({"http_method", "http_path", "user", "email", "domain", "client_id", "token_use", "issuer"})
"""What a request has one of."""
_EXACT: Final = frozenset({"is", "in", "has"})
_NEGATIVE: Final = frozenset({"not", "not_in", "exclude"})
_FOR_MANY: Final = "write `allowed_domains` for a whole domain, or `allow_any_authenticated_user: true` for everyone"
_WITHOUT_STAR: Final[Mapping[str, str]] = {
    "user": _FOR_MANY,
    "email": _FOR_MANY,
    "domain": "write {ends_with: .DOMAIN} under `policy:`",
    "claim": "write each value",
    "groups": "write each group",
    "scope": "write {starts_with: …}",
    "client_id": "write each app client, or leave the criterion out",
    "http_method": "write each method, or leave the criterion out",
    "http_path": "write {starts_with: …}",
}


def _operands(criterion: Criterion) -> Iterator[tuple[str, Scalar]]:
    """Give the values that the criterion compares with, each with its operator; a bare value is an `is`."""
    data = criterion.data
    entries = [(key.text, value) for key, value in data.entries] if isinstance(data, Fields) else [("is", data)]
    for operator, value in entries:
        items = value.items if isinstance(value, Items) else (value,)
        yield from ((operator, item) for item in items if isinstance(item, Scalar))


def _exact_texts(criterion: Criterion) -> frozenset[str] | None:
    """Give the texts of `is` or `in`; None when the criterion does not name them all."""
    operands = list(_operands(criterion))
    if not operands or any(operator not in _EXACT for operator, _ in operands):
        return None
    if len({operator for operator, _ in operands}) > 1:
        return None
    return frozenset(value.text for _, value in operands)


def _claim_name(criterion: Criterion) -> str:
    return "cognito:groups" if criterion.name == "groups" else criterion.name.partition("/")[2]


def _is_plain_user(criterion: Criterion, block: Block) -> bool:
    """Tell whether this is the e-mail half of an entry of `allowed_users` that is no address."""
    return (
        block.rule is None
        and criterion.name == "email"
        and isinstance(criterion.data, Scalar)
        and "@" not in criterion.data.text
    )


def _called(criterion: Criterion, block: Block) -> str:
    """Name a criterion as its author wrote it: the plain keys are criteria too."""
    if block.rule is None:
        kind, _, claim = criterion.name.partition("/")
        key = _PLAIN_KEYS.get(kind)
        if key is not None:
            return f"`{key}`: `{claim}`" if claim else f"`{key}`"
    return f"`{criterion.name}`"


_PLAIN_KEYS: Final[Mapping[str, str]] = {
    "claim": "allowed_idp_claims",
    "domain": "allowed_domains",
    "email": "allowed_users",
    "user": "allowed_users",
}
_TRIGGER: Final = "accept ID tokens, or let a pre token generation trigger add it"
_NO_CUSTOM: Final = (
    "; and only access tokens are accepted, which carry no custom attribute unless a pre token generation trigger "
    "adds it"
)
_ONLY_IN_ID_TOKENS: Final[Mapping[str, str]] = {
    "cognito:username": "in access tokens it is `username`",
    **dict.fromkeys(
        (
            "address", "birthdate", "email", "email_verified", "family_name", "gender", "given_name", "identities",
            "locale", "middle_name", "name", "nickname", "phone_number", "phone_number_verified", "picture",
            "preferred_username", "profile", "updated_at", "website", "zoneinfo",
        ),
        _TRIGGER,
    ),
}  # fmt: skip
_ONLY_IN_ACCESS_TOKENS: Final[Mapping[str, str]] = {
    "username": "in ID tokens it is `cognito:username`",
    "client_id": "write the criterion `client_id`, which knows both",
    "scope": "accept access tokens",
}
_BOOLEAN_CLAIMS: Final = frozenset({"email_verified", "phone_number_verified"})
_TEXT_CLAIMS: Final = frozenset(
    {"cognito:groups", "cognito:username", "username", "sub", "iss", "aud", "client_id", "scope", "email"}
)
