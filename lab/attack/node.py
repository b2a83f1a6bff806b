"""Attacks by node: from an application to what its sidecar has, and to SPIRE's agent."""

from __future__ import annotations

from collections.abc import Iterator

from lab.attack.model import Action, Attack, Attempt, Family, Layer, Run, Steal, Stop
from lab.attack.scene import BURGLAR, OUTSIDE, Scene
from zt.wellknown import AGENT_SOCKET, SIDECAR_CONFIGURATION, SIDECAR_RUN

_KERNEL = (Stop(None, frozenset({Layer.KERNEL})),)
_ATTESTATION = (Stop(None, frozenset({Layer.ATTESTATION})),)

# Each prints JSON; ``got_in`` is the last word of a script that could do what it should not.
_FRAME = """\
import errno, json, os, socket
def told(got_in, said):
    print(json.dumps({"got_in": got_in, "how": "kernel", "said": said}))
def tried(attempt):
    try:
        told(True, str(attempt()))
    except OSError as error:
        told(False, errno.errorcode.get(error.errno, str(error)))
"""
_CONNECT = """\
def attempt():
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(PATH)
    return "connected to " + PATH
tried(attempt)
"""
_READ = """\
def attempt():
    return os.listdir(PATH)
tried(attempt)
"""
# Other processes of the pod would lead into the sidecar's file system.
_NEIGHBOURS = """\
def attempt():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found += [p for p in PATHS if os.path.exists("/proc/%s/root%s" % (pid, p))]
        except PermissionError:
            pass
    if not found:
        raise FileNotFoundError(errno.ENOENT, "no process leads there")
    return found
tried(attempt)
"""


def node(scene: Scene) -> Iterator[Attempt]:
    """All attacks by node, from a pod of each service that can be dialled from."""
    admin = f"{SIDECAR_RUN}/admin.sock"
    for service in scene.services:
        pod = scene.places[service.name].pod
        for name, script in (
            ("the application to SPIRE's socket", _at(AGENT_SOCKET) + _CONNECT),
            ("the application to Envoy's admin socket", _at(admin) + _CONNECT),
            ("the application to the sidecar's configuration", _at(SIDECAR_CONFIGURATION) + _READ),
            (
                "the application to either through /proc",
                f"PATHS = {[AGENT_SOCKET, admin]!r}\n" + _NEIGHBOURS,
            ),
        ):
            yield _attempt(name, service.name, Run(pod, _FRAME + script), _KERNEL)
    burglar = f"{OUTSIDE}/{BURGLAR}"
    yield _attempt(
        "a pod outside the mesh that mounts SPIRE's socket",
        "agent",
        Steal(burglar, AGENT_SOCKET),
        _ATTESTATION,
    )


def _at(path: str) -> str:
    return f"PATH = {path!r}\n"


def _attempt(name: str, target: str, action: Action, defence: tuple[Stop, ...]) -> Attempt:
    return Attempt(Attack(name, Family.NODE, defence), target, action)
