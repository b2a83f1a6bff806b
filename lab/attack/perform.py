"""Makes attempts, and sees what becomes of them."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lab.attack.counting import Flow, arrivals
from lab.attack.evidence import (
    ATTESTATION,
    FORBIDDEN,
    HARMLESS,
    KERNEL,
    PAGE,
    UNTRIED,
    layer_of,
)
from lab.attack.model import (
    RECORDED,
    Action,
    Attempt,
    Create,
    Dial,
    Json,
    Plane,
    Result,
    Run,
    Seen,
    Steal,
)
from lab.attack.rounds import Round, rounds
from lab.attack.scene import HOST, OUTSIDE
from lab.attack.site import Site
from lab.attack.thief import NothingGivenError, steal
from lab.cluster.client import MERGE
from lab.cluster.model import LabError
from lab.nodes.pods import entered
from lab.verify.trail import Record
from zt.inject.containers import ENVOY

# Most wait for an answer that never comes.
_AT_ONCE = 96
# Seconds that a record may take into the trail.
_RECORDED_WITHIN = 8.0
# What comes later than this after the last is found when all is counted.
_SETTLED = 0.5
_PAUSE = 0.1
_PATIENCE = 30.0
_LONGEST = 120
_PYTHON = ("/usr/bin/python3", "-S", "-c")
# A TLS record of type alert: what a port that wants TLS says to plaintext (RFC 8446, section 5.1).
_ALERT = "\x15\x03"
_DENY = "DENY"

Arrived = dict[str, Counter[Flow]]


def perform(
    site: Site, attempts: Iterable[Attempt], name: str = "", removed: Collection[Plane] = ()
) -> Iterator[Result]:
    """Make attempts, as many at once as can be told apart.

    ``name`` is that of what has been taken away, ``removed`` what it is. The pods that are
    attacked are to be observed.

    Raises:
        LabError: if nobody can be asked what became of an attempt.
    """
    for made in rounds(attempts, removed):
        yield from _round(site, made, name, removed)


def _round(site: Site, made: Round, name: str, removed: Collection[Plane]) -> Iterator[Result]:
    start, before = datetime.now(UTC), _arrived(site, made)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = tuple(pool.map(lambda attempt: tried(site, attempt.action), made))
    records = _recorded(site, made, removed, start)
    after = _arrived(site, made)
    for attempt, seen in zip(made, outcomes, strict=True):
        packets = _packets(site, attempt, before, after)
        # What never came is in no record; another attempt of the round may be.
        own = tuple(r for r in records if packets != 0 and _is_of(r, attempt))
        complete = replace(seen, packets=packets, records=own)
        expected = attempt.attack.stopped_by(removed)
        layer = layer_of(complete, removed, by_gateway=_is_by_gateway(attempt))
        yield Result(attempt, name, layer, complete, expected)


def _is_by_gateway(attempt: Attempt) -> bool:
    return isinstance(attempt.action, Dial) and attempt.action.by_gateway


def _recorded(
    site: Site, made: Round, removed: Collection[Plane], start: datetime
) -> tuple[Record, ...]:
    """The refusals in the trail since then: as many as should be there, and what else comes."""
    if not any(attempt.destination for attempt in made):
        return ()
    wanted = sum(
        bool(attempt.destination and attempt.attack.stopped_by(removed) & RECORDED)
        for attempt in made
    )
    deadline = time.monotonic() + _RECORDED_WITHIN
    while len(refusals(site, start)) < wanted and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    time.sleep(_SETTLED)
    return refusals(site, start)


def refusals(site: Site, start: datetime) -> tuple[Record, ...]:
    """What the trail has refused since then.

    Raises:
        LabError: if the audit database can't be read.
    """
    return tuple(record for record in site.trail.since(start) if record.verdict == _DENY)


def _is_of(record: Record, attempt: Attempt) -> bool:
    """Whether a record may be of an attempt; one that names a pod names the attacker's."""
    if (record.destination_id, record.destination_port) != (attempt.destination, attempt.port):
        return False
    action = attempt.action
    pod = action.source.partition("/")[2] if isinstance(action, Dial) else None
    return record.source_pod in (None, pod)


# --- Packets --------------------------------------------------------------------------------------


def _arrived(site: Site, made: Round) -> Arrived:
    """What has come to the pods that a round is about."""
    places = {place for attempt in made if (place := _destination(site, attempt))}
    return {place: arrivals(site.process(place)) for place in places}


def _destination(site: Site, attempt: Attempt) -> str | None:
    """The pod that a call goes to."""
    if not isinstance(attempt.action, Dial):
        return None
    return next(t.place.pod for t in site.scene.targets if t.name == attempt.target)


def _packets(site: Site, attempt: Attempt, before: Arrived, after: Arrived) -> int | None:
    """How many packets of an attempt came to its destination."""
    place, action = _destination(site, attempt), attempt.action
    if place is None or not isinstance(action, Dial):
        return None
    asked = action.question
    protocol = "udp" if asked["mode"] == "udp" else "tcp"
    # Through a Service one comes to the pod's own port.
    direct = asked["host"] == site.pod(place).address
    port = asked["port"] if direct else attempt.port
    came = after[place] - before[place]
    return sum(
        count
        for flow, count in came.items()
        if (flow.protocol, flow.port) == (protocol, port) and _may_be(site, action.source, flow)
    )


def _may_be(site: Site, source: str, flow: Flow) -> bool:
    """Whether a packet is of a pod; a node has several addresses."""
    if source.startswith(f"{OUTSIDE}/{HOST}-"):
        return True
    return flow.source == site.pod(source).address


# --- Doing ----------------------------------------------------------------------------------------


def tried(site: Site, action: Action) -> Seen:
    """Do something; what can't be tried, as when a pod ends meanwhile, is said to be so."""
    try:
        return act(site, action)
    except (LabError, OSError, subprocess.TimeoutExpired) as error:
        return Seen(got_in=False, how=UNTRIED, said=str(error)[:_LONGEST])


def act(site: Site, action: Action) -> Seen:
    """Do something; what is seen of it at once.

    Raises:
        LabError: if it can't be tried.
    """
    match action:
        case Dial():
            return dialled(site.callers.of(site.pod(action.source)).ask(_shown(site, action)))
        case Create():
            return _created(site, action)
        case Run():
            return _ran(site, action)
        case Steal():
            return _stole(site, action)


def _shown(site: Site, action: Dial) -> Json:
    """The question, with the certificate that is shown."""
    if action.svid is None:
        return action.question
    try:
        svid = site.svids[action.svid]
    except KeyError:
        raise LabError(f"nobody has the certificate {action.svid}") from None
    shown = {"certificatePem": svid.certificate, "keyPem": svid.key}
    return {**action.question, "tls": {**action.question["tls"], **shown}}


def dialled(answer: Json) -> Seen:
    """What an answer of ``lab.services.caller`` in mode ``raw``, ``udp`` or ``line`` means.

    Raises:
        LabError: if the question was wrong.
    """
    if answer["error"] == "asked":
        raise LabError(f"a dialer does not understand: {answer.get('detail')}")
    got = str(answer["answer"] or "")
    if got.startswith(_ALERT):
        return Seen(got_in=False, how="tls", said="a TLS alert")
    if got.startswith("HTTP/1.1 404"):
        return Seen(got_in=False, how=PAGE, said="404")
    if got:
        return Seen(got_in=True, how="", said=got[:_LONGEST])
    said = str(answer.get("detail") or answer["error"])
    return Seen(got_in=False, how=str(answer["error"]), said=said[:_LONGEST])


def _created(site: Site, action: Create) -> Seen:
    kind = {"content_type": MERGE} if action.method == "PATCH" else {}
    answer = site.api.request(action.method, action.path, action.manifest, **kind)
    if not answer.ok:
        return Seen(got_in=False, how=FORBIDDEN, said=answer.message)
    if action.injected and _has_sidecar(answer.body):
        return Seen(got_in=False, how=HARMLESS, said="it got its sidecar all the same")
    return Seen(got_in=True, how="", said="the API server would take it")


def _has_sidecar(pod: Json) -> bool:
    containers = pod["spec"].get("initContainers") or ()
    return any(container["name"] == ENVOY for container in containers)


def _ran(site: Site, action: Run) -> Seen:
    process = site.process(action.source)
    # As the application itself, and with no more rights.
    user = Path(f"/proc/{process}").stat().st_uid
    command = entered(process, [*_PYTHON, action.script], user)
    done = subprocess.run(  # noqa: S603 - our own words
        command, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )
    try:
        said = json.loads(done.stdout)
    except ValueError:
        raise LabError(f"a program in {action.source} said {done.stderr or done.stdout}") from None
    return Seen(got_in=said["got_in"], how=KERNEL, said=str(said["said"])[:_LONGEST])


def _stole(site: Site, action: Steal) -> Seen:
    try:
        loot = steal(site.process(action.source), action.socket)
    except NothingGivenError as error:
        return Seen(got_in=False, how=ATTESTATION if error.unknown else "error", said=str(error))
    return Seen(got_in=loot.spiffe != action.own, how="own", said=loot.spiffe)
