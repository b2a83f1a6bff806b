"""The stacks of a lab, by the real engine: opened where the lab keeps its state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pulumi import automation

from lab.cluster.model import LabError, Layout
from lab.provider.serve import serving
from lab.stack.folder import Engine, opened
from lab.stack.run import Outcome
from lab.stack.run import up as bring_up
from lab.tools.build import tool
from lab.up.kms import configured

# So many lines of what the engine says when it fails.
_LINES = 40
# Each cluster's trail is in a database beside it, where the lab counts its records.
_AT_HOME = {"existing": None, "inCluster": {"storage": "1Gi"}}


@dataclass(frozen=True, slots=True)
class Stacks:
    """The stacks of the lab in a folder, as long as their provider is served."""

    layout: Layout
    engine: Engine

    def open(self, cluster: str) -> automation.Stack:
        """The stack of a cluster."""
        return opened(f"lab-{cluster}", self.engine, _over(self.layout, cluster))

    def up(self, cluster: str) -> Outcome:
        """Bring a cluster's stack up, and say what changed.

        Raises:
            LabError: with what the engine said.
        """
        try:
            return bring_up(self.open(cluster))
        except automation.CommandError as error:
            said = "\n".join(str(error).splitlines()[-_LINES:])
            raise LabError(f"`pulumi up` of lab-{cluster} failed: {said}") from None


@contextmanager
def stacks(layout: Layout) -> Iterator[Stacks]:
    """The stacks, and what they need to run."""
    with serving() as provider:
        engine = Engine(
            pulumi=tool("pulumi"), folder=layout.engine, environment=provider.environment
        )
        yield Stacks(layout, engine)


def _over(layout: Layout, cluster: str) -> Mapping[str, Any]:
    """What is laid over the stack's own configuration: where this lab is."""
    return {
        "kubernetes": {"adopt": {"kubeconfig": str(layout.kubeconfig(cluster))}},
        "policies": str(layout.policies),
        "audit": _AT_HOME,
        **configured(layout, cluster),
    }
