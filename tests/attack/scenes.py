"""The policies of the lab as a scene: a pod for each service."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from lab.attack.model import Attempt, Dial, Layer, Result, Seen
from lab.attack.scene import Place, Scene
from lab.services.policies import lay
from lab.verify.trail import Record
from zt.effective import effective
from zt.load import load_policy
from zt.model import Policy

POLICIES = Path(__file__).parents[2] / "policies"


def _laid() -> Policy:
    """As the lab has them: with a server that speaks first, and an audit database in lux-k8s."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "policies"
        lay(POLICIES, target, short=False)
        return load_policy(target)


EFFECTIVE = effective(_laid(), date(2026, 1, 1))
# What the stacks bring, and what no dialer of ours is in.
_OTHERS = {"zt-policy-engine", "wg-gateway", "zt-audit-db"}


def scene(cluster: str = "hanzo-k8s") -> Scene:
    services = [item.service for item in EFFECTIVE.in_cluster(cluster)]
    bare = Scene(
        cluster=cluster,
        effective=EFFECTIVE,
        places={
            service.name: Place(
                f"{service.namespace}/{service.name}-0", f"10.240.1.{number}", "node-1"
            )
            for number, service in enumerate(services, 10)
        },
        callers=frozenset(s.name for s in services if s.name not in _OTHERS),
        nodes=("node-1", "node-2"),
        aliases={},
    )
    names = [target.name for target in bare.targets]
    aliases = {
        f"{kind} {name}": f"10.241.{number}.{index}"
        for number, kind in enumerate(("inside", "outside"))
        for index, name in enumerate(names)
    }
    return replace(bare, aliases=aliases)


def record(
    layer: str, *, source: str | None = None, reason: str = "no_rule", verdict: str = "DENY"
) -> Record:
    return Record(
        time=datetime(2026, 1, 1, tzinfo=UTC),
        source_id=source,
        source_pod="chat-0",
        source_node="node-1",
        destination_id="spiffe://hanzo.ai/hanzo-k8s/hanzo/postgres",
        destination_port=5432,
        verdict=verdict,
        would_be=verdict,
        rule="default",
        reason=reason,
        layer=layer,
    )


def refused(how: str = "reset", *layers: str, packets: int | None = 1) -> Seen:
    return Seen(
        got_in=False, how=how, said=how, packets=packets, records=tuple(map(record, layers))
    )


def result(attempt: Attempt, seen: Seen, layer: Layer | None, removed: str = "") -> Result:
    return Result(attempt, removed, layer, seen, attempt.attack.stopped_by())


def dial(attempt: Attempt) -> Dial:
    assert isinstance(attempt.action, Dial)
    return attempt.action
