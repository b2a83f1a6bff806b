"""Whoever is killed in the middle of a rotation goes on there, and it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial

from gateway.tunnel.book import Step
from lab.check.model import BrokenError, Check, all_of
from lab.tunnel.site import Gateway, Tunnels, are_done, are_up, eventually
from lab.tunnel.traffic import answers

_STEPS = (Step.STAGED, Step.VERIFIED, Step.SWITCHED, Step.DRAINING)
# Steps as they follow each other; one that is over when it is looked at was too short to be seen.
_ORDER = (*_STEPS, Step.SETTLING)
# A step may take no longer than it takes to look: it is looked for this often.
_LOOK = 0.01
_CALM, _REACHED = 60.0, 30.0
# The kubelet starts a container again after 10 s, and twice as long each time.
_AGAIN = 180.0
# From then on: the lane that is left stays for what the stack says, and so long may the rest take.
_REST = 30.0


def killed(tunnels: Tunnels) -> Iterator[Check]:
    """The container of either gateway is killed at each step of a rotation."""
    names = [gateway.cluster for gateway in tunnels.pair()]
    for step in _STEPS:
        for whose, name in enumerate(names):
            subject = f"{step} at {name}"
            tunnels.say(f"a rotation is begun at {names[0]}; killed: {subject}")
            yield from all_of(
                "killed while it rotates", [(subject, partial(_killed, tunnels, whose, step))]
            )


def _killed(tunnels: Tunnels, whose: int, step: Step) -> str:
    eventually(lambda: _is_calm(tunnels), _CALM, "that both are calm and up")
    pair = tunnels.pair()
    before = [_key(gateway) for gateway in pair]
    pair[0].tell("rotate")
    seen = _killed_at(pair[whose], step)
    again = eventually(lambda: _is_back(tunnels, pair[whose]), _AGAIN, "that it runs again")
    near, far = tunnels.pair()
    wanted = max(near.drain, far.drain) + _REST
    ended = eventually(lambda: _is_calm(tunnels), wanted, "the end of the rotation")
    if not answers(near.end, far.end):
        raise BrokenError("no packet passes")
    changed = [_key(gateway) != old for gateway, old in zip((near, far), before, strict=True)]
    if changed != [True, False]:
        raise BrokenError(f"whose keys are others now: {changed}, and should be [True, False]")
    return f"killed while {seen}, again after {again:.1f} s, the rotation over {ended:.1f} s later"


def _killed_at(gateway: Gateway, step: Step) -> Step:
    """Kill its tunnel once it is at a step, or just beyond; returns which that was."""
    deadline = time.monotonic() + _REACHED
    while time.monotonic() < deadline:
        said = gateway.tell("status")["step"]
        if said in _ORDER[_ORDER.index(step) :]:
            os.kill(gateway.pid, signal.SIGKILL)
            return Step(said)
        time.sleep(_LOOK)
    raise BrokenError(f"it is not {step} after {_REACHED:.0f} s")


def _is_back(tunnels: Tunnels, before: Gateway) -> bool:
    found = tunnels.gateway(before.cluster)
    if found.place.pod.uid != before.place.pod.uid:
        raise BrokenError("its pod is another")
    return found.pid != before.pid and bool(found.tell("status"))


def _is_calm(tunnels: Tunnels) -> bool:
    near, far = tunnels.pair()
    return are_done(near, far) and are_up(near, far)


def _key(gateway: Gateway) -> str:
    return str(gateway.tell("status")["publicKey"])
