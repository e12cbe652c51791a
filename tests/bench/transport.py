"""Constant bytes through this service's own transport (authz/transport/calls.py): what that alone can carry.

    python -m tests.bench.transport PORT ANSWER_FILE

Beside the floor, which is grpc.aio's, it tells how much of what this service does more is the transport's.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from authz.transport.calls import Calls
from authz.transport.server import METHOD, SERVICE


async def serve(port: int, answer: bytes) -> None:
    async def check(_data: bytes, _call: object) -> bytes:
        return answer

    calls = Calls({f"/{SERVICE}/{METHOD}": check}, {}, options=[("grpc.so_reuseport", 0)], most_calls=512)
    calls.bind(f"127.0.0.1:{port}", None)
    calls.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
