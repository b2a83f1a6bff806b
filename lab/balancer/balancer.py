"""Keeps forwards as the cluster has them, and tells each Service the address that it is given."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NoReturn

from lab.balancer.forwards import Forward, Json, balanced, forwards, text
from lab.cluster.client import MERGE, Client
from lab.cluster.model import LabError
from lab.enforcer import kernel
from lab.enforcer.watch import Collection, follow
from lab.nodes.endpoints import SLICES

SERVICES = "/api/v1/services"
NODES = "/api/v1/nodes"
# Longer than a watch lasts by itself.
_SILENCE = 70.0
_AGAIN = 1.0

_log = logging.getLogger(__name__)


def forget(address: str, changed: Iterable[Forward]) -> None:
    """Forget connections that were led elsewhere, or nowhere: UDP would go on so for ever."""
    for item in changed:
        command = ("conntrack", "-D", "-p", item.protocol, "-d", address, "--dport", str(item.port))
        # It fails where there was none.
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - ours


@dataclass(slots=True)
class Balancer:
    """A cluster's address, and what is forwarded from it."""

    api: Client
    address: str
    put: Callable[[str], None] = kernel.replace
    forget: Callable[[str, Iterable[Forward]], None] = forget
    _forwards: tuple[Forward, ...] | None = None

    def balance(
        self, services: Iterable[Json], slices: Iterable[Json], nodes: Iterable[Json]
    ) -> None:
        """Forward as these objects say.

        Raises:
            LabError: if the kernel or the API refuses.
            OSError: if the API does not answer.
        """
        asking = balanced(services)
        wanted = forwards(asking, slices, nodes)
        if wanted != self._forwards:
            self.put(text(self.address, wanted))
            self.forget(self.address, {*(self._forwards or ())} ^ {*wanted})
            self._forwards = wanted
            _log.info("%d ports: %s", len(wanted), wanted)
        for service in asking:
            self._tell(service)

    def _tell(self, service: Json) -> None:
        told = [{"ip": self.address}]
        known = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
        if [item.get("ip") for item in known] == [self.address]:
            return
        metadata = service["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/services/{metadata['name']}/status"
        body = {"status": {"loadBalancer": {"ingress": told}}}
        answer = self.api.request("PATCH", path, body, content_type=MERGE)
        if not answer.ok:
            raise LabError(f"{path}: {answer.status} {answer.message}")


def run(balancer: Balancer) -> NoReturn:
    """Follow the cluster for ever; what fails is tried again."""
    changed = threading.Event()
    patient = replace(balancer.api, patience=_SILENCE)
    parts = [Collection(patient, path, changed.set) for path in (SERVICES, SLICES, NODES)]
    for part in parts:
        threading.Thread(target=follow, args=(part,), name=part.path, daemon=True).start()
    while True:
        changed.wait()
        changed.clear()
        services, slices, nodes = (part.objects() for part in parts)
        if services is None or slices is None or nodes is None:
            continue
        try:
            balancer.balance(services, slices, nodes)
        except (LabError, OSError) as error:
            _log.warning("tried again soon: %s", error)
            threading.Timer(_AGAIN, changed.set).start()
