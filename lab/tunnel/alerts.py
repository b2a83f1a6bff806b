"""Which of the alerts that are shipped hold, by what a gateway exports."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_RULES = Path(__file__).parents[2] / "docs/monitoring/alerts.yaml"
_OURS = "zt_wireguard_"
# A metric, compared with a number; what aggregates is not asked here.
_EXPRESSION = re.compile(r"(?P<metric>\w+) (?P<compared>==|>) (?P<limit>[\d. *]+)")
_COMPARED: Mapping[str, Callable[[float, float], bool]] = {"==": operator.eq, ">": operator.gt}


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: pending while its expression holds, and firing once that is so for long enough."""

    name: str
    metric: str
    compared: str
    limit: float

    def holds(self, series: str, value: float) -> bool:
        """Whether its expression holds for a sample; ``series`` is its name and labels."""
        is_its = series.partition("{")[0] == self.metric
        return is_its and _COMPARED[self.compared](value, self.limit)


def alerts(path: Path = _RULES) -> tuple[Alert, ...]:
    """The alerts of the tunnel that compare one of its metrics with a number."""
    return tuple(_found(yaml.safe_load(path.read_text(encoding="utf-8"))))


def _found(rules: Any) -> Iterator[Alert]:  # noqa: ANN401 - any YAML
    for group in rules["groups"]:
        for rule in group["rules"]:
            said = _EXPRESSION.fullmatch(str(rule.get("expr", "")))
            if said and said["metric"].startswith(_OURS):
                limit = math.prod(map(float, said["limit"].split("*")))
                yield Alert(rule["alert"], said["metric"], said["compared"], limit)


def raised(metrics: Mapping[str, float]) -> frozenset[str]:
    """The names of the tunnel's alerts that are pending or firing."""
    return frozenset(
        alert.name
        for alert in alerts()
        for series, value in metrics.items()
        if alert.holds(series, value)
    )
