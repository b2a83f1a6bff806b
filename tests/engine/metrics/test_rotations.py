from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from engine.metrics import rotations
from engine.metrics.rotations import Rotations


def test_another_certificate_from_the_same_address_is_a_rotation() -> None:
    mine = Rotations(None)
    presented: list[tuple[str, str | bytes]] = [
        ("10.0.0.1", "first"),
        ("10.0.0.1", "first"),
        ("10.0.0.2", "of another replica"),
        ("10.0.0.1", "second"),
        ("10.0.0.1", b"second"),
        ("10.0.0.2", "of another replica"),
    ]
    told = [mine.changed("a", address, certificate) for address, certificate in presented]
    assert told == [False, False, False, True, False, False]
    assert not mine.changed("b", "10.0.0.1", "third")


def test_the_old_certificate_again_is_no_rotation() -> None:
    mine = Rotations(None)
    told = [mine.changed("a", "1", certificate) for certificate in "ABABBCBC"]
    assert told == [False, True, False, False, False, True, False, False]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=60))
def test_workers_together_tell_each_rotation_once(seen: list[tuple[int, int]]) -> None:
    """However connections are spread, certificates that only go forward are told once each."""
    table, workers = Rotations(None), [Rotations(None) for _ in range(3)]
    for worker in workers:
        worker._table = table._table
    ordered = sorted(seen, key=lambda item: item[1])
    told = sum(workers[number].changed("a", "1", str(cert)) for number, cert in ordered)
    assert told == max(len({certificate for _, certificate in seen}) - 1, 0)


def test_workers_share_a_table_in_a_folder(tmp_path: Path) -> None:
    one, other = Rotations(tmp_path), Rotations(tmp_path)
    assert not one.changed("a", "1", "first")
    assert other.changed("a", "1", "second")
    assert not one.changed("a", "1", "second")
    assert other.changed("a", "1", "third")


def test_what_is_remembered_is_bounded() -> None:
    mine = Rotations(None)
    for number in range(rotations._PLACES + 100):
        mine.changed("a", str(number), "x")
    assert len(mine._seen) == rotations._PLACES
