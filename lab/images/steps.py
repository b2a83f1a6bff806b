"""Does the steps of a Dockerfile in folders, each laid over those before it, each done once.

A step is known by what it says, by what it copies and by the steps before it. What ``apt-get``
would install is in the base already; wheels are fetched beforehand, by the machine's own pip, so
that no step needs a network.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.cluster.model import LabError
from lab.images.archive import Blob
from lab.images.dockerfile import CHECKOUT, Copy, Stage
from lab.images.layers import Workshop, digest

_APT = "apt-get "
# Empty in every Debian; what is mounted there is nobody else's.
_WHEELS = "/mnt"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UPPER = "upper"
# By GNU tar: root's, in order and of no time, so that the same files are the same layer.
_TAR = ("tar", "--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner")


@dataclass(frozen=True, slots=True)
class Step:
    """What one step changed: the upper folder of an overlay, under the step's key."""

    key: str
    folder: Path


Steps = tuple[Step, ...]


def done(
    shop: Workshop, stage: Stage, below: Steps, named: Mapping[str, Steps], wheels: Path | None
) -> Steps:
    """All steps up to the end of a stage.

    ``below`` are those of its base, ``named`` those of the stages that it copies from, and
    ``wheels`` is a folder from which ``pip`` installs, if it does.

    Raises:
        LabError: if a command fails.
    """
    steps = below
    for step in stage.steps:
        if isinstance(step, Copy):
            steps = (*steps, _copied(shop, step, named))
        elif not step.startswith(_APT):
            steps = (*steps, _commanded(shop, step, stage.environment, steps, wheels))
    return steps


def placed(shop: Workshop, program: Path, target: str) -> Step:
    """A program of this machine, whose name has its version, at a place in the root folder."""

    def place(upper: Path) -> None:
        path = _below(upper, target)
        path.parent.mkdir(parents=True)
        shutil.copy(program, path)

    return _step(shop, digest("placed", program.name, target), place)


def blob(shop: Workshop, name: str, step: Step) -> Blob:
    """The layer that a step is."""
    return shop.layer(name, step.key, lambda tar: _pack(step.folder, tar))


def contents(path: Path) -> str:
    """The key of a file or tree, without what Python compiled there."""
    seen = hashlib.sha256()
    for file in sorted(_files(path)):
        seen.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
        seen.update(file.read_bytes())
    return seen.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(folder, name) for name in names)


def _copied(shop: Workshop, copy: Copy, named: Mapping[str, Steps]) -> Step:
    if copy.stage:
        source = _touching(named[copy.stage], copy.source)
        key = digest("from", copy.source, copy.target, [step.key for step in source])
        return _step(shop, key, lambda upper: _copy_from(source, copy, upper))
    key = digest("copy", copy.target, contents(CHECKOUT / copy.source))
    return _step(shop, key, lambda upper: _copy_in(copy, upper))


def _touching(steps: Steps, path: str) -> Steps:
    """The steps on which alone it depends what is below a path."""
    return tuple(step for step in steps if os.path.lexists(_below(step.folder, path)))


def _commanded(
    shop: Workshop, command: str, environment: Mapping[str, str], steps: Steps, wheels: Path | None
) -> Step:
    key = digest("run", command, dict(environment), [step.key for step in steps])
    return _step(shop, key, lambda upper: _command(command, environment, steps, wheels, upper))


def _step(shop: Workshop, key: str, make: Callable[[Path], None]) -> Step:
    def make_in(unfinished: Path) -> None:
        (unfinished / _UPPER).mkdir(parents=True)
        make(unfinished / _UPPER)

    return Step(key, shop.made(f"steps/{key}", make_in) / _UPPER)


def _copy_in(copy: Copy, upper: Path) -> None:
    source, target = CHECKOUT / copy.source, _below(upper, copy.target)
    if copy.target.endswith("/") and source.is_file():
        target = target / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copyfile(source, target)
        return
    for file in _files(source):
        (placed := target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, placed)


def _copy_from(source: Steps, copy: Copy, upper: Path) -> None:
    target = _below(upper, copy.target)
    (root := upper.with_name("root")).mkdir()
    target.mkdir(parents=True)
    files = shlex.join(["cp", "--archive", f"{_below(root, copy.source)}/.", str(target)])
    must(_alone(f"{_mounted(root, source)} && {files}"), f"{copy.source} can't be copied")


def _command(
    command: str, environment: Mapping[str, str], steps: Steps, wheels: Path | None, upper: Path
) -> None:
    """Run a command in the root folder that the steps are, seeing what changes."""
    given = {"PATH": PATH, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": _WHEELS, **environment}
    settings = " ".join(shlex.quote(f"{name}={value}") for name, value in given.items())
    (root := upper.with_name("root")).mkdir()
    mounts = [
        _mounted(root, steps, upper),
        *([shlex.join(["mount", "--bind", str(wheels), f"{root}{_WHEELS}"])] if wheels else []),
        shlex.join(["mount", "--rbind", "/dev", f"{root}/dev"]),
        shlex.join(["mount", "-t", "proc", "proc", f"{root}/proc"]),
    ]
    inside = f"chroot {shlex.quote(str(root))} env -i {settings} sh -c {shlex.quote(command)}"
    must(_alone(" && ".join((*mounts, inside))), f"{command} fails")


def _mounted(root: Path, steps: Steps, upper: Path | None = None) -> str:
    """The command that lays steps over one another at ``root``, the last one on top."""
    # The root itself, empty, since an overlay that nobody writes to must be of two at least.
    options = [f"lowerdir={':'.join(map(str, [*(step.folder for step in reversed(steps)), root]))}"]
    if upper:
        (work := upper.with_name("work")).mkdir()
        options += [f"upperdir={upper}", f"workdir={work}"]
    return shlex.join(["mount", "-t", "overlay", "overlay", "-o", ",".join(options), str(root)])


def _alone(script: str) -> list[str]:
    """A script in a mount namespace of its own: its mounts end with it."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script]


def _below(folder: Path, path: str) -> Path:
    return folder / path.strip("/")


def _pack(folder: Path, tar: Path) -> None:
    if any(path.is_char_device() for path in folder.rglob("*")):
        raise LabError(f"{folder} removes files of the image below it, which is not written yet")
    must([*_TAR, "--file", str(tar), "--directory", str(folder), "."], "no layer can be made")


def must(command: list[str], trouble: str) -> None:
    """Run a command.

    Raises:
        LabError: ``trouble`` and what the command said, if it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        raise LabError(f"{trouble}: {done.stderr.strip() or done.stdout.strip()}")
