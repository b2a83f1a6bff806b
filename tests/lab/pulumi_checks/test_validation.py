"""Every object passes the API server's own validation, and it has nothing to warn of."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from lab.cluster.model import ControlPlane
from tests.components.registered import STACKS
from tests.lab.pulumi_checks.installing import installed

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("stack", STACKS)
def test_every_object_is_accepted_without_a_warning(
    stack: str, control_planes: Mapping[str, ControlPlane], tmp_path: Path
) -> None:
    with installed(stack, control_planes, tmp_path) as found:
        kinds = Counter(item.object.manifest["kind"] for item in found.tried)
        print(f"\n{stack}: {len(found.tried)} objects, strictly validated")  # noqa: T201
        for kind, count in sorted(kinds.items()):
            print(f"  {count:4} {kind}")  # noqa: T201
        refused = [
            f"{item.object}: {answer.status} {answer.message}"
            for item in found.tried
            for answer in (item.applied, item.again)
            if not answer.ok
        ]
        warned = [
            f"{item.object}: {text}"
            for item in found.tried
            for answer in (item.applied, item.again)
            for text in answer.warnings
        ]

        assert refused == []
        assert warned == []
        assert len(found.tried) > 40
