from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from engine.audit.chain import EMPTY, START, Link, body, leaf_hash, next_link, node_hash, root_of


def merkle_tree_hash(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word: D[n] is split at the largest power of two below n."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = merkle_tree_hash(leaves[:split]), merkle_tree_hash(leaves[split:])
    return sha256(b"\x01" + left + right).digest()


@given(
    writer=st.integers(0, (1 << 60) - 1),
    records=st.lists(st.binary(max_size=40), max_size=70),
)
def test_the_root_is_that_of_rfc_6962(writer: int, records: list[bytes]) -> None:
    leaves = [writer.to_bytes(8, "little") + record for record in records]
    hashes = [leaf_hash(writer, record) for record in records]
    assert root_of(hashes) == merkle_tree_hash(leaves)


def test_the_root_of_each_size_up_to_a_hundred() -> None:
    for size in range(100):
        records = [b"%d" % number for number in range(size)]
        leaves = [bytes(8) + record for record in records]
        assert root_of([leaf_hash(0, record) for record in records]) == merkle_tree_hash(leaves)


def test_known_roots() -> None:
    """Of Certificate Transparency's own tests: the trees over nothing, and over one empty leaf."""
    assert EMPTY.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256(b"\x00").hexdigest() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    left, right = sha256(b"\x00").digest(), sha256(b"\x00\x00").digest()
    assert node_hash(left, right).hex() == (
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    )


def test_a_leaf_is_a_writer_and_the_body_of_a_frame() -> None:
    record = body(7, -1, 42, b"[]")
    assert record == bytes([7] + [0] * 7 + [255] * 8 + [42, 0, 0, 0]) + b"[]"
    assert leaf_hash(258, record) == sha256(b"\x00\x02\x01" + bytes(6) + record).digest()


def test_a_link_covers_all_that_is_in_it() -> None:
    root = sha256(b"root").digest()
    since = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    link = Link(1, 2, 3, 4, since, since + timedelta(microseconds=8), root)
    whole = (1, 2, 3, 4, -1, 7)
    numbers = b"".join(number.to_bytes(8, "big", signed=True) for number in whole)
    assert next_link(START, link) == sha256(b"\x02" + bytes(32) + numbers + root).digest()
    others = [
        link._replace(number=2),
        link._replace(writer=1),
        link._replace(first=2),
        link._replace(last=5),
        link._replace(since=None),
        link._replace(until=since),
        link._replace(root=EMPTY),
    ]
    chains = {next_link(START, other) for other in (link, *others)}
    chains.add(next_link(root, link))
    assert len(chains) == 9
