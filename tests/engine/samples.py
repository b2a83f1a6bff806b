"""A small policy, a trail in memory, and a certificate authority."""

import asyncio
import errno
import inspect
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from engine.audit.outcome import Outcome, decode
from engine.builder import snapshot_of
from engine.decider import Decider, View
from engine.locate import Locations, parse_locations
from engine.metrics.metrics import Metrics
from engine.policy.table import Snapshot
from zt.load import load_texts
from zt.model import Policy

TODAY = date(2026, 11, 23)
DOMAIN = "spiffe://hanzo.ai/east/shop/"
SERVICES = ("web", "api", "db", "new", "cautious", "engine")
WEB, API, DB, NEW, CAUTIOUS, ENGINE = (DOMAIN + name for name in SERVICES)

_SERVICE = """\
apiVersion: zt.hanzo.ai/v1
kind: Service
metadata: {{name: {name}}}
spec: {{cluster: east, namespace: shop, ports: [{{port: 5432}}]}}
---
"""
POLICY = (
    """\
apiVersion: zt.hanzo.ai/v1
kind: Mesh
metadata: {name: test}
spec:
  trustDomain: hanzo.ai
  clusters: [{name: east, podCIDR: 10.0.0.0/16, serviceCIDR: 10.1.0.0/16}]
  infrastructure: {evaluator: engine}
---
"""
    + "".join(_SERVICE.format(name=name) for name in SERVICES)
    + """\
apiVersion: zt.hanzo.ai/v1
kind: ExternalService
metadata: {name: internet}
spec: {cidrs: [0.0.0.0/0]}
---
apiVersion: zt.hanzo.ai/v1
kind: ExternalService
metadata: {name: office}
spec: {cidrs: [192.0.2.0/24, 2001:db8::/32]}
---
apiVersion: zt.hanzo.ai/v1
kind: ServiceAccessPolicy
metadata: {name: core}
spec:
  rules:
    - from: {spiffe: "spiffe://hanzo.ai/east/shop/web"}
      to:
        - {spiffe: "spiffe://hanzo.ai/east/shop/*", ports: [5432]}
    - from: {external: internet}
      to:
        - {spiffe: "spiffe://hanzo.ai/east/shop/web", ports: [5432]}
    - from: {spiffe: "spiffe://hanzo.ai/east/shop/api"}
      expires: 2026-11-23
      to:
        - {spiffe: "spiffe://hanzo.ai/east/shop/db", ports: [5432]}
---
apiVersion: zt.hanzo.ai/v1
kind: Rollout
metadata: {name: test}
spec:
  phases: [{name: all, critical: enforce, nonCritical: enforce}]
  current: all
  services:
    - {service: new, phase: observe}
    - {service: cautious, phase: canary}
"""
)
_ENGINE_PORTS = "{name: engine}\nspec: {cluster: east, namespace: shop, ports: ["
_API_RULE = """\
---
apiVersion: zt.hanzo.ai/v1
kind: ServiceAccessPolicy
metadata: {name: callers}
spec:
  rules:
    - from: {spiffe: "spiffe://hanzo.ai/east/shop/web"}
      to: [{spiffe: "spiffe://hanzo.ai/east/shop/engine", ports: [8054]}]
    - from: {spiffe: "spiffe://hanzo.ai/east/shop/api"}
      to: [{spiffe: "spiffe://hanzo.ai/east/shop/engine", ports: [8054]}]
"""


def with_callers(text: str = POLICY) -> str:
    """A policy by which web and api may connect to the evaluator's API."""
    declared = text.replace(_ENGINE_PORTS, f"{_ENGINE_PORTS}{{port: 8054, protocol: http}}, ")
    assert declared != text
    return declared + _API_RULE


LOCATIONS = parse_locations(
    """{
    "10.0.0.1": {"pod": "web-1", "node": "n1", "spiffe": "spiffe://hanzo.ai/east/shop/web"},
    "10.0.0.2": {"pod": "db-1", "node": "n2", "spiffe": "spiffe://hanzo.ai/east/shop/db"},
    "10.0.0.4": {"pod": "cautious-2", "node": "n1", "spiffe": "spiffe://hanzo.ai/east/shop/cautious"},
    "10.0.0.3": {"pod": "cautious-1", "node": "n2", "spiffe": "spiffe://hanzo.ai/east/shop/cautious"}
    }"""
)


def policy(text: str = POLICY) -> Policy:
    loaded = load_texts([("policy.yaml", text.encode())])
    assert loaded.policy is not None, loaded.findings
    return loaded.policy


def in_force(text: str = POLICY) -> Snapshot:
    return snapshot_of(policy(text), TODAY)


@dataclass
class MemorySpool:
    """A spool that keeps what it is given, or takes nothing while it is not ``available``."""

    appended: list[tuple[Outcome, int, int]] = field(default_factory=list)
    available: bool = True
    writer: int = 7

    def append(self, outcome: bytes, time_us: int, latency_us: int) -> int:
        if not self.available:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.appended.append((decode(outcome), time_us, latency_us))
        return len(self.appended)

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for outcome, _, _ in self.appended]


@dataclass
class Deferred:
    """A durability that waits: ``settle`` tells all who wait."""

    immediate: bool = False
    waiting: list[Callable[[bool], None]] = field(default_factory=list)

    def when(self, sequence: int, settle: Callable[[bool], None]) -> None:
        assert sequence
        self.waiting.append(settle)

    def settle(self, safe: bool) -> None:  # noqa: FBT001 - what is told
        waiting, self.waiting = self.waiting, []
        for settle in waiting:
            settle(safe)


@dataclass
class Desk:
    """A decider and what it works with; ``decider.view`` can be exchanged."""

    snapshot: Snapshot = field(default_factory=in_force)
    locations: Locations = LOCATIONS
    spool: MemorySpool = field(default_factory=MemorySpool)
    durability: Deferred = field(default_factory=lambda: Deferred(immediate=True))
    metrics: Metrics = field(default_factory=lambda: Metrics(None))

    def __post_init__(self) -> None:
        view = View(self.snapshot, self.locations)
        self.decider = Decider(view, self.spool, self.durability, self.metrics)

    @property
    def outcomes(self) -> list[Outcome]:
        return self.spool.outcomes


def client_tls(bundle: bytes, svid: tuple[bytes, bytes] | None) -> ssl.SSLContext:
    """TLS of a client that trusts a bundle, with an SVID (key and certificate, PEM) or without."""
    context = ssl.create_default_context(cadata=bundle.decode())
    context.check_hostname = False
    if svid is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"".join(svid))
            file.flush()
            context.load_cert_chain(file.name)
    return context


class Authority:
    """A CA of tests, with SVIDs as files."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        builder = self._builder(self._key.public_key()).subject_name(self._name)
        signed = builder.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.bundle = signed.public_bytes(Encoding.PEM)

    def issue(self, *uris: str) -> tuple[bytes, bytes]:
        """Key and certificate, PEM; the DNS names are for clients that want one."""
        key = ec.generate_private_key(ec.SECP256R1())
        dns = map(x509.DNSName, ("evaluator", "engine.shop.svc"))
        names = [*map(x509.UniformResourceIdentifier, uris), *dns]
        certificate = (
            self._builder(key.public_key())
            .subject_name(x509.Name([]))
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem, certificate.public_bytes(Encoding.PEM)

    def write(self, folder: Path, spiffe: str) -> None:
        """An SVID's folder, as a SPIRE helper writes it."""
        folder.mkdir(exist_ok=True)
        key, certificate = self.issue(spiffe)
        for name, content in (
            ("svid.pem", certificate),
            ("svid_key.pem", key),
            ("bundle.pem", self.bundle),
        ):
            (folder / name).write_bytes(content)

    def client(self, spiffe: str | None) -> ssl.SSLContext:
        """TLS of a client that trusts this CA, with an SVID or without."""
        return client_tls(self.bundle, self.issue(spiffe) if spiffe is not None else None)

    def _builder(self, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
        )


async def eventually(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(15):
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.02)
