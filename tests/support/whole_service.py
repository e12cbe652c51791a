"""The whole service in this process, built as `authz serve` builds it, but without a port: its door is asked directly.

async with whole_service(folder, POLICIES, pool) as service:
    answer = await service.door.check(check_request(token=pool.token()).SerializeToString())
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from authz.event_log import configure_logging
from authz.identity.jwks import KeyStore
from authz.lines import LineWriter
from authz.metrics import Metrics
from authz.service import Service
from authz.settings import load_settings
from tests.support.user_pool import FakeUserPool


@asynccontextmanager
async def whole_service(
    folder: Path,
    policies: str,
    pool: FakeUserPool,
    settings: Mapping[str, Any] | None = None,
    writer: LineWriter | None = None,
) -> AsyncIterator[Service]:
    """Give the service with its keys fetched. Lines go to the writer, else nowhere."""
    (folder / "jwks.json").write_bytes(pool.jwks())
    (folder / "policies.yaml").write_text(policies)
    trust = {"user_pool": pool.pool_id, "clients": [pool.client_id], "token_use": ["access"]}
    configuration = {
        "admin": "off",
        "policies": "policies.yaml",
        "cognito": [{**trust, "jwks_uri": (folder / "jwks.json").as_uri()}],
        **(settings or {}),
    }
    (folder / "authz.yaml").write_text(json.dumps(configuration))
    loaded = load_settings(folder / "authz.yaml", environ={}, overrides={})
    own = writer or LineWriter(os.open(os.devnull, os.O_WRONLY))
    service = Service(loaded, writer=own, metrics=Metrics(version="0", wall=time.time))
    root, ours, access = logging.getLogger(), logging.getLogger("authz"), logging.getLogger("aiohttp.access")
    before = list(root.handlers), root.level, ours.level, access.disabled
    configure_logging(own, "info")
    try:
        service.policies.load()
        fetching = asyncio.create_task(keys_of(service).run())
        while service._missing():  # noqa: ASYNC110 - keys have no event to wait for
            await asyncio.sleep(0.01)
        fetching.cancel()
        with suppress(asyncio.CancelledError):
            await fetching
        yield service
    finally:
        await service._fetch.close()
        own.close(timeout=2.0)
        root.handlers[:], root.level, ours.level, access.disabled = before


def keys_of(service: Service) -> KeyStore:
    """Give the store of the only pool's keys."""
    return service._issuers[0].keys
