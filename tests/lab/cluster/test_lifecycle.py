"""However a lab ends, nothing of it stays: no process, namespace, mount, file, or interface."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab.cluster import network
from lab.cluster.cleanup import down
from lab.cluster.client import client
from lab.cluster.controlplane import running, up
from lab.cluster.model import LabError, Layout
from tests.lab.cluster.traces import eventually, links, processes, stand_ins, traces
from zt.load import load_policy

ROOT = Path(__file__).parents[3]
ZT = Path(sys.executable).with_name("zt")
CLUSTERS = load_policy(ROOT / "policies").mesh.clusters
# Of a real lab: two API servers, on machines where other things run as well.
SLOW = pytest.mark.timeout(300)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = links()
    yield tmp_path / "lab"
    down(Layout(tmp_path / "lab"))
    assert traces(tmp_path / "lab") == []
    assert links() == before


def zt(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [ZT, "lab", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def quiet(_step: str) -> None:
    pass


def begin(folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """`zt lab up` with programs that never answer, once they have been started."""
    command = [str(ZT), "lab", "up", "--control-plane", "--state", str(folder)]
    child = subprocess.Popen(
        command, cwd=ROOT, env=dict(environment), stderr=subprocess.PIPE, text=True
    )
    assert eventually(lambda: len(processes(folder)) >= 6), processes(folder)
    assert len(network.existing(Layout(folder))) == 3
    return child


@SLOW
def test_commands_bring_it_up_show_it_and_end_it(folder: Path) -> None:
    started = zt("up", "--control-plane", "--cluster", "lux-k8s", "--state", folder, "--json")
    assert started.returncode == 0, started.stderr
    (plane,) = json.loads(started.stdout)
    assert client(Path(plane["kubeconfig"])).request("GET", "/readyz").body == "ok"
    seen = json.loads(zt("status", "--state", folder, "--json").stdout)
    assert (seen["well"], [item["ready"] for item in seen["clusters"]]) == (True, [True])
    names = {process["name"].partition(".")[0] for process in seen["processes"]}
    assert names == {"supervisor", "etcd", "kube-apiserver", "kube-controller-manager"}
    assert "ready" in zt("status", "--state", folder).stdout
    second = zt("up", "--control-plane", "--state", folder)
    assert second.returncode == 1
    assert "a lab is already running" in second.stderr
    assert client(Path(plane["kubeconfig"])).request("GET", "/readyz").body == "ok"
    assert zt("down", "--state", folder).stdout == "stopped\n"
    assert not folder.exists()
    assert "no lab is running" in zt("down", "--state", folder).stdout
    assert "no lab is running" in zt("status", "--state", folder).stderr


def is_known_as_killed(folder: Path) -> bool:
    try:
        running(folder)
    except LabError as error:
        return "was killed: clean up with `zt lab down`" in str(error)
    return False


@SLOW
def test_killed_as_a_whole_and_started_again(folder: Path) -> None:
    """Two in a row in one folder, the first of which nobody could end in good order."""
    one = CLUSTERS[:1]
    (plane,) = up(folder, one, quiet)
    first = client(plane.kubeconfig).get("/api/v1/namespaces/default")["metadata"]["uid"]
    for pid in processes(folder):
        os.kill(pid, signal.SIGKILL)
    # What is about to end has no command line any more, and may still be there for a moment.
    assert eventually(lambda: not processes(folder) and is_known_as_killed(folder))
    (plane,) = up(folder, one, quiet)
    second = client(plane.kubeconfig).get("/api/v1/namespaces/default")["metadata"]["uid"]
    assert first != second


@SLOW
def test_a_process_that_dies_is_named(folder: Path) -> None:
    up(folder, CLUSTERS[1:], quiet)
    (etcd,) = (pid for pid, line in processes(folder).items() if "etcd-v" in line.split()[0])
    os.kill(etcd, signal.SIGKILL)

    def is_noted() -> bool:
        seen = json.loads(zt("status", "--state", folder, "--json").stdout)
        assert not seen["well"]
        return "etcd.lux-k8s died (SIGKILL)" in seen["ends"].get("etcd.lux-k8s", "")

    assert eventually(is_noted)


@SLOW
def test_labs_run_side_by_side(folder: Path) -> None:
    """The same addresses twice: each lab's are in namespaces of its own."""
    folders = [folder / "a", folder / "b"]
    children = [
        subprocess.Popen(
            [ZT, "lab", "up", "--control-plane", "--cluster", "hanzo-k8s", "--state", each],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for each in folders
    ]
    try:
        assert [child.wait() for child in children] == [0, 0]
        planes = [plane for each in folders for plane in running(each)]
        assert planes[0].address == planes[1].address
        paths = "/api/v1/namespaces/default"
        found = {client(each.kubeconfig).get(paths)["metadata"]["uid"] for each in planes}
        assert len(found) == 2
        down(Layout(folders[0]))
        assert client(planes[1].kubeconfig).request("GET", "/readyz").ok
    finally:
        for each in folders:
            down(Layout(each))


@SLOW
def test_it_ends_with_its_owner(folder: Path) -> None:
    """Tests that are killed leave no API server behind."""
    program = (
        "import sys, time, pathlib;"
        "from lab.cluster.controlplane import control_planes;"
        "from zt.load import load_policy;"
        "clusters = load_policy('policies').mesh.clusters[:1]\n"
        "with control_planes(pathlib.Path(sys.argv[1]), clusters):\n"
        "    print('ready', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.kill()
    assert eventually(lambda: not processes(folder))
    assert network.existing(Layout(folder)) == ()


def test_interrupted_it_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    child = begin(folder, stand_ins(tmp_path / "cache"))
    child.send_signal(signal.SIGINT)
    child.communicate()
    assert child.returncode != 0
    assert processes(folder) == {}
    assert network.existing(Layout(folder)) == ()
    assert not (folder / "hanzo-k8s").exists()


def test_when_the_command_is_killed_its_supervisor_ends_by_itself(
    folder: Path, tmp_path: Path
) -> None:
    """Whoever was to hear that it is ready is gone."""
    environment = stand_ins(tmp_path / "cache")
    child = begin(folder, environment)
    child.kill()
    child.communicate()
    assert eventually(lambda: not processes(folder))
    assert eventually(lambda: network.existing(Layout(folder)) == ())


def test_killed_while_it_starts_it_is_cleaned_up(folder: Path, tmp_path: Path) -> None:
    child = begin(folder, stand_ins(tmp_path / "cache"))
    for pid in processes(folder):
        os.kill(pid, signal.SIGKILL)
    child.communicate()
    namespace = Layout(folder).namespace("hanzo-k8s")
    with subprocess.Popen(network.entered(namespace, ("sleep", "600"))) as unrecorded:
        assert eventually(lambda: unrecorded.pid in network.processes(Layout(folder)))
        assert zt("down", "--state", folder).stdout == "stopped\n"
        assert unrecorded.wait() == -signal.SIGKILL


def test_a_program_that_fails_is_quoted(folder: Path, tmp_path: Path) -> None:
    environment = stand_ins(tmp_path / "cache", etcd="echo no room for data; exit 3")
    command = [str(ZT), "lab", "up", "--control-plane", "--state", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "etcd.hanzo-k8s died (exit code 3)" in done.stderr
    assert "no room for data" in done.stderr
    assert processes(folder) == {}
    assert {path.name for path in folder.iterdir()} == {"lock", "logs"}
    zt("down", "--state", folder)
    assert not folder.exists()


def test_the_folder_of_somebody_else_is_left_alone(folder: Path) -> None:
    theirs = folder / "hanzo-k8s/notes"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(LabError, match="hanzo-k8s is no lab's: choose another folder"):
        up(folder, CLUSTERS, quiet)
    down(Layout(folder))
    assert theirs.read_text() == "mine"
    theirs.unlink()
    theirs.parent.rmdir()
    folder.rmdir()


def test_what_is_missing_is_said_at_once(folder: Path, tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [str(ZT), "lab", "up", "--control-plane", "--state", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "missing here: `ip` (iproute2); `nsenter` (util-linux); a Go toolchain" in done.stderr
    assert not folder.exists()


def test_only_root_may(folder: Path) -> None:
    command = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c"]
    program = "from lab.cluster.controlplane import missing; print(missing()[0])"
    done = subprocess.run([*command, program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "root (run it with sudo)\n"
    assert not folder.exists()
