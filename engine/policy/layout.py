"""The file of a decision table: what lies where.

After a header with a checksum come sections, each on a boundary of eight bytes, little endian:

- facts: JSON, what is read once (revision, networks, rights of operators);
- strings: names of parties and then of rules, one after another; names: where each begins;
- selector offsets, selectors: the selectors under which rules about a party are filed. Selector
  ``n + 1`` is party ``n`` itself, patterns come after all parties;
- grant keys, grant rules: an open hash table from a key to a rule, probed in steps of one, at most
  half full; a cell of 0 is empty. A key is ``source selector << 40 | destination selector << 16 |
  port``. A port that a party declares is filed with destination selector 0;
- phases: one byte a party.

Hash tables are open, probed in steps of one, at most half full, and a cell of 0 is empty.
"""

from __future__ import annotations

import ipaddress
import mmap
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from engine.locate import Surroundings
from zt.decide import DecisionTable
from zt.model import Phase

EMPTY = (1 << 32) - 1
WORD = (1 << 64) - 1
# Fibonacci hashing: 2^64 divided by the golden ratio.
MULTIPLIER = 0x9E3779B97F4A7C15
PHASES: tuple[Phase | None, ...] = (None, *Phase)
MAX_SELECTORS = 1 << 24

_MAGIC = b"ZTTABLE4"
_SECTIONS = 8
_HEADER = struct.Struct("<8sI4x")
_SIZES = struct.Struct(f"<{_SECTIONS}Q")
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Facts:
    """What is read once when a table is opened."""

    revision: str
    surroundings: Surroundings
    rights: Mapping[str, frozenset[str]]
    loaded: bool = True


class Sections(NamedTuple):
    """The sections of a file, as views."""

    facts: Facts
    strings: memoryview
    names: memoryview
    selector_offsets: memoryview
    selectors: memoryview
    grant_keys: memoryview
    grant_rules: memoryview
    phases: memoryview


def encode(table: DecisionTable, facts: Facts) -> bytes:
    """The file of a table.

    Raises:
        ValueError: if there are too many parties and patterns to number them.
    """
    parties = list(table.selectors)
    numbers = {party: number for number, party in enumerate(parties, 1)}
    for selectors in table.selectors.values():
        for selector in selectors:
            numbers.setdefault(selector, len(numbers) + 1)
    if len(numbers) >= MAX_SELECTORS:
        raise ValueError(f"a table holds {MAX_SELECTORS - 1} parties and patterns at most")
    strings = [name.encode() for name in (*parties, *table.rules)]
    keys, rules = _grants(table, numbers)
    phases = (PHASES.index(table.phases.get(party)) for party in parties)
    chosen = [[numbers[selector] for selector in table.selectors[party]] for party in parties]
    return _framed(
        orjson.dumps(_facts_json(facts)),
        b"".join(strings),
        _offsets(map(len, strings)),
        _offsets(map(len, chosen)),
        array("I", [number for numbers in chosen for number in numbers]).tobytes(),
        keys.tobytes(),
        rules.tobytes(),
        bytes(phases),
    )


def sections_of(content: bytes | mmap.mmap) -> Sections:
    """The sections of a file.

    Raises:
        ValueError: if it is no table, or damaged.
    """
    view = memoryview(content)
    try:
        magic, checksum = _HEADER.unpack_from(view)
        sizes = _SIZES.unpack_from(view, _HEADER.size)
    except struct.error:
        raise ValueError("the decision table is cut short: build it again") from None
    if magic != _MAGIC or sys.byteorder != "little":
        raise ValueError("this is no decision table of this version: build it again")
    body = view[_HEADER.size :]
    if zlib.crc32(body) != checksum or len(body) != _SIZES.size + sum(map(_padded, sizes)):
        raise ValueError("the decision table is damaged: build it again")
    parts = []
    start = _SIZES.size
    for size in sizes:
        parts.append(body[start : start + size])
        start += _padded(size)
    facts, strings, names, offsets, selectors, keys, rules, phases = parts
    return Sections(
        _facts(orjson.loads(facts)),
        strings,
        names.cast("I"),
        offsets.cast("I"),
        selectors.cast("I"),
        keys.cast("Q"),
        rules.cast("I"),
        phases,
    )


def _framed(*sections: bytes) -> bytes:
    padded = (section.ljust(_padded(len(section)), b"\0") for section in sections)
    body = b"".join([_SIZES.pack(*map(len, sections)), *padded])
    return _HEADER.pack(_MAGIC, zlib.crc32(body)) + body


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _offsets(lengths: Iterable[int]) -> bytes:
    offsets = array("I", [0])
    total = 0
    for length in lengths:
        total += length
        offsets.append(total)
    return offsets.tobytes()


def _grants(table: DecisionTable, numbers: Mapping[str, int]) -> tuple[array[int], array[int]]:
    """The two halves of the grants' hash table: keys and rules."""
    capacity = _capacity(len(table.grants) + sum(map(len, table.ports.values())))
    keys, rules = array("Q", bytes(8 * capacity)), array("I", bytes(4 * capacity))
    shift, mask = 64 - (capacity - 1).bit_length(), capacity - 1

    def put(key: int, rule: int) -> None:
        cell = (key * MULTIPLIER & WORD) >> shift
        while keys[cell]:
            cell = cell + 1 & mask
        keys[cell], rules[cell] = key, rule

    for party, ports in table.ports.items():
        for port in ports:
            put(numbers[party] << 40 | port, 0)
    for edge, rule in table.grants.items():
        source, destination, port = edge
        # A rule may name parties that nobody declares: no party has them for a selector.
        if source in numbers and destination in numbers and _can_be(table, *edge):
            put(numbers[source] << 40 | numbers[destination] << 16 | port, rule)
    return keys, rules


def _can_be(table: DecisionTable, source: str, destination: str, port: int) -> bool:
    """Whether a grant between two parties can ever hold, so that one that is found does.

    Nobody calls itself, and nobody a port that is not declared. Of patterns it can't be known here.
    """
    ports = table.ports.get(destination)
    return ports is None or (source != destination and port in ports)


def _capacity(entries: int) -> int:
    """A power of two, so that a table is at most half full and never without an empty cell."""
    return 1 << max(2 * entries, 2).bit_length()


def _facts_json(facts: Facts) -> dict[str, Any]:
    return {
        "revision": facts.revision,
        "loaded": facts.loaded,
        "externals": [[str(network), name] for network, name in facts.surroundings.externals],
        "pods": [str(network) for network in facts.surroundings.pods],
        "rights": {who: sorted(actions) for who, actions in facts.rights.items()},
    }


def _facts(content: Mapping[str, Any]) -> Facts:
    return Facts(
        content["revision"],
        Surroundings(
            tuple((ipaddress.ip_network(cidr), name) for cidr, name in content["externals"]),
            tuple(map(ipaddress.ip_network, content["pods"])),
        ),
        {who: frozenset(actions) for who, actions in content["rights"].items()},
        loaded=content["loaded"],
    )
