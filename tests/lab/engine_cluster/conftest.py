"""A control plane of one's own: these tests stop it, and start it again."""

from collections.abc import Iterator

import pytest

from lab.cluster import controlplane
from tests.engine.conftest import (
    anyio_backend,
    authority,
    database,
    postgres,
)
from tests.engine.samples import policy
from tests.lab.engine_cluster.site import Site, furnished

__all__ = ["anyio_backend", "authority", "database", "postgres", "site"]


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("control-plane")
    with (
        controlplane.control_planes(folder / "lab", policy().mesh.clusters) as planes,
        furnished(planes["east"], folder / "account") as made,
    ):
        yield made
