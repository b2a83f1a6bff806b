"""``python -m lab.enforcer``: enforces the NetworkPolicies of a cluster where it is started.

It is started in the network namespace that a node's pods are behind, one for each node; there each
packet of its pods is judged, from both sides.
"""

from __future__ import annotations

import logging
import signal
import threading
from ipaddress import ip_network
from pathlib import Path
from typing import NoReturn

import click

from lab.cluster.client import client
from lab.commands import one_sentence
from lab.enforcer import kernel
from lab.enforcer.enforce import Enforcer, run
from lab.enforcer.rules import Network
from lab.enforcer.watch import watched

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--kubeconfig", type=_FILE, required=True, help="Of one who may read the cluster.")
@click.option(
    "--pods",
    "networks",
    multiple=True,
    required=True,
    help="Network of pods, of all nodes; an address in it that no pod is known by is refused.",
)
@click.option("--ready", type=_FILE, help="A file to make once all policies are enforced.")
@click.option("--remove", is_flag=True, help="Enforce nothing any longer when ended.")
@one_sentence
def main(kubeconfig: Path, networks: tuple[str, ...], ready: Path | None, remove: bool) -> None:  # noqa: FBT001 - click's
    """Enforce the NetworkPolicies of a cluster in this network namespace, until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    enforcer, changed = Enforcer(tuple(map(_network, networks)), ready), threading.Event()
    try:
        enforcer.isolate()
        run(enforcer, watched(client(kubeconfig), changed.set).cluster, changed)
    finally:
        if remove:
            kernel.remove()


def _end(*_: object) -> NoReturn:
    """Unlike an event that a handler sets, this can't wait for a lock that is held here."""
    raise SystemExit(0)


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--pods") from None


if __name__ == "__main__":
    main()
