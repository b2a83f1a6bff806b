"""The check of arguments finds what is wrong, and only that."""

from typing import Any

import pulumi_digitalocean as digitalocean
import pytest

from tests.components.sdk_types import problems

POOL = {"name": "default", "size": "s-2vcpu-4gb", "nodeCount": 1}
GOOD: dict[str, Any] = {
    "region": "sfo3",
    "version": "1.35.1-do.0",
    "clusterSubnet": "10.244.0.0/16",
    "tags": ["a"],
    "nodePool": POOL,
    "ha": True,
}


def test_what_is_right_passes() -> None:
    assert not list(problems(digitalocean.KubernetesClusterArgs, GOOD))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"region": 3}, "region should be str, not 3"),
        ({"ha": "true"}, "ha should be bool, not 'true'"),
        ({"cluster_subnet": "x"}, "cluster_subnet is no argument of KubernetesClusterArgs"),
        ({"tags": "a"}, "tags should be a list, not 'a'"),
        ({"tags": [1]}, "tags[0] should be str, not 1"),
        ({"nodePool": []}, "nodePool should be KubernetesClusterNodePoolArgs, not []"),
        ({"nodePool": {**POOL, "nodeCount": "1"}}, "nodePool.nodeCount should be int, not '1'"),
        ({"nodePool": {**POOL, "nodeCount": True}}, "nodePool.nodeCount should be int, not True"),
        (
            {"nodePool": {"name": "default"}},
            "nodePool.size is missing, which KubernetesClusterNodePoolArgs requires",
        ),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], problem: str) -> None:
    assert problem in list(problems(digitalocean.KubernetesClusterArgs, {**GOOD, **change}))


def test_what_is_required_must_be_there() -> None:
    assert list(problems(digitalocean.VpcArgs, {})) == ["region is missing, which VpcArgs requires"]
