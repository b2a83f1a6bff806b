"""Where a lab's parts lie, and that two labs never share a name."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.cluster.client import warning_text
from lab.cluster.controlplane import _numbered
from lab.cluster.model import INTERNET, LabError, Layout, clusters_of, plain
from lab.cluster.programs import api_server, controllers, etcd
from zt import model
from zt.load import load_policy
from zt.position import Where

CLUSTERS = load_policy(Path(__file__).parents[2] / "policies").mesh.clusters


def test_clusters_are_those_of_the_policies_with_an_address_each() -> None:
    numbered = tuple(_numbered(CLUSTERS))
    assert [item.name for item in numbered] == [item.name for item in CLUSTERS]
    assert [str(item.address) for item in numbered] == ["192.0.2.10", "192.0.2.20"]
    assert all(item.address in INTERNET for item in numbered)
    assert [item.kubernetes in item.services for item in numbered] == [True, True]


def test_what_the_record_says_of_clusters_is_read_back() -> None:
    numbered = tuple(_numbered(CLUSTERS))
    assert clusters_of(plain(numbered)) == numbered


@given(st.sets(st.text("abc/", min_size=1, max_size=30), min_size=2, max_size=2))
def test_labs_of_different_folders_share_no_namespace(folders: set[str]) -> None:
    paths = {Path("/") / folder for folder in folders}
    names = {Layout(path).namespace("hanzo-k8s") for path in paths}
    assert len(names) == len(paths)


def test_keys_are_given_by_their_files_and_nothing_else_is_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.cluster.programs.tool", lambda name: Path("/bin") / name)
    layout, (first, _) = Layout(tmp_path), _numbered(CLUSTERS)
    for program in (etcd(layout, first), api_server(layout, first), controllers(layout, first)):
        assert program.command[:3] == (
            "nsenter",
            f"--net=/run/netns/{layout.namespace('hanzo-k8s')}",
            "--",
        )
        files = [word for word in program.command if "key-file" in word or "key=" in word]
        assert all(f"={tmp_path}/hanzo-k8s/pki/" in word for word in files)
        assert set(program.environment) == {"PATH", "HOME"}


def test_what_is_not_ipv4_is_refused() -> None:
    six = model.Cluster(
        name="six",
        pod_cidr=IPv4Network("10.0.0.0/16"),
        service_cidr=IPv6Network("2001:db8::/64"),
        where=Where("mesh.yaml", 1, 1),
    )
    with pytest.raises(LabError, match=r"speaks IPv4 alone, not 2001:db8::/64, .* of six"):
        list(_numbered([six]))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ('299 - "unknown field \\"spec.x\\""', 'unknown field "spec.x"'),
        ('299 - "deprecated"', "deprecated"),
        ("299 - x", ""),
    ],
)
def test_texts_of_warnings(header: str, text: str) -> None:
    assert warning_text(header) == text
