"""Counts what arrives at a pod, before its own redirect: whether a packet came at all."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from lab.attack.undo import nft
from lab.cluster.model import LabError

TABLE = "zt_attack"
# Answers to what the pod itself opened are no arrivals.
_RULES = f"""\
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
  set seen {{
    type ipv4_addr . inet_proto . inet_service
    size 65535
    flags dynamic
    counter
  }}
  chain arrivals {{
    type filter hook prerouting priority filter - 150; policy accept;
    iifname != "lo" ct direction original meta l4proto {{ tcp, udp }} \\
      update @seen {{ ip saddr . meta l4proto . th dport }}
  }}
}}
"""


class Flow(NamedTuple):
    """Packets of one source to one port; ``protocol`` is ``tcp`` or ``udp``."""

    source: str
    protocol: str
    port: int


@contextmanager
def counted(pid: int) -> Iterator[None]:
    """Count in the network of a process, while the block lasts.

    Raises:
        LabError: if nft refuses.
    """
    nft(pid, _RULES)
    try:
        yield
    finally:
        nft(pid, f"table inet {TABLE}\ndelete table inet {TABLE}\n")


def arrivals(pid: int) -> Counter[Flow]:
    """Packets so far.

    Raises:
        LabError: if nobody counts there.
    """
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", "--", "nft", "-j", "list", "set", "inet"]
    done = subprocess.run(  # noqa: S603
        [*command, TABLE, "seen"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"nobody counts in the network of process {pid}: {done.stderr.strip()}")
    return parsed(json.loads(done.stdout))


def parsed(document: dict[str, Any]) -> Counter[Flow]:
    """The set as ``nft -j`` prints it."""
    found: Counter[Flow] = Counter()
    for item in document["nftables"]:
        for entry in item.get("set", {}).get("elem", ()):
            element = entry["elem"]
            source, protocol, port = element["val"]["concat"]
            found[Flow(source, _protocol(protocol), int(port))] += element["counter"]["packets"]
    return found


def _protocol(value: str | int) -> str:
    return {6: "tcp", 17: "udp"}.get(value, str(value)) if isinstance(value, int) else value
