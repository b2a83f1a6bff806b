"""The small program behind each service's Envoy: it answers every line with who it is.

Run as a file (``python -I -S application.py NAME HOST:PORT...``): without site-packages it starts
at once and stays small.
"""

from __future__ import annotations

import asyncio
import signal
import sys


async def serve(name: str, addresses: list[tuple[str, int]]) -> None:
    """Listen on all addresses until the process is told to end."""
    answer = name.encode() + b"\n"

    async def answer_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readline():
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the peer went away, or sent a line that is none
        finally:
            writer.close()

    servers = [
        await asyncio.start_server(answer_lines, host, port, backlog=256)
        for host, port in addresses
    ]
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    for server in servers:
        server.close()


def main(arguments: list[str]) -> None:
    """Read the name and the addresses from the command line."""
    name, *places = arguments
    pairs = [place.rsplit(":", 1) for place in places]
    asyncio.run(serve(name, [(host, int(port)) for host, port in pairs]))


if __name__ == "__main__":
    main(sys.argv[1:])
