"""The whole attack: every cluster, every way in, and again with each layer taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain
from pathlib import Path

from lab.attack.admission import admission
from lab.attack.certificates import Issuer, Material, forged, own_issuer
from lab.attack.gateway import gateway
from lab.attack.identity import AGED, STOLEN, aged, identity
from lab.attack.layers import REMOVALS, Removal
from lab.attack.model import Attempt, Dial, Result
from lab.attack.network import network, question
from lab.attack.node import node
from lab.attack.perform import dialled, perform, refusals
from lab.attack.scene import Scene, Target
from lab.attack.site import Site, observed
from lab.attack.stage import scene_of, set_up
from lab.attack.thief import NothingGivenError, steal
from lab.attack.undo import Undo, undoing
from lab.cluster import controlplane
from lab.cluster.client import Client, client
from lab.cluster.model import LabError, Layout
from lab.kms.reach import near
from lab.mesh.policies import read, today
from lab.services import program
from lab.verify.callers import Caller, callers
from lab.verify.trail import trail_of
from zt.effective import Effective, effective
from zt.model import Protocol
from zt.wellknown import AGENT_SOCKET

Report = Callable[[str], None]

_AT_ONCE = 4
# Longer than the attacks of one stretch take.
_LONG_ENOUGH = timedelta(seconds=100)


@dataclass(frozen=True, slots=True)
class ClusterAttacked:
    """What became of all attempts in a cluster.

    ``alive`` are the ports whose applications answered on their own loopback, before and after:
    only of those does a refusal mean anything. ``refusals`` is how many the trail has of that time,
    ``problems`` are layers that could not be taken away, and why.
    """

    name: str
    targets: tuple[str, ...]
    alive: tuple[str, ...]
    results: tuple[Result, ...]
    refusals: int
    problems: tuple[str, ...] = ()

    @property
    def dead(self) -> tuple[str, ...]:
        """Ports whose applications don't answer."""
        return tuple(name for name in self.targets if name not in self.alive)

    @property
    def unexplained(self) -> int:
        """How many refusals the trail has that are of no attempt, or of several."""
        return abs(self.refusals - sum(len(result.denials) for result in self.results))


@dataclass(frozen=True, slots=True)
class Attacked:
    """What became of everything."""

    clusters: tuple[ClusterAttacked, ...]
    seconds: float

    @property
    def results(self) -> tuple[Result, ...]:
        """All results."""
        return tuple(chain.from_iterable(cluster.results for cluster in self.clusters))

    @property
    def mismatches(self) -> int:
        """Surprises, targets that were not there to be attacked, and records of nothing."""
        surprises = sum(result.surprise is not None for result in self.results)
        return surprises + sum(len(c.dead) + c.unexplained + len(c.problems) for c in self.clusters)


@dataclass(frozen=True, slots=True)
class _Ground:
    """A cluster to attack, and the CA that it trusts."""

    cluster: str
    api: Client
    issuer: Issuer


def attack(state: Path, report: Report) -> Attacked:
    """Attack the lab that runs in a folder; what is made or taken away is put back.

    Raises:
        LabError: if there is no such lab, or something can't be tried.
    """
    began = time.monotonic()
    layout = Layout(state.absolute())
    planes = controlplane.running(state)
    policy = effective(read(layout.policies), today())
    apis = cache(lambda cluster: client(layout.kubeconfig(cluster)))
    kms, domain = near(layout), policy.mesh.trust_domain
    with undoing(layout.root / "attack.json", apis) as undo:
        grounds = (
            _Ground(plane.name, apis(plane.name), own_issuer(kms, plane.name, domain))
            for plane in planes
        )
        attacked = tuple(_cluster(ground, policy, undo, report) for ground in grounds)
    return Attacked(attacked, time.monotonic() - began)


def _cluster(ground: _Ground, policy: Effective, undo: Undo, report: Report) -> ClusterAttacked:
    api, cluster = ground.api, ground.cluster
    scene = scene_of(api, policy, cluster)
    report(f"{cluster}: {len(scene.targets)} targets; making the attacker's pods")
    scene, found = set_up(api, scene, undo)
    trail = trail_of(api, policy.policy, cluster)
    try:
        with callers() as dialers:
            site = Site(api, scene, found, dialers, trail, undo)
            return _site(site, ground.issuer, report)
    finally:
        trail.close()


def _site(site: Site, issuer: Issuer, report: Report) -> ClusterAttacked:
    targets = site.scene.targets
    before = _alive(site, targets)
    report(f"{site.cluster}: {len(before)} applications answer; stealing and forging SVIDs")
    calls = (*network(site.scene), *identity(site.scene), *gateway(site.scene))
    site.svids |= _certificates(site, issuer, calls)
    old = dict(site.svids)
    results: list[Result] = []
    start = datetime.now(UTC)
    with observed(site, targets):
        report(f"{site.cluster}: {len(calls)} attacks by network and identity")
        results += perform(site, calls)
        report(f"{site.cluster}: attacks by admission and node")
        results += perform(site, (*admission(site.scene), *node(site.scene)))
        chosen = sample(site.scene)
        again = tuple(attempt for attempt in calls if attempt.target in {t.name for t in chosen})
        problems: list[str] = []
        for removal in REMOVALS if chosen else ():
            report(f"{site.cluster}: {len(again)} attacks while {removal.name}")
            try:
                results += _without(site, removal, chosen, again)
            except LabError as error:
                problems.append(f"{removal.name}: {error}")
        results += perform(site, _aged(site, calls, old))
    after = _alive(site, targets)
    return ClusterAttacked(
        name=site.cluster,
        targets=tuple(target.name for target in targets),
        alive=tuple(name for name in before if name in after),
        results=tuple(results),
        refusals=len(refusals(site, start)),
        problems=tuple(problems),
    )


def _without(
    site: Site, removal: Removal, chosen: tuple[Target, ...], again: Iterable[Attempt]
) -> tuple[Result, ...]:
    with removal.taken(site, chosen):
        _renew(site)
        return tuple(perform(site, again, removal.name, removal.planes))


def sample(scene: Scene) -> tuple[Target, ...]:
    """A few targets of different kinds: closed, open to the outside, and one that speaks first."""
    kinds: tuple[Callable[[Target], bool], ...] = (
        lambda target: not target.door and target.protocol is not Protocol.TCP,
        lambda target: target.door,
        lambda target: target.protocol is Protocol.TCP,
    )
    # Best attacked is what has clients to start from.
    ordered = sorted(scene.targets, key=lambda t: (scene.client(t) is None, -len(t.clients)))
    found = (next(filter(is_one, ordered), None) for is_one in kinds)
    return tuple(dict.fromkeys(target for target in found if target is not None))


# --- Before ---------------------------------------------------------------------------------------


def _alive(site: Site, targets: Iterable[Target]) -> tuple[str, ...]:
    """The targets that answer on their own loopback what attackers ask."""
    listed = tuple(targets)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = pool.map(lambda target: _answers(site, target), listed)
        return tuple(t.name for t, answer in zip(listed, answers, strict=True) if answer)


def _answers(site: Site, target: Target) -> bool:
    with _neighbour(site, target) as caller:
        return dialled(caller.ask(question(target, "127.0.0.1"))).got_in


@contextmanager
def _neighbour(site: Site, target: Target) -> Iterator[Caller]:
    """A dialer in the network of a target: its image may have no Python."""
    pid = site.process(target.place.pod)
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
    caller = Caller([*inside, *program.carried()], target.name)
    try:
        yield caller
    finally:
        caller.close()


def _certificates(site: Site, issuer: Issuer, calls: Iterable[Attempt]) -> dict[str, Material]:
    """All certificates that attacks show."""
    now = datetime.now(UTC)
    wanted = {call.action.svid for call in calls if isinstance(call.action, Dial)}
    victims = sorted(
        name.partition("/")[2] for name in wanted if name and name.startswith(f"{STOLEN}/")
    )
    return {
        **forged(site.scene.effective, site.cluster, issuer, now),
        **_loot(site, victims),
    }


def _loot(site: Site, victims: Sequence[str]) -> dict[str, Material]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        stolen = pool.map(lambda victim: _stolen(site, victim), victims)
        return {f"{STOLEN}/{name}": found for name, found in zip(victims, stolen, strict=True)}


def _renew(site: Site) -> None:
    """Steal again what would expire meanwhile: in some labs SVIDs live for minutes."""
    soon = datetime.now(UTC) + _LONG_ENOUGH
    victims = [
        name.partition("/")[2]
        for name, material in site.svids.items()
        if name.startswith(f"{STOLEN}/") and material.ends < soon
    ]
    site.svids |= _loot(site, victims)


def _aged(site: Site, calls: Iterable[Attempt], old: Mapping[str, Material]) -> Iterator[Attempt]:
    """Attacks with what was stolen at first, where it has expired by now."""
    now = datetime.now(UTC)
    expired = {n for n, m in old.items() if n.startswith(f"{STOLEN}/") and m.ends < now}
    site.svids |= {f"{AGED}{name}": old[name] for name in expired}
    named = "a stolen SVID of a service that may not call"
    yield from aged((call for call in calls if call.attack.name == named), expired)


def _stolen(site: Site, service: str) -> Material:
    """The SVID of a service's sidecar.

    Raises:
        LabError: if the agent gives none, or another's.
    """
    pid = site.process(site.scene.places[service].pod, sidecar=True)
    try:
        loot = steal(pid, AGENT_SOCKET)
    except NothingGivenError as error:
        raise LabError(f"the sidecar of {service} has no SVID to steal: {error}") from None
    found = site.scene.effective.find(site.cluster, service)
    if found is None or loot.spiffe != found.spiffe:
        raise LabError(f"the sidecar of {service} is {loot.spiffe}")
    return loot.material
