"""Whether any key of KMS or of a sidecar is elsewhere, and whether anything looks like one."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain

from components.audit import access
from components.spire.names import DATASTORE
from lab.check.model import BrokenError, Check, Judge, all_of
from lab.cluster.client import Client
from lab.scan import carriers, control
from lab.scan.carriers import Carrier
from lab.scan.kms import keys_of
from lab.scan.memory import svid_keys
from lab.scan.programs import started_by
from lab.scan.scan import PLANTED, Found, fingerprint, scan
from lab.tunnel.site import Tunnels, call_off
from zt.wellknown import SPIRE_NAMESPACE

_PROMISE = "no key but in KMS"
_SHOWN = 5
_BYTES = 32
# The program that is given a key.
_GIVEN = "wg"
# Of the evaluator (HIP-54, "Deployment").
_EVALUATOR = "zt-secrets"

Look = Callable[[], Iterator[Carrier]]


@dataclass(frozen=True, slots=True)
class Somewhere:
    """A kind of place: how it is looked through, and how something is put there to be found.

    ``finds`` is in how many carriers that is then; those that are ``allowed`` may have secrets of
    their own, and none of those of KMS.
    """

    name: str
    look: Look
    plant: Callable[[str], AbstractContextManager[None]]
    finds: int = 1
    allowed: frozenset[str] = frozenset()


def leaks(tunnels: Tunnels) -> Iterator[Check]:
    """Objects, state, processes and logs have no key; Secrets have none of those of KMS."""
    tunnels.say("watching what a gateway starts when it makes a key")
    programs: dict[str, bytes] = {}
    yield from _one("a gateway that takes a key is seen", partial(_taking_a_key, tunnels, programs))
    tunnels.say("taking the keys out of KMS, and those of sidecars out of their memory")
    known: set[bytes] = set()
    yield from _one("all keys are known", partial(_known, tunnels, known))
    tunnels.say(f"looking for {len(known)} forms of keys in objects, state, processes and logs")
    found = tuple(known)
    asked = [(place.name, partial(_clean, place, found)) for place in _places(tunnels, programs)]
    yield from all_of(_PROMISE, asked)


def _one(subject: str, judge: Judge) -> Iterator[Check]:
    yield from all_of(_PROMISE, [(subject, judge)])


def _known(tunnels: Tunnels, known: set[bytes]) -> str:
    """Note the keys that are looked for."""
    known |= {*keys_of(tunnels.lab.layout)}
    of_kms = len(known)
    sidecars = {
        f"{cluster} {pod}": keys
        for cluster, api in zip(tunnels.lab.clusters, _apis(tunnels), strict=True)
        for pod, keys in svid_keys(api).items()
    }
    known |= {key for keys in sidecars.values() for key in keys}
    if without := [name for name, keys in sidecars.items() if not keys]:
        raise BrokenError(f"those of {', '.join(without)} are not")
    return f"{of_kms} forms of KMS's, and {len(known) - of_kms} of {len(sidecars)} sidecars"


def _taking_a_key(tunnels: Tunnels, programs: dict[str, bytes]) -> str:
    """Note the programs of a rotation that is begun, and called off."""
    here, there = tunnels.pair()
    with started_by(here.pid) as seen:
        here.tell("rotate")
        call_off(here, there)
    programs |= seen
    names = sorted({name.split()[0] for name in seen})
    if _GIVEN not in names:
        raise BrokenError(f"{_GIVEN} was not seen, only {', '.join(names)}")
    return f"{len(seen) // 2} programs: {', '.join(names)}"


def _apis(tunnels: Tunnels) -> Iterator[Client]:
    yield from map(tunnels.lab.api, tunnels.lab.clusters)


def _places(tunnels: Tunnels, programs: Mapping[str, bytes]) -> Iterator[Somewhere]:
    layout = tunnels.lab.layout
    for cluster, api in zip(tunnels.lab.clusters, _apis(tunnels), strict=True):
        yield Somewhere(
            f"objects of {cluster}",
            partial(carriers.objects, api, cluster),
            partial(control.in_object, api, "ConfigMap"),
        )
        yield Somewhere(
            f"Secrets of {cluster}",
            partial(carriers.secrets, api, cluster),
            partial(control.in_object, api, "Secret"),
            allowed=frozenset(_allowed(tunnels, cluster)),
        )
    yield Somewhere(
        "Pulumi's state",
        partial(carriers.state, layout),
        partial(control.in_file, layout.engine / "state"),
    )
    yield Somewhere(
        "environment and arguments",
        lambda: chain(carriers.started(layout), programs.items()),
        partial(control.in_process, layout),
        finds=2,
    )
    writing = [gateway.pid for gateway in tunnels.pair()]
    yield Somewhere(
        "logs",
        partial(carriers.logs, layout),
        partial(control.in_logs, layout.run.logs, writing),
        finds=1 + len(writing),
    )


def _allowed(tunnels: Tunnels, cluster: str) -> Iterator[str]:
    """The Secrets that are there for passwords and what belongs to them, by name."""
    name = tunnels.lab.policy.mesh.infrastructure.evaluator
    found = (s for s in tunnels.lab.policy.services if (s.cluster, s.name) == (cluster, name))
    for service in found:
        for secret in (_EVALUATOR, access.ADMIN.secret, access.KEEPER.secret):
            yield f"{cluster} {carriers.SECRETS} {service.namespace}/{secret}"
    yield f"{cluster} {carriers.SECRETS} {SPIRE_NAMESPACE}/{DATASTORE}"


def _clean(place: Somewhere, known: tuple[bytes, ...]) -> str:
    planted = base64.b64encode(secrets.token_bytes(_BYTES)).decode()
    with place.plant(planted):
        looked = [*place.look()]
    found = scan(looked, (*known, planted.encode()))
    ours = {one.carrier for one in found if _is(one, planted)}
    if len(ours) < place.finds:
        raise BrokenError(f"what was put into {place.finds} is found in {len(ours)}: {ours}")
    seen = [one for one in found if not (_is(one, planted) or _is_allowed(one, place))]
    if seen:
        more = f" and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else ""
        raise BrokenError("; ".join(map(str, seen[:_SHOWN])) + more)
    size = sum(len(content) for _, content in looked)
    named = {one.carrier for one in found if _is_allowed(one, place)}
    beside = f"; passwords are in {', '.join(sorted(named))} alone" if named else ""
    return (
        f"{len(looked)} looked through, {size / 1e6:.1f} MB, for {len(known)} forms of keys; "
        f"what was put there was found{beside}"
    )


def _is(one: Found, planted: str) -> bool:
    return one.kind == PLANTED and one.fingerprint == fingerprint(planted)


def _is_allowed(one: Found, place: Somewhere) -> bool:
    return one.kind != PLANTED and one.carrier in place.allowed
