"""The program of ``pulumi up``: the policies, compiled for this stack's cluster, brought into it.

It asks for nothing but the stack's configuration, so that it runs alike under the command line and
under the Automation API.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulumi

from components.configuration import configured, stack_settings
from components.preconditions import require_configuration, require_mesh
from components.program import install
from zt.check import check
from zt.compile import compile_policy
from zt.load import load, policy_texts
from zt.model import Policy
from zt.position import Finding, Severity
from zt.render.findings import findings_text

ROOT = Path(__file__).resolve().parent
TODAY = datetime.now(UTC).date()


async def program() -> Mapping[str, Any]:
    """Load, check, compile, install, and export what others may know."""
    settings = stack_settings(configured(), ROOT)
    require_configuration(settings)
    policy = checked(settings.policies)
    require_mesh(settings, policy.mesh)
    bundle = compile_policy(policy, settings.cluster, TODAY)
    return await install(bundle, settings, policy_texts(settings.policies))


def checked(folder: str) -> Policy:
    """The policy; where it has errors, nothing happens but that they are shown."""
    loaded = load(folder)
    findings = check(loaded.policy, TODAY) if loaded.policy else loaded.findings
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors or loaded.policy is None:
        raise refusal(folder, errors)
    return loaded.policy


def refusal(folder: str, errors: list[Finding]) -> pulumi.RunError:
    """The errors, and what to do about them."""
    count = "an error" if len(errors) == 1 else f"{len(errors)} errors"
    todo = f"correct it, and see with `zt check {folder}` that nothing is left"
    return pulumi.RunError(f"the policy in {folder} has {count}: {todo}\n{findings_text(errors)}")


pulumi.run(program)
