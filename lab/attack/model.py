"""What an attack is, which layers stand in its way, and how an attempt ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lab.verify.trail import Record

Json = dict[str, Any]


class Family(StrEnum):
    """What an attack goes by."""

    NETWORK = "network"
    IDENTITY = "identity"
    ADMISSION = "admission"
    NODE = "node"


class Layer(StrEnum):
    """What stopped an attempt.

    ``route``: the sidecar's own page for metrics or health has no such path; ``gateway``: the
    Envoy that leads to other clusters has no route by that name; ``nobody``: the packet came, and
    nothing listens there; ``application``: it took what came for nonsense;
    ``attestation``: SPIRE's agent knows no registration of who asks.
    """

    ADMISSION = "admission"
    NETWORK_POLICY = "networkpolicy"
    HANDSHAKE = "handshake"
    LISTENER = "listener"
    EVALUATOR = "evaluator"
    RBAC = "rbac"
    ROUTE = "route"
    GATEWAY = "gateway"
    NOBODY = "nobody"
    APPLICATION = "application"
    ATTESTATION = "attestation"
    KERNEL = "kernel"


# Layers that write into the audit trail: once for each attempt that they stop.
RECORDED = frozenset({Layer.HANDSHAKE, Layer.LISTENER, Layer.EVALUATOR, Layer.RBAC})


class Plane(StrEnum):
    """What can be taken away, each by itself."""

    NETWORK_POLICY = "NetworkPolicies"
    REDIRECT = "redirect"
    HANDSHAKE = "list at the handshake"
    EVALUATOR = "evaluator"
    RBAC = "list behind the evaluator"


# What acts on a connection only once the redirect has led it to the sidecar.
_BEHIND_REDIRECT = frozenset({Plane.HANDSHAKE, Plane.EVALUATOR, Plane.RBAC})


@dataclass(frozen=True, slots=True)
class Stop:
    """A layer in the way, in the order in which a packet meets them.

    ``plane`` is what it is taken away by, ``None`` for what stays; ``layers`` are the names that it
    may have in the result.
    """

    plane: Plane | None
    layers: frozenset[Layer]
    behind_redirect: bool = False

    def is_there(self, removed: Collection[Plane]) -> bool:
        """Whether it still is, once something has been taken away."""
        if Plane.REDIRECT in removed and (self.behind_redirect or self.plane in _BEHIND_REDIRECT):
            return False
        return self.plane not in removed


@dataclass(frozen=True, slots=True)
class Attack:
    """A way in.

    ``defence`` are the layers in its way; ``garbled`` says that what it sends is nonsense to an
    application that is reached without its sidecar.
    """

    name: str
    family: Family
    defence: tuple[Stop, ...]
    garbled: bool = False

    def stopped_by(self, removed: Collection[Plane] = ()) -> frozenset[Layer]:
        """Which layer should stop it; empty if none is left that would."""
        for stop in self.defence:
            if stop.is_there(removed):
                return stop.layers
        if self.garbled and Plane.REDIRECT in removed:
            # Nobody, where the application listens on its loopback alone.
            return frozenset({Layer.APPLICATION, Layer.NOBODY})
        return frozenset()


# --- What is done ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dial:
    """A call from a pod, named ``<namespace>/<name>``, as ``lab.services.caller`` is asked for it.

    ``svid`` names the certificate that is shown, of those that thieves and forgers have;
    ``by_gateway`` says that the port leads to another cluster.
    """

    source: str
    question: Json
    svid: str | None = None
    by_gateway: bool = False


@dataclass(frozen=True, slots=True)
class Create:
    """An object that is to be made, or changed, on the API server.

    ``path`` is the collection's, or the object's where ``method`` is PATCH. Where ``injected``, a
    pod that is accepted with a sidecar is harmless.
    """

    path: str
    manifest: Json
    method: str = "POST"
    injected: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A program of Python in the application's container of a pod, which says how it went.

    It prints JSON: ``got_in``, ``how`` (``kernel``, ``attestation``) and ``said``.
    """

    source: str
    script: str


@dataclass(frozen=True, slots=True)
class Steal:
    """Ask SPIRE's agent for an SVID, from the application's container of a pod.

    ``own`` is the ID that the pod may have: another one is stolen, or any where it is ``None``.
    """

    source: str
    socket: str
    own: str | None = None


Action = Dial | Create | Run | Steal


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attack on one target, whose name is for people.

    ``destination`` and ``port`` are what a record of it would have.
    """

    attack: Attack
    target: str
    action: Action
    destination: str | None = None
    port: int = 0


# --- What became of it ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an attempt.

    ``got_in`` is whether it got what it wanted; ``how`` is a word for the failure (of
    ``lab.services.dialing`` for calls), ``said`` what it says for people. ``packets`` arrived at
    the destination's pod; ``None`` where nobody counts.
    """

    got_in: bool
    how: str
    said: str
    packets: int | None = None
    records: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended. ``layer`` stopped it, ``None``: nothing did.

    ``removed`` is what had been taken away, by name.
    """

    attempt: Attempt
    removed: str
    layer: Layer | None
    seen: Seen
    expected: frozenset[Layer]

    @property
    def stopped(self) -> bool:
        """Whether it failed."""
        return not self.seen.got_in

    @property
    def surprise(self) -> str | None:
        """What is not as it should be."""
        if self.seen.got_in:
            return "it got in" if self.expected else None
        if self.layer is None:
            return f"nobody knows what stopped it ({self.seen.how}: {self.seen.said})"
        if self.expected and self.layer not in self.expected:
            return f"{self.layer} stopped it, and {' or '.join(sorted(self.expected))} should have"
        return self._record_surprise()

    @property
    def denials(self) -> tuple[Record, ...]:
        """Its refusals in the trail; an evaluator that was overruled has said ALLOW beside them."""
        return tuple(record for record in self.seen.records if record.verdict == "DENY")

    def _record_surprise(self) -> str | None:
        wanted = 1 if self.layer in RECORDED else 0
        if len(self.denials) == wanted:
            return None
        return f"{len(self.denials)} refusals in the audit trail, not {wanted}"
