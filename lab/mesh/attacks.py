"""What an attacker would try, against every enforced port: each must be refused, and recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab.mesh.addresses import key
from lab.mesh.authority import BUNDLE, authority, issue, svid_files
from lab.mesh.certificates import EXPIRED, FOREIGN, FOREIGN_ID, UNDECLARED
from lab.mesh.dial import DialError, Tls, ask, context
from lab.mesh.folders import publish
from lab.mesh.model import Mesh
from lab.mesh.trail import Trail
from lab.mesh.verify import name_of
from zt.decide import Verdict
from zt.model import Phase, Service

_AT_ONCE = 8
_LIFETIME = 3600


@dataclass(frozen=True, slots=True)
class Target:
    """An enforced port, and a service that may call it (any other where nobody may)."""

    service: Service
    port: int
    victim: Service


@dataclass(frozen=True, slots=True)
class Attack:
    """A way in; ``shown`` gives the folders of the SVIDs that are tried, ``None`` for no SVID."""

    name: str
    shown: Callable[[Target], tuple[Path | None, ...]]
    plaintext: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How an attack ended, over all ports. ``nameless`` are those records that name no source."""

    name: str
    tried: int
    refused: int
    recorded: int
    nameless: int
    surprises: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Whether every try was refused and recorded."""
        return self.tried == self.refused == self.recorded and not self.surprises


def attack(mesh: Mesh, trail: Trail) -> tuple[Result, ...]:
    """Try every attack, one after the other, so that records are known by their time."""
    against = tuple(targets(mesh))
    with tempfile.TemporaryDirectory() as folder:
        return tuple(_try(mesh, trail, item, against) for item in _attacks(mesh, Path(folder)))


def targets(mesh: Mesh) -> Iterator[Target]:
    """All declared ports of enforced services."""
    for item in mesh.effective.services:
        if item.phase is Phase.OBSERVE:
            continue
        for inbound in item.inbound:
            allowed = [g.source for g in inbound.clients if isinstance(g.source, Service)]
            others = [other for other in mesh.services if other is not item.service]
            yield Target(item.service, inbound.port.port, (allowed + others)[0])


def _attacks(mesh: Mesh, folder: Path) -> tuple[Attack, ...]:
    """The attacks; what the mesh's own CA would not issue is forged in a folder."""
    stolen = mesh.folders.svid("attackers")
    _forge(mesh, folder)
    return (
        Attack("no certificate", lambda _: (None,)),
        Attack("certificate of another CA", lambda target: (folder / key(target.victim),)),
        Attack("another trust domain", lambda _: (stolen / FOREIGN, folder / FOREIGN)),
        Attack("expired SVID", lambda target: (stolen / EXPIRED / key(target.victim),)),
        Attack("plaintext", lambda _: (None,), plaintext=True),
        Attack("ID that is not declared", lambda _: (stolen / UNDECLARED,)),
    )


def _forge(mesh: Mesh, folder: Path) -> None:
    """A CA of the same name, and certificates of it for every service."""
    now = datetime.now(UTC)
    root = authority(mesh.effective.mesh.trust_domain, now, _LIFETIME)
    names = {key(item.service): item.spiffe for item in mesh.effective.services}
    names[FOREIGN] = FOREIGN_ID
    for name, spiffe in names.items():
        publish(folder / name, svid_files(issue(root, spiffe, now, _LIFETIME), root))


def _try(mesh: Mesh, trail: Trail, attack: Attack, against: tuple[Target, ...]) -> Result:
    tries = [(target, svid) for target in against for svid in attack.shown(target)]
    start = trail.begin()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        surprises = tuple(
            pool.map(lambda args: _surprise(mesh, *args, plaintext=attack.plaintext), tries)
        )
    records = trail.since(start, len(tries))
    denied = {entry: count for entry, count in records.items() if entry.verdict == Verdict.DENY}
    return Result(
        name=attack.name,
        tried=len(tries),
        refused=sum(surprise is None for surprise in surprises),
        recorded=sum(denied.values()),
        nameless=sum(count for entry, count in denied.items() if entry.source is None),
        surprises=tuple(filter(None, surprises)),
    )


def _surprise(mesh: Mesh, target: Target, svid: Path | None, *, plaintext: bool) -> str | None:
    """Try once; ``None`` if it was refused, as it should be."""
    place = f"{key(target.service)}:{target.port}"
    address = mesh.placement.inbound(target.service, target.port)
    source = mesh.plan.pod(target.victim)
    tls = None
    if not plaintext:
        peer = target.service.spiffe(mesh.effective.mesh)
        bundle = mesh.folders.bundle / BUNDLE
        tls = Tls(context(bundle, svid), name_of(target.service, target.port), peer)
    try:
        answer = ask(address, source, tls)
    except DialError as error:
        return f"{place}: {error}"
    return None if answer is None else f"{place}: {answer} answered"
