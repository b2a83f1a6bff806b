"""Two people confirm a plan, each with an SSH key of their own (Ed25519)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)

from gateway.ca.plan import Plan

NEEDED = 2
_KEY_TYPE = "ssh-ed25519"
_FIELDS = 3


Approvers = Mapping[str, Ed25519PublicKey]


class ApprovalError(Exception):
    """A plan is not confirmed as it should be; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's confirmation of a plan; ``signature`` is in Base64."""

    digest: str
    by: str
    signature: str


def approvers_of(text: str) -> Approvers:
    """Who may confirm, from lines of ``<name> ssh-ed25519 <key>``; ``#`` begins a comment.

    Raises:
        ApprovalError: if a line is none of these, or two people have one name or one key.
    """
    found: dict[str, Ed25519PublicKey] = {}
    for line in text.splitlines():
        parts = line.partition("#")[0].split()
        if parts:
            name, key = _approver(parts)
            if name in found or key in found.values():
                raise ApprovalError(f"{name}: somebody has that name or that key already")
            found[name] = key
    return found


def _approver(parts: list[str]) -> tuple[str, Ed25519PublicKey]:
    if len(parts) < _FIELDS or parts[1] != _KEY_TYPE:
        raise ApprovalError(f"{parts[0]}: a line should be '<name> {_KEY_TYPE} <key>'")
    try:
        key = load_ssh_public_key(f"{parts[1]} {parts[2]}".encode())
    except ValueError as error:
        raise ApprovalError(f"{parts[0]}: this is no key: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ApprovalError(f"{parts[0]}: this is no key of {_KEY_TYPE}")
    return parts[0], key


def approve(plan: Plan, by: str, key: bytes, password: bytes | None = None) -> Approval:
    """Confirm a plan with a private key as ``ssh-keygen -t ed25519`` makes it.

    Raises:
        ApprovalError: if it is another kind of key, or the password is wrong.
    """
    try:
        private = load_ssh_private_key(key, password)
    except (TypeError, ValueError):
        raise ApprovalError("the key can't be read: is the password right?") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise ApprovalError(f"the key is none of {_KEY_TYPE}")
    signature = private.sign(_signed(plan.digest(), by))
    return Approval(plan.digest(), by, base64.b64encode(signature).decode())


def confirmed(plan: Plan, approvals: Iterable[Approval], approvers: Approvers) -> tuple[str, ...]:
    """Who has confirmed a plan, in order of their names.

    Raises:
        ApprovalError: if a confirmation is not good, or there are too few.
    """
    names = sorted({_checked(plan, approval, approvers) for approval in approvals})
    if len(names) < NEEDED:
        has = ", ".join(names) or "nobody"
        raise ApprovalError(f"{NEEDED} people have to confirm plan {plan.name}: {has} did")
    return tuple(names)


def _checked(plan: Plan, approval: Approval, approvers: Approvers) -> str:
    key = approvers.get(approval.by)
    if key is None:
        raise ApprovalError(f"{approval.by} is none of those who may confirm")
    if approval.digest != plan.digest():
        raise ApprovalError(f"{approval.by} has confirmed another plan, or one that was changed")
    try:
        key.verify(base64.b64decode(approval.signature), _signed(plan.digest(), approval.by))
    except (InvalidSignature, ValueError):
        raise ApprovalError(f"the confirmation of {approval.by} is not by their key") from None
    return approval.by


def _signed(digest: str, by: str) -> bytes:
    return f"zt ca ceremony\n{digest}\n{by}\n".encode()


# --- Files ----------------------------------------------------------------------------------------


def file_of(plan: Path, by: str) -> Path:
    """Where a person's confirmation of a plan file lies: beside it."""
    return plan.with_name(f"{plan.name}.{by}.confirmed")


def write(plan: Path, approval: Approval) -> Path:
    """Write a confirmation beside its plan."""
    path = file_of(plan, approval.by)
    content = {"plan": approval.digest, "by": approval.by, "signature": approval.signature}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def read_all(plan: Path) -> tuple[Approval, ...]:
    """All confirmations beside a plan.

    Raises:
        ApprovalError: if one is something else.
    """
    return tuple(map(_read, sorted(plan.parent.glob(f"{plan.name}.*.confirmed"))))


def _read(path: Path) -> Approval:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Approval(str(content["plan"]), str(content["by"]), str(content["signature"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ApprovalError(f"{path} is no confirmation: {error}") from None
