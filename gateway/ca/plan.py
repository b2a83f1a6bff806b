"""What a ceremony is to do: a file that people read, confirm, and keep."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import yaml

from zt.model import KeyType, Mesh
from zt.values import duration, parse_duration

API_VERSION = "zt.hanzo.ai/v1"
KIND = "CeremonyPlan"
# How long issuing CAs live, in seconds, unless it is said.
ISSUING = 90 * 86400
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class PlanError(Exception):
    """A plan that can't be carried out; the message says why."""


class Step(StrEnum):
    """What a ceremony does. Between ``announce`` and ``activate`` time must pass."""

    FOUND = "found"
    ANNOUNCE = "announce"
    ACTIVATE = "activate"
    RENEW = "renew"
    RETIRE = "retire"


WHAT = {
    Step.FOUND: "make the first root, and from it an issuing CA for each cluster",
    Step.ANNOUNCE: "make a new root and publish it beside the old one; it signs nothing yet",
    Step.ACTIVATE: "let the announced root sign an issuing CA for each cluster; both are published",
    Step.RENEW: "sign new issuing CAs with the root that is in force",
    Step.RETIRE: "publish the old root no longer, and disable its key",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A ceremony.

    ``root`` names the root that it is about: the new one, the one that signs, or the one that goes.
    Lives are in seconds; ``ca`` is that of SPIRE's own CAs. ``after`` is the hash of the
    transcript's last entry: the plan is for that state, and cannot be carried out twice.
    """

    name: str
    step: Step
    trust_domain: str
    root: str
    clusters: tuple[str, ...]
    key_type: KeyType
    root_lifetime: int
    issuing_lifetime: int
    ca: int
    after: str

    def digest(self) -> str:
        """What people confirm: SHA-256 of all of it, hexadecimal."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def plan_of(mesh: Mesh, step: Step, root: str, after: str) -> Plan:
    """A plan for all clusters of a mesh; ``after`` is the state of the transcript."""
    return Plan(
        name=f"{step}-{root}",
        step=step,
        trust_domain=mesh.trust_domain,
        root=root,
        clusters=tuple(cluster.name for cluster in mesh.clusters),
        key_type=mesh.algorithms.key_type,
        root_lifetime=mesh.lifetimes.root,
        issuing_lifetime=ISSUING,
        ca=mesh.lifetimes.ca,
        after=after,
    )


def to_text(plan: Plan) -> str:
    """The file; ``from_text`` reads what this writes."""
    content = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": plan.name},
        "spec": {
            "step": str(plan.step),
            "trustDomain": plan.trust_domain,
            "root": plan.root,
            "clusters": list(plan.clusters),
            "keyType": str(plan.key_type),
            "lifetimes": {
                "root": duration(plan.root_lifetime),
                "issuing": duration(plan.issuing_lifetime),
                "ca": duration(plan.ca),
            },
            "after": plan.after,
        },
    }
    return f"# {WHAT[plan.step]}\n" + yaml.safe_dump(content, sort_keys=False)


def from_text(text: str) -> Plan:
    """Read a plan.

    Raises:
        PlanError: if it is none.
    """
    try:
        content = yaml.safe_load(text)
        if (content["apiVersion"], content["kind"]) != (API_VERSION, KIND):
            raise PlanError(f"this is no {KIND} of {API_VERSION}")
        return _plan(content["metadata"]["name"], content["spec"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise PlanError(f"this is no plan of a ceremony: {error}") from None


def _plan(name: str, spec: dict[str, Any]) -> Plan:
    lifetimes = spec["lifetimes"]
    plan = Plan(
        name=name,
        step=Step(spec["step"]),
        trust_domain=str(spec["trustDomain"]),
        root=str(spec["root"]),
        clusters=tuple(map(str, spec["clusters"])),
        key_type=KeyType(spec["keyType"]),
        root_lifetime=parse_duration(lifetimes["root"]),
        issuing_lifetime=parse_duration(lifetimes["issuing"]),
        ca=parse_duration(lifetimes["ca"]),
        after=str(spec["after"]),
    )
    # They become paths of KMS.
    for word in (plan.name, plan.root, *plan.clusters):
        if not _NAME.fullmatch(word):
            raise PlanError(f"{word!r} is no name: small letters, digits and dashes, such as 'r-1'")
    return plan
