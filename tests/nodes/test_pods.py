"""Pods as the API tells of them, at every time of their lives."""

from __future__ import annotations

import pytest

from lab.cluster.model import LabError
from lab.nodes.pods import entered, pod, process_of

MANIFEST = {
    "metadata": {"namespace": "hanzo", "name": "iam-0", "uid": "u1", "labels": {"app": "iam"}},
    "spec": {"nodeName": "hanzo-k8s-1", "serviceAccountName": "iam"},
    "status": {
        "phase": "Running",
        "podIP": "10.240.1.7",
        "conditions": [
            {"type": "Initialized", "status": "True"},
            {"type": "Ready", "status": "True"},
        ],
        "initContainerStatuses": [{"name": "envoy", "containerID": "containerd://aa"}],
        "containerStatuses": [{"name": "app", "containerID": "containerd://bb"}],
    },
}


def test_a_pod_that_runs() -> None:
    found = pod(MANIFEST)
    assert (found.namespace, found.name, found.uid) == ("hanzo", "iam-0", "u1")
    assert (found.address, found.node, found.account) == ("10.240.1.7", "hanzo-k8s-1", "iam")
    assert (found.phase, found.ready) == ("Running", True)
    assert found.containers == {"envoy": "aa", "app": "bb"}
    assert found.labels == {"app": "iam"}


def test_a_pod_that_is_not_scheduled_yet() -> None:
    found = pod({"metadata": MANIFEST["metadata"], "spec": {}, "status": {"phase": "Pending"}})
    assert (found.address, found.node, found.account) == (None, None, "default")
    assert (found.ready, found.containers) == (False, {})


def test_a_container_that_waits_has_no_id_yet() -> None:
    status = {"containerStatuses": [{"name": "app", "state": {"waiting": {}}}]}
    assert pod({**MANIFEST, "status": status}).containers == {}


def test_nothing_runs_in_a_container_that_is_not_there() -> None:
    with pytest.raises(LabError, match="nothing runs in the container 0123"):
        process_of("0123")


def test_a_container_is_entered_with_all_that_it_sees() -> None:
    command = entered(42, ("id", "-u"), user=1000)
    assert command[:2] == ("nsenter", "--target=42")
    assert {"--mount", "--net", "--pid"} <= set(command)
    assert command[-5:] == ("--setuid=1000", "--setgid=1000", "--", "id", "-u")
