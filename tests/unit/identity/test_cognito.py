from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from authz.errors import TokenError
from authz.identity.cognito import MAX_TOKEN_LENGTH, Verified, error_but_for_the_signature, peek, verify
from authz.model import Reason
from tests.support.user_pool import ALICE, DROP, LIFETIME, NOW, FakeUserPool, base64url, rsa_key

if TYPE_CHECKING:
    from collections.abc import Callable

POOL = FakeUserPool()


def judge(token: str, now: float = NOW, **trust: Any) -> Verified:
    """Both steps, as authorizer.py takes them: an unknown kid falls back on the access key to get further."""
    unverified = peek(token)
    key = POOL.keys.get(unverified.kid, POOL.access_key.public_key())
    return verify(unverified, key, POOL.trust(**trust), now)


def refusal(token: str, now: float = NOW, **trust: Any) -> TokenError:
    with pytest.raises(TokenError) as caught:
        judge(token, now, **trust)
    return caught.value


def with_payload(payload: bytes) -> str:
    return POOL.sign(POOL.header(), payload)


def with_header(header: bytes) -> str:
    return POOL.sign(header, json.dumps(POOL.access_claims()).encode())


def claims_text(**overrides: Any) -> str:
    return json.dumps({**POOL.access_claims(), **overrides})


# Good tokens


def test_an_access_token() -> None:
    principal, valid_from, valid_until = judge(POOL.token(groups=["admins"]))
    assert principal.subject == ALICE
    assert principal.issuer == POOL.issuer
    assert principal.client_id == POOL.client_id
    assert principal.token_use == "access"
    assert principal.claims == POOL.access_claims(groups=["admins"])
    assert (principal.email, principal.email_is_unverified) == (None, False)
    assert (valid_from, valid_until) == (NOW - 60, NOW + LIFETIME)


def test_an_id_token() -> None:
    principal = judge(POOL.id_token()).principal
    assert (principal.token_use, principal.client_id) == ("id", POOL.client_id)
    assert principal.email == "alice@example.com"
    assert principal.claims["cognito:username"] == "alice"


def test_a_machine_token() -> None:
    principal = judge(POOL.machine_token(scope="orders/read orders/write")).principal
    assert principal.subject == principal.client_id == POOL.client_id
    assert "username" not in principal.claims
    assert principal.claims["scope"] == "orders/read orders/write"


def test_federated_tokens() -> None:
    access, by_id = judge(POOL.federated_token()).principal, judge(POOL.federated_id_token()).principal
    assert access.claims["username"] == by_id.claims["cognito:username"] == "Auth0_auth0|5f7c8ec7"
    assert access.claims["cognito:groups"] == [f"{POOL.pool_id}_Auth0"]
    assert (by_id.email, by_id.email_is_unverified) == (None, True)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(POOL.token(aud="https://api.example.com"), id="an access token bound to a resource"),
        pytest.param(POOL.token(aud=["a", "b"]), id="an aud that nobody looks at"),
        pytest.param(POOL.id_token(client_id=5), id="a client_id that nobody looks at"),
        pytest.param(POOL.token(scope=5, **{"cognito:groups": "admins"}), id="optional claims of any type"),
        pytest.param(POOL.token(nested={"a": [{"b": None}], "f": 1.5, "big": 10**30}), id="claims of any nesting"),
        pytest.param(POOL.token(nbf=NOW), id="nbf itself"),
        pytest.param(POOL.token(header={"typ": "JWT"}), id="a typ header, as emulators add"),
        pytest.param(
            POOL.token(
                header={"jku": "https://evil", "jwk": {}, "x5u": "http://evil", "x5c": ["c"], "zip": "DEF", "b64": True}
            ),
            id="headers that are never used",
        ),
        pytest.param(POOL.token(username="Zoë 😀"), id="characters outside ASCII, escaped"),
        pytest.param(with_payload(claims_text().replace("alice", "Zoë").encode()), id="… and as UTF-8"),
        pytest.param(with_payload(claims_text().replace("alice", "\\\\ud800").encode()), id="text like an escape"),
        pytest.param(with_payload(b" \r\n\t" + claims_text().encode() + b"\n"), id="blanks around the JSON"),
    ],
)
def test_accepts(token: str) -> None:
    assert judge(token).principal.issuer == POOL.issuer


def test_numbers_are_what_the_token_says() -> None:
    claims = judge(POOL.token(level=3, ratio=1.5, small=-2.5e-3, deep=[{"x": 0.25}])).principal.claims
    assert (claims["level"], claims["ratio"], claims["small"], claims["deep"]) == (3, 1.5, -0.0025, [{"x": 0.25}])


def test_what_else_would_refuse_a_token_with_a_bad_signature() -> None:
    def other(now: float) -> TokenError | None:
        return error_but_for_the_signature(peek(f"{POOL.token().rpartition('.')[0]}.AAAA"), POOL.trust(), now)

    assert other(NOW) is None
    expired = other(NOW + LIFETIME)
    assert expired is not None
    assert expired.reason is Reason.TOKEN_EXPIRED


def test_every_length_of_a_part_is_read() -> None:
    for length in range(6):
        assert judge(POOL.token(username="x" * length)).principal.claims["username"] == "x" * length


# Step 1 and 2: the shape


def test_the_size_cap_is_the_first_check() -> None:
    padding = MAX_TOKEN_LENGTH - len(POOL.token(pad=""))
    largest = next(
        token
        for extra in range(8)
        if len(token := POOL.token(pad="x" * (padding * 3 // 4 - extra))) <= MAX_TOKEN_LENGTH
    )
    judge(largest)
    error = refusal("." * (MAX_TOKEN_LENGTH + 1))
    assert error.reason is Reason.TOKEN_MALFORMED
    assert error.detail == "65537 characters long, at most 65536"
    assert refusal("." * MAX_TOKEN_LENGTH).detail == "65537 parts instead of 3"


def test_a_member_of_a_hundred_groups_with_the_longest_names_is_known() -> None:
    for letter, length in ("g", 18_000), ("グ", 50_000):
        groups = [letter * 125 + f"{number:03}" for number in range(100)]  # docs.aws.amazon.com/cognito: quotas
        claims = {**POOL.access_claims(), "cognito:groups": groups}
        token = POOL.sign(POOL.header(), json.dumps(claims, ensure_ascii=False).encode())
        assert len(token) > length
        assert judge(token).principal.claims["cognito:groups"] == groups


HEADER, PAYLOAD, SIGNATURE = POOL.token().split(".")


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="nothing"),
        pytest.param(".", id="a dot"),
        pytest.param("..", id="two dots"),
        pytest.param(f"{HEADER}.{PAYLOAD}", id="two parts"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE}.", id="a dot at the end"),
        pytest.param("a.b.c.d.e", id="five parts, a refresh token"),
        pytest.param(f"{HEADER}..{SIGNATURE}", id="an empty payload"),
        pytest.param(f".{PAYLOAD}.{SIGNATURE}", id="an empty header"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE}==", id="padding after the signature"),
        pytest.param(f"{HEADER}==.{PAYLOAD}.{SIGNATURE}", id="padding after the header"),
        pytest.param(f"{HEADER}.{PAYLOAD}=.{SIGNATURE}", id="padding after the payload"),
        pytest.param(f"{HEADER}.{PAYLOAD}A.{SIGNATURE}"[:-1], id="a length that no bytes have"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-1]}", id="a stray character left over"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-3]}+{SIGNATURE[-2:]}", id="a plus of base64"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE[:8]}++++{SIGNATURE[8:]}", id="what a lenient decoder skips"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE[:8]}\n\r\n {SIGNATURE[8:]}", id="blanks that it skips too"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-3]}/{SIGNATURE[-2:]}", id="a slash of base64"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-3]}={SIGNATURE[-2:]}", id="padding in the middle"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-3]} {SIGNATURE[-2:]}", id="a blank inside"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE}\n", id="a newline at the end"),
        pytest.param(f" {HEADER}.{PAYLOAD}.{SIGNATURE}", id="a blank before"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-3]}\0{SIGNATURE[-2:]}", id="a NUL inside"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-3]}é{SIGNATURE[-2:]}", id="a character outside ASCII"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-3]}\ud800{SIGNATURE[-2:]}", id="a lone surrogate"),
    ],
)
def test_malformed_shape(token: str) -> None:
    assert refusal(token).reason is Reason.TOKEN_MALFORMED


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "payload", "signature"])
def test_stray_bits_in_the_last_character_are_refused(part: int) -> None:
    """2048-bit signatures leave four bits unused: fifteen other spellings decode to the same bytes."""
    stray = 0
    for pad in range(3):
        parts = POOL.token(pad="x" * pad, header={"pad": "x" * pad}).split(".")
        unused = {0: 0, 2: 4, 3: 2}[len(parts[part]) % 4]
        last = ALPHABET.index(parts[part][-1])
        for bits in range(1, 1 << unused):
            spelling = [*parts]
            spelling[part] = parts[part][:-1] + ALPHABET[last + bits]
            assert base64.urlsafe_b64decode(spelling[part] + "==") == base64.urlsafe_b64decode(parts[part] + "==")
            assert refusal(".".join(spelling)).reason is Reason.TOKEN_MALFORMED
            stray += 1
    assert stray >= 15


# Strict JSON, of header and payload alike

BAD_JSON = [
    pytest.param(lambda text: b"", id="nothing"),
    pytest.param(lambda text: b"[]", id="a list"),
    pytest.param(lambda text: b'"text"', id="a text"),
    pytest.param(lambda text: b"null", id="null"),
    pytest.param(lambda text: text.encode()[:-1], id="cut off"),
    pytest.param(lambda text: text.encode() + b"{}", id="two objects"),
    pytest.param(lambda text: b"\xef\xbb\xbf" + text.encode(), id="a byte order mark"),
    pytest.param(lambda text: text.encode("utf-16"), id="UTF-16"),
    pytest.param(lambda text: text.encode("utf-16-le"), id="UTF-16 without a mark"),
    pytest.param(lambda text: text.encode("utf-32"), id="UTF-32"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":"\xff"}', id="not UTF-8"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":"\xed\xa0\x80"}', id="a surrogate as UTF-8"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":"\xc0\xaf"}', id="an overlong slash"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":1,"x":1}', id="one name twice"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":1,"\\u0078":1}', id="one name twice, once escaped"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":[{"y":1,"y":1}]}', id="one name twice, further in"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":NaN}', id="NaN"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":Infinity}', id="Infinity"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":-Infinity}', id="minus Infinity"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":1e999}', id="a number that overflows to infinity"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":' + b"1" * 4301 + b"}", id="more digits than Python reads"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":"\\ud800"}', id="a lone surrogate in a text"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":"\\uDC00\\uD800"}', id="surrogates in the wrong order"),
    pytest.param(lambda text: text.encode()[:-1] + b',"\\uD800":1}', id="a lone surrogate in a name"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":[{"y":["\\ud83d"]}]}', id="a lone surrogate further in"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":"\n"}', id="a control character in a text"),
    pytest.param(lambda text: text.encode()[:-1] + b',"x":1,}', id="a comma at the end"),
    pytest.param(lambda text: text.replace('"', "'").encode(), id="single quotes"),
    pytest.param(lambda text: text.encode() + b"\0", id="a NUL at the end"),
    pytest.param(lambda text: text.encode() + b"\f", id="a form feed at the end"),
    pytest.param(lambda text: b"\xc2\xa0" + text.encode(), id="a no-break space before it"),
    pytest.param(lambda text: b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", id="nested deeper than Python goes"),
    pytest.param(lambda text: b'{"x":' * 1800 + b"1" + b"}" * 1800, id="objects nested as deep"),
]


@pytest.mark.parametrize("spoil", BAD_JSON)
def test_a_payload_that_is_not_strict_json(spoil: Callable[[str], bytes]) -> None:
    error = refusal(with_payload(spoil(claims_text())))
    assert error.reason is Reason.TOKEN_MALFORMED
    assert "payload" in error.detail


@pytest.mark.parametrize("spoil", BAD_JSON)
def test_a_header_that_is_not_strict_json(spoil: Callable[[str], bytes]) -> None:
    error = refusal(with_header(spoil(POOL.header().decode())))
    assert error.reason is Reason.TOKEN_MALFORMED
    assert "header" in error.detail


def test_strict_json_may_have_whitespace_around_it() -> None:  # RFC 8259 section 2
    assert peek(with_payload(f" \t\r\n{claims_text()}\n\r\t ".encode())).issuer == POOL.issuer


# Step 3: the header


@pytest.mark.parametrize(
    "alg",
    ["none", "None", "nOnE", "", "HS256", "RS384", "RS512", "PS256", "ES256", "EdDSA", "rs256", "RS256 ", "RS256\0",
     None, True, 256, ["RS256"], {"RS256": 1}, DROP],
    ids=lambda alg: "missing" if alg is DROP else repr(alg),
)  # fmt: skip
def test_every_algorithm_but_rs256_is_refused(alg: object) -> None:
    assert refusal(POOL.token(header={"alg": alg})).reason is Reason.TOKEN_ALGORITHM_REFUSED


def test_an_unsigned_token_is_refused_for_its_algorithm() -> None:
    header = base64url(b'{"alg":"none","kid":"k"}')
    assert refusal(f"{header}.{PAYLOAD}.").reason is Reason.TOKEN_ALGORITHM_REFUSED


@pytest.mark.parametrize("kid", ["", None, 5, True, ["k"], {}, DROP], ids=repr)
def test_a_kid_that_is_no_text(kid: object) -> None:
    assert refusal(POOL.token(header={"kid": kid})).reason is Reason.TOKEN_MALFORMED


def test_a_kid_is_an_opaque_text() -> None:
    for kid in ("../../etc/passwd", "+aZ/=", "' OR 1=1 --", "x" * 5000, "é😀"):
        assert peek(POOL.token(header={"kid": kid})).kid == kid


@pytest.mark.parametrize("crit", [["b64"], ["exp"], [], None, "exp"], ids=repr)
def test_any_crit_is_refused(crit: object) -> None:
    error = refusal(POOL.token(header={"crit": crit}))
    assert error.reason is Reason.TOKEN_MALFORMED
    assert "crit" in error.detail


@pytest.mark.parametrize(
    "member",
    [{"b64": False}, {"b64": None}, {"typ": 5}, {"typ": None}, {"cty": True}, {"jku": 5},
     {"jku": "evil"}, {"x5u": ""}, {"x5u": []}, {"x5t": {}},
     {"x5t#S256": 5}, {"jwk": "k"}, {"jwk": []}, {"x5c": "c"}, {"x5c": [1]}, {"x5c": None}],
    ids=repr,
)  # fmt: skip
def test_an_unused_header_of_another_type(member: dict[str, Any]) -> None:
    error = refusal(POOL.token(header=member))
    assert error.reason is Reason.TOKEN_MALFORMED
    assert next(iter(member)) in error.detail


# Step 4 and 5: the issuer


@pytest.mark.parametrize("iss", [DROP, None, 5, True, [POOL.issuer], {POOL.issuer: 1}], ids=lambda iss: f"{iss!r:.20}")
def test_an_issuer_that_is_no_text_is_refused_by_peek(iss: object) -> None:
    token = POOL.token(iss=iss)
    with pytest.raises(TokenError) as caught:
        peek(token)
    assert caught.value.reason is Reason.TOKEN_ISSUER_UNKNOWN


@pytest.mark.parametrize(
    "iss",
    [
        pytest.param("", id="empty"),
        pytest.param(POOL.issuer + "/", id="a slash at the end"),
        pytest.param(POOL.issuer[:-1], id="a prefix"),
        pytest.param(POOL.issuer + "X", id="a longer one"),
        pytest.param(POOL.issuer.upper(), id="upper case"),
        pytest.param(" " + POOL.issuer, id="a blank before"),
        pytest.param(POOL.issuer.replace("https", "http"), id="another scheme"),
        pytest.param("https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Attacker1", id="another pool, same host"),
    ],
)
def test_another_issuer(iss: str) -> None:
    error = refusal(POOL.token(iss=iss))
    assert error.reason is Reason.TOKEN_ISSUER_UNKNOWN
    assert error.detail == "the issuer is not one of pool eu-west-1_AbCdEfGhI"


def test_each_of_several_issuers_of_a_pool() -> None:
    updated = "https://issuer-cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
    issuers = (POOL.issuer, updated)
    assert judge(POOL.token(), issuers=issuers).principal.issuer == POOL.issuer
    assert judge(POOL.token(iss=updated), issuers=issuers).principal.issuer == updated


# Step 6: the signature


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(POOL.token(key=rsa_key("other"), header={"kid": peek(POOL.token()).kid}), id="another key"),
        pytest.param(POOL.id_token(header={"kid": peek(POOL.token()).kid}), id="the pool's other key"),
        pytest.param(f"{HEADER}.{PAYLOAD}.", id="no signature"),
        pytest.param(f"{HEADER}.{PAYLOAD}.AAAA", id="a short signature"),
        pytest.param(f"{HEADER}.{PAYLOAD}.{base64url(bytes(256))}", id="a signature of zeros"),
        pytest.param(f"{HEADER}.{PAYLOAD}." + base64url(bytes([255]) * 256), id="a signature above the modulus"),
        pytest.param(
            f"{HEADER}.{PAYLOAD}." + base64url(bytes(1) + base64.urlsafe_b64decode(SIGNATURE + "==")),
            id="a zero before the signature",
        ),
        pytest.param(
            f"{HEADER}.{base64url(claims_text(sub='mallory').encode())}.{SIGNATURE}", id="other claims, same signature"
        ),
        pytest.param(
            base64url(POOL.header()[:-1] + b',"x":1}') + f".{PAYLOAD}.{SIGNATURE}", id="another header, same signature"
        ),
    ],
)
def test_a_signature_that_does_not_match(token: str) -> None:
    assert refusal(token).reason is Reason.TOKEN_SIGNATURE_INVALID


def test_a_weak_key_is_refused_though_its_signature_is_good() -> None:
    weak = rsa_key("weak", bits=1024)
    with pytest.raises(TokenError) as caught:
        verify(peek(POOL.token(key=weak)), weak.public_key(), POOL.trust(), NOW)
    assert caught.value.reason is Reason.TOKEN_SIGNATURE_INVALID
    assert caught.value.detail == "the key has less than 2048 bits"


def test_the_signature_is_checked_before_any_claim() -> None:
    broken = POOL.token(key=rsa_key("other"), header={"kid": peek(POOL.token()).kid}, exp=0, sub=5, token_use="refresh")
    assert refusal(broken).reason is Reason.TOKEN_SIGNATURE_INVALID


# Step 7: required claims and their types

NO_TEXTS = [DROP, None, "", 5, 1.5, True, ["x"], {"x": 1}]
NO_SECONDS = [None, "", str(NOW + 60), "٣", 1.5, NOW + 60.0, True, False, [NOW], {}, 10**400, 2**53 + 1, -(2**53) - 1]


def shown(value: object) -> str:
    return "missing" if value is DROP else f"{value!r:.24}"


@pytest.mark.parametrize("value", NO_TEXTS, ids=shown)
@pytest.mark.parametrize(
    ("mint", "name"), [(POOL.token, "sub"), (POOL.id_token, "sub"), (POOL.token, "client_id"), (POOL.id_token, "aud"),
                       (POOL.token, "token_use"), (POOL.id_token, "token_use")],
    ids=["sub of access", "sub of id", "client_id of access", "aud of id", "token_use of access", "token_use of id"],
)  # fmt: skip
def test_a_claim_that_must_be_text(mint: Callable[..., str], name: str, value: object) -> None:
    error = refusal(mint(**{name: value}), clients=None)
    assert error.reason is Reason.TOKEN_CLAIM_INVALID
    assert error.detail.startswith(f"`{name}` ")


@pytest.mark.parametrize("value", NO_SECONDS, ids=shown)
@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
def test_a_claim_that_must_be_whole_seconds(name: str, value: object) -> None:
    error = refusal(POOL.token(**{name: value}))
    assert error.reason is Reason.TOKEN_CLAIM_INVALID
    assert error.detail.startswith(f"`{name}` ")


@pytest.mark.parametrize("name", ["exp", "iat"])
def test_a_time_that_must_be_there(name: str) -> None:
    assert refusal(POOL.token(**{name: DROP})).reason is Reason.TOKEN_CLAIM_INVALID


@pytest.mark.parametrize(
    "claims", [{"jti": 5}, {"jti": None}, {"aud": 5}, {"aud": None}, {"aud": [5]}, {"aud": {}}], ids=repr
)
def test_an_optional_claim_of_another_type_than_its_rfc_says(claims: dict[str, Any]) -> None:
    error = refusal(POOL.token(**claims))
    assert error.reason is Reason.TOKEN_CLAIM_INVALID
    assert next(iter(claims)) in error.detail


def test_the_largest_seconds_there_are() -> None:
    assert judge(POOL.token(exp=2**53), leeway=300.0).valid_until > 2**53
    assert refusal(POOL.token(exp=-(2**53))).reason is Reason.TOKEN_EXPIRED


# Step 8: token_use


@pytest.mark.parametrize(
    ("token", "accepted"),
    [
        pytest.param(POOL.id_token(), "access", id="an id token where access is wanted"),
        pytest.param(POOL.token(), "id", id="an access token where id is wanted"),
        pytest.param(POOL.token(token_use="refresh"), "access", id="a refresh token, as an emulator makes them"),
        pytest.param(POOL.token(token_use="Access"), "access", id="another case"),
        pytest.param(POOL.token(token_use="refresh"), "refresh", id="a use that a pool cannot ask for"),
    ],
)
def test_token_use(token: str, accepted: str) -> None:
    error = refusal(token, token_use=frozenset({accepted}))
    assert error.reason is Reason.TOKEN_USE_REFUSED
    assert error.detail.endswith(f"accepted: {accepted}")


def test_what_a_stranger_wrote_is_short_and_printable_in_the_detail() -> None:
    error = refusal(POOL.token(token_use="re\n\x1b[31mé" + "x" * 5000))
    assert error.detail == "token_use is `re??[31m?xxxxxxxxxxx`, accepted: access, id"


# Step 9: the app client


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(POOL.token(client_id="other"), id="an access token of another client"),
        pytest.param(POOL.id_token(aud="other"), id="an ID token of another client"),
        pytest.param(POOL.machine_token(client_id="other"), id="a machine token of another client"),
        pytest.param(POOL.token(client_id="other", aud=POOL.client_id), id="aud does not speak for an access token"),
        pytest.param(POOL.id_token(aud="other", client_id=POOL.client_id), id="client_id not for an ID token"),
        pytest.param(POOL.token(client_id=POOL.client_id[:-1]), id="a prefix of a client id"),
        pytest.param(POOL.token(client_id=POOL.client_id.upper()), id="a client id in upper case"),
    ],
)
def test_another_client(token: str) -> None:
    assert refusal(token).reason is Reason.TOKEN_CLIENT_REFUSED
    assert judge(token, clients=None).principal.client_id not in ("", POOL.client_id)  # `any` was written out


def test_one_of_several_clients() -> None:
    clients = frozenset({"other", POOL.client_id})
    assert judge(POOL.token(client_id="other"), clients=clients).principal.client_id == "other"
    assert refusal(POOL.token(), clients=frozenset()).reason is Reason.TOKEN_CLIENT_REFUSED


# Step 10: the times. LEEWAY widens exp and nbf, never iat.

LEEWAY = 30.0


@pytest.mark.parametrize(
    ("token", "leeway", "reason"),
    [
        pytest.param(POOL.token(exp=NOW + 1), 0.0, None, id="a second before exp"),
        pytest.param(POOL.token(exp=NOW), 0.0, Reason.TOKEN_EXPIRED, id="exp itself"),
        pytest.param(POOL.token(exp=NOW - 1), 0.0, Reason.TOKEN_EXPIRED, id="a second after exp"),
        pytest.param(POOL.token(exp=NOW - 29), LEEWAY, None, id="a second before exp and leeway"),
        pytest.param(POOL.token(exp=NOW - 30), LEEWAY, Reason.TOKEN_EXPIRED, id="exp and leeway themselves"),
        pytest.param(POOL.token(exp=0), 0.0, Reason.TOKEN_EXPIRED, id="exp in 1970"),
        pytest.param(POOL.token(exp=-5), 0.0, Reason.TOKEN_EXPIRED, id="exp before 1970"),
        pytest.param(POOL.token(nbf=NOW), 0.0, None, id="nbf itself, at nbf"),
        pytest.param(POOL.token(nbf=NOW + 1), 0.0, Reason.TOKEN_NOT_YET_VALID, id="a second before nbf"),
        pytest.param(POOL.token(nbf=NOW + 30), LEEWAY, None, id="nbf within the leeway"),
        pytest.param(POOL.token(nbf=NOW + 31), LEEWAY, Reason.TOKEN_NOT_YET_VALID, id="nbf beyond the leeway"),
        pytest.param(POOL.token(iat=NOW + 60), 0.0, None, id="iat a minute ahead"),
        pytest.param(POOL.token(iat=NOW + 61), 0.0, Reason.TOKEN_NOT_YET_VALID, id="iat more than a minute ahead"),
        pytest.param(POOL.token(iat=NOW + 61), LEEWAY, Reason.TOKEN_NOT_YET_VALID, id="the leeway is not for iat"),
        pytest.param(POOL.token(iat=0), 0.0, None, id="iat long ago"),
        pytest.param(POOL.token(exp=NOW, nbf=NOW + 1), 0.0, Reason.TOKEN_EXPIRED, id="expired before it began"),
    ],
)
def test_times(token: str, leeway: float, reason: Reason | None) -> None:
    if reason is None:
        judge(token, leeway=leeway)
    else:
        assert refusal(token, leeway=leeway).reason is reason


def test_fractions_of_a_second_count() -> None:
    assert judge(POOL.token(exp=NOW + 1), now=NOW + 0.999)
    assert refusal(POOL.token(exp=NOW + 1), now=NOW + 1.001).reason is Reason.TOKEN_EXPIRED


def test_a_time_that_is_no_number_denies() -> None:
    assert refusal(POOL.token(), now=float("nan")).reason is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize(
    ("claims", "leeway", "expected"),
    [
        pytest.param({}, 0.0, (NOW - 60, NOW + LIFETIME), id="iat and exp"),
        pytest.param({}, LEEWAY, (NOW - 60, NOW + LIFETIME + 30), id="the leeway widens exp alone"),
        pytest.param({"nbf": NOW}, LEEWAY, (NOW - 30, NOW + LIFETIME + 30), id="… and nbf, where it is the later"),
        pytest.param({"nbf": NOW - 100}, 0.0, (NOW - 60, NOW + LIFETIME), id="an nbf that is the earlier"),
    ],
)
def test_how_long_the_answer_holds(claims: dict[str, int], leeway: float, expected: tuple[float, float]) -> None:
    token = POOL.token(**claims)
    verified = judge(token, leeway=leeway)
    assert (verified.valid_from, verified.valid_until) == expected
    for now, holds in [(expected[0] - 1, False), (expected[0], True), (expected[1] - 1, True), (expected[1], False)]:
        try:
            judge(token, now, leeway=leeway)
        except TokenError:
            assert not holds
        else:
            assert holds


@pytest.mark.parametrize(
    ("token", "detail"),
    [
        pytest.param(POOL.token(exp=NOW - 40), "expired 40 s ago", id="expired"),
        pytest.param(POOL.token(nbf=NOW + 7), "not valid for another 7 s", id="too early by nbf"),
        pytest.param(POOL.token(iat=NOW + 90), "not valid for another 30 s", id="too early by iat"),
        pytest.param(POOL.id_token(token_use="x"), "token_use is `x`, accepted: access, id", id="token_use"),
    ],
)
def test_details_are_sentences_for_a_log(token: str, detail: str) -> None:
    assert refusal(token).detail == detail


# The order of steps 7 to 10: each token below is wrong in all the ways that follow as well.


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        pytest.param(
            POOL.token(sub=5, token_use="x", client_id="other", exp=0), Reason.TOKEN_CLAIM_INVALID, id="claims first"
        ),
        pytest.param(POOL.token(token_use="x", client_id="other", exp=0), Reason.TOKEN_USE_REFUSED, id="then the use"),
        pytest.param(POOL.token(client_id="other", exp=0), Reason.TOKEN_CLIENT_REFUSED, id="then the client"),
        pytest.param(POOL.token(exp=0), Reason.TOKEN_EXPIRED, id="then the times"),
    ],
)
def test_the_order_of_the_claims(token: str, reason: Reason) -> None:
    assert refusal(token).reason is reason


# The e-mail address


@pytest.mark.parametrize(
    ("claims", "trust", "expected"),
    [
        pytest.param({}, False, ("alice@example.com", False), id="verified"),
        pytest.param({"email_verified": False}, False, (None, True), id="not verified"),
        pytest.param({"email_verified": DROP}, False, (None, True), id="nothing said"),
        pytest.param({"email_verified": "true"}, False, (None, True), id="the text true"),
        pytest.param({"email_verified": 1}, False, (None, True), id="the number one"),
        pytest.param({"email_verified": False}, True, ("alice@example.com", False), id="unverified, and trusted"),
        pytest.param({"email": DROP}, False, (None, False), id="no address"),
        pytest.param({"email": ""}, True, (None, False), id="an empty address"),
        pytest.param({"email": ["a@example.com"]}, True, (None, False), id="a list of addresses"),
        pytest.param({"email": None}, False, (None, False), id="null"),
    ],
)
def test_email(claims: dict[str, Any], trust: bool, expected: tuple[str | None, bool]) -> None:
    principal = judge(POOL.id_token(**claims), trust_unverified_email=trust).principal
    assert (principal.email, principal.email_is_unverified) == expected


# Nothing secret is printable


def test_reprs_show_nothing() -> None:
    token = POOL.token()
    assert repr(peek(token)) == "UnverifiedToken(…)"
    assert "openid" not in repr(judge(token))


@pytest.mark.parametrize(
    "claims",
    [{"exp": "secret"}, {"client_id": "secret"}, {"iss": "secret"}, {"sub": ["secret"]}, {"nbf": "secret"}],
    ids=lambda claims: next(iter(claims)),
)
def test_refusals_show_no_claim(claims: dict[str, Any]) -> None:
    error = refusal(POOL.token(**claims))
    assert "secret" not in error.detail
    assert error.__cause__ is None


def test_a_refusal_carries_no_cause_that_shows_the_token() -> None:
    for token in (with_payload(b'{"secret'), f"{HEADER}.{PAYLOAD}.sécret", f"{HEADER}.{PAYLOAD}.sec*et=="):
        error = refusal(token)
        assert error.__suppress_context__ or error.__context__ is None
