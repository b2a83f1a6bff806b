"""Pods as they are shown."""

import io
from datetime import timedelta

from rich.console import Console

from lab.up.picture import Sidecar, picture, pods_seen
from tests.up.fake import Fake
from zt.wellknown import IDENTITY

POD = {
    "metadata": {"namespace": "hanzo", "name": "iam-1", "annotations": {IDENTITY: "spiffe://x/y"}},
    "spec": {"nodeName": "hanzo-k8s-1"},
    "status": {
        "phase": "Running",
        "podIP": "10.240.1.7",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"restartCount": 1}],
        "initContainerStatuses": [{"restartCount": 2}],
    },
}


def test_a_pod_is_shown_with_its_identity_and_all_its_restarts() -> None:
    (seen,) = pods_seen(Fake({"/api/v1/pods": [POD]}), "hanzo-k8s")
    assert (seen.state, seen.restarts, seen.identity) == ("ready", 3, "spiffe://x/y")
    assert (seen.cluster, seen.node, seen.address) == ("hanzo-k8s", "hanzo-k8s-1", "10.240.1.7")


def test_pods_of_a_node_are_shown_together() -> None:
    def pod(node: str, name: str) -> dict[str, object]:
        metadata = {"namespace": "hanzo", "name": name}
        return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": "Pending"}}

    found = pods_seen(Fake({"/api/v1/pods": [pod("b", "1"), pod("a", "3"), pod("a", "2")]}), "x")
    assert [(item.node, item.name) for item in found] == [("a", "2"), ("a", "3"), ("b", "1")]
    assert {item.state for item in found} == {"pending"}


def test_a_picture_has_each_pod_with_what_its_sidecar_says() -> None:
    seen = pods_seen(Fake({"/api/v1/pods": [POD]}), "hanzo-k8s")
    console = Console(width=120, file=io.StringIO())
    sidecar = Sidecar(timedelta(minutes=58, seconds=10), {"X25519MLKEM768": 4})
    console.print(picture("hanzo-k8s", seen, {"hanzo/iam-1": sidecar}))
    assert isinstance(console.file, io.StringIO)
    (row,) = (line for line in console.file.getvalue().splitlines() if "iam-1" in line)
    assert row.split() == [
        "1",
        "hanzo/iam-1",
        "10.240.1.7",
        "ready,",
        "restarted",
        "3",
        "x/y",
        "58",
        "min",
        "X25519MLKEM768",
    ]
