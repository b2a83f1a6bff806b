"""What each service of the lab runs: it says on every port who it is and whom it sees.

``python -S -m lab.services.application NAME PORT:PROTOCOL...``; protocols are those of the
policies. It knows nothing of a mesh.

- ``http``, ``grpc``: HTTP/1.1 with kept connections. ``/`` and whatever is not named here: JSON of
  ``service``, ``pod``, ``peer``; ``/healthz``; ``/metrics`` (Prometheus' text); ``/bytes?count=N``;
  ``/stream?count=N&pause=SECONDS``: N such answers, a line each, as chunks.
- ``tcp``: a MySQL-like server, which speaks first. It greets with the packet of MySQL's handshake,
  whose version names the service, and then answers each line like the next.
- ``postgres``, ``redis``: the client speaks first; each line is answered with one of JSON.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

_HTTP = ("http", "grpc")
_GREETER = "tcp"
_BLOCK = 1 << 16
# The peer goes away, or says what is nothing; or the process ends.
_ENDED = (ConnectionError, ValueError, asyncio.CancelledError)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Application:
    """A service and its ports, as ``(number, protocol)``."""

    def __init__(self, name: str, ports: list[tuple[int, str]], host: str = "") -> None:
        self._name, self._ports, self._host = name, ports, host
        self._pod = socket.gethostname()
        self._requests: dict[int, int] = dict.fromkeys((number for number, _ in ports), 0)

    async def start(self) -> list[asyncio.Server]:
        """Listen on every port."""
        return [
            await asyncio.start_server(
                self._handler(protocol),
                self._host or None,
                number,
                family=socket.AF_INET,
                backlog=512,
            )
            for number, protocol in self._ports
        ]

    def _answer(self, writer: asyncio.StreamWriter) -> bytes:
        port = writer.get_extra_info("sockname")[1]
        self._requests[port] = self._requests.get(port, 0) + 1
        peer = writer.get_extra_info("peername")[0]
        return json.dumps({"service": self._name, "pod": self._pod, "peer": peer}).encode() + b"\n"

    def _handler(self, protocol: str) -> Handler:
        if protocol in _HTTP:
            return self._http
        return self._greet if protocol == _GREETER else self._lines

    # --- Lines ------------------------------------------------------------------------------------

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting(self._name))
        await self._lines(reader, writer)

    async def _lines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(*_ENDED):
            while await reader.readline():
                writer.write(self._answer(writer))
                await writer.drain()
        writer.close()

    # --- HTTP -------------------------------------------------------------------------------------

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(*_ENDED, asyncio.IncompleteReadError):
            while target := await _request(reader):
                await self._respond(target, writer)
                await writer.drain()
        writer.close()

    async def _respond(self, target: str, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        match parts.path:
            case "/healthz":
                writer.write(_response(b"ok\n", "text/plain"))
            case "/metrics":
                writer.write(_response(self._metrics(), "text/plain; version=0.0.4"))
            case "/bytes":
                await _send_bytes(writer, int(query.get("count", "0")))
            case "/stream":
                await self._stream(
                    writer, int(query.get("count", "1")), float(query.get("pause", "0"))
                )
            case _:
                writer.write(_response(self._answer(writer), "application/json"))

    async def _stream(self, writer: asyncio.StreamWriter, count: int, pause: float) -> None:
        writer.write(_head("application/json", "Transfer-Encoding: chunked"))
        for number in range(count):
            if number:
                await asyncio.sleep(pause)
            line = self._answer(writer)
            writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    def _metrics(self) -> bytes:
        name = "app_requests_total"
        lines = [f"# HELP {name} Questions answered.", f"# TYPE {name} counter"]
        lines += [f'{name}{{port="{port}"}} {count}' for port, count in self._requests.items()]
        return ("\n".join(lines) + "\n").encode()


def greeting(name: str) -> bytes:
    """The first packet of a MySQL server (Protocol::HandshakeV10) of that service."""
    salt = bytes(range(1, 21))
    content = b"".join(
        (
            b"\x0a",
            f"8.4.0-{name}".encode() + b"\0",
            (1).to_bytes(4, "little"),
            salt[:8] + b"\0",
            b"\xff\xff\xff\x02\x00\xff\xdf\x15" + b"\0" * 10,
            salt[8:] + b"\0",
            b"caching_sha2_password\0",
        )
    )
    return len(content).to_bytes(3, "little") + b"\0" + content


async def _request(reader: asyncio.StreamReader) -> str | None:
    """The target of the next request; ``None`` at the end. A body of stated length is skipped."""
    first = (await reader.readline()).decode("latin-1").split()
    if len(first) != 3 or not first[2].startswith("HTTP/1."):  # noqa: PLR2004 - as HTTP has it
        return None
    length = 0
    while (line := await reader.readline()).strip():
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    await reader.readexactly(length)
    return first[1]


def _head(kind: str, length: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{length}\r\n\r\n".encode()


def _response(body: bytes, kind: str) -> bytes:
    return _head(kind, f"Content-Length: {len(body)}") + body


async def _send_bytes(writer: asyncio.StreamWriter, count: int) -> None:
    writer.write(_head("application/octet-stream", f"Content-Length: {count}"))
    for size in _blocks(count):
        writer.write(bytes(size))
        await writer.drain()


def _blocks(count: int) -> Iterator[int]:
    for start in range(0, count, _BLOCK):
        yield min(_BLOCK, count - start)


async def serve(application: Application) -> None:
    """Serve until the process is told to end."""
    servers = await application.start()
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    await end.wait()
    for server in servers:
        server.close()


def main(arguments: list[str]) -> None:
    """Read the name and the ports from the command line."""
    name, *ports = arguments
    pairs = [port.split(":", 1) for port in ports]
    asyncio.run(serve(Application(name, [(int(port), protocol) for port, protocol in pairs])))


if __name__ == "__main__":
    main(sys.argv[1:])
