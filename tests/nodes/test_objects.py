"""What a cluster with nodes is given: its DNS, its volumes."""

from __future__ import annotations

from pathlib import Path

from lab.cluster.controlplane import _numbered
from lab.cluster.model import Layout
from lab.nodes import dns
from lab.nodes.launch import is_ready
from lab.nodes.model import nodes_of
from lab.nodes.volumes import volumes
from zt.load import load_policy

CLUSTERS = tuple(_numbered(load_policy(Path("policies")).mesh.clusters, nodes=True))


def test_dns_is_found_where_kubelets_say_and_by_the_label_of_policies() -> None:
    service = dns._service(CLUSTERS[1])
    assert service["metadata"]["name"] == "kube-dns"
    assert service["spec"]["clusterIP"] == "10.245.0.10"
    template = dns._deployment()["spec"]["template"]
    assert template["metadata"]["labels"] == service["spec"]["selector"] == {"k8s-app": "kube-dns"}


def test_volumes_are_of_one_node_each_and_named_for_it() -> None:
    nodes = nodes_of(Layout(Path("/work/lab")), CLUSTERS)
    found = [volume for node in nodes for volume in volumes(node)]
    assert len({volume["metadata"]["name"] for volume in found}) == len(found) >= 3 * 16
    for volume in found:
        (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        (expression,) = term["matchExpressions"]
        (host,) = expression["values"]
        assert volume["metadata"]["name"].startswith(f"{host}-")
        assert "storageClassName" not in volume["spec"]


def test_a_node_is_ready_if_the_api_says_so() -> None:
    def node(status: str) -> dict[str, object]:
        return {"status": {"conditions": [{"type": "Ready", "status": status}]}}

    assert is_ready(node("True"))
    assert not is_ready(node("Unknown"))
    assert not is_ready({"status": {}})
    assert not is_ready(None)
