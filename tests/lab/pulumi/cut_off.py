"""An ``up`` whose engine is killed half way, in a process of its own: it leaves a program."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulumi import automation
from pulumi.automation import EngineEvent

from lab.stack.folder import ROOT, Engine, opened
from lab.stack.run import up

# What the process ends with when the engine was killed under it.
KILLED = 9


def cut_off(stack: str, engine: Engine, over: Mapping[str, Any], made: int) -> None:
    """Run ``up``, and kill the engine as soon as so many resources are made."""
    asked = {
        "stack": stack,
        "pulumi": str(engine.pulumi),
        "folder": str(engine.folder),
        "environment": dict(engine.environment),
        "over": over,
        "made": made,
    }
    command = [sys.executable, "-m", "tests.lab.pulumi.cut_off", json.dumps(asked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == KILLED, done.stderr


@dataclass
class Killer:
    """Kills the engine, as soon as so many resources are made."""

    left: int
    program: Path

    def __call__(self, event: EngineEvent) -> None:
        made = event.res_outputs_event
        if made is None or not made.metadata.type.startswith("kubernetes:"):
            return
        self.left -= 1
        if self.left == 0:
            for process in self.engines():
                os.kill(process, signal.SIGKILL)

    def engines(self) -> list[int]:
        """The engine is this process's own child."""
        children = Path("/proc/self/task").glob("*/children")
        found = [int(word) for path in children for word in path.read_text().split()]
        return [pid for pid in found if Path(f"/proc/{pid}/exe").resolve() == self.program]


def main() -> None:
    asked = json.loads(sys.argv[1])
    engine = Engine(
        pulumi=Path(asked["pulumi"]),
        folder=Path(asked["folder"]),
        environment=asked["environment"],
    )
    stack = opened(asked["stack"], engine, asked["over"])
    try:
        up(stack, Killer(asked["made"], engine.pulumi.resolve()))
    except automation.CommandError:
        # The program still waits for its engine; nothing would end it.
        os._exit(KILLED)


if __name__ == "__main__":
    main()
