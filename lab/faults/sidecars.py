"""What the sidecar of a pod knows, asked on its admin socket, which only its machine can reach."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lab.check import admin
from lab.check.model import BrokenError
from lab.check.svid import SECRETS, chain_in
from lab.cluster.model import LabError

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Svid:
    """An SVID in use, and the CA that issued it, by their serial numbers."""

    serial: int
    issuer: int
    expires: datetime


def asked(process: int, path: str) -> Any:  # noqa: ANN401 - any JSON
    """What Envoy's admin interface answers; ``process`` is Envoy's.

    Raises:
        LabError: if it does not answer.
    """
    try:
        return json.loads(admin.asked(process, f"process {process}", path))
    except (LabError, OSError, ValueError) as error:
        raise LabError(f"the sidecar of process {process} does not answer: {error}") from None


def svid(process: int) -> Svid:
    """The SVID that a sidecar uses.

    Raises:
        LabError: if it does not answer, or has none.
    """
    dump = asked(process, SECRETS)
    try:
        leaf, *above = chain_in(dump)
    except BrokenError as error:
        raise LabError(f"the sidecar of process {process} has no SVID: {error}") from None
    issuer = above[0].serial_number if above else 0
    return Svid(leaf.serial_number, issuer, leaf.not_valid_after_utc)
