"""`pulumi preview` from a plain checkout: the real CLI, where only plugins are stand-ins."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.stack.folder import ROOT, Engine
from tests.lab.pulumi import language_host

PARTS = ("Pulumi.yaml", "__main__.py", "stacks", "policies", "zt", "components")
STACK = "hanzo-k8s"

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `pulumi` is to find, and nothing else."""
    target = tmp_path / "checkout"
    target.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / part)
    return target


@pytest.fixture
def cli(engine: Engine, checkout: Path, tmp_path: Path) -> Cli:
    """Runs the CLI in the checkout, as a user does who has logged in."""
    programs, state = tmp_path / "programs", tmp_path / "state"
    programs.mkdir()
    state.mkdir()
    host = programs / "pulumi-language-python"
    host.write_text(f'#!/bin/sh\nexec {sys.executable} {language_host.__file__} "$@"\n')
    host.chmod(0o755)
    environment = {
        **os.environ,
        **engine.environment,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "of this test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [engine.pulumi, *arguments, "--stack", STACK, "--non-interactive"],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    subprocess.run(
        [engine.pulumi, "stack", "init", STACK],
        cwd=checkout,
        env=environment,
        check=True,
        capture_output=True,
    )
    return run


def test_a_preview_is_made_from_the_command_line(cli: Cli, kubeconfig: Path) -> None:
    place = "hanzo-zt:kubernetes.adopt"
    assert not cli("config", "set", "--path", f"{place}.kubeconfig", str(kubeconfig)).returncode
    assert not cli("config", "rm", "--path", f"{place}.context").returncode
    preview = cli("preview", "--json")
    assert not preview.returncode, preview.stderr
    steps = json.loads(preview.stdout)["steps"]
    golden = ROOT / "tests" / "golden" / "stacks" / f"{STACK}.txt"
    expected = golden.read_text().splitlines()
    planned = [step["newState"]["type"] + " " + step["urn"].split("::", 3)[3] for step in steps]
    assert sorted(planned) == sorted([*expected, f"pulumi:pulumi:Stack hanzo-zt-{STACK}"])


def test_what_cannot_be_brought_up_is_said_in_a_sentence(cli: Cli) -> None:
    set_to = cli("config", "set", "--path", "hanzo-zt:kubernetes.adopt.kubeconfig", "/nowhere")
    assert not set_to.returncode
    preview = cli("preview")
    assert preview.returncode
    assert "hanzo-zt:kubernetes.adopt.kubeconfig /nowhere cannot be read" in preview.stdout
    assert "Traceback" not in preview.stdout + preview.stderr


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("rm", "hanzo-zt:cluster"), "is missing configuration value 'cluster'"),
        (("set", "hanzo-zt:production", "maybe"), "'production' must be of type 'boolean'"),
    ],
)
def test_pulumi_itself_knows_what_is_required(
    cli: Cli, change: tuple[str, ...], sentence: str
) -> None:
    assert not cli("config", *change).returncode
    preview = cli("preview")
    assert preview.returncode
    assert sentence in preview.stdout + preview.stderr
