"""The Prometheus metrics of the evaluator, with the names of HIP-54, "Prometheus Metrics".

Text format 0.0.4. Labels hold only identities that the policy declares; everybody else is
``unknown``, so that no caller can make series without end.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence

from zt.decide import Verdict

UNKNOWN = "unknown"
QUANTILES = (0.5, 0.9, 0.99)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Quantiles are exact over the latest decisions, however long ago the first of them was.
_WINDOW = 4096
# Addresses whose certificate is remembered: one for each pod that called lately.
_CERTIFICATES = 1 << 16

# A sample: what follows the family's name, and the value.
Sample = tuple[str, float]


class Metrics:
    """All counters of one process. Not for several threads."""

    def __init__(self) -> None:
        """Everything starts at nothing."""
        self._decisions: Counter[tuple[str, str, str]] = Counter()
        self._rotations: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._durations: deque[float] = deque(maxlen=_WINDOW)
        self._duration_sum = 0.0
        self._duration_count = 0
        self._certificates: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._audit_failures = 0

    def decision(self, verdict: Verdict, source: str, destination: str) -> None:
        """Count a decision."""
        self._decisions[verdict.lower(), source, destination] += 1

    def duration(self, seconds: float) -> None:
        """Note how long a decision took."""
        self._durations.append(seconds)
        self._duration_sum += seconds
        self._duration_count += 1

    def refused_without_identity(self, reason: str) -> None:
        """Count a refused peer that showed no identity."""
        self._refused[reason] += 1

    def audit_failure(self) -> None:
        """Count a record that was not committed in time."""
        self._audit_failures += 1

    def certificate(self, service: str, address: str, certificate: str) -> None:
        """Note the certificate of a caller: another one from the same address is a rotation."""
        key = service, address
        digest = hashlib.sha256(certificate.encode()).digest()
        before = self._certificates.pop(key, digest)
        self._certificates[key] = digest
        self._rotations[service] += before != digest
        if len(self._certificates) > _CERTIFICATES:
            self._certificates.popitem(last=False)

    def render(self, *, policy_ready: bool, policy_stale: bool, audit_available: bool) -> str:
        """The text that Prometheus scrapes."""
        lines = [
            *_family("zt_decisions_total", "counter", "Access decisions.", self._decision_rows()),
            *_family(
                "zt_evaluation_duration_seconds",
                "summary",
                "Time to decide, without the commit of the audit record.",
                self._duration_rows(),
            ),
            *_family(
                "zt_svid_rotations_total",
                "counter",
                "Changed certificates, as callers present them.",
                _rows("service", self._rotations),
            ),
            *_family(
                "zt_refused_without_identity_total",
                "counter",
                "Refused peers that showed no identity.",
                _rows("reason", self._refused),
            ),
            *_family(
                "zt_audit_failures_total",
                "counter",
                "Audit records that were not committed in time.",
                [("", self._audit_failures)],
            ),
            *_gauge("zt_policy_ready", "Whether a policy is in force.", policy_ready),
            *_gauge("zt_policy_stale", "Whether a bad change was left out.", policy_stale),
            *_gauge("zt_audit_available", "Whether the trail can be written.", audit_available),
        ]
        return "\n".join(lines) + "\n"

    def _decision_rows(self) -> Iterator[Sample]:
        for (decision, source, destination), count in sorted(self._decisions.items()):
            labels = (("decision", decision), ("source", source), ("dest", destination))
            yield _labels(labels), count

    def _duration_rows(self) -> Iterator[Sample]:
        ordered = sorted(self._durations)
        for quantile in QUANTILES:
            yield _labels([("quantile", str(quantile))]), nearest_rank(ordered, quantile)
        yield "_sum", self._duration_sum
        yield "_count", self._duration_count


def nearest_rank(ordered: Sequence[float], quantile: float) -> float:
    """The quantile of ascending values by nearest rank; NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(math.ceil(quantile * len(ordered)), 1) - 1]


def _rows(label: str, counts: Counter[str]) -> Iterator[Sample]:
    return ((_labels([(label, key)]), count) for key, count in sorted(counts.items()))


def _gauge(name: str, text: str, value: bool) -> Iterator[str]:  # noqa: FBT001 - it is the value
    return _family(name, "gauge", text, [("", int(value))])


def _family(name: str, kind: str, text: str, rows: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for suffix, value in rows:
        yield f"{name}{suffix} {value if math.isfinite(value) else 'NaN'}"


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
