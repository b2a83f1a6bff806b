"""A folder that plays the file system of a database's pod, where its own commands run."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from lab.mesh.database import _programs

Json = dict[str, Any]
# Reaches `sh` and what it calls alone.
_SYSTEM = "/usr/bin:/bin"


@dataclass(frozen=True)
class Machine:
    """The pod, the folder, and the user that plays the pod's."""

    pod: Json
    root: Path
    programs: Path
    user: int | None
    port: int

    def run(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
        with self.log.open("a") as log:
            return subprocess.Popen(
                [self.inside(part) for part in command],
                cwd="/",
                env={"PATH": f"{self.programs}:{_SYSTEM}", "LC_ALL": "C", **env},
                user=self.user,
                group=self.user,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )

    @property
    def log(self) -> Path:
        return self.root / "log"

    def inside(self, text: str) -> str:
        for folder in ("/var/lib/zt", "/run/zt"):
            text = text.replace(folder, f"{self.root}{folder}")
        return text

    def container(self, name: str) -> Json:
        (found,) = (
            item
            for item in (*self.pod["initContainers"], *self.pod["containers"])
            if item["name"] == name
        )
        return dict(found)

    def words(self, words: Mapping[str, str]) -> None:
        """The Secret."""
        folder = self.root / "run/zt/passwords"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for key, word in words.items():
            (folder / key).write_text(word)

    def prepare(self, before: str = "") -> None:
        """Run its commands; ``before`` are further ones, of the same process."""
        container = self.container("prepare")
        env = {item["name"]: item["value"] for item in container["env"]}
        # As Kubernetes does, in whose commands $(NAME) is a variable.
        command = [part.replace("$$", "$") for part in container["command"]]
        program = self.run(["sh", "-ec", f'{before}\nexec "$@"', "", *command], env)
        assert program.wait() == 0, self.log.read_text()

    @contextmanager
    def serving(self) -> Iterator[None]:
        container = self.container("postgres")
        command = [*container["command"], "-c", f"port={self.port}"]
        program = self.run(command, {})
        ready = container["readinessProbe"]["exec"]["command"]
        try:
            while self.run([*ready, f"--port={self.port}"], {}).wait():
                assert program.poll() is None, self.log.read_text()
            yield
        finally:
            stop = container["lifecycle"]["preStop"]["exec"]["command"]
            self.run(stop, {}).wait()
            program.wait()

    def ask(self, user: str, word: str, query: str, database: str = "spire") -> object:
        with psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=user, password=word
        ) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else None


@contextmanager
def machine_of(pod: Json) -> Iterator[Machine]:
    """The pod of a database."""
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    root = Path(tempfile.mkdtemp(prefix="zt-pod-"))
    try:
        (root / "var/lib/zt").mkdir(parents=True)
        if user is not None:
            root.chmod(0o755)
            os.chown(root / "var/lib/zt", user, user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        yield Machine(pod, root, _programs(root, user), user, port)
    finally:
        shutil.rmtree(root)
