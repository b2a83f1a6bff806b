"""However a lab with nodes ends, nothing of it stays; what dies in it is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import controlplane
from lab.cluster.model import LabError, Layout
from lab.cluster.status import status
from lab.mesh.processes import read_state
from lab.nodes import cgroups
from lab.nodes.pods import process_of
from tests.lab.cluster.traces import eventually, links, processes, traces
from tests.lab.nodes.conftest import CLUSTERS
from tests.lab.nodes.site import Site, begin, quiet, ready, run, serving

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[3]
POD = "/api/v1/namespaces/default/pods/kept"


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Site]:
    """The second cluster with a pod; whatever a test does to it, nothing may stay."""
    before = links()
    site = begin(tmp_path / "lab", CLUSTERS[1:])
    (node, _) = site.nodes
    api = site.api("lux-k8s")
    api.apply(POD, serving("kept", node.name))
    ready(api, "kept")
    yield site
    controlplane.down(site.layout.root)
    assert traces(site.layout.root) == []
    assert cgroups.existing(site.layout) == ()
    assert links() == before


def supervisor(site: Site) -> int:
    state = read_state(site.layout.run)
    assert state is not None
    assert state.supervisor is not None
    return state.supervisor.pid


def ended(site: Site) -> set[str]:
    return set(status(site.layout.root).ends)


def test_what_dies_is_told_of_and_started_again(alone: Site) -> None:
    """A kubelet, then all of a node: its pods come back, with what they had written."""
    api = alone.api("lux-k8s")
    container = ready(api, "kept").containers["main"]
    os.killpg(alone.record("kubelet.lux-k8s-1").identity.pid, signal.SIGKILL)
    assert eventually(lambda: ended(alone) == {"kubelet.lux-k8s-1"})
    os.kill(supervisor(alone), signal.SIGHUP)
    assert eventually(lambda: not ended(alone))
    # Nothing of a pod depends on its kubelet.
    assert ready(api, "kept").containers["main"] == container

    before = process_of(container)
    os.kill(alone.record("node.lux-k8s-1").identity.pid, signal.SIGKILL)
    assert eventually(lambda: not Path(f"/proc/{before}").exists())
    names = ("node", "containerd", "enforcer", "kubelet", "kube-proxy")
    assert eventually(lambda: ended(alone) == {f"{name}.lux-k8s-1" for name in names})
    os.kill(supervisor(alone), signal.SIGHUP)
    assert eventually(lambda: not ended(alone))
    assert eventually(lambda: ready(api, "kept").containers["main"] != container)
    assert run(ready(api, "kept"), "cat", "/srv/name") == "kept\n"
    # As after a machine's start: a kubelet would wait seconds for each that is left.
    groups = [path for each in cgroups.existing(alone.layout) for path in each.rglob(container)]
    assert groups == []


def test_killed_without_a_word_it_is_cleaned_up(alone: Site) -> None:
    """Containers, mounts, networks and control groups of pods as well."""
    folder = alone.layout.root
    inside = process_of(ready(alone.api("lux-k8s"), "kept").containers["main"])
    assert inside in cgroups.processes(alone.layout)
    os.kill(supervisor(alone), signal.SIGKILL)
    for name in ("kubelet", "kube-proxy"):
        os.killpg(alone.record(f"{name}.lux-k8s-2").identity.pid, signal.SIGKILL)
    # A process that is killed ends when it is scheduled next.
    assert eventually(lambda: "was killed: clean up with `zt lab down`" in said_of(folder))
    assert controlplane.down(folder)
    assert not Path(f"/proc/{inside}").exists()
    assert processes(folder) == {}
    assert cgroups.existing(alone.layout) == ()
    assert not folder.exists()


def said_of(folder: Path) -> str:
    """What is wrong with a lab; empty if nothing is."""
    try:
        controlplane.running(folder)
    except LabError as error:
        return str(error)
    return ""


def test_killed_while_its_nodes_start_it_is_cleaned_up(tmp_path: Path) -> None:
    folder, before = tmp_path / "lab", links()
    program = (
        "import pathlib, sys\n"
        "from tests.lab.nodes.site import quiet\n"
        "from tests.lab.nodes.conftest import CLUSTERS\n"
        "from lab.cluster.controlplane import up\n"
        "up(pathlib.Path(sys.argv[1]), CLUSTERS[1:], quiet, nodes=True)"
    )
    try:
        with subprocess.Popen([sys.executable, "-c", program, folder], cwd=ROOT) as child:
            assert eventually(
                lambda: any("lab.nodes.init" in p for p in processes(folder).values())
            )
            for pid in processes(folder):
                os.kill(pid, signal.SIGKILL)
            child.wait()
    finally:
        assert controlplane.down(folder)
    assert traces(folder) == []
    assert cgroups.existing(Layout(folder)) == ()
    assert links() == before


def test_where_nodes_cannot_see_their_files_none_is_started() -> None:
    with pytest.raises(LabError, match="nodes have a /run of their own"):
        controlplane.up(Path("/run/zt-lab-test"), CLUSTERS, quiet, nodes=True)
    controlplane.down(Path("/run/zt-lab-test"))
    assert not Path("/run/zt-lab-test").exists()
