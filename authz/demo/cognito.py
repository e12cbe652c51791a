"""The demo's user pools in a local Cognito (MiniStack): app clients, users, and tokens of every kind.

MiniStack mints tokens with the issuer that AWS would use and two keys a pool, and takes Cognito's own JSON calls
without a signature, so they are made with the HTTP client that is here anyway. It is started on loopback only: left
to itself it also opens an MQTT port on every interface.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from authz.demo.processes import StandError

REGION: Final = "eu-west-1"
MACHINE_SCOPE: Final = "orders/read"
PASSWORD: Final = "Not-a-secret-1"  # noqa: S105 - everyone may know it: it opens nothing but the demo


class User(NamedTuple):
    """A person of the demo."""

    name: str
    groups: Sequence[str]
    domain: str = "example.com"  # of the e-mail address

    @property
    def email(self) -> str:
        """Give the e-mail address, which the pool has verified."""
        return f"{self.name}@{self.domain}"


USERS: Final = (User("alice", ["admins"]), User("bob", ["developers"]), User("carol", [], "elsewhere.example"))


class FederatedUser(NamedTuple):
    """A person whom an identity provider of the pool knows; the pool has no password of theirs."""

    name: str
    subject: str  # at the provider, as Auth0 writes it
    email: str


PROVIDER: Final = "Auth0"
FEDERATED: Final = FederatedUser("dora", "auth0|5f7c8ec7c33c6c004bbafe82", "dora@example.com")


class Website(NamedTuple):
    """What a browser sees: an application that signs people in, and the sign-in page of the identity provider."""

    url: str  # https://app.localhost:PORT
    provider_url: str  # where the pool reaches the provider
    provider_page: str  # where browsers are sent


class App(NamedTuple):
    """A confidential app client."""

    client_id: str
    client_secret: str

    def __repr__(self) -> str:
        """Name the client, without its secret."""
        return f"App({self.client_id})"


def command() -> Sequence[str]:
    """Give the command that runs MiniStack."""
    return (sys.executable, "-m", "ministack")


def environment(port: int, state: Path) -> Mapping[str, str]:
    """Give the variables that keep MiniStack on loopback, on one port, with one service and no Docker."""
    return {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "cognito-idp",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "MINISTACK_REGION": REGION,
        "STATE_DIR": str(state),
        "DOCKER_HOST": "unix:///nonexistent",
    }


@dataclass(frozen=True, slots=True)
class Population:
    """What was created: the pool, the clients that the service shall accept, and tokens by who holds them."""

    pool_id: str
    jwks_uri: str
    clients: Sequence[str]
    browser: App
    subjects: Mapping[str, str]  # `sub` → name
    tokens: Mapping[str, str] = field(repr=False)

    @property
    def trust(self) -> Mapping[str, Any]:
        """Give the entry for `cognito:` in authz.yaml."""
        return {
            "user_pool": self.pool_id,
            "clients": list(self.clients),
            "token_use": ["access"],
            "jwks_uri": self.jwks_uri,
            "leeway": "10s",  # Envoy counts a session's life from when it got the tokens, a little later than `iat`
        }


class LocalCognito:
    """Cognito's API at a local address."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self._client = client
        self._url = url

    async def populate(self, website: Website) -> Population:
        """Create everything that the demo needs, and sign everybody in."""
        pool = await self._create_pool("demo")
        app = await self._create_app(pool, "app")
        stale = await self._create_app(pool, "expired-tokens", hours=-1)  # the local Cognito does not mind
        foreign = await self._create_app(pool, "not-ours")
        machine = await self._create_machine(pool)
        await self._federate(pool, website)
        browser = await self._create_browser_app(pool, website)
        subjects = {await self._create_user(pool, user): user.name for user in USERS}

        alice = await self._sign_in(app, "alice")
        tokens = {
            "alice": alice["AccessToken"],
            "alice's ID token": alice["IdToken"],
            "bob": (await self._sign_in(app, "bob"))["AccessToken"],
            "carol": (await self._sign_in(app, "carol"))["AccessToken"],
            "alice, expired": (await self._sign_in(stale, "alice"))["AccessToken"],
            "alice, another app": (await self._sign_in(foreign, "alice"))["AccessToken"],
            "alice, another pool": await self._stranger(),
            "machine": await self._machine_token(machine),
        }
        return Population(
            pool_id=pool,
            jwks_uri=f"{self._url}/{pool}/.well-known/jwks.json",
            clients=[app, stale, machine["ClientId"], browser.client_id],
            browser=browser,
            subjects={**subjects, machine["ClientId"]: "machine"},
            tokens=tokens,
        )

    async def _stranger(self) -> str:
        """Give the token of somebody of the same name in a pool that the service does not know."""
        pool = await self._create_pool("another")
        await self._create_user(pool, USERS[0])
        return str((await self._sign_in(await self._create_app(pool, "app"), USERS[0].name))["AccessToken"])

    async def _create_pool(self, name: str) -> str:
        return str((await self._call("CreateUserPool", PoolName=name))["UserPool"]["Id"])

    async def _create_app(self, pool: str, name: str, hours: int = 24) -> str:
        """Create an app client; its access tokens are good for a day, the longest that Cognito gives, or as told."""
        created = await self._call(
            "CreateUserPoolClient",
            UserPoolId=pool,
            ClientName=name,
            ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
            AccessTokenValidity=hours,
        )
        return str(created["UserPoolClient"]["ClientId"])

    async def _create_browser_app(self, pool: str, website: Website) -> App:
        """Create the app client of the browser sample, for people of the pool and of the identity provider."""
        created = await self._call(
            "CreateUserPoolClient",
            UserPoolId=pool,
            ClientName="browser",
            GenerateSecret=True,
            AllowedOAuthFlows=["code"],
            AllowedOAuthFlowsUserPoolClient=True,
            AllowedOAuthScopes=["openid", "email", "profile"],
            SupportedIdentityProviders=["COGNITO", PROVIDER],
            CallbackURLs=[f"{website.url}/oauth2/callback"],
            LogoutURLs=[f"{website.url}/oauth2/signout"],
            AccessTokenValidity=24,
            IdTokenValidity=24,
        )
        client: Mapping[str, str] = created["UserPoolClient"]
        return App(client["ClientId"], client["ClientSecret"])

    async def _federate(self, pool: str, website: Website) -> None:
        """Let people of an OpenID provider in, as the guides do with Auth0; their e-mail is mapped, its flag too."""
        await self._call(
            "CreateIdentityProvider",
            UserPoolId=pool,
            ProviderName=PROVIDER,
            ProviderType="OIDC",
            ProviderDetails={
                "client_id": "cognito",
                "client_secret": "not-checked",
                "attributes_request_method": "GET",
                "oidc_issuer": website.provider_url,
                "authorize_scopes": "openid profile email",
                "authorize_url": f"{website.provider_page}/oauth2/authorize",
                "token_url": f"{website.provider_url}/oauth2/token",
            },
            AttributeMapping={"username": "sub", "email": "email", "email_verified": "email_verified"},
        )

    async def _create_machine(self, pool: str) -> Mapping[str, str]:
        identifier, _, scope = MACHINE_SCOPE.partition("/")
        scopes = [{"ScopeName": name, "ScopeDescription": name} for name in (scope, "write")]
        await self._call("CreateResourceServer", UserPoolId=pool, Identifier=identifier, Name=identifier, Scopes=scopes)
        created = await self._call(
            "CreateUserPoolClient",
            UserPoolId=pool,
            ClientName="machine",
            GenerateSecret=True,
            AllowedOAuthFlows=["client_credentials"],
            AllowedOAuthFlowsUserPoolClient=True,
            AllowedOAuthScopes=[MACHINE_SCOPE],
            AccessTokenValidity=24,
        )
        client: Mapping[str, str] = created["UserPoolClient"]
        return client

    async def _create_user(self, pool: str, user: User) -> str:
        """Create a person with a password and groups; gives the `sub`."""
        attributes = [
            {"Name": "email", "Value": user.email},
            {"Name": "email_verified", "Value": "true"},
        ]
        person = {"UserPoolId": pool, "Username": user.name}
        created = await self._call("AdminCreateUser", **person, UserAttributes=attributes, MessageAction="SUPPRESS")
        await self._call("AdminSetUserPassword", **person, Password=PASSWORD, Permanent=True)
        for group in user.groups:
            await self._call("CreateGroup", UserPoolId=pool, GroupName=group)
            await self._call("AdminAddUserToGroup", **person, GroupName=group)
        return str(next(one["Value"] for one in created["User"]["Attributes"] if one["Name"] == "sub"))

    async def _sign_in(self, client_id: str, name: str) -> Mapping[str, str]:
        answer = await self._call(
            "InitiateAuth",
            ClientId=client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": name, "PASSWORD": PASSWORD},
        )
        tokens: Mapping[str, str] = answer["AuthenticationResult"]
        return tokens

    async def _machine_token(self, machine: Mapping[str, str]) -> str:
        """Sign a machine in: the client-credentials grant of RFC 6749 section 4.4."""
        login = base64.b64encode(f"{machine['ClientId']}:{machine['ClientSecret']}".encode()).decode()
        form = {"grant_type": "client_credentials", "scope": MACHINE_SCOPE}
        async with self._client.post(
            f"{self._url}/oauth2/token", data=form, headers={"authorization": f"Basic {login}"}
        ) as response:
            if response.status != 200:
                raise StandError(f"the local Cognito refused the machine's sign-in ({response.status})")
            return str((await response.json())["access_token"])

    async def _call(self, operation: str, **arguments: object) -> Mapping[str, Any]:
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": f"AWSCognitoIdentityProviderService.{operation}",
        }
        async with self._client.post(self._url, json=arguments, headers=headers) as response:
            if response.status != 200:
                raise StandError(f"the local Cognito refused {operation} ({response.status})")
            answer: Mapping[str, Any] = await response.json(content_type=None)
            return answer
