"""The decision table as a worker reads it: one mapped file, of which only names are copied.

Opening a table takes milliseconds at a hundred thousand rules, all workers share its pages, and a
decision is a few probes into hash tables that lie in the file. ``engine.policy.layout`` says
what lies where; ``engine.builder`` writes it. What is answered is what ``zt.decide.decide``
answers, by a test.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeVar

from engine.locate import Surroundings
from engine.policy.layout import (
    EMPTY,
    LENGTH_BITS,
    PHASES,
    Facts,
    Sections,
    encode,
    sections_of,
)
from zt.decide import DEFAULT_RULE, EMPTY_TABLE, Decision, Reason, Verdict
from zt.model import Phase
from zt.values import MAX_PORT

NO_REVISION = "none"
NOBODY = 0
_LENGTH = (1 << LENGTH_BITS) - 1
# Looked up once: a member of an enum costs as much as a probe.
_ALLOW, _DENY = Verdict.ALLOW, Verdict.DENY
_RULE, _NO_RULE, _PORT_NOT_DECLARED = Reason.RULE, Reason.NO_RULE, Reason.PORT_NOT_DECLARED
_UNKNOWN_SOURCE, _UNKNOWN_DESTINATION = Reason.UNKNOWN_SOURCE, Reason.UNKNOWN_DESTINATION


_STRETCH = 256
_T = TypeVar("_T")

# A verdict, its rule and reason, and the numbers of source and destination in the table (``NOBODY``
# for no party). A plain tuple: to name its parts would cost as much as to find them.
Ruling = tuple[Verdict, str, Reason, int, int]


def at_once() -> None:
    """Take no rest."""


class Table:
    """A decision table. ``content`` is what ``layout.encode`` made.

    Raises:
        ValueError: if it is not.
    """

    def __init__(self, content: bytes | mmap.mmap, rest: Callable[[], None] = at_once) -> None:
        """Look at the file; of its contents, only the parties' names are read.

        ``rest`` is called now and then, to let other threads have their turn.
        """
        sections = sections_of(content)
        self.facts: Facts = sections.facts
        self.plain = self.facts.plain
        self._strings = sections.strings
        self._keys = sections.grants[::2]
        self._grants = sections.grants[1::2]
        self._places = len(self._keys)
        names = _paced(_parties(sections), rest)
        self.numbers: Mapping[str, int] = {name: number for number, name in enumerate(names, 1)}
        self._number_of = self.numbers.get
        # By number, as ``phases``. Counters and answers share these texts.
        self.names: list[str | None] = [None, *self.numbers]
        self.phases: list[Phase | None] = [None, *map(PHASES.__getitem__, sections.phases)]
        self._patterns = _patterns(sections, rest)

    def decide(self, source: str, destination: str, port: int) -> Decision:
        """Decide one connection, as ``zt.decide.decide`` does."""
        verdict, rule, reason, _, _ = self.rule(source, destination, port)
        return Decision(verdict, rule, reason)

    def rule(self, source: str, destination: str, port: int) -> Ruling:
        """Decide one connection, and say whom the table knows."""
        number_of, patterns = self._number_of, self._patterns
        caller, called = number_of(source, NOBODY), number_of(destination, NOBODY)
        if not caller:
            return _DENY, DEFAULT_RULE, _UNKNOWN_SOURCE, caller, called
        if not called:
            return _DENY, DEFAULT_RULE, _UNKNOWN_DESTINATION, caller, called
        if not 0 <= port <= MAX_PORT:
            return _DENY, DEFAULT_RULE, _PORT_NOT_DECLARED, caller, called
        find = self._find
        if patterns and (caller in patterns or called in patterns):
            rule = self._first_rule(caller, called, port)
        else:
            rule = find(caller << 40 | called << 16 | port)
        if rule != EMPTY:
            start = rule >> LENGTH_BITS
            name = str(self._strings[start : start + (rule & _LENGTH)], "utf-8")
            return _ALLOW, name, _RULE, caller, called
        reason = _PORT_NOT_DECLARED if find(called << 40 | port) == EMPTY else _NO_RULE
        return _DENY, DEFAULT_RULE, reason, caller, called

    def declares(self, party: str) -> bool:
        """Whether the policy declares a SPIFFE ID, or ``external:<name>``."""
        return party in self.numbers

    def phase(self, party: str) -> Phase | None:
        """The phase of a service; ``None`` of anything else."""
        return self.phases[self.numbers.get(party, NOBODY)]

    def parties(self) -> Iterator[str]:
        """All declared parties."""
        return iter(self.numbers)

    def _first_rule(self, caller: int, called: int, port: int) -> int:
        """The first rule in order that grants it, where patterns may; ``EMPTY`` if none does."""
        patterns = self._patterns
        if caller == called or self._find(called << 40 | port) == EMPTY:
            return EMPTY
        return min(
            self._find(source << 40 | destination << 16 | port)
            for source in patterns.get(caller, (caller,))
            for destination in patterns.get(called, (called,))
        )

    def _find(self, key: int) -> int:
        """What is filed under a key; ``EMPTY`` if nothing is.

        With the ports that it declares, a party is filed as a source.
        """
        keys, places = self._keys, self._places
        place = key % places
        while found := keys[place]:
            if found == key:
                return self._grants[place]
            place = (place + 1) % places
        return EMPTY


def _paced(items: Iterator[_T], rest: Callable[[], None]) -> Iterator[_T]:
    """The same, with a rest between stretches of some 100 microseconds."""
    while stretch := list(islice(items, _STRETCH)):
        yield from stretch
        rest()


def _parties(sections: Sections) -> Iterator[str]:
    """The names of all parties, in their order."""
    offsets = sections.names.tolist()
    encoded = bytes(sections.strings[: offsets[-1]])
    text = encoded.decode()
    if len(text) == len(encoded):  # one byte a character: nearly always, and twice as fast
        return (text[start:end] for start, end in pairwise(offsets))
    return (encoded[start:end].decode() for start, end in pairwise(offsets))


def _patterns(sections: Sections, rest: Callable[[], None]) -> dict[int, tuple[int, ...]]:
    """The selectors of each party that a pattern names, too: most have but their own."""
    selectors, offsets = sections.selectors, sections.selector_offsets.tolist()
    return {
        number: tuple(selectors[start:end])
        for number, (start, end) in enumerate(_paced(pairwise(offsets), rest), 1)
        if end - start > 1
    }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision needs, of one policy on one day.

    ``rights`` maps SPIFFE IDs to the actions on the evaluator itself that operators' rules give
    them. ``folder`` is where the builder left what people read: ``policies.json``, ``graph.json``
    and ``policies/``. Before any policy, ``loaded`` is false.
    """

    table: Table
    surroundings: Surroundings
    revision: str
    loaded: bool = True
    rights: Mapping[str, frozenset[str]] = field(default_factory=dict)
    folder: Path | None = None


def snapshot_from(table: Table, folder: Path | None) -> Snapshot:
    """The snapshot of a table."""
    facts = table.facts
    return Snapshot(table, facts.surroundings, facts.revision, facts.loaded, facts.rights, folder)


def open_snapshot(folder: Path, name: str, rest: Callable[[], None] = at_once) -> Snapshot:
    """Map the table of a folder; ``rest`` is a ``Table``'s.

    Raises:
        OSError: if it can't be opened.
        ValueError: if it is no table.
    """
    with (folder / name).open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return snapshot_from(Table(content, rest), folder)


def empty_snapshot() -> Snapshot:
    """Before any policy: everything is DENY."""
    facts = Facts(NO_REVISION, Surroundings(), {}, loaded=False)
    return snapshot_from(Table(encode(EMPTY_TABLE, facts)), None)
