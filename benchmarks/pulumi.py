"""What `pulumi up` costs, by the real engine: `python -m benchmarks.pulumi`. Needs root, and Go.

Each stack meets a real API server of the lab: a preview and an up into an empty cluster, a preview
when all is there, an up after one rule more, an up that has nothing to do. The same for a policy of
300 services and 600 rules, by the lab's own stack. Its first up writes the state once, at its end:
a file is written whole after each step, which takes minutes. Clusters on DigitalOcean are left out.

A figure is seconds from the start of the command to the engine's summary: the program's run and the
compiler's are within. The lab's stand-in serves the Kubernetes provider, a Python process beside.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pulumi import automation

from benchmarks.generate import CLUSTER, NAMESPACES, PORTS, generated_policy
from lab.cluster.controlplane import control_planes
from lab.cluster.model import LabError
from lab.provider.access import client
from lab.provider.serve import serving
from lab.stack.folder import Engine, opened
from lab.stack.run import Outcome, preview, up
from lab.tools.build import tool
from tests.lab.pulumi.policies import add_rule, copied
from zt.load import load_policy
from zt.model import Rule, Service

STACKS = ("hanzo-k8s", "lux-k8s", "lab-hanzo-k8s", "lab-lux-k8s")
SOURCES = {"hanzo-k8s": "hanzo-k8s/hanzo/chat", "lux-k8s": "lux-k8s/lux/validator"}
GENERATED, GENERATED_STACK = "generated", "lab-hanzo-k8s"
GENERATED_SERVICES, GENERATED_RULES = 300, 600
TARGET_PREVIEW, TARGET_RULE = 10.0, 15.0
MOST_RESOURCES = 300
_SAVE_ONCE = {"PULUMI_SKIP_CHECKPOINTS": "true"}


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds of each command; ``changed`` is how many resources a rule touches."""

    name: str
    resources: int
    changed: int
    preview: float
    up: float
    preview_again: float
    rule: float
    up_again: float

    @property
    def missed(self) -> bool:
        """Whether a target is missed."""
        return max(self.preview, self.preview_again) > TARGET_PREVIEW or self.rule > TARGET_RULE


@dataclass(frozen=True, slots=True)
class Case:
    """A stack with policies that may be changed, and the edge that a rule more allows.

    ``first_environment`` is the engine's for the first up.
    """

    title: str
    stack: str
    policies: Path
    source: str
    destination: tuple[str, int]
    first_environment: Mapping[str, str] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; 1 where a target is missed, 2 where they can't be taken."""
    wanted = _options().parse_args(arguments).only or [*STACKS, GENERATED]
    with tempfile.TemporaryDirectory(prefix="zt-pulumi-") as name:
        folder = Path(name)
        try:
            figures = [_measured(_case(name, folder), folder) for name in dict.fromkeys(wanted)]
        except LabError as error:
            sys.stderr.write(f"{error}\n")
            return 2
    print("\n".join(_table(figures)))
    return int(any(item.missed for item in figures))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pulumi",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[*STACKS, GENERATED],
        metavar="STACK",
        help=f"measure this alone: {', '.join(STACKS)} or {GENERATED}; may be given several times",
    )
    return parser


def _case(name: str, folder: Path) -> Case:
    policies = copied(folder / "policies" / name)
    if name == GENERATED:
        title = f"{GENERATED_SERVICES} services, {GENERATED_RULES} rules"
        first, last = _place(0), _place(GENERATED_SERVICES - 1)
        policies = _generated(policies)
        return Case(title, GENERATED_STACK, policies, first, (last, PORTS[0]), _SAVE_ONCE)
    source = SOURCES[name.removeprefix("lab-")]
    return Case(name, name, policies, source, ("hanzo-k8s/hanzo/iam", 8000))


def _measured(case: Case, folder: Path) -> Figures:
    """Each begins with an empty cluster of its own."""
    cluster = case.stack.removeprefix("lab-")
    policy = load_policy(case.policies)
    clusters = [item for item in policy.mesh.clusters if item.name == cluster]
    with control_planes(folder / "lab", clusters) as planes, serving() as provider:
        kubeconfig = str(planes[cluster].kubeconfig)
        with client(kubeconfig) as http:
            for name in sorted({item.namespace for item in policy.services}):
                http.post("/api/v1/namespaces", json={"metadata": {"name": name}})
        engine = Engine(
            pulumi=tool("pulumi"),
            folder=folder / "engines" / case.title,
            environment=provider.environment,
        )
        adopt = {"kubeconfig": kubeconfig, "context": None}
        over = {"kubernetes": {"adopt": adopt}, "policies": str(case.policies)}
        environment = {**engine.environment, **case.first_environment}
        first = opened(case.stack, replace(engine, environment=environment), over)
        return _run(case, first, opened(case.stack, engine, over))


def _run(case: Case, begun: automation.Stack, stack: automation.Stack) -> Figures:
    first, made = _said(case, "preview", preview(begun)), _said(case, "up", up(begun))
    again = _said(case, "preview of no change", preview(stack))
    idle = _said(case, "up of no change", up(stack))
    add_rule(case.policies, case.source, *case.destination)
    rule = _said(case, "up of a rule more", up(stack))
    return Figures(
        case.title,
        made.resources,
        len(rule.changes),
        first.seconds,
        made.seconds,
        again.seconds,
        rule.seconds,
        idle.seconds,
    )


def _said(case: Case, what: str, outcome: Outcome) -> Outcome:
    """Say how far it is, beside the figures."""
    sys.stderr.write(f"{case.title}: {what}: {outcome.seconds:.1f} s\n")
    return outcome


def _table(figures: list[Figures]) -> Iterator[str]:
    heads = ("resources", "preview", "up", "no-op preview", "no-op up", "one rule", "changed by it")
    yield f"| stack | {' | '.join(heads)} |"
    yield f"|---|{'---:|' * len(heads)}"
    for item in figures:
        seconds = (item.preview, item.up, item.preview_again, item.up_again, item.rule)
        cells = [item.name, item.resources, *(f"{value:.1f} s" for value in seconds), item.changed]
        yield f"| {' | '.join(map(str, cells))} |"
    yield ""
    yield f"Targets: preview under {TARGET_PREVIEW:.0f} s, one rule under {TARGET_RULE:.0f} s."
    for item in figures:
        if item.resources > MOST_RESOURCES:
            yield f"{item.name}: more than {MOST_RESOURCES} resources."
        if item.missed:
            yield f"{item.name}: a target is missed."


# --- Generated ------------------------------------------------------------------------------------


def _generated(policies: Path) -> Path:
    """Add generated services and rules to a copy of the policies."""
    policy = generated_policy(GENERATED_SERVICES, GENERATED_RULES)
    services = [_service(item) for item in policy.services if item.name.startswith("service-")]
    rules = [_rule(rule) for access in policy.access for rule in access.rules]
    _write(policies / "services" / "generated.yaml", services)
    spec = {"rules": rules, "defaultAction": "DENY"}
    _write(policies / "access" / "generated.yaml", [_document("ServiceAccessPolicy", "it", spec)])
    return policies


def _service(item: Service) -> dict[str, Any]:
    ports = [{"port": port.port, "protocol": port.protocol.value} for port in item.ports]
    spec = {"cluster": item.cluster, "namespace": item.namespace, "ports": ports}
    return _document("Service", item.name, spec)


def _rule(rule: Rule) -> dict[str, Any]:
    (to,) = rule.to
    return {
        "from": {"spiffe": str(rule.source.spiffe)},
        "to": [{"spiffe": str(to.spiffe), "ports": list(to.ports)}],
    }


def _document(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "zt.hanzo.ai/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _write(path: Path, documents: list[dict[str, Any]]) -> None:
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")


def _place(number: int) -> str:
    return f"{CLUSTER}/namespace-{number % NAMESPACES}/service-{number}"


if __name__ == "__main__":
    sys.exit(main())
