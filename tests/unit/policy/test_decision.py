"""From criteria to a decision: operators, rules, and the order of outcomes (reference/pomerium.md section 3.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.errors import TokenError
from authz.model import Allow, Decision, Deny, Principal, Reason, Source, http_status
from authz.policy.criterion import CriteriaContext
from authz.policy.decision import Block, Judgement, Operator, join_blocks, judge_block
from authz.policy.parser import PolicyOptions
from tests.support.policies import decide_text, policy_set, ppl, principal, route_with

ALICE = principal(groups=["admins"], email="alice@example.com")
EXPIRED = TokenError(Reason.TOKEN_EXPIRED, "expired 40 s ago")
NO_KEYS = TokenError(Reason.KEYS_UNAVAILABLE, "no keys yet")


def outcome(decision: Decision) -> tuple[str, *tuple[str, ...]]:
    return ("allow" if isinstance(decision, Allow) else "deny", *decision.reasons)


def asked(rules: str, caller: Principal | None = None, error: TokenError | None = None) -> tuple[str, ...]:
    """Decide a GET of `/` by PPL rules; give `allow` or `deny` and the reasons."""
    return outcome(decide_text(ppl(rules), caller, credential_error=error))


# --- Blocks ----------------------------------------------------------------------------------------------------------

MEANING = {
    Operator.AND: all,
    Operator.OR: any,
    Operator.NOT: lambda truths: not any(truths),
    Operator.NOR: lambda truths: not all(truths),
}
REASONS = (Reason.USER_OK, Reason.EMAIL_UNAUTHORIZED, Reason.CLAIM_OK)


@pytest.mark.parametrize("operator", Operator)
@pytest.mark.parametrize("truths", [truths for n in (1, 2, 3) for truths in product((True, False), repeat=n)], ids=str)
def test_an_operator_means_what_its_name_says_in_pomerium(operator: Operator, truths: tuple[bool, ...]) -> None:
    findings = list(zip(truths, REASONS, strict=False))
    judged = judge_block(operator, findings)
    assert judged.holds is MEANING[operator](truths)
    inverted = operator in {Operator.NOT, Operator.NOR}
    assert judged.reasons == tuple(reason for truth, reason in findings if (truth != inverted) is judged.holds)
    assert judged.reasons


def test_a_reason_is_given_once() -> None:
    assert judge_block(Operator.OR, [(True, Reason.USER_OK)] * 2).reasons == (Reason.USER_OK,)


def test_a_block_without_criteria_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="nothing to check is not a pass"):
        Block(Operator.AND, (), Source("f", 1, 1))


def test_blocks_are_joined_by_or_and_none_is_false() -> None:
    yes = Judgement(True, (Reason.USER_OK, Reason.CLAIM_OK))
    also = Judgement(True, (Reason.CLAIM_OK, Reason.EMAIL_OK))
    no = Judgement(False, (Reason.REJECT,))
    assert join_blocks([]) == (False, ())
    assert join_blocks([yes]) is yes
    assert join_blocks([yes, no, also]) == (True, (Reason.USER_OK, Reason.CLAIM_OK, Reason.EMAIL_OK))
    assert join_blocks([no, no]) == (False, (Reason.REJECT,))


# --- Keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "caller", "expected"),
    [
        ("allow_public_unauthenticated_access: true", None, ("allow", "accept")),
        ("allow_public_unauthenticated_access: true", ALICE, ("allow", "accept")),
        ("allow_public_unauthenticated_access: false", ALICE, ("deny", "no-rule")),
        ("allow_any_authenticated_user: true", ALICE, ("allow", "user-ok")),
        ("allow_any_authenticated_user: true", None, ("deny", "user-unauthenticated")),
        ("cors_allow_preflight: true", ALICE, ("deny", "non-cors-request")),
        ("cors_allow_preflight: true", None, ("deny", "non-cors-request")),
        ("allowed_users: [alice@example.com]", ALICE, ("allow", "email-ok")),
        (f"allowed_users: [{ALICE.subject}]", ALICE, ("allow", "user-ok")),
        ("allowed_users: [bob@example.com]", ALICE, ("deny", "user-unauthorized", "email-unauthorized")),
        ("allowed_users: [alice@example.com]", None, ("deny", "user-unauthenticated")),
        ("allowed_users: []", ALICE, ("deny", "no-rule")),
        ("allowed_domains: [example.com]", ALICE, ("allow", "domain-ok")),
        ("allowed_domains: example.com", ALICE, ("allow", "domain-ok")),
        ("allowed_domains: [other.com]", ALICE, ("deny", "domain-unauthorized")),
        ("allowed_idp_claims: {'cognito:groups': [ops, admins]}", ALICE, ("allow", "claim-ok")),
        ("allowed_idp_claims: {'cognito:groups': admins, x: y}", ALICE, ("allow", "claim-ok")),
        ("allowed_idp_claims: {'cognito:groups': [Admins]}", ALICE, ("deny", "claim-unauthorized")),
        ("allowed_idp_claims: {}", ALICE, ("deny", "no-rule")),
        (
            "allowed_domains: [other.com]\nallowed_idp_claims: {x: [y]}\nallowed_users: [z]",
            ALICE,
            ("deny", "domain-unauthorized", "claim-unauthorized", "user-unauthorized", "email-unauthorized"),
        ),
        ("allowed_domains: [other.com]\npolicy: {allow: {or: [{accept: }]}}", None, ("allow", "accept")),
        ("allowed_domains: [other.com]\npolicy: {allow: {or: [{accept: }]}}", ALICE, ("allow", "accept")),
        ("to: http://upstream", ALICE, ("deny", "no-rule")),
        ("policy: []", ALICE, ("deny", "no-rule")),
        ("policy: {allow: {and: [], or: [], not: [], nor: []}}", ALICE, ("deny", "no-rule")),
        ("policy: {allow: {}}", None, ("deny", "no-rule")),
        ("policy: {deny: {or: [{reject: }]}}", ALICE, ("deny", "no-rule")),
    ],
)
def test_the_keys_of_a_route(keys: str, caller: Principal | None, expected: tuple[str, ...]) -> None:
    assert outcome(decide_text(route_with(keys), caller)) == expected


def test_the_plain_keys_of_one_route_are_one_rule() -> None:
    route = policy_set(
        route_with("cors_allow_preflight: true\nallowed_users: [a]\nallowed_domains: [b]")
    ).routes.routes[0]
    assert [[criterion.name for criterion in block.criteria] for block in route.policy.allow] == [
        ["cors_preflight", "domain", "user", "email"]
    ]


# --- PPL -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "caller", "expected"),
    [
        # several operators of one rule, and several rules, are joined by or
        ("- allow: {and: [{authenticated_user: }], not: [{domain: example.com}]}", ALICE, ("allow", "user-ok")),
        ("- allow: {and: [{reject: }], or: [{accept: }]}", None, ("allow", "accept")),
        ("- allow: {and: [{reject: }]}\n- allow: {or: [{accept: }]}", None, ("allow", "accept")),
        ("{allow: {or: [{accept: }]}, deny: {or: [{reject: }]}}", None, ("allow", "accept")),
        ("- allow: {action: allow, or: [{accept: }]}", None, ("allow", "accept")),
        # not: none of them; nor: not all of them
        ("- allow: {not: [{http_method: GET}, {reject: }]}", None, ("deny", "http-method-ok")),
        ("- allow: {nor: [{http_method: GET}, {reject: }]}", None, ("allow", "reject")),
        ("- allow: {not: [{http_method: POST}, {reject: }]}", None, ("allow", "http-method-unauthorized", "reject")),
        ("- allow: {nor: [{http_method: GET}, {accept: }]}", None, ("deny", "http-method-ok", "accept")),
        # deny beats allow whatever the order
        ("- allow: {or: [{accept: }]}\n- deny: {or: [{http_method: GET}]}", ALICE, ("deny", "http-method-ok")),
        ("- deny: {or: [{http_method: GET}]}\n- allow: {or: [{accept: }]}", ALICE, ("deny", "http-method-ok")),
        ("- deny: {or: [{http_method: GET}]}", ALICE, ("deny", "http-method-ok")),
        ("- allow: {or: [{accept: }]}\n- deny: {or: [{http_method: POST}]}", ALICE, ("allow", "accept")),
        # and the sign-in beats deny
        (
            "- allow: {or: [{authenticated_user: }]}\n- deny: {or: [{http_method: GET}]}",
            None,
            ("deny", "user-unauthenticated"),
        ),
        # a deny rule about the caller makes a public route ask for one
        (
            "- allow: {or: [{accept: }]}\n- deny: {or: [{domain: evil.com}]}",
            None,
            ("deny", "user-unauthenticated"),
        ),
        ("- allow: {or: [{accept: }]}\n- deny: {or: [{domain: evil.com}]}", ALICE, ("allow", "accept")),
        # inverted or not, a criterion of the caller asks for one
        ("- allow: {not: [{domain: evil.com}]}", None, ("deny", "user-unauthenticated")),
        ("- allow: {nor: [{domain: evil.com}, {reject: }]}", None, ("deny", "user-unauthenticated", "reject")),
        # criteria of the request alone never do
        ("- allow: {or: [{http_method: POST}]}", None, ("deny", "http-method-unauthorized")),
        ("- allow: {and: [{http_method: GET}, {source_ip: 10.0.0.1}]}", None, ("deny", "source-ip-unauthorized")),
        # true blocks leave out the reasons of their false members
        ("- allow: {or: [{accept: }, {authenticated_user: }]}", None, ("allow", "accept")),
        ("- allow: {and: [{reject: }, {authenticated_user: }]}", None, ("deny", "user-unauthenticated", "reject")),
        # both effects ask: the reasons of both are told, once
        (
            "- allow: {or: [{domain: a}, {reject: }]}\n- deny: {and: [{domain: b}, {cors_preflight: }, {reject: }]}",
            None,
            ("deny", "user-unauthenticated", "reject", "non-cors-request"),
        ),
    ],
)
def test_rules_and_the_order_of_outcomes(rules: str, caller: Principal | None, expected: tuple[str, ...]) -> None:
    assert asked(rules, caller) == expected


CA_KEY = ec.generate_private_key(ec.SECP256R1())
CA = (
    x509.CertificateBuilder()
    .subject_name(x509.Name([]))
    .issuer_name(x509.Name([]))
    .public_key(CA_KEY.public_key())
    .serial_number(1)
    .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    .not_valid_after(datetime(2028, 1, 1, tzinfo=UTC))
    .sign(CA_KEY, hashes.SHA256())
)


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [("", "client-certificate-required"), ("junk", "invalid-client-certificate")],
)
def test_a_problem_of_the_client_certificate_comes_before_the_sign_in(certificate: str, reason: str) -> None:
    rules = "- allow: {or: [{authenticated_user: }]}\n- deny: {or: [{domain: x}, {invalid_client_certificate: }]}"
    options = PolicyOptions(context=CriteriaContext(authorities=(CA,)))
    for caller in (None, ALICE):
        decision = decide_text(ppl(rules), caller, options=options, certificate=certificate)
        assert isinstance(decision, Deny)
        assert decision.reason == reason
        assert http_status(decision.reason) == 403


# --- A bad token -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "error", "expected"),
    [
        ("- allow: {or: [{accept: }]}", EXPIRED, ("allow", "accept")),
        ("- allow: {or: [{authenticated_user: }]}", EXPIRED, ("deny", "token-expired")),
        ("- allow: {or: [{authenticated_user: }]}", NO_KEYS, ("deny", "keys-unavailable")),
        ("- allow: {or: [{http_method: POST}]}", EXPIRED, ("deny", "http-method-unauthorized")),
        ("- allow: {and: [{authenticated_user: }, {reject: }]}", EXPIRED, ("deny", "token-expired", "reject")),
        (
            "- allow: {or: [{accept: }]}\n- deny: {or: [{domain: x}]}",
            EXPIRED,
            ("deny", "token-expired"),
        ),
    ],
)
def test_a_bad_token_is_judged_as_none_and_is_the_reason_where_one_is_needed(
    rules: str, error: TokenError, expected: tuple[str, ...]
) -> None:
    assert asked(rules, None, error) == expected


def test_a_decision_carries_its_route_its_caller_and_the_detail() -> None:
    text = ppl("- allow: {or: [{groups: admins}]}")
    allowed = decide_text(text, ALICE)
    assert isinstance(allowed, Allow)
    assert (allowed.route.label, allowed.principal, allowed.reason) == ("https://app.example.com", ALICE, "groups-ok")
    denied = decide_text(text, principal())
    assert isinstance(denied, Deny)
    assert (denied.reason, denied.principal) == (Reason.GROUPS_UNAUTHORIZED, principal())
    bad = decide_text(text, credential_error=EXPIRED)
    assert isinstance(bad, Deny)
    assert (bad.reason, bad.principal, bad.detail) == (Reason.TOKEN_EXPIRED, None, "expired 40 s ago")
    assert bad.route == allowed.route == denied.route


# --- Properties ------------------------------------------------------------------------------------------------------

CRITERION = st.sampled_from(
    ["{accept: }", "{reject: }", "{authenticated_user: }", "{groups: admins}", "{groups: x}", "{email: {not: x}}",
     "{claim/x: {exclude: y}}", "{http_method: GET}", "{http_method: POST}"]
)  # fmt: skip
BODY = st.dictionaries(st.sampled_from([*Operator]), st.lists(CRITERION, max_size=3), max_size=3).map(
    lambda body: "{" + ", ".join(f"{operator}: [{', '.join(criteria)}]" for operator, criteria in body.items()) + "}"
)
CALLER = st.sampled_from([None, ALICE, principal(), principal(email="a@b.c", verified=False)])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["allow", "deny"]), BODY), max_size=4), BODY, CALLER)
def test_one_more_deny_rule_never_grants(rules: list[tuple[str, str]], more: str, caller: Principal | None) -> None:
    written = "".join(f"- {effect}: {body}\n" for effect, body in rules) or "[]"
    before = asked(written, caller)
    after = asked((written if rules else "") + f"- deny: {more}\n", caller)
    assert before[0] == "allow" or after[0] == "deny"


@settings(max_examples=200, deadline=None)
@given(st.lists(BODY, max_size=3))
def test_a_bad_token_lets_nobody_in_whom_no_token_would_not(bodies: list[str]) -> None:
    written = "".join(f"- allow: {body}\n" for body in bodies) or "[]"
    assert asked(written)[0] == asked(written, None, EXPIRED)[0]
