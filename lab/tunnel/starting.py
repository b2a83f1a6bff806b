"""A gateway that starts: another pod of it, and what its init step writes each time it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.check.model import BrokenError
from lab.nodes.pods import Pod, pods
from lab.tunnel.site import Gateway, Tunnels, eventually

STEP = "fetch-keys"
# What the step writes when it has what it came for.
_DONE = "is in /"
# As the container runtime writes it, a line is a time, a stream, whether it is whole, and the text.
_FIELDS = 3
_LONG = 60.0


@dataclass(slots=True)
class Log:
    """What a container wrote, by how often it had been started before; also what is removed."""

    folder: Path
    runs: dict[int, str] = field(default_factory=dict)

    def look(self) -> None:
        """See what is there now."""
        for file in self.folder.glob("*.log"):
            with suppress(FileNotFoundError):
                self.runs[int(file.stem)] = _text(file.read_text(encoding="utf-8"))

    def lacking(self, reasons: Sequence[str]) -> list[int]:
        """Runs that have ended without saying all of why: another has begun after them."""
        last = max(self.runs, default=0)
        return [number for number in range(last) if not self.says(number, reasons)]

    def saying(self, reasons: Sequence[str]) -> int:
        """How many runs say all of why."""
        return sum(self.says(number, reasons) for number in self.runs)

    def says(self, number: int, reasons: Sequence[str]) -> bool:
        """Whether a run says all of why."""
        return all(reason in self.runs.get(number, "") for reason in reasons)

    @property
    def is_done(self) -> bool:
        """Whether the last run has what it came for."""
        return _DONE in self.runs.get(max(self.runs, default=0), "")


def _text(written: str) -> str:
    return "\n".join(line.split(" ", _FIELDS)[-1] for line in written.splitlines())


def another(tunnels: Tunnels, gateway: Gateway) -> Pod:
    """Delete a gateway's pod; returns the one that comes in its place, once it is on a node.

    Raises:
        LabError: if none comes.
    """
    api, old = tunnels.lab.api(gateway.cluster), gateway.place.pod
    labels = gateway.place.declared.service.labels.items()

    def others() -> list[Pod]:
        found = pods(api, old.namespace)
        return [pod for pod in found if labels <= pod.labels.items() and pod.uid != old.uid]

    path = f"/api/v1/namespaces/{old.namespace}/pods/{old.name}"
    api.delete(f"{path}?gracePeriodSeconds=1")
    eventually(lambda: any(pod.node for pod in others()), _LONG, "that another pod is on a node")
    return next(pod for pod in others() if pod.node)


def log_of(tunnels: Tunnels, pod: Pod) -> Log:
    """What the init step of a gateway's pod writes."""
    node = next(node for node in tunnels.lab.nodes if node.name == pod.node)
    name = f"{pod.namespace}_{pod.name}_{pod.uid}"
    return Log(node.folder / "var/log/pods" / name / STEP)


def await_reasons(log: Log, reasons: Sequence[str], runs: int) -> None:
    """Wait until so many runs have said why they can't go on.

    Raises:
        BrokenError: if they do not, or one has ended without.
    """

    def said() -> bool:
        log.look()
        return log.saying(reasons) >= runs

    eventually(said, _LONG * runs, f"that {runs} of the init step's runs say {reasons}")
    check_spoken(log, reasons)


def check_spoken(log: Log, reasons: Sequence[str]) -> None:
    """See that no run has ended without saying why.

    Raises:
        BrokenError: if one has.
    """
    if silent := log.lacking(reasons):
        raise BrokenError(f"run {silent[0]} ended without a reason: {log.runs.get(silent[0])!r}")


def restarts(gateway: Gateway) -> Mapping[str, int]:
    """How often each container of a gateway was started again, as its pod's object says."""
    status = gateway.place.manifest.get("status", {})
    return {
        item["name"]: int(item.get("restartCount", 0))
        for kind in ("initContainerStatuses", "containerStatuses")
        for item in status.get(kind) or ()
    }
