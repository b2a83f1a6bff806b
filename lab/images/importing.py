"""Brings images into the containerd of each node."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.cluster.model import LabError
from lab.images.archive import Image, write_archive

# Where the kubelet looks for images.
_NAMESPACE = "k8s.io"
_MEGABYTE = 1e6
_BEFORE = "-before"
_FEWEST_COLUMNS = 3


def import_all(
    images: Mapping[str, Image], sockets: Sequence[Path], report: Callable[[str], None]
) -> None:
    """Import images into the containerds behind some sockets, several at once.

    An image that is there under its name and digest is not imported again, nor is any layer.

    Raises:
        LabError: if an import fails.
    """
    with ThreadPoolExecutor(max(1, len(sockets))) as pool:
        for line in pool.map(lambda socket: _import(tuple(images.values()), socket), sockets):
            report(line)


def present(socket: Path) -> Mapping[str, str]:
    """The images that a containerd has: name and digest."""
    lines = (line.split() for line in answer(socket, "images", "ls").splitlines()[1:])
    return {words[0]: words[2] for words in lines if len(words) >= _FEWEST_COLUMNS}


def _import(images: tuple[Image, ...], socket: Path) -> str:
    started, there = time.monotonic(), present(socket)
    lacking = [item for item in images if there.get(item.name) != item.manifest.digest]
    if not lacking:
        return f"{socket}: all {len(images)} images are there"
    with _kept([item.name for item in lacking if item.name in there], socket):
        without = _held(socket)
        _pipe(lacking, socket, without)
    size = sum(
        {b.digest: b.size for i in lacking for b in i.blobs if b.digest not in without}.values()
    )
    spent = time.monotonic() - started
    return f"{socket}: {len(lacking)} images, {size / _MEGABYTE:.0f} MB, in {spent:.1f} s"


@contextmanager
def _kept(names: Sequence[str], socket: Path) -> Iterator[None]:
    """Images that are replaced stay under other names meanwhile.

    What the new ones have in common with them would not be held by any image for a moment.
    """
    aliases = [f"{name}{_BEFORE}" for name in names]
    for name, alias in zip(names, aliases, strict=True):
        answer(socket, "images", "tag", "--force", name, alias)
    try:
        yield
    finally:
        if aliases:
            answer(socket, "images", "rm", *aliases)


def _held(socket: Path) -> set[str]:
    """The digests of the blobs of all images that are there.

    Others may lie there too, but containerd throws away what no image refers to, at any time.
    """
    found: set[str] = set()
    for manifest in set(present(socket).values()):
        content = json.loads(answer(socket, "content", "get", manifest))
        parts = (content["config"], *content["layers"])
        found |= {manifest, *(part["digest"] for part in parts)}
    return found


def _pipe(images: Sequence[Image], socket: Path, without: set[str]) -> None:
    with subprocess.Popen(  # noqa: S603 - ours
        ctr(socket, "images", "import", "-"),
        cwd=socket.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None  # noqa: S101 - it is a pipe
        assert child.stderr is not None  # noqa: S101
        # Why it stopped reading is what it says itself.
        with suppress(BrokenPipeError):
            write_archive(images, child.stdin, without)
            child.stdin.close()
        said = child.stderr.read().decode(errors="replace").strip()
    if child.returncode:
        raise LabError(f"images can't be imported into {socket}: {said}")


def answer(socket: Path, *arguments: str) -> str:
    """What ``ctr`` prints.

    Raises:
        LabError: if it fails.
    """
    done = subprocess.run(  # noqa: S603 - ours
        ctr(socket, *arguments), cwd=socket.parent, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LabError(f"containerd at {socket} does not answer: {done.stderr.strip()}")
    return done.stdout


def ctr(socket: Path, *arguments: str) -> list[str]:
    """The command line of ``ctr``, to be run in the folder of a containerd's socket.

    By the whole path it may not be reached: that may not be longer than 107 bytes.
    """
    return ["ctr", "--address", socket.name, "--namespace", _NAMESPACE, *arguments]
