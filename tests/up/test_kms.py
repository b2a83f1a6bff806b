"""What the lab lays over its stacks, before and after it knows the gateways' public keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lab.cluster.model import Layout
from lab.kms.server import kms_of, prepare
from lab.kms.setup import AUTHORITIES, GATEWAYS, Cluster
from lab.stack.folder import ROOT, merged
from lab.up.furnish import node_ca
from lab.up.kms import configured, remember

CLUSTERS = ("hanzo-k8s", "lux-k8s")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "lab")
    layout.root.mkdir()
    prepare(kms_of(layout))
    return layout


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_stack_finds_its_secrets_in_the_labs_kms(layout: Layout, cluster: str) -> None:
    text = (ROOT / "stacks" / f"Pulumi.lab-{cluster}.yaml").read_text()
    given = yaml.safe_load(text)["config"]
    stack = merged({key.partition(":")[2]: value for key, value in given.items()}, {})
    found = merged(stack, configured(layout, cluster))
    keys, source = found["gateway"]["keys"], found["spire"]["authority"]["keySource"]
    assert (keys["project"], keys["path"]) == (GATEWAYS, cluster)
    assert (source["project"], source["path"]) == (AUTHORITIES, f"spire/{cluster}")
    for place in (keys, source):
        assert f"{place['address']}:443" == kms_of(layout).url
        assert place["auth"] == Cluster(cluster, "", ("", "")).mount
        assert place["authority"].startswith("-----BEGIN CERTIFICATE-----")
    assert found["gateway"]["peers"] == {}


def test_a_gateway_is_told_the_keys_of_the_others_and_no_private_one(layout: Layout) -> None:
    remember(layout, {"hanzo-k8s": "AAA=", "lux-k8s": "BBB="})
    assert configured(layout, "hanzo-k8s")["gateway"]["peers"] == {"lux-k8s": "BBB="}
    assert configured(layout, "lux-k8s")["gateway"]["peers"] == {"hanzo-k8s": "AAA="}
    assert "PRIVATE" not in str(configured(layout, "hanzo-k8s"))


def test_nodes_elsewhere_get_the_root() -> None:
    assert node_ca("root")["data"] == {"ca.crt": "root"}
