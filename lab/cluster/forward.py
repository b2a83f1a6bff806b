"""Lets processes of the root network namespace reach a port inside another.

A socket belongs to the namespace in which it was made. So the listener is made here, on loopback,
and a thread that has entered the other namespace dials from there. TLS passes through untouched.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading

from lab.cluster.network import NAMESPACES

_NETWORK = 0x40000000  # CLONE_NEWNET
_CHUNK = 1 << 16
_BACKLOG = 128


def forward(namespace: str, host: str, port: int) -> int:
    """Forward a free port of 127.0.0.1, which is returned, for as long as this process lives.

    Raises:
        OSError: if there is no such namespace, or no port.
    """
    # Opened here, so that a namespace that is not there is said at once.
    handle = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)

    def run() -> None:
        _enter(handle)
        asyncio.run(_serve(listener, host, port))

    threading.Thread(target=run, name=f"forward to {namespace}", daemon=True).start()
    chosen: int = listener.getsockname()[1]
    return chosen


def _enter(handle: int) -> None:
    """Move this thread, and no other, into a network namespace (setns(2))."""
    library = ctypes.CDLL(None, use_errno=True)
    try:
        if library.setns(handle, _NETWORK) != 0:
            raise OSError(ctypes.get_errno(), "can't enter the network namespace")
    finally:
        os.close(handle)


async def _serve(listener: socket.socket, host: str, port: int) -> None:
    # The loop itself does not hold on to its tasks.
    running: set[asyncio.Task[None] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.current_task())
        try:
            await lead(reader, writer)
        finally:
            running.discard(asyncio.current_task())

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, to_there = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_copy(reader, to_there), _copy(there, writer))
        finally:
            writer.close()
            to_there.close()

    server = await asyncio.start_server(answer, sock=listener)
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction to its end; what fails ends the connection, as if it had no middle."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
