"""Each criterion: what it looks at, what it says, and what an author reads who writes it wrong."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authz.document import parse
from authz.model import Allow, Deny, Json, Reason
from authz.node import Problems
from authz.policy.caller_criteria import claim_values
from authz.policy.criteria import CRITERIA, compile_criterion, show_values
from authz.policy.criterion import CriteriaContext, Facts
from authz.policy.decision import decide
from authz.policy.request_criteria import is_cors_preflight, plain_address
from tests.support.policies import (
    CLIENT,
    ISSUER,
    NOW,
    SUBJECT,
    compiled,
    facts,
    heads,
    judge,
    policy_set,
    principal,
    problems_of,
    request,
)

NOBODY = facts()
ALICE = facts(principal(groups=["admins", "ops"], email="alice@example.com"))
SOMEBODY = facts(principal())


def found(text: str) -> tuple[bool, list[str]]:
    """Compile a criterion; tell whether there is one, and give the problems."""
    problems = Problems()
    node = parse(text.encode(), "c", problems)
    assert node is not None
    criterion = compile_criterion(node, problems, CriteriaContext())
    return criterion is not None, [str(problem).removeprefix("c:") for problem in problems]


# --- The caller ------------------------------------------------------------------------------------------------------

OF_CALLER = {
    "authenticated_user: true": Reason.USER_OK,
    f"user: {SUBJECT}": Reason.USER_OK,
    "email: alice@example.com": Reason.EMAIL_OK,
    "domain: example.com": Reason.DOMAIN_OK,
    "claim/cognito:groups: admins": Reason.CLAIM_OK,
    "claim/email: alice@example.com": Reason.CLAIM_OK,
    "groups: admins": Reason.GROUPS_OK,
    "scope: {not: x}": Reason.SCOPE_OK,
    f"client_id: {CLIENT}": Reason.CLIENT_ID_OK,
    "token_use: access": Reason.TOKEN_USE_OK,
    f"issuer: {ISSUER}": Reason.ISSUER_OK,
    "identity_provider: Auth0": Reason.IDENTITY_PROVIDER_OK,
    "auth_age: {max: 15m}": Reason.AUTH_AGE_OK,
}
EVERYTHING = principal(
    {"scope": "a b", "auth_time": NOW, "identities": [{"providerName": "Auth0"}]},
    groups=["admins"],
    email="alice@example.com",
)


@pytest.mark.parametrize(("text", "reason"), OF_CALLER.items(), ids=OF_CALLER)
def test_a_criterion_of_the_caller_holds_for_the_right_one(text: str, reason: Reason) -> None:
    assert judge(text, facts(EVERYTHING)) == (True, reason)
    assert compiled(text).of_caller


@pytest.mark.parametrize(
    "text",
    [
        *OF_CALLER,
        "user: {not: x}",
        "email: {not: x}",
        "email: {not_in: [x]}",
        "domain: {not: x}",
        "claim/x: {exclude: y}",
        "claim/email: {exclude: y}",
        "groups: {exclude: y}",
        "scope: {not_in: [x]}",
        "client_id: {not: x}",
        "token_use: {not: id}",
        "issuer: {not: x}",
        "identity_provider: {not: x}",
    ],
)
def test_nobody_satisfies_no_criterion_of_the_caller_whatever_its_matcher(text: str) -> None:
    assert judge(text, NOBODY) == (False, Reason.USER_UNAUTHENTICATED)
    assert compiled(text).look(NOBODY) == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("user: x", Reason.USER_UNAUTHORIZED),
        ("user: alice@example.com", Reason.USER_UNAUTHORIZED),
        ("email: x", Reason.EMAIL_UNAUTHORIZED),
        ("email: Alice@example.com", Reason.EMAIL_UNAUTHORIZED),
        ("email: example.com", Reason.EMAIL_UNAUTHORIZED),
        ("domain: Example.com", Reason.DOMAIN_UNAUTHORIZED),
        ("domain: xample.com", Reason.DOMAIN_UNAUTHORIZED),
        ("domain: alice@example.com", Reason.DOMAIN_UNAUTHORIZED),
        ("claim/cognito:groups: x", Reason.CLAIM_UNAUTHORIZED),
        ("claim/none: x", Reason.CLAIM_UNAUTHORIZED),
        ("groups: x", Reason.GROUPS_UNAUTHORIZED),
        ("groups: Admins", Reason.GROUPS_UNAUTHORIZED),
        ("scope: x", Reason.SCOPE_UNAUTHORIZED),
        ("client_id: x", Reason.CLIENT_ID_UNAUTHORIZED),
        ("token_use: id", Reason.TOKEN_USE_UNAUTHORIZED),
        ("issuer: https://cognito-idp.eu-west-1.amazonaws.com", Reason.ISSUER_UNAUTHORIZED),
        ("identity_provider: Auth0", Reason.IDENTITY_PROVIDER_UNAUTHORIZED),
        ("identity_provider: {not: Auth0}", Reason.IDENTITY_PROVIDER_UNAUTHORIZED),
        ("auth_age: {max: 15m}", Reason.AUTH_AGE_UNAUTHORIZED),
    ],
)
def test_a_criterion_of_the_caller_fails_with_its_own_reason(text: str, reason: Reason) -> None:
    assert judge(text, ALICE) == (False, reason)


@pytest.mark.parametrize(
    ("issuer", "group", "found"),
    [
        pytest.param(
            ISSUER, "eu-west-1_AbCdEfGhI_Auth0", ("Auth0",), id="the automatic group of the caller's own pool"
        ),
        pytest.param(ISSUER, "eu-west-1_AbCdEfGhI_My_IdP", ("My_IdP",), id="a provider with an underscore"),
        pytest.param(ISSUER, "eu-west-1_AbCdEfGhI_", (), id="no provider"),
        pytest.param(ISSUER, "eu-west-1_AbCdEfGhI", (), id="the pool itself"),
        pytest.param("https://issuer.example/", "_Auth0", (), id="an issuer that names no pool"),
    ],
)
def test_an_identity_provider_is_known_by_its_group(issuer: str, group: str, found: tuple[str, ...]) -> None:
    caller = facts(principal(groups=["x", group], issuer=issuer))
    assert tuple(compiled("identity_provider: x").look(caller)) == found


def test_an_identity_provider_that_is_named_twice_is_found_once() -> None:
    groups = ["eu-west-1_AbCdEfGhI_Auth0"]
    caller = facts(principal({"identities": [{"providerName": "Okta"}, {"providerName": "Auth0"}]}, groups=groups))
    assert list(compiled("identity_provider: x").look(caller)) == ["Okta", "Auth0"]


def test_a_caller_without_a_subject_is_no_user() -> None:
    assert judge("authenticated_user: true", facts(principal(subject=""))) == (False, Reason.USER_UNAUTHORIZED)


@pytest.mark.parametrize("text", ["email: {not: x}", "email: {not_in: [x]}", "domain: {not: x}"])
def test_a_string_matcher_on_a_missing_address_is_false(text: str) -> None:
    reason = Reason.EMAIL_UNAUTHORIZED if text.startswith("email") else Reason.DOMAIN_UNAUTHORIZED
    assert judge(text, SOMEBODY) == (False, reason)


def test_exclude_on_a_missing_list_is_true() -> None:
    assert judge("groups: {exclude: blocked}", SOMEBODY) == (True, Reason.GROUPS_OK)
    assert judge("claim/x: {exclude: y}", SOMEBODY) == (True, Reason.CLAIM_OK)


@pytest.mark.parametrize(
    "text",
    [
        "email: alice@example.com",
        "email: {not: x}",
        "domain: example.com",
        "domain: {not: x}",
        "claim/email: alice@example.com",
        "claim/email: {exclude: x}",
    ],
)
def test_an_unverified_address_satisfies_nothing_and_the_reason_says_so(text: str) -> None:
    unverified = facts(principal(email="alice@example.com", verified=False))
    assert judge(text, unverified) == (False, Reason.EMAIL_UNVERIFIED)
    assert compiled(text).look(unverified) == ()


def test_what_is_no_text_and_not_verified_is_not_seen_under_its_claims_name_either() -> None:
    for claims in ({"email_verified": False}, {}):
        odd = facts(principal({"email": ["boss@example.com"], **claims}))
        for text in ("claim/email: boss@example.com", "claim/email: {exclude: x}"):
            assert judge(text, odd) == (False, Reason.EMAIL_UNVERIFIED)
            assert compiled(text).look(odd) == ()
        assert judge("email: {not: x}", odd) == (False, Reason.EMAIL_UNAUTHORIZED)
    assert judge("claim/email: {exclude: x}", SOMEBODY) == (True, Reason.CLAIM_OK)


def test_verified_addresses_in_a_list_are_a_claim_and_no_address() -> None:
    several = facts(principal({"email": ["eve@example.com", "boss@example.com"], "email_verified": True}))
    assert judge("claim/email: eve@example.com", several) == (True, Reason.CLAIM_OK)
    assert judge("claim/email: {exclude: eve@example.com}", several) == (False, Reason.CLAIM_UNAUTHORIZED)
    assert judge("email: eve@example.com", several) == (False, Reason.EMAIL_UNAUTHORIZED)
    assert compiled("claim/email: eve@example.com").look(several) == ["eve@example.com", "boss@example.com"]


@pytest.mark.parametrize(
    ("email", "domain", "holds"),
    [
        ("a@example.com", "example.com", True),
        ("a@evil.com@example.com", "example.com", False),
        ("a@evil.com@example.com", "evil.com", False),
        ("a@example.com@evil.com", "example.com", False),
        ("a@example.com@", "example.com", False),
        ("a@@example.com", "example.com", False),
        ("example.com", "example.com", False),
        ("@example.com", "example.com", True),
    ],
)
def test_the_domain_stands_after_the_only_at_sign(email: str, domain: str, holds: bool) -> None:
    """`a@evil@company` must be nobody of company, and `a@company@evil` neither (CVE-2026-40574)."""
    assert judge(f"domain: {domain}", facts(principal(email=email)))[0] is holds


def test_an_address_without_a_domain_has_none_that_could_differ() -> None:
    assert judge("domain: {not: x}", facts(principal(email="alice"))) == (False, Reason.DOMAIN_UNAUTHORIZED)


@pytest.mark.parametrize(
    ("claims", "name", "values"),
    [
        ({"a": "x"}, "a", ["x"]),
        ({"a": ["x", "y"]}, "a", ["x", "y"]),
        ({"a": []}, "a", []),
        ({"a": None}, "a", [None]),
        ({"a": 5}, "a", [5]),
        ({"a": {"b": "x"}}, "a", []),
        ({"a": {"b": "x"}}, "a.b", ["x"]),
        ({"a": {"b": {"c": ["x"]}}}, "a.b.c", ["x"]),
        ({"a": {"b.c": "x"}}, "a.b.c", ["x"]),
        ({"a.b": {"c": "x"}}, "a.b.c", ["x"]),
        ({"a.b": "literal", "a": {"b": "nested"}}, "a.b", ["literal"]),
        ({"a": {"x": "no"}, "a.b": {"c": "x"}}, "a.b.c", ["x"]),
        ({"a": {"b": []}}, "a.b", []),
        ({"a": "x"}, "a.b", []),
        ({"a": [{"b": "x"}]}, "a.b", []),
        ({"a": "x"}, "A", []),
        ({}, "a", []),
        ({"": {"": "x"}}, ".", ["x"]),
        ({"https://acme.example/roles": ["x"]}, "https://acme.example/roles", ["x"]),
        ({"cognito:groups": "a b"}, "cognito:groups", ["a b"]),
    ],
)
def test_a_claim_is_a_list_and_a_nested_one_has_a_dotted_name(
    claims: Mapping[str, Json], name: str, values: list[Json]
) -> None:
    assert list(claim_values(claims, name)) == values


def test_a_claims_name_is_split_at_the_first_slash_only() -> None:
    caller = facts(principal({"https://acme.example/roles": ["editor"]}))
    assert judge("claim/https://acme.example/roles: editor", caller) == (True, Reason.CLAIM_OK)


@pytest.mark.parametrize(
    ("scope", "token_use", "wanted", "holds"),
    [
        ("a b", "access", "a", True),
        ("a b", "access", "b", True),
        ("a b", "access", "a b", False),
        ("ab", "access", "a", False),
        ("  a   b ", "access", "b", True),
        ("a\tb", "access", "b", False),
        (["a", "b"], "access", "b", True),
        (["a b"], "access", "b", False),
        ([5, None, "a"], "access", "a", True),
        (5, "access", "'5'", False),
        (None, "access", "a", False),
        ("", "access", "{not: a}", False),
        ("a b", "id", "a", False),
        ("a b", "id", "{not: x}", False),
        ("a b", "access", "{not: a}", False),
        ("a b", "access", "{not: x}", True),
        ("orders/read x", "access", "{starts_with: orders/}", True),
    ],
)
def test_scopes_are_the_blank_separated_words_of_an_access_token(
    scope: Json, token_use: str, wanted: str, holds: bool
) -> None:
    caller = facts(principal({"scope": scope}, token_use=token_use))
    reason = Reason.SCOPE_OK if holds else Reason.SCOPE_UNAUTHORIZED
    assert judge(f"scope: {wanted}", caller) == (holds, reason)


@pytest.mark.parametrize(
    ("auth_time", "holds"),
    [
        (NOW, True),
        (NOW - 900, True),
        (NOW - 901, False),
        (NOW + 60, True),
        (NOW + 61, False),
        (str(NOW), False),
        (float(NOW), False),
        (True, False),
        (None, False),
        (10**400, False),
        (-(10**400), False),
    ],
)
def test_a_sign_in_grows_old(auth_time: Json, holds: bool) -> None:
    caller = facts(principal({"auth_time": auth_time}))
    reason = Reason.AUTH_AGE_OK if holds else Reason.AUTH_AGE_UNAUTHORIZED
    assert judge("auth_age: {max: 15m}", caller) == (holds, reason)


def test_the_age_of_a_sign_in_is_shown() -> None:
    criterion = compiled("auth_age: {max: 15m}")
    assert criterion.wanted == "signed in at most 15m ago"
    assert criterion.look(facts(principal({"auth_time": NOW - 1000}))) == ("1000s",)
    assert criterion.look(SOMEBODY) == ()
    assert criterion.look(NOBODY) == ()


@pytest.mark.parametrize(
    ("auth_time", "shown"),
    [(-(2**53), (f"{NOW + 2**53}s",)), (-(2**53) - 1, ())],
    ids=["to the second", "not to the second"],
)
def test_an_age_is_shown_as_long_as_it_can_be_told_to_the_second(auth_time: int, shown: Sequence[str]) -> None:
    assert compiled("auth_age: {max: 15m}").look(facts(principal({"auth_time": auth_time}))) == shown


def test_what_was_there_is_shown() -> None:
    assert compiled("groups: x").look(ALICE) == ["admins", "ops"]
    assert compiled("domain: x").look(ALICE) == ["example.com"]
    assert compiled("email: x").look(SOMEBODY) == ()


# --- The request -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["true", "", "~", "false", "{}", "[]", "x"])
def test_accept_holds_for_everyone_whatever_its_data_says(data: str) -> None:
    assert judge(f"accept: {data}", NOBODY) == (True, Reason.ACCEPT)
    assert judge(f"reject: {data}", ALICE) == (False, Reason.REJECT)
    assert compiled("accept: true").look(NOBODY) == ()


@pytest.mark.parametrize("name", ["accept", "reject", "authenticated_user", "cors_preflight"])
def test_data_that_is_ignored_loads_with_a_warning(name: str) -> None:
    assert found(f"{name}: false")[1] == [
        (
            f"1:{len(name) + 3}: warning: `{name}`: its data is ignored, and found `false` (a boolean): it means "
            f"the same as `{name}: true`; write that, or delete it"
        )
    ]
    assert found(f"{name}: true") == (True, [])
    assert found(f"{name}:") == (True, [])


def test_the_method_is_compared_with_case() -> None:
    assert judge("http_method: GET", NOBODY) == (True, Reason.HTTP_METHOD_OK)
    assert judge("http_method: get", NOBODY) == (False, Reason.HTTP_METHOD_UNAUTHORIZED)
    assert judge("http_method: {in: [POST, PUT]}", NOBODY) == (False, Reason.HTTP_METHOD_UNAUTHORIZED)
    assert compiled("http_method: GET").look(NOBODY) == ("GET",)
    assert not compiled("http_method: GET").of_caller


@pytest.mark.parametrize(
    ("text", "path", "holds"),
    [
        ("/a", "/a", True),
        ("/a", "/a?b", True),
        ("/a", "/A", False),
        ("/a b", "/a%20b", True),
        ("/café", "/caf%C3%A9", True),
        ("/100%", "/100%25", True),
        ("/secret", "/%73ecret", True),
        ("{starts_with: /a/}", "/a/b", True),
        ("{not: /a}", "/b", True),
    ],
)
def test_the_path_is_seen_decoded_and_without_its_query(text: str, path: str, holds: bool) -> None:
    reason = Reason.HTTP_PATH_OK if holds else Reason.HTTP_PATH_UNAUTHORIZED
    assert judge(f"http_path: {text}", facts(path=path)) == (holds, reason)


PREFLIGHT = {"origin": "https://x.example", "access-control-request-method": "POST"}


def test_a_preflight_is_options_with_its_two_headers() -> None:
    assert is_cors_preflight(request(method="OPTIONS", header=PREFLIGHT))
    good = facts(method="OPTIONS", header=PREFLIGHT)
    assert judge("cors_preflight: true", good) == (True, Reason.CORS_REQUEST)
    assert compiled("cors_preflight: true").look(good) == ("OPTIONS",)


@pytest.mark.parametrize(
    ("method", "header"),
    [
        ("GET", PREFLIGHT),
        ("OPTIONS", {}),
        ("OPTIONS", {**PREFLIGHT, "origin": ""}),
        ("OPTIONS", {**PREFLIGHT, "access-control-request-method": ""}),
        ("OPTIONS", {"origin": "https://x.example"}),
    ],
    ids=["another method", "no header", "an empty origin", "an empty method", "no method"],
)
def test_anything_less_is_no_preflight(method: str, header: Mapping[str, str]) -> None:
    known = facts(method=method, header=header)
    assert judge("cors_preflight: true", known) == (False, Reason.NON_CORS_REQUEST)


@pytest.mark.parametrize(
    ("data", "address", "holds"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.70", False),
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.7/24", "192.0.2.1", True),  # host bits are ignored
        ("192.0.2.0/24", "192.0.3.0", False),
        ("[10.0.0.0/8, 192.0.2.7]", "192.0.2.7", True),
        ("[10.0.0.0/8]", "192.0.2.7", False),
        ("[]", "192.0.2.7", False),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("'::ffff:192.0.2.0/120'", "192.0.2.7", True),
        ("'::ffff:192.0.2.7'", "192.0.2.7", True),
        ("'::ffff:0:0/96'", "192.0.2.7", True),
        ("'::/0'", "192.0.2.7", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("'2001:db8::/32'", "2001:db8:1::1", True),
        ("'2001:db8::/32'", "2001:db9::1", False),
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "/run/envoy.sock", False),
        ("0.0.0.0/0", "192.0.2.7:80", False),
        ("0.0.0.0/0", "192.0.2.7, 10.0.0.1", False),
    ],
)
def test_the_peers_address_lies_in_one_of_the_networks(data: str, address: str, holds: bool) -> None:
    known = facts(source_ip=address)
    problems = Problems()
    node = parse(f"source_ip: {data}".encode(), "c", problems)
    assert node is not None
    criterion = compile_criterion(node, problems, CriteriaContext())
    assert criterion is not None
    reason = Reason.SOURCE_IP_OK if holds else Reason.SOURCE_IP_UNAUTHORIZED
    assert criterion.test(known) == (holds, reason)
    assert criterion.look(known) == ((address,) if address else ())


def test_networks_are_named_and_an_empty_list_warns() -> None:
    assert compiled("source_ip: [10.1.2.3/8, '::1']").wanted == "in 10.0.0.0/8, ::1/128"
    assert found("source_ip: []") == (
        True,
        ["1:12: warning: `source_ip`: an empty list never matches: write an address or a network"],
    )
    assert compiled("source_ip: []").wanted == "in no network"


def test_a_mapped_address_is_its_plain_one() -> None:
    assert str(plain_address("::ffff:10.0.0.1")) == "10.0.0.1"
    assert str(plain_address("::1")) == "::1"


key = ec.generate_private_key(ec.SECP256R1())


def make_certificate(subject: str, *, ca: bool) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime.fromtimestamp(NOW - 9, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(NOW + 9, dt.UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("robot.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )


AUTHORITY = CriteriaContext(authorities=(make_certificate("ca", ca=True),))
PEM = quote(make_certificate("robot", ca=False).public_bytes(Encoding.PEM))


def test_a_client_certificate_is_compared() -> None:
    ok, no = (True, Reason.CLIENT_CERTIFICATE_OK), (False, Reason.CLIENT_CERTIFICATE_UNAUTHORIZED)
    assert judge("client_certificate: {san_dns: robot.example}", facts(certificate=PEM)) == ok
    assert judge("client_certificate: {san_dns: other.example}", facts(certificate=PEM)) == no
    assert judge("client_certificate: {san_dns: {not: x}}", facts(certificate="")) == no
    assert judge("client_certificate: {san_dns: {not: x}}", facts(certificate="junk")) == no
    criterion = compiled("client_certificate: {san_dns: robot.example}")
    assert criterion.look(NOBODY) == ()
    assert str(criterion.look(facts(certificate=PEM))[0]).startswith("fingerprint ")


@pytest.mark.parametrize(
    ("certificate", "now", "finding"),
    [
        (PEM, NOW, (False, Reason.VALID_CLIENT_CERTIFICATE)),
        (PEM, NOW + 10, (True, Reason.INVALID_CLIENT_CERTIFICATE)),
        ("junk", NOW, (True, Reason.INVALID_CLIENT_CERTIFICATE)),
        ("", NOW, (True, Reason.CLIENT_CERTIFICATE_REQUIRED)),
    ],
    ids=["a good one", "an expired one", "junk", "none"],
)
def test_an_untrusted_client_certificate_is_found(certificate: str, now: int, finding: tuple[bool, Reason]) -> None:
    assert judge("invalid_client_certificate: true", facts(now=now, certificate=certificate), AUTHORITY) == finding


def test_without_authorities_every_certificate_counts_as_valid_and_a_warning_says_so() -> None:
    for certificate in ("", "junk", PEM):
        known = facts(certificate=certificate)
        assert judge("invalid_client_certificate: true", known) == (False, Reason.VALID_CLIENT_CERTIFICATE)
    assert found("invalid_client_certificate: true")[1] == [
        (
            "1:29: warning: `invalid_client_certificate`: never holds, because the configuration has no "
            "`client_certificate_ca:`; set it to a file with the authorities that issue your client certificates"
        )
    ]


def test_the_time_criteria_are_judged_at_the_requests_one_now() -> None:
    assert judge("date: {after: 2027-01-15}", NOBODY) == (True, Reason.DATE_OK)
    assert judge("date: {before: 2027-01-15}", NOBODY) == (False, Reason.DATE_UNAUTHORIZED)
    assert judge("day_of_week: fri", NOBODY) == (True, Reason.DAY_OF_WEEK_OK)
    assert judge("day_of_week: sat", NOBODY) == (False, Reason.DAY_OF_WEEK_UNAUTHORIZED)
    assert judge("time_of_day: {timezone: UTC, after: 8 AM}", NOBODY) == (True, Reason.TIME_OF_DAY_OK)
    assert judge("time_of_day: {timezone: UTC, before: 8 AM}", NOBODY) == (False, Reason.TIME_OF_DAY_UNAUTHORIZED)
    assert compiled("day_of_week: sat").look(NOBODY) == ("friday",)


# --- What is refused at load -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("accept", ["1:1: a criterion: found text `accept`, expected a map with exactly one key: write `- accept: …`"]),
        ("[accept]", ["1:1: a criterion: found a list, expected a map with exactly one key"]),
        ("{}", ["1:1: a criterion: found an empty map, expected a map with exactly one key"]),
        ("{accept: , reject: }", ["1:1: a criterion: found a map with 2 keys, expected a map with exactly one key"]),
        ("Email: a", ["1:1: unknown criterion `Email`; did you mean `email`?"]),
        ("zzz: a", ["1:1: unknown criterion `zzz`"]),
        ("claim: a", [
            "1:1: `claim`: the claim's name is missing: write `claim/cognito:groups: admins`"
        ]),
        ("claim/: a", ["1:1: `claim`: the claim's name is missing: write `claim/cognito:groups: admins`"]),
        ("email/x: a", ["1:1: `email/x`: only `claim` takes a name after the slash: write `email`"]),
        ("and: []", ["1:1: `and` inside a rule's list: operators do not nest; write a second rule"]),
        ("device: {}", [
            ("1:1: criterion `device` is not supported: it needs a device registry, and we keep none; "
            "`client_certificate` can tell devices apart")
        ]),
        ("pomerium_routes: true", [
            ("1:1: criterion `pomerium_routes` is not supported: Pomerium removed it (GHSA-pvrc-wvj2-f59p); "
            "write the routes' own rules")
        ]),
        ("user: 5", ["1:7: `user`: found `5` (a number), expected text: write '5' in quotes"]),
        ("domain: [a]", ["1:9: `domain`: found a list where one value is meant; write or: [{domain: a}]"]),
        ("groups: [a]", ["1:9: `groups`: found a list where one value is meant; write or: [{groups: a}]"]),
        ("claim/email: [a]", [
            "1:14: `claim/email`: found a list where one value is meant; write or: [{claim/email: a}]"
        ]),
        ("scope: ~", ["1:8: `scope`: found nothing, expected text: write '~' in quotes"]),
        ("http_method: {}", [
            ("1:14: `http_method`: found an empty map, expected one of `is`, `not`, `starts_with`, `ends_with`, "
            "`contains`, `in`, `not_in`")
        ]),
        ("source_ip: ~", ["1:12: `source_ip`: found nothing, expected a list"]),
        ("source_ip: 10.0.0.0/33", [
            "1:12: `source_ip`: found text `10.0.0.0/33`, expected an address or a network such as 10.0.0.0/8"
        ]),
        *(
            (f"source_ip: {text}", [
                f"1:12: `source_ip`: found text `{text}`, expected an address or a network such as 10.0.0.0/8"
            ])
            # Some read the mask 0.0.0.0 as "this host", some as "everybody".
            for text in ("10.0.0.5/0.0.0.0", "10.0.0.0/255.0.0.0", "10.0.0.0/0.0.0.255", "10.0.0.0/", "10.0.0.0/+8",
                         "10.0.0.0/8/8")
        ),
        ("source_ip: [10, 1.1.1.1]", ["1:13: `source_ip`: found `10` (a number), expected text: write '10' in quotes"]),
        ("source_ip: '10.0.0.1,10.0.0.2'", [
            ("1:12: `source_ip`: found text `10.0.0.1,10.0.0.2`, one text with a comma: write a list, "
            "[10.0.0.1, 10.0.0.2]")
        ]),
        ("client_certificate: {}", [
            "1:21: `client_certificate`: found an empty map, expected a map"
        ]),
        ("day_of_week: frei", [
            "1:14: `day_of_week`: found text `frei`, expected `*`, days (`mon,wed`) or a range (`mon-fri`)"
        ]),
        ("auth_age: 15m", [
            "1:11: `auth_age`: found text `15m`, expected a map with one key: write {max: 15m}"
        ]),
        ("auth_age: {min: 15m}", ["1:11: `auth_age`: found a map, expected a map with one key: write {max: 15m}"]),
        *(
            (f"auth_age: {{max: {value}}}", [
                f"1:17: `auth_age`: `max`: found {words}, expected a duration such as 15m"
            ])
            for value, words in (("900", "`900` (a number)"), ("soon", "text `soon`"), ("0s", "text `0s`"),
                                 ("[15m]", "a list"))
        ),
    ],
)  # fmt: skip
def test_a_wrong_criterion_is_none_and_says_why(text: str, problems: list[str]) -> None:
    ok, said = found(text)
    assert not ok
    assert heads(said) == heads(problems)


@pytest.mark.parametrize(
    "name",
    ["device", "record", "mcp_tool", "pomerium_routes", "ssh_publickey", "ssh_ca", "ssh_username",
     "ssh_username_matches_email", "ssh_username_matches_claim"],
)  # fmt: skip
def test_a_criterion_that_cannot_be_had_is_refused_with_the_reason(name: str) -> None:
    ok, problems = found(f"{name}: x")
    assert not ok
    assert len(problems) == 1
    assert f"criterion `{name}` is not supported: " in problems[0]
    assert name not in CRITERIA


@pytest.mark.parametrize("name", ["accept", "reject", "cors_preflight", "invalid_client_certificate"])
def test_data_that_a_criterion_does_not_read_is_mentioned(name: str) -> None:
    ok, problems = found(f"{name}: 5")
    assert ok
    assert problems[0].split(": ")[1:3] == ["warning", f"`{name}`"]
    assert len(found(f"{name}:")[1]) == len(problems) - 1


def test_a_claims_name_may_hold_dots_next_to_each_other() -> None:
    assert claim_values({"a.": {"b": "x"}}, "a..b") == ("x",)


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("data", ["5", "''", "[[]]", "{'': ''}", "{is: {}}", "{x: [5]}", "-.inf"])
def test_no_data_of_no_criterion_escapes_as_an_error(name: str, data: str) -> None:
    label = "claim/x" if name == "claim" else name
    ok, problems = found(f"{label}: {data}")
    assert ok or problems


# --- For people ------------------------------------------------------------------------------------------------------


def test_found_values_are_shown_bounded() -> None:
    assert show_values(()) == "nothing"
    assert show_values(["a", 5, True, None]) == "`a`, 5, true, None"
    assert len(show_values(["x" * 100] * 100)) == 200
    assert show_values(list(range(30))) == ", ".join(map(str, range(20)))


def test_facts_print_nothing_secret() -> None:
    known = facts(principal({"secret": "canary"}), header={"authorization": "canary"}, path="/a?canary")
    assert "canary" not in repr(known)
    assert isinstance(known, Facts)


def test_an_address_that_ends_with_its_at_sign_has_no_domain() -> None:
    nowhere = facts(principal(email="alice@"))
    assert judge("domain: {not: example.com}", nowhere) == (False, Reason.DOMAIN_UNAUTHORIZED)
    assert compiled("domain: example.com").look(nowhere) == []


def test_an_address_with_a_zone_is_no_network() -> None:
    (problem,) = problems_of("- from: https://a.example.com\n  policy: {allow: {or: [{source_ip: fe80::1%eth0}]}}\n")
    assert "found text `fe80::1%eth0`, expected an address or a network" in str(problem)


@pytest.mark.parametrize("certificate", ["junk", "%2D" * 30_000])
@pytest.mark.parametrize(
    "rule",
    [
        "deny: {or: [{client_certificate: {san_dns: a}}]}",
        "deny: {not: [{client_certificate: {san_dns: a}}]}",
        "allow: {not: [{client_certificate: {san_dns: a}}]}",
        "allow: {nor: [{client_certificate: {san_dns: a}}]}",
        "allow: {or: [{client_certificate: {san_dns: a}}]}",
    ],
)
def test_a_certificate_that_nobody_can_read_lets_nobody_in(certificate: str, rule: str) -> None:
    access = "allow_public_unauthenticated_access: true, " if rule.startswith("deny") else ""
    (route,) = policy_set(f"- {{from: https://a.example.com, {access}policy: {{{rule}}}}}\n").routes.routes
    presented = facts().request._replace(certificate=certificate)
    decision = decide(facts()._replace(request=presented), route)
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.CLIENT_CERTIFICATE_UNAUTHORIZED


def test_no_certificate_is_none_of_those_that_are_denied() -> None:
    text = "- {from: https://a.example.com, policy: {allow: {not: [{client_certificate: {san_dns: a}}]}}}\n"
    (route,) = policy_set(text).routes.routes
    assert isinstance(decide(facts(), route), Allow)


def test_nobody_is_in_an_empty_list_of_networks() -> None:
    text = "- {from: https://a.example.com, policy: {allow: {or: [accept: ]}, deny: {or: [source_ip: []]}}}\n"
    (route,) = policy_set(text).routes.routes
    assert isinstance(decide(facts(source_ip=""), route), Allow)
