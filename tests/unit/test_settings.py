"""The configuration: everything that loads, and word for word what does not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authz.errors import LoadError, Severity
from authz.identity.cognito import UserPool
from authz.identity.credentials import TokenPlace
from authz.identity.jwks import JwksSettings
from authz.model import Source
from authz.settings import (
    DEFAULT_IDENTITY_HEADERS,
    ClaimSettings,
    Listen,
    LogSettings,
    Pool,
    Settings,
    TlsSettings,
    load_settings,
)

VALID = """\
policies: policies/
cognito:
  - user_pool: eu-west-1_AbCdEfGhI
    clients: [304a12ktcc5djt9d7enj6dsjkg]
    token_use: [access]
"""
ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
CASES = Path(__file__).parent.parent / "cases" / "config_errors"
ENVIRON = {"WORD": "word", "EMPTY": "", "BROKEN": "a\nb", "DIGITS": "9" * 5000}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, environ: Mapping[str, str] | None = None, **overrides: str) -> Settings:
    Path("authz.yaml").write_text(text, encoding="utf-8")
    flags = {name.replace("_", "-"): value for name, value in overrides.items()}
    return load_settings(Path("authz.yaml"), environ=environ or {}, overrides=flags)


def problems(text: str, environ: Mapping[str, str] | None = None, **overrides: str) -> list[str]:
    with pytest.raises(LoadError) as raised:
        load(text, environ, **overrides)
    return str(raised.value).splitlines()


def pool(entry: str = "", **keys: str) -> Pool:
    lines = {"user_pool": "eu-west-1_AbCdEfGhI", "clients": "any", "token_use": "access", **keys}
    body = "".join(f"    {key}: {value}\n" for key, value in lines.items() if value)
    (only,) = load(f"policies: policies/\ncognito:\n  -\n{body}{entry}").pools
    return only


def cases() -> Iterator[object]:
    for path in sorted(CASES.glob("*.txt")):
        for block in path.read_text(encoding="utf-8").removeprefix("=== ").split("\n=== "):
            title, _, rest = block.partition("\n")
            text, _, expected = rest.partition("\n---\n")
            yield pytest.param(f"{text}\n".replace("…\n", VALID, 1), expected.strip("\n"), id=f"{path.stem}: {title}")


@pytest.mark.parametrize(("text", "expected"), list(cases()))
def test_a_mistake_is_answered_word_for_word(text: str, expected: str) -> None:
    assert problems(text, ENVIRON) == expected.splitlines()


def test_the_least_that_loads_has_the_promised_defaults() -> None:
    assert load(VALID) == Settings(
        policies=Path("policies"),
        inline=False,
        pools=(
            Pool(
                UserPool(
                    issuers=(ISSUER,),
                    clients=frozenset({"304a12ktcc5djt9d7enj6dsjkg"}),
                    token_use=frozenset({"access"}),
                    leeway=0.0,
                    trust_unverified_email=False,
                    label="eu-west-1_AbCdEfGhI",
                ),
                f"{ISSUER}/.well-known/jwks.json",
            ),
        ),
        listen=Listen("127.0.0.1", 9191),
        admin=Listen("127.0.0.1", 8282),
        workers=1,
        tokens=(TokenPlace("header", "authorization"),),
        enrich_from=None,
        hide_credentials=False,
        identity_headers=(
            ("x-auth-subject", ("sub",)),
            ("x-auth-username", ("cognito:username", "username")),
            ("x-auth-groups", ("cognito:groups",)),
            ("x-auth-email", ("email",)),
        ),
        pass_identity_headers=True,
        jwks=JwksSettings(
            refresh=timedelta(minutes=15),
            cooldown=timedelta(seconds=30),
            timeout=timedelta(seconds=2),
            max_stale=timedelta(hours=24),
            cache_dir=None,
        ),
        log=LogSettings("info", "json", "all", explain_values=False),
        tls=None,
        claims={},
        allow_path_parameters=False,
        require_end=False,
        show_error_details=False,
        client_ip_header=None,
        client_certificate_ca=None,
        max_header_bytes=8192,
        warnings=(),
    )


# The example of the interface, with values where it has dots, and the keys that it names for later.
FULL = """\
# yaml-language-server: $schema=authz.schema.json
listen: 127.0.0.1:9191          # gRPC. host:port, :port, or unix:///run/authz/authz.sock
workers: 1
admin: 127.0.0.1:8282           # HTTP: /livez /readyz /metrics ; "off" to disable
policies: policies/

cognito:
  - user_pool: eu-west-1_AbCdEfGhI
    clients: [304a12ktcc5djt9d7enj6dsjkg]
    token_use: [access]
    issuers: [https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI, https://second.example/pool]
    jwks_uri: https://keys.example/jwks.json
    leeway: 5s
    trust_unverified_email: true

tokens:
  - header: authorization
  - header: X-Other-Token
  - cookie: BearerToken
enrich_from: {header: X-Auth-Id-Token}
hide_credentials: true

identity_headers:
  x-auth-subject: sub
  x-auth-username: [cognito:username, username]
  X-Auth-Groups: cognito:groups

jwks:
  refresh: 1m
  cooldown: 10s
  timeout: 500ms
  max_stale: 1h30m
  cache_dir: null

log: {level: debug, format: text, decisions: denied, explain_values: true}
tls: {certificate: ca.pem, key: key.pem, client_ca: ca.pem, allowed_sans: [spiffe://example.com/envoy, envoy.internal]}
claims: {custom:groups: {split: "[,]"}, scope: {split: " "}, username: {alias: [cognito:username, username]}}
max_header_bytes: 4096
client_certificate_ca: ca.pem
client_ip_header: X-Envoy-External-Address
allow_path_parameters: true
require_end: true
show_error_details: true
pass_identity_headers: false
"""


def test_the_full_example_loads(certificate: str) -> None:
    assert load(FULL) == Settings(
        policies=Path("policies"),
        inline=False,
        pools=(
            Pool(
                UserPool(
                    issuers=(ISSUER, "https://second.example/pool"),
                    clients=frozenset({"304a12ktcc5djt9d7enj6dsjkg"}),
                    token_use=frozenset({"access"}),
                    leeway=5.0,
                    trust_unverified_email=True,
                    label="eu-west-1_AbCdEfGhI",
                ),
                "https://keys.example/jwks.json",
            ),
        ),
        tokens=(
            TokenPlace("header", "authorization"),
            TokenPlace("header", "x-other-token"),
            TokenPlace("cookie", "BearerToken"),
        ),
        enrich_from=TokenPlace("header", "x-auth-id-token"),
        hide_credentials=True,
        identity_headers=(
            ("x-auth-subject", ("sub",)),
            ("x-auth-username", ("cognito:username", "username")),
            ("x-auth-groups", ("cognito:groups",)),
        ),
        pass_identity_headers=False,
        jwks=JwksSettings(
            refresh=timedelta(minutes=1),
            cooldown=timedelta(seconds=10),
            timeout=timedelta(milliseconds=500),
            max_stale=timedelta(minutes=90),
        ),
        log=LogSettings("debug", "text", "denied", explain_values=True),
        tls=TlsSettings(
            Path(certificate), Path("key.pem"), Path(certificate), ("spiffe://example.com/envoy", "envoy.internal")
        ),
        claims={
            "custom:groups": ClaimSettings(split="[,]"),
            "scope": ClaimSettings(split=" "),
            "username": ClaimSettings(alias=("cognito:username", "username")),
        },
        allow_path_parameters=True,
        require_end=True,
        show_error_details=True,
        client_ip_header="x-envoy-external-address",
        client_certificate_ca=Path(certificate),
        max_header_bytes=4096,
    )


@pytest.fixture
def certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2025, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2035, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    Path("ca.pem").write_bytes(built.public_bytes(Encoding.PEM))
    Path("key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return "ca.pem"


@pytest.mark.parametrize("nothing", ["", "null", "~"])
@pytest.mark.parametrize("key", ["client_certificate_ca", "client_ip_header", "enrich_from", "revocations", "tls"])
def test_nothing_behind_a_key_leaves_no_check_out(key: str, nothing: str) -> None:
    (problem,) = problems(f"{VALID}{key}: {nothing}\n")
    assert "found nothing, expected" in problem


def test_null_is_the_same_as_no_folder_for_keys() -> None:
    assert load(f"{VALID}jwks: {{cache_dir: null}}\n") == load(VALID)


def test_keys_may_be_refreshed_each_second_and_kept_no_longer() -> None:
    jwks = load(f"{VALID}jwks: {{refresh: 1s, max_stale: 1s}}\n").jwks
    assert jwks.max_stale == jwks.refresh == timedelta(seconds=1)


# The file itself.


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(LoadError) as raised:
        load_settings(Path("conf/authz.yaml"), environ={}, overrides={})
    expected = "the configuration file does not exist: create it, or name another one with --config"
    assert str(raised.value) == f"conf/authz.yaml:1:1: {expected}"


def test_a_folder_is_no_configuration(folder: Path) -> None:
    with pytest.raises(LoadError) as raised:
        load_settings(folder, environ={}, overrides={})
    assert str(raised.value) == f"{folder}:1:1: the configuration file cannot be read: Is a directory"


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(LoadError, match="the configuration file cannot be read: it is no possible file name"):
        load_settings(Path("a\0b"), environ={}, overrides={})


def test_relative_paths_start_at_the_folder_of_the_file(folder: Path) -> None:
    (folder / "conf").mkdir()
    (folder / "conf" / "authz.yaml").write_text(
        VALID + "jwks: {cache_dir: '${CACHE}'}\n".replace("policies/", "../policies"), encoding="utf-8"
    )
    loaded = load_settings(folder / "conf" / "authz.yaml", environ={"CACHE": "cache"}, overrides={})
    assert loaded.policies == folder / "conf" / "policies"
    assert loaded.jwks.cache_dir == folder / "conf" / "cache"


@pytest.mark.parametrize(
    ("flags", "places"),
    [
        pytest.param({}, {"policies": (1, 11), "revocations": (6, 14)}, id="both in the file"),
        pytest.param({"policies": "b/"}, {"revocations": (6, 14)}, id="one in a flag, which has no line"),
    ],
)
def test_where_the_file_names_a_path_is_known(flags: dict[str, str], places: dict[str, tuple[int, int]]) -> None:
    loaded = load(f"{VALID}revocations: a/\n", **flags)
    assert loaded.places == {key: Source("authz.yaml", *place) for key, place in places.items()}


def test_absolute_paths_stay() -> None:
    assert load(VALID.replace("policies/", "/etc/authz/policies")).policies == Path("/etc/authz/policies")


@pytest.mark.parametrize("key", ["routes", "policy"])
def test_policies_may_stand_in_the_configuration_itself(key: str) -> None:
    text = VALID.replace("policies: policies/", f"{key}: [{{from: 'https://${{NOT_A_VARIABLE}}'}}]")
    loaded = load(text)
    assert (loaded.policies, loaded.inline) == (Path("authz.yaml"), True)


# User pools.


def test_a_pool_in_china_has_its_own_domain() -> None:
    loaded = pool(user_pool="cn-north-1_AbCdEfGhI")
    assert loaded.pool.issuers == ("https://cognito-idp.cn-north-1.amazonaws.com.cn/cn-north-1_AbCdEfGhI",)


def test_a_pool_in_the_european_sovereign_cloud_has_its_own_domain() -> None:
    loaded = pool(user_pool="eusc-de-east-1_AbCdEfGhI")
    assert loaded.pool.issuers == ("https://cognito-idp.eusc-de-east-1.amazonaws.eu/eusc-de-east-1_AbCdEfGhI",)


@pytest.mark.parametrize(
    ("user_pool", "warning"),
    [
        pytest.param(
            "eu-wst-1_AbCdEfGhI",
            "no region `eu-wst-1` is known; if AWS did not add it lately, no token will be taken; "
            "did you mean `eu-west-1`?",
            id="a region with a typo, or a new one",
        ),
        pytest.param(
            "local_A",
            "`local` is no region of AWS, and an emulator's tokens name its URL: write that, `http://HOST/ID`",
            id="an emulator's pool without its address",
        ),
        pytest.param(
            "https://cognito-idp.us-east-1.amazonaws.com/eu-west-1_AbCdEfGhI",
            "a pool of eu-west-1 at a host of us-east-1: only tokens of a replica there would be taken; write "
            "`eu-west-1_AbCdEfGhI`, and both issuers under `issuers` if there is a replica",
            id="a host of another region",
        ),
    ],
)
def test_a_pool_that_hardly_any_token_names_is_warned_of(user_pool: str, warning: str) -> None:
    (warned,) = load(VALID.replace("eu-west-1_AbCdEfGhI", user_pool)).warnings
    assert str(warned) == f"authz.yaml:3:16: warning: cognito[0].user_pool: {warning}"


@pytest.mark.parametrize(
    ("user_pool", "issuers"),
    [
        pytest.param("http://127.0.0.1:4566/local_A", "", id="an emulator"),
        pytest.param("https://issuer-cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A", "", id="AWS's other form"),
        pytest.param(
            "https://cognito-idp.us-east-1.amazonaws.com/eu-west-1_A",
            "    issuers: [https://cognito-idp.us-east-1.amazonaws.com/eu-west-1_A]\n",
            id="a replica that is written out",
        ),
        pytest.param(
            "eu_west_1_A",
            "    issuers: [https://a.example]\n    jwks_uri: https://a.example/keys\n",
            id="a mere label",
        ),
    ],
)
def test_a_pool_whose_tokens_can_be_taken_is_not(user_pool: str, issuers: str) -> None:
    assert load(VALID.replace("eu-west-1_AbCdEfGhI", user_pool) + issuers).warnings == ()


def test_a_pool_where_a_client_should_be_is_warned_of() -> None:
    (warned,) = load(VALID.replace("304a12ktcc5djt9d7enj6dsjkg", "app, eu-west-1_AbCdEfGhI")).warnings
    assert str(warned) == (
        "authz.yaml:4:20: warning: cognito[0].clients[1]: `eu-west-1_AbCdEfGhI` is a user pool's id, and no client's: "
        "write ids of app clients"
    )


@pytest.mark.parametrize("suffix", ["", "/.well-known/openid-configuration"])
def test_a_pool_may_be_named_by_its_issuer_or_discovery_url(suffix: str) -> None:
    assert pool(user_pool=ISSUER + suffix) == pool()


def test_an_issuer_that_is_no_pool_of_aws_names_itself() -> None:
    loaded = pool(user_pool="http://127.0.0.1:4566")
    assert loaded.pool.label == "http://127.0.0.1:4566"
    assert loaded.jwks_uri == "http://127.0.0.1:4566/.well-known/jwks.json"


def test_issuers_and_keys_can_stand_for_the_pool() -> None:
    loaded = pool(user_pool="", issuers="https://a.example/", jwks_uri="https://a.example/keys")
    assert (loaded.pool.issuers, loaded.pool.label) == (("https://a.example/",), "https://a.example/")


def test_an_emulator_on_another_machine_may_have_its_keys_elsewhere() -> None:
    assert pool(user_pool="http://cognito.local/local_A", jwks_uri="file:///keys.json").jwks_uri == "file:///keys.json"


@pytest.mark.parametrize(
    "uri",
    [
        "https://keys.example:8443/jwks.json?v=1",
        "http://127.0.0.1:4566/keys",
        "http://127.9.9.9/keys",
        "http://[::1]:80/keys",
        "http://localhost/keys",
        "HTTP://LOCALHOST/keys",
        "file:///etc/authz/jwks.json",
    ],
)
def test_keys_may_come_from(uri: str) -> None:
    assert pool(jwks_uri=f"'{uri}'").jwks_uri == uri


@pytest.mark.parametrize(
    "issuer",
    [
        pytest.param("https://issuer-cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI", id="AWS's other form"),
        pytest.param("https://cognito-idp.us-west-2.amazonaws.com/us-east-1_AbCdEfGhI", id="a replica's region"),
        pytest.param("https://cognito-idp.eusc-de-east-1.amazonaws.eu/eusc-de-east-1_AbCdEfGhI", id="another domain"),
        pytest.param("https://cognito-idp.internal/jwks.json", id="another host of that name"),
        pytest.param("https://issuer.example/amazoncognito.com/", id="a path of that name, and a slash"),
    ],
)
def test_an_issuer_may_be(issuer: str) -> None:
    assert pool(issuers=issuer).pool.issuers == (issuer,)


@pytest.mark.parametrize("client", ["Anybody", "any1", "a*"])
def test_a_client_may_be_called(client: str) -> None:
    assert pool(clients=f"[{client}]").pool.clients == {client}


@pytest.mark.parametrize("clients", ["any", "[any]"])
def test_every_client_is_accepted_where_that_is_written_out(clients: str) -> None:
    assert pool(clients=clients).pool.clients is None


def test_one_client_needs_no_list() -> None:
    assert pool(clients="abc").pool.clients == {"abc"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("access", {"access"}),
        ("id", {"id"}),
        ("both", {"access", "id"}),
        ("[id]", {"id"}),
        ("[access, id]", {"access", "id"}),
    ],
)
def test_token_use_may_be_written(written: str, meant: set[str]) -> None:
    assert pool(token_use=written).pool.token_use == meant


def test_a_long_leeway_is_warned_of() -> None:
    (warning,) = load(f"{VALID}    leeway: 61s\n").warnings
    assert str(warning) == (
        "authz.yaml:6:13: warning: cognito[0].leeway: longer than `60s`: a token stays good that long after its end; "
        "let the clocks be set right instead"
    )


def test_keys_in_a_file_that_is_not_there_are_warned_of() -> None:
    entry = "    jwks_uri: file:///no-such-folder/j%77ks.json\n"
    (warning,) = load(f"{VALID}{entry}").warnings
    assert str(warning) == (
        "authz.yaml:6:15: warning: cognito[0].jwks_uri: /no-such-folder/j%77ks.json cannot be read: No such file or "
        "directory; tokens are answered with 503 until it can"
    )


def test_keys_in_a_file_that_is_there_are_not(folder: Path) -> None:
    (folder / "jwks.json").touch()
    assert load(f"{VALID}    jwks_uri: {(folder / 'jwks.json').as_uri().replace('jwks', 'j%77ks')}\n").warnings == ()


def test_keys_cannot_be_kept_in_a_file(folder: Path) -> None:
    (folder / "cache").touch()
    assert problems(f"{VALID}jwks: {{cache_dir: cache}}\n") == [
        "authz.yaml:6:19: jwks.cache_dir: cache is a file: name a folder"
    ]
    assert load(f"{VALID}jwks: {{cache_dir: cache/below}}\n").jwks.cache_dir == Path("cache/below")


def test_a_leeway_of_a_minute_is_not() -> None:
    loaded = load(f"{VALID}    leeway: 60s\n")
    assert (loaded.warnings, loaded.pools[0].pool.leeway) == ((), 60.0)


# Claims.


@pytest.mark.parametrize("name", ["cognito:username", "username", "scope", "cognito:groups", "email.primary", "Sub"])
def test_a_claim_by_which_no_token_is_judged_may_be_split(name: str) -> None:
    assert load(f"{VALID}claims: {{'{name}': {{split: ','}}}}\n").claims == {name: ClaimSettings(split=",")}


@pytest.mark.parametrize(
    "sources",
    [
        pytest.param(("username", "cognito:username"), id="its own name before another one"),
        pytest.param(("scope",), id="a claim that is split"),
        pytest.param(("email",), id="a claim by which the token is judged"),
        pytest.param(("username.first",), id="a part of what has its own name"),
    ],
)
def test_an_alias_may_be_of(sources: tuple[str, ...]) -> None:
    written = f"{{scope: {{split: ' '}}, username: {{alias: [{', '.join(sources)}]}}}}"
    assert load(f"{VALID}claims: {written}\n").claims["username"] == ClaimSettings(alias=sources)


# Addresses.


@pytest.mark.parametrize(
    ("written", "listen", "target"),
    [
        ("127.0.0.1:0", Listen("127.0.0.1", 0), "127.0.0.1:0"),
        ("authz.internal:9191", Listen("authz.internal", 9191), "authz.internal:9191"),
        (":9191", Listen("", 9191), "[::]:9191"),
        (":65535", Listen("", 65535), "[::]:65535"),
        ("[::1]:9191", Listen("::1", 9191), "[::1]:9191"),
        ("unix:///run/authz.sock", Listen(path="/run/authz.sock"), "unix:/run/authz.sock"),
        ("unix:///" + "a" * 106, Listen(path="/" + "a" * 106), "unix:/" + "a" * 106),
    ],
)
def test_an_address_may_be_written(written: str, listen: Listen, target: str) -> None:
    loaded = load(f"{VALID}listen: '{written}'\n").listen
    assert (loaded, loaded.target) == (listen, target)


@pytest.mark.parametrize("off", ["off", "false", "'off'"])
def test_the_admin_port_can_be_off(off: str) -> None:
    assert load(f"{VALID}admin: {off}\n").admin is None


def test_any_free_port_is_no_conflict() -> None:
    assert load(f"{VALID}listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n").admin == Listen("127.0.0.1", 0)


def test_one_port_of_two_addresses_is_no_conflict() -> None:
    assert load(f"{VALID}listen: 127.0.0.1:9\nadmin: 127.0.0.2:9\n").admin == Listen("127.0.0.2", 9)


# Headers.


def test_no_identity_headers_at_all() -> None:
    assert load(f"{VALID}identity_headers: {{}}\n").identity_headers == ()


@pytest.mark.parametrize(
    ("written", "headers"),
    [
        ("{X-Email: email}", (("x-email", ("email",)),)),
        ("[email, Name]", (("x-pomerium-claim-email", ("email",)), ("x-pomerium-claim-name", ("Name",)))),
        ("email, name", (("x-pomerium-claim-email", ("email",)), ("x-pomerium-claim-name", ("name",)))),
        ("email name", (("x-pomerium-claim-email", ("email",)), ("x-pomerium-claim-name", ("name",)))),
        (
            "[groups, user]",
            (("x-pomerium-claim-groups", ("cognito:groups", "groups")), ("x-pomerium-claim-user", ("user", "sub"))),
        ),
        (
            "{X-Groups: groups, X-User: [user]}",
            (("x-groups", ("cognito:groups", "groups")), ("x-user", ("user", "sub"))),
        ),
        ("{X-Groups: [groups, roles]}", (("x-groups", ("groups", "roles")),)),
    ],
)
def test_pomeriums_headers_load_as_they_are(written: str, headers: object) -> None:
    loaded = load(f"{VALID}jwt_claims_headers: {written}\npass_identity_headers: true\n")
    assert (loaded.identity_headers, loaded.warnings) == (headers, ())


def test_only_pomeriums_key_has_pomeriums_claims() -> None:
    loaded = load(f"{VALID}identity_headers: {{x-groups: groups, x-user: user}}\n")
    assert loaded.identity_headers == (("x-groups", ("groups",)), ("x-user", ("user",)))


def test_pomeriums_other_default_is_noted() -> None:
    loaded = load(f"{VALID}jwt_claims_headers: [email]\n")
    assert loaded.pass_identity_headers
    (note,) = loaded.warnings
    assert note.severity is Severity.NOTE
    assert str(note) == (
        "authz.yaml:6:21: note: jwt_claims_headers: without `pass_identity_headers` they are passed on here, and not "
        "by Pomerium: write it out"
    )


def test_a_token_in_a_header_that_is_no_longer_an_identity_header() -> None:
    loaded = load(f"{VALID}identity_headers: {{}}\ntokens: [{{header: x-auth-email}}]\n")
    assert loaded.tokens == (TokenPlace("header", "x-auth-email"),)


def test_a_cookie_may_be_called_like_an_identity_header() -> None:
    loaded = load(f"{VALID}tokens: [{{cookie: x-auth-email}}]\n")
    assert loaded.identity_headers == DEFAULT_IDENTITY_HEADERS


# Environment and flags.


def test_values_are_taken_from_the_environment() -> None:
    text = VALID.replace("eu-west-1_AbCdEfGhI", "${REGION}_AbCdEfGhI").replace("304a12ktcc5djt9d7enj6dsjkg", "'${ID}'")
    loaded = load(text, {"REGION": "eu-west-1", "ID": "123"}).pools[0].pool
    assert (loaded.issuers, loaded.clients) == ((ISSUER,), {"123"})


def test_a_number_and_a_boolean_may_come_from_the_environment() -> None:
    loaded = load(f"{VALID}max_header_bytes: ${{BYTES}}\nrequire_end: ${{END}}\n", {"BYTES": "100", "END": "true"})
    assert (loaded.max_header_bytes, loaded.require_end) == (100, True)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("a$$b", "a$b"), ("a$b", "a$b"), ("a$", "a$"), ("$$${A}", "$1"), ("$${A}", "${A}"), ("${A}${A}", "11")],
)
def test_a_dollar_sign(written: str, meant: str) -> None:
    loaded = load(f"{VALID}tokens: [{{cookie: T}}]\njwks: {{cache_dir: '{written}'}}\n", {"A": "1"})
    assert loaded.jwks.cache_dir == Path(meant)


def test_what_the_environment_holds_is_not_read_as_a_reference_again() -> None:
    loaded = load(f"{VALID}jwks: {{cache_dir: '${{A}}'}}\n", {"A": "${B}$$"})
    assert loaded.jwks.cache_dir == Path("${B}$$")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AUTHZ_POLICES", "no variable of ours; did you mean `AUTHZ_POLICIES`?"),
        ("AUTHZ_LOGLEVEL", "no variable of ours; did you mean `AUTHZ_LOG_LEVEL`?"),
        ("AUTHZ_CONFGI", "no variable of ours; did you mean `AUTHZ_CONFIG`?"),
        ("AUTHZ_HIDE_CREDENTIALS", "no variable of ours: write `hide_credentials:` in the configuration file"),
    ],
)
def test_a_variable_that_nobody_reads_is_told(name: str, message: str) -> None:
    assert list(map(str, load(VALID, {name: "x"}).warnings)) == [f"{name}:1:1: note: {message}"]


@pytest.mark.parametrize(
    "name", ["AUTHZ_PORT", "AUTHZ_PORT_9191_TCP", "AUTHZ_SERVICE_HOST", "AUTHZ_CONFIG", "POLICIES"]
)
def test_of_other_variables_nothing_is_said(name: str) -> None:
    assert load(VALID, {name: "tcp://10.0.0.1:9191"}).warnings == ()


FLAGS = [
    ("listen", "AUTHZ_LISTEN", lambda s: s.listen.port, "127.0.0.1:1", 1, "127.0.0.1:2", 2, "listen: :3", 3, 9191),
    ("admin", "AUTHZ_ADMIN", lambda s: s.admin and s.admin.port, "off", None, ":2", 2, "admin: :3", 3, 8282),
    ("log_level", "AUTHZ_LOG_LEVEL", lambda s: s.log.level, "error", "error", "debug", "debug",
     "log: {level: warning}", "warning", "info"),
    ("log_format", "AUTHZ_LOG_FORMAT", lambda s: s.log.format, "text", "text", "json", "json",
     "log: {format: text}", "text", "json"),
    ("log_decisions", "AUTHZ_LOG_DECISIONS", lambda s: s.log.decisions, "none", "none", "all", "all",
     "log: {decisions: denied}", "denied", "all"),
]  # fmt: skip


@pytest.mark.parametrize("row", FLAGS, ids=lambda row: row[0])
def test_flag_before_environment_before_file_before_default(row) -> None:
    flag, twin, get, by_flag, flag_value, by_twin, twin_value, in_file, file_value, default = row
    text = f"{VALID}{in_file}\n"
    assert get(load(text, {twin: by_twin}, **{flag: by_flag})) == flag_value
    assert get(load(text, {twin: by_twin})) == twin_value
    assert get(load(text, {twin: ""})) == file_value
    assert get(load(text)) == file_value
    assert get(load(VALID)) == default


def test_a_flag_leaves_its_neighbours_in_the_file_alone() -> None:
    loaded = load(f"{VALID}log: {{level: debug, decisions: none}}\n", log_level="error")
    assert loaded.log == LogSettings(level="error", decisions="none")


def test_workers_may_be_given_as_a_flag() -> None:
    assert load(f"{VALID}workers: 1\n", workers="3").workers == 3


def test_there_may_be_256_workers() -> None:
    assert load(f"{VALID}workers: 256\n").workers == 256


@pytest.mark.parametrize(
    ("listen", "workers", "endpoints"),
    [
        pytest.param(":9191", 1, ["[::]:9191"], id="a single one is where `listen` says"),
        pytest.param("127.0.0.1:9191", 2, ["127.0.0.1:9191", "127.0.0.1:9192"], id="a port each"),
        pytest.param(":65534", 2, ["[::]:65534", "[::]:65535"], id="up to the last port"),
        pytest.param("127.0.0.1:0", 2, ["127.0.0.1:0", "127.0.0.1:0"], id="any free port each"),
        pytest.param("unix:///run/authz.sock", 1, ["unix:/run/authz.sock"], id="a single one's socket"),
        pytest.param("unix:///run/a.sock", 2, ["unix:/run/a.0.sock", "unix:/run/a.1.sock"], id="a socket each"),
        pytest.param("unix:///run.d/a", 2, ["unix:/run.d/a.0", "unix:/run.d/a.1"], id="a socket without extension"),
    ],
)
def test_each_worker_has_an_endpoint(listen: str, workers: int, endpoints: list[str]) -> None:
    loaded = load(f"{VALID}listen: {listen}\nworkers: {workers}\n")
    assert [endpoint.target for endpoint in loaded.endpoints] == endpoints


def test_a_path_in_a_flag_starts_at_the_working_folder(folder: Path) -> None:
    (folder / "conf").mkdir()
    (folder / "conf" / "authz.yaml").write_text(VALID.partition("\n")[2], encoding="utf-8")
    loaded = load_settings(Path("conf/authz.yaml"), environ={}, overrides={"policies": "other"})
    assert loaded.policies == Path("other")


def test_a_wrong_flag_blames_the_flag() -> None:
    assert problems(VALID, {}, listen="9191", workers="0", log_level="loud") == [
        "--listen:1:1: listen: found text `9191`, expected `host:port`, `:port`, `[::1]:port` or `unix:///path`",
        "--log-level:1:1: log.level: found text `loud`, expected `debug`, `info`, `warning` or `error`",
        "--workers:1:1: workers: found `0` (a number), expected a whole number, 1 or more",
    ]


def test_a_wrong_variable_blames_the_variable() -> None:
    assert problems(VALID, {"AUTHZ_ADMIN": "on", "AUTHZ_LOG_FORMAT": "\ud800"}) == [
        "AUTHZ_ADMIN:1:1: admin: found text `on`, expected `host:port`, `:port`, `[::1]:port`, `unix:///path` or `off`",
        "AUTHZ_LOG_FORMAT:1:1: log.format: found a control character, or text that is not UTF-8",
    ]


def test_an_empty_flag_is_wrong() -> None:
    assert problems(VALID, {}, policies="") == ["--policies:1:1: policies: found empty text, expected text"]


def test_a_flag_does_not_hide_a_section_that_is_no_map() -> None:
    assert problems(f"{VALID}log: loud\n", {}, log_level="info") == [
        "authz.yaml:6:6: log: found text `loud`, expected a map with `level`, `format`, `decisions` or `explain_values`"
    ]


def test_policies_in_the_file_are_not_silently_replaced_by_a_flag() -> None:
    text = VALID.replace("policies: policies/", "routes: []")
    assert problems(text, {}, policies="other") == [
        "--policies:1:1: policies: `routes` is in the configuration file too: keep one of them"
    ]


def test_a_password_in_an_address_is_not_repeated() -> None:
    text = VALID + "    issuers: ['https://me:${P}@a']\n    jwks_uri: 'https://me:${P}@a'\n"
    assert "hunter2" not in "".join(problems(text, {"P": "hunter2"}))


# Whatever the file holds.


def loads_or_says_why(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "authz.yaml")
        path.write_bytes(data)
        try:
            load_settings(path, environ={}, overrides={})
            places = {str(path)}
        except LoadError as error:
            places = {problem.source.file for problem in error.problems}
        assert places == {str(path)}


@given(st.binary(max_size=200))
@example(b"\xff")
def test_any_bytes_are_settings_or_a_load_error(data: bytes) -> None:
    loads_or_says_why(data)


LINES = FULL.splitlines()
WORDS = [
    "",
    "null",
    "1",
    "-1",
    "true",
    "x",
    "[x]",
    "{x: y}",
    "${X}",
    "$$",
    "'\\0'",
    "[[1]]",
    "1e999",
    ".nan",
    "&a [*a]",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.sampled_from(WORDS)), min_size=1, max_size=3))
def test_any_value_anywhere_is_settings_or_a_load_error(changes: list[tuple[int, str]]) -> None:
    lines = list(LINES)
    for number, word in changes:
        key, colon, _ = lines[number].partition(": ")
        lines[number] = f"{key}{colon}{word}"
    loads_or_says_why("\n".join(lines).encode())


class TestPairsOfTls:
    """What stands in the files is looked at as well: a service that cannot show its certificate must not start."""

    TLS = f"{VALID}tls: {{certificate: ca.pem, key: key.pem}}\n"

    def test_another_key(self, certificate: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        Path("key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        assert problems(self.TLS) == [
            "authz.yaml:6:33: tls.key: key.pem and ca.pem are no pair: the key of another certificate"
        ]

    @pytest.mark.parametrize("encrypted", [False, True])
    def test_no_key(self, certificate: str, encrypted: bool) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        how = BestAvailableEncryption(b"x")
        Path("key.pem").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how) if encrypted else b"no key"
        )
        why = "no usable private key: expected PEM without a passphrase"
        assert problems(self.TLS) == [f"authz.yaml:6:33: tls.key: key.pem and ca.pem are no pair: {why}"]

    def test_the_authority_may_be_the_certificate_itself(self, certificate: str) -> None:
        settings = load(self.TLS.replace("}\n", ", client_ca: ca.pem, allowed_sans: a.b}\n"))
        assert settings.tls is not None
        assert settings.tls.allowed_sans == ("a.b",)
