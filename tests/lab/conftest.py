"""What tests of the lab share: real API servers, the same for a whole run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab.cluster import controlplane
from lab.cluster.model import ControlPlane
from zt.load import load_policy

_POLICIES = Path(__file__).parents[2] / "policies"


@pytest.fixture(scope="session")
def control_planes(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, ControlPlane]]:
    """A control plane for each cluster of the policies; tests make namespaces of their own."""
    clusters = load_policy(_POLICIES).mesh.clusters
    with controlplane.control_planes(tmp_path_factory.mktemp("lab"), clusters) as started:
        yield started
