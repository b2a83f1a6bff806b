import random
from pathlib import Path

import pytest

from engine.metrics import cells, pairs
from engine.metrics.cells import FIRST_PAIR, SHARED, Cells, readings
from engine.metrics.families import DECISIONS, Series
from engine.metrics.metrics import Metrics
from engine.metrics.pairs import NOWHERE, PAIR_CELLS, PLACES, Pairs, counted, key_of, parts_of
from zt.decide import Verdict

ALLOW, DENY = Verdict.ALLOW, Verdict.DENY


def empty() -> memoryview:
    return memoryview(bytearray(8 * PAIR_CELLS)).cast("Q")


def decisions(folder: Path) -> dict[Series, int]:
    return {
        series: value
        for reading in readings(folder)
        for series, value in reading.series
        if series[0] == DECISIONS and value
    }


def test_places_are_a_prime() -> None:
    assert all(PLACES % divisor for divisor in range(2, 400))


@pytest.mark.parametrize("parts", [(1, 1, False), (1, 2, True), ((1 << 24) - 1, 1 << 23, True)])
def test_a_key_says_what_it_is_of(parts: tuple[int, int, bool]) -> None:
    assert parts_of(key_of(*parts)) == parts
    assert key_of(*parts) < 1 << 64


def test_each_key_has_a_counter_of_its_own() -> None:
    mine, pick = empty(), random.Random(3)  # noqa: S311 - not for secrets
    found = Pairs(mine, 1 << 24)
    # Some share a place, and some stand at the end of the table.
    keys = [pick.randrange(1, 1 << 49) for _ in range(5_000)]
    keys += [PLACES * number + 7 for number in range(1, 50)]
    keys += [PLACES * number - 1 for number in range(1, 50)]
    for times in (1, 2):
        for number, key in enumerate(keys):
            mine[found.find(key)] += number
        assert dict(counted(mine)) == {key: times * number for number, key in enumerate(keys)}


def test_there_are_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "PAIRS_LIMIT", 3)
    found = Pairs(empty(), 9)
    places = [found.find(key_of(1, number, allowed=True)) for number in (1, 2, 3, 4)]
    assert places[3] == NOWHERE
    assert len(set(places)) == 4
    assert found.find(key_of(1, 2, allowed=True)) == places[1]


def test_who_comes_next_counts_on(tmp_path: Path) -> None:
    names = [f"spiffe://hanzo.ai/a/b/{number}" for number in range(40)]
    expected: dict[Series, int] = {}
    for _ in range(3):
        metrics = Metrics(tmp_path)
        for source in names:
            for verdict in (ALLOW, DENY):
                metrics.bump(metrics.counter(verdict, source, names[0]))
                series = (DECISIONS, verdict.lower(), source, names[0])
                expected[series] = expected.get(series, 0) + 1
        assert decisions(tmp_path) == expected
        assert dict(metrics.reading().series).items() >= expected.items()
        metrics._cells.close()


def test_what_no_name_is_left_of_goes(tmp_path: Path) -> None:
    """After a power cut the cells may be newer than the list of names."""
    first = Metrics(tmp_path)
    for destination in ("b", "c", "a"):
        first.bump(first.counter(ALLOW, "a", destination))
    first._cells.close()
    [names] = tmp_path.glob("*.names")
    content = names.read_bytes()
    names.write_bytes(content.replace(b'"c"\n', b""))
    assert content != names.read_bytes()
    kept = {(DECISIONS, "allow", "a", "b"): 1, (DECISIONS, "allow", "a", "a"): 1}
    assert decisions(tmp_path) == kept
    second = Metrics(tmp_path)
    second.bump(second.counter(ALLOW, "d", "b"))
    assert decisions(tmp_path) == kept | {(DECISIONS, "allow", "d", "b"): 1}


def test_a_party_that_cannot_be_written_is_counted_as_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cells, "MOST_PARTIES", 2)
        assert metrics.number("a") == SHARED
    assert metrics.number("a") != SHARED
    assert metrics.number("a") == metrics.number("a")


def test_pairs_lie_behind_the_named_cells(tmp_path: Path) -> None:
    mine = Cells(tmp_path)
    assert len(mine.values) == FIRST_PAIR + PAIR_CELLS
