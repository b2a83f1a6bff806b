"""One lab with nodes for all tests of it; each cleans up after itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import controlplane
from lab.cluster.model import Layout
from lab.nodes import cgroups
from tests.lab.cluster.traces import traces
from tests.lab.nodes.site import Site, begin
from zt.load import load_policy

CLUSTERS = load_policy(Path(__file__).parents[3] / "policies").mesh.clusters


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nodes") / "lab"
    try:
        yield begin(folder, CLUSTERS)
    finally:
        controlplane.down(folder)
    assert traces(folder) == []
    assert cgroups.existing(Layout(folder)) == ()
