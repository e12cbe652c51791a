"""One of several workers: the service on an address of its own, which answers its supervisor beside."""

from __future__ import annotations

import asyncio
import os
import socket

from authz.channel import EXPOSITION, UP, Orders, receive, send, write_missing
from authz.service import serve
from authz.transport.admin import Pages


def work(orders: Orders) -> int:
    """Serve until a signal and give the exit code.

    Raises LoadError before anything is started, OSError when the address cannot be bound.
    """

    async def answer_supervisor(pages: Pages) -> None:
        with socket.socket(fileno=orders.descriptor) as connection:
            reader, writer = await asyncio.open_connection(sock=connection)
            try:
                await answer(pages, reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                os._exit(1)  # without a supervisor nobody would end us: at once, for another may want our address
            finally:
                writer.close()

    serve(orders.settings, beside=answer_supervisor, shared=orders.shared)
    return 0


async def answer(pages: Pages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that we are up, then answer what is asked until the other end is closed."""
    await send(writer, UP)
    while True:
        if await receive(reader) == EXPOSITION:
            exposition, _ = await pages.exposition()
            await send(writer, exposition)
        else:
            await send(writer, write_missing(await pages.missing()))
