"""Tokens that boto3 gets from moto's Cognito pass: an emulator that we did not write, and another than the demo's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from authz.errors import TokenError
from authz.identity.cognito import UserPool, peek, verify
from authz.identity.fetch import HttpFetch
from authz.identity.key_document import read_jwks
from authz.model import Principal, Reason

REGION = "eu-west-1"
PASSWORD = "Correct-horse-9"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def cognito(endpoint: str) -> Any:
    return boto3.client(
        "cognito-idp", REGION, endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test"
    )


@pytest.fixture(scope="module")
def pool_id(cognito: Any) -> str:
    return cognito.create_user_pool(PoolName="demo")["UserPool"]["Id"]


@pytest.fixture(scope="module")
def client_id(cognito: Any, pool_id: str) -> str:
    flows = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
    made = cognito.create_user_pool_client(UserPoolId=pool_id, ClientName="app", ExplicitAuthFlows=flows)
    return made["UserPoolClient"]["ClientId"]


@pytest.fixture(scope="module")
def tokens(cognito: Any, pool_id: str, client_id: str) -> dict[str, str]:
    cognito.admin_create_user(UserPoolId=pool_id, Username="alice")
    cognito.admin_set_user_password(UserPoolId=pool_id, Username="alice", Password=PASSWORD, Permanent=True)
    cognito.create_group(UserPoolId=pool_id, GroupName="admins")
    cognito.admin_add_user_to_group(UserPoolId=pool_id, Username="alice", GroupName="admins")
    result = cognito.initiate_auth(
        ClientId=client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": "alice", "PASSWORD": PASSWORD},
    )["AuthenticationResult"]
    return {"access": result["AccessToken"], "id": result["IdToken"]}


async def verified(endpoint: str, pool_id: str, client_id: str, token: str, token_use: str) -> Principal:
    fetch = HttpFetch()
    try:
        keys = read_jwks(await fetch(f"{endpoint}/{pool_id}/.well-known/jwks.json", 5.0)).keys
    finally:
        await fetch.close()
    pool = UserPool(
        issuers=(f"https://cognito-idp.{REGION}.amazonaws.com/{pool_id}",),
        clients=frozenset({client_id}),
        token_use=frozenset({token_use}),
        leeway=0.0,
        trust_unverified_email=False,
        label=pool_id,
    )
    unverified = peek(token)
    return verify(unverified, keys[unverified.kid], pool, time.time()).principal


@pytest.mark.parametrize("token_use", ["access", "id"])
async def test_a_token_of_moto_passes(
    endpoint: str, pool_id: str, client_id: str, tokens: dict[str, str], token_use: str
) -> None:
    principal = await verified(endpoint, pool_id, client_id, tokens[token_use], token_use)
    assert principal.claims["cognito:groups"] == ["admins"]
    assert (principal.client_id, principal.token_use) == (client_id, token_use)


async def test_its_id_token_is_refused_where_access_is_wanted(
    endpoint: str, pool_id: str, client_id: str, tokens: dict[str, str]
) -> None:
    with pytest.raises(TokenError) as caught:
        await verified(endpoint, pool_id, client_id, tokens["id"], "access")
    assert caught.value.reason is Reason.TOKEN_USE_REFUSED


async def test_its_token_is_refused_to_another_client(endpoint: str, pool_id: str, tokens: dict[str, str]) -> None:
    with pytest.raises(TokenError) as caught:
        await verified(endpoint, pool_id, "somebody-elses-app", tokens["access"], "access")
    assert caught.value.reason is Reason.TOKEN_CLIENT_REFUSED
