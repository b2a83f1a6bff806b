"""The hashes of the trail: a Merkle tree over each batch (RFC 6962), and the chain of batches.

A record's leaf is its writer, eight bytes with the little end first, and the body of its frame. All
of that can be rebuilt from the database.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from engine.audit.layout import BODY

START = bytes(32)
# The root of nothing: what the ledger has for records that were lost.
EMPTY = sha256(b"").digest()

_LEAF, _NODE, _LINK = b"\x00", b"\x01", b"\x02"
_WRITER = struct.Struct("<Q")
_NUMBERS = struct.Struct(">QQQQqq")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# In place of the times of a batch that has none: its records were lost.
_NO_TIME = -(1 << 63)


def leaf_prefix(writer: int) -> bytes:
    """What is hashed before the body of each record of a writer."""
    return _LEAF + _WRITER.pack(writer)


def body(sequence: int, time_us: int, latency_us: int, outcome: bytes) -> bytes:
    """The body of a record's frame; ``outcome`` is encoded."""
    return BODY.pack(sequence, time_us, latency_us) + outcome


def leaf_hash(writer: int, record: bytes) -> bytes:
    """The hash of a record, given as its body."""
    return sha256(leaf_prefix(writer) + record).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return sha256(_NODE + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root of a tree over leaf hashes.

    An odd node at the end of a level goes up as it is; that is RFC 6962's tree, which splits at
    the largest power of two.
    """
    if not leaves:
        return EMPTY
    level = list(leaves)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [sha256(_NODE + left + right).digest() for left, right in pairs]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]


class Link(NamedTuple):
    """A batch as the chain has it: a row of ``zt_audit.batch``."""

    number: int
    writer: int
    first: int
    last: int
    since: datetime | None
    until: datetime | None
    root: bytes


def next_link(chain: bytes, link: Link) -> bytes:
    """The chain after a batch; ``chain`` is the one before it, at first ``START``."""
    numbers = _NUMBERS.pack(*link[:4], _microseconds(link.since), _microseconds(link.until))
    return sha256(_LINK + chain + numbers + link.root).digest()


def _microseconds(time: datetime | None) -> int:
    return _NO_TIME if time is None else (time - _EPOCH) // _MICROSECOND
