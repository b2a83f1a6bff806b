"""The layer below all images that are more than one program: Debian, as little as will do."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab.images.layers import Workshop, digest
from lab.images.steps import Step, contents, must

SUITE = "bookworm"
_BESIDE = ("ca-certificates", "libstdc++6", "tzdata")
# Links are made before anything is unpacked, so that `usrmerge` is not needed, nor its perl.
_HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
_REFUSED = "Package: usrmerge\\nPin: release *\\nPin-Priority: -1\\n"
_REFUSE = f"--setup-hook=printf '{_REFUSED}' > \"$1/etc/apt/preferences.d/lab\""
_USERS = {"postgres": 999, "spire": 1000, "envoy": 1337, "zt": 65532}
_NOT_UNPACKED = ("doc", "man", "info", "locale", "lintian", "bug", "bash-completion", "zsh")
_REMOVED = (
    *("var/lib/apt", "var/cache/apt", "var/cache/debconf", "var/cache/ldconfig", "var/log"),
    *("usr/lib/x86_64-linux-gnu/gconv", "usr/share/perl5", "etc/apt"),
    *("usr/lib/python3.11/test", "usr/lib/python3.11/lib2to3", "usr/lib/python3.11/pydoc_data"),
    *("var/lib/dpkg/info", "etc/resolv.conf", "etc/hostname"),
)
_PIN = re.compile(r"\b([a-z0-9][a-z0-9+.-]+)=([A-Za-z0-9.+:~-]+)")


def pinned(commands: Iterable[str]) -> tuple[str, ...]:
    """The Debian packages that commands of a Dockerfile install: ``name=version``."""
    return tuple(sorted(set(_pins(commands))))


def _pins(commands: Iterable[str]) -> Iterator[str]:
    for command in commands:
        if "apt-get install" in command:
            yield from ("=".join(found) for found in _PIN.findall(command))


def debian(shop: Workshop, packages: Iterable[str], apart: Iterable[str]) -> tuple[Step, Step]:
    """Debian's root folder with packages (``name=version``), made by the machine's own apt.

    Packages ``apart`` are not installed: they lie unpacked in the second folder.

    Raises:
        LabError: if ``mmdebstrap`` fails.
    """
    inside, outside = (*packages, *_BESIDE), tuple(apart)
    key = digest("debian", inside, outside, contents(Path(__file__)))

    def make(unfinished: Path) -> None:
        shop.report("making Debian for images, once; it takes a minute")
        unfinished.mkdir()
        _bootstrap(unfinished, inside, outside)

    folder = shop.made(f"debian/{key}", make)
    return Step(key, folder / "root"), Step(f"{key}-apart", folder / "apart")


def _bootstrap(folder: Path, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    options = [
        *("mmdebstrap", "--mode=root", "--variant=essential", "--quiet"),
        *(f"--hook-dir={_HOOKS}", _REFUSE),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _NOT_UNPACKED),
        f"--include={' '.join(inside)}",
        f"--customize-hook={_fetching(folder / 'apart', outside)}",
    ]
    # Its mounts end with it, however it ends.
    alone = ["unshare", "--mount", "--propagation", "private"]
    must([*alone, *options, SUITE, str(folder / "root")], "no Debian for images can be made")
    _strip(folder / "root")
    _furnish(folder / "root")


def _fetching(beside: Path, packages: Iterable[str]) -> str:
    """The command that unpacks packages without what they depend on."""
    unpacked = shlex.quote(str(beside))
    return (
        f'cd "$(mktemp --directory)" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && '
        f"apt-get download {' '.join(packages)} && mkdir {unpacked} && "
        f"for each in *.deb; do dpkg-deb --extract $each {unpacked}; done && "
        'rm -r "$PWD"'
    )


def _strip(root: Path) -> None:
    for name in _REMOVED:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for device in (root / "dev").iterdir():
        if not device.is_dir():
            device.unlink()


def _furnish(root: Path) -> None:
    """Users, and the name by which Python's own images have it."""
    (root / "var/log").mkdir()
    with (root / "etc/passwd").open("a") as users, (root / "etc/group").open("a") as groups:
        for name, number in _USERS.items():
            users.write(f"{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n")
            groups.write(f"{name}:x:{number}:\n")
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
