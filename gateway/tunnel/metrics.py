"""Metrics of a tunnel, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.tunnel.book import Step

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAMILIES = {
    "zt_wireguard_peer_up": ("gauge", "Whether the tunnel to a cluster is up."),
    "zt_wireguard_received_bytes_total": ("counter", "Bytes that came from a cluster."),
    "zt_wireguard_sent_bytes_total": ("counter", "Bytes that went to a cluster."),
    "zt_wireguard_handshake_age_seconds": ("gauge", "Time since the last handshake."),
    "zt_wireguard_unattested_total": ("counter", "Answers that no SVID of the peer vouched for."),
    "zt_wireguard_key_age_seconds": ("gauge", "Age of the gateway's own key."),
    "zt_wireguard_rotation": ("gauge", "The step that a rotation is at; none is 0 for all."),
    "zt_wireguard_store_failing": ("gauge", "Whether KMS could not be written to last time."),
}


@dataclass(frozen=True)
class PeerSample:
    """A peer; ``handshake_age`` is ``None`` before the first."""

    cluster: str
    is_up: bool
    received: int
    sent: int
    handshake_age: float | None
    unattested: int = 0


@dataclass(frozen=True)
class Sample:
    """A tunnel at one moment."""

    peers: tuple[PeerSample, ...]
    key_age: float
    step: Step | None
    store_failing: bool


def render(sample: Sample) -> str:
    """All metrics of a tunnel."""
    values: Mapping[str, Iterable[tuple[str, float]]] = {
        "zt_wireguard_peer_up": [(_of(p), float(p.is_up)) for p in sample.peers],
        "zt_wireguard_received_bytes_total": [(_of(p), p.received) for p in sample.peers],
        "zt_wireguard_sent_bytes_total": [(_of(p), p.sent) for p in sample.peers],
        "zt_wireguard_handshake_age_seconds": [
            (_of(p), p.handshake_age) for p in sample.peers if p.handshake_age is not None
        ],
        "zt_wireguard_unattested_total": [(_of(p), p.unattested) for p in sample.peers],
        "zt_wireguard_key_age_seconds": [("", sample.key_age)],
        "zt_wireguard_rotation": [
            (f'{{step="{step.value}"}}', float(step is sample.step))
            for step in Step
            if step is not Step.JOINING
        ],
        "zt_wireguard_store_failing": [("", float(sample.store_failing))],
    }
    return "\n".join([*_lines(values), ""])


def _lines(values: Mapping[str, Iterable[tuple[str, float]]]) -> Iterator[str]:
    for name, (kind, text) in _FAMILIES.items():
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        yield from (f"{name}{labels} {value:.15g}" for labels, value in values[name])


def _of(peer: PeerSample) -> str:
    return f'{{cluster="{peer.cluster}"}}'
