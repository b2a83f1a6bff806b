"""What nodes begin with: links to what nobody changes, copies of what containerd writes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.images import stock
from lab.images.build import missing

BLOB = "io.containerd.content.v1.content/blobs/sha256/abc"
FILE = "io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/opt/program"
DATABASES = (
    "io.containerd.metadata.v1.bolt/meta.db",
    "io.containerd.snapshotter.v1.overlayfs/metadata.db",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/hanzo-zt/images"


def stocked(cache: Path, key: str) -> Path:
    root = cache / "stock" / key / "root"
    for name in (BLOB, FILE, *DATABASES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(key)
    return root


def test_a_node_begins_with_links_and_databases_of_its_own(cache: Path, tmp_path: Path) -> None:
    source, root = stocked(cache, "one"), tmp_path / "node/var/lib/containerd"
    assert stock.lay(root)
    for name in (BLOB, FILE):
        assert (root / name).samefile(source / name)
    for name in DATABASES:
        assert (root / name).read_text() == "one"
        assert not (root / name).samefile(source / name)


def test_what_is_unfinished_is_no_stock(cache: Path, tmp_path: Path) -> None:
    stocked(cache, "two.new")
    assert not stock.lay(tmp_path / "node")
    assert not (tmp_path / "node").exists()


def test_a_node_that_has_run_keeps_what_it_has(cache: Path, tmp_path: Path) -> None:
    stocked(cache, "one")
    (tmp_path / "node").mkdir()
    assert not stock.lay(tmp_path / "node")
    assert not list((tmp_path / "node").iterdir())


def test_what_the_machine_lacks_is_said_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "`ctr` (containerd)" in missing()
    assert "`mmdebstrap` (mmdebstrap)" in missing()
