"""A containerd's folder with all images unpacked, of which every node begins with a copy.

Unpacking takes seconds of each node; a copy by hard links takes none, nor any disk, and programs
are in memory once for all nodes. That is safe: nothing ever writes to a blob or to a layer below a
container (overlayfs copies first), and containerd's own databases are copied in full.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lab.cluster.model import LabError
from lab.images.archive import Image
from lab.images.importing import import_all
from lab.images.layers import Workshop, digest
from lab.images.steps import must
from lab.mesh.processes import last_lines
from lab.tools.build import cache_folder

# Files that nobody changes, by their folders below containerd's root; the snapshotter is overlayfs.
_KEPT = (
    "io.containerd.content.v1.content/blobs",
    "io.containerd.snapshotter.v1.overlayfs/snapshots",
)
_DATABASES = (
    "io.containerd.metadata.v1.bolt/meta.db",
    "io.containerd.snapshotter.v1.overlayfs/metadata.db",
)
_SHELF, _ROOT = "stock", "root"
_PATIENCE, _PAUSE = 30.0, 0.05
# It runs no container, so it may do without all that needs the machine.
_DISABLED = "io.containerd.grpc.v1.cri"


def keep(shop: Workshop, images: Mapping[str, Image]) -> None:
    """Have a stock of these images; from the one before it takes what has not changed.

    Raises:
        LabError: if containerd fails.
    """
    key = digest(sorted((name, item.manifest.digest) for name, item in images.items()))
    wanted = shop.made(f"{_SHELF}/{key}", lambda path: _unpack(shop, images, path))
    for other in _stocks(shop):
        if other != wanted:
            shutil.rmtree(other)


def _unpack(shop: Workshop, images: Mapping[str, Image], folder: Path) -> None:
    shop.report("unpacking images, once for all nodes")
    folder.mkdir()
    _fill(shop, folder / _ROOT)
    with containerd(folder) as socket:
        import_all(images, [socket], lambda _: None)


def lay(root: Path) -> bool:
    """Fill the root folder of a containerd that is yet to start; whether there was a stock.

    Of older images it is as good: what has changed since is imported later. While images are being
    built, this waits for them.
    """
    shop = Workshop(cache_folder() / "images", lambda _: None)
    with shop.alone():
        return not root.exists() and _fill(shop, root)


def _fill(shop: Workshop, root: Path) -> bool:
    stock = next(iter(_stocks(shop)), None)
    if stock is None:
        return False
    for path in _KEPT:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        _link(stock / _ROOT / path, root / path)
    for path in _DATABASES:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(stock / _ROOT / path, root / path)
    return True


def _link(source: Path, target: Path) -> None:
    """By hard links, or where they can't be, on another disk, in full."""
    copy = ["cp", "--archive", str(source), str(target)]
    try:
        must([*copy, "--link"], "links are refused")
    except LabError:
        shutil.rmtree(target, ignore_errors=True)
        must(copy, f"{target} can't be filled")


@contextmanager
def containerd(folder: Path) -> Iterator[Path]:
    """A containerd for images alone, whose root is in a folder; its socket."""
    log, socket = folder / "log", folder / "socket"
    (folder / "containerd.toml").write_text(_configuration(folder))
    with (
        log.open("wb") as output,
        subprocess.Popen(
            # It ends with this process, however that ends.
            ["setpriv", "--pdeathsig", "KILL", "containerd", "--config=containerd.toml"],  # noqa: S607
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as child,
    ):
        try:
            _await(socket, child, log)
            yield socket
        finally:
            child.send_signal(signal.SIGTERM)


def _await(socket: Path, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not socket.exists():
        if child.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"containerd does not come up{last_lines(log)}")
        time.sleep(_PAUSE)


def _configuration(folder: Path) -> str:
    lines = (
        "version = 2",
        f'root = "{folder / _ROOT}"',
        f'state = "{folder / "state"}"',
        f'disabled_plugins = ["{_DISABLED}"]',
        "[grpc]",
        # From the folder that it is started in: the path to a socket may not be long.
        'address = "socket"',
    )
    return "\n".join((*lines, ""))


def _stocks(shop: Workshop) -> list[Path]:
    """The newest first."""
    found = [path for path in shop.folder.glob(f"{_SHELF}/*") if path.suffix != ".new"]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
