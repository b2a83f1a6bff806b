"""The SPIRE servers of a cluster: what they have, and what they are told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from components.spire.names import SERVER
from gateway.ca.ceremony import BUNDLE, CERTIFICATE
from lab.ca.evidence import roots_in
from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.nodes.pods import Pod, entered, pods, process_of
from zt.wellknown import SERVER_SOCKET, SPIRE_NAMESPACE, SPIRE_UPSTREAM

_PROGRAM = "/opt/spire/bin/spire-server"
_PATIENCE = 60.0

# Tells a server one of its own commands, and returns what it answers.
Tell = Callable[..., Any]


def servers(api: Client) -> tuple[Pod, ...]:
    """Their pods.

    Raises:
        LabError: if not all of them are ready, as nobody else is asked what they have.
    """
    found = tuple(pod for pod in pods(api, SPIRE_NAMESPACE) if pod.account == SERVER)
    if not found or not all(pod.ready for pod in found):
        raise LabError(f"not every SPIRE server is ready in {SPIRE_NAMESPACE}")
    return found


def issuing_of(pod: Pod) -> str:
    """The issuing CA that a server would sign below now, PEM.

    Raises:
        LabError: if the server does not run.
        OSError: if it ends meanwhile.
    """
    return (_upstream(pod) / CERTIFICATE).read_text(encoding="ascii")


def roots_of(pod: Pod) -> frozenset[str]:
    """The roots that a server would publish with its next CA, by fingerprint."""
    return roots_in((_upstream(pod) / BUNDLE).read_bytes())


def _upstream(pod: Pod) -> Path:
    return Path(f"/proc/{_process(pod)}/root{SPIRE_UPSTREAM}")


def renew(pod: Pod) -> None:
    """Have a server make a CA below the issuing CA that it has now, and use it from now on.

    Raises:
        LabError: if it can't.
    """
    process = _process(pod)
    renew_by(lambda *words: told(entered(process, command(_PROGRAM, SERVER_SOCKET, *words))))


def renew_by(tell: Tell) -> None:
    """The same of a server that is told as given."""
    prepared = tell("localauthority", "x509", "prepare")
    authority = prepared["prepared_authority"]["authority_id"]
    tell("localauthority", "x509", "activate", f"-authorityID={authority}")


def command(program: str, socket: str, *words: str) -> tuple[str, ...]:
    """One of a server's own commands, as it is given to its program."""
    return program, *words, f"-socketPath={socket}", "-output=json"


def told(words: Sequence[str]) -> Any:  # noqa: ANN401 - any JSON
    """What a server answers to a command.

    Raises:
        LabError: if it refuses.
    """
    done = subprocess.run(  # noqa: S603 - a program of the pod's own
        words, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"a SPIRE server refuses `{' '.join(words)}`: {said}")
    return json.loads(done.stdout)


def _process(pod: Pod) -> int:
    return process_of(pod.containers[SERVER])
