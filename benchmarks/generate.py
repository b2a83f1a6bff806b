"""Policies of any size: the same size and seed give the same policy."""

from __future__ import annotations

import random
from collections.abc import Iterator

from zt.load import assemble
from zt.model import (
    Cluster,
    Destination,
    Document,
    Gateway,
    Mesh,
    Policy,
    Port,
    Protocol,
    Rule,
    Service,
    ServiceAccessPolicy,
    Source,
)
from zt.spiffe import SpiffePattern
from zt.values import parse_endpoint, parse_interface, parse_network

CLUSTER = "hanzo-k8s"
TRUST_DOMAIN = "hanzo.ai"
NAMESPACES = 20
PORTS = (8000, 8001)
RULES_IN_A_POLICY = 100


def generated_policy(services: int, rules: int, seed: int = 54) -> Policy:
    """One cluster of that many services, and rules of one edge each between random pairs."""
    dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
    declared = [_service(f"service-{number}", number) for number in range(services)]
    return assemble([_mesh(), *_infrastructure(), *declared, *_access(declared, rules, dice)])


def _mesh() -> Mesh:
    gateway = Gateway(parse_endpoint("192.0.2.1:51820"), parse_interface("10.10.0.1/24"))
    cluster = Cluster(
        CLUSTER, parse_network("10.240.0.0/14"), parse_network("10.250.0.0/16"), gateway=gateway
    )
    return Mesh("generated", TRUST_DOMAIN, (cluster,))


def _infrastructure() -> Iterator[Service]:
    for name, port in (("zt-policy-engine", 8054), ("wg-gateway", 9586), ("prometheus", 9090)):
        yield Service(name, CLUSTER, "zt", ports=(Port(port, Protocol.HTTP),))


def _service(name: str, number: int) -> Service:
    ports = tuple(Port(port, Protocol.HTTP) for port in PORTS)
    return Service(name, CLUSTER, f"namespace-{number % NAMESPACES}", ports=ports)


def _access(services: list[Service], rules: int, dice: random.Random) -> Iterator[Document]:
    for first in range(0, rules, RULES_IN_A_POLICY):
        count = min(RULES_IN_A_POLICY, rules - first)
        yield ServiceAccessPolicy(
            f"policy-{first:07}", tuple(_rule(services, dice) for _ in range(count))
        )


def _rule(services: list[Service], dice: random.Random) -> Rule:
    source, destination = dice.sample(services, 2)
    to = Destination((dice.choice(PORTS),), _pattern(destination))
    return Rule(Source(_pattern(source)), (to,))


def _pattern(service: Service) -> SpiffePattern:
    return SpiffePattern(TRUST_DOMAIN, service.cluster, service.namespace, service.account)
