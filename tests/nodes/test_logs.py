"""Logs of containers that are gone."""

from __future__ import annotations

import shutil
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from lab.cluster.model import Cluster, Layout
from lab.nodes.logs import Keeper
from lab.nodes.model import nodes_of

NETWORK = IPv4Network("10.240.0.0/16")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def keeper(layout: Layout) -> Keeper:
    nodes = nodes_of(layout, (Cluster("here", 1, NETWORK, NETWORK, nodes=2),))
    return Keeper(layout.pod_logs, nodes)


def log(keeper: Keeper, number: int = 0) -> Path:
    (node, *_) = keeper.nodes
    folder = node.folder / "var/log/pods/hanzo_iam-1_uid/fetch-keys"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{number}.log"


def kept(keeper: Keeper) -> list[str]:
    return [file.read_text() for file in sorted(keeper.folder.glob("here-1/*/fetch-keys/*"))]


def test_what_was_written_stays_when_the_pod_goes(keeper: Keeper) -> None:
    keeper.look()
    assert kept(keeper) == []
    file = log(keeper)
    file.write_text("why\n")
    keeper.look()
    # Also what comes after it was seen.
    with file.open("a") as stream:
        stream.write("and what else\n")
    keeper.look()
    shutil.rmtree(file.parents[1])
    keeper.look()
    assert kept(keeper) == ["why\nand what else\n"]


def test_files_that_take_each_others_names_are_both_kept(keeper: Keeper) -> None:
    file = log(keeper)
    file.write_text("old")
    keeper.look()
    file.rename(file.with_name("0.log.20261130-120000"))
    file.write_text("new")
    keeper.look()
    assert sorted(kept(keeper)) == ["new", "old"]


def test_a_link_is_passed_over(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    log(keeper).symlink_to(tmp_path / "secret")
    keeper.look()
    assert kept(keeper) == []
