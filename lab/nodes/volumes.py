"""Volumes that wait for their claims: folders of the nodes, which no storage class provides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.cluster.client import Client
from lab.nodes.model import Node

# Of each node; what was claimed once is not claimed again.
_COUNT = 16
_SIZE = "10Gi"
# Within the node.
_FOLDER = "/var/lib/volumes"
_COLLECTION = "/api/v1/persistentvolumes"


def provide(api: Client, node: Node) -> None:
    """Make the folders of a node, and their volumes.

    Raises:
        LabError: if the API refuses.
    """
    for volume in volumes(node):
        path = node.folder / volume["spec"]["local"]["path"].removeprefix("/")
        path.mkdir(parents=True, exist_ok=True)
        api.apply(f"{_COLLECTION}/{volume['metadata']['name']}", volume)


def volumes(node: Node) -> Iterator[dict[str, Any]]:
    """The volumes of a node, which only pods of that node can have."""
    host = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}
    for number in range(1, _COUNT + 1):
        name = f"{node.name}-{number}"
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": _SIZE},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                # Unlike a hostPath it is given to the group that a pod asks for.
                "local": {"path": f"{_FOLDER}/{name}"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            },
        }
