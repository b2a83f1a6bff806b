"""Whether any key that KMS has is anywhere else, and whether anything looks like one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from lab.check.model import BrokenError, Check, Judge, all_of
from lab.scan import carriers
from lab.scan.carriers import Carrier
from lab.scan.kms import keys_of
from lab.scan.scan import PLANTED, scan
from lab.tunnel.site import Tunnels

_SHOWN = 5

Look = Callable[[], Iterator[Carrier]]


def leaks(tunnels: Tunnels) -> Iterator[Check]:
    """Objects, state, processes and logs have no key; Secrets have none of those of KMS."""
    tunnels.say("looking for keys in objects, state, processes and logs")
    layout = tunnels.lab.layout
    planted = keys_of(layout)
    yield from all_of("no key but in KMS", _judges(tunnels, planted))


def _judges(tunnels: Tunnels, planted: tuple[bytes, ...]) -> Iterator[tuple[str, Judge]]:
    layout = tunnels.lab.layout
    for cluster in tunnels.lab.clusters:
        api = tunnels.lab.api(cluster)
        yield (
            f"objects of {cluster}",
            partial(_clean, partial(carriers.objects, api, cluster), planted),
        )
        secrets = partial(carriers.secrets, api, cluster)
        yield f"Secrets of {cluster}", partial(_clean, secrets, planted, only_planted=True)
    for name, found in (
        ("Pulumi's state", carriers.state),
        ("environment and arguments", carriers.started),
        ("logs", carriers.logs),
    ):
        yield name, partial(_clean, partial(found, layout), planted)


def _clean(found: Look, planted: tuple[bytes, ...], *, only_planted: bool = False) -> str:
    looked = list(found())
    seen = [one for one in scan(looked, planted) if not only_planted or one.kind == PLANTED]
    if seen:
        more = f" and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else ""
        raise BrokenError("; ".join(map(str, seen[:_SHOWN])) + more)
    size = sum(len(content) for _, content in looked)
    return f"{len(looked)} looked through, {size / 1e6:.1f} MB, for {len(planted)} forms of keys"
