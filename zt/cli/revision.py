"""Policies as they are at a Git revision, read into memory without a checkout."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from zt.cli.output import Misuse
from zt.load import Loaded, load_texts

_FILES = ("100644", "100755")
_SUFFIXES = (".yaml", ".yml")


def load_revision(name: str) -> Loaded:
    """Read ``REVISION:PATH`` of the repository around the working directory.

    Raises:
        Misuse: if Git does not know it, or is not there.
    """
    if name.startswith("-"):
        raise Misuse(f"{name!r} is not a revision and a path such as main:policies")
    kind = _git("cat-file", "-t", name).decode().strip()
    if kind == "blob":
        return load_texts([(name, _git("cat-file", "blob", name))])
    if kind != "tree":
        raise Misuse(f"{name!r} is a {kind}: name a directory or a file, such as main:policies")
    files = dict(_files(name))
    if not files:
        raise Misuse(f"{name!r} holds no .yaml file")
    return load_texts(zip(files, _blobs(files.values()), strict=True))


def _files(name: str) -> Iterator[tuple[str, str]]:
    """Path and object name of each policy file below a tree."""
    prefix = name if name.endswith(("/", ":")) else f"{name}/"
    listed = _git("ls-tree", "-r", "-z", "--full-tree", name)
    for entry in listed.decode("utf-8", "backslashreplace").split("\0"):
        attributes, _, path = entry.partition("\t")
        if not _is_policy(path):
            continue
        mode, _, blob = attributes.split()
        if mode not in _FILES:
            raise Misuse(f"{prefix}{path} is a link, which can be followed in a checkout only")
        yield f"{prefix}{path}", blob


def _is_policy(path: str) -> bool:
    """Whether ``zt.load`` would read a file below a folder."""
    parts = PurePosixPath(path).parts
    return path.endswith(_SUFFIXES) and not any(part.startswith(".") for part in parts)


def _blobs(names: Iterable[str]) -> Iterator[bytes]:
    """Contents of objects, each after a line with its name, type and size."""
    rest = _git("cat-file", "--batch", given="\n".join(names).encode())
    while rest:
        header, _, rest = rest.partition(b"\n")
        size = int(header.split()[-1])
        yield rest[:size]
        rest = rest[size + 1 :]


def _git(*arguments: str, given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and nothing given is taken for an option
            ["git", *arguments],  # noqa: S607 - whichever Git the user has
            input=given,
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        raise Misuse("to read a revision needs git, which is not on the PATH") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip() or "git failed"
        reason = said.splitlines()[-1].removeprefix("fatal: ")
        raise Misuse(f"{arguments[-1]!r} cannot be read: {reason}") from None
    return done.stdout
