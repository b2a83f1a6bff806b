"""One call, made as an application would, or as an attacker: what the caller does in a pod."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_PATIENCE = 5.0
_MOST_BYTES = 1 << 16
# A TLS record of type alert: what a port that wants TLS says to plaintext (RFC 8446, section 5.1).
_ALERT = b"\x15\x03"

# What a call can fail by.
REFUSED, RESET, CLOSED, SILENT = "refused", "reset", "closed", "silent"
UNREACHABLE, NAME, TLS, WRONG = "unreachable", "name", "tls", "wrong"


class CallError(Exception):
    """A call that failed: how (a word of the above), and in detail."""

    def __init__(self, how: str, detail: object = "") -> None:
        super().__init__(str(detail))
        self.how = how


@dataclass(slots=True)
class Connection:
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    host: str
    greeted: bool = False

    @property
    def peer(self) -> str:
        """Address and port that were dialled in the end."""
        address, port, *_ = self.writer.get_extra_info("peername") or ("", 0)
        return f"{address}:{port}"

    @property
    def certificate(self) -> tuple[str, ...]:
        """URIs of the server's certificate, where it was checked."""
        shown = self.writer.get_extra_info("peercert") or {}
        return tuple(value for kind, value in shown.get("subjectAltName", ()) if kind == "URI")

    def close(self) -> None:
        """Close it, whatever state it is in."""
        with suppress(Exception):
            self.writer.transport.abort()


async def call(asked: Mapping[str, Any]) -> Json:
    """Make one call; ``lab.services.caller`` says what may be asked, and what is answered."""
    began = time.monotonic()
    result: Json = {"ok": False, "answer": None, "error": None}
    try:
        async with asyncio.timeout(float(asked.get("timeout", _PATIENCE))):
            await _MODES[asked.get("mode", "http")](asked, result)
        result["ok"] = True
    except TimeoutError:
        # Nobody answered the first packet, or somebody did and then said nothing.
        result["error"] = SILENT if "peer" in result else UNREACHABLE
    except CallError as error:
        result |= {"error": error.how, "detail": str(error)}
    result["seconds"] = time.monotonic() - began
    return result


Ask = Callable[[Connection, Mapping[str, Any]], Awaitable[Any]]


# --- Modes ----------------------------------------------------------------------------------------


async def _http(asked: Mapping[str, Any], result: Json) -> None:
    await _converse(asked, result, ask_http)


async def _line(asked: Mapping[str, Any], result: Json) -> None:
    await _converse(asked, result, ask_line)


async def _converse(asked: Mapping[str, Any], result: Json, ask: Ask) -> None:
    """Ask as often as wanted on one connection; the last answer counts."""
    connection = await opened(asked, result)
    each = result["each"] = []
    try:
        for _ in range(int(asked.get("count", 1))):
            began = time.monotonic()
            result["answer"] = await ask(connection, asked)
            each.append(time.monotonic() - began)
    finally:
        connection.close()


async def _raw(asked: Mapping[str, Any], result: Json) -> None:
    """Send bytes, if there are any to send, and take the first that come back."""
    connection = await opened(asked, result)
    try:
        got = await exchange(connection, asked)
    finally:
        connection.close()
    result["answer"] = got.decode("latin-1")
    if not got:
        raise CallError(CLOSED)


async def _connect(asked: Mapping[str, Any], result: Json) -> None:
    (await opened(asked, result)).close()


async def _udp(asked: Mapping[str, Any], result: Json) -> None:
    """Send a datagram and wait for one."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.setblocking(False)  # noqa: FBT003 - the call of the standard library
        try:
            end.connect((await _resolved(asked), int(asked["port"])))
            result["peer"] = f"{end.getpeername()[0]}:{asked['port']}"
            await loop.sock_sendall(end, _to_send(asked) or b"who are you?\n")
            result["answer"] = (await loop.sock_recv(end, _MOST_BYTES)).decode("latin-1")
        except OSError as error:
            raise _failure(error) from None


_MODES = {"http": _http, "line": _line, "raw": _raw, "connect": _connect, "udp": _udp}


# --- Questions ------------------------------------------------------------------------------------


async def ask_http(connection: Connection, asked: Mapping[str, Any]) -> Json:
    """A GET on a kept connection: status and body, which is JSON or text.

    Raises:
        CallError: if it is not answered.
    """
    path, host = asked.get("path", "/"), f"{asked.get('name', connection.host)}:{asked['port']}"
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lab\r\n\r\n".encode()
    with _failing():
        connection.writer.write(request)
        await connection.writer.drain()
        status = await _status(connection.reader)
        body = await _body(connection.reader)
    return {"status": status, "body": _plain(body)}


async def _status(reader: asyncio.StreamReader) -> int:
    first = await reader.readline()
    if not first:
        raise CallError(CLOSED)
    if first.startswith(_ALERT):
        raise CallError(RESET, "a TLS alert")
    parts = first.split()
    if not first.startswith(b"HTTP/1.") or len(parts) < 2:  # noqa: PLR2004 - version, status
        raise CallError(WRONG, first[:80])
    return int(parts[1])


async def _body(reader: asyncio.StreamReader) -> bytes:
    headers: dict[bytes, bytes] = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    if headers.get(b"transfer-encoding") == b"chunked":
        return await _chunks(reader)
    return await reader.readexactly(int(headers.get(b"content-length", b"0")))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    content = b""
    while size := int(await reader.readline(), 16):
        content += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return content


async def ask_line(connection: Connection, asked: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Send a line; the answer is the next line, of JSON or text.

    Where the server speaks first (``greeted``), its first packet, as MySQL frames it, is taken
    before; once, for the connection is then as any other.

    Raises:
        CallError: if there is no answer.
    """
    with _failing():
        if asked.get("greeted") and not connection.greeted:
            size = int.from_bytes((await connection.reader.readexactly(4))[:3], "little")
            await connection.reader.readexactly(size)
            connection.greeted = True
        connection.writer.write(_to_send(asked) or b"who are you?\n")
        await connection.writer.drain()
        line = await connection.reader.readline()
    if line.startswith(_ALERT):
        raise CallError(RESET, "a TLS alert")
    if not line:
        raise CallError(CLOSED)
    return _plain(line.strip())


async def exchange(connection: Connection, asked: Mapping[str, Any]) -> bytes:
    """Send what there is to send, and read the first bytes; none where the peer closes.

    Raises:
        CallError: if the connection breaks.
    """
    with _failing():
        if content := _to_send(asked):
            connection.writer.write(content)
            await connection.writer.drain()
        return await connection.reader.read(_MOST_BYTES)


def _to_send(asked: Mapping[str, Any]) -> bytes:
    if "sendBase64" in asked:
        return base64.b64decode(asked["sendBase64"])
    return str(asked.get("send", "")).encode("latin-1")


def _plain(content: bytes) -> Any:  # noqa: ANN401 - JSON, or text where it is none
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")


# --- Connections ----------------------------------------------------------------------------------


async def opened(asked: Mapping[str, Any], result: Json) -> Connection:
    """Open a connection; ``peer``, ``connected`` and ``certificate`` of the result are set.

    Raises:
        CallError: if nobody is there, or the handshake fails.
    """
    began = time.monotonic()
    address = await _resolved(asked)
    with _failing():
        origin = (asked["source"], 0) if "source" in asked else None
        streams = await asyncio.open_connection(
            address, int(asked["port"]), local_addr=origin, limit=1 << 22
        )
        connection = Connection(*streams, host=str(asked["host"]))
        result["peer"] = connection.peer
        result["connected"] = time.monotonic() - began
        if "tls" in asked:
            await _secure(connection, asked["tls"])
            result["certificate"] = list(connection.certificate)
    return connection


async def _resolved(asked: Mapping[str, Any]) -> str:
    """The IPv4 address of a host, as the pod's resolver has it."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            str(asked["host"]), int(asked["port"]), family=socket.AF_INET, type=socket.SOCK_STREAM
        )
    except socket.gaierror as error:
        raise CallError(NAME, error.strerror) from None
    return str(found[0][4][0])


async def _secure(connection: Connection, tls: Mapping[str, Any]) -> None:
    context = _context(tls)
    try:
        await connection.writer.start_tls(
            context, server_hostname=str(tls.get("serverName", "")) or None
        )
    except (ssl.SSLError, ConnectionError) as error:
        connection.close()
        raise CallError(TLS, error) from None


def _context(tls: Mapping[str, Any]) -> ssl.SSLContext:
    """TLS with what is given; without authorities whoever answers is taken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A peer's name is its SPIFFE ID, which Python does not check; who asked looks at it.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        if tls.get("version") == "1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        with _file(tls, "authorities") as authorities:
            if authorities:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(authorities)
        with _file(tls, "certificate") as certificate, _file(tls, "key") as key:
            if certificate:
                context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CallError(TLS, f"what is given can't be used: {error}") from None
    if "alpn" in tls:
        context.set_alpn_protocols(list(tls["alpn"]))
    return context


@contextmanager
def _file(tls: Mapping[str, Any], name: str) -> Iterator[str | None]:
    """A file by its path, or its text (``<name>Pem``) as a file that lies on no disk."""
    text = tls.get(f"{name}Pem")
    if text is None:
        yield tls.get(name)
        return
    with os.fdopen(os.memfd_create(name), "w") as memory:
        memory.write(text)
        memory.flush()
        yield f"/proc/self/fd/{memory.fileno()}"


@contextmanager
def _failing() -> Iterator[None]:
    """What the system calls failure, as a ``CallError``."""
    try:
        yield
    except TimeoutError:
        raise
    except asyncio.IncompleteReadError:
        raise CallError(CLOSED) from None
    except (OSError, ValueError) as error:
        raise _failure(error) from None


def _failure(error: OSError | ValueError) -> CallError:
    match error:
        case ssl.SSLError():
            return CallError(TLS, error)
        case ConnectionRefusedError():
            return CallError(REFUSED)
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return CallError(RESET)
        case OSError():
            return CallError(UNREACHABLE, error.strerror or error)
    return CallError(WRONG, error)
