"""Keeps the table as the cluster has it: changes that come together are one replacement."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lab.cluster.model import LabError
from lab.enforcer import kernel
from lab.enforcer.model import Cluster
from lab.enforcer.rules import Network, verdicts
from lab.enforcer.table import text

# Seconds that a change waits for others, and a failure for its next try.
_BATCH, _AGAIN = 0.05, 1.0
_NOTHING = Cluster((), {}, ())

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Enforcer:
    """The table of one network namespace.

    Attributes:
        networks: Where pods have their addresses from; an address that is no known pod's is
            refused everything.
        ready: Written as soon as the whole cluster has been enforced once.
    """

    networks: Sequence[Network]
    ready: Path | None = None
    replace: Callable[[str], None] = kernel.replace
    _text: str = ""

    def isolate(self) -> None:
        """Refuse all pods until they are known, unless a table is left of an enforcer before.

        Raises:
            LabError: if the kernel refuses.
        """
        if not kernel.exists():
            self.replace(text(_NOTHING, verdicts(_NOTHING), self.networks))

    def enforce(self, cluster: Cluster) -> None:
        """Have the table be as the cluster says.

        Raises:
            LabError: if the kernel refuses; the table is then as it was.
        """
        wanted = text(cluster, verdicts(cluster), self.networks)
        if wanted == self._text:
            return
        self.replace(wanted)
        self._text = wanted
        _log.info("%d pods, %d policies", len(cluster.pods), len(cluster.policies))
        if self.ready is not None:
            self.ready.touch()


def run(
    enforcer: Enforcer, cluster: Callable[[], Cluster | None], changed: threading.Event
) -> NoReturn:
    """Enforce what the cluster is, after each change.

    What can't be enforced is said, and tried again; the table stays as it was.
    """
    while True:
        changed.wait()
        time.sleep(_BATCH)
        changed.clear()
        found = cluster()
        if found is not None and not _enforced(enforcer, found):
            changed.set()
            time.sleep(_AGAIN)


def _enforced(enforcer: Enforcer, cluster: Cluster) -> bool:
    try:
        enforcer.enforce(cluster)
    except LabError as error:
        _log.error("the table stays as it was: %s", error)
        return False
    return True
