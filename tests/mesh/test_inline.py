from collections import Counter
from collections.abc import Iterator
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from lab.mesh.addresses import plan
from lab.mesh.folders import Folders
from lab.mesh.inline import bootstrap
from lab.mesh.placement import LocalPlacement
from zt.bundle import CompiledFile
from zt.compile.envoy import compile_envoy
from zt.effective import effective
from zt.load import load_policy

POLICIES = Path(__file__).parents[2] / "policies"
SVID = Path("/run/mesh/svid/web/svid.json")


@pytest.fixture(scope="module")
def sidecars() -> list[tuple[list[CompiledFile], dict[str, Any]]]:
    """The compiled files of every sidecar of a cluster, and its bootstrap."""
    policy = effective(load_policy(POLICIES), date(2026, 1, 1))
    placement = LocalPlacement(policy, plan(policy), Folders(Path("/run/mesh")))
    files = sorted(compile_envoy(policy, "hanzo-k8s", placement), key=lambda file: file.path)
    folders = [list(group) for _, group in groupby(files, lambda file: file.path.split("/")[1])]
    return [(group, bootstrap(group, SVID, Path("/run/mesh/bundle.pem"))) for group in folders]


def values(content: Any, name: str) -> Iterator[Any]:  # noqa: ANN401 - any JSON value
    """All values of a key, at any depth."""
    if isinstance(content, list):
        for item in content:
            yield from values(item, name)
    elif isinstance(content, dict):
        for key, item in content.items():
            if key == name:
                yield item
            yield from values(item, name)


def test_nothing_is_watched_but_the_svid(
    sidecars: list[tuple[list[CompiledFile], dict[str, Any]]],
) -> None:
    for _, content in sidecars:
        sources = list(values(content, "path_config_source"))
        assert sources
        assert {source["path"] for source in sources} == {str(SVID)}
        for way in ("dynamic_resources", "config_discovery", "api_config_source"):
            assert not list(values(content, way))


def test_every_identity_of_the_compiled_lists_is_still_there(
    sidecars: list[tuple[list[CompiledFile], dict[str, Any]]],
) -> None:
    for files, content in sidecars:
        compiled = Counter(name for f in files for name in values(f.manifest(), "exact"))
        assert Counter(values(content, "exact")) == compiled


def test_every_listener_and_cluster_is_still_there(
    sidecars: list[tuple[list[CompiledFile], dict[str, Any]]],
) -> None:
    for files, content in sidecars:
        named = {file.path.rpartition("/")[2]: file.manifest() for file in files}
        for kind in ("listeners", "clusters"):
            compiled = [item["name"] for item in named[f"{kind}.yaml"]["resources"]]
            assert [item["name"] for item in content["static_resources"][kind]] == compiled


def test_every_secret_that_is_referred_to_is_in_the_bootstrap(
    sidecars: list[tuple[list[CompiledFile], dict[str, Any]]],
) -> None:
    for _, content in sidecars:
        secrets = {item["name"] for item in content["static_resources"]["secrets"]}
        wanted = {item["name"] for item in values(content, "validation_context_sds_secret_config")}
        assert wanted <= secrets
