"""Steady traffic while certificates and CAs rotate: nothing may fail."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape

from lab.cluster.model import LabError
from lab.faults.run import Report, unsteady
from lab.faults.sidecars import Svid, svid
from lab.faults.site import Site
from lab.faults.tally import Seen, Tally, tally
from lab.faults.traffic import running, until_steady
from lab.nodes.pods import process_of
from zt.inject.containers import ENVOY

_QUIET, _PATIENCE = 5.0, 90.0
_LOOK = 10.0
_SAID = 60.0
# The rotations that a run of so many minutes is to see.
_MINUTES, _SVIDS, _CAS = 15.0, 10, 2


@dataclass(slots=True)
class Certificates:
    """The certificates that sidecars were seen to use, by pod, in order."""

    seen: dict[str, list[Svid]] = field(default_factory=dict)

    def note(self, pod: str, found: Svid) -> None:
        """Note what a sidecar uses now."""
        known = self.seen.setdefault(pod, [])
        if not known or known[-1].serial != found.serial:
            known.append(found)

    @property
    def rotations(self) -> Mapping[str, int]:
        """How often each pod's SVID was changed."""
        return {pod: len(found) - 1 for pod, found in self.seen.items()}

    @property
    def authorities(self) -> int:
        """How many CAs have issued."""
        return len({item.issuer for found in self.seen.values() for item in found})


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a run saw. ``servers`` have a CA each, which they replace in their own time."""

    minutes: float
    tally: Tally
    certificates: Certificates
    servers: int

    @property
    def svids(self) -> int:
        """Rotations that every pod has seen at least."""
        return min(self.certificates.rotations.values(), default=0)

    @property
    def cas(self) -> int:
        """Rotations of each server's CA, on average, rounded down."""
        return max(0, self.certificates.authorities - self.servers) // max(1, self.servers)

    @property
    def surprises(self) -> tuple[str, ...]:
        """What should not have been."""
        found = [*self.tally.surprises]
        if self.minutes >= _MINUTES and self.svids < _SVIDS:
            found.append(f"SVIDs were rotated {self.svids} times, not {_SVIDS}")
        if self.minutes >= _MINUTES and self.cas < _CAS:
            found.append(f"CAs were rotated {self.cas} times, not {_CAS}")
        return tuple(found)


def run(site: Site, minutes: float, report: Report) -> Rotation:
    """Keep traffic up for so many minutes, and watch the certificates.

    Raises:
        LabError: if traffic is not steady at the beginning.
    """
    certificates = Certificates()
    with running(site.dial, site.flows()) as traffic:
        if not until_steady(traffic, _QUIET, _PATIENCE):
            raise LabError(f"at the beginning, {unsteady(traffic)}")
        began, end = time.time(), time.monotonic() + minutes * 60
        said = time.monotonic()
        while time.monotonic() < end:
            look(site, certificates)
            if time.monotonic() - said > _SAID:
                said = time.monotonic()
                report(_progress(certificates, traffic.seen()))
            time.sleep(_LOOK)
        seen = tally(traffic.end(), since=began)
    return Rotation(minutes, seen, certificates, _servers(site))


def look(site: Site, certificates: Certificates) -> None:
    """See which certificates the sidecars use now."""
    with suppress(OSError, LabError):
        for name, pod in site.pods().items():
            if ENVOY in pod.containers and pod.ready:
                with suppress(LabError):
                    certificates.note(name, svid(process_of(pod.containers[ENVOY])))


def as_json(found: Rotation) -> dict[str, Any]:
    """The figures for programs."""
    return {
        "held": not found.surprises,
        "minutes": found.minutes,
        **found.tally.counts,
        "pods": len(found.certificates.seen),
        "svid_rotations": found.svids,
        "ca_rotations": found.cas,
        "authorities": found.certificates.authorities,
        "surprises": list(found.surprises),
    }


def show(console: Console, found: Rotation) -> None:
    """Print the figures."""
    for sentence in found.surprises:
        console.print(f"[red]{escape(sentence)}")
    seen, colour = found.tally, "[red]" if found.surprises else "[green]"
    console.print(
        f"{colour}{found.minutes:.0f} minutes, {found.svids} rotations of every SVID, {found.cas} "
        f"of every CA: {len(seen.failed)} of {seen.opened} new connections failed, {len(seen.cut)} "
        f"open ones ended in {seen.asked} questions"
    )


def _progress(certificates: Certificates, seen: Iterable[Seen]) -> str:
    found = tally(seen)
    least = min(certificates.rotations.values(), default=0)
    return (
        f"{found.opened} new connections, {len(found.failed)} failed; {found.asked} questions, "
        f"{len(found.cut)} cut; {least} rotations, {certificates.authorities} CAs"
    )


def _servers(site: Site) -> int:
    found = site.api.get("/apis/apps/v1/namespaces/spire-system/statefulsets/spire-server")
    return int(found["spec"]["replicas"]) if found else 1
