"""Finds a program, and builds it first where this machine has not got it yet.

A ``go.mod`` pins every version. What is built lies in the user's cache folder, outside the
checkout, under its version: a new version in ``go.mod`` is a new file there.

Kubernetes, CoreDNS, Pulumi, SPIRE and cyclonus have a module each, so that every one is built from
the versions that its authors chose: in one module the newest that anybody asks for would win for
all, and Kubernetes is tied to its own ``k8s.io`` modules by ``replace``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Program:
    """A program in Go: the module in whose folder it is built, and its package.

    Ours are packages by their folder (``./load``). ``stamps`` are variables that the linker sets,
    where ``{version}``, ``{major}`` and ``{minor}`` stand for the version that is pinned.
    """

    module: str
    package: str
    stamps: tuple[str, ...] = ()


_KUBERNETES_STAMPS = (
    "k8s.io/component-base/version.gitVersion={version}",
    "k8s.io/component-base/version.gitMajor={major}",
    "k8s.io/component-base/version.gitMinor={minor}",
)
_SPIRE_STAMPS = ("github.com/spiffe/spire/pkg/common/version.gittag={major}.{minor}.{patch}",)

PROGRAMS: Mapping[str, Program] = {
    "opa": Program(".", "github.com/open-policy-agent/opa"),
    "opa-library": Program(".", "./opalibrary"),
    "load": Program(".", "./load"),
    "pause": Program(".", "./pause"),
    "pulumi": Program(
        "pulumi",
        "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
        ("github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={version}",),
    ),
    "kube-apiserver": Program(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", _KUBERNETES_STAMPS
    ),
    "etcd": Program("kubernetes", "go.etcd.io/etcd/server/v3"),
    "kube-controller-manager": Program(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", _KUBERNETES_STAMPS
    ),
    "kube-scheduler": Program(
        "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", _KUBERNETES_STAMPS
    ),
    "kubelet": Program("kubernetes", "k8s.io/kubernetes/cmd/kubelet", _KUBERNETES_STAMPS),
    "kube-proxy": Program("kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", _KUBERNETES_STAMPS),
    "coredns": Program("coredns", "github.com/coredns/coredns"),
    "spire-server": Program("spire", "github.com/spiffe/spire/cmd/spire-server", _SPIRE_STAMPS),
    "spire-agent": Program("spire", "github.com/spiffe/spire/cmd/spire-agent", _SPIRE_STAMPS),
    "spire-controller-manager": Program("spire", "github.com/spiffe/spire-controller-manager/cmd"),
    "vault": Program("vault", "github.com/hashicorp/vault"),
    "wireguard-go": Program("../../gateway/wireguard-go", "golang.zx2c4.com/wireguard"),
    "cyclonus": Program("cyclonus", "github.com/mattfenwick/cyclonus/cmd/cyclonus"),
}


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
    path = _cached(name)
    if _is_program(path):
        return path
    go = shutil.which("go")
    if go is None:
        return _installed(name)
    program = PROGRAMS[name]
    _say(f"building {path.name} into {path.parent}, once; it takes minutes")
    started = time.monotonic()
    _build([go, *_arguments(program, _version(program))], program, path)
    _say(f"built {path.name} in {time.monotonic() - started:.0f} s")
    return path


def obtainable(name: str) -> bool:
    """Whether the program is there, or can be built."""
    return _is_program(_cached(name)) or any(map(shutil.which, ("go", name)))


def _is_program(path: Path) -> bool:
    """Whether it is there for us: in a folder of somebody else's it is not."""
    return os.access(path, os.X_OK)


def _cached(name: str) -> Path:
    return cache_folder() / "tools" / f"{name}-{_version(PROGRAMS[name])}"


def _version(program: Program) -> str:
    """The version that ``go.mod`` pins; of our own programs, a digest of all that they are."""
    module, package = _HERE / program.module, program.package
    if package.startswith("./"):
        files = (module / "go.mod", *sorted((module / package).glob("*.go")))
        return hashlib.sha256(b"".join(map(Path.read_bytes, files))).hexdigest()[:_DIGITS]
    return _pinned(module / "go.mod", package)


def _pinned(module: Path, package: str) -> str:
    """The version of the module that a package is in: the longest that it starts with."""
    words = (line.split() for line in module.read_text().splitlines())
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


def _arguments(program: Program, version: str) -> list[str]:
    """Arguments of ``go`` up to the file to write."""
    numbers = dict(zip(("major", "minor", "patch"), version[1:].split("."), strict=False))
    stamps = [stamp.format(version=version, **numbers) for stamp in program.stamps]
    linking = " ".join(("-s", "-w", *(f"-X {stamp}" for stamp in stamps)))
    return ["build", "-trimpath", "-buildvcs=false", f"-ldflags={linking}"]


def _build(command: list[str], program: Program, path: Path) -> None:
    """Build under another name first: several builds at once, or half of one, do no harm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    done = subprocess.run(  # noqa: S603 - ours
        ["nice", *command, "-o", unfinished, program.package],  # noqa: S607 - any `nice` will do
        cwd=_HERE / program.module,
        # Without C the program needs nothing of the machine that runs it, and no compiler here.
        env={**os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ToolError(f"{program.package} cannot be built: {done.stderr.strip()}")
    unfinished.rename(path)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
