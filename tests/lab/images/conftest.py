"""All images, built or cached, in a containerd that begins as nodes' do."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.images import stock
from lab.images.build import images, missing
from lab.images.importing import ctr, import_all


@dataclass(frozen=True)
class Node:
    """A containerd with all images."""

    socket: Path

    def run(self, image: str, *command: str) -> str:
        """What a program of an image says, in a container of it."""
        name = f"test-{secrets.token_hex(4)}"
        done = subprocess.run(
            ctr(self.socket, "run", "--rm", image, name, *command),
            cwd=self.socket.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    if missing():
        pytest.skip(f"lacks {', '.join(missing())}")
    built, folder = images(lambda _: None), tmp_path_factory.mktemp("node")
    assert stock.lay(folder / "root")
    with stock.containerd(folder) as socket:
        import_all(built, [socket], lambda _: None)
        yield Node(socket)
