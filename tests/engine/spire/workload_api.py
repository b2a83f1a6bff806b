"""A SPIRE agent, as far as the evaluator speaks to one, on a unix socket; and how it can refuse."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from engine.spire.messages import METADATA, METHOD, Given, response_of
from tests.engine.samples import Authority


def given(authority: Authority, spiffe: str) -> Given:
    """An SVID as an agent gives it."""
    key, certificate = authority.issue(spiffe)
    return Given(
        spiffe,
        der_of(certificate),
        load_pem_private_key(key, None).private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        ),
        der_of(authority.bundle),
    )


def der_of(pem: bytes) -> bytes:
    found = x509.load_pem_x509_certificates(pem)
    return b"".join(certificate.public_bytes(Encoding.DER) for certificate in found)


@dataclass
class Agent:
    """Sends each call what it said last, and what it says from then on."""

    refusal: tuple[grpc.StatusCode, str] | None = None
    said: list[bytes] = field(default_factory=list)
    endings: int = 0
    calls: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def say(self, *svids: Given) -> None:
        self.say_bytes(response_of(*svids))

    def say_bytes(self, message: bytes) -> None:
        self.said.append(message)

    def end_calls(self) -> None:
        self.endings += 1

    def answer(self, _request: bytes, context: Any) -> Iterator[bytes]:  # noqa: ANN401
        self.calls += 1
        if METADATA[0] not in context.invocation_metadata():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        if self.refusal is not None:
            context.abort(*self.refusal)
        told, endings = max(len(self.said) - 1, 0), self.endings
        while not self._stop.wait(0.02) and context.is_active() and endings == self.endings:
            fresh = self.said[told:]
            told += len(fresh)
            yield from fresh


@contextmanager
def serving(socket: Path, agent: Agent) -> Iterator[None]:
    """Serve an agent at a socket."""
    handler: Any = grpc.unary_stream_rpc_method_handler(agent.answer)
    service, _, method = METHOD.removeprefix("/").partition("/")
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    agent._stop.clear()
    try:
        yield
    finally:
        agent._stop.set()
        server.stop(0.2).wait()
