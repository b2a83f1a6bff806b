"""Nodes of a lab share no address, name, folder or network with another."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lab.cluster.controlplane import _numbered
from lab.cluster.model import INTERNET, Layout, clusters_of, plain
from lab.nodes.machine import hidden
from lab.nodes.model import LAN, ROUTER, nodes_of
from zt.load import load_policy

CLUSTERS = tuple(_numbered(load_policy(Path("policies")).mesh.clusters, nodes=True))
LAYOUT = Layout(Path("/work/lab"))
NODES = nodes_of(LAYOUT, CLUSTERS)


def test_the_first_cluster_has_two_nodes_and_the_other_one() -> None:
    assert [node.name for node in NODES] == ["hanzo-k8s-1", "hanzo-k8s-2", "lux-k8s-1"]


def test_without_nodes_there_are_none() -> None:
    assert nodes_of(LAYOUT, _numbered(load_policy(Path("policies")).mesh.clusters)) == ()


def test_what_nodes_have_is_theirs_alone() -> None:
    for of in ("name", "address", "pod_cidr", "namespace", "folder", "cgroup", "machine"):
        assert len({getattr(node, of) for node in NODES}) == len(NODES), of


def test_addresses_are_of_the_networks_that_they_should_be_of() -> None:
    pods = {cluster.name: cluster.pods for cluster in CLUSTERS}
    for node in NODES:
        assert node.address in LAN
        assert node.address != ROUTER
        assert node.pod_cidr.subnet_of(pods[node.cluster])
        assert node.pod_cidr.prefixlen == 24
    assert not LAN.overlaps(INTERNET)
    assert not any(LAN.overlaps(IPv4Network(each)) for each in pods.values())


def test_whatever_is_left_of_a_node_is_found_by_the_labs_prefix() -> None:
    for node in NODES:
        assert node.namespace.startswith(LAYOUT.prefix)
        assert node.cgroup.startswith(f"/{LAYOUT.prefix}")
        assert node.folder.is_relative_to(LAYOUT.cluster(node.cluster))


def test_a_record_brings_the_same_clusters_back() -> None:
    assert clusters_of(json.loads(json.dumps(plain(CLUSTERS)))) == CLUSTERS


@pytest.mark.parametrize(
    ("folder", "own"),
    [
        ("/run/lab", "/run"),
        ("/var/lib/lab/x", "/var/lib"),
        ("/var/library/lab", None),
        ("/home/run/lab", None),
    ],
)
def test_a_folder_that_nodes_would_not_see_is_known(folder: str, own: str | None) -> None:
    assert hidden(Path(folder)) == own
