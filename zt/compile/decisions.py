"""Decision: the evaluator's table as JSON that people can read too, one entry a line.

It is the table of the whole mesh, the same in every cluster. ``revision`` names its content: the
audit trail says by which revision a decision was taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zt.bundle import CompiledFile
from zt.decide import DecisionTable
from zt.effective import EXTERNAL, Effective
from zt.model import API_VERSION, ExternalService, Mesh, Phase, Service

PATH = "decisions.json"
_REVISION_DIGITS = 16


def compile_decisions(
    effective: Effective, cluster: str, table: DecisionTable
) -> Iterator[CompiledFile]:
    """``decisions.json``; ``table`` is that of the same policy on the same day."""
    del cluster
    yield CompiledFile(PATH, encode(effective, table))


def encode(effective: Effective, table: DecisionTable) -> str:
    """Write a table as text that ``decode`` reads."""
    content = _content(effective, table)
    head = {"apiVersion": content.pop("apiVersion"), "revision": _revision(content)}
    lines = [f'  "{key}": {_json(value)}' for key, value in (head | content).items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


@dataclass(frozen=True, slots=True)
class Decisions:
    """A table as it was read back, and the networks by which addresses are told apart.

    ``externals`` maps names to CIDRs, ``pods`` are the CIDRs of all clusters' pods; ``gateways``
    are the IDs of those through which callers of other clusters come.
    """

    table: DecisionTable
    revision: str
    externals: Mapping[str, tuple[str, ...]]
    pods: tuple[str, ...]
    gateways: tuple[str, ...]


def decode(text: str) -> DecisionTable:
    """Read the table that ``encode`` wrote.

    Raises:
        ValueError: if the text is not such a table, or is not as it was written.
    """
    return read(text).table


def read(text: str) -> Decisions:
    """Read all that ``encode`` wrote.

    Raises:
        ValueError: if the text is not such a table, or is not as it was written.
    """
    content, revision = _parse(text)
    return Decisions(
        _table(content),
        revision,
        {item["id"].removeprefix(EXTERNAL): tuple(item["cidrs"]) for item in content["externals"]},
        tuple(cluster["podCIDR"] for cluster in content["clusters"]),
        tuple(content["gateways"]),
    )


def _table(content: dict[str, Any]) -> DecisionTable:
    services, externals = content["services"], content["externals"]
    rules = tuple(content["rules"])
    index = {name: number for number, name in enumerate(rules)}
    return DecisionTable(
        selectors={item["id"]: tuple(item["selectors"]) for item in services}
        | {item["id"]: (item["id"],) for item in externals},
        ports={item["id"]: frozenset(port["port"] for port in item["ports"]) for item in services}
        | {item["id"]: frozenset(item["ports"]) for item in externals},
        grants={
            (source, destination, port): index[rule]
            for source, destination, port, rule in content["grants"]
        },
        rules=rules,
        phases={item["id"]: Phase(item["phase"]) for item in services},
    )


def revision(effective: Effective, table: DecisionTable) -> str:
    """The revision of a table: the first 16 hex digits of the SHA-256 of its content."""
    content = _content(effective, table)
    del content["apiVersion"]
    return _revision(content)


def _parse(text: str) -> tuple[dict[str, Any], str]:
    """The content and its revision, once version and revision have been checked."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{PATH} is not JSON: {error}; compile it again") from None
    if not isinstance(content, dict) or content.pop("apiVersion", None) != API_VERSION:
        raise ValueError(f"{PATH} is not a decision table of {API_VERSION}: compile it again")
    revision = content.pop("revision", None)
    if revision != _revision(content):
        raise ValueError(
            f"{PATH} is not as it was compiled: its revision differs; compile it again"
        )
    return content, revision


def _revision(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_REVISION_DIGITS]


def _content(effective: Effective, table: DecisionTable) -> dict[str, Any]:
    mesh = effective.mesh
    return {
        "apiVersion": API_VERSION,
        "trustDomain": mesh.trust_domain,
        "clusters": [
            {"name": cluster.name, "podCIDR": str(cluster.pod_cidr)} for cluster in mesh.clusters
        ],
        "gateways": [
            service.spiffe(mesh)
            for service in effective.policy.services
            if service.name == mesh.infrastructure.gateway
        ],
        "services": [_service(service, mesh, table) for service in effective.policy.services],
        "externals": [_external(external) for external in effective.policy.externals],
        "rules": list(table.rules),
        "grants": [
            [source, destination, port, table.rules[rule]]
            for (source, destination, port), rule in table.grants.items()
        ],
    }


def _service(service: Service, mesh: Mesh, table: DecisionTable) -> dict[str, Any]:
    spiffe = service.spiffe(mesh)
    return {
        "id": spiffe,
        "name": service.name,
        "cluster": service.cluster,
        "namespace": service.namespace,
        "phase": table.phases[spiffe],
        "ports": [{"port": port.port, "protocol": port.protocol} for port in service.ports],
        "selectors": list(table.selectors[spiffe]),
    }


def _external(external: ExternalService) -> dict[str, Any]:
    return {
        "id": EXTERNAL + external.name,
        "cidrs": [str(cidr) for cidr in external.cidrs],
        "hosts": list(external.hosts),
        "ports": list(external.ports),
    }


def _json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A list with one item a line; all else on one."""
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    items = ",\n".join(f"    {json.dumps(item)}" for item in value)
    return f"[\n{items}\n  ]"
