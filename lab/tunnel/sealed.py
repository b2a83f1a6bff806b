"""KMS fails in each of its ways: tunnels that run do not mind; who starts waits, and says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from gateway.tunnel.store import BOOK
from lab.check.model import BrokenError, Check, all_of
from lab.kms import trouble
from lab.kms.reach import near
from lab.kms.server import ADDRESS, Kms
from lab.kms.setup import GATEWAYS
from lab.nodes.pods import Pod
from lab.tunnel.rules import dropping, ruled
from lab.tunnel.site import CONTAINER, Gateway, Tunnels, are_up, call_off, eventually
from lab.tunnel.starting import Log, another, await_reasons, check_spoken, log_of, restarts
from lab.tunnel.traffic import answers, pinging

_LASTS = 5.0
_WORKS = 30.0
_LONG = 60.0
# Seconds from the end of its cause: what asks again is back after its longest pause, and a
# container that ended when the kubelet starts it the next time.
_ASKS, _STARTED = 30.0, 60.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A way in which KMS fails the gateway of a cluster.

    ``reasons`` is what is said of it; ``runs`` is how many containers say it, because those that
    find it end; within ``patience`` seconds of its end all is well.
    """

    what: str
    begin: Callable[[], AbstractContextManager[None]]
    reasons: tuple[str, ...]
    runs: int = 1
    patience: float = _ASKS


def failures(tunnels: Tunnels, kms: Kms, cluster: str) -> Sequence[Failure]:
    """All of them; the last is one for who starts, because who runs reads nothing."""
    layout = tunnels.lab.layout
    denied = ("permission denied", f"role {GATEWAYS}")
    return (
        Failure("sealed", partial(trouble.sealed, kms), ("it is sealed",)),
        Failure("stopped", partial(trouble.stopped, layout, kms), ("no connection",)),
        Failure(
            "out of reach",
            partial(
                ruled, layout.namespace(cluster), dropping(f"ip daddr {ADDRESS} meta l4proto tcp")
            ),
            ("no answer in",),
        ),
        Failure(
            "forbids",
            partial(trouble.forbidden, kms, f"{GATEWAYS}-{cluster}"),
            denied,
            runs=3,
            patience=_STARTED,
        ),
        Failure(
            "lacks a field",
            partial(trouble.lacking, kms, GATEWAYS, cluster, BOOK),
            (f"{GATEWAYS}/{cluster} has no {BOOK}",),
            runs=3,
            patience=_STARTED,
        ),
    )


def sealed(tunnels: Tunnels) -> Iterator[Check]:
    """KMS fails under traffic, and when a gateway starts."""
    kms = near(tunnels.lab.layout)
    here, there = (gateway.cluster for gateway in tunnels.pair())
    *running, _ = failures(tunnels, kms, here)
    for failure in running:
        yield from _one(tunnels, "a tunnel that runs", failure, _runs)
    for failure in failures(tunnels, kms, there):
        yield from _one(tunnels, "a gateway that starts", failure, _starts)


def _one(
    tunnels: Tunnels, whose: str, failure: Failure, judge: Callable[[Tunnels, Failure], str]
) -> Iterator[Check]:
    subject = f"KMS {failure.what}, {whose}"
    tunnels.say(subject)
    yield from all_of("KMS fails", [(subject, partial(judge, tunnels, failure))])


# --- Who runs -------------------------------------------------------------------------------------


def _runs(tunnels: Tunnels, failure: Failure) -> str:
    here, there = tunnels.pair()
    before = here.tell("status")["publicKey"]
    with pinging(here.end, there.end) as pings:
        with failure.begin():
            said = _refused(here, failure)
            time.sleep(_LASTS)
            if not are_up(here, there):
                raise BrokenError("the tunnel says that it is down")
        works = _keeps_again(here, there)
    if pings.received != pings.sent:
        raise BrokenError(f"{pings.sent - pings.received} of {pings.sent} pings lost")
    if here.tell("status")["publicKey"] != before:
        raise BrokenError("another key is in use, although no rotation should have come to its end")
    lost = f"0 of {pings.sent} pings lost"
    return f"{lost}; a rotation: {said}; {works:.1f} s later one is begun, and called off"


def _refused(gateway: Gateway, failure: Failure) -> str:
    """Why it begins no rotation; for a moment that may be that the one before has just ended."""
    heard: list[str] = []

    def says_why() -> bool:
        try:
            gateway.tell("rotate")
        except BrokenError as error:
            heard.append(str(error))
            return all(reason in heard[-1] for reason in failure.reasons)
        return True

    eventually(says_why, _WORKS, f"that a rotation is refused with {failure.reasons}")
    if not heard or not all(reason in heard[-1] for reason in failure.reasons):
        raise BrokenError("a rotation is begun although its key can't be kept")
    return heard[-1]


def _keeps_again(here: Gateway, there: Gateway) -> float:
    """Seconds until the gateway's KMS keeps what it is given: a rotation that is called off."""
    took = eventually(lambda: here.tell("rotate") is not None, _WORKS, "that KMS keeps a new key")
    call_off(here, there)
    return took


# --- Who starts -----------------------------------------------------------------------------------


def _starts(tunnels: Tunnels, failure: Failure) -> str:
    here, there = tunnels.pair()
    before = restarts(here)
    with failure.begin():
        pod = another(tunnels, there)
        log = log_of(tunnels, pod)
        await_reasons(log, failure.reasons, failure.runs)
    begun = time.monotonic()
    _await_back(tunnels, here, pod, failure.patience)
    took = time.monotonic() - begun
    log.look()
    _judge_runs(log, failure)
    if restarts(tunnels.gateway(here.cluster)) != before:
        raise BrokenError(f"the gateway of {here.cluster} was started again as well")
    if again := restarts(tunnels.gateway(there.cluster))[CONTAINER]:
        raise BrokenError(f"its tunnel was started {again + 1} times")
    said = next(line for line in log.runs[0].splitlines() if failure.reasons[0] in line)
    runs = f"{len(log.runs)} runs" if len(log.runs) > 1 else "1 run"
    return f"{said} ({runs}); all is well {took:.1f} s after it was mended"


def _await_back(tunnels: Tunnels, here: Gateway, pod: Pod, patience: float) -> None:
    """Until the pod is ready by itself, packets pass, and both say that the tunnel is up."""
    there = next(name for name in tunnels.lab.clusters if name != here.cluster)

    def is_ready() -> bool:
        found = tunnels.gateway(there).place.pod
        return found.uid == pod.uid and found.ready

    eventually(is_ready, patience, f"that the gateway of {there} is ready")
    fresh = tunnels.gateway(there)
    eventually(lambda: answers(here.end, fresh.end), _LONG, "that packets pass again")
    eventually(lambda: are_up(here, fresh), _LONG, "that both say that it is up")


def _judge_runs(log: Log, failure: Failure) -> None:
    check_spoken(log, failure.reasons)
    if not log.is_done:
        raise BrokenError(f"the last run does not say what it did: {log.runs}")
    if failure.runs == 1 and len(log.runs) > 1:
        raise BrokenError(f"it gave up, and was started {len(log.runs)} times")
