"""Each stack is installed once for all that is looked at."""

from collections.abc import Iterator, Mapping

import pytest

from lab.cluster.model import ControlPlane
from tests.components.registered import STACKS
from tests.lab.pulumi_checks.installing import Installed, installed


@pytest.fixture(scope="package", params=STACKS)
def found(
    request: pytest.FixtureRequest,
    control_planes: Mapping[str, ControlPlane],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installed]:
    with installed(request.param, control_planes, tmp_path_factory.mktemp("stack")) as stack:
        yield stack
