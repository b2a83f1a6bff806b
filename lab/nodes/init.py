"""The first process of a node: makes its files its own, then outlives all others there.

Run as ``python -m lab.nodes.init NAME FOLDER`` in new mount, PID and UTS namespaces. Once FOLDER
has the file ``ready``, programs may enter. All of the node ends with it, mounts and pods as well.
It imports nothing but the standard library, for there is one in every node.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

READY = "ready"
# Folders of a machine that a node has for itself; that is: all that containers' folders are in.
OWN = ("/run", "/var/lib", "/var/log")
# Lost by every machine that starts anew.
_FLEETING = "/run"
# What a kubelet sets for its machine. Here it would be for somebody else's, so it is told that all
# is well. Its own settings: k8s.io/component-helpers/node/util/sysctl.
_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def main(name: str, folder: Path) -> None:
    """Prepare the node, then reap what its daemons leave; never returns."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    socket.sethostname(name)
    shutil.rmtree(_inside(folder, _FLEETING), ignore_errors=True)
    for path in OWN:
        _inside(folder, path).mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(_inside(folder, path)), path)
    for setting, value in _SETTINGS.items():
        _pretend(folder, setting, value)
    # Containers may ask for what is mounted later; nothing of it leaves this namespace.
    _mount("--make-rshared", "/")
    (folder / READY).touch()
    while True:
        signal.sigwait([signal.SIGCHLD])
        _reap()


def _inside(folder: Path, path: str) -> Path:
    return folder / path.removeprefix("/")


def _pretend(folder: Path, setting: str, value: str) -> None:
    path, real = folder / "sysctl" / setting, Path("/proc/sys") / setting
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")
    if real.exists():
        _mount("--bind", str(path), str(real))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)  # noqa: S603, S607 - util-linux's


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
