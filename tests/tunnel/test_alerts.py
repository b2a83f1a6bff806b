"""The alerts that are shipped, on what a gateway exports."""

from __future__ import annotations

from gateway.tunnel.book import Step
from gateway.tunnel.metrics import PeerSample, Sample, render
from lab.tunnel.alerts import alerts, raised
from lab.tunnel.proofs import DOWN

DAY = 86400.0


def exported(
    *, is_up: bool = True, key_age: float = 0.0, failing: bool = False
) -> dict[str, float]:
    peer = PeerSample("lux-k8s", is_up, 0, 0, None, 0)
    text = render(Sample((peer,), key_age=key_age, step=Step.STAGED, store_failing=failing))
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def test_what_is_raised_by_what() -> None:
    assert raised(exported()) == set()
    assert raised(exported(is_up=False)) == {DOWN}
    assert raised(exported(failing=True)) == {"ZTTunnelStoreFailing"}
    assert raised(exported(key_age=74 * DAY)) == set()
    assert raised(exported(key_age=76 * DAY)) == {"ZTTunnelKeyOld"}
    assert raised(exported(key_age=86 * DAY)) == {"ZTTunnelKeyOld", "ZTTunnelKeyExpiring"}


def test_only_the_tunnels_are_read() -> None:
    assert all(alert.metric.startswith("zt_wireguard_") for alert in alerts())
