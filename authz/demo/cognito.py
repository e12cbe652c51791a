"""The demo's user pools in a local Cognito (MiniStack): app clients, users, and tokens of every kind.

MiniStack mints tokens with the issuer that AWS would use and two keys a pool, and takes Cognito's own JSON calls
without a signature, so they are made with the HTTP client that is here anyway. It is started on loopback only: left
to itself it also opens an MQTT port on every interface.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from authz.demo.processes import StandError

REGION: Final = "eu-west-1"
MACHINE_SCOPE: Final = "orders/read"
_PASSWORD: Final = "Not-a-secret-1"  # noqa: S105 - everyone may know it: it opens nothing but the demo


class User(NamedTuple):
    """A person of the demo."""

    name: str
    groups: Sequence[str]


USERS: Final = (User("alice", ["admins"]), User("bob", ["developers"]), User("carol", []))


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
    subjects: Mapping[str, str]  # `sub` → name
    expires_at: float  # when the token called expired is so: wall clock, seconds since the epoch
    tokens: Mapping[str, str] = field(repr=False)

    @property
    def trust(self) -> Mapping[str, Any]:
        """Give the entry for `cognito:` in authz.yaml."""
        return {
            "user_pool": self.pool_id,
            "clients": list(self.clients),
            "token_use": ["access"],
            "jwks_uri": self.jwks_uri,
        }


class LocalCognito:
    """Cognito's API at a local address."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self._client = client
        self._url = url

    async def populate(self) -> Population:
        """Create everything that the demo needs, and sign everybody in."""
        pool = await self._create_pool("demo")
        app = await self._create_app(pool, "app")
        brief = await self._create_app(pool, "one-second-tokens", {"AccessToken": "seconds"})
        foreign = await self._create_app(pool, "not-ours")
        machine = await self._create_machine(pool)
        subjects = {await self._create_user(pool, user): user.name for user in USERS}

        expired = await self._sign_in(brief, "alice")  # good for one second from here
        expires_at = time.time() + 1.0
        alice = await self._sign_in(app, "alice")
        tokens = {
            "alice": alice["AccessToken"],
            "alice's ID token": alice["IdToken"],
            "bob": (await self._sign_in(app, "bob"))["AccessToken"],
            "carol": (await self._sign_in(app, "carol"))["AccessToken"],
            "alice, expired": expired["AccessToken"],
            "alice, another app": (await self._sign_in(foreign, "alice"))["AccessToken"],
            "alice, another pool": await self._stranger(),
            "machine": await self._machine_token(machine),
        }
        return Population(
            pool_id=pool,
            jwks_uri=f"{self._url}/{pool}/.well-known/jwks.json",
            clients=[app, brief, machine["ClientId"]],
            subjects={**subjects, machine["ClientId"]: "machine"},
            expires_at=expires_at,
            tokens=tokens,
        )

    async def _stranger(self) -> str:
        """Give the token of somebody of the same name in a pool that the service does not know."""
        pool = await self._create_pool("another")
        await self._create_user(pool, USERS[0])
        return str((await self._sign_in(await self._create_app(pool, "app"), USERS[0].name))["AccessToken"])

    async def _create_pool(self, name: str) -> str:
        return str((await self._call("CreateUserPool", PoolName=name))["UserPool"]["Id"])

    async def _create_app(self, pool: str, name: str, units: Mapping[str, str] | None = None) -> str:
        """Create an app client; its access tokens are good for a day, the longest that Cognito gives, or one unit."""
        created = await self._call(
            "CreateUserPoolClient",
            UserPoolId=pool,
            ClientName=name,
            ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"],
            AccessTokenValidity=1,
            TokenValidityUnits={"AccessToken": "days"} if units is None else units,
        )
        return str(created["UserPoolClient"]["ClientId"])

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
            AccessTokenValidity=1,
            TokenValidityUnits={"AccessToken": "days"},
        )
        client: Mapping[str, str] = created["UserPoolClient"]
        return client

    async def _create_user(self, pool: str, user: User) -> str:
        """Create a person with a password and groups; gives the `sub`."""
        attributes = [
            {"Name": "email", "Value": f"{user.name}@example.com"},
            {"Name": "email_verified", "Value": "true"},
        ]
        person = {"UserPoolId": pool, "Username": user.name}
        created = await self._call("AdminCreateUser", **person, UserAttributes=attributes, MessageAction="SUPPRESS")
        await self._call("AdminSetUserPassword", **person, Password=_PASSWORD, Permanent=True)
        for group in user.groups:
            await self._call("CreateGroup", UserPoolId=pool, GroupName=group)
            await self._call("AdminAddUserToGroup", **person, GroupName=group)
        return str(next(one["Value"] for one in created["User"]["Attributes"] if one["Name"] == "sub"))

    async def _sign_in(self, client_id: str, name: str) -> Mapping[str, str]:
        answer = await self._call(
            "InitiateAuth",
            ClientId=client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": name, "PASSWORD": _PASSWORD},
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
