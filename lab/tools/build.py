"""Finds a program, and builds it first where this machine has not got it yet.

``go.mod`` pins every version. What is built lies in the user's cache folder, outside the checkout,
under its version: a new version in ``go.mod`` is a new file there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

_MODULE = Path(__file__).parent
# Programs of others by their package in Go, ours by their folder here.
_PACKAGES = {
    "opa": "github.com/open-policy-agent/opa",
    "opa-library": "./opalibrary",
    "load": "./load",
}
_DIGITS = 12


class ToolError(Exception):
    """A program is neither there nor can be built; the message is a sentence."""


def cache_folder() -> Path:
    """Where what is built or installed once is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hanzo-zt"


def tool(name: str) -> Path:
    """The program of that name.

    Raises:
        ToolError: if it can't be built, nor is one on the PATH.
    """
    package = _PACKAGES[name]
    path = cache_folder() / "tools" / f"{name}-{_version(package)}"
    if path.exists():
        return path
    go = shutil.which("go")
    if go is None:
        return _installed(name)
    _say(f"building {path.name} into {path.parent}, once; it takes minutes")
    _build(go, package, path)
    return path


def _version(package: str) -> str:
    """The version that ``go.mod`` pins; of our own programs, a digest of all that they are."""
    if package.startswith("./"):
        files = (_MODULE / "go.mod", *sorted((_MODULE / package).glob("*.go")))
        return hashlib.sha256(b"".join(map(Path.read_bytes, files))).hexdigest()[:_DIGITS]
    return _pinned(package)


def _pinned(package: str) -> str:
    """The version of the module that a package is in: the longest that it starts with."""
    words = (line.split() for line in (_MODULE / "go.mod").read_text().splitlines())
    pins = {w[0]: w[1] for w in words if len(w) > 1 and w[1].startswith("v")}
    modules = [module for module in pins if f"{package}/".startswith(f"{module}/")]
    if not modules:
        raise ToolError(f"go.mod pins no version of {package}")
    return pins[max(modules, key=len)]


def _installed(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise ToolError(f"{name} is not on the PATH, and there is no Go to build it with")
    _say(f"no Go here: {found} may be of another version than go.mod pins")
    return Path(found)


def _build(go: str, package: str, path: Path) -> None:
    """Build under another name first: several builds at once, or half of one, do no harm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    command = f"nice {go} build -p 1 -trimpath -buildvcs=false -o".split()
    done = subprocess.run(  # noqa: S603 - ours
        [*command, unfinished, package], cwd=_MODULE, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ToolError(f"{package} cannot be built: {done.stderr.strip()}")
    unfinished.rename(path)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
