"""Whether a process is ready, asked as its users would."""

from __future__ import annotations

import asyncio
from pathlib import Path

from zt.placement import Address

_PATIENCE = 2.0


async def tcp_is_ready(address: Address) -> bool:
    """Whether somebody listens."""
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def http_is_ready(address: Address, path: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        async with asyncio.timeout(_PATIENCE):
            streams = await asyncio.open_connection(address.host, address.port)
            return await _get(*streams, path) == "200"
    except (OSError, TimeoutError):
        return False


async def envoy_is_ready(admin: Path) -> bool:
    """Whether Envoy calls itself ready, on its admin socket."""
    try:
        async with asyncio.timeout(_PATIENCE):
            streams = await asyncio.open_unix_connection(admin)
            return await _get(*streams, "/ready") == "200"
    except (OSError, TimeoutError):
        return False


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> str:
    """The status of a GET; empty if the answer is none."""
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
        return [*line.split(), b"", b""][1].decode("ascii", "replace")
    finally:
        writer.close()
