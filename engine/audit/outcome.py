"""What is recorded of a decision: its outcome, and the ID, time and latency of each instance.

Equal connections have equal outcomes, so an outcome is encoded once and appended many times. The
encoding is canonical: the trail's hashes are taken over it, and whoever reads the columns back from
PostgreSQL gets the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import orjson

from zt.decide import Verdict
from zt.model import Phase

TEXT_LIMIT = 512

_VERSION, _VARIANT = 8, 0b10
_SEQUENCE_BITS = 62
WRITER_BITS = 60
_LOW_WRITER = 12


class Outcome(NamedTuple):
    """What a decision says: a row of ``zt_audit.outcome``, columns in this order.

    ``layer`` says who refused or allowed: ``evaluator``, ``api``, ``handshake``, ``rbac`` or
    ``listener``. ``on_behalf_of`` is ``operator:<subject>`` or ``agent:<client ID>`` where the
    caller named one.
    """

    verdict: Verdict
    would_be: Verdict
    phase: Phase
    source_id: str | None
    source_pod: str | None
    source_node: str | None
    destination_id: str
    destination_port: int
    rule: str
    reason: str
    layer: str
    revision: str
    on_behalf_of: str | None = None


COLUMNS = Outcome._fields


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One decision as the trail gives it back."""

    id: UUID
    time: datetime
    latency_us: int
    outcome: Outcome


def encode(outcome: Outcome) -> bytes:
    """The canonical encoding: a JSON array of the columns.

    It is a copy, because what orjson returns keeps the 4 KiB that it was written into, and
    encodings are kept by the thousand.
    """
    return b"%b" % orjson.dumps(tuple(outcome))


def decode(encoded: bytes) -> Outcome:
    """Read what ``encode`` wrote.

    Raises:
        ValueError: if it is nothing of that form.
    """
    values = orjson.loads(encoded)
    if not isinstance(values, list) or len(values) != len(COLUMNS):
        raise ValueError("an outcome is a list of its columns")
    verdict, would_be, phase, *others = values
    return Outcome(Verdict(verdict), Verdict(would_be), Phase(phase), *others)


def clean(text: str | None) -> str | None:
    """Text from a peer as the trail keeps it: bounded, and nothing that a database refuses."""
    if text is None or (text.isprintable() and len(text) <= TEXT_LIMIT):
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:TEXT_LIMIT])


def record_id(writer: int, sequence: int) -> UUID:
    """The ID of a writer's record, a UUID of version 8 (RFC 9562).

    A writer is a number of 60 bits, drawn anew by each process; it counts its records from 1. IDs
    of one writer sort in the order of their records.
    """
    high = writer >> _LOW_WRITER << 16 | _VERSION << 12 | writer & ((1 << _LOW_WRITER) - 1)
    return UUID(int=high << 64 | _VARIANT << _SEQUENCE_BITS | sequence)


def writer_and_sequence(identifier: UUID) -> tuple[int, int]:
    """What ``record_id`` made an ID of."""
    high, low = identifier.int >> 64, identifier.int & ((1 << _SEQUENCE_BITS) - 1)
    return high >> 16 << _LOW_WRITER | high & ((1 << _LOW_WRITER) - 1), low


def id_prefix(writer: int) -> str:
    """The text of a writer's IDs as far as it is the same for all of them; ``id_rest`` follows."""
    return str(record_id(writer, 0))[:19]


def id_rest(sequence: int) -> bytes:
    """The rest of an ID's text, in a tenth of the time that ``record_id`` takes."""
    return b"%04x-%012x" % (0x8000 | sequence >> 48, sequence & 0xFFFFFFFFFFFF)
