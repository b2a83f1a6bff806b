"""What is asked of ``ctr``, played here by a script."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lab.cluster.model import LabError
from lab.images.archive import Image, Settings, image, layer
from lab.images.importing import import_all

SCRIPT = """#!/bin/sh
echo "$@" >> "{folder}/asked"
case "$*" in
  *"images ls") echo "REF TYPE DIGEST SIZE"; echo "{has}" ;;
  *"content get "*) echo '{content}' ;;
  *"images import -") cat > "{folder}/archive"; {imports} ;;
esac
"""
EMPTY = '{"config": {"digest": "sha256:none"}, "layers": []}'


@pytest.fixture
def built(tmp_path: Path) -> Image:
    path = tmp_path / "layer.tar"
    path.write_bytes(b"layer" * 1000)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    return image("zt.lab/one:lab", (layer(path, digest),), Settings())


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run/containerd.sock"


def play(folder: Path, monkeypatch: pytest.MonkeyPatch, **parts: str) -> None:
    (folder / "bin").mkdir()
    ctr = folder / "bin/ctr"
    given = {"has": "", "content": EMPTY, "imports": "true", **parts}
    ctr.write_text(SCRIPT.format(folder=folder, **given))
    ctr.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def run(built: Image, socket: Path) -> str:
    told: list[str] = []
    import_all({built.name: built}, [socket], told.append)
    return "\n".join(told)


def test_what_is_there_is_not_imported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Image, socket: Path
) -> None:
    play(tmp_path, monkeypatch, has=f"{built.name} manifest {built.manifest.digest} 5.0 MiB")
    assert "all 1 images are there" in run(built, socket)
    assert not (tmp_path / "archive").exists()


def test_an_image_of_another_digest_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Image, socket: Path
) -> None:
    play(tmp_path, monkeypatch, has=f"{built.name} manifest sha256:old 5.0 MiB")
    assert "1 images" in run(built, socket)
    # What it had before goes when the new one is there, and not while it is being unpacked.
    asked = [line.split("k8s.io ")[1] for line in (tmp_path / "asked").read_text().splitlines()]
    kept = f"{built.name}-before"
    assert asked[-5:] == [
        f"images tag --force {built.name} {kept}",
        "images ls",
        "content get sha256:old",
        "images import -",
        f"images rm {kept}",
    ]
    assert b"layer" * 1000 in (tmp_path / "archive").read_bytes()
    # A socket is named from its folder: the path to it may be longer than the kernel takes.
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {line.split(" --namespace ")[0] for line in asked} == {"--address containerd.sock"}


def test_layers_that_are_there_do_not_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Image, socket: Path
) -> None:
    """Another image has them, which stays: nobody else keeps containerd from throwing them away."""
    other = image("zt.lab/other:lab", built.layers, Settings(user="1"))
    has, content = f"{other.name} manifest {other.manifest.digest} 5.0 MiB", other.manifest.content
    assert isinstance(content, bytes)
    play(tmp_path, monkeypatch, has=has, content=content.decode())
    assert "1 images, 0 MB" in run(built, socket)
    assert b"layer" * 1000 not in (tmp_path / "archive").read_bytes()


def test_what_containerd_refuses_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: Image, socket: Path
) -> None:
    play(tmp_path, monkeypatch, imports="echo no room >&2; exit 1")
    with pytest.raises(LabError, match=r"containerd\.sock: no room"):
        run(built, socket)
