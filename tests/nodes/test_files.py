"""What a node's programs are told: closed to strangers, and nothing for the whole machine."""

from __future__ import annotations

import base64
import stat
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from lab.cluster.certificates import authority
from lab.cluster.controlplane import _numbered
from lab.cluster.model import Layout
from lab.nodes import files
from lab.nodes.model import Node, nodes_of
from zt.load import load_policy

CLUSTER, _ = _numbered(load_policy(Path("policies")).mesh.clusters, nodes=True)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node, _ = nodes_of(Layout(tmp_path), [CLUSTER])
    files.write(node, CLUSTER, authority("API"))
    return node


def of_yaml(path: Path) -> Any:  # noqa: ANN401 - any YAML
    return yaml.safe_load(path.read_text())


def subject(node: Node, program: str) -> tuple[str, list[str]]:
    """User and groups as whom a program comes to the API."""
    (user,) = of_yaml(files.kubeconfig_of(node, program))["users"]
    pem = base64.b64decode(user["user"]["client-certificate-data"])
    name = x509.load_pem_x509_certificate(pem).subject
    (common,) = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(common.value), [str(group.value) for group in groups]


def test_each_program_is_who_it_is_to_the_api(node: Node) -> None:
    assert subject(node, files.KUBELET) == ("system:node:hanzo-k8s-1", ["system:nodes"])
    assert subject(node, files.PROXY) == ("system:kube-proxy", [])
    assert subject(node, files.ENFORCER) == ("lab-enforcer", [])


def test_a_kubelet_is_served_under_its_address(node: Node) -> None:
    certificate = x509.load_pem_x509_certificate((node.keys / "kubelet.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("198.51.100.11")]
    assert names.get_values_for_type(x509.DNSName) == ["hanzo-k8s-1"]


def test_a_kubelet_answers_nobody_whom_the_api_does_not_know(node: Node) -> None:
    kubelet = of_yaml(node.folder / "kubelet.yaml")
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert kubelet["authentication"]["webhook"] == {"enabled": True}
    assert kubelet["authorization"] == {"mode": "Webhook"}
    assert kubelet["authentication"]["x509"]["clientCAFile"] == str(node.keys / "ca.crt")
    assert "readOnlyPort" not in kubelet  # of old, open to everybody; closed unless named


def test_pods_are_below_the_nodes_own_group_and_ask_the_clusters_dns(node: Node) -> None:
    kubelet = of_yaml(node.folder / "kubelet.yaml")
    assert kubelet["cgroupRoot"] == node.cgroup
    assert kubelet["clusterDNS"] == ["10.241.0.10"]


def test_nothing_is_evicted(node: Node) -> None:
    kubelet = of_yaml(node.folder / "kubelet.yaml")
    assert set(kubelet["evictionHard"].values()) == {"0%"}
    assert kubelet["imageGCHighThresholdPercent"] == 100


def test_connection_tracking_of_the_machine_is_left_as_it_is(node: Node) -> None:
    conntrack = of_yaml(node.folder / "kube-proxy.yaml")["conntrack"]
    assert set(conntrack.values()) == {0, "0s"}


def test_containerd_finds_network_and_pause_image_without_a_registry(node: Node) -> None:
    found = tomllib.loads((node.folder / "containerd.toml").read_text())
    cri = found["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == files.PAUSE_IMAGE
    assert Path(cri["cni"]["conf_dir"]) == node.folder / "cni"
    options = cri["containerd"]["runtimes"]["runc"]["options"]
    assert options == {"SystemdCgroup": False}


def test_between_pods_no_address_is_translated(node: Node) -> None:
    bridge, ports = files.network(node)["plugins"]
    assert not bridge.get("ipMasq")
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.240.1.0/24"}]]
    assert ports["type"] == "portmap"


def test_keys_are_for_nobody_else_to_read(node: Node) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in node.keys.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(node.keys.stat().st_mode) == 0o700
