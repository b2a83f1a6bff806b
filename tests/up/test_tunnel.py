"""What the lab lays over its stacks' gateways, before and after it knows their public keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cluster.model import Layout
from lab.kms.server import kms_of, prepare
from lab.kms.setup import GATEWAYS, Cluster
from lab.up.tunnel import configure, configured

CLUSTERS = ("hanzo-k8s", "lux-k8s")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "lab")
    layout.root.mkdir()
    prepare(kms_of(layout))
    return layout


def test_a_lab_without_a_tunnel_lays_nothing_over(layout: Layout) -> None:
    assert configured(layout, "hanzo-k8s") == {}


def test_each_gateway_finds_its_own_key_by_its_own_way_in(layout: Layout) -> None:
    configure(layout, CLUSTERS, {})
    for cluster in CLUSTERS:
        found = configured(layout, cluster)
        keys = found["keys"]
        assert (keys["address"], keys["project"], keys["path"]) == (
            "https://192.0.2.30:443",
            GATEWAYS,
            cluster,
        )
        assert keys["auth"] == Cluster(cluster, "", ("", "")).mount
        assert keys["authority"].startswith("-----BEGIN CERTIFICATE-----")
        assert found["peers"] == {}
        assert found["userspace"] is True


def test_a_gateway_is_told_the_keys_of_the_others_and_no_private_one(layout: Layout) -> None:
    configure(layout, CLUSTERS, {"hanzo-k8s": "AAA=", "lux-k8s": "BBB="})
    assert configured(layout, "hanzo-k8s")["peers"] == {"lux-k8s": "BBB="}
    assert configured(layout, "lux-k8s")["peers"] == {"hanzo-k8s": "AAA="}
    written = (layout.engine / "gateways.json").read_text()
    assert "PRIVATE" not in written
