"""What the image of the services holds, and how its programs are started."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from zt.model import Port

_ROOT = Path(__file__).parents[2]
# Where the image has the files, each at its path in this checkout.
FOLDER = "/opt/service"
FILES = tuple(
    f"lab/{name}.py"
    for name in (
        "__init__",
        "services/__init__",
        "services/application",
        "services/caller",
        "services/dialing",
        "services/steady",
    )
)
# In the order in which they import each other.
_CARRIED = tuple(f"services/{name}" for name in ("__init__", "dialing", "steady", "caller"))
_BARE = ("/usr/bin/env", "python3", "-I", "-S")
_CARRY = """
import sys, types
for name, text in {modules!r}.items():
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = []
    exec(compile(text, name, "exec"), module.__dict__)
sys.exit(sys.modules["lab.services.caller"].main([]))
"""
_PYTHON = ("/usr/bin/env", f"PYTHONPATH={FOLDER}", "/usr/bin/python3", "-S", "-m")


def sources() -> dict[str, bytes]:
    """The files of the image, by path below ``FOLDER``."""
    return {name: (_ROOT / name).read_bytes() for name in FILES}


def application(service: str, ports: Iterable[Port]) -> list[str]:
    """The command of a service's container."""
    listened = [f"{port.port}:{port.protocol}" for port in ports]
    return [*_PYTHON, "lab.services.application", service, *listened]


def caller() -> list[str]:
    """The command of the dialer, to be run in such a container: JSON lines in, JSON lines out."""
    return [*_PYTHON, "lab.services.caller"]


def carried() -> list[str]:
    """The same for any container that has Python: the command brings the program with it."""
    return [*_BARE, "-c", _text()]


def here() -> list[str]:
    """The same for this machine."""
    return [sys.executable, "-I", "-S", "-c", _text()]


def _text() -> str:
    names = [f"lab.{name.replace('/', '.').removesuffix('.__init__')}" for name in _CARRIED]
    texts = [(_ROOT / "lab" / f"{name}.py").read_text(encoding="utf-8") for name in _CARRIED]
    modules = {"lab": "", **dict(zip(names, texts, strict=True))}
    return _CARRY.format(modules=modules)


def job(host: str, port: int) -> list[str]:
    """The command of a Job: ends well once a server at that place answers a line."""
    return [*_PYTHON, "lab.services.caller", "--until-answered", f"{host}:{port}"]
