"""What is written is what the OCI image specification says, no byte of it twice."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from lab.images.archive import Blob, Image, Settings, image, layer, write_archive


def layer_of(path: Path, content: bytes) -> Blob:
    path.write_bytes(content)
    return layer(path, f"sha256:{hashlib.sha256(content).hexdigest()}")


@pytest.fixture
def base(tmp_path: Path) -> Blob:
    return layer_of(tmp_path / "base.tar", b"below all")


@pytest.fixture
def two(tmp_path: Path, base: Blob) -> tuple[Image, Image]:
    settings = Settings(entrypoint=("run", "it"), environment={"A": "b=c"}, user="7:7")
    own = layer_of(tmp_path / "own.tar", b"its own")
    return image("zt.lab/one:lab", (base, own), settings), image("two:1", (base,), Settings())


def archived(images: tuple[Image, ...], without: set[str]) -> dict[str, bytes]:
    stream = io.BytesIO()
    write_archive(images, stream, without)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        names = archive.getnames()
        assert len(names) == len(set(names))
        return {name: archive.extractfile(name).read() for name in names}  # type: ignore[union-attr]


def test_an_archive_leads_from_names_to_layers(two: tuple[Image, Image], base: Blob) -> None:
    files = archived(two, set())
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    one, other = json.loads(files["index.json"])["manifests"]
    assert one["annotations"] == {"io.containerd.image.name": "zt.lab/one:lab"}
    manifest = json.loads(blob(files, one["digest"]))
    assert [blob(files, item["digest"]) for item in manifest["layers"]] == [
        b"below all",
        b"its own",
    ]
    config = json.loads(blob(files, manifest["config"]["digest"]))
    assert config["config"] == {"Env": ["A=b=c"], "Entrypoint": ["run", "it"], "User": "7:7"}
    # Layers are not compressed, so what is unpacked has the digest of what travels.
    assert config["rootfs"]["diff_ids"] == [item["digest"] for item in manifest["layers"]]
    assert base.digest in json.dumps(json.loads(blob(files, other["digest"])))


def blob(files: dict[str, bytes], digest: str) -> bytes:
    content = files[f"blobs/{digest.replace(':', '/')}"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
    return content


def test_what_somebody_has_already_does_not_travel(two: tuple[Image, Image], base: Blob) -> None:
    all_of_it, rest = archived(two, set()), archived(two, {base.digest})
    assert all_of_it.keys() - rest.keys() == {f"blobs/{base.digest.replace(':', '/')}"}


def test_sizes_are_those_of_the_bytes(two: tuple[Image, Image]) -> None:
    assert [item.size for item in two] == [len(b"below allits own"), len(b"below all")]
    for item in two[0].blobs:
        assert item.size == len(
            item.content if isinstance(item.content, bytes) else item.content.read_bytes()
        )
