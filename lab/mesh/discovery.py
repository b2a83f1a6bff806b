"""An xDS server for each sidecar of a local mesh, at a socket of the sidecar's own.

It hands out the compiled resources, which a pod reads from files: Envoy takes an inotify instance
for every file that it watches, and Linux gives a user 128 of them unless told otherwise. It is the
SPIRE agent too, and hands out the SVID as ``default`` and the trust bundle as ``ROOTCA``.

State of the world, one stream for each subscription (``envoy.service.*.v3``).
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.cluster.v3 import cds_pb2_grpc as clusters
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from envoy.service.extension.v3 import config_discovery_pb2_grpc as extensions
from envoy.service.listener.v3 import lds_pb2_grpc as listeners
from envoy.service.secret.v3 import sds_pb2_grpc as secret_service
from google.protobuf.any_pb2 import Any as Resource
from google.protobuf.json_format import ParseDict

from zt.bundle import CompiledFile

_PREFIX = "type.googleapis.com/"
_BOOTSTRAP = "bootstrap.yaml"
_log = logging.getLogger(__name__)

# A resource is read by its type, which only a module that has been imported makes known.
_EXTENSIONS = "envoy.extensions"
_TYPES = (
    "envoy.config.cluster.v3.cluster_pb2",
    "envoy.config.core.v3.extension_pb2",
    "envoy.config.listener.v3.listener_pb2",
    f"{_EXTENSIONS}.access_loggers.filters.cel.v3.cel_pb2",
    f"{_EXTENSIONS}.access_loggers.grpc.v3.als_pb2",
    f"{_EXTENSIONS}.filters.http.router.v3.router_pb2",
    f"{_EXTENSIONS}.filters.listener.tls_inspector.v3.tls_inspector_pb2",
    f"{_EXTENSIONS}.filters.network.direct_response.v3.config_pb2",
    f"{_EXTENSIONS}.filters.network.ext_authz.v3.ext_authz_pb2",
    f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
    f"{_EXTENSIONS}.filters.network.rbac.v3.rbac_pb2",
    f"{_EXTENSIONS}.filters.network.tcp_proxy.v3.tcp_proxy_pb2",
    f"{_EXTENSIONS}.transport_sockets.tls.v3.tls_pb2",
    f"{_EXTENSIONS}.upstreams.http.v3.http_protocol_options_pb2",
)

# By type and name.
Resources = Mapping[tuple[str, str], Resource]


@dataclass(frozen=True, slots=True)
class Identity:
    """An SVID with its key, and the bundle by which it trusts others; all PEM."""

    certificate: bytes
    private_key: bytes
    bundle: bytes


def compiled(files: Iterable[CompiledFile]) -> dict[tuple[str, str], Resource]:
    """The resources in a sidecar's compiled files, but its bootstrap."""
    for module in _TYPES:
        importlib.import_module(module)
    contents = (file.manifest() for file in files if not file.path.endswith(_BOOTSTRAP))
    return {
        (item["@type"], item["name"]): ParseDict(item, Resource())
        for content in contents
        for item in content["resources"]
    }


def secrets(identity: Identity) -> dict[tuple[str, str], Resource]:
    """What the SPIRE agent would hand out."""
    pair = {
        "certificate_chain": {"inline_bytes": identity.certificate},
        "private_key": {"inline_bytes": identity.private_key},
    }
    roots = {"trusted_ca": {"inline_bytes": identity.bundle}}
    found = (
        Secret(name="default", tls_certificate=pair),
        Secret(name="ROOTCA", validation_context=roots),
    )
    return {(_type(secret), secret.name): _packed(secret) for secret in found}


class Discovery(
    listeners.ListenerDiscoveryServiceServicer,  # type: ignore[misc]
    clusters.ClusterDiscoveryServiceServicer,  # type: ignore[misc]
    secret_service.SecretDiscoveryServiceServicer,  # type: ignore[misc]
    extensions.ExtensionConfigDiscoveryServiceServicer,  # type: ignore[misc]
):
    """The server of one sidecar."""

    def __init__(self, resources: Resources) -> None:
        """Hand out resources; more can be put to them, and others in their place."""
        self._resources = dict(resources)
        self._version = 1
        self._streams: set[asyncio.Queue[DiscoveryRequest | None]] = set()
        self._server: grpc.aio.Server | None = None

    async def start(self, socket: Path) -> None:
        """Listen; who may open the socket is the business of its folder."""
        self._server = grpc.aio.server()
        listeners.add_ListenerDiscoveryServiceServicer_to_server(self, self._server)
        clusters.add_ClusterDiscoveryServiceServicer_to_server(self, self._server)
        secret_service.add_SecretDiscoveryServiceServicer_to_server(self, self._server)
        extensions.add_ExtensionConfigDiscoveryServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{socket}")
        await self._server.start()

    async def stop(self) -> None:
        """Close the socket."""
        if self._server is not None:
            await self._server.stop(None)

    def put(self, resources: Resources) -> None:
        """Hand out more, also to who has asked already."""
        self._resources.update(resources)
        self._version += 1
        for stream in self._streams:
            stream.put_nowait(None)

    async def _stream(
        self,
        requests: AsyncIterator[DiscoveryRequest],
        context: Any,  # noqa: ANN401 - grpc has no type for it
    ) -> AsyncIterator[DiscoveryResponse]:
        """Answer what is asked for, and again whenever it has changed."""
        del context
        queue: asyncio.Queue[DiscoveryRequest | None] = asyncio.Queue()
        reader = asyncio.create_task(_forward(requests, queue))
        self._streams.add(queue)
        asked, sent = DiscoveryRequest(), None
        try:
            while True:
                request = await queue.get()
                if request is not None:
                    _note_refusal(request)
                    asked = request
                found = self._wanted(asked)
                if found and found != sent:
                    sent = found
                    yield self._response(asked.type_url, found)
        finally:
            self._streams.discard(queue)
            reader.cancel()

    # The names of the RPCs; a stream is of one type, which its requests name.
    StreamListeners = StreamClusters = StreamSecrets = StreamExtensionConfigs = _stream

    def _wanted(self, request: DiscoveryRequest) -> list[Resource]:
        """Resources of the type asked for: those named, or all."""
        names = set(request.resource_names)
        return [
            resource
            for (kind, name), resource in self._resources.items()
            if kind == request.type_url and (name in names or not names)
        ]

    def _response(self, type_url: str, resources: list[Resource]) -> DiscoveryResponse:
        version = str(self._version)
        return DiscoveryResponse(
            version_info=version, nonce=version, type_url=type_url, resources=resources
        )


async def _forward(
    requests: AsyncIterator[DiscoveryRequest], queue: asyncio.Queue[DiscoveryRequest | None]
) -> None:
    async for request in requests:
        queue.put_nowait(request)


def _note_refusal(request: DiscoveryRequest) -> None:
    if request.HasField("error_detail"):
        _log.error("%s refuses: %s", request.node.id, request.error_detail.message)


def _type(message: Any) -> str:  # noqa: ANN401
    return _PREFIX + str(message.DESCRIPTOR.full_name)


def _packed(message: Any) -> Resource:  # noqa: ANN401
    packed = Resource()
    packed.Pack(message)
    return packed
