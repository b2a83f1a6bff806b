"""The rules agree with cyclonus' simulator, on policies that are generated here."""

from __future__ import annotations

import json
import re
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from lab.enforcer.rules import verdicts
from lab.tools.build import tool
from tests.enforcer.scenes import Json, Question, Scene, address, questions, scenes

_ALLOWED = re.compile(r"IS ALLOWED\? \|\s+(TRUE|FALSE)")
_PATIENCE = 60


@pytest.fixture(scope="session")
def cyclonus() -> Path:
    return tool("cyclonus")


@settings(
    max_examples=25,
    deadline=None,
    # Each example writes both files anew.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(scene=scenes())
def test_rules_admit_what_cyclonus_allows(scene: Scene, cyclonus: Path, tmp_path: Path) -> None:
    found = verdicts(scene.cluster)
    asked = list(questions(scene, ("TCP", "UDP", "SCTP")))
    assert [
        found.admit(
            ip_address(address(one.source)),
            ip_address(address(one.destination)),
            one.port,
            one.protocol,
        )
        for one in asked
    ] == simulated(cyclonus, tmp_path, scene, asked)


def simulated(cyclonus: Path, folder: Path, scene: Scene, asked: list[Question]) -> list[bool]:
    """What cyclonus says, in the order of the questions."""
    policies, traffic = folder / "policies.json", folder / "traffic.json"
    policies.write_text(
        json.dumps(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicyList",
                "items": [_whole(item) for item in scene.policies],
            }
        )
    )
    traffic.write_text(json.dumps([_traffic(scene, one) for one in asked]))
    command = [
        str(cyclonus),
        "analyze",
        "--policy-path",
        str(policies),
        "--simplify-policies=false",
    ]
    done = subprocess.run(
        [*command, "--mode", "query-traffic", "--traffic-path", str(traffic)],
        capture_output=True,
        text=True,
        check=True,
        timeout=_PATIENCE,
    )
    verdict = [found == "TRUE" for found in _ALLOWED.findall(done.stdout)]
    assert len(verdict) == len(asked), done.stderr
    return verdict


def _whole(item: Json) -> Json:
    """With the defaults that an API server would set, which cyclonus takes for given."""
    spec = item["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    sides = {
        side: [{**rule, "ports": [_port(p) for p in rule.get("ports", ())]} for rule in spec[side]]
        for side in ("ingress", "egress")
        if side in spec
    }
    return {**item, "spec": _said({**spec, **sides, "policyTypes": types})}


def _said(part: Any) -> Any:  # noqa: ANN401 - any JSON
    """Without ``NotIn`` of a label that nobody has, which always holds.

    Kubernetes' own selectors say so (``labels.Requirement``); cyclonus wants the label there.
    """
    if isinstance(part, list):
        return [_said(item) for item in part if not _is_void(item)]
    return {k: _said(v) for k, v in part.items()} if isinstance(part, dict) else part


def _is_void(item: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(item, dict) and (item.get("operator"), item.get("key")) == ("NotIn", "absent")


def _port(port: Json) -> Json:
    return {"protocol": "TCP", **port}


def _traffic(scene: Scene, asked: Question) -> dict[str, Any]:
    return {
        "Source": _peer(scene, asked.source),
        "Destination": _peer(scene, asked.destination),
        "Protocol": asked.protocol,
        "ResolvedPort": asked.port,
        "ResolvedPortName": _name(asked),
    }


def _peer(scene: Scene, end: Json | str) -> dict[str, Any]:
    if isinstance(end, str):
        return {"IP": end}
    metadata = end["metadata"]
    labels = next(
        space["metadata"]["labels"]
        for space in scene.namespaces
        if space["metadata"]["name"] == metadata["namespace"]
    )
    return {
        "IP": address(end),
        "Internal": {
            "Namespace": metadata["namespace"],
            "NamespaceLabels": {**labels, "kubernetes.io/metadata.name": metadata["namespace"]},
            "PodLabels": metadata["labels"],
        },
    }


def _name(asked: Question) -> str:
    """The name of a port is the destination's; what is no pod has none."""
    if isinstance(asked.destination, str):
        return ""
    ports = asked.destination["spec"]["containers"][0]["ports"]
    wanted = (asked.port, asked.protocol)
    return next((p["name"] for p in ports if (p["containerPort"], p["protocol"]) == wanted), "")
