"""An engine with state of its own for each test, and the provider that it attaches to."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pulumi import automation

from lab.cluster.model import ControlPlane
from lab.provider.serve import Serving, serving
from lab.stack.folder import Engine, Program, opened
from lab.tools.build import tool
from tests.lab.pulumi.small import PROJECT, admin, team

Open = Callable[[Program], automation.Stack]


@pytest.fixture
def provider() -> Iterator[Serving]:
    with serving() as found:
        yield found


@pytest.fixture
def engine(tmp_path: Path, provider: Serving) -> Engine:
    folder = tmp_path / "engine"
    return Engine(pulumi=tool("pulumi"), folder=folder, environment=provider.environment)


@pytest.fixture
def open_small(engine: Engine, tmp_path: Path) -> Open:
    """Opens the stack ``small`` with a program of the test's."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "Pulumi.yaml").write_text(PROJECT)
    return lambda program: opened("small", engine, run=program, root=root)


@pytest.fixture
def kubeconfig(control_planes: dict[str, ControlPlane]) -> Path:
    return control_planes["hanzo-k8s"].kubeconfig


@pytest.fixture
def http(kubeconfig: Path) -> Iterator[httpx.Client]:
    with admin(kubeconfig) as client:
        yield client


@pytest.fixture
def namespace(http: httpx.Client) -> Iterator[str]:
    """A namespace that was there before, labelled ``owner: team``."""
    with team(http) as name:
        yield name
