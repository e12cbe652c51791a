"""What stays true of every token: an answer or a TokenError, and never more trust than two other libraries give."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc import jwt as jose
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry

from authz.errors import TokenError
from authz.identity.cognito import Verified, peek, verify
from tests.support.user_pool import DROP, NOW, FakeUserPool, base64url, sign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POOL = FakeUserPool()
TRUST = POOL.trust()
HEADER, PAYLOAD, SIGNATURE = (TOKEN := POOL.token(groups=["admins"])).split(".")
FLIPPED = tuple(
    TOKEN[:place] + chr(ord(TOKEN[place]) ^ (1 << bit)) + TOKEN[place + 1 :]
    for place in range(len(TOKEN))
    for bit in range(8)
)

no_deadline = settings(deadline=None, max_examples=300)
few = settings(deadline=None, max_examples=150)


def judge(token: str) -> Verified | None:
    """Ours. None: refused. Anything but a TokenError escapes and fails the test."""
    try:
        unverified = peek(token)
        key = POOL.keys.get(unverified.kid)
        return None if key is None else verify(unverified, key, TRUST, NOW)
    except TokenError:
        return None


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


# The oracles: PyJWT and joserfc as a careful author would call them, who then looks at token_use and the client.


@pytest.fixture(autouse=True, scope="module")
def _stopped_clock() -> Iterator[None]:
    """PyJWT asks the clock itself; joserfc is told."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(NOW, tz or UTC)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jwt.api_jwt.datetime", Stopped)
        yield


def pyjwt(token: str) -> bool:
    try:
        key = POOL.keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token, key, algorithms=["RS256"], issuer=POOL.issuer, options={"verify_aud": False, "verify_iss": True}
        )
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, RecursionError):
        return False  # some of these escape by mistake; refused is what counts
    return is_for_us(claims)


JOSE_KEYS = {kid: RSAKey.import_key(key) for kid, key in POOL.keys.items()}
# RFC 7515 section 4: header members that are not understood must be ignored.
JOSE_REGISTRY = JWSRegistry(algorithms=["RS256"], strict_check_header=False)
JOSE_REGISTRY.max_header_length = 16 * 1024  # its 512 is no rule of an RFC; we cap the whole token


def joserfc(token: str) -> bool:
    try:
        kid = read(token).header["kid"]
        claims = jose.decode(token, JOSE_KEYS[kid], registry=JOSE_REGISTRY).claims
        jose.JWTClaimsRegistry(now=NOW, leeway=0, iss={"essential": True, "value": POOL.issuer}).validate(claims)
    except (JoseError, KeyError, TypeError, ValueError, RecursionError, AttributeError):
        return False
    return is_for_us(claims)


def is_for_us(claims: dict[str, Any]) -> bool:
    use = claims.get("token_use")
    client_claim = {"access": "client_id", "id": "aud"}.get(use) if isinstance(use, str) else None
    return client_claim is not None and claims.get(client_claim) == POOL.client_id


# What we refuse and an oracle may accept, and why it is right to. Judged without our own code, on a lenient reading.


class Read(NamedTuple):
    token: str
    raw: tuple[bytes, bytes]  # header, payload
    header: dict[str, Any]
    claims: dict[str, Any]
    names_twice: bool


def read(token: str) -> Read:
    names_twice = False

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal names_twice
        names_twice |= len(dict(pairs)) < len(pairs)
        return dict(pairs)

    raw = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")[:2]]
    header, claims = (json.loads(part, object_pairs_hook=note) for part in raw)
    return Read(token, (raw[0], raw[1]), header, claims, names_twice)


def is_plain_utf_8(raw: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        return "\0" not in raw.decode() and not raw.startswith(b"\xef\xbb\xbf")
    return False


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def is_surrogate(value: Any) -> bool:
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)


def is_whole_seconds(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


TIMES = ("exp", "iat", "nbf")
TEXT_MEMBERS = ("typ", "cty", "jku", "x5u", "x5t", "x5t#S256")
URL_MEMBERS = ("jku", "x5u")

STRICTER: dict[str, Callable[[Read], bool]] = {
    # A cap comes before any work on what a stranger sent.
    "longer than 16 KiB": lambda it: len(it.token) > 16 * 1024,
    # RFC 7515 section 2: no padding. One token has one spelling, or deny-lists and caches can be walked around.
    "padding": lambda it: "=" in it.token,
    # RFC 8725 section 3.7: UTF-8 only. json.loads guesses UTF-16 and UTF-32 and lets surrogates through.
    "JSON in another encoding": lambda it: not all(map(is_plain_utf_8, it.raw)),
    # RFC 7519 section 4: unique names, or the last one. Another reader of the token may take the first.
    "a name twice": lambda it: it.names_twice,
    # No JSON (RFC 8259 section 6), and it compares like nothing else.
    "a number that is none": lambda it: any(map(is_not_finite, leaves([it.header, it.claims]))),
    # Cannot be written to a log or a header.
    "a lone surrogate": lambda it: any(map(is_surrogate, leaves([it.header, it.claims]))),
    # RFC 7515 section 4.1.11: an empty list is not allowed, and we understand no extension, `b64` included.
    "crit": lambda it: "crit" in it.header,
    "b64 that is not true": lambda it: it.header.get("b64", True) is not True,
    # RFC 7515 section 4.1 gives them types. Cognito sends none of them.
    "an unused header of another type": lambda it: (
        any(not isinstance(it.header.get(name, ""), str) for name in TEXT_MEMBERS)
        or any(not it.header.get(name, "https:").startswith("http") for name in URL_MEMBERS)
        or not isinstance(it.header.get("jwk", {}), dict)
        or not isinstance(it.header.get("x5c", []), list)
        or not all(isinstance(item, str) for item in it.header.get("x5c", []))
    ),
    # A token without an end would be good for ever; Cognito always says both, and who it is about.
    "exp or iat is missing": lambda it: not {"exp", "iat"} <= it.claims.keys(),
    "sub is missing or empty": lambda it: it.claims.get("sub", "") == "",
    # Cognito's are whole seconds. int() takes texts, Arabic digits, booleans, and drops fractions.
    "a time that is not whole seconds": lambda it: any(
        name in it.claims and not is_whole_seconds(it.claims[name]) for name in TIMES
    ),
    # 10**400 overflows where it meets a float.
    "a time beyond 2**53": lambda it: any(
        is_whole_seconds(it.claims.get(name)) and abs(it.claims[name]) > 2**53 for name in TIMES
    ),
    # RFC 7519 section 4.1.3. PyJWT does not look when it is told not to compare it.
    "aud that is neither text nor texts": lambda it: (
        not isinstance(it.claims.get("aud", ""), str)
        and not (isinstance(it.claims["aud"], list) and all(isinstance(item, str) for item in it.claims["aud"]))
    ),
}


def is_wider_on_purpose(it: Read) -> bool:
    """Cognito's clock is often a second ahead of ours; both oracles refuse its fresh tokens then."""
    return isinstance(it.claims["iat"], int) and 0 < it.claims["iat"] - NOW <= 60


def why_stricter(it: Read) -> set[str]:
    return {name for name, applies in STRICTER.items() if applies(it)}


def compare(token: str) -> None:
    """Fail on every disagreement that is not explained."""
    ours, theirs = judge(token) is not None, {"PyJWT": pyjwt(token), "joserfc": joserfc(token)}
    if ours and not all(theirs.values()):
        assert is_wider_on_purpose(read(token)), f"we accept what {theirs} do not: {read(token)}"
    if not ours and any(theirs.values()):
        assert why_stricter(read(token)), f"we refuse what {theirs} accept: {read(token)}"


CLAIMS = json.dumps(POOL.access_claims()).encode()


def with_claims(*more: bytes) -> str:
    """A good token whose payload has further members at its end."""
    return POOL.sign(POOL.header(), CLAIMS[:-1] + b"".join(b"," + member for member in more) + b"}")


def encoded(header: str = "utf-8", payload: str = "utf-8") -> str:
    return POOL.sign(POOL.header().decode().encode(header), CLAIMS.decode().encode(payload))


ARABIC_EXP = "".join(chr(0x660 + int(digit)) for digit in str(NOW + 60))

BOTH, PYJWT, JOSERFC = {"PyJWT", "joserfc"}, {"PyJWT"}, {"joserfc"}

DISAGREEMENTS = [
    (POOL.token(pad="x" * 16_000), "longer than 16 KiB", BOTH),
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
