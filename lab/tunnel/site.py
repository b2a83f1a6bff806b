"""The gateways of a running lab, as they are now, and how they are spoken with."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.tunnel.control import FOLDER, tell
from gateway.tunnel.errors import TunnelError
from lab.check.model import BrokenError, Place, Site, pid_of, site_of
from lab.cluster.model import LabError
from lab.tunnel.traffic import End
from lab.verify.callers import Callers
from lab.verify.network import within
from lab.verify.site import Lab
from zt import model

CONTAINER = "wireguard"
_DRAIN = "--drain="
_METRICS = "http://127.0.0.1:9586/metrics"
_PATIENCE, _PAUSE = 5.0, 0.1
# A rotation that could not be called off any more goes on to its end.
_CALLED_OFF = 400.0
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway's pod; ``pid`` is its tunnel's process."""

    cluster: str
    place: Place
    pid: int
    own: str

    @property
    def end(self) -> End:
        """Where its end of the tunnel is."""
        return End(Path(f"/proc/{self.pid}/ns/net"), self.own)

    @property
    def drain(self) -> float:
        """Seconds that its stack has the lane stay that a rotation leaves."""
        words = Path(f"/proc/{self.pid}/cmdline").read_text(encoding="utf-8").split("\0")
        (said,) = [word for word in words if word.startswith(_DRAIN)]
        return float(said.removeprefix(_DRAIN))

    def tell(self, command: str) -> Json:
        """Tell its tunnel what to do.

        Raises:
            BrokenError: if it refuses, or does not answer.
        """
        # Its files as the machine sees them: nobody has to enter.
        folder = Path(f"/proc/{self.pid}/root{FOLDER}")
        try:
            return tell(folder, command)
        except TunnelError as error:
            raise BrokenError(f"the gateway of {self.cluster}: {error}") from None

    def metrics(self) -> Mapping[str, float]:
        """Its metrics by name and labels.

        Raises:
            OSError: if it does not answer.
        """

        def fetch() -> bytes:
            with urllib.request.urlopen(_METRICS, timeout=_PATIENCE) as answer:
                return bytes(answer.read())

        lines = within(self.end.namespace, fetch).decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def is_up(self, cluster: str) -> bool:
        """Whether it says that the tunnel to another cluster is up."""
        return self.metrics().get(f'zt_wireguard_peer_up{{cluster="{cluster}"}}') == 1


@dataclass(frozen=True, slots=True)
class Tunnels:
    """A lab whose clusters have gateways."""

    lab: Lab
    callers: Callers
    say: Callable[[str], None]

    def site(self, cluster: str) -> Site:
        """A cluster as it is now."""
        found = self.lab
        return site_of(cluster, found.policy, found.api(cluster), found.nodes, self.callers)

    def outside(self, cluster: str) -> str:
        """The address that a cluster has for the others."""
        return str(self._tunnel(cluster).endpoint.host)

    def port(self, cluster: str) -> int:
        """The port of its first lane."""
        return self._tunnel(cluster).endpoint.port

    def _tunnel(self, cluster: str) -> model.Gateway:
        mesh = self.lab.policy.mesh
        tunnel = next(item.gateway for item in mesh.clusters if item.name == cluster)
        if tunnel is None:
            raise LabError(f"the policy gives {cluster} no gateway")
        return tunnel

    def gateway(self, cluster: str) -> Gateway:
        """The gateway of a cluster, as it is now.

        Raises:
            LabError: if none runs.
        """
        site = self.site(cluster)
        places = site.of(site.effective.mesh.infrastructure.gateway)
        if not places:
            raise LabError(f"{cluster} has no gateway that runs")
        own = str(self._tunnel(cluster).address.ip)
        return Gateway(cluster, places[0], pid_of(places[0], CONTAINER), own)

    def pair(self) -> tuple[Gateway, Gateway]:
        """The gateways of the first two clusters."""
        first, second, *_ = self.lab.clusters
        return self.gateway(first), self.gateway(second)


def are_done(*gateways: Gateway) -> bool:
    """Whether no rotation is under way at any of them."""
    return all(gateway.tell("status")["step"] is None for gateway in gateways)


def are_up(near: Gateway, far: Gateway) -> bool:
    """Whether both say that the tunnel between them is up."""
    return near.is_up(far.cluster) and far.is_up(near.cluster)


def call_off(here: Gateway, there: Gateway) -> None:
    """Call off what was begun at the first, and wait until it is over at both.

    Raises:
        BrokenError: if that is not so in time.
    """
    here.tell("call-off")
    what = "the end of a rotation that was called off"
    eventually(lambda: are_done(here, there), _CALLED_OFF, what)


def eventually(holds: Callable[[], object], patience: float, what: str) -> float:
    """Seconds until it held.

    Raises:
        BrokenError: if it does not in time.
    """
    begun = time.monotonic()
    while not _held(holds):
        if time.monotonic() - begun > patience:
            raise BrokenError(f"{what} is not so after {patience:.0f} s")
        time.sleep(_PAUSE)
    return time.monotonic() - begun


def _held(holds: Callable[[], object]) -> bool:
    """Whether it holds; who does not answer at all says no."""
    try:
        return bool(holds())
    except (LabError, OSError):
        return False
