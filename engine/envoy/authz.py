"""Envoy's question for each new connection: ``envoy.service.auth.v3.Authorization/Check``.

Identity comes from the verified certificate (``source.principal``), never from a header. A source
without one is known by its address: a pod, which is then refused wherever the destination is
enforced, or what an ExternalService declares.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationServicer

from engine.envoy.channel import Channel, Context, channel_of
from engine.decider import Decider, known
from engine.evaluate import Objection, Request
from engine.locate import Locations, Surroundings
from engine.metrics.metrics import UNKNOWN
from zt.decide import Verdict
from zt.effective import EXTERNAL
from zt.spiffe import SCHEME

LAYER = "evaluator"


class Authorization(AuthorizationServicer):  # type: ignore[misc]
    """The service; ``Check`` answers for both of Envoy's ext_authz filters."""

    def __init__(self, decider: Decider) -> None:
        """Answer with a decider."""
        self._decider = decider

    async def Check(self, request: CheckRequest, context: Context) -> CheckResponse:  # noqa: N802
        """Answer one connection."""
        snapshot, locations = self._decider.snapshot(), self._decider.locations()
        asked = request_of(
            request.attributes, channel_of(context), snapshot.surroundings, locations
        )
        source = request.attributes.source
        if source.certificate and known(snapshot, asked.source) != UNKNOWN:
            address = source.address.socket_address.address
            self._decider.metrics.certificate(str(asked.source), address, source.certificate)
        decided = await self._decider.decide(asked, LAYER)
        return response(decided.answer.verdict, decided.answer.reason)


def response(verdict: Verdict, reason: str) -> CheckResponse:
    """The answer in Envoy's words."""
    allowed = verdict is Verdict.ALLOW
    code = grpc.StatusCode.OK if allowed else grpc.StatusCode.PERMISSION_DENIED
    return CheckResponse(status={"code": code.value[0], "message": reason})


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


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what speaks against believing it."""

    id: str | None
    objection: Objection | None = None


def caller_of(
    principal: str, address: str, surroundings: Surroundings, locations: Locations
) -> Caller:
    """The caller by its certificate; without one, by its address."""
    if principal:
        return Caller(principal if principal.startswith(SCHEME) else None)
    pod = locations.find(address)
    if pod is not None:
        return Caller(pod.spiffe, Objection.PLAINTEXT)
    external = surroundings.external(address)
    return Caller(EXTERNAL + external if external is not None else None)
