"""The floor: a grpc.aio server that answers constant bytes to any bytes. What the transport alone can carry.

    python -m tests.bench.floor PORT ANSWER_FILE

The answer is one that this service gave, so that as many bytes travel.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc

from authz.transport.server import METHOD, SERVICE


async def serve(port: int, answer: bytes) -> None:
    async def check(_data: bytes, _context: object) -> bytes:
        return answer

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
