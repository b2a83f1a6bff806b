"""The same calls on grpcio, for where ngh2 must not be used: ``ZT_GRPC=grpcio``.

What a call means is in ``engine.envoy.authz`` and ``engine.envoy.accesslog``, for both. grpcio
can't be given a listening socket, so connections are taken here and relayed, byte by byte, to a
socket in a folder of our own; TLS is grpcio's. It costs most of the rate (``benchmarks.check``),
and limits on what a connection may do are grpcio's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import grpc

from engine.decider import Decider
from engine.envoy.accesslog import TAKEN, Reports
from engine.envoy.authz import Authorization, Held
from engine.envoy.calls import ACCESS_LOGS, CHECK, MESSAGE_LIMIT, PREFIX, RETRY, CallError
from engine.envoy.channel import Channel, channel_of
from engine.tls import Svid, SvidFiles

_BACKLOG = 4096
_PIECE = 64 << 10
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]


@contextlib.asynccontextmanager
async def serve(
    listening: socket.socket, decider: Decider, svid: SvidFiles | None, *, grace: float = 1.0
) -> AsyncIterator[None]:
    """Answer on a listening socket; mutual TLS with an SVID."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MESSAGE_LIMIT)])
    server.add_generic_rpc_handlers((_handlers(decider),))
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="zt-grpc-"))
        path = str(Path(folder) / "socket")
        if svid is None:
            server.add_insecure_port(f"unix:{path}")
        else:
            server.add_secure_port(f"unix:{path}", _credentials(svid))
        await server.start()
        stack.push_async_callback(server.stop, grace)
        await stack.enter_async_context(_relaying(listening, path))
        yield


def _handlers(decider: Decider) -> grpc.GenericRpcHandler:
    """Both methods; messages stay bytes."""
    authorization = Authorization(decider)

    async def check(message: bytes, context: Context) -> bytes:
        try:
            answer = authorization.check(message, _channel(context))
        except CallError as error:
            return await _refuse(context, error)
        framed = answer if isinstance(answer, bytes) else await _given(answer)
        return framed[PREFIX.size :]

    async def stream(messages: AsyncIterator[bytes], context: Context) -> bytes:
        try:
            reports = Reports(decider, _channel(context))
            async for message in messages:
                reports.take(message)
                await _recorded(reports)
        except CallError as error:
            return await _refuse(context, error)
        return TAKEN[PREFIX.size :]

    handlers: dict[str, Any] = {
        CHECK: grpc.unary_unary_rpc_method_handler(check),
        ACCESS_LOGS: grpc.stream_unary_rpc_method_handler(stream),
    }
    return _Methods(handlers)


class _Methods(grpc.GenericRpcHandler):
    """Handlers by path."""

    def __init__(self, handlers: Mapping[str, Any]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401
        """The handler of a call, if there is one."""
        return self._handlers.get(handler_call_details.method)


async def _refuse(context: Context, error: CallError) -> NoReturn:
    await context.abort(_CODES[error.code], error.message)
    raise AssertionError("abort returns to nobody")


async def _given(held: Held) -> bytes:
    """The answer that is held, once it may be given."""
    given: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    held.then(lambda answer: None if given.done() else given.set_result(answer))
    return await given


async def _recorded(reports: Reports) -> None:
    while not reports.record():  # noqa: ASYNC110 - nothing tells when the disk has room
        await asyncio.sleep(RETRY if reports.failed else 0)


def _channel(context: Context) -> Channel:
    pairs = context.invocation_metadata() or ()
    metadata = {_bytes(key): _bytes(value) for key, value in pairs}
    return channel_of(metadata, _peer(context.auth_context()))


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _peer(properties: Mapping[str, Any]) -> str | None:
    if b"ssl" not in properties.get("transport_security_type", ()):
        return None
    identities = properties.get("peer_spiffe_id", ())
    return identities[0].decode() if identities else ""


# --- TLS ------------------------------------------------------------------------------------------


def _credentials(svid: SvidFiles) -> grpc.ServerCredentials:
    """Mutual TLS. gRPC asks at each handshake, from threads of its own."""
    used = svid.current

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        svid.refresh()
        if svid.current is used:
            return None
        used = svid.current
        return _configuration(used)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used),
        fetch,  # type: ignore[arg-type] # may give None, which the stubs do not know
        require_client_authentication=True,
    )


def _configuration(svid: Svid) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(svid.key, svid.certificate)], root_certificates=svid.bundle
    )


# --- The socket -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _relaying(listening: socket.socket, path: str) -> AsyncIterator[None]:
    """Take connections, and have each talk to the one behind ``path``."""
    relays: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is one
        relays.add(task)
        try:
            await _relay(reader, writer, path)
        finally:
            relays.discard(task)

    server = await asyncio.start_server(relay, sock=listening, backlog=_BACKLOG)
    try:
        yield
    finally:
        server.close()
        for task in relays:
            task.cancel()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """Hand on both directions until one ends."""
    with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.CancelledError):
        behind_reader, behind_writer = await asyncio.open_unix_connection(path)
        with contextlib.closing(behind_writer):
            directions = (
                asyncio.create_task(_hand_on(reader, behind_writer)),
                asyncio.create_task(_hand_on(behind_reader, writer)),
            )
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in directions:
                    task.cancel()


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
