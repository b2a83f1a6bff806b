"""Connections that a sidecar refused before the evaluator was asked, or after it.

Envoy's ``envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs``: each connection that ended
at the TLS handshake, at the sidecar's own RBAC, or at a listener that has no filter chain for it
becomes one audit record.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import NamedTuple

from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogCommon
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from google.protobuf.message import DecodeError

from engine.decider import Decider
from engine.envoy.authz import caller_of
from engine.envoy.calls import CallError, Code, framed
from engine.envoy.channel import Channel
from engine.evaluate import Answer, Objection, Request, evaluate
from engine.locate import Locations, Surroundings
from zt.decide import Verdict
from zt.model import Phase
from zt.spiffe import SCHEME

HANDSHAKE = "handshake"
RBAC = "rbac"
LISTENER = "listener"
# Entries that are recorded before others have their turn: about a millisecond.
PIECE = 100
TAKEN = framed(StreamAccessLogsResponse().SerializeToString())
_RBAC_DETAILS = "rbac_access_denied"
# How the listener's TLS inspector begins, which notes what is no TLS also where that is welcome.
_INSPECTED = "TLS error|error:"
_TIMEOUT_DETAILS = "transport socket timeout"
# The chain is trusted and in date; only the list of names refused it, so the name is proven.
_NAME_REFUSED = "SAN matcher"
# Objections behind which the chain has been verified, so that the name is the peer's own.
_SAYS_WHO = (None, Objection.CERTIFICATE_EXPIRED)
# What BoringSSL says, in order: the first that is found tells.
_SIGNS = (
    ("certificate has expired", Objection.CERTIFICATE_EXPIRED),
    ("CERTIFICATE_VERIFY_FAILED", Objection.CERTIFICATE_UNTRUSTED),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", Objection.NO_CERTIFICATE),
    ("WRONG_VERSION_NUMBER", Objection.NOT_TLS),
    ("HTTP_REQUEST", Objection.NOT_TLS),
)

_log = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """Which layer refused, and why where it was not the policy."""

    layer: str
    objection: Objection | None


class _Refused(NamedTuple):
    """A connection that was refused, for the trail."""

    request: Request
    answer: Answer
    layer: str


class Reports:
    """One stream of a sidecar's entries, recorded in their order.

    Whoever carries the stream takes no more from the sidecar while entries wait, and has them
    recorded piece by piece; after a failure, again each second. The connections are refused
    already, so their records can wait, and Envoy with them.
    """

    def __init__(self, decider: Decider, channel: Channel) -> None:
        """Record with a decider what a channel's sender reports.

        Raises:
            CallError: if the sender speaks of others' connections.
        """
        if not channel.proves(""):
            _log.warning("%s reports connections of %s", channel.peer, channel.destination)
            raise CallError(Code.PERMISSION_DENIED, "speak of your own connections")
        self._decider = decider
        self._channel = channel
        self._entries: deque[AccessLogCommon] = deque()
        self._unrecorded: _Refused | None = None

    @property
    def failed(self) -> bool:
        """Whether the first that waits could not be appended."""
        return self._unrecorded is not None

    @property
    def waiting(self) -> int:
        """How many entries wait."""
        return len(self._entries) + self.failed

    def take(self, message: bytes) -> None:
        """Let a message's entries wait.

        Raises:
            CallError: if it is no StreamAccessLogsMessage.
        """
        try:
            entries = StreamAccessLogsMessage.FromString(message).tcp_logs.log_entry
        except DecodeError:
            raise CallError(Code.INVALID_ARGUMENT, "this is no StreamAccessLogsMessage") from None
        self._entries.extend(entry.common_properties for entry in entries)

    def record(self, most: int = PIECE) -> bool:
        """Record some of what waits; whether nothing does any more."""
        for _ in range(most):
            refused = self._unrecorded or self._next()
            if refused is None:
                return True
            if not self._record(refused):
                self._unrecorded = refused
                return False
            self._unrecorded = None
        return not self._entries

    def _next(self) -> _Refused | None:
        """The next that was refused by the sidecar."""
        while self._entries:
            refused = self._read(self._entries.popleft())
            if refused is not None:
                return refused
        return None

    def _read(self, entry: AccessLogCommon) -> _Refused | None:
        view, channel = self._decider.view, self._channel
        snapshot, locations = view.snapshot, view.locations
        address = entry.downstream_remote_address.socket_address.address
        from_pod = bool(locations.find(address)) or snapshot.surroundings.is_pod(address)
        # Only an enforced port is closed to what comes without the mesh's TLS.
        phase = snapshot.table.phase(channel.destination or "") or Phase.ENFORCE
        refusal = refusal_of(entry, no_pods=from_pod and phase is Phase.ENFORCE)
        if refusal is None:
            return None
        request = request_of(entry, refusal, channel, snapshot.surroundings, locations)
        answer = refused(evaluate(snapshot, locations, request))
        return _Refused(request, answer, refusal.layer)

    def _record(self, refused: _Refused) -> bool:
        request, answer, layer = refused
        decider = self._decider
        if not decider.record(request, answer, layer):
            return False
        # A name that an objection speaks against may be anyone's.
        proven = answer if request.objection is None else answer._replace(source=None)
        decider.metrics.bump(decider.counter(proven))
        if request.source is None:
            decider.metrics.refused_without_identity(answer.reason)
        return True


def refusal_of(entry: AccessLogCommon, *, no_pods: bool) -> Refusal | None:
    """Who refused a connection; ``None`` if nobody but the evaluator did.

    ``no_pods``: whether it came from a pod to a port that takes pods by the mesh's TLS alone.
    """
    reason = entry.downstream_transport_failure_reason.replace("_", " ")
    details = entry.connection_termination_details
    # First: RBAC acts on the first byte, when the application may have been dialled already.
    if details.startswith(_RBAC_DETAILS):
        return Refusal(RBAC, None)
    if entry.upstream_cluster or entry.response_flags.HasField("unauthorized_details"):
        return None
    if details.startswith(_TIMEOUT_DETAILS) or (reason and not reason.startswith(_INSPECTED)):
        return Refusal(HANDSHAKE, _objection(reason))
    # An enforced port with a door to the outside has no chain for pods. An entry without any sign
    # is theirs, or that of a peer from outside who went before asking anything.
    if no_pods or entry.response_flags.no_route_found:
        return Refusal(LISTENER, None)
    return None


def _objection(reason: str) -> Objection | None:
    """Why a handshake ended; ``None`` where the peer's proven name is not on the list."""
    if _NAME_REFUSED in reason:
        return None
    found = (objection for sign, objection in _SIGNS if sign.replace("_", " ") in reason)
    return next(found, Objection.HANDSHAKE_FAILED)


def peer_of(entry: AccessLogCommon) -> str | None:
    """The SPIFFE ID in the peer's certificate; not proven unless the name alone was refused."""
    names = entry.tls_properties.peer_certificate_properties.subject_alt_name
    return next((name.uri for name in names if name.uri.startswith(SCHEME)), None)


def request_of(
    entry: AccessLogCommon,
    refusal: Refusal,
    channel: Channel,
    surroundings: Surroundings,
    locations: Locations,
) -> Request:
    """The connection that was refused."""
    address = entry.downstream_remote_address.socket_address.address
    local = entry.downstream_local_address.socket_address.address
    pod, replica = locations.find(address), locations.find(local)
    objection = refusal.objection
    # Anyone can write any name into a certificate of their own: the trail must not blame it.
    source = peer_of(entry) if objection in _SAYS_WHO else None
    if source is None and refusal.layer != HANDSHAKE:
        caller = caller_of("", address, surroundings, locations)
        source, objection = caller.id, caller.objection
    return Request(
        source=source,
        destination=channel.destination,
        port=channel.port,
        pod=pod.pod if pod else None,
        node=pod.node if pod else None,
        replica=replica.pod if replica else None,
        objection=objection,
    )


def refused(answer: Answer) -> Answer:
    """An answer for what has been refused, whatever the policy grants."""
    granted = answer.would_be is Verdict.ALLOW
    reason = Objection.NOT_ON_LIST if granted else answer.reason
    return answer._replace(verdict=Verdict.DENY, reason=reason)
