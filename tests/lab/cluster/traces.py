"""What a lab may have left on the machine, and stand-ins for its programs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from lab.cluster import network
from lab.cluster.model import Layout
from lab.cluster.programs import CONTROL_PLANE
from lab.tools.build import _cached

# Under the name of what it stands for.
_SLEEP = 'exec -a "$0 $*" sleep 600'


def processes(folder: Path) -> dict[int, str]:
    """Command lines that name a lab's folder, by the process's ID."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if any(f"{folder}{end}" in line for end in '/" '):
            found[int(path.parent.name)] = line
    return found


def traces(folder: Path) -> list[str]:
    """Whatever there is of a lab: processes, namespaces, mounts, files."""
    prefix = Layout(folder).prefix
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return [
        *processes(folder).values(),
        *network.existing(Layout(folder)),
        *(line for line in mounts if prefix in line or str(folder) in line),
        *map(str, folder.rglob("*")),
    ]


def links() -> str:
    """Interfaces, addresses and routes of the machine itself."""
    shown = (("address", "show"), ("route", "show"))
    outputs = [
        subprocess.run(["ip", "-j", *what], check=True, capture_output=True).stdout  # noqa: S607
        for what in shown
    ]
    interfaces, routes = map(json.loads, outputs)
    names = [(item["ifname"], [a["local"] for a in item["addr_info"]]) for item in interfaces]
    return json.dumps([names, routes])


def eventually(is_so: Callable[[], bool], patience: float = 60.0) -> bool:
    """Whether it comes to be so within so many seconds."""
    deadline = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def stand_ins(folder: Path, **scripts: str) -> dict[str, str]:
    """An environment whose programs are shell scripts; those that are not named do nothing."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    for name in CONTROL_PLANE:
        path = folder / "hanzo-zt/tools" / _cached(name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{scripts.get(name.replace('-', '_'), _SLEEP)}\n")
        path.chmod(0o755)
    return environment
