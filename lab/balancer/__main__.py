"""``python -m lab.balancer``: forwards what comes to a cluster's address, until SIGTERM."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from lab.balancer.balancer import Balancer, run
from lab.cluster.client import client
from lab.commands import one_sentence


@click.command()
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Of one who may read services, slices and nodes, and write the status of services.",
)
@click.option("--address", required=True, help="Where the cluster is seen from outside.")
@one_sentence
def main(kubeconfig: Path, address: str) -> None:
    """Be the load balancer of a cluster, in the network namespace of its router."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run(Balancer(client(kubeconfig), address))


if __name__ == "__main__":
    main()
