import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lab.mesh.cleanup import claim, remove_leftovers, stop_mesh
from lab.mesh.folders import Folders
from lab.mesh.processes import (
    Children,
    Identity,
    MeshError,
    Program,
    Recorded,
    State,
    identify,
    is_alive,
    read_state,
    send,
    stop,
    write_state,
)

SLEEP = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
STUBBORN = (
    *(sys.executable, "-S", "-c"),
    "import signal as s, time; s.signal(15, s.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    found = Folders(tmp_path / "mesh")
    claim(found)
    return found


@pytest.fixture
def sleeper() -> Iterator[Identity]:
    with subprocess.Popen(SLEEP) as process:
        identity = identify(process.pid)
        assert identity is not None
        yield identity
        process.kill()


def wait_for(text: str, log: Path) -> None:
    deadline = time.monotonic() + 10
    while text not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline, f"{log} never said {text}"
        time.sleep(0.02)


def test_a_recycled_pid_is_never_signalled(sleeper: Identity) -> None:
    earlier = replace(sleeper, started=sleeper.started - 1)
    assert not is_alive(earlier)
    assert not send(earlier, signal.SIGKILL)
    assert stop([Recorded("gone", earlier, signal.SIGKILL)]) == ()
    assert is_alive(sleeper)


def test_a_pid_of_another_boot_is_never_signalled(sleeper: Identity) -> None:
    assert not send(replace(sleeper, boot="another"), signal.SIGKILL)
    assert is_alive(sleeper)


def test_a_process_that_waits_to_be_reaped_is_not_alive() -> None:
    process = subprocess.Popen((sys.executable, "-S", "-c", ""))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert identify(process.pid) is None
    process.wait()


def test_stopping_ends_all_children_also_those_that_do_not_listen(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.mesh.processes.GRACE", 0.3)
    children = Children(folders)
    children.start(Program("sleeper", SLEEP))
    children.start(Program("stubborn", STUBBORN))
    wait_for("deaf", folders.log("stubborn"))
    state = read_state(folders)
    assert state is not None
    assert [item.name for item in state.processes] == ["sleeper", "stubborn"]
    children.stop()
    assert not any(is_alive(item.identity) for item in state.processes)


def test_what_a_child_started_ends_with_it(folders: Folders, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    script = f"sleep 60 & echo $! > {note}.new; mv {note}.new {note}; exec sleep 60"
    children = Children(folders)
    children.start(Program("parent", ("/bin/sh", "-c", script), {"PATH": os.defpath}))
    deadline = time.monotonic() + 10
    while not note.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    grandchild = identify(int(note.read_text()))
    assert grandchild is not None
    children.stop()
    deadline = time.monotonic() + 5
    while is_alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(grandchild)


def test_a_child_that_dies_is_told_with_its_last_words(folders: Folders) -> None:
    children = Children(folders)
    script = ("/bin/sh", "-c", "echo no port left; exit 3")
    children.start(Program("envoy", script))
    deadline = time.monotonic() + 10
    while not children.dead() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert children.dead() == ("envoy",)
    assert children.obituary("envoy").startswith("envoy died (exit code 3); the end of ")
    assert children.obituary("envoy").endswith("no port left")
    children.stop()


def test_a_missing_program_is_one_sentence(folders: Folders) -> None:
    with pytest.raises(MeshError, match="envoy can't be started: No such file or directory"):
        Children(folders).start(Program("envoy", ("/nowhere/envoy",)))


def test_down_cleans_up_after_a_supervisor_that_was_killed(
    folders: Folders, sleeper: Identity
) -> None:
    gone = replace(sleeper, started=sleeper.started - 1)
    write_state(folders, State(gone, (Recorded("sleeper", sleeper, signal.SIGTERM),), {}))
    folders.bundle.mkdir()
    assert stop_mesh(folders) == ("sleeper",)
    assert not is_alive(sleeper)
    assert {path.name for path in folders.root.iterdir()} == {"logs"}
    assert stop_mesh(folders) is None


def test_a_stale_state_makes_way_for_a_new_mesh(folders: Folders, sleeper: Identity) -> None:
    gone = replace(sleeper, started=sleeper.started - 1)
    write_state(folders, State(gone, (), {}))
    claim(folders)
    assert not folders.state.exists()


def test_a_running_mesh_is_not_disturbed(folders: Folders, sleeper: Identity) -> None:
    write_state(folders, State(sleeper, (), {}))
    with pytest.raises(MeshError, match=r"already running in .*: stop it with `zt mesh down`"):
        claim(folders)
    assert is_alive(sleeper)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(MeshError, match=r"holds thesis.tex, which is no mesh's"):
        claim(Folders(tmp_path))


def test_a_broken_state_file_is_one_sentence(folders: Folders) -> None:
    folders.state.write_text("{}")
    with pytest.raises(MeshError, match="is not the record of a mesh"):
        read_state(folders)


@pytest.mark.parametrize("interrupted_at", range(10))
def test_a_removal_that_was_interrupted_is_finished_by_the_next(
    folders: Folders, interrupted_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(folders, State(None, (), {}))
    for path in folders.made:
        if path != folders.state:
            path.mkdir(parents=True, exist_ok=True)
    removals = iter(range(interrupted_at))

    def remove(path: Path, **_: object) -> None:
        if next(removals, None) is None:
            raise KeyboardInterrupt
        path.rmdir()

    with monkeypatch.context() as patched:
        patched.setattr("lab.mesh.cleanup.shutil.rmtree", remove)
        with suppress(KeyboardInterrupt):
            remove_leftovers(folders)
    stop_mesh(folders)
    assert {path.name for path in folders.root.iterdir()} <= {"logs", "lock"}
