"""Undoes what an attack made or took away, in reverse, also after the program was killed.

Each step is written to a file before it is needed. A program that finds such a file undoes what it
says first: only the attack's own objects, and what it replaced, as it was.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lab.attack.model import Json
from lab.cluster.client import MERGE, Client
from lab.cluster.model import LabError
from lab.mesh.folders import write_private
from lab.mesh.processes import Identity, is_alive

DELETE, APPLY, MERGED, NFT = "delete", "apply", "merge", "nft"
_SERVERS_OWN = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation")

_GONE_WITHIN = 120.0

Apis = Callable[[str], Client]


class Undo:
    """The steps that are still to be undone, newest last, in a file."""

    def __init__(self, path: Path, apis: Apis) -> None:
        """``apis`` gives the client of a cluster by name."""
        self._path = path
        self._apis = apis
        self._steps: list[Json] = _read(path)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to undo."""
        return not self._steps

    def delete(self, cluster: str, path: str) -> Json:
        """An object is to be deleted."""
        return self._add({"do": DELETE, "cluster": cluster, "path": path})

    def apply(self, cluster: str, path: str, stored: Json, clear: Json | None = None) -> Json:
        """An object is to be as it was stored, and to belong to whom it belonged.

        ``clear`` is a merge patch that takes out what was added to it.
        """
        step = {"do": APPLY, "cluster": cluster, "path": path, "clear": clear}
        return self._add(step | {"manager": manager_of(stored), "manifest": manifest_of(stored)})

    def merge(self, cluster: str, path: str, patch: Json) -> Json:
        """An object is to be patched back."""
        return self._add({"do": MERGED, "cluster": cluster, "path": path, "patch": patch})

    def nft(self, process: Identity, text: str) -> Json:
        """Rules are to be in force again in the network of a process, if that still runs."""
        known = {"pid": process.pid, "started": process.started, "boot": process.boot}
        return self._add({"do": NFT, "process": known, "text": text})

    def done(self, step: Json) -> None:
        """Undo a step, and forget it.

        Raises:
            LabError: if it can't be undone; it stays in the file.
        """
        self._undo(step)
        self._steps = [kept for kept in self._steps if kept is not step]
        self._write()

    def all(self) -> None:
        """Undo all steps, newest first; one that fails does not keep the others.

        Raises:
            LabError: if some can't be undone; they stay in the file.
        """
        problems: list[str] = []
        for step in reversed(self._steps):
            try:
                self.done(step)
            except (LabError, OSError) as error:
                problems.append(str(error))
        if problems:
            raise LabError(f"not all could be undone; try again: {'; '.join(problems)}")

    def _add(self, step: Json) -> Json:
        self._steps.append(step)
        self._write()
        return step

    def _write(self) -> None:
        if self._steps:
            fresh = self._path.with_suffix(".new")
            write_private(fresh, json.dumps(self._steps).encode())
            fresh.rename(self._path)
        else:
            self._path.unlink(missing_ok=True)

    def _undo(self, step: Json) -> None:
        match step["do"]:
            case "delete":
                _delete(self._apis(step["cluster"]), step["path"])
            case "apply":
                _restore(self._apis(step["cluster"]), step)
            case "merge":
                _patch(self._apis(step["cluster"]), step["path"], step["patch"])
            case "nft":
                process = Identity(**step["process"])
                if is_alive(process):
                    nft(process.pid, step["text"])


def _delete(api: Client, path: str) -> None:
    api.delete(f"{path}?gracePeriodSeconds=0")
    # A namespace takes its time.
    api.wait(path, lambda found: found is None, _GONE_WITHIN)


def _restore(api: Client, step: Json) -> None:
    path = step["path"]
    if step["clear"] is not None:
        _patch(api, path, step["clear"])
    api.apply(path, step["manifest"], step["manager"])


def _patch(api: Client, path: str, patch: Json) -> None:
    answer = api.request("PATCH", path, patch, content_type=MERGE)
    if not answer.ok:
        raise LabError(f"{path} can't be changed back: {answer.message}")


@contextmanager
def undoing(path: Path, apis: Apis) -> Iterator[Undo]:
    """What an earlier attack left is undone at once, all of this one when the block ends."""
    undo = Undo(path, apis)
    undo.all()
    try:
        yield undo
    finally:
        undo.all()


@contextmanager
def undone(undo: Undo, step: Json) -> Iterator[None]:
    """A step that is undone when the block ends."""
    try:
        yield
    finally:
        undo.done(step)


def nft(pid: int, text: str) -> None:
    """Change rules in the network of a process.

    Raises:
        LabError: if it refuses.
    """
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "--", "nft", "-f", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise LabError(f"nft refuses in the network of process {pid}: {done.stderr.strip()}")


def manifest_of(stored: Json) -> Json:
    """An object as somebody would apply it, from what the API server has."""
    metadata = {key: value for key, value in stored["metadata"].items() if key not in _SERVERS_OWN}
    rest = {key: value for key, value in stored.items() if key not in ("status", "metadata")}
    return {**rest, "metadata": metadata}


def manager_of(stored: Mapping[str, Any]) -> str:
    """Who applied an object: whose it is to stay."""
    fields = stored["metadata"].get("managedFields") or ()
    applied = (entry["manager"] for entry in fields if entry.get("operation") == "Apply")
    return str(next(applied, "lab"))


def _read(path: Path) -> list[Json]:
    """The steps of an earlier attack.

    Raises:
        LabError: if the file is something else.
    """
    with suppress(FileNotFoundError):
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            raise LabError(f"{path} is not what an attack left ({error})") from None
        return list(found)
    return []
