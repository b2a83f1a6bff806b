"""Counters of decisions: one for each verdict, source and destination, in a hash table of cells.

A place has two cells, a key and what was counted under it, so that to find a counter touches one
line of memory, where a dictionary of names touches eight. A key's place is its remainder by the
number of places, a prime; it is probed in steps of one, and a key of 0 is an empty place.
"""

from __future__ import annotations

from collections.abc import Iterator

PAIRS_LIMIT = 1 << 16
PLACES = 150_001
PAIR_CELLS = 2 * PLACES
NOWHERE = 0
# Numbers of parties are from 1, and below this.
MOST_PARTIES = 1 << 24
# Where they lie in a key; its lowest bit is whether it was allowed.
SOURCE, DESTINATION = 25, 1
_CHUNK = 512
_NOTHING = bytes(8 * _CHUNK)


def key_of(source: int, destination: int, allowed: bool) -> int:  # noqa: FBT001 - called for all
    """The key of a counter; source and destination are numbers of parties."""
    return source << SOURCE | destination << DESTINATION | allowed


def parts_of(key: int) -> tuple[int, int, bool]:
    """What ``key_of`` made a key of."""
    return key >> SOURCE, (key >> DESTINATION) % MOST_PARTIES, bool(key & 1)


class Pairs:
    """The counters of this process; ``cells`` are its cells for them."""

    def __init__(self, cells: memoryview, parties: int) -> None:
        """Go on with what was counted for parties up to this number; what is of others goes."""
        self._keys = cells[::2]
        found = list(counted(cells))
        known = [(key, count) for key, count in found if max(parts_of(key)[:2]) <= parties]
        self._free = PAIRS_LIMIT - len(known)
        if len(known) != len(found):
            cells[:] = memoryview(bytes(8 * PAIR_CELLS)).cast("Q")
            self._free = PAIRS_LIMIT
            for key, count in known:
                cells[self.find(key)] = count

    def find(self, key: int) -> int:
        """The cell of a counter, from 1; ``NOWHERE`` if there are too many already."""
        keys = self._keys
        place = key % PLACES
        while (found := keys[place]) != key:
            if not found:
                return self._take(place, key)
            place = (place + 1) % PLACES
        return 2 * place + 1

    def release(self) -> None:
        """Let go of the cells."""
        self._keys.release()

    def _take(self, place: int, key: int) -> int:
        if not self._free:
            return NOWHERE
        self._free -= 1
        self._keys[place] = key
        return 2 * place + 1


def counted(cells: memoryview) -> Iterator[tuple[int, int]]:
    """The keys in these cells, and what was counted under each."""
    for start in range(0, PAIR_CELLS, _CHUNK):
        chunk = cells[start : start + _CHUNK]
        if chunk.tobytes() != _NOTHING:
            pairs = zip(chunk[::2].tolist(), chunk[1::2].tolist(), strict=True)
            yield from (pair for pair in pairs if pair[0])
