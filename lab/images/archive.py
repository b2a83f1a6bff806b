"""Images as the OCI image specification lays them out, and archives of them.

Layers are not compressed: they travel from one folder of this machine to another, and an import
would spend most of its time on unpacking them.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

_MEDIA = "application/vnd.oci.image"
_MANIFEST, _CONFIG = f"{_MEDIA}.manifest.v1+json", f"{_MEDIA}.config.v1+json"
_INDEX, _LAYER = f"{_MEDIA}.index.v1+json", f"{_MEDIA}.layer.v1.tar"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes under their digest (``sha256:...``): small ones as they are, a layer by its file."""

    media: str
    digest: str
    size: int
    content: bytes | Path = field(repr=False)

    def described(self, **others: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """The descriptor by which others refer to it."""
        return {"mediaType": self.media, "digest": self.digest, "size": self.size, **others}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a container of an image is run, unless its pod says otherwise."""

    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image under the name that pods call it by."""

    name: str
    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """All that it is made of; what is referred to comes first."""
        return (*self.layers, self.config, self.manifest)

    @property
    def size(self) -> int:
        """Bytes of its layers."""
        return sum(layer.size for layer in self.layers)


def layer(path: Path, digest: str) -> Blob:
    """The layer in a tar of that digest."""
    return Blob(_LAYER, digest, path.stat().st_size, path)


def image(name: str, layers: tuple[Blob, ...], settings: Settings) -> Image:
    """An image of layers, the lowest one first."""
    config = _json(_CONFIG, _configuration(layers, settings))
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": config.described(),
        "layers": [item.described() for item in layers],
    }
    return Image(name, _json(_MANIFEST, manifest), config, layers)


def _configuration(layers: tuple[Blob, ...], settings: Settings) -> dict[str, Any]:
    machine = platform.machine()
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {
            "Env": [f"{key}={value}" for key, value in settings.environment.items()],
            "Entrypoint": list(settings.entrypoint),
            "User": settings.user,
        },
        "rootfs": {"type": "layers", "diff_ids": [item.digest for item in layers]},
    }


def write_archive(
    images: Iterable[Image], stream: IO[bytes], without: Collection[str] = ()
) -> None:
    """Write an archive of images; blobs that several have are written once, ``without`` never.

    Whoever has those already (digests) needs no more than the rest.
    """
    wanted = tuple(images)
    blobs = {blob.digest: blob for item in wanted for blob in item.blobs}
    with tarfile.open(fileobj=stream, mode="w|", bufsize=_CHUNK) as archive:
        _add(archive, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        for digest, blob in blobs.items():
            if digest not in without:
                _add(archive, f"blobs/{digest.replace(':', '/')}", blob.content)
        _add(archive, "index.json", json.dumps(_index(wanted)).encode())


def _index(images: tuple[Image, ...]) -> dict[str, Any]:
    named = [
        item.manifest.described(annotations={"io.containerd.image.name": item.name})
        for item in images
    ]
    return {"schemaVersion": 2, "mediaType": _INDEX, "manifests": named}


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    header = tarfile.TarInfo(name)
    if isinstance(content, bytes):
        header.size = len(content)
        archive.addfile(header, io.BytesIO(content))
    else:
        header.size = content.stat().st_size
        with content.open("rb") as stream:
            archive.addfile(header, stream)


def _json(media: str, document: dict[str, Any]) -> Blob:
    content = json.dumps(document).encode()
    return Blob(media, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), content)
