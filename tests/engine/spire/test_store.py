"""The files of an SVID that the agent gave: in memory, private, whole."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given as property_of
from hypothesis import strategies as st

from engine.spire.messages import Given
from engine.spire.store import make_folder, store
from engine.tls import SvidError, SvidFiles
from tests.engine.samples import ENGINE, Authority
from tests.engine.spire.workload_api import given


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, as every Linux has."""
    with TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


def test_what_the_agent_gave_is_what_the_ports_take(authority: Authority, memory: Path) -> None:
    svid = given(authority, ENGINE)
    make_folder(memory / "svid", memory=True)
    store(memory / "svid", svid)
    files = SvidFiles(memory / "svid")
    assert files.current.bundle == authority.bundle
    renewed = given(authority, ENGINE)
    store(memory / "svid", renewed)
    assert files.refresh()


def test_only_the_evaluator_may_read_the_key(authority: Authority, memory: Path) -> None:
    make_folder(memory / "svid", memory=True)
    store(memory / "svid", given(authority, ENGINE))
    assert (memory / "svid").stat().st_mode & 0o777 == 0o700
    assert (memory / "svid" / "svid_key.pem").stat().st_mode & 0o777 == 0o600
    names = sorted(file.name for file in (memory / "svid").iterdir())
    assert names == ["bundle.pem", "svid.pem", "svid_key.pem"]


def test_a_bundle_of_several_and_a_chain_of_several_are_kept_in_order(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority()
    mine, theirs = given(authority, ENGINE), given(other, ENGINE)
    both = mine._replace(chain=mine.chain + theirs.bundle, bundle=mine.bundle + theirs.bundle)
    store(tmp_path, both)
    assert (tmp_path / "bundle.pem").read_bytes() == authority.bundle + other.bundle
    assert (tmp_path / "svid.pem").read_bytes().endswith(other.bundle)


def test_a_disk_is_refused_unless_asked_for() -> None:
    # The checkout is on a disk, or on what a container takes for one.
    folder = Path(__file__).parent
    with pytest.raises(SvidError, match=r"is not in memory.*emptyDir of medium Memory"):
        make_folder(folder, memory=True)
    make_folder(folder, memory=False)


def test_a_folder_that_cannot_be_made_says_what_to_mount(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SvidError, match="cannot be made: Not a directory; mount an emptyDir"):
        make_folder(tmp_path / "file" / "svid", memory=True)


@pytest.mark.parametrize("broken", ["chain", "key", "bundle"])
def test_what_cannot_be_used_leaves_the_last_one(
    authority: Authority, tmp_path: Path, broken: str
) -> None:
    store(tmp_path, given(authority, ENGINE))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    good = given(authority, ENGINE)._asdict()
    for content in (b"", good[broken][:-1], b"\x30\x84", b"\x30\x03abc", b"x" * 40):
        with pytest.raises(SvidError):
            store(tmp_path, Given(**good | {broken: content}))
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_anothers_key_is_refused(authority: Authority, tmp_path: Path) -> None:
    mine, other = given(authority, ENGINE), given(authority, ENGINE)
    with pytest.raises(SvidError, match=f"gave for {ENGINE} holds a svid_key.pem that is not"):
        store(tmp_path, mine._replace(key=other.key))
    assert not list(tmp_path.iterdir())


@property_of(st.binary(max_size=60))
def test_no_bytes_make_it_fail_otherwise(content: bytes) -> None:
    with TemporaryDirectory() as name, pytest.raises(SvidError):
        store(Path(name), Given(ENGINE, content, content, content))
