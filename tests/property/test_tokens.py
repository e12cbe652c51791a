"""What stays true of every token: an answer or a TokenError, and never more trust than two other libraries give."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.oracles import POOL, STRICTER, compare, joserfc, judge, pyjwt, read, stopped_clock, why_stricter
from tests.support.user_pool import DROP, NOW, base64url, sign

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER, PAYLOAD, SIGNATURE = (TOKEN := POOL.token(groups=["admins"])).split(".")
FLIPPED = tuple(
    TOKEN[:place] + chr(ord(TOKEN[place]) ^ (1 << bit)) + TOKEN[place + 1 :]
    for place in range(len(TOKEN))
    for bit in range(8)
)

no_deadline = settings(deadline=None, max_examples=300)
few = settings(deadline=None, max_examples=150)


# Bytes of all kinds: an answer, and only for what the pool signed.

anything = st.text(max_size=300) | st.text(st.characters(codec="ascii"), max_size=300)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
parts = st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode())


@given(token=anything)
@no_deadline
@example(token="\ud800.\ud800.\ud800")
def test_no_text_is_a_token(token: str) -> None:
    assert judge(token) is None


@given(pieces=st.lists(parts.map(base64url) | anything, min_size=1, max_size=6))
@no_deadline
def test_nothing_of_a_tokens_shape_is_one(pieces: list[str]) -> None:
    assert judge(".".join(pieces)) is None


@given(header=parts.map(base64url), payload=parts.map(base64url))
@no_deadline
def test_no_part_can_be_replaced(header: str, payload: str) -> None:
    assert judge(f"{header}.{PAYLOAD}.{SIGNATURE}") is None
    assert judge(f"{HEADER}.{payload}.{SIGNATURE}") is None


def test_no_bit_can_be_flipped() -> None:
    assert judge(TOKEN) is not None
    assert [token for token in FLIPPED if judge(token) is not None] == []


@given(place=st.integers(0, len(TOKEN)), cut=st.integers(0, 40), inserted=st.text(max_size=8))
@no_deadline
def test_no_piece_can_be_cut_out_or_put_in(place: int, cut: int, inserted: str) -> None:
    changed = TOKEN[:place] + inserted + TOKEN[place + cut :]
    assert (judge(changed) is not None) is (changed == TOKEN)


@given(header=parts, payload=parts)
@few
def test_any_bytes_well_signed_get_an_answer(header: bytes, payload: bytes) -> None:
    assert judge(POOL.sign(header, payload)) is None
    assert judge(POOL.sign(POOL.header(), payload)) is None


REQUIRED = ["iss", "sub", "exp", "iat", "nbf", "token_use", "client_id", "aud", "jti", "email", "email_verified"]


@given(
    claims=st.dictionaries(st.sampled_from(REQUIRED), json_values, max_size=3), use=st.sampled_from(["access", "id"])
)
@few
def test_whatever_is_accepted_holds_what_a_principal_promises(claims: dict[str, Any], use: str) -> None:
    verified = judge(POOL.token(**claims) if use == "access" else POOL.id_token(**claims))
    if verified is not None:
        principal, valid_from, valid_until = verified
        assert isinstance(principal.subject, str)
        assert principal.subject
        assert (principal.issuer, principal.client_id) == (POOL.issuer, POOL.client_id)
        assert principal.token_use == use
        assert valid_from <= NOW < valid_until
        assert principal.email is None or principal.claims["email_verified"] is True


@pytest.fixture(autouse=True, scope="module")
def _stopped_clock() -> Iterator[None]:
    with stopped_clock():
        yield


CLAIMS = json.dumps(POOL.access_claims()).encode()


def with_claims(*more: bytes) -> str:
    """A good token whose payload has further members at its end."""
    return POOL.sign(POOL.header(), CLAIMS[:-1] + b"".join(b"," + member for member in more) + b"}")


def encoded(header: str = "utf-8", payload: str = "utf-8") -> str:
    return POOL.sign(POOL.header().decode().encode(header), CLAIMS.decode().encode(payload))


ARABIC_EXP = "".join(chr(0x660 + int(digit)) for digit in str(NOW + 60))

BOTH, PYJWT, JOSERFC = {"PyJWT", "joserfc"}, {"PyJWT"}, {"joserfc"}

DISAGREEMENTS = [
    (POOL.token(pad="x" * 64_000), "longer than 64 KiB", BOTH),
    (f"{TOKEN}==", "padding", PYJWT),
    (encoded(payload="utf-16"), "JSON in another encoding", BOTH),
    (encoded(payload="utf-32-be"), "JSON in another encoding", BOTH),
    (encoded(payload="utf-8-sig"), "JSON in another encoding", BOTH),
    (encoded(header="utf-16-le"), "JSON in another encoding", BOTH),
    (encoded(header="utf-8-sig"), "JSON in another encoding", BOTH),
    (with_claims(b'"x":"\xed\xa0\x80"'), "JSON in another encoding", BOTH),
    (with_claims(b'"x":1', b'"x":2'), "a name twice", BOTH),
    (with_claims(b'"sub":"root"'), "a name twice", BOTH),
    (with_claims(b'"x":{"y":1,"y":2}'), "a name twice", BOTH),
    (POOL.sign(b'{"alg":"none",' + POOL.header()[1:], CLAIMS), "a name twice", BOTH),
    (with_claims(b'"x":NaN'), "a number that is none", BOTH),
    (with_claims(b'"x":-Infinity'), "a number that is none", BOTH),
    (with_claims(b'"x":1e999'), "a number that is none", BOTH),
    (with_claims(b'"x":"\\ud800"'), "a lone surrogate", BOTH),
    (with_claims(b'"\\udc00":1'), "a lone surrogate", BOTH),
    (POOL.token(header={"crit": []}), "crit", JOSERFC),
    (POOL.token(header={"crit": ["b64"], "b64": True}), "crit", BOTH),
    (POOL.token(header={"b64": None}), "b64 that is not true", PYJWT),
    (POOL.token(header={"typ": 5}), "an unused header of another type", PYJWT),
    (POOL.token(header={"jku": "keys"}), "an unused header of another type", PYJWT),
    (POOL.token(header={"x5c": [1]}), "an unused header of another type", PYJWT),
    (POOL.token(exp=DROP), "exp or iat is missing", BOTH),
    (POOL.token(iat=DROP), "exp or iat is missing", BOTH),
    (POOL.token(sub=DROP), "sub is missing or empty", BOTH),
    (POOL.token(sub=""), "sub is missing or empty", BOTH),
    (POOL.token(exp=str(NOW + 60)), "a time that is not whole seconds", PYJWT),
    (POOL.token(exp=ARABIC_EXP), "a time that is not whole seconds", PYJWT),
    (POOL.token(exp=NOW + 60.5), "a time that is not whole seconds", BOTH),
    (POOL.token(iat=str(NOW)), "a time that is not whole seconds", PYJWT),
    (POOL.token(iat=NOW - 0.5), "a time that is not whole seconds", BOTH),
    (POOL.token(nbf=True), "a time that is not whole seconds", PYJWT),
    (POOL.token(nbf="5"), "a time that is not whole seconds", PYJWT),
    (POOL.token(exp=10**400), "a time beyond 2**53", BOTH),
    (POOL.token(aud=5), "aud that is neither text nor texts", PYJWT),
]


@pytest.mark.parametrize(
    ("token", "why", "accepting"),
    [pytest.param(*row, id=f"{number}: {row[1]}") for number, row in enumerate(DISAGREEMENTS, 1)],
)
def test_where_we_are_stricter(token: str, why: str, accepting: set[str]) -> None:
    assert judge(token) is None
    assert {name for name, accepts in {"PyJWT": pyjwt, "joserfc": joserfc}.items() if accepts(token)} == accepting
    assert why in why_stricter(read(token))


def test_every_reason_to_be_stricter_has_its_example() -> None:
    assert {why for _, why, _ in DISAGREEMENTS} == STRICTER.keys()


@pytest.mark.parametrize("ahead", [1, 60])
def test_where_we_are_wider_on_purpose(ahead: int) -> None:
    token = POOL.token(iat=NOW + ahead)
    assert judge(token) is not None
    assert not pyjwt(token)
    assert not joserfc(token)
    compare(token)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(TOKEN, id="access"),
        pytest.param(POOL.id_token(groups=["admins"]), id="id"),
        pytest.param(POOL.machine_token(), id="machine"),
        pytest.param(POOL.federated_token(), id="federated access"),
        pytest.param(POOL.federated_id_token(), id="federated id"),
        pytest.param(POOL.token(nbf=NOW), id="nbf itself"),
        pytest.param(POOL.token(exp=NOW + 1), id="a second before exp"),
        pytest.param(POOL.token(header={"typ": "JWT"}), id="with typ"),
    ],
)
def test_all_three_accept_what_is_good(token: str) -> None:
    assert judge(token) is not None
    assert pyjwt(token)
    assert joserfc(token)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(POOL.token(exp=NOW), id="exp itself"),
        pytest.param(POOL.token(nbf=NOW + 1), id="a second before nbf"),
        pytest.param(POOL.token(iat=NOW + 61), id="iat more than a minute ahead"),
        pytest.param(POOL.token(iss=POOL.issuer + "/"), id="another issuer"),
        pytest.param(POOL.token(iss=[POOL.issuer]), id="a list of issuers"),
        pytest.param(POOL.token(sub=5), id="sub as a number"),
        pytest.param(POOL.token(jti=5), id="jti as a number"),
        pytest.param(POOL.token(header={"alg": "none"}), id="alg none"),
        pytest.param(POOL.token(header={"alg": "RS512"}), id="alg RS512"),
        pytest.param(POOL.token(header={"b64": False}), id="b64 false"),
        pytest.param(sign(POOL.header(), CLAIMS, POOL.id_key), id="the wrong key"),
        pytest.param(f"{HEADER}.{PAYLOAD}.", id="no signature"),
        pytest.param(with_claims(b'"x":"\xff"'), id="not UTF-8"),
    ],
)
def test_all_three_refuse_what_is_bad(token: str) -> None:
    assert judge(token) is None
    assert not pyjwt(token)
    assert not joserfc(token)


def test_flipped_bits_are_never_judged_differently() -> None:
    for token in FLIPPED[::5]:
        compare(token)


odd_values = (
    json_values
    | st.sampled_from([DROP, "", True, False, None, POOL.client_id, POOL.issuer, [POOL.client_id], "access", "id"])
    | st.integers(NOW - 70, NOW + 70)
    | st.integers(NOW - 70, NOW + 70).map(str)
    | st.integers(NOW - 70, NOW + 70).map(float)
)
members = ["typ", "cty", "jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "zip", "kid", "alg", "x"]


@given(claims=st.dictionaries(st.sampled_from([*REQUIRED, "x"]), odd_values, min_size=1, max_size=2))
@settings(no_deadline, max_examples=600)
def test_odd_claims_are_never_judged_differently_without_a_reason(claims: dict[str, Any]) -> None:
    compare(POOL.token(**claims))
    compare(POOL.id_token(**claims))


@given(header=st.dictionaries(st.sampled_from(members), odd_values, min_size=1, max_size=2))
@settings(no_deadline, max_examples=600)
def test_odd_headers_are_never_judged_differently_without_a_reason(header: dict[str, Any]) -> None:
    compare(POOL.token(header=header))
