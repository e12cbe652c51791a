"""The guides in envoy/README.md: complete, and every name in them exists.

The rows are what people who follow the Pomerium, Kong and Auth0 guides rely on: P1 to P23, K1 to K19, A1 to A10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from authz.cli import cli
from authz.errors import TokenError
from authz.identity.cognito import UserPool, peek, verify
from authz.model import Principal, Reason
from authz.policy.criteria import CRITERIA
from authz.policy.parser import PolicyOptions, parse_policies
from authz.settings import Settings, load_settings
from authz.workbench.schemas import schema
from tests.support.user_pool import NOW, FakeUserPool

ROOT = Path(__file__).parents[2]
README = (ROOT / "envoy" / "README.md").read_text(encoding="utf-8")
BROWSER = (ROOT / "envoy" / "browser.yaml").read_text(encoding="utf-8")
ROWS = [f"{letter}{number}" for letter, last in (("P", 23), ("K", 19), ("A", 10)) for number in range(1, last + 1)]


def chapter(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


CONSOLE = chapter("The Cognito console")
GUIDES = {title: chapter(title) for title in ("From Pomerium", "From Kong", "With Auth0 federated into Cognito")}
ALL = "".join(GUIDES.values())


def cells(text: str) -> Iterator[list[str]]:
    """Give the rows of the tables, without their headings."""
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        for line in block.splitlines()[2:]:
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def steps(text: str) -> list[str]:
    return re.findall(r"^\d+\. (.*(?:\n   .*)*)", text, re.MULTILINE)


def blocks(text: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


# --- complete ---------------------------------------------------------------------------------------------------


def test_every_row_is_answered_once_in_its_order() -> None:
    rows = list(cells(ALL))
    assert [row[0] for row in rows] == ROWS
    assert [row for row in rows if len(row) != 3 or len(row[1]) < 3 or len(row[2]) < 10] == []


@pytest.mark.parametrize("title", GUIDES)
def test_a_guide_has_at_most_ten_steps(title: str) -> None:
    assert 3 <= len(steps(GUIDES[title])) <= 10


def test_the_console_has_the_values_of_the_sample() -> None:
    sample = yaml.safe_load(BROWSER)
    manager = sample["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    filters = {one["name"]: one["typed_config"] for one in manager["http_filters"]}
    sign_in = filters["envoy.filters.http.oauth2"]["config"]
    signout = f"https://app.localhost:10443{sign_in['signout_path']['path']['exact']}"
    lifetime = f"default_refresh_token_expires_in: {sign_in['default_refresh_token_expires_in']}"
    for value in (sign_in["redirect_uri"], signout, lifetime, *sign_in["auth_scopes"]):
        assert f"`{value}`" in CONSOLE
    assert signout.replace(":", "%3A").replace("/", "%2F") in BROWSER
    assert "example.auth.eu-west-1.amazoncognito.com" in CONSOLE


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", CONSOLE + ALL))
def test_a_link_leads_somewhere(link: str) -> None:
    file, _, anchor = link.partition("#")
    text = (ROOT / "envoy" / file).read_text(encoding="utf-8") if file else README
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    assert not anchor or anchor in [re.sub(r"[^a-z0-9 -]", "", one.lower()).replace(" ", "-") for one in headings]


# --- every name exists ------------------------------------------------------------------------------------------


def test_every_verb_and_option_exists() -> None:
    commands = re.findall(r"`(authz\s[^`]+)`", CONSOLE + ALL)
    assert len(commands) >= 8
    for text in commands:
        words = text.split()[1:]
        command: click.Command = cli
        while isinstance(command, click.Group) and words:
            found = command.commands.get(words.pop(0))
            assert found is not None, text
            command = found
        options = {option for one in command.params for option in one.opts}
        assert {word for word in words if word.startswith("--")} <= options, text


def names_in(schema_part: object) -> Iterator[str]:
    """Give the names of all properties of a schema."""
    if isinstance(schema_part, Mapping):
        properties = schema_part.get("properties")
        yield from properties if isinstance(properties, Mapping) else ()
        for part in schema_part.values():
            yield from names_in(part)
    elif isinstance(schema_part, list):
        for part in schema_part:
            yield from names_in(part)


def quoted_in(*folders: str) -> set[str]:
    """Give the words that stand alone in quotes in the sources: names that the program knows."""
    paths = [path for folder in folders for path in sorted((ROOT / "authz").glob(folder))]
    return {word for path in paths for word in re.findall(r'"([a-z][a-z0-9_]*)"', path.read_text(encoding="utf-8"))}


# What authz itself knows: configuration, policies, reasons, metrics and log fields.
OURS = {
    *names_in(schema("config")),
    *names_in(schema("policies")),
    *CRITERIA,
    *(reason.value for reason in Reason),
    *quoted_in("audit.py"),
    *(name for word in quoted_in("metrics.py") if word.startswith("authz_") for name in (word, f"{word}_total")),
}
# What Envoy has in our samples, and what of the sources the importers know or the policies refuse.
OTHERS = set(re.findall(r"[a-z][a-z0-9_]*(?=:)", BROWSER)) | quoted_in("workbench/importers/*.py", "policy/criteria.py")
# Cognito's, Auth0's and Pomerium's words, in no file of ours that could be asked.
WORDS = {
    *("email", "email_verified", "origin_jti", "identities", "custom:*", "custom:roles", "custom:groups"),
    *("WWW-Authenticate", "insufficient_scope", "aws.cognito.signin.user.admin", "orders/read"),
    *(
        "true",
        "example",
        "openid profile email",
        "Auth0",
        "<pool>_Auth0",
        "[access, id]",
        "pool-domain.invalid",
        "allow-why-true",
    ),
    *("eu-west-1_AbCdEfGhI", "example.auth.eu-west-1.amazoncognito.com", "your-app-client-id", "KEY=value"),
    *("make run", "envoy --mode validate -c envoy.yaml", "identity_provider=Auth0", "envoy.filters.http.ext_authz"),
}
WRITTEN_BY_AN_IMPORT = re.compile(r"(moved/)?(IMPORT\.md|authz\.yaml|envoy\.yaml|secrets/)")
OTHER_PLACES = re.compile(r"https://|/[a-z.]|x-auth-|__Host-|authz\s")


def answers() -> list[str]:
    told = [row[-1] for row in cells(ALL)] + [" ".join(row[1:]) for row in cells(CONSOLE)]
    told += [step for text in GUIDES.values() for step in steps(text)]
    return sorted({code for text in told for code in re.findall(r"`([^`]+)`", text)})


@pytest.mark.parametrize("code", answers())
def test_a_name_in_an_answer_exists(code: str) -> None:
    if code in WORDS or WRITTEN_BY_AN_IMPORT.fullmatch(code) or OTHER_PLACES.match(code):
        return
    if code.startswith("secrets/"):
        assert code in BROWSER
        return
    name, slash, _ = code.partition("/")
    if slash and ":" not in name and " " not in name:
        assert name in CRITERIA, code
        return
    keys = list(keys_of(yaml.safe_load(code))) or [code]
    assert {key for key in keys if key not in OURS | OTHERS} == set()


def keys_of(value: object) -> Iterator[str]:
    """Give the keys of a piece of YAML; statuses are texts, and claims below `claims` and its like are no keys."""
    if isinstance(value, list):
        for item in value:
            yield from keys_of(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not str(key).startswith(("cognito:", "custom:", "NAME", "claim/")):
                yield str(key)
            yield from keys_of(inner)


# --- what is printed works --------------------------------------------------------------------------------------

CONFIGURATIONS = [text for text in blocks(ALL) if "\ncognito:\n" in text]
POLICIES = [text for text in blocks(ALL) if "\nroutes:\n" in text]


def test_there_is_something_to_load() -> None:
    assert (len(CONFIGURATIONS), len(POLICIES)) == (2, 1)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Settings]:
    def load_text(text: str) -> Settings:
        (tmp_path / "policies").mkdir()
        (tmp_path / "authz.yaml").write_text(text, encoding="utf-8")
        return load_settings(tmp_path / "authz.yaml", environ={}, overrides={})

    return load_text


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_printed_configuration_loads_without_a_warning(text: str, load: Callable[[str], Settings]) -> None:
    assert load(text).warnings == ()


@pytest.mark.parametrize("text", POLICIES)
def test_printed_policies_load(text: str) -> None:
    assert parse_policies([("policies/partners.yaml", text.encode())], PolicyOptions()).routes.routes


AUTH0 = FakeUserPool()  # lends its keys
AUTH0.issuer = "https://your-tenant.eu.auth0.com/"
AUTH0.client_id = "your-auth0-client-id"


def auth0_claims(**more: Any) -> dict[str, Any]:
    """Give an ID token as Auth0 makes it."""
    return {
        "iss": AUTH0.issuer,
        "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "aud": AUTH0.client_id,
        "iat": int(NOW),
        "exp": int(NOW) + 36000,
        "sid": "Qxp0000000000000000000000000000",
        "email": "dora@example.com",
        "email_verified": True,
        **more,
    }


@pytest.fixture
def auth0(load: Callable[[str], Settings]) -> UserPool:
    """The entry for Auth0's own tokens, as the guide prints it."""
    _, entry = load(CONFIGURATIONS[1]).pools
    return entry.pool


def verdict(token: str, pool: UserPool) -> Principal:
    unverified = peek(token)
    return verify(unverified, AUTH0.keys[unverified.kid], pool, NOW).principal


def test_auth0s_own_id_token_works_with_the_claim_that_the_guide_asks_for(auth0: UserPool) -> None:
    token = AUTH0.mint(auth0_claims(token_use="id"))
    assert verdict(token, auth0).email == "dora@example.com"


def test_auth0s_own_id_token_is_refused_without_it(auth0: UserPool) -> None:
    with pytest.raises(TokenError) as caught:
        verdict(AUTH0.mint(auth0_claims()), auth0)
    assert caught.value.reason is Reason.TOKEN_CLAIM_INVALID


def test_auth0s_own_token_is_refused_where_only_the_pool_is_configured(load: Callable[[str], Settings]) -> None:
    pools = load(CONFIGURATIONS[0]).pools
    assert [pool for pool in pools if AUTH0.issuer in pool.pool.issuers] == []
