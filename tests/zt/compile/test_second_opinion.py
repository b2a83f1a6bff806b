"""A second opinion on compiled NetworkPolicies: network-config-analyzer, run offline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from tests.oracles.networkpolicy import Cluster, Pod
from tests.strategies import TODAY
from zt.compile.networkpolicy import compile_networkpolicies
from zt.decide import Verdict, decide, decision_table
from zt.effective import effective
from zt.load import load_policy
from zt.model import Policy, Service

REAL = load_policy(Path(__file__).parents[3] / "policies")
CLUSTERS = ("hanzo-k8s", "lux-k8s")
LINE = re.compile(r"(\S+)/(\S+)\[Pod\] => (\S+)/(\S+)\[Pod\] : (.+)")
PORTS = re.compile(r"\{protocols:(.+?),dst_ports:([0-9,-]+)\}")

Connection = tuple[str, str, str, int]
"""Source and destination as ``namespace/name``, protocol, and port."""


def at_step(name: str) -> Policy:
    assert REAL.rollout
    return replace(REAL, rollout=replace(REAL.rollout, current=name))


def pods(policy: Policy, cluster: str) -> list[Pod]:
    """A pod of each service, the cluster's DNS, and one that nobody declared."""
    found = policy.mesh.cluster(cluster)
    assert found
    here = (item for item in policy.services if item.cluster == cluster)
    pods = [
        *((item.name, item.namespace, item.labels) for item in here),
        ("kube-dns", "kube-system", {"k8s-app": "kube-dns"}),
        ("stray", "elsewhere", {"app": "postgres"}),
    ]
    return [Pod(*pod, str(found.pod_cidr[number])) for number, pod in enumerate(pods, 10)]


def objects(policy: Policy, cluster: str) -> list[dict[str, Any]]:
    files = compile_networkpolicies(effective(policy, TODAY), cluster)
    return [file.manifest() for file in files]


def analyse(policy: Policy, cluster: str, folder: Path) -> dict[tuple[str, str], str]:
    """What the analyser says of each pair of pods that it connects at all."""
    found = pods(policy, cluster)
    inputs = {
        "pods": [_pod(pod) for pod in found],
        "namespaces": [_namespace(name) for name in sorted({pod.namespace for pod in found})],
        "policies": objects(policy, cluster),
    }
    for name, items in inputs.items():
        content = {"apiVersion": "v1", "kind": "List", "items": items}
        (folder / f"{name}.yaml").write_text(json.dumps(content), encoding="utf-8")
    # In an environment of its own (`make setup`): it pins what the rest pins otherwise.
    nca = Path(sys.prefix, "nca", "bin", "nca")
    command = f"{nca} --connectivity policies.yaml -n namespaces.yaml -p pods.yaml"
    result = subprocess.run(
        [*command.split(), "--output_format", "txt_no_fw_rules"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = map(LINE.fullmatch, result.stdout.splitlines())
    pairs = {(f"{m[1]}/{m[2]}", f"{m[3]}/{m[4]}"): m[5] for m in lines if m}
    assert pairs, result.stdout + result.stderr
    return pairs


def _pod(pod: Pod) -> dict[str, Any]:
    metadata = {"name": pod.name, "namespace": pod.namespace, "labels": pod.labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}}


def _namespace(name: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def is_connected(said: str | None, protocol: str, port: int) -> bool:
    if said is None or said == "All connections":
        return said is not None
    match = PORTS.fullmatch(said)
    assert match, f"not understood: {said}"
    ranges = ([int(end) for end in part.split("-")] for part in match[2].split(","))
    return protocol in match[1].split(", ") and any(ends[0] <= port <= ends[-1] for ends in ranges)


def granted(policy: Policy, cluster: str) -> set[tuple[str, str, int]]:
    """What ``decide`` allows on declared ports; across clusters, the gateway's part of the way."""
    table = decision_table(policy, TODAY)
    gateway = next(
        item
        for item in policy.services
        if (item.cluster, item.name) == (cluster, policy.mesh.infrastructure.gateway)
    )
    found = set()
    for destination in (item for item in policy.services if item.cluster == cluster):
        for port in destination.ports:
            for source in policy.services:
                ids = source.spiffe(policy.mesh), destination.spiffe(policy.mesh)
                if decide(table, *ids, port.port).verdict is Verdict.ALLOW:
                    caller = source if source.cluster == cluster else gateway
                    found.add((_name(caller), _name(destination), port.port))
    return {(caller, called, port) for caller, called, port in found if caller != called}


def _name(item: Service | Pod) -> str:
    return f"{item.namespace}/{item.name}"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_analyser_finds_the_connections_that_decide_allows(
    cluster: str, tmp_path: Path
) -> None:
    said = analyse(REAL, cluster, tmp_path)
    here = [item for item in REAL.services if item.cluster == cluster]
    assert granted(REAL, cluster) == {
        (_name(source), _name(destination), port.port)
        for source, destination in permutations(here, 2)
        for port in destination.ports
        if is_connected(said.get((_name(source), _name(destination))), "TCP", port.port)
    }


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("step", ["enforce-non-critical", "full-zero-trust"])
def test_the_analyser_agrees_with_our_evaluator_on_every_pair_and_port(
    step: str, cluster: str, tmp_path: Path
) -> None:
    policy = at_step(step)
    said = analyse(policy, cluster, tmp_path)
    oracle = Cluster(objects(policy, cluster))
    ports = sorted(_numbers(objects(policy, cluster)) | {9})
    ours = set[Connection]()
    theirs = set[Connection]()
    for source, destination in permutations(pods(policy, cluster), 2):
        pair = _name(source), _name(destination)
        for protocol in ("TCP", "UDP"):
            for port in ports:
                if oracle.allowed(source, destination, port, protocol):
                    ours.add((*pair, protocol, port))
                if is_connected(said.get(pair), protocol, port):
                    theirs.add((*pair, protocol, port))
    assert ours == theirs


def _numbers(policies: Iterable[dict[str, Any]]) -> set[int]:
    """All ports that policies name."""
    return {
        port["port"]
        for policy in policies
        for side in ("ingress", "egress")
        for item in policy["spec"].get(side, ())
        for port in item.get("ports", ())
    }
