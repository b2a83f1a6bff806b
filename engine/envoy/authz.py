"""Envoy's question for each new connection: ``envoy.service.auth.v3.Authorization/Check``.

Identity comes from the verified certificate (``source.principal``), never from a header. A source
without one is known by its address: a pod, which is then refused wherever the destination is
enforced, or what an ExternalService declares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from time import perf_counter_ns
from typing import NamedTuple

from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf.message import DecodeError

from engine.decider import NOT_RECORDED, Decider, Durability, Prepared, View
from engine.envoy.calls import CallError, Code, framed
from engine.envoy.channel import Channel
from engine.evaluate import Objection, Request
from engine.locate import Locations, Surroundings
from zt.decide import Verdict
from zt.effective import EXTERNAL
from zt.model import Phase
from zt.spiffe import SCHEME

LAYER = "evaluator"
REASON_HEADER = "x-zt-reason"
# Connections whose answers are remembered, and forgotten together: few enough that forgetting them
# delays nobody by more than milliseconds.
REMEMBERED = 1 << 14
# Nanoseconds between two looks at the certificate of the same source: reading it costs as much as
# all else that is read.
LOOK = 1_000_000_000
_FORBIDDEN = 403

_parse = CheckRequest.FromString

# Channel, source by certificate and by address, destination by certificate; where a canary may be
# asked about, its address.
Key = tuple[str, ...]


class Held(NamedTuple):
    """An answer that is not to be given before its record is safe."""

    durability: Durability
    sequence: int
    answer: bytes
    refused: bytes

    def then(self, give: Callable[[bytes], None]) -> None:
        """Give the answer when that is decided."""

        def settle(safe: bool) -> None:  # noqa: FBT001 - what Durability.when calls
            give(self.answer if safe else self.refused)

        self.durability.when(self.sequence, settle)


class _Known:
    """What is known of a kind of connection under one view."""

    __slots__ = ("address", "answers", "canary", "look", "prepared", "source")

    def __init__(self, prepared: Prepared, address: str) -> None:
        self.prepared = prepared
        self.canary = prepared.answer.phase is Phase.CANARY
        # For each of the two filters: the answer, and the one where it can't be recorded.
        self.answers = tuple(
            (
                response(prepared.answer.verdict, prepared.answer.reason, http),
                response(prepared.refused.verdict, prepared.refused.reason, http),
            )
            for http in (False, True)
        )
        self.source = prepared.answer.source
        self.address = address
        # When its certificate is looked at next, if it has a name to count it under, its own.
        mine = self.source is not None and prepared.request.objection is None
        self.look = 0.0 if mine else math.inf


class Authorization:
    """Answers Checks with a decider, for both of Envoy's ext_authz filters."""

    def __init__(self, decider: Decider) -> None:
        """Nothing is known before it is asked."""
        self._decider = decider
        self._append = decider.append
        self._durability = decider.durability
        self._view: View | None = None
        self._known: dict[Key, _Known] = {}

    def check(self, message: bytes, channel: Channel) -> bytes | Held:
        """Answer one connection: a framed response, at once or later.

        Raises:
            CallError: if the message is no CheckRequest.
        """
        started = perf_counter_ns()
        try:
            attributes = _parse(message).attributes
        except DecodeError:
            raise CallError(Code.INVALID_ARGUMENT, "this is no CheckRequest") from None
        source, destination = attributes.source, attributes.destination
        key: Key = (
            channel.key,
            source.principal,
            source.address.socket_address.address,
            destination.principal,
        )
        if self._decider.view is not self._view:
            self._forget()
        known = self._known.get(key) or self._learn(key, attributes, channel)
        if known.canary:
            # Which replica is asked about makes a difference in this phase alone.
            key += (destination.address.socket_address.address,)
            known = self._known.get(key) or self._learn(key, attributes, channel)
        if started >= known.look:
            self._look(known, source.certificate, started)
        sequence = self._append(known.prepared, started)
        answer, refused = known.answers[attributes.HasField("request") and _by_http(attributes)]
        if sequence == NOT_RECORDED:
            return refused
        if self._durability.immediate:
            return answer
        return Held(self._durability, sequence, answer, refused)

    def _forget(self) -> None:
        self._view = self._decider.view
        self._known = {}

    def _learn(self, key: Key, attributes: AttributeContext, channel: Channel) -> _Known:
        view = self._decider.view
        asked = request_of(attributes, channel, view.snapshot.surroundings, view.locations)
        if len(self._known) >= REMEMBERED:
            # Whoever makes up sources without end gains nothing but this.
            self._known = {}
        known = _Known(self._decider.prepare(asked, LAYER), key[2])
        self._known[key] = known
        return known

    def _look(self, known: _Known, certificate: str, now: int) -> None:
        known.look = now + LOOK
        if certificate:
            self._decider.metrics.certificate(str(known.source), known.address, certificate)


def _by_http(attributes: AttributeContext) -> bool:
    return bool(attributes.request.HasField("http"))


@cache
def response(verdict: Verdict, reason: str, http: bool) -> bytes:  # noqa: FBT001 - cached by place
    """The answer in Envoy's words, framed; ``http``: to its HTTP filter, not the network filter."""
    allowed = verdict is Verdict.ALLOW
    answer = CheckResponse()
    answer.status.code = Code.OK if allowed else Code.PERMISSION_DENIED
    answer.status.message = reason
    if http and allowed:
        answer.ok_response.SetInParent()
    elif http:
        denied = answer.denied_response
        denied.status.code = _FORBIDDEN
        denied.headers.add(header={"key": REASON_HEADER, "value": reason})
        denied.body = f"{reason}\n"
    return framed(answer.SerializeToString())


def request_of(
    attributes: AttributeContext,
    channel: Channel,
    surroundings: Surroundings,
    locations: Locations,
) -> Request:
    """What a Check asks."""
    address = attributes.source.address.socket_address.address
    caller = caller_of(attributes.source.principal, address, surroundings, locations)
    pod = locations.find(address)
    replica = locations.find(attributes.destination.address.socket_address.address)
    own = channel.proves(attributes.destination.principal)
    return Request(
        source=caller.id,
        destination=channel.destination if own else None,
        port=channel.port,
        pod=pod.pod if pod else None,
        node=pod.node if pod else None,
        replica=replica.pod if replica else None,
        objection=caller.objection if own else Objection.DESTINATION_MISMATCH,
    )


class Caller(NamedTuple):
    """Who calls, and what speaks against believing it."""

    id: str | None
    objection: Objection | None = None


def caller_of(
    principal: str, address: str, surroundings: Surroundings, locations: Locations
) -> Caller:
    """The caller by its certificate; without one, by its address.

    A certificate that a pod shows must be its own: one of somebody else's was stolen.
    """
    pod = locations.find(address)
    if principal:
        if not principal.startswith(SCHEME):
            return Caller(None)
        certain = pod is not None and locations.live and not pod.leaving
        stolen = certain and pod is not None and surroundings.contradicts(pod, principal)
        return Caller(principal, Objection.SOURCE_MISMATCH if stolen else None)
    if pod is not None:
        return Caller(pod.spiffe, Objection.PLAINTEXT)
    external = surroundings.external(address)
    return Caller(EXTERNAL + external if external is not None else None)
