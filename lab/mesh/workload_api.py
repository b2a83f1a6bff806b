"""What a SPIRE agent is to a sidecar: an SDS server that hands out its SVID and the trust bundle.

``envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets``, state of the world, under the
agent's names: ``default`` is the SVID, ``ROOTCA`` the bundle. The agent knows who asks by their
process; here every service has a socket of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from envoy.service.secret.v3.sds_pb2_grpc import (
    SecretDiscoveryServiceServicer,
    add_SecretDiscoveryServiceServicer_to_server,
)
from google.protobuf.any_pb2 import Any as Packed

SVID = "default"
BUNDLE = "ROOTCA"
_TYPE_URL = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """An SVID with its key, and the bundle by which it trusts others; all PEM."""

    certificate: bytes
    private_key: bytes
    bundle: bytes

    def secret(self, name: str) -> Secret | None:
        """The secret of that name."""
        if name == SVID:
            return Secret(
                name=name,
                tls_certificate={
                    "certificate_chain": {"inline_bytes": self.certificate},
                    "private_key": {"inline_bytes": self.private_key},
                },
            )
        if name == BUNDLE:
            return Secret(
                name=name, validation_context={"trusted_ca": {"inline_bytes": self.bundle}}
            )
        return None


class WorkloadApi(SecretDiscoveryServiceServicer):  # type: ignore[misc]
    """The SDS server of one service."""

    def __init__(self, identity: Identity) -> None:
        """Serve an identity until it is replaced."""
        self._identity = identity
        self._version = 1
        self._streams: set[asyncio.Queue[DiscoveryRequest | None]] = set()
        self._server: grpc.aio.Server | None = None

    async def start(self, socket: Path) -> None:
        """Listen at a socket; who may open it is the business of its folder."""
        self._server = grpc.aio.server()
        add_SecretDiscoveryServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{socket}")
        await self._server.start()

    async def stop(self) -> None:
        """Close the socket."""
        if self._server is not None:
            await self._server.stop(None)

    def replace(self, identity: Identity) -> None:
        """Hand out another identity, also to who has one already."""
        self._identity = identity
        self._version += 1
        for stream in self._streams:
            stream.put_nowait(None)

    async def StreamSecrets(  # noqa: N802 - the name of the RPC
        self,
        requests: AsyncIterator[DiscoveryRequest],
        context: Any,  # noqa: ANN401 - untyped
    ) -> AsyncIterator[DiscoveryResponse]:
        """Answer what is asked for, and again whenever it is replaced."""
        del context
        queue: asyncio.Queue[DiscoveryRequest | None] = asyncio.Queue()
        reader = asyncio.create_task(_forward(requests, queue))
        self._streams.add(queue)
        try:
            names: tuple[str, ...] = ()
            sent = 0
            while True:
                request = await queue.get()
                if request is not None:
                    _note_refusal(request)
                    sent = sent if tuple(request.resource_names) == names else 0
                    names = tuple(request.resource_names)
                if names and sent != self._version:
                    sent = self._version
                    yield self._response(names)
        finally:
            self._streams.discard(queue)
            reader.cancel()

    def _response(self, names: tuple[str, ...]) -> DiscoveryResponse:
        found = filter(None, map(self._identity.secret, names))
        version = str(self._version)
        return DiscoveryResponse(
            version_info=version,
            nonce=version,
            type_url=_TYPE_URL,
            resources=[_packed(secret) for secret in found],
        )


async def _forward(
    requests: AsyncIterator[DiscoveryRequest], queue: asyncio.Queue[DiscoveryRequest | None]
) -> None:
    async for request in requests:
        queue.put_nowait(request)


def _note_refusal(request: DiscoveryRequest) -> None:
    if request.HasField("error_detail"):
        _log.error("a sidecar refuses its SVID: %s", request.error_detail.message)


def _packed(secret: Secret) -> Packed:
    packed = Packed()
    packed.Pack(secret)
    return packed
