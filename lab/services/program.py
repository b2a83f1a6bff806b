"""What the image of the services holds, and how its programs are started."""

from __future__ import annotations

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


def job(host: str, port: int) -> list[str]:
    """The command of a Job: ends well once a server at that place answers a line."""
    return [*_PYTHON, "lab.services.caller", "--until-answered", f"{host}:{port}"]
