"""A sidecar as the evaluator sees it: a real gRPC channel, with an SVID or without."""

import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc
from envoy.config.core.v3.address_pb2 import Address
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogCommon, TCPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from envoy.service.accesslog.v3.als_pb2_grpc import AccessLogServiceStub
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub

from engine.envoy import http2
from engine.tls import SvidFiles
from tests.engine.samples import DB, WEB, Authority, Desk

# A transport: ``engine.envoy.http2.serve``, or that of ``engine.envoy.fallback``.
Serve = Callable[..., AbstractAsyncContextManager[None]]
Metadata = Sequence[tuple[str, str]]
ALLOWED = grpc.StatusCode.OK.value[0]
DENIED = grpc.StatusCode.PERMISSION_DENIED.value[0]


@asynccontextmanager
async def evaluator(
    desk: Desk,
    svid: Path | None = None,
    serve: Serve = http2.serve,
    listening: socket.socket | None = None,
) -> AsyncIterator[str]:
    """The gRPC port of an evaluator, ``host:port``; mutual TLS with the SVID of a folder."""
    listening = listening or socket.create_server(("127.0.0.1", 0))
    files = None if svid is None else SvidFiles(svid)
    async with serve(listening, desk.decider, files):
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@asynccontextmanager
async def channel(
    target: str, authority: Authority | None = None, spiffe: str | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """Plaintext; TLS where the server's CA is given; mutual TLS with an SVID of that ID."""
    # A pool of its own, or gRPC would take another channel's connection, made with another SVID.
    options = [("grpc.use_local_subchannel_pool", 1)]
    if authority is None:
        made = grpc.aio.insecure_channel(target, options=options)
    else:
        own = authority.issue(spiffe) if spiffe else (None, None)
        credentials = grpc.ssl_channel_credentials(authority.bundle, *own)
        options.append(("grpc.ssl_target_name_override", "evaluator"))  # type: ignore[arg-type]
        made = grpc.aio.secure_channel(target, credentials, options=options)
    async with made:
        yield made


def counts(desk: Desk) -> Counter[tuple[str, ...]]:
    """What has been counted, by name and labels."""
    return Counter(dict(desk.metrics.reading().series))


def about(destination: str = DB, port: int | str = 5432) -> Metadata:
    """The metadata that compiled configuration sends."""
    return (("zt-destination", destination), ("zt-port", str(port)))


def address(host: str, port: int = 40000) -> Address:
    return Address(socket_address={"address": host, "port_value": port})


def question(
    source: str = WEB,
    destination: str = DB,
    *,
    source_address: str = "10.0.0.1",
    certificate: str = "",
) -> CheckRequest:
    """A Check as Envoy's network filter sends it; the port is that of the listener."""
    return CheckRequest(
        attributes=AttributeContext(
            source=AttributeContext.Peer(
                principal=source, address=address(source_address), certificate=certificate
            ),
            destination=AttributeContext.Peer(
                principal=destination, address=address("10.0.0.2", 15100)
            ),
        )
    )


async def check(
    target: str,
    request: CheckRequest,
    metadata: Metadata | None = None,
    authority: Authority | None = None,
    spiffe: str | None = None,
) -> CheckResponse:
    async with channel(target, authority, spiffe) as connected:
        call = AuthorizationStub(connected).Check
        return await call(request, metadata=about() if metadata is None else metadata, timeout=5)


def entry(  # noqa: PLR0913 - what differs between entries, each with a default
    *,
    uri: str | None = WEB,
    reason: str = "",
    details: str = "",
    source_address: str = "10.0.0.1",
    upstream: str = "",
    unauthorized: bool = False,
) -> TCPAccessLogEntry:
    """An entry of the access log as Envoy 1.40 writes it at the end of a connection."""
    common = AccessLogCommon(
        downstream_remote_address=address(source_address),
        downstream_local_address=address("10.0.0.2", 15100),
        downstream_transport_failure_reason=reason,
        connection_termination_details=details,
        upstream_cluster=upstream,
    )
    if uri is not None:
        properties = common.tls_properties.peer_certificate_properties
        properties.subject_alt_name.add(uri=uri)
    if unauthorized:
        common.response_flags.unauthorized_details.reason = 1
    return TCPAccessLogEntry(common_properties=common)


async def report(
    target: str,
    entries: Iterable[TCPAccessLogEntry],
    metadata: Metadata | None = None,
    authority: Authority | None = None,
    spiffe: str | None = None,
) -> None:
    """Stream entries, one a message, and wait until the evaluator has taken them all."""
    messages = [StreamAccessLogsMessage(tcp_logs={"log_entry": [one]}) for one in entries]
    async with channel(target, authority, spiffe) as connected:
        call = AccessLogServiceStub(connected).StreamAccessLogs
        await call(iter(messages), metadata=about() if metadata is None else metadata, timeout=5)
