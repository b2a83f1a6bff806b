"""This evaluator, started as in a cluster, but for TLS.

Records go to its spool with durability ``process``: the kernel has them before the answer is given.
There is no database here, so that, as with the others, the local record is what is measured.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.engine.client import Form
from benchmarks.engine.contender import Server
from benchmarks.engine.processes import Launch, free_port
from benchmarks.engine.workload import TODAY, Ask, Workload
from zt.compile.decisions import PATH, encode
from zt.decide import decision_table
from zt.effective import effective
from zt.memory import collector_paused
from zt.model import API_VERSION, Mesh, Service, ServiceAccessPolicy

DURABILITY = "process"
SOURCES = "policies"
_STATE = "state"
_ERRORS = "engine.log"
_ROOT = Path(__file__).parents[2]
_FRAME = struct.Struct("<II")
# Nothing is drained here: the spool takes all that a run appends.
_SPOOL_BYTES = 1 << 33


def write_compiled(workload: Workload, folder: Path) -> None:
    """``decisions.json``, as ``zt compile`` writes it."""
    with collector_paused():
        policy = workload.policy
        text = encode(effective(policy, TODAY), decision_table(policy, TODAY))
    (folder / PATH).write_text(text)


def write_sources(workload: Workload, folder: Path) -> None:
    """The policy as people write it, a file for each hundred rules."""
    policies = folder / SOURCES
    policies.mkdir()
    (policies / "mesh.yaml").write_text(_mesh(workload.policy.mesh))
    services = "---\n".join(map(_service, workload.policy.services))
    (policies / "services.yaml").write_text(services)
    for access in workload.policy.access:
        (policies / f"{access.name}.yaml").write_text(_access(access))


def _document(kind: str, name: str, spec: Iterator[str]) -> str:
    head = (f"apiVersion: {API_VERSION}", f"kind: {kind}", f"metadata:\n  name: {name}", "spec:")
    return "\n".join((*head, *spec)) + "\n"


def _mesh(mesh: Mesh) -> str:
    def spec() -> Iterator[str]:
        (cluster,) = mesh.clusters
        yield f"  trustDomain: {mesh.trust_domain}"
        yield f"  clusters:\n    - name: {cluster.name}"
        yield f"      podCIDR: {cluster.pod_cidr}\n      serviceCIDR: {cluster.service_cidr}"
        if cluster.gateway is not None:
            yield f"      gateway:\n        endpoint: {cluster.gateway.endpoint}"
            yield f"        address: {cluster.gateway.address}"

    return _document(mesh.KIND, mesh.name, spec())


def _service(service: Service) -> str:
    def spec() -> Iterator[str]:
        yield f"  cluster: {service.cluster}\n  namespace: {service.namespace}\n  ports:"
        for port in service.ports:
            yield f"    - port: {port.port}\n      protocol: {port.protocol}"

    return _document(service.KIND, service.name, spec())


def _access(access: ServiceAccessPolicy) -> str:
    def spec() -> Iterator[str]:
        yield "  rules:"
        for rule in access.rules:
            yield f'    - from:\n        spiffe: "{rule.source.spiffe}"\n      to:'
            for to in rule.to:
                yield f'        - spiffe: "{to.spiffe}"\n          ports: {list(to.ports)}'

    return _document(access.KIND, access.name, spec())


def _launch(folder: Path, port: int, policy: str) -> Launch:
    environment = {
        "ZT_POLICY_PATH": str(folder / policy),
        "ZT_STATE_PATH": str(folder / _STATE),
        "ZT_AUDIT_DSN": f"host=127.0.0.1 port={free_port()} dbname=none connect_timeout=1",
        "ZT_DURABILITY": DURABILITY,
        "ZT_SPOOL_BYTES": str(_SPOOL_BYTES),
        "ZT_PLAINTEXT": "loopback",
        "ZT_API_PORT": str(port),
        "ZT_HEALTH_PORT": str(free_port()),
        "ZT_GRPC_PORT": str(free_port()),
    }
    return Launch((sys.executable, "-m", "engine"), folder / _ERRORS, environment, _ROOT)


def records_in(spool: Path) -> int:
    """How many whole records the segments of a spool hold."""
    return sum(_frames(path.read_bytes()) for path in spool.glob("*/*.segment"))


def _frames(content: bytes) -> int:
    count = at = 0
    while at + _FRAME.size <= len(content):
        size, checksum = _FRAME.unpack_from(content, at)
        at += _FRAME.size + size
        if size == 0 or zlib.crc32(content[at - size : at]) != checksum:
            break
        count += 1
    return count


def _body(ask: Ask) -> dict[str, Any]:
    return {"source": ask.source, "destination": ask.destination, "port": ask.port}


def _rule(answer: Mapping[str, Any]) -> str:
    return str(answer["rule"])


OURS = Server(
    "this evaluator",
    Form("/v1/evaluate", _body, _rule, '"ALLOW"'),
    write_compiled,
    partial(_launch, policy=PATH),
    lambda folder: records_in(folder / _STATE / "spool"),
)
FROM_SOURCES = Server(
    "this evaluator, from YAML",
    OURS.form,
    write_sources,
    partial(_launch, policy=SOURCES),
    OURS.records,
)
