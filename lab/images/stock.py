"""A containerd's folder with all images unpacked, of which every node begins with a copy.

Unpacking takes seconds of each node; a copy by hard links takes none, nor any disk, and programs
are in memory once for all nodes. That is safe: nothing ever writes to a blob or to a layer below a
container (overlayfs copies first), and containerd's own databases are copied in full.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lab.cluster.model import LabError
from lab.images.archive import Image
from lab.images.importing import import_all
from lab.images.layers import digest
from lab.images.steps import must
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
_PATIENCE, _PAUSE = 30.0, 0.05
# It runs no container, so it may do without all that needs the machine.
_DISABLED = "io.containerd.grpc.v1.cri"


def keep(images: Mapping[str, Image], report: Callable[[str], None]) -> None:
    """Have a stock of these images; from the one before it takes what has not changed.

    Raises:
        LabError: if containerd is missing or fails.
    """
    shelf = _shelf()
    folder = shelf / digest(sorted((name, item.manifest.digest) for name, item in images.items()))
    if folder.exists():
        return
    shelf.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shelf, prefix="new-") as unfinished:
        root = Path(unfinished, "root")
        lay(root)
        with _containerd(root, Path(unfinished)) as socket:
            import_all(images, [socket], lambda _: None)
        root.rename(folder)
    for older in _stocks(shelf):
        if older != folder:
            shutil.rmtree(older)
    report("images are unpacked, once for all nodes")


def lay(root: Path) -> bool:
    """Fill the root folder of a containerd that is yet to start; whether there was a stock.

    Of older images it is as good: what has changed since is imported later.
    """
    stock = next(iter(_stocks(_shelf())), None)
    if stock is None or root.exists():
        return False
    for path in _KEPT:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        _link(stock / path, root / path)
    for path in _DATABASES:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(stock / path, root / path)
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
def _containerd(root: Path, folder: Path) -> Iterator[Path]:
    """A containerd for images alone; its socket."""
    program = shutil.which("containerd")
    if program is None:
        raise LabError("containerd is missing: apt-get install containerd")
    socket, configuration, log = folder / "socket", folder / "containerd.toml", folder / "log"
    configuration.write_text(_configuration(root, folder / "state", socket.name))
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603 - ours
            [program, f"--config={configuration.name}"],
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
            raise LabError(f"containerd does not come up: {log.read_text()[-2000:]}")
        time.sleep(_PAUSE)


def _configuration(root: Path, state: Path, socket: str) -> str:
    return "\n".join(
        (
            "version = 2",
            f'root = "{root}"',
            f'state = "{state}"',
            f'disabled_plugins = ["{_DISABLED}"]',
            "[grpc]",
            f'address = "{socket}"',
            "",
        )
    )


def _shelf() -> Path:
    return cache_folder() / "images" / "stock"


def _stocks(shelf: Path) -> list[Path]:
    """The newest first; what begins with ``new-`` is unfinished."""
    if not shelf.exists():
        return []
    found = [path for path in shelf.iterdir() if not path.name.startswith("new-")]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
