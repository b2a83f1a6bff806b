"""A port that the engine attaches to, for as long as a program runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from pulumi.runtime.proto.provider_pb2_grpc import add_ResourceProviderServicer_to_server

from lab.provider.cluster import Warned
from lab.provider.protocol import Desk, Provider

# The engine asks for as many objects at once as it has threads: four for each core.
_THREADS = 32
# A state may hold large ConfigMaps; the engine's own limit is 400 MB.
_MESSAGE = 400 << 20


@dataclass(frozen=True, slots=True)
class Serving:
    """A provider that is being served. ``warned`` is what API servers warned of, so far."""

    port: int
    warned: list[Warned]

    @property
    def environment(self) -> Mapping[str, str]:
        """What the engine has to know, or it would look for the official plugin."""
        return {
            "PULUMI_DEBUG_PROVIDERS": f"kubernetes:{self.port}",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }


@contextmanager
def serving(*, strict: bool = False) -> Iterator[Serving]:
    """Serve the provider on a loopback port; with ``strict`` it refuses what is warned of."""
    desk = Desk(strict=strict)
    options = [
        ("grpc.max_receive_message_length", _MESSAGE),
        ("grpc.max_send_message_length", _MESSAGE),
    ]
    server = grpc.server(ThreadPoolExecutor(_THREADS), options=options)
    add_ResourceProviderServicer_to_server(Provider(desk), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Serving(port, desk.warned)
    finally:
        server.stop(grace=None).wait()
        desk.close()
