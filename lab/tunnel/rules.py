"""Rules of nftables in the router of a cluster, while a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.cluster.network import entered, run

_TABLE = "zt_lab_tunnel"


@contextmanager
def ruled(router: str, rules: str) -> Iterator[None]:
    """Chains of a table of their own; ``router`` is a network namespace.

    Raises:
        LabError: if they can't be put there.
    """
    run(entered(router, ("nft", f"table inet {_TABLE} {{\n{rules}\n}}")))
    try:
        yield
    finally:
        run(entered(router, ("nft", "delete", "table", "inet", _TABLE)))


def dropping(*matches: str) -> str:
    """A chain that drops what passes and matches any of these."""
    drop = "\n".join(f"{match} drop" for match in matches)
    return f"chain f {{\ntype filter hook forward priority filter - 5\n{drop}\n}}"
