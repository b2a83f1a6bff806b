"""Fuzzes what Envoy sends: `python -m tests.fuzz.check --seconds 300`.

Three targets share the time, each in a process of its own: messages of Check, messages of access
logs, and HTTP/2 byte for byte. An input that breaks one is kept in the folder that is printed, and
`python -m tests.fuzz.check --target check FILE` runs it again.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TARGETS = ("check", "log", "http2")
# Bytes; a message of the usual size has two thousand.
_LONGEST = 4096


def main(arguments: list[str]) -> int:
    """1 if something broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.check")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--target", choices=TARGETS, help="one alone")
    parser.add_argument("files", nargs="*", type=Path, help="run these inputs, and no others")
    chosen = parser.parse_args(arguments)
    targets = [chosen.target] if chosen.target else TARGETS
    broken = [
        target for target in targets if _run(target, chosen.seconds // len(targets), chosen.files)
    ]
    _say("broken: " + ", ".join(broken) if broken else "nothing broke")
    return 1 if broken else 0


def _run(target: str, seconds: int, files: list[Path]) -> int:
    """Fuzz one target; how its process ended."""
    folder = Path(tempfile.mkdtemp(prefix=f"zt-fuzz-{target}-"))
    options = map(str, files) if files else (f"-max_total_time={seconds}", str(folder / "corpus"))
    command = (
        *(sys.executable, "-m", "tests.fuzz.targets", target, str(folder / "corpus")),
        *(f"-max_len={_LONGEST}", f"-artifact_prefix={folder}/", "-timeout=10", *options),
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        _say(done.stderr[-4000:])
        _say(f"{target}: broken; inputs are in {folder}")
    else:
        _say(f"{target}: {_summary(done.stderr)}")
    return done.returncode


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _summary(report: str) -> str:
    runs = re.findall(r"Done (\d+) runs in (\d+) second", report)
    coverage = re.findall(r"cov: (\d+)", report)
    if not runs:
        return "ran the given inputs"
    return f"{int(runs[-1][0]):,} inputs in {runs[-1][1]} s, {coverage[-1]} places reached"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
