"""The steps of the evaluator's Dockerfile in a folder, and what then starts there."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.images.dockerfile import CHECKOUT, Copy, stages

# It installs and compiles some thirty packages.
pytestmark = pytest.mark.timeout(900)

BUILT, SHIPPED = stages(CHECKOUT / "engine/Dockerfile")
_SYSTEM = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Image:
    """What was built, below a folder."""

    root: Path

    def inside(self, text: str) -> str:
        return text.replace("/opt/", f"{self.root}/opt/")

    def environment(self, **more: str) -> dict[str, str]:
        given = {name: self.inside(value) for name, value in SHIPPED.environment.items()}
        return {**given, **more}

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        python = self.root / "opt/venv/bin/python"
        return subprocess.run(
            [str(python), *command],
            cwd="/",
            env=self.environment(**more),
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    found = Image(tmp_path_factory.mktemp("image"))
    (found.root / "opt").mkdir()
    python = found.root / "bin"
    python.mkdir()
    (python / "python").symlink_to(Path(sys.base_prefix) / "bin/python3")
    for step in BUILT.steps:
        if isinstance(step, Copy):
            _copy(CHECKOUT / step.source, Path(found.inside(step.target)))
        else:
            subprocess.run(
                ["/bin/sh", "-c", found.inside(step)],
                env={**os.environ, "PATH": f"{python}:{_SYSTEM}"},
                check=True,
            )
    yield found
    shutil.rmtree(found.root)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def test_it_says_what_it_needs(image: Image) -> None:
    done = image.run(*SHIPPED.entrypoint[1:])
    assert done.returncode == 2
    assert "ZT_AUDIT_DSN is not set" in done.stderr


@pytest.mark.parametrize(
    "module",
    ["engine.audit.migrate", "engine.audit.retain", "engine.kubernetes.secret", "zt"],
)
def test_the_other_programs_start(image: Image, module: str) -> None:
    done = image.run("-m", module, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


@pytest.mark.parametrize("module", ["pulumi", "hvac", "pip", "components", "lab", "gateway"])
def test_what_it_does_not_carry(image: Image, module: str) -> None:
    done = image.run("-c", f"import {module}")
    assert "ModuleNotFoundError" in done.stderr


def test_everything_is_compiled_before_it_runs(image: Image) -> None:
    for source in (image.root / "opt/zt").rglob("*.py"):
        assert list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")), source


def test_the_evaluator_answers(image: Image, tmp_path: Path) -> None:
    """Without a database: what it decides is spooled."""
    api, health, grpc = free_ports(3)
    environment = image.environment(
        ZT_AUDIT_DSN="host=127.0.0.1 port=1 dbname=none",
        ZT_POLICY_PATH=str(CHECKOUT / "policies"),
        ZT_STATE_PATH=str(tmp_path),
        ZT_PLAINTEXT="loopback",
        ZT_API_PORT=str(api),
        ZT_HEALTH_PORT=str(health),
        ZT_GRPC_PORT=str(grpc),
    )
    command = [str(image.root / "opt/venv/bin/python"), *SHIPPED.entrypoint[1:]]
    with subprocess.Popen(command, cwd="/", env=environment) as program:
        try:
            assert _answers(f"http://127.0.0.1:{health}/readyz", program)
        finally:
            program.terminate()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


def _answers(url: str, program: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert program.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - ours
                return bool(answer.status == 200)
        except OSError:
            time.sleep(0.2)
    return False
