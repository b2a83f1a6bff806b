"""Which groups of TLS sidecars agreed on with their peers, as their own counters say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

# As Envoy names them: of listeners and of clusters, whose names have dots as well.
COUNTERS = r"/stats?usedonly&filter=\.ssl\.curves\."
_COUNTER = re.compile(r"^.*\.ssl\.curves\.(\S+): (\d+)$", re.MULTILINE)

# How many handshakes ended with a group, by its name.
Groups = Mapping[str, int]


def groups_in(stats: str) -> Groups:
    """The groups of all handshakes of a sidecar, the most frequent first."""
    found: Counter[str] = Counter()
    for name, count in _COUNTER.findall(stats):
        found[name] += int(count)
    return dict(found.most_common())


def named(groups: Groups) -> str:
    """Groups for people; how often each was agreed on is said where there are several."""
    if len(groups) == 1:
        return next(iter(groups))
    return ", ".join(f"{name} {count}" for name, count in groups.items())
