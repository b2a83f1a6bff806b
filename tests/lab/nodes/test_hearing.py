"""Whether it is seen that a part of a cluster is deaf to its API server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.cluster.model import LabError
from lab.faults.hearing import await_hearing
from lab.faults.site import Site as Faults
from lab.nodes import programs
from tests.lab.nodes.site import Site, quiet, ready, serving

CLUSTER = "hanzo-k8s"
PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/kube-system/services"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def heard(site: Site) -> Iterator[Faults]:
    """A cluster with a pod on each node."""
    api = site.api(CLUSTER)
    nodes = [node for node in site.nodes if node.cluster == CLUSTER]
    names = [f"heard-{node.number}" for node in nodes]
    for name, node in zip(names, nodes, strict=True):
        api.create(PODS, serving(name, node.name))
    try:
        for name in names:
            ready(api, name)
        yield Faults(site.layout, CLUSTER)
    finally:
        for name in names:
            api.delete(f"{PODS}/{name}")


@pytest.mark.parametrize("program", [programs.KUBELET, programs.PROXY])
def test_who_does_not_hear_is_named(heard: Faults, program: str) -> None:
    await_hearing(heard, quiet)
    node = heard.nodes[-1]
    with (
        stopped(heard, programs.named(program, node)),
        pytest.raises((LabError, TimeoutError), match=rf"the {program} of {node.name}|timed out"),
    ):
        await_hearing(heard, quiet, patience=3)
    await_hearing(heard, quiet)
    left = heard.api.get(SERVICES)["items"]
    assert [item["metadata"]["name"] for item in left] == ["kube-dns"]


@contextmanager
def stopped(heard: Faults, name: str) -> Iterator[None]:
    group = heard.program(name).identity.pid
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)
