"""The file of a decision table: what lies where.

After a header with a checksum come sections, each on a boundary of eight bytes, little endian:

- facts: JSON, what is read once (revision, networks, rights of operators);
- strings: names of parties and then of rules, one after another; names: where each party's begins,
  and where the last one ends;
- selector offsets, selectors: the selectors under which rules about a party are filed. Parties are
  numbered from 1; selector ``n`` is party ``n`` itself, patterns come after all parties;
- grants: an open hash table from a key to a rule, which lies beside it as ``start << 16 | length``
  of its name: whichever is the first in order is the lowest. A key's place is its
  remainder by the number of places, a prime; it is probed in steps of one, at most a third full,
  and a key of 0 is an empty place. A key is ``source selector << 40 | destination selector << 16 |
  port``. A port that a party declares is filed with destination selector 0;
- phases: one byte a party.
"""

from __future__ import annotations

import ipaddress
import mmap
import re
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import isqrt
from typing import Any, NamedTuple

import orjson

from engine.locate import Surroundings
from zt.decide import DecisionTable
from zt.model import Phase

EMPTY = (1 << 64) - 1
LENGTH_BITS = 16
PHASES: tuple[Phase | None, ...] = (None, *Phase)
MAX_SELECTORS = 1 << 24

_MAGIC = b"ZTTABLE5"
_SECTIONS = 7
_HEADER = struct.Struct("<8sI4x")
_SIZES = struct.Struct(f"<{_SECTIONS}Q")
_ALIGNMENT = 8
_GRANT = 16
# What JSON does not hold as it is.
_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')


@dataclass(frozen=True, slots=True)
class Facts:
    """What is read once when a table is opened.

    ``plain`` is the file's to say: whether every name is in JSON as it is, between quotes.
    """

    revision: str
    surroundings: Surroundings
    rights: Mapping[str, frozenset[str]]
    loaded: bool = True
    plain: bool = False


class Sections(NamedTuple):
    """The sections of a file, as views."""

    facts: Facts
    strings: memoryview
    names: memoryview
    selector_offsets: memoryview
    selectors: memoryview
    grants: memoryview
    phases: memoryview


def encode(table: DecisionTable, facts: Facts) -> bytes:
    """The file of a table.

    Raises:
        ValueError: if there are too many parties and patterns to number them, or the name of a rule
            is too long to be filed.
    """
    parties = list(table.selectors)
    numbers = {party: number for number, party in enumerate(parties, 1)}
    for selectors in table.selectors.values():
        for selector in selectors:
            numbers.setdefault(selector, len(numbers) + 1)
    if len(numbers) >= MAX_SELECTORS:
        raise ValueError(f"a table holds {MAX_SELECTORS - 1} parties and patterns at most")
    names, rules = [name.encode() for name in parties], [rule.encode() for rule in table.rules]
    offsets = _offsets(map(len, names))
    filed = _filed(rules, offsets[-1])
    plain = not any(map(_ESCAPED.search, names + rules))
    phases = (PHASES.index(table.phases.get(party)) for party in parties)
    chosen = [[numbers[selector] for selector in table.selectors[party]] for party in parties]
    return _framed(
        orjson.dumps(_facts_json(facts) | {"plain": plain}),
        b"".join(names + rules),
        offsets.tobytes(),
        _offsets(map(len, chosen)).tobytes(),
        array("I", [number for numbers in chosen for number in numbers]).tobytes(),
        _grants(table, numbers, filed).tobytes(),
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
    facts, strings, names, offsets, selectors, grants, phases = parts
    return Sections(
        _facts(orjson.loads(facts)),
        strings,
        names.cast("I"),
        offsets.cast("I"),
        selectors.cast("I"),
        grants.cast("Q"),
        phases,
    )


def _framed(*sections: bytes) -> bytes:
    padded = (section.ljust(_padded(len(section)), b"\0") for section in sections)
    body = b"".join([_SIZES.pack(*map(len, sections)), *padded])
    return _HEADER.pack(_MAGIC, zlib.crc32(body)) + body


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _offsets(lengths: Iterable[int]) -> array[int]:
    offsets = array("I", [0])
    total = 0
    for length in lengths:
        total += length
        offsets.append(total)
    return offsets


def _filed(rules: Iterable[bytes], start: int) -> list[int]:
    """How each rule is filed."""
    found = []
    for rule in rules:
        if len(rule) >> LENGTH_BITS:
            raise ValueError(f"the name of a rule is {len(rule)} bytes long")
        found.append(start << LENGTH_BITS | len(rule))
        start += len(rule)
    return found


def _grants(table: DecisionTable, numbers: Mapping[str, int], filed: Sequence[int]) -> array[int]:
    """The grants' hash table: a key and its rule in turn."""
    places = _places(len(table.grants) + sum(map(len, table.ports.values())))
    cells = array("Q", bytes(_GRANT * places))

    def put(key: int, rule: int) -> None:
        place = key % places
        while cells[2 * place]:
            place = (place + 1) % places
        cells[2 * place], cells[2 * place + 1] = key, rule

    for party, ports in table.ports.items():
        for port in ports:
            put(numbers[party] << 40 | port, 0)
    for edge, rule in table.grants.items():
        source, destination, port = edge
        # A rule may name parties that nobody declares: no party has them for a selector.
        if source in numbers and destination in numbers and _can_be(table, *edge):
            put(numbers[source] << 40 | numbers[destination] << 16 | port, filed[rule])
    return cells


def _can_be(table: DecisionTable, source: str, destination: str, port: int) -> bool:
    """Whether a grant between two parties can ever hold, so that one that is found does.

    Nobody calls itself, and nobody a port that is not declared. Of patterns it can't be known here.
    """
    ports = table.ports.get(destination)
    return ports is None or (source != destination and port in ports)


def _places(entries: int) -> int:
    """A prime, so that a table is at most a third full and never without an empty place.

    It keeps away from powers of two, by which the parts of keys differ.
    """
    return next(filter(_is_prime, count(3 * entries + 7)))


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, isqrt(number) + 1))


def _facts_json(facts: Facts) -> dict[str, Any]:
    return {
        "revision": facts.revision,
        "loaded": facts.loaded,
        "externals": [[str(network), name] for network, name in facts.surroundings.externals],
        "pods": [str(network) for network in facts.surroundings.pods],
        "gateways": sorted(facts.surroundings.gateways),
        "rights": {who: sorted(actions) for who, actions in facts.rights.items()},
    }


def _facts(content: Mapping[str, Any]) -> Facts:
    return Facts(
        content["revision"],
        Surroundings(
            tuple((ipaddress.ip_network(cidr), name) for cidr, name in content["externals"]),
            tuple(map(ipaddress.ip_network, content["pods"])),
            frozenset(content["gateways"]),
        ),
        {who: frozenset(actions) for who, actions in content["rights"].items()},
        loaded=content["loaded"],
        plain=content["plain"],
    )
