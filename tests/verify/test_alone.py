"""Commands that call in one lab wait for each other."""

import subprocess
import sys
from pathlib import Path

from lab.commands import alone

_SECOND = """
from pathlib import Path
from lab.commands import alone
with alone(Path({folder!r}), lambda text: print(text, flush=True)):
    print("alone")
"""


def test_the_second_waits_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    with alone(tmp_path, said.append):
        command = [sys.executable, "-c", _SECOND.format(folder=str(tmp_path))]
        second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert second.stdout
        assert "waiting" in second.stdout.readline()
        assert second.poll() is None
    out, _ = second.communicate(timeout=20)
    assert out == "alone\n"
    assert said == []
